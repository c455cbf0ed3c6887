"""Predict probabilities and masks at an image's own size, independently of the runtime.

All exported formats use this code, which does not import torch. Axes: B images, K channels (of an image or of the
logits), C classes, H rows, W columns.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from seg_pipeline.segmentation.data.geometry import (
    Box,
    crop_image,
    input_shapes,
    padded_shape,
    resize_image,
    resize_logits,
)
from seg_pipeline.segmentation.data.normalisation import stored_pixels
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.postprocessing import label_objects, make_masks
from seg_pipeline.segmentation.prediction.tiles import Stitcher, windows
from seg_pipeline.segmentation.prediction.uncertainty import (
    Uncertainty,
    calibrated,
    entropy_map,
    image_uncertainty,
    spread_map,
)
from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings, Task

Network = Callable[[np.ndarray], np.ndarray]
"""Maps uint8 images (B, K, H, W), H and W multiples of 32, to float32 logits (B, K, H, W)."""

Frames = Sequence[np.ndarray | None]
Image = np.ndarray | Frames
"""Pixels as stored, uint8 or uint16, (H, W) or (H, W, 3). If the network's channels are frames of a series: one image
per offset of ``input.channels``, None for a frame that does not exist."""


class ImagePredictor:
    """A bundle's description with its networks loaded; safe to call from several threads.

    Args:
        source: for a model trained on several data sets, the one whose normalisation to use.

    Raises:
        ValueError: the model has no normalisation for ``source``.
    """

    def __init__(
        self,
        bundle: Bundle,
        networks: Sequence[Network],
        *,
        bundle_format: str = "checkpoint",
        source: str | None = None,
    ) -> None:
        if source is not None and bundle.input.source_input(source) is None:
            known = ", ".join(bundle.input.by_source) or "none: leave the source out"
            raise ValueError(f"no normalisation for images of {source!r}; this model has one for {known}")
        self.bundle, self.bundle_format = bundle, bundle_format
        inputs = (network.input.of_source(source) for network in bundle.networks)
        self.networks = list(zip(inputs, networks, strict=False))

    def probabilities(self, image: Image) -> np.ndarray:
        """Predict probabilities, float32 (K, H, W), at the image's own size; a background is the first channel.

        Raises:
            ValueError: ``image`` has the wrong type or shape, or is a single image although the network takes frames.
        """
        return self.batch_probabilities([image])[0]

    def batch_probabilities(self, images: Sequence[Image]) -> list[np.ndarray]:
        """Like ``probabilities``, for several images. Consecutive images of one input size are predicted together."""
        return [self.finished(*logits_and_shape) for logits_and_shape in self.input_logits(images)]

    def input_logits(self, images: Sequence[Image]) -> list[tuple[list[np.ndarray], tuple[int, int]]]:
        """Logits of each network, float32 (K, h, w) at the size of its input, and the image's own size.

        This is the network's part of ``batch_probabilities``; ``finished`` completes it, one image at a time.
        """
        by_network = [self._logits_of(images, *settings_and_network) for settings_and_network in self.networks]
        shapes = [_stored_shape(image, self.networks[0][0]) for image in images]
        return list(zip(map(list, zip(*by_network, strict=True)), shapes, strict=True))

    def finished(self, logits: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Probabilities of an image from ``input_logits``: the mean over the networks, calibrated."""
        votes = self._votes(logits, shape)
        mean = votes[0] if len(votes) == 1 else sum(votes[1:], start=votes[0]) / np.float32(len(votes))
        return calibrated(mean, self.bundle.postprocessing.temperatures, self.bundle.task)

    def spread(self, logits: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """How much the models of the folds disagree on an image of ``input_logits``: ``spread_map``, (H, W).

        Raises:
            ValueError: the model is a single network.
        """
        if len(self.networks) < 2:
            raise ValueError("this model is a single network, so there is no spread of folds: train one model per fold")
        return spread_map([self.bundle.without_gaps(vote) for vote in self._votes(logits, shape)])

    def _votes(self, logits: Sequence[np.ndarray], shape: tuple[int, int]) -> list[np.ndarray]:
        resized = (
            resize_logits(vote, *shape, settings) for vote, (settings, _) in zip(logits, self.networks, strict=True)
        )
        return [to_probabilities(vote, self.bundle.task) for vote in resized]

    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """``entropy_map`` of the result of ``probabilities``, float32 (H, W)."""
        return entropy_map(self.bundle.without_gaps(probabilities), self.bundle.task)

    def uncertainty(self, probabilities: np.ndarray) -> Uncertainty:
        """How uncertain an image is, and whether a person should look at it; from the result of ``probabilities``."""
        bundle = self.bundle
        return image_uncertainty(probabilities, bundle.postprocessing, task=bundle.task, background=bundle.background)

    def full_size_logits(self, images: Sequence[Image], index: int = 0) -> list[np.ndarray]:
        """Logits of one network, float32 (K, H, W) for each image at its own size."""
        settings, network = self.networks[index]
        shapes = (_stored_shape(image, settings) for image in images)
        logits = self._logits_of(images, settings, network)
        return [
            resize_logits(image_logits, *shape, settings) for image_logits, shape in zip(logits, shapes, strict=True)
        ]

    def _logits_of(self, images: Sequence[Image], settings: InputSettings, network: Network) -> list[np.ndarray]:
        inputs = [prepare(image, settings) for image in images]
        batches = (np.stack(list(group)) for _, group in itertools.groupby(inputs, key=lambda image: image.shape))
        return [logits for batch in batches for logits in self._input_logits(batch, settings, network)]

    def _input_logits(self, batch: np.ndarray, settings: InputSettings, network: Network) -> np.ndarray:
        """Logits of prepared images, float32 (B, K, H, W), computed whole or in windows."""
        mirrored, overlap, task = self.bundle.prediction.mirrored, self.bundle.prediction.overlap, self.bundle.task
        if overlap is None:
            return mirrored_vote(network, batch, mirrored, task)
        shape = batch.shape[-2], batch.shape[-1]
        stitchers = [Stitcher(self.bundle.num_channels, shape) for _ in batch]
        for rows, columns in windows(shape, settings.size, overlap=overlap):
            parts = mirrored_vote(network, batch[:, :, rows, columns], mirrored, task)
            for stitcher, part in zip(stitchers, parts, strict=True):
                stitcher.add((rows, columns), part)
        return np.stack([stitcher.result() for stitcher in stitchers])

    def masks(self, probabilities: np.ndarray, thresholds: Sequence[float] | None = None) -> np.ndarray:
        """Compute one image's masks, bool (C, H, W), with the bundle's postprocessing.

        Args:
            probabilities: the result of ``probabilities``.
            thresholds: one for all classes, or one per class, instead of the bundle's; multilabel only.

        Raises:
            ValueError: the task is multiclass, or the number of thresholds is wrong.
        """
        bundle = self.bundle if thresholds is None else self.bundle.with_thresholds(thresholds)
        return make_masks(probabilities, bundle.postprocessing, task=bundle.task, background=bundle.background)

    def objects(self, probabilities: np.ndarray, thresholds: Sequence[float] | None = None) -> np.ndarray:
        """Number the objects of each class of one image from 1: int32 (C, H, W); see ``bundle.objects``."""
        bundle = self.bundle if thresholds is None else self.bundle.with_thresholds(thresholds)
        return label_objects(probabilities, bundle.postprocessing)


class Predictor(ImagePredictor):
    """An exported model that runs with onnxruntime and needs only the bundle's folder.

    Args:
        bundle_folder: folder written by the pipeline `export`.
        threads: threads per prediction; None means one per core.
        bundle_format: "onnx", or "int8" if the bundle has it.
        prediction: prediction options that replace the bundle's.
        source: see ``ImagePredictor``.

    Raises:
        ValueError: the bundle is missing, damaged or lacks the format, or onnxruntime is not installed.
    """

    def __init__(
        self,
        bundle_folder: str | Path,
        *,
        threads: int | None = None,
        bundle_format: str = "onnx",
        prediction: PredictSettings | None = None,
        source: str | None = None,
    ) -> None:
        bundle = Bundle.read(bundle_folder)
        bundle = replace(bundle, prediction=prediction or bundle.prediction)
        networks = [load_onnx(path, threads=threads) for path in bundle.paths(bundle_format)]
        super().__init__(bundle, networks, bundle_format=bundle_format, source=source)


def load_onnx(path: Path, *, threads: int | None = None) -> Network:
    """Load a network that onnxruntime runs on the CPU."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError("onnxruntime is not installed: `pip install 'seg_pipeline[predict]'`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only; warnings concern the graph, not the image
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (name,), (output,) = (
            [tensor.name for tensor in tensors] for tensors in (session.get_inputs(), session.get_outputs())
        )
    except Exception as error:  # onnxruntime's errors share no base class  # noqa: BLE001
        raise ValueError(f"{path}: not a network that onnxruntime can run ({error!s:.200}); export again") from None

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return session.run([output], {name: images})[0]
        except Exception as error:  # as above  # noqa: BLE001
            raise ValueError(
                f"{path}: fails on images of shape {images.shape} ({error!s:.200}); export again"
            ) from None

    return run


def mirrored_vote(
    network: Network, images: np.ndarray, mirrored: tuple[tuple[int, ...], ...], task: Task
) -> np.ndarray:
    """Average the probabilities over mirrored copies of the images, and return the logits.

    Same result as ``predict_images.mirrored_vote``, including the clipping.
    """
    votes = [np.flip(network(np.ascontiguousarray(np.flip(images, axes))), axes) for axes in mirrored]
    if len(votes) == 1:
        return votes[0]
    mean = np.mean([to_probabilities(vote, task) for vote in votes], axis=0)
    if task == "multilabel":
        mean = mean.clip(1e-6, 1 - 1e-6)
        return np.log(mean / (1 - mean))
    return np.log(mean.clip(1e-9))


def to_probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """Probabilities, float32, of logits (..., K, H, W)."""
    if task == "multilabel":
        exponentials = np.negative(logits, order="C")  # C order, because `flat` would be a copy of a mirrored view
        flat = exponentials.reshape(-1, exponentials.shape[-1])
        cv2.exp(flat, flat)  # a seventh of numpy's time; overflow gives infinity, which becomes 0
        exponentials += 1
        return np.reciprocal(exponentials, out=exponentials)
    exponentials = np.exp(logits - logits.max(-3, keepdims=True))
    return exponentials / exponentials.sum(-3, keepdims=True)


def prepare(image: Image, settings: InputSettings) -> np.ndarray:
    """Prepare the network's input, uint8 (K, H, W): scale, and pad with black at the bottom and right."""
    frames = _frames(image, settings)
    shape = input_shapes(*_stored_shape(image, settings), settings)[0]
    planes = [_plane(frame, shape, settings) for frame in frames]
    stacked = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    padded = crop_image(stacked, Box(0, 0, *padded_shape(shape, settings)))
    return np.stack(cv2.split(padded))  # half the time of copying the transpose


def _plane(frame: np.ndarray | None, shape: tuple[int, int], settings: InputSettings) -> np.ndarray:
    """Scale a frame to ``shape``: uint8 (H, W, K). As in training, it is first scaled to its own input size."""
    if frame is None:
        return np.zeros((*shape, 1), dtype=np.uint8)
    own_shape = input_shapes(frame.shape[0], frame.shape[1], settings)[0]
    return resize_image(stored_pixels(frame, settings, own_shape), shape)


def _frames(image: Image, settings: InputSettings) -> Frames:
    frames = [image] if isinstance(image, np.ndarray) else image
    offsets = settings.channels
    if isinstance(offsets, tuple) and (isinstance(image, np.ndarray) or len(frames) != len(offsets)):
        raise ValueError(
            f"this model needs {len(offsets)} frames of a series, at the offsets {list(offsets)} from the image "
            f"itself, found {len(frames)}; pass them in this order, with None for a missing frame"
        )
    if isinstance(offsets, str) and len(frames) != 1:
        raise ValueError(f"this model takes one image at a time, found {len(frames)} frames")
    for frame in frames:
        if frame is not None:
            _check_frame(frame)
    return frames


def _check_frame(frame: np.ndarray) -> None:
    has_image_shape = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 3)
    if not has_image_shape or not frame.size or frame.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"an image must be uint8 or uint16 of shape (H, W) or (H, W, 3), found {frame.dtype} {tuple(frame.shape)}"
        )


def _stored_shape(image: Image, settings: InputSettings) -> tuple[int, int]:
    frames, offsets = _frames(image, settings), settings.channels
    image_itself = frames[offsets.index(0) if isinstance(offsets, tuple) else 0]
    if image_itself is None:
        raise ValueError("the frame at offset 0, the image itself, is None")
    return image_itself.shape[0], image_itself.shape[1]

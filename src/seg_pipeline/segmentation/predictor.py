"""From an image to probabilities and masks at its own size, whatever runs the network.

The one path that every exported form takes; free of torch. Axes: B images, K channels (of an image or of the
logits), C classes, H rows, W columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from seg_pipeline.segmentation.bundle import Bundle
from seg_pipeline.segmentation.geometry import Box, cut_image, filled_shape, fitted_shapes, resize_image, resize_logits
from seg_pipeline.segmentation.normalise import stored_pixels
from seg_pipeline.segmentation.postprocess import make_masks
from seg_pipeline.segmentation.recipe import InputSettings, PredictSettings
from seg_pipeline.segmentation.tiles import Stitcher, windows

Network = Callable[[np.ndarray], np.ndarray]
"""Uint8 images (B, K, H, W) -> float32 logits (B, K, H, W), of multiples of 32."""

Frames = Sequence[np.ndarray | None]
Image = np.ndarray | Frames
"""Pixels as stored, uint8 or uint16, (H, W) or (H, W, 3); where the network's channels are frames of a series, the
image at each offset of ``input.channels``, None where there is none."""


class ImagePredictor:
    """A bundle's description with a network for each of its members; safe to call from several threads."""

    def __init__(self, bundle: Bundle, networks: Sequence[Network]) -> None:
        self.bundle = bundle
        self._members = list(zip((member.input for member in bundle.members), networks, strict=False))

    def probabilities(self, image: Image) -> np.ndarray:
        """Float32 (K, H, W) at the image's own size; with a background, that is the first channel.

        Raises:
            ValueError: it is no image, or an image alone where the network takes frames.
        """
        return self.batch_probabilities([image])[0]

    def batch_probabilities(self, images: Sequence[Image]) -> list[np.ndarray]:
        """The same of several images, of which neighbours of one input size go through the network together."""
        shapes = [_native_shape(image, self.bundle.input) for image in images]
        sums = [np.zeros((self.bundle.num_channels, *shape), dtype=np.float32) for shape in shapes]
        for axes in self.bundle.prediction.mirrored:
            for settings, network in self._members:
                logits = _input_logits(images, settings, network, axes, self.bundle.prediction)
                for total, shape, one in zip(sums, shapes, logits, strict=True):
                    np.add(total, self._activated(resize_logits(one, *shape, settings)), out=total)
        return [total / (len(self.bundle.prediction.mirrored) * len(self._members)) for total in sums]

    def masks(self, probabilities: np.ndarray, thresholds: Sequence[float] | None = None) -> np.ndarray:
        """Bool (C, H, W) of one image's probabilities, post-processed as the bundle says.

        Args:
            probabilities: as ``probabilities`` gives them.
            thresholds: a number a class in place of the bundle's; multilabel only.

        Raises:
            ValueError: thresholds of a multiclass task, or not one a class.
        """
        bundle, settings = self.bundle, self.bundle.postprocessing
        if thresholds is not None:
            if bundle.task != "multilabel":
                raise ValueError("thresholds are for multilabel tasks; of multiclass ones the largest probability wins")
            settings = replace(settings, thresholds=tuple(map(float, thresholds)))
        return make_masks(probabilities, settings, task=bundle.task, background=bundle.background)

    def _activated(self, logits: np.ndarray) -> np.ndarray:
        if self.bundle.task == "multilabel":
            return 0.5 * np.tanh(0.5 * logits) + 0.5  # the sigmoid, without overflow
        raised = np.exp(logits - logits.max(0))
        return raised / raised.sum(0)


class Predictor(ImagePredictor):
    """An exported model: a bundle's folder is all that it needs, with onnxruntime.

    Args:
        bundle_folder: as the pipeline `export` makes it.
        threads: of one prediction; None: one a core.
        form: "onnx", or "int8" where the bundle has it.
        prediction: in place of the bundle's.

    Raises:
        ValueError: no bundle, a damaged one, without this form, or onnxruntime is not installed.
    """

    def __init__(
        self,
        bundle_folder: str | Path,
        *,
        threads: int | None = None,
        form: str = "onnx",
        prediction: PredictSettings | None = None,
    ) -> None:
        bundle = Bundle.read(bundle_folder)
        bundle = replace(bundle, prediction=prediction or bundle.prediction)
        super().__init__(bundle, [load_onnx(path, threads=threads) for path in bundle.paths(form)])


def load_onnx(path: Path, *, threads: int | None = None) -> Network:
    """A network that onnxruntime runs on the CPU."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError("onnxruntime is not installed: `pip install 'seg_pipeline[predict]'`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors; a warning would tell of the graph, not of the image
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return lambda images: session.run(None, {name: images})[0]


def prepare(image: Image, settings: InputSettings) -> np.ndarray:
    """The network's input, uint8 (K, H, W): scaled, filled up with black below and to the right."""
    frames = _frames(image, settings)
    shape = fitted_shapes(*_native_shape(image, settings), settings)[0]
    planes = [_plane(frame, shape, settings) for frame in frames]
    stacked = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    filled = cut_image(stacked, Box(0, 0, *filled_shape(shape, settings)))
    return np.ascontiguousarray(filled.transpose(2, 0, 1))


def _plane(frame: np.ndarray | None, shape: tuple[int, int], settings: InputSettings) -> np.ndarray:
    """Uint8 (H, W, K) of ``shape``. A frame of another size is brought to its own fitted size first, as in training."""
    if frame is None:
        return np.zeros((*shape, 1), dtype=np.uint8)
    own = fitted_shapes(frame.shape[0], frame.shape[1], settings)[0]
    return resize_image(resize_image(stored_pixels(frame, settings), own), shape)


def _frames(image: Image, settings: InputSettings) -> Frames:
    frames = [image] if isinstance(image, np.ndarray) else image
    offsets = settings.channels
    if isinstance(offsets, tuple) and (isinstance(image, np.ndarray) or len(frames) != len(offsets)):
        raise ValueError(
            f"this model sees {len(offsets)} frames of a series at once, at the offsets {list(offsets)} from the image "
            f"itself, found {len(frames)}; give them in this order, None where there is none"
        )
    if isinstance(offsets, str) and len(frames) != 1:
        raise ValueError(f"this model sees one image at a time, found {len(frames)} frames")
    for frame in frames:
        if frame is not None:
            _check(frame)
    return frames


def _check(frame: np.ndarray) -> None:
    shaped = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 3)
    if not shaped or not frame.size or frame.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"an image is uint8 or uint16 of shape (H, W) or (H, W, 3), found {frame.dtype} {tuple(frame.shape)}"
        )


def _native_shape(image: Image, settings: InputSettings) -> tuple[int, int]:
    frames, offsets = _frames(image, settings), settings.channels
    own = frames[offsets.index(0) if isinstance(offsets, tuple) else 0]
    if own is None:
        raise ValueError("the frame at offset 0, the image itself, is None")
    return own.shape[0], own.shape[1]


def _input_logits(
    images: Sequence[Image], settings: InputSettings, network: Network, axes: tuple[int, ...], how: PredictSettings
) -> list[np.ndarray]:
    """Logits (K, H, W) of each image at the size of the network's input, of the image mirrored along ``axes``."""
    ready = [np.flip(prepare(image, settings), axes) for image in images]
    batches = (np.stack(list(same)) for _, same in itertools.groupby(ready, key=lambda one: one.shape))
    found = (_windowed(batch, settings, network, how) for batch in batches)
    return [np.flip(one, axes) for batch in found for one in batch]


def _windowed(batch: np.ndarray, settings: InputSettings, network: Network, how: PredictSettings) -> np.ndarray:
    shape = batch.shape[-2], batch.shape[-1]
    if how.overlap is None or settings.fit != "crop":
        return network(batch)
    places = windows(shape, settings.size, overlap=how.overlap)
    stitchers: list[Stitcher] = []
    for rows, columns in places:
        logits = network(np.ascontiguousarray(batch[:, :, rows, columns]))
        stitchers = stitchers or [Stitcher(logits.shape[1], shape) for _ in batch]
        for stitcher, one in zip(stitchers, logits, strict=True):
            stitcher.add((rows, columns), one)
    return np.stack([stitcher.result() for stitcher in stitchers])

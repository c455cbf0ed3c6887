"""Logits of many images at the network's input size, reading ahead so that a GPU stays busy.

Axes: B images, K channels of the logits, H rows, W columns.
"""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.loaders import whole_image_batch_size
from seg_pipeline.segmentation.data.whole_images import WholeImages, as_batch
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads
from seg_pipeline.segmentation.prediction.tiles import Stitcher, windows
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import PredictSettings, Task
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_precision

Models = list[tuple[Segmenter, TrainingConfig]]


@torch.inference_mode()
def input_logits(
    models: Models,
    rows: pd.DataFrame,
    *,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings,
    workers: int,
) -> Iterator[list[Tensor]]:
    """Yield each row's logits of each model, float32 (K, h, w) on the CPU, at the size of the network's input.

    Models with equal input settings share the images read. On CUDA, logits are copied to the host while the network
    computes the next batch.

    Args:
        workers: number of threads that read ahead.
    """
    config = models[0][1]
    if any(other.input != config.input for _, other in models):
        options = {"device": device, "batch_size": batch_size, "settings": settings, "workers": workers}
        separate = [input_logits([model_and_config], rows, **options) for model_and_config in models]  # type: ignore[arg-type]
        yield from (list(itertools.chain(*votes)) for votes in zip(*separate, strict=True))
        return
    images = WholeImages(rows, config.input, task=config.task, background=config.background)
    at_once = images_at_once(rows, config, batch_size, settings)
    read = map_in_threads(images.__getitem__, range(len(rows)), workers=workers, ahead=2 * max(at_once, workers))
    networks = [_network(*model_and_config, device, batch_size, settings) for model_and_config in models]
    starts = progress_bar(range(0, len(rows), at_once), title="predicting", unit="batches")
    batches = (as_batch(list(itertools.islice(read, at_once)), pinned=device.type == "cuda") for _ in starts)
    copies = ([_Copy(network(batch)) for network in networks] for batch in batches)
    for copied in _delay_by_one(copies) if device.type == "cuda" else copies:
        yield from map(list, zip(*(copy.wait() for copy in copied), strict=True))


def images_at_once(rows: pd.DataFrame, config: TrainingConfig, batch_size: int, settings: PredictSettings) -> int:
    """Number of images per batch; windows come from one image at a time."""
    return whole_image_batch_size(rows, config.input, batch_size=batch_size) if settings.overlap is None else 1


def _network(
    model: Segmenter, config: TrainingConfig, device: torch.device, batch_size: int, settings: PredictSettings
) -> Callable[[Tensor], Tensor]:
    dtype = pick_precision(config.fit.precision, device)

    def predict(images: Tensor) -> Tensor:
        with autocast(device, dtype):
            return mirrored_vote(model, images.to(device, non_blocking=True), settings.mirrored, config.task)

    def predict_windows(images: Tensor) -> Tensor:
        assert settings.overlap is not None
        return predict_windows_of(predict, images, config, overlap=settings.overlap, batch_size=batch_size)

    return predict if settings.overlap is None else predict_windows


class _Copy:
    """Logits being copied to the CPU; on CUDA the device keeps computing meanwhile."""

    def __init__(self, logits: Tensor) -> None:
        self._host, self._done = logits.float(), None
        if logits.device.type == "cuda":
            source = self._host.contiguous()
            self._host = torch.empty(source.shape, pin_memory=True)
            self._host.copy_(source, non_blocking=True)
            self._done = torch.cuda.current_stream(source.device).record_event()

    def wait(self) -> Tensor:
        """Wait for the copy, and return the logits on the CPU."""
        if self._done is not None:
            self._done.synchronize()
        return self._host


def _delay_by_one(items: Iterable[list[_Copy]]) -> Iterator[list[_Copy]]:
    """Yield each item after the next one has been created."""
    waiting: collections.deque[list[_Copy]] = collections.deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def probabilities_of(logits: Tensor, task: Task) -> Tensor:
    """Probabilities of logits (..., K, H, W)."""
    return logits.sigmoid() if task == "multilabel" else logits.softmax(-3)


def mirrored_vote(
    model: Callable[[Tensor], Tensor], images: Tensor, mirrored: tuple[tuple[int, ...], ...], task: Task
) -> Tensor:
    """Average the probabilities over mirrored copies of the images, and return the logits (B, K, H, W).

    Args:
        mirrored: axes to flip, one tuple per copy; an empty tuple is the image itself.
    """
    votes = [model(images.flip(axes)).flip(axes) if axes else model(images) for axes in mirrored]
    if len(votes) == 1:
        return votes[0]
    mean = probabilities_of(torch.stack(votes), task).mean(0)
    return mean.logit(eps=1e-6) if task == "multilabel" else mean.clamp(min=1e-9).log()


def predict_windows_of(
    predict: Callable[[Tensor], Tensor], images: Tensor, config: TrainingConfig, *, overlap: float, batch_size: int
) -> Tensor:
    """Predict one image (1, channels, H, W) in overlapping windows of the input's size: logits (1, K, H, W)."""
    (image,) = images
    shape = image.shape[-2], image.shape[-1]
    stitcher = Stitcher(config.num_channels, shape)
    spans_of_windows = windows(shape, config.input.size, overlap=overlap)
    for first in range(0, len(spans_of_windows), batch_size):
        spans = spans_of_windows[first : first + batch_size]
        parts = predict(torch.stack([image[:, rows, columns] for rows, columns in spans]))
        for span, part in zip(spans, parts.cpu().numpy(), strict=True):
            stitcher.add(span, part)
    return torch.from_numpy(stitcher.result())[None]

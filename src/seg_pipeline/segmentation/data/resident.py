"""Samples kept on the device: each step gathers its batch there by index, without workers or copies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from seg_pipeline.segmentation.data.datasets import Draw

BATCHES_AT_ONCE = 64
"""Batches whose indices and parameters are copied to the device together."""
COPIED_AT_ONCE = 256
"""Number of samples copied to the device together."""

Parameters = Callable[[Sequence[Draw]], Any]
"""Parameters of the augmentation of some draws: float32 (B, P)."""


class ResidentLoader:
    """Iterates over batches as a DataLoader does, gathered from tensors on the device.

    Args:
        dataset: samples of one size: images uint8 (K, H, W) and truth uint8 (C, H, W) or (H, W).
        batches: keys of each batch: positions or ``Draw``.
        parameters: draws the parameters of augmentation, which become each batch's third part; None: two parts.
    """

    def __init__(
        self,
        dataset: Dataset,
        batches: Iterable[Sequence[int | Draw]],
        device: torch.device,
        *,
        parameters: Parameters | None = None,
    ) -> None:
        self.dataset, self.batch_sampler, self.device, self.parameters = dataset, batches, device, parameters
        number = len(dataset)  # type: ignore[arg-type]
        image, truth = dataset[0]
        # rows, columns, channels: gathered batches are then channels-last, as the network expects
        self.images = torch.empty(number, *image.shape[1:], image.shape[0], dtype=torch.uint8, device=device)
        self.truth = torch.empty(number, *truth.shape, dtype=torch.uint8, device=device)
        for start in range(0, number, COPIED_AT_ONCE):
            part = slice(start, min(start + COPIED_AT_ONCE, number))
            images, truths = zip(*(dataset[position] for position in range(part.start, part.stop)), strict=True)
            self.images[part] = torch.stack([image.permute(1, 2, 0) for image in images]).to(device)
            self.truth[part] = torch.stack(truths).to(device)

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        batches = iter(self.batch_sampler)
        while group := list(islice(batches, BATCHES_AT_ONCE)):
            keys = [key for batch in group for key in batch]
            parts = [self._to_device([key.index if isinstance(key, Draw) else key for key in keys], torch.int64)]
            if self.parameters is not None:
                parts.append(self._to_device(self.parameters(keys), torch.float32))  # type: ignore[arg-type]
            sizes = [len(batch) for batch in group]
            for index, *parameters in zip(*(part.split(sizes) for part in parts), strict=True):
                images = self.images.index_select(0, index).permute(0, 3, 1, 2)
                yield images, self.truth.index_select(0, index), *parameters

    def _to_device(self, values: Any, dtype: torch.dtype) -> Tensor:
        tensor = torch.as_tensor(values, dtype=dtype)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def resident_bytes(dataset: Dataset) -> int:
    """Memory that a ``ResidentLoader`` of these samples needs."""
    return len(dataset) * sum(part.numel() for part in dataset[0])  # type: ignore[arg-type]

"""Features of a frozen encoder, computed once per image, so that an epoch runs only the decoder."""

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from seg_pipeline.segmentation.data.datasets import Draw
from seg_pipeline.segmentation.data.loaders import EpochLoader, Loaders
from seg_pipeline.segmentation.data.memory import DEVICE_SHARE, format_bytes, free_disk, free_ram, pick_mode
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

IMAGES_AT_ONCE = 16
"""Batch size of the encoder."""


class FeatureLayout:
    """How the features of one image are laid out in a row.

    Args:
        features: output of an smp encoder for a batch: tensors (B, ...) in lists or tuples.
        images: the batch, which many encoders return as their first feature although no decoder reads it.
    """

    def __init__(self, features: Any, images: Tensor) -> None:
        leaves, self._structure = pytree.tree_flatten(features)
        self._shapes = [None if leaf is None else _last(leaf).shape[1:] for leaf in leaves]
        self._stored = [leaf is not None and leaf is not images for leaf in leaves]

    def rows(self, features: Any) -> Tensor:
        """Features as rows (B, F), channels last."""
        leaves = zip(pytree.tree_leaves(features), self._stored, strict=True)
        return torch.cat([_last(leaf).flatten(1) for leaf, stored in leaves if stored], dim=1)

    def decode(self, net: Any, rows: Tensor) -> Tensor:
        """The logits of smp's network ``net`` for rows of features."""
        leaves, start = [], 0
        for shape, stored in zip(self._shapes, self._stored, strict=True):
            leaf = None if shape is None else rows.new_zeros(1).expand(len(rows), *shape)
            if stored and shape is not None:
                end = start + math.prod(shape)
                leaf, start = rows[:, start:end].reshape(len(rows), *shape), end
            leaves.append(leaf.movedim(-1, 1) if leaf is not None and leaf.ndim == 4 else leaf)
        features = pytree.tree_unflatten(leaves, self._structure)
        with_tokens = isinstance(features, tuple) and isinstance(features[0], list)  # of a vision transformer
        return net.segmentation_head(net.decoder(*features) if with_tokens else net.decoder(features))


def _last(feature: Tensor) -> Tensor:
    """Move channels last, as in convolutions' memory layout."""
    return feature.movedim(1, -1) if feature.ndim == 4 else feature


class FeatureLoader:
    """Iterates over batches of feature rows and ground truth, like a loader of images."""

    def __init__(self, dataset: Any, batches: Iterable[Sequence[int | Draw]], features: Tensor, truth: Tensor) -> None:
        self.dataset, self.batch_sampler, self.features, self.truth = dataset, batches, features, truth

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for keys in self.batch_sampler:
            index = torch.tensor([key.index if isinstance(key, Draw) else key for key in keys])
            index = index.to(self.features.device)
            yield self.features[index], self.truth[index]


def with_features(
    loaders: Loaders,
    models: Sequence[Any],
    config: TrainingConfig,
    compute: ComputeSettings,
    *,
    device: torch.device,
    folder: Path | None,
    autocast: Callable[[], AbstractContextManager],
) -> Loaders:
    """Replace loaders of images by loaders of features if the encoder is frozen and always sees the same images.

    The validation images never change, and train images do not with `augmentation: none`, `mix: none` and no
    Albumentations; windows of `resize_mode: crop` always do. Features are cached like images (`compute.cache`), in the
    training's precision: on the GPU, in memory, or in a file that the run removes.

    Args:
        models: the segmenters that will receive the features; the first one computes them.
        folder: folder for the file; None: the system's temporary folder.
        autocast: the training's autocast context.
    """
    sampling = config.sampling
    if not config.optimizer.freeze_encoder or config.input.resize_mode == "crop" or compute.cache == "none":
        return loaders
    augmented = (sampling.augmentation, sampling.albumentations, sampling.mix) != ("none", None, "none")
    cache: Any = _Cache(models[0].eval(), compute, device, folder, autocast)
    val = cache(loaders.val, "validation")
    train = None if augmented else cache(loaders.train.loader, "train")
    if augmented:
        log.info(
            "train images change from epoch to epoch, so the frozen encoder runs on them in every epoch; set "
            "`training.sampling.augmentation: none` and `mix: none` to compute their features once"
        )
    for model in models:
        model.layout = models[0].layout
    if train is None:
        return loaders._replace(val=val or loaders.val)
    return loaders._replace(train=EpochLoader(train, loaders.order), val=val or loaders.val, augmentation=None)


class _Cache:
    def __init__(self, model: Any, compute: ComputeSettings, device: torch.device, folder: Path | None, autocast: Any):
        self.model, self.compute, self.device, self.folder, self.autocast = model, compute, device, folder, autocast

    @torch.no_grad()
    def __call__(self, loader: Any, split: str) -> FeatureLoader | None:
        """Compute the features of a loader's images; None if there is no room."""
        dataset, num_images = loader.dataset, len(loader.dataset)
        rows, truth = self._encode(dataset, [0])
        needed = num_images * (rows[0].nbytes + truth[0].nbytes)
        disk = Path(self.folder or tempfile.gettempdir())
        location = pick_mode(self.compute.cache, needed, free_ram=free_ram(), free_disk=free_disk(disk))
        on_device = self.device.type == "cuda" and needed <= DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0]
        described = "on the GPU" if on_device else {"ram": "in memory", "disk": "on disk"}.get(location, "")
        if not described:
            log.warning(
                "no room for %s of features of the %s images: computed in every epoch", format_bytes(needed), split
            )
            return None
        log.info(
            "features of %s %s images: %s, computed once and kept %s",
            num_images,
            split,
            format_bytes(needed),
            described,
        )
        features, truths = (
            torch.empty(num_images, *one.shape[1:], dtype=one.dtype, device=self.device if on_device else "cpu")
            if on_device or location == "ram"
            else _temporary_file_tensor(disk, (num_images, *one.shape[1:]), one.dtype)
            for one in (rows, truth)
        )
        for start in range(0, num_images, IMAGES_AT_ONCE):
            part = slice(start, min(start + IMAGES_AT_ONCE, num_images))
            rows, truth = self._encode(dataset, range(part.start, part.stop))
            features[part], truths[part] = rows.to(features.device), truth.to(truths.device)
        return FeatureLoader(dataset, loader.batch_sampler, features, truths)

    def _encode(self, dataset: Any, index: Iterable[int]) -> tuple[Tensor, Tensor]:
        images, truths = zip(*(dataset[item] for item in index), strict=True)
        with self.autocast():
            rows = self.model.encode(torch.stack([item.as_subclass(Tensor) for item in images]).to(self.device))
            dtype = torch.get_autocast_dtype(self.device.type) if torch.is_autocast_enabled(self.device.type) else None
        return rows.to(dtype or rows.dtype), torch.stack([item.as_subclass(Tensor) for item in truths])


def _temporary_file_tensor(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in a temporary file, which is deleted with the tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="features_", delete=False) as file:
        tensor = torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype).view(shape)
    with contextlib.suppress(OSError):  # Windows cannot delete an open file
        Path(file.name).unlink()
    return tensor

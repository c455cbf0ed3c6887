"""DataLoaders whose batches depend on (seed, epoch, step) alone."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_start_method
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import joblib
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate

from seg_pipeline.segmentation.data.augmentation import (
    Augmentation,
    Preset,
    albumentations_augmentation,
    make_augmentation,
)
from seg_pipeline.segmentation.data.cache import PixelCache, open_cache
from seg_pipeline.segmentation.data.datasets import Augment, Draw, input_shapes, make_dataset
from seg_pipeline.segmentation.data.memory import DEVICE_SHARE, CacheMode, format_bytes
from seg_pipeline.segmentation.data.resident import ResidentLoader, resident_bytes
from seg_pipeline.segmentation.data.sampler import EpochSampler
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.parallel.workers import exit_with_parent
from seg_pipeline.segmentation.settings.training import ComputeSettings, InputSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)


class Loader(DataLoader):
    """A DataLoader whose errors say what to do if a worker hangs or dies."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if "timed out" in str(error):
                raise RuntimeError(
                    f"a worker of the data loader returned no batch within {self.timeout:g} s. If images are on a slow "
                    "disk, raise `training.compute.timeout`; otherwise `training.compute.num_workers: 0` shows what it "
                    "waits for"
                ) from error
            if "exited unexpectedly" in str(error) or "killed by signal" in str(error):
                raise RuntimeError(
                    f"a worker of the data loader died ({error}), usually because memory ran out: lower "
                    "`training.compute.num_workers` or `training.compute.prefetch`, or give the container more "
                    "shared memory (/dev/shm)"
                ) from error
            raise

    def close(self) -> None:
        """Stop the workers. Garbage collection would close their queues first and then wait 5 s for each."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None


Batch = tuple[Tensor, ...]
"""Images uint8 (B, K, H, W), truth uint8 (B, C, H, W) or (B, H, W) and, if the device augments, its parameters:
float32 (B, P)."""


class EpochLoader:
    """The train batches, epoch by epoch: each iteration yields those of ``order.epoch`` from ``order.start`` on.

    The underlying loader never stops between epochs, so that its workers prepare the next one during validation. It is
    restarted if an iteration does not continue where the last one ended.
    """

    def __init__(self, loader: Loader | ResidentLoader, order: EpochSampler) -> None:
        self.loader, self.order, self.dataset = loader, order, loader.dataset
        self._batches: Iterator[Batch] = iter(())
        self._next: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.order.epoch, self.order.start
        if self._next != (epoch, start):
            self._batches = iter(self.loader)
        for step in range(start, len(self)):
            self._next = None  # if this iteration is abandoned, prefetched batches must not be used
            batch = next(self._batches)
            self._next = (epoch, step + 1) if step + 1 < len(self) else (epoch + 1, 0)
            yield batch


class EndlessBatches:
    """Batch sampler of an ``EpochLoader``: the batches of ``order``, epoch after epoch."""

    def __init__(self, order: EpochSampler) -> None:
        self.order = order

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.order.endless_batches()


class Loaders(NamedTuple):
    train: EpochLoader
    val: Loader | ResidentLoader
    order: EpochSampler
    """Sampler of the train loader."""
    augmentation: Callable[..., tuple[Tensor, Tensor]] | None = None
    """Augments a batch on the device; None: samples come augmented, or not at all."""

    def close(self) -> None:
        for loader in (self.train.loader, self.val):
            if isinstance(loader, Loader):
                loader.close()


def make_loaders(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    *,
    device: torch.device,
    cache_folder: Path | None = None,
    rank: int = 0,
    world: int = 1,
) -> Loaders:
    """Make the train and validation loaders: images uint8 (B, K, H, W), truth uint8 (B, C, H, W) or (B, H, W).

    Validation uses whole images; batches of mixed sizes are padded to the largest, with black and ``IGNORE``. Each
    process gets a part of the batches, possibly none.

    Args:
        manifest: manifest with a split column; the test split is not used.
        config: training configuration with a numeric batch size.
        device: the device that batches will be copied to; memory is pinned for CUDA.
        cache_folder: folder for decoded images on disk.
        rank: number of this process among ``world``.

    Raises:
        ValueError: the train or val split is empty; also as ``EpochSampler`` and the data sets.
    """
    train, val = _split_rows(manifest, "train"), _split_rows(manifest, "val")
    cv2.setNumThreads(0)  # as in workers: torch's threads already use all cores
    sampling, batch_size = config.sampling, config.sampling.batch_size
    assert not isinstance(batch_size, str), "`resolve_auto_settings` turns `auto` into a number"
    order = EpochSampler(
        train,
        batch_size=batch_size,
        seed=config.seed,
        oversampling=sampling.oversampling,
        background=config.background,
        rank=rank,
        world=world,
    )
    workers = _default_workers(device, world) if compute.num_workers is None else compute.num_workers
    shared = world > 1 or (workers > 0 and get_start_method() != "fork")
    caches = open_caches(manifest, config, mode=compute.cache, folder=cache_folder, shared=shared)
    augmentation = _augmentation(config)
    preset = augmentation if isinstance(augmentation, Preset) else None
    on_device = preset is not None and (device.type == "cuda" or compute.cache == "device")
    train_data, val_data = _datasets(
        train, val, config, augmentation, caches, augment="batch" if on_device else "sample"
    )
    val_batch_size = whole_image_batch_size(val, config.input, batch_size=order.batch_size)
    batches = [
        list(range(first, min(first + val_batch_size, len(val)))) for first in range(0, len(val), val_batch_size)
    ][rank::world]
    loaders: tuple[Loader, Loader] | tuple[ResidentLoader, ResidentLoader]
    if keep_on_device(train_data, val_data, config, compute, device):
        parameters = train_data.parameters if on_device else None
        loaders = (
            ResidentLoader(train_data, EndlessBatches(order), device, parameters=parameters),
            ResidentLoader(val_data, batches, device),
        )
    else:
        loader = partial(_loader, compute=compute, device=device, workers=workers)
        loaders = loader(train_data, EndlessBatches(order)), loader(val_data, batches)
    return Loaders(
        train=EpochLoader(loaders[0], order),
        val=loaders[1],
        order=order,
        augmentation=preset.to(device).apply_batch if preset and on_device else None,
    )


def keep_on_device(
    train: Dataset, val: Dataset, config: TrainingConfig, compute: ComputeSettings, device: torch.device
) -> bool:
    """Whether to keep all samples on the device: "auto" decides by the free memory of a GPU.

    It is impossible with windows of ``crop``, which are cut on the host, and with Albumentations, which runs there.

    Raises:
        ValueError: ``cache: device`` is set although it is impossible.
    """
    reasons = {
        "`input.resize_mode: crop`, whose windows are cut": config.input.resize_mode == "crop",
        "`sampling.albumentations`, which works": config.sampling.albumentations is not None,
    }
    if compute.cache == "device" and (matching := [name for name, applies in reasons.items() if applies]):
        raise ValueError(
            f"`training.compute.cache: device` cannot be used with {matching[0]} on the host; set `cache: auto`"
        )
    if compute.cache != "auto" or device.type != "cuda" or any(reasons.values()):
        return compute.cache == "device"
    needed, free = resident_bytes(train) + resident_bytes(val), torch.cuda.mem_get_info(device)[0]
    fits = needed <= DEVICE_SHARE * free
    log.info(
        "samples: %s %s on the GPU, which has %s free (cache: auto)",
        *(format_bytes(needed), "stay" if fits else "are too many to stay", format_bytes(free)),
    )
    return fits


def _augmentation(config: TrainingConfig) -> Augmentation | None:
    if config.sampling.albumentations is not None:
        return albumentations_augmentation(config.sampling.albumentations)
    return make_augmentation(config.sampling.augmentation, rgb=config.input.channels == "rgb")


Caches = dict[str | None, PixelCache | None]
"""Decoded images by source; None: the only one."""


def open_caches(
    manifest: pd.DataFrame, config: TrainingConfig, *, mode: CacheMode, folder: Path | None, shared: bool
) -> Caches:
    """Open the cache of the train and val images, and fill it if needed. Both splits and all folds share a cache.

    Args:
        shared: other processes read it too; see ``open_cache``.
    """
    rows = pd.concat([_split_rows(manifest, "train"), _split_rows(manifest, "val")])
    sources: dict[str | None, pd.DataFrame] = {None: rows}
    if "source" in rows:
        sources = {name: rows[rows["source"] == name] for name in rows["source"].unique()}
    return {
        source: open_cache(
            rows,
            config.input.of_source(source),
            task=config.task,
            background=config.background,
            objects=config.objects,
            mode=mode,
            folder=folder,
            num_workers=joblib.cpu_count(),
            shared=shared,
        )
        for source, rows in sources.items()
    }


def _datasets(
    train: pd.DataFrame,
    val: pd.DataFrame,
    config: TrainingConfig,
    augmentation: Augmentation | None,
    caches: Caches,
    *,
    augment: Augment,
) -> tuple[Any, Dataset]:
    dataset = partial(
        make_dataset,
        settings=config.input,
        task=config.task,
        background=config.background,
        objects=config.objects,
        seed=config.seed,
        caches=caches,
    )
    return dataset(train, augmentation=augmentation, augment=augment), dataset(val)


def _loader(dataset: Dataset, batches: Any, *, compute: ComputeSettings, device: torch.device, workers: int) -> Loader:
    options: dict[str, Any] = {}
    if workers:
        options = {
            "prefetch_factor": compute.prefetch,
            "persistent_workers": True,
            "timeout": compute.timeout,
            "worker_init_fn": _start_worker,
        }
    # With its own generator, the loader does not advance torch's global one, which dropout uses.
    return Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        collate_fn=collate,
        generator=torch.Generator(),
        **options,
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # as torch does for its own threads: the workers already share the cores
    exit_with_parent()  # torch's own watchdog starts later, and misses a parent that has died by then


def _split_rows(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = manifest[manifest["split"] == split]
    if rows.empty:
        raise ValueError(
            f"the {split} split has no image; the manifest has {manifest['split'].value_counts().to_dict()}"
        )
    return rows


def _default_workers(device: torch.device, world: int) -> int:
    return min(8, joblib.cpu_count() // world) if device.type == "cuda" else 0


def whole_image_batch_size(rows: pd.DataFrame, settings: InputSettings, *, batch_size: int) -> int:
    """Number of whole images (at least 1) that together have no more pixels than a training batch."""
    shapes = rows[["height", "width"]].drop_duplicates().itertuples(index=False)
    shapes_padded = [input_shapes(int(height), int(width), settings)[1] for height, width in shapes]
    max_pixels = max(height * width for height, width in shapes_padded)
    return max(1, min(batch_size, batch_size * settings.size[0] * settings.size[1] // max_pixels))


def collate(samples: list[tuple[Tensor, ...]]) -> Batch:
    """Collate images and truth, padded at the bottom and right to the largest size, and any further parts.

    Images are channels-last in memory, like the samples, as the network expects.
    """
    images, truths, *others = zip(*samples, strict=True)
    height, width = (max(image.shape[axis] for image in images) for axis in (-2, -1))
    batch = default_collate([_pad(image, height, width, 0).permute(1, 2, 0) for image in images])
    truth = default_collate([_pad(truth, height, width, IGNORE) for truth in truths])
    return batch.permute(0, 3, 1, 2), truth, *(default_collate(list(part)) for part in others)


def _pad(tensor: Tensor, height: int, width: int, value: int) -> Tensor:
    bottom, right = height - tensor.shape[-2], width - tensor.shape[-1]
    plain = tensor.as_subclass(Tensor)
    return functional.pad(plain, (0, right, 0, bottom), value=value) if bottom or right else plain

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
from seg_pipeline.segmentation.data.datasets import Augment, Draw, fitted_shapes, make_dataset
from seg_pipeline.segmentation.data.memory import DEVICE_SHARE, CacheMode, readable
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
                    f"a worker of the data loader gave no batch within {self.timeout:g} s. Where images lie on a slow "
                    "disk raise `training.compute.timeout`; else `training.compute.num_workers: 0` shows what it "
                    "waits for"
                ) from error
            if "exited unexpectedly" in str(error) or "killed by signal" in str(error):
                raise RuntimeError(
                    f"a worker of the data loader died ({error}), as a rule because memory ran out: lower "
                    "`training.compute.num_workers` or `training.compute.prefetch`, or let a container have more "
                    "shared memory (/dev/shm)"
                ) from error
            raise

    def close(self) -> None:
        """End the workers. Garbage collection would close their queues first and then wait 5 s for each."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None


Batch = tuple[Tensor, ...]
"""Images uint8 (B, K, H, W), truth uint8 (B, C, H, W) or (B, H, W) and, where the device augments, the parameters of
that: float32 (B, P)."""


class EpochLoader:
    """The train batches, epoch by epoch: each iteration gives those of ``order.epoch`` from ``order.start`` on.

    The loader below runs on from epoch to epoch, so that its workers prepare the next one during validation. It starts
    anew where an iteration does not begin where the last one ended.
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
            self._next = None  # an iteration that is given up has batches underway
            batch = next(self._batches)
            self._next = (epoch, step + 1) if step + 1 < len(self) else (epoch + 1, 0)
            yield batch


class FromHereOn:
    """Batch sampler of an ``EpochLoader``: the batches of ``order`` without end."""

    def __init__(self, order: EpochSampler) -> None:
        self.order = order

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.order.from_here_on()


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

    Validation uses whole images; a batch of several sizes is padded to the largest, with black and ``IGNORE``. Each
    process gets its share of the batches, which may be none.

    Args:
        manifest: manifest with a split column; the test split is not used.
        config: training configuration with a numeric batch size.
        device: the device that batches will move to; memory is pinned for CUDA.
        cache_folder: folder for decoded images on disk.
        rank: number of this process among ``world``.

    Raises:
        ValueError: the train or val split is empty; also as ``EpochSampler`` and the data sets.
    """
    train, val = _rows(manifest, "train"), _rows(manifest, "val")
    cv2.setNumThreads(0)  # as in workers: torch's threads keep the cores busy, so OpenCV's would only wait
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
    drawn, whole = _datasets(train, val, config, augmentation, caches, augment="batch" if on_device else "sample")
    at_once = whole_images(val, config.input, batch_size=order.batch_size)
    batches = [list(range(begin, min(begin + at_once, len(val)))) for begin in range(0, len(val), at_once)][rank::world]
    loaders: tuple[Loader, Loader] | tuple[ResidentLoader, ResidentLoader]
    if stays_on_device(drawn, whole, config, compute, device):
        parameters = drawn.parameters if on_device else None
        loaders = (
            ResidentLoader(drawn, FromHereOn(order), device, parameters=parameters),
            ResidentLoader(whole, batches, device),
        )
    else:
        loader = partial(_loader, compute=compute, device=device, workers=workers)
        loaders = loader(drawn, FromHereOn(order)), loader(whole, batches)
    return Loaders(
        train=EpochLoader(loaders[0], order),
        val=loaders[1],
        order=order,
        augmentation=preset.to(device).apply_batch if preset and on_device else None,
    )


def stays_on_device(
    train: Dataset, val: Dataset, config: TrainingConfig, compute: ComputeSettings, device: torch.device
) -> bool:
    """Whether samples stay on the device: "auto" decides by the free memory of a GPU.

    Windows of ``crop`` are cut on the host, and Albumentations works there.

    Raises:
        ValueError: ``cache: device`` with one of them.
    """
    host = {
        "`input.resize_mode: crop`, whose windows are cut": config.input.resize_mode == "crop",
        "`sampling.albumentations`, which works": config.sampling.albumentations is not None,
    }
    if compute.cache == "device" and (why := [name for name, is_so in host.items() if is_so]):
        raise ValueError(f"`training.compute.cache: device` does not go with {why[0]} on the host; set `cache: auto`")
    if compute.cache != "auto" or device.type != "cuda" or any(host.values()):
        return compute.cache == "device"
    needed, free = resident_bytes(train) + resident_bytes(val), torch.cuda.mem_get_info(device)[0]
    fits = needed <= DEVICE_SHARE * free
    log.info(
        "samples: %s %s on the GPU, which has %s free (cache: auto)",
        *(readable(needed), "stay" if fits else "are too many to stay", readable(free)),
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
    """Decode the train and val images, or find them decoded. Both splits and all folds share a cache.

    Args:
        shared: other processes read them too; see ``open_cache``.
    """
    whole = pd.concat([_rows(manifest, "train"), _rows(manifest, "val")])
    sources: dict[str | None, pd.DataFrame] = {None: whole}
    if "source" in whole:
        sources = {name: whole[whole["source"] == name] for name in whole["source"].unique()}
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
    # With its own generator, a loader does not advance torch's global one, which dropout uses.
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
    cv2.setNumThreads(0)  # torch does the same for its own; workers share the cores already
    exit_with_parent()  # torch's own watch begins late: of a parent that has died before, it knows nothing


def _rows(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = manifest[manifest["split"] == split]
    if rows.empty:
        raise ValueError(
            f"the {split} split has no image; the manifest has {manifest['split'].value_counts().to_dict()}"
        )
    return rows


def _default_workers(device: torch.device, world: int) -> int:
    return min(8, joblib.cpu_count() // world) if device.type == "cuda" else 0


def whole_images(rows: pd.DataFrame, settings: InputSettings, *, batch_size: int) -> int:
    """Number of whole images (at least 1) that together have no more pixels than a training batch."""
    shapes = rows[["height", "width"]].drop_duplicates().itertuples(index=False)
    filled = [fitted_shapes(int(height), int(width), settings)[1] for height, width in shapes]
    most = max(height * width for height, width in filled)
    return max(1, min(batch_size, batch_size * settings.size[0] * settings.size[1] // most))


def collate(samples: list[tuple[Tensor, ...]]) -> Batch:
    """Collate images and truth, padded at the bottom and right to the largest height and width, and what follows.

    Images are channels-last in memory, as in the samples and as the network expects.
    """
    images, truths, *others = zip(*samples, strict=True)
    height, width = (max(image.shape[axis] for image in images) for axis in (-2, -1))
    batch = default_collate([_filled(image, height, width, 0).permute(1, 2, 0) for image in images])
    truth = default_collate([_filled(truth, height, width, IGNORE) for truth in truths])
    return batch.permute(0, 3, 1, 2), truth, *(default_collate(list(part)) for part in others)


def _filled(tensor: Tensor, height: int, width: int, value: int) -> Tensor:
    below, right = height - tensor.shape[-2], width - tensor.shape[-1]
    plain = tensor.as_subclass(Tensor)
    return functional.pad(plain, (0, right, 0, below), value=value) if below or right else plain

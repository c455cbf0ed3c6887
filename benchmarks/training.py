"""An epoch of training (a) and simpler loops (b): the same batch every step, a typical notebook, a minimal loop.
Reading from the cache costs almost nothing, and the notebook takes over twice as long.

All on the same images and, but for the notebook's row, as many threads as there are cores. From the cache: decoded
images memory-mapped from disk, in the training process. BENCH_SHRINK=8 makes everything as many times smaller, to try
the script out; its numbers mean nothing then.
"""

import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.losses import DiceLoss, SoftBCEWithLogitsLoss
from side_by_side import Result, compare, report
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from seg_pipeline.segmentation.data.loaders import Loaders, make_loaders
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.manifest.metadata import clean_annotations, pivot_annotations
from seg_pipeline.segmentation.manifest.table import data_hash, merge_files
from seg_pipeline.segmentation.phantom import CLASSES, write_phantom
from seg_pipeline.segmentation.settings.training import (
    ComputeSettings,
    FitSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    SamplingSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training import epoch as engine
from seg_pipeline.segmentation.training.auto_settings import resolve_auto_settings
from seg_pipeline.segmentation.training.devices import autocast, pick_precision
from seg_pipeline.segmentation.training.state import start

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
CPU = torch.device("cpu")
COLUMNS = {"image_id": "id", "class": "class", "mask": "segmentation"}
PATTERN = r"(?P<group>case\d+)/(?P<series>case\d+_day\d+)/scans/slice_(?P<slice>(?P<frame>\d+))_.*\.png"
BATCH = 8
NUM_VAL = 4
EPOCHS = 10_000
"""More than are run, so that a schedule hardly moves and none but the first is validated."""


def draw(folder: Path, *, train: int, size: int) -> pd.DataFrame:
    """Manifest of so many train images of the phantom, ``size`` pixels high and wide, and a few val images."""
    number = train + NUM_VAL
    per_series = min(number, 100)
    cases, frames = math.ceil(number / per_series), (per_series, per_series)
    write_phantom(
        folder,
        num_cases=max(cases, 2),
        days_per_case=1,
        frames_per_series=frames,
        size=size,
        other_size=(size, size),
        dirty=False,
    )
    names = list(CLASSES)
    table = pd.read_csv(folder / "train.csv", dtype=str)
    rows, _ = clean_annotations(
        table,
        mask_format="rle",
        columns=COLUMNS,
        class_values=dict(zip(names, names, strict=True)),
        multiple_masks="refuse",
    )
    files = index_files(
        folder / "train", glob="**/*.png", pattern=PATTERN, columns={"image_id": "{series}_slice_{slice}"}
    )
    located, _ = merge_files(pivot_annotations(rows, names), files, pd.DataFrame(), mask_format="rle")
    reader = MaskReader(dict(zip(names, names, strict=True)), "rle", rle_order="C")
    images, _ = measure_images(located.head(number), reader)
    return images.assign(split=["train"] * train + ["val"] * NUM_VAL)


def config_of(size: int, encoder: str, batch: int = BATCH) -> TrainingConfig:
    """Our usual way to train a network, untrained, for as long as it is asked to."""
    return TrainingConfig(
        task="multilabel",
        classes=tuple(CLASSES),
        model=ModelSettings(architecture="unet", encoder=encoder, encoder_weights=None, decoder_channels=None),
        input=InputSettings(size=(size, size), resize_mode="resize", channels="rgb", normalisation="percentile"),
        sampling=SamplingSettings(batch_size=batch, oversampling="none", augmentation="medical"),
        loss=LossSettings(terms={"bce": 0.5, "dice": 0.5}, class_weights="none"),
        optimizer=OptimizerSettings(schedule="constant", warmup=0.0),
        fit=FitSettings(epochs=EPOCHS, validate_every=EPOCHS),
    )


def ours(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    folder: Path,
    change: Callable[[Loaders], Loaders] = lambda loaders: loaders,
) -> Callable[[], dict | None]:
    """A function that trains an epoch."""
    state = start(resolve_auto_settings(config, manifest, CPU), data_hash(manifest), CPU)
    loaders = make_loaders(manifest, state.config, compute, device=CPU, cache_folder=folder / "cache")
    return partial(next, engine.fit(state, change(loaders)))


def one_batch(loaders: Loaders) -> Loaders:
    """As many steps, all on one batch that is in memory already."""
    batch = next(iter(loaders.train))
    return loaders._replace(train=[batch] * len(loaders.order))


class NotebookDataset(Dataset):
    """The course notebook's: a PNG and its run lengths decoded each time, float32, channels first."""

    def __init__(self, manifest: pd.DataFrame) -> None:
        self.rows = manifest[manifest["split"] == "train"].to_dict("records")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        grey = cv2.imread(row["path"], cv2.IMREAD_UNCHANGED).astype(np.float32)
        image = np.repeat((grey / grey.max())[None], 3, axis=0)
        masks = np.stack([runs_to_mask(row[f"mask_{name}"], grey.shape) for name in CLASSES])
        return torch.from_numpy(image), torch.from_numpy(masks)


def runs_to_mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    flat = np.zeros(shape[0] * shape[1], dtype=np.float32)
    numbers = [int(number) for number in text.split()]
    for start_at, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start_at - 1 : start_at - 1 + length] = 1
    return flat.reshape(shape)


def smp_parts(*, fused: bool) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], torch.optim.Optimizer]:
    """Network, loss and optimiser as smp and torch have them."""
    torch.manual_seed(0)
    model = smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=len(CLASSES)).train()
    bce, dice = SoftBCEWithLogitsLoss(), DiceLoss(mode="multilabel")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    return model, lambda logits, masks: 0.5 * bce(logits, masks) + 0.5 * dice(logits, masks), optimizer


def notebook(manifest: pd.DataFrame, batch: int) -> Callable[[], float]:
    """A function that trains an epoch the notebook's way; its workers stay, which spares it their start."""
    model, loss_fn, optimizer = smp_parts(fused=False)
    loader = DataLoader(
        NotebookDataset(manifest), batch_size=batch, shuffle=True, num_workers=2, persistent_workers=True
    )

    def epoch() -> float:
        total = 0.0
        for images, masks in loader:
            loss = loss_fn(model(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        return total

    return epoch


def plain_loop(manifest: pd.DataFrame) -> Callable[[], float]:
    """A function that trains an epoch on tensors in memory: channels last, autocast, one look at the loss."""
    model, loss_fn, optimizer = smp_parts(fused=True)
    model = model.to(memory_format=torch.channels_last)
    dataset = NotebookDataset(manifest)
    images, masks = (
        torch.stack(parts) for parts in zip(*(dataset[index] for index in range(len(dataset))), strict=True)
    )
    images, precision = images.contiguous(memory_format=torch.channels_last), pick_precision("auto", CPU)

    def epoch() -> float:
        total = torch.zeros(())
        for part in torch.randperm(len(images)).split(BATCH):
            with autocast(CPU, precision):
                logits = model(images[part])
            loss = loss_fn(logits.float(), masks[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item()

    return epoch


def measure(folder: Path) -> Iterator[Result]:
    cached, files = ComputeSettings(cache="disk", num_workers=0), ComputeSettings(cache="none", num_workers=2)
    small = draw(folder / "small", train=160 // SHRINK // BATCH * BATCH, size=128)
    usual = config_of(128, "tu-tf_efficientnet_lite0")
    yield compare(
        "train_from_cache_vs_one_batch",
        ours(small, usual, cached, folder),
        ours(small, usual, cached, folder, one_batch),
        limit=1.05,
        runs=7,
        note="20 steps of 8 images of 128 x 128, U-Net with EfficientNet-lite0, medical augmentation",
    )
    yield compare(
        "train_from_png_2_workers_vs_one_batch",
        ours(small, usual, files, folder),
        ours(small, usual, cached, folder, one_batch),
        limit=math.inf,
        runs=5,
        note="the same without a cache, two workers decoding on the cores that train",
    )
    large = draw(folder / "large", train=max(32 // SHRINK, 1) // BATCH * BATCH or BATCH, size=256)
    # As many pixels a step: AdamW and the weights' casts, whose time does not fall with the image, are a fifth of a
    # step of 8 images of 128 x 128, for whatever loop.
    for size, manifest, batch in ((256, large, BATCH), (128, small, 4 * BATCH)):
        yield compare(
            f"train_vs_notebook_{size}",
            ours(manifest, config_of(size, "resnet34", batch), cached, folder),
            notebook(manifest, batch),
            limit=0.5,
            runs=3,
            note=f"U-Net with resnet34 at {size} x {size}, {batch} images per step; notebook: float32, two workers",
        )
    yield compare(
        "train_vs_plain_loop",
        ours(large, config_of(256, "resnet34"), cached, folder),
        plain_loop(large),
        limit=1.02,
        runs=7,
        note="U-Net with resnet34 at 256 x 256; only a has augmentation and Dice",
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(max([report(result) for result in measure(Path(name))]))

"""Images per second of a training on a GPU: bare steps, whole epochs, and what each way of going faster gives.

``scripts/gpu_check.sh`` runs it on a machine with a GPU; without one it says so. The rows of U-Net with resnet34 are of
256 x 256 pixels, 64 images per step and bfloat16. A bare step repeats one batch that lies on the GPU.
"""

import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import segmentation_models_pytorch as smp
import torch
from side_by_side import Result, Skipped, judge, report
from training import config_of, draw

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training import epoch as engine
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.state import start
from seg_pipeline.segmentation.training.step import train_step

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
GPU = torch.device("cuda", 0)
SECONDS = 2.5 / SHRINK
STAYS, WORKERS = ComputeSettings(cache="device"), ComputeSettings(cache="ram")


@contextlib.contextmanager
def launched(yes: bool) -> Iterator[None]:
    """Steps are launched operator by operator, if ``yes``, instead of being replayed."""
    with patch.object(engine, "Replay", lambda function, _: function) if yes else contextlib.nullcontext():
        yield


class Training:
    """A run of the engine, for as long as it is asked to."""

    def __init__(
        self, manifest: pd.DataFrame, config: TrainingConfig, compute: ComputeSettings, *, launch: bool = False
    ) -> None:
        torch.cuda.reset_peak_memory_stats()
        self.state = start(config, "", GPU)
        self.loaders = make_loaders(manifest, config, compute, device=GPU)
        with launched(launch):
            self.run = engine.prepare_run(self.state, self.loaders, float("inf"))
        self.tally = EpochMetrics(self.state, self.run.processes)
        self.state.model.train()
        self.epoch = 0
        began = time.perf_counter()
        self.batch = next(iter(self.loaders.train))
        for _ in range(8):
            self._step(self.batch)
        torch.cuda.synchronize()
        self.start_seconds = time.perf_counter() - began

    def _step(self, batch: tuple[torch.Tensor, ...]) -> None:
        train_step(self.run, self.tally, batch, 0.5)

    def bare(self) -> float:
        """Images per second of steps that repeat a batch."""
        return self._rate(lambda: self._step(self.batch), len(self.batch[0]))

    def whole(self) -> float:
        """Images per second of whole epochs: order, loading, augmentation, steps and bookkeeping."""
        number = len(self.loaders.order) * self.loaders.order.batch_size
        return self._rate(self._one_epoch, number)

    def _one_epoch(self) -> None:
        self.epoch += 1
        self.loaders.order.epoch, self.loaders.order.start = self.epoch, 0
        for batch in self.loaders.train:
            self._step(batch)

    @staticmethod
    def _rate(call: Callable[[], None], images: int) -> float:
        call()
        torch.cuda.synchronize()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            call()
            done += images
        torch.cuda.synchronize()
        return done / (time.perf_counter() - began)


def plain_step(size: int, batch: int) -> float:
    """Images per second of the usual loop of smp and torch on one batch: channels last, autocast, fused AdamW."""
    torch.manual_seed(0)
    model = smp.Unet("resnet34", encoder_weights=None, classes=3).to(GPU, memory_format=torch.channels_last).train()
    bce, dice = smp.losses.SoftBCEWithLogitsLoss(), smp.losses.DiceLoss(mode="multilabel")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    images = torch.rand(batch, 3, size, size, device=GPU).contiguous(memory_format=torch.channels_last)
    masks = torch.randint(2, (batch, 3, size, size), device=GPU).float()

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(images)
        loss = bce(logits.float(), masks) + dice(logits.float(), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(5):
        step()
    return Training._rate(step, batch)


def repeated(manifest: pd.DataFrame, times: int) -> pd.DataFrame:
    """The same images several times: an epoch of a larger data set."""
    train = manifest[manifest["split"] == "train"]
    return pd.concat([train] * times + [manifest[manifest["split"] == "val"]], ignore_index=True)


def row(name: str, rate: float, training: Training | None = None) -> float:
    memory = torch.cuda.max_memory_allocated() / 2**30
    start_seconds = f"{training.start_seconds:.1f} s" if training else ""
    print(f"| {name} | {rate:,.0f} | {start_seconds} | {memory:.1f} GiB |", flush=True)
    return rate


def resnet(folder: Path) -> Iterator[Result]:
    batch = 64 // SHRINK
    manifest = repeated(draw(folder / "large", train=256 // SHRINK, size=256), 8)
    config = config_of(256, "resnet34", batch).changed({"fit.precision": "bfloat16", "fit.compile": False})
    plain = config.changed({"sampling.augmentation": "none"})
    compiled = plain.changed({"fit.compile": True})
    usual = row("smp and torch, a plain loop on one batch", plain_step(256, batch))
    eager = Training(manifest, plain, STAYS, launch=True)
    row("bare step, launched", eager.bare(), eager)
    del eager
    graph = Training(manifest, plain, STAYS)
    row("bare step, CUDA graph", graph.bare(), graph)
    del graph
    augmented = Training(manifest, config, STAYS)
    row("whole loop, CUDA graph, `medical` on the GPU", augmented.whole(), augmented)
    del augmented
    fast = Training(manifest, compiled, STAYS)
    bare = row("bare step, compiled, CUDA graph", fast.bare(), fast)
    unaugmented = row("whole loop, compiled, CUDA graph", fast.whole(), fast)
    del fast
    everything = Training(manifest, config.changed({"fit.compile": True}), STAYS)
    with_bare = row("bare step, compiled, CUDA graph, `medical` on the GPU", everything.bare(), everything)
    whole = row("whole loop, compiled, CUDA graph, `medical` on the GPU", everything.whole(), everything)
    del everything
    fed = Training(manifest, config.changed({"fit.compile": True}), WORKERS)
    row("the same, batches from workers", fed.whole(), fed)
    del fed
    yield judge("gpu_bare_step", [4000.0], [bare], limit=1.0, unit="images/s", note="4,000 images/s over ours")
    yield judge("gpu_plain_loop", [usual], [bare], limit=1.0, unit="images/s", note="smp's plain loop over ours")
    yield judge("gpu_loop", [bare], [unaugmented], limit=1 / 0.95, unit="images/s", note="bare step over whole loop")
    yield judge("gpu_augmented_loop", [with_bare], [whole], limit=1 / 0.95, unit="images/s", note="with augmentation")


def default_network(folder: Path) -> Iterator[Result]:
    batch = 16
    manifest = repeated(draw(folder / "small", train=128 // SHRINK, size=128), 8)
    config = config_of(128, "tu-tf_efficientnet_lite0", batch).changed({"fit.compile": False})
    eager = Training(manifest, config, WORKERS, launch=True)
    slow = row("default network, 128 x 128, 16 images: launched, batches from workers", eager.whole(), eager)
    del eager
    graph = Training(manifest, config, STAYS)
    quick = row("default network: as shipped (CUDA graph, data on the GPU)", graph.whole(), graph)
    del graph
    yield judge("gpu_default", [5 * slow], [quick], limit=1.0, unit="images/s", note="5 times eager")


def measure(folder: Path) -> Iterator[Result | Skipped]:
    if not torch.cuda.is_available():
        yield Skipped("gpu", "there is no GPU here")
        return
    print(f"{torch.cuda.get_device_name(GPU)}, torch {torch.__version__}\n")
    print("| | images/s | start | memory |\n|---|---|---|---|", flush=True)
    parts = {"default": default_network, "resnet": resnet}
    results = [result for name in sys.argv[1:] or parts for result in parts[name](folder)]
    print()
    yield from results


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(max([report(result) for result in measure(Path(name))]))

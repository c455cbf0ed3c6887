"""Evaluating without a network (a) and the loop of earlier versions, one image after another (b); and how much of the
cores the threads use. What surrounds the network limits evaluation on a GPU.

The network is a stub that gives prepared logits near the true masks. Everything else is that of `evaluation`: images
are read and scaled, logits scaled to the images' size, masks, run lengths, calibration, then all scores. The first
data set is like UW-Madison's (266 x 266, 16 bit, 3 classes), the second like CamVid (360 x 480, RGB, 11 classes).
BENCH_SHRINK=8 makes everything smaller, to try the script out; its numbers mean nothing then.
"""

import contextlib
import logging
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import joblib
import numpy as np
import pandas as pd
import torch
from side_by_side import Result, Skipped, compare, judge, report
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training import config_of, draw

from seg_pipeline.segmentation.data.datasets import make_dataset, to_native
from seg_pipeline.segmentation.data.geometry import input_shapes
from seg_pipeline.segmentation.data.loaders import collate
from seg_pipeline.segmentation.data.whole_images import WholeImages
from seg_pipeline.segmentation.images.masks import IGNORE, encode_rle
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.metrics import surface_distances
from seg_pipeline.segmentation.metrics.calibration import BINS, Calibration, before_and_after
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads
from seg_pipeline.segmentation.prediction import predict_images
from seg_pipeline.segmentation.prediction.predict_images import plain_masks, predict_masks
from seg_pipeline.segmentation.settings.training import InputSettings, LossSettings, MeasureSettings, ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
CPU, BATCH = torch.device("cpu"), 16
STREET = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
CORES = joblib.cpu_count()
TASKS = Path("/proc/self/task")


def slices(folder: Path) -> tuple[pd.DataFrame, TrainingConfig]:
    number = max(240 // SHRINK, 12)
    rows = draw(folder, train=number, size=266).head(number)
    return rows.assign(split="test", spacing_y=1.5, spacing_x=1.5), config_of(256, "tu-tf_efficientnet_lite0")


def smooth(rng: np.random.Generator, channels: int, shape: tuple[int, int]) -> np.ndarray:
    coarse = rng.normal(0, 1, (channels, 7, 9)).astype(np.float32)
    return np.stack([cv2.resize(one, shape[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse])


def streets(folder: Path) -> tuple[pd.DataFrame, TrainingConfig]:
    """Images whose classes fill them, but for what is void."""
    rng, rows = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(max(48 // SHRINK, 6)):
        labels = smooth(rng, len(STREET) + 1, (360, 480)).argmax(0)
        colours = rng.integers(40, 200, (len(STREET) + 1, 3))[labels] + rng.normal(0, 6, (360, 480, 3))
        path, group = folder / f"{number}.png", f"drive{number % 4}"
        cv2.imwrite(str(path), colours.clip(0, 255).astype(np.uint8))
        masks = {f"mask_{name}": [encode_rle(labels == at, order="C")] for at, name in enumerate(STREET)}
        about = {"image_id": path.stem, "row": number, "file": path.name, "path": str(path), "frame": number}
        void = encode_rle(labels == len(STREET), order="C")
        rows.append({**about, "group": group, "series": group, "void": void, **masks})
    table = pd.DataFrame(rows)
    reader = MaskReader(dict(zip(STREET, STREET, strict=True)), "rle", rle_order="C")
    images, _ = measure_images(table.drop(columns="void"), reader)
    config = replace(
        config_of(256, "tu-tf_efficientnet_lite0"),
        task="multiclass",
        classes=STREET,
        background=False,
        input=InputSettings(size=(256, 256), resize_mode="crop", channels="rgb", normalisation="encoder"),
        loss=LossSettings(terms={"ce": 0.75, "dice": 0.25}),
    )
    return images.assign(ignore=table["void"], split="test"), config


class Stub(nn.Module):
    """Gives the next images' logits, which are the true masks, blurred and moved, with a little noise."""

    def __init__(self, rows: pd.DataFrame, config: TrainingConfig) -> None:
        super().__init__()
        self.at, rng, every = 0, np.random.default_rng(1), []
        for row in rows.to_dict("records"):
            scaled, filled = input_shapes(row["height"], row["width"], config.input)
            masks = (read_masks(row, list(config.classes)) == 1).astype(np.float32)
            found = [
                np.roll(cv2.GaussianBlur(cv2.resize(one, scaled[::-1]), (0, 0), 3), (1, 2), (0, 1)) for one in masks
            ]
            logits = (np.stack(found) - 0.5) * 16 + 1.5 * smooth(rng, len(masks), scaled)
            every.append(np.pad(logits, ((0, 0), *((0, all_ - own) for all_, own in zip(filled, scaled, strict=True)))))
        self.logits = torch.from_numpy(np.stack(every).astype(np.float32))

    def forward(self, images: Tensor) -> Tensor:
        start, self.at = self.at, (self.at + len(images)) % len(self.logits)
        return self.logits[start : start + len(images)]


def earlier(rows: pd.DataFrame, config: TrainingConfig, stub: Stub) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and calibration as a loop of earlier versions: truth read with each image, nothing at once."""
    names, task = list(config.classes), config.task
    loader = DataLoader(make_dataset(rows, config.input, task=task, background=False), BATCH, collate_fn=collate)
    calibration, table = Bins(len(names)), []
    logits = (one for images, _ in loader for one in stub(images))
    for row, one in zip(rows.to_dict("records"), logits, strict=True):
        native = to_native(one, row["height"], row["width"], config.input)
        found = (native.sigmoid() if task == "multilabel" else native.softmax(0)).numpy()
        masks = found > 0.5 if task == "multilabel" else found.argmax(0) == np.arange(len(names))[:, None, None]
        calibration.update(found, read_masks(row, names))
        table.append(
            {
                **{name: row[name] for name in ("image_id", "height", "width")},
                **{f"mask_{name}": encode_rle(mask, order="C") for name, mask in zip(names, masks, strict=True)},
                **{f"peak_{name}": float(part.max()) for name, part in zip(names, found, strict=True)},
                **{
                    f"mean_{name}": float(part[mask].mean()) if mask.any() else math.nan
                    for name, part, mask in zip(names, found, masks, strict=True)
                },
            }
        )
    return pd.DataFrame(table), calibration.table(names).assign(calibrated=False)


class Bins:
    """Calibration of earlier versions."""

    def __init__(self, classes: int) -> None:
        self.pixels, self.true = (np.zeros((classes, BINS), dtype=np.int64) for _ in range(2))
        self.sums = np.zeros((classes, BINS))

    def update(self, probabilities: np.ndarray, masks: np.ndarray) -> None:
        for index, (probability, mask) in enumerate(zip(probabilities, masks, strict=True)):
            if mask.max() == IGNORE:
                known = mask != IGNORE
                probability, mask = probability[known], mask[known]  # noqa: PLW2901
            above = probability >= np.float32(1 / BINS)
            values, true = probability[above], mask[above] == 1
            bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
            self.pixels[index] += np.bincount(bins, minlength=BINS)
            self.true[index] += np.bincount(bins[true], minlength=BINS)
            sums = np.bincount(bins, values, minlength=BINS)
            self.sums[index] += sums
            self.pixels[index, 0] += probability.size - len(values)
            self.true[index, 0] += np.count_nonzero(mask) - np.count_nonzero(true)
            self.sums[index, 0] += probability.sum(dtype=np.float64) - sums.sum()

    def table(self, names: list[str]) -> pd.DataFrame:
        calibration = Calibration(names)
        calibration._pixels, calibration._true, calibration._probability = self.pixels, self.true, self.sums
        return calibration.table()


class Chain:
    """Predicting, scoring and their parts over one data set."""

    def __init__(self, rows: pd.DataFrame, config: TrainingConfig) -> None:
        self.rows, self.config, self.stub = rows, config, Stub(rows, config)
        self.checkpoint: dict[str, Any] = {"models": [{"config": config.to_dict()}], "folds": None}

    def before(self) -> object:
        """Earlier versions also took distance maps of every mask."""
        predictions, reliability = earlier(self.rows, self.config, self.stub)
        with mock.patch.object(surface_distances, "PAIRS_PER_PIXEL", 0):
            return self.score(predictions, reliability, workers=0)

    def now(self, workers: int | None = None) -> object:
        return self.score(*self.predict(workers), workers=workers)

    def predict(self, workers: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        calibration = Calibration(list(self.config.classes))
        with mock.patch.object(predict_images, "load_models", return_value=[(self.stub, self.config)]):
            predictions = predict_masks(
                self.rows,
                self.checkpoint,
                device=CPU,
                batch_size=BATCH,
                postprocessing=plain_masks(self.config),
                calibration=calibration,
                workers=workers,
            )
        return predictions, before_and_after(calibration, None)

    def score(self, predictions: pd.DataFrame, reliability: pd.DataFrame, workers: int | None = None) -> object:
        measures = MeasureSettings(spacing_z=3.0, repeats=100)  # intervals take as long for any number of images
        return score_predictions(
            self.rows,
            predictions,
            scores=ScoreSettings(),
            measures=measures,
            seed=0,
            reliability=reliability,
            workers=workers,
        )

    def read(self) -> None:
        images = WholeImages(self.rows, self.config.input, task=self.config.task, background=False)
        for _ in map_in_threads(images.__getitem__, range(len(images)), workers=num_threads(None)):
            pass

    def finish(self) -> None:
        """Predict images that are read already."""
        black = np.zeros((*self.stub.logits.shape[-2:], 3), dtype=np.uint8)
        with mock.patch.object(WholeImages, "__getitem__", return_value=black):
            self.predict()

    def rate(self, call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return len(self.rows) / (time.perf_counter() - began)


def measured(name: str, chain: Chain) -> Iterator[Result | Skipped]:
    tables = chain.predict(), earlier(chain.rows, chain.config, chain.stub)
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one[list(other)], other, check_exact=True)  # uncertainty came later
    rates = {part: chain.rate(call) for part, call in (("read", chain.read), ("finish", chain.finish))}
    predictions = tables[0]
    rates |= {"predict": chain.rate(chain.predict), "score": chain.rate(lambda: chain.score(*predictions))}
    listed = ", ".join(f"{part} {rate:.0f}" for part, rate in rates.items())
    found = compare(f"evaluation_{name}", chain.now, chain.before, limit=0.8)
    number = len(chain.rows)
    note = f"{number / found.median_a:.0f} images per second, before {number / found.median_b:.0f}; alone: {listed}"
    yield replace(found, note=note)
    work = [(cpu_seconds(lambda: chain.now(0)), cpu_seconds(chain.before)) for _ in range(3)]
    note = "the processor's seconds without threads"
    yield judge(f"evaluation_work_{name}", *map(list, zip(*work, strict=True)), limit=1.1, note=note)  # type: ignore[arg-type]
    yield cores(name, chain)


def cpu_seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def cores(name: str, chain: Chain) -> Result | Skipped:
    """Share of the cores that predicting uses: threads that run or wait for a core, less what threads cost."""
    if not TASKS.exists():
        return Skipped(f"evaluation_cores_{name}", "only Linux tells how long threads wait for a core")
    shares = []
    for _ in range(5):
        began = time.process_time()
        chain.predict(workers=0)
        alone = time.process_time() - began
        ran, wanted = in_threads(chain.predict)
        shares.append(min(1, wanted / CORES) * alone / ran)
    note = f"predicting in threads uses {statistics.median(shares):.0%} of {CORES} idle cores (b)"
    return judge(f"evaluation_cores_{name}", [1.0], shares, limit=1 / 0.85, unit="of the cores", note=note)


def in_threads(call: Callable[[], object]) -> tuple[float, float]:
    """The processor's seconds, and the mean number of threads that ran or waited for a core.

    Waiting counts, so that other processes do not make the number smaller.
    """
    before, seen, ended = thread_times(), {}, threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            seen.update(thread_times())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, ran = time.perf_counter(), time.process_time()
    call()
    ran, seconds = time.process_time() - ran, time.perf_counter() - began
    seen.update(thread_times())
    ended.set()
    watcher.join()
    busy = [value - before.get(thread, 0) for thread, value in seen.items() if thread != str(watcher.native_id)]
    return ran, sum(busy) / 1e9 / seconds


def thread_times() -> dict[str, int]:
    """Nanoseconds that each thread has run or waited for a core."""
    found = {}
    for task in TASKS.iterdir():
        with contextlib.suppress(OSError):  # it has ended
            found[task.name] = sum(map(int, (task / "schedstat").read_text().split()[:2]))
    return found


def main() -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        results = []
        for kind, made in (("slices", slices), ("streets", streets)):
            results += [report(one) for one in measured(kind, Chain(*made(Path(name) / kind)))]
        return max(results)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    sys.exit(main())

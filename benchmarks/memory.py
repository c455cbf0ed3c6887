"""Peak private memory of training on ten times the images (a) and on the original number (b), cache on disk. Memory
does not grow with the number of images.

Each in a process of its own, which makes the cache too. Counted is what belongs to the process alone: pages of the
cache's files show in its resident memory, but the system takes them back when it wants them.
"""

import logging
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pandas as pd
import psutil
from side_by_side import judge, report
from training import BATCH, SHRINK, config_of, draw, ours

from seg_pipeline.segmentation.settings.training import ComputeSettings

FEW, TIMES, SIZE = 200 // SHRINK // BATCH * BATCH, 10, 128
RUNS = 2
SECONDS_BETWEEN = 0.002


def train(folder: Path, images: int) -> None:
    """An epoch on the first of the train images; prints the peak in MiB."""
    manifest = pd.read_parquet(folder / "manifest.parquet")
    split = manifest["split"]
    rows = pd.concat([manifest[split == "train"].head(images), manifest[split == "val"]])
    del manifest, split
    peak, done = [0], threading.Event()
    watch = threading.Thread(target=keep_highest, args=(peak, done))
    watch.start()
    config = config_of(SIZE, "tu-tf_efficientnet_lite0").changed({"model.decoder_channels": (32, 16, 16, 8, 8)})
    with tempfile.TemporaryDirectory() as cache:
        ours(rows, config, ComputeSettings(cache="disk", num_workers=0), Path(cache))()
    done.set()
    watch.join()
    print(peak[0] / 2**20)


def keep_highest(peak: list[int], done: threading.Event) -> None:
    process = psutil.Process()
    while not done.wait(SECONDS_BETWEEN):
        memory = process.memory_info()
        peak[0] = max(peak[0], memory.rss - memory.shared)


def peak_mib(folder: Path, images: int) -> float:
    command = [sys.executable, __file__, str(folder), str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", train=FEW * TIMES, size=SIZE).to_parquet(folder / "manifest.parquet")
        turns = [(peak_mib(folder, FEW * TIMES), peak_mib(folder, FEW)) for _ in range(RUNS)]
    many, few = zip(*turns, strict=True)
    note = f"one epoch of {FEW * TIMES:,} and of {FEW} images of {SIZE} x {SIZE}"
    return report(judge("train_memory_10x_images", many, few, limit=1.1, unit="MiB", note=note))


if __name__ == "__main__":
    logging.disable(logging.INFO)
    if sys.argv[1:]:
        train(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        sys.exit(main())

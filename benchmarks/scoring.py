"""Scoring and the prediction that it scores; counting pixels and torchmetrics; ten times the images and the original
number. Scoring takes a fraction of the time of predicting, and its memory does not grow with the number of images.

Prediction is that of the shipped network, untrained, on a drawn phantom, once as the sample is predicted and once as
`conf/uw_madison` predicts its slices, and comes back to each image's own size; scoring is everything that `evaluation`
does with the predicted masks: overlap, boundaries, distances in images and volumes, intervals and the confusion
matrix. The predicted masks are the true ones moved by some pixels, as those of a trained network would be; an
untrained network's are noise. BENCH_SHRINK=8 makes everything smaller, to try the script out; its numbers mean nothing
then.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from side_by_side import Result, compare, judge, peak_mib, report
from torchmetrics.classification import MulticlassConfusionMatrix, MultilabelConfusionMatrix
from torchmetrics.segmentation import DiceScore, MeanIoU
from training import config_of, draw

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.metrics.counting import count_pixels
from seg_pipeline.segmentation.metrics.overlap import Collected
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.prediction.predict_images import plain_masks, predict_masks
from seg_pipeline.segmentation.settings.training import MeasureSettings, ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.state import start

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
CPU = torch.device("cpu")
IMAGES = max(480 // SHRINK, 12)
SIZE = 266
"""Of an image: that of most UW-Madison slices."""
SHIFT = np.array([[1, 0, 3], [0, 1, -2]], dtype=np.float32)
MEASURES = MeasureSettings(spacing_z=3.0)


def slices(folder: Path, size: int = SIZE) -> pd.DataFrame:
    """Manifest rows of the phantom, some 100 to a series, whose pixels are 1.5 mm wide."""
    return draw(folder, train=IMAGES, size=size).assign(split="test", spacing_y=1.5, spacing_x=1.5)


def untrained(side: int) -> tuple[TrainingConfig, dict]:
    config = config_of(side, "tu-tf_efficientnet_lite0").changed({"model.decoder_channels": (128, 64, 48, 32)})
    return config, {"models": [{"config": config.to_dict(), **start(config, "", CPU).best_model()}], "folds": None}


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Predictions of all rows: each class's mask some pixels aside."""
    table = rows[["image_id", "height", "width"]].copy()
    for name in class_names(rows):
        masks = (read_masks(row, [name])[0] for row in rows.to_dict("records"))
        aside = (cv2.warpAffine(mask, SHIFT, mask.shape[::-1]) for mask in masks)
        table[f"mask_{name}"] = [encode_rle(mask == 1, order="C") for mask in aside]
        table[f"peak_{name}"] = 0.9
    return table


def score(rows: pd.DataFrame, predictions: pd.DataFrame) -> object:
    return score_predictions(rows, predictions, scores=ScoreSettings(), measures=MEASURES, seed=0)


def beside_prediction(rows: pd.DataFrame, side: int, name: str) -> Result:
    """What scoring adds: its own seconds over those of the prediction at ``side``, which are taken in turns."""
    config, checkpoint = untrained(side)
    predictions = moved(rows)

    def predict() -> None:
        predict_masks(rows, checkpoint, device=CPU, batch_size=16, postprocessing=plain_masks(config))

    height, width = rows[["height", "width"]].iloc[0]
    note = (
        f"{len(rows)} images of {height} x {width}, 3 classes: all scores, volumes included (a); reading, "
        f"predicting at {side} x {side} and encoding (b)"
    )
    return compare(f"score_vs_predict_{name}", lambda: score(rows, predictions), predict, limit=0.15, note=note)


def beside_torchmetrics(masks: torch.Tensor, guesses: torch.Tensor, name: str, *, labels: bool) -> Result:
    """Dice, IoU and confusion matrix of uint8 masks (N, C, H, W), in batches of eight."""
    number = masks.shape[1]
    form = {"num_classes": number, "include_background": True, "input_format": "index" if labels else "one-hot"}
    theirs = [DiceScore(**form, average="none"), MeanIoU(**form, per_class=True)]
    theirs.append(MulticlassConfusionMatrix(number) if labels else MultilabelConfusionMatrix(number))
    pairs = list(zip(guesses.split(8), masks.split(8), strict=True))
    given = [tuple((one.argmax(1) if labels else one).long() for one in pair) for pair in pairs]

    def ours() -> None:
        counts = Collected()
        for guess, mask in zip(guesses.numpy(), masks.numpy(), strict=True):
            counts.add(count_pixels(guess.view(bool), mask)[0])

    def one_after_the_other() -> None:
        for metric in theirs:
            metric.reset()
            for pair in given:
                metric.update(*pair)

    note = f"{len(masks)} images of {masks.shape[2]} x {masks.shape[3]}, {number} classes, no distances"
    return compare(f"count_{name}_vs_torchmetrics", ours, one_after_the_other, limit=0.2, note=note)


def organs(rows: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
    names = class_names(rows)
    tables = rows.head(64), moved(rows).head(64).assign(ignore="")
    masks, guesses = (np.stack([read_masks(row, names) for row in one.to_dict("records")]) for one in tables)
    return torch.from_numpy(masks), torch.from_numpy(guesses)


def streets() -> tuple[torch.Tensor, torch.Tensor]:
    """Of eleven classes that fill the image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(max(32 // SHRINK, 8), 11, 6, 8, generator=generator)
    labels = torch.nn.functional.interpolate(coarse, (360, 480), mode="bilinear").argmax(1)
    masks = [torch.nn.functional.one_hot(one, 11).permute(0, 3, 1, 2) for one in (labels, labels.roll((2, 3), (1, 2)))]
    return masks[0].to(torch.uint8).contiguous(), masks[1].to(torch.uint8).contiguous()


FEW, TIMES = max(100 // SHRINK, 20), 10


def memory(folder: Path, rows: pd.DataFrame) -> Result:
    """Peak of a process that scores ten times the images, over one that scores the fewer."""
    few = rows.head(FEW)
    peaks = []
    for times in (TIMES, 1):
        tables = [few.assign(**{name: f"{copy}_" + few[name] for name in NAMED}) for copy in range(times)]
        path = folder / f"rows{times}.parquet"
        pd.concat(tables, ignore_index=True).to_parquet(path)
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import scoring, pandas as pd; "
        peaks.append(
            [peak_mib(f"{code}rows = pd.read_parquet({str(path)!r}); scoring.score(rows, scoring.moved(rows))")]
        )
    return judge("score_memory_10x_images", *peaks, limit=1.1, unit="MiB", note=f"{FEW * TIMES} images and {FEW}")


NAMED = ["image_id", "series", "group"]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = slices(folder / "images")
        results = [
            lambda: beside_prediction(slices(folder / "small", 128), 128, "sample"),
            lambda: beside_prediction(rows, 256, "uw_madison"),
            lambda: beside_torchmetrics(*organs(rows), "organs", labels=False),
            lambda: beside_torchmetrics(*streets(), "streets", labels=True),
            lambda: memory(folder, rows),
        ]
        return max([report(one()) for one in results])


if __name__ == "__main__":
    logging.disable(logging.INFO)
    sys.exit(main())

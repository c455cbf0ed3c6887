"""What evaluation leaves (contract of the catalog's entries), made from a manifest by shifting its truth."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.report import Results


def shifted(masks: np.ndarray, pixels: int) -> np.ndarray:
    """Masks (C, H, W) moved to the right."""
    moved = np.zeros_like(masks)
    moved[:, :, pixels:] = masks[:, :, : masks.shape[2] - pixels]
    return moved


def predict(manifest: pd.DataFrame, *, pixels: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and image scores of the test images, as if each object were found ``pixels`` too far right."""
    names = class_names(manifest)
    guesses, scores = [], []
    for row in manifest[manifest["split"] == "test"].to_dict("records"):
        truth = read_masks(row, names) == 1
        found = shifted(truth, pixels)
        runs = {f"mask_{name}": encode_rle(mask, order="C") for name, mask in zip(names, found, strict=True)}
        guesses.append({**{key: row[key] for key in ("image_id", "height", "width")}, **runs})
        scores += [
            {"image_id": row["image_id"], "group": row["group"], "series": row["series"], "class": name}
            | counted(found[number], truth[number])
            for number, name in enumerate(names)
        ]
    return pd.DataFrame(guesses), pd.DataFrame(scores)


def counted(found: np.ndarray, truth: np.ndarray) -> dict:
    hit, false, lost = int((found & truth).sum()), int((found & ~truth).sum()), int((truth & ~found).sum())
    total = 2 * hit + false + lost
    return {
        "dice": 2 * hit / total if total else np.nan,
        "iou": hit / (hit + false + lost) if total else np.nan,
        "true_pos": hit,
        "false_pos": false,
        "false_neg": lost,
        "truth_area": hit + lost,
        "predicted_area": hit + false,
    }


def summed(scores: pd.DataFrame) -> dict:
    """Test scores in the form that evaluation gives them; intervals and surfaces are made up."""
    classes = {}
    for name, part in scores.groupby("class", sort=False):
        dice, iou = part["dice"].mean(), part["iou"].mean()
        classes[name] = {
            "dice": None if np.isnan(dice) else dice,
            "iou": None if np.isnan(iou) else iou,
            "num_images": int((part["truth_area"] > 0).sum()),
            "dice_interval": [None, None] if np.isnan(dice) else [dice - 0.1, dice + 0.05],
            "iou_interval": [None, None] if np.isnan(iou) else [iou - 0.1, iou + 0.05],
            "precision": 0.875,
            "precision_interval": [0.8, 0.9],
            "hd95": 2.25,
            "hd95_interval": [1.5, 3.0],
        }
    return {
        "mean_dice": scores.groupby("class")["dice"].mean().mean(),
        "mean_iou": scores.groupby("class")["iou"].mean().mean(),
        "mean_dice_interval": [0.61, 0.92],
        "aggregation": "image",
        "empty_policy": "skip",
        "num_images": scores["image_id"].nunique(),
        "num_groups": scores["group"].nunique(),
        "confidence": 0.95,
        "distance_unit": "mm",
        "tolerance": 2.0,
        "boundary_width": 2,
        "pixel_accuracy": 0.971,
        "calibration": {"ece": 0.0123, "classes": {}, "ece_before": 0.0456},
        "review": {
            "dice_below": 0.8,
            "num_images": 6,
            "num_low": 2,
            "caught": 1,
            "missed": 1,
            "false_alarms": 2,
            "flagged": 0.5,
            "flagged_interval": [0.25, 0.75],
            "catch_interval": None,
        },
        "competition": None,
        "volumes": None,
        "classes": classes,
    }


def png() -> bytes:
    figure, stream = Figure(figsize=(3, 2)), io.BytesIO()
    figure.subplots().plot([0, 1], [1, 0])
    figure.savefig(stream)
    return stream.getvalue()


HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_dice": [0.5, 0.8, 0.9],
        "val_dice": [0.4, 0.7, 0.6],
        "seconds": [30.0, 30.0, 30.0],
    }
)


@pytest.fixture(scope="session")
def tested(manifest):
    """The manifest with six test images of three groups, two of them without any mask."""
    split = ["train"] * 8 + ["val"] * 2 + ["test"] * 6
    return manifest.assign(split=split, fold=[0, 1] * 5 + [-1] * 6)


@pytest.fixture(scope="session")
def results(tested, config) -> Results:
    """Tests replace what they change."""
    predictions, image_scores = predict(tested, pixels=3)
    return Results(
        manifest=tested,
        findings=findings_table([Finding("blank_image", "every pixel is 7", "flagged", "scan01")]),
        run_command="kedro run --env folders --params seed=3",
        training_config=config.to_dict(),
        checkpoint_sha256=f"{'ab' * 32}  checkpoint.pt",
        best_hyperparameters={
            "values": {"optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 0.5},
            "val_dice": 0.55,
            "epochs": 2,
            "reason": "the best of 4 rates",
        },
        training_history=HISTORY,
        test_scores=summed(image_scores),
        image_scores=image_scores,
        predictions=predictions,
        figures={"training_curves": png(), "class_scores": png(), "object_size_chart": png(), "threshold_chart": png()},
    )


def many(number: int, names: list[str]) -> pd.DataFrame:
    """Image scores of so many images, the first the worst."""
    ids = np.repeat([f"image{index:05}" for index in range(number)], len(names))
    dice = np.linspace(0, 1, len(ids))
    columns = {"image_id": ids, "group": "g", "class": np.tile(names, number), "dice": dice, "iou": dice / (2 - dice)}
    return pd.DataFrame(columns).assign(true_pos=8, false_pos=1, false_neg=2, truth_area=10)


@pytest.fixture(scope="session")
def crowded(results) -> Results:
    """Results of 5,000 images and 30 classes with long names."""
    names = [f"a_class_with_a_long_name_{number}" for number in range(30)]
    masks = {f"{kind}_{name}": value for name in names for kind, value in (("mask", ""), ("area", 1))}
    manifest = results.manifest
    manifest = manifest.drop(columns=[name for name in manifest if name.startswith(("mask_", "area_"))]).assign(**masks)
    scores = many(5000, names)
    return replace(
        results, manifest=manifest, image_scores=scores, predictions=None, test_scores=summed(scores), figures={}
    )

"""Names and choice of the metrics of a run: one name each, grouped in train/, val/ and test/."""

from typing import Any

EPOCH_METRICS = {
    "learning_rate": "train/learning_rate",
    "train_loss": "train/loss",
    "train_dice": "train/dice",
    "train_pixel_accuracy": "train/pixel_accuracy",
    "val_loss": "val/loss",
    "val_dice": "val/dice",
    "val_pixel_accuracy": "val/pixel_accuracy",
    "seconds": "train/epoch_seconds",
}
"""Names by column of a history."""
PER_CLASS = ("dice", "iou", "hd95", "boundary_iou", "precision", "recall")
"""Scores per class, in the order in which they are logged while there is room."""
OF_OBJECTS = ("f1_50", "f1_50_95", "ap_50_95", "pq", "count_error")
"""Means over classes of the scores by object."""
SIZES = ("num_images", "num_groups")


def score_metrics(scores: dict[str, Any], most: int) -> dict[str, float]:
    """At most ``most`` of the test scores: the means first, then one score after another for all classes.

    A score is logged for all classes or for none. The file of the scores holds all of them.
    """
    volumes, calibration = scores.get("volumes") or {}, scores.get("calibration") or {}
    metrics = {f"test/{name}": value for name, value in scores.items() if name.startswith("mean_")}
    metrics |= {f"test/volume_{name}": value for name, value in volumes.items() if name.startswith("mean_")}
    objects = scores.get("objects") or {}
    metrics |= {f"test/object_{name}": objects[f"mean_{name}"] for name in OF_OBJECTS if objects}
    metrics["test/pixel_accuracy"] = scores.get("pixel_accuracy")
    metrics["test/calibration_error"] = calibration.get("ece")
    metrics |= {f"test/competition/{name}": value for name, value in (scores.get("competition") or {}).items()}
    metrics |= {f"test/source/{name}": one.get("mean_dice") for name, one in (scores.get("by_source") or {}).items()}
    kept = dict(list(_numbers(metrics).items())[:most])
    for score in PER_CLASS:
        classes = {f"test/{score}/{name}": one.get(score) for name, one in scores.get("classes", {}).items()}
        if len(kept) + len(classes) <= most:
            kept |= _numbers(classes)
    return kept


def score_tags(scores: dict[str, Any]) -> dict[str, str]:
    """How the test scores were taken, and on how many images and groups."""
    return {f"test.{key}": str(value) for key, value in scores.items() if isinstance(value, str) or key in SIZES}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}

"""Which metrics a run logs, and their names, grouped in train/, val/ and test/."""

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
"""Metric name per column of the training history."""
CLASS_SCORES = ("dice", "iou", "hd95", "boundary_iou", "precision", "recall")
"""Scores per class, logged in this order as long as ``max_metrics`` allows."""
OBJECT_SCORES = ("f1_50", "f1_50_95", "ap_50_95", "pq", "count_error")
"""Object scores, logged as means over classes."""
COUNTS = ("num_images", "num_groups")


def score_metrics(scores: dict[str, Any], max_metrics: int) -> dict[str, float]:
    """At most ``max_metrics`` test scores: the means first, then one score after another for all classes.

    A score is logged for all classes or for none. The scores file holds all of them.
    """
    volumes, calibration = scores.get("volumes") or {}, scores.get("calibration") or {}
    metrics = {f"test/{name}": value for name, value in scores.items() if name.startswith("mean_")}
    metrics |= {f"test/volume_{name}": value for name, value in volumes.items() if name.startswith("mean_")}
    objects = scores.get("objects") or {}
    metrics |= {f"test/object_{name}": objects[f"mean_{name}"] for name in OBJECT_SCORES if objects}
    metrics["test/pixel_accuracy"] = scores.get("pixel_accuracy")
    metrics["test/calibration_error"] = calibration.get("ece")
    metrics |= {f"test/competition/{name}": value for name, value in (scores.get("competition") or {}).items()}
    metrics |= {
        f"test/source/{name}": source.get("mean_dice") for name, source in (scores.get("by_source") or {}).items()
    }
    chosen = dict(list(_numbers(metrics).items())[:max_metrics])
    for score in CLASS_SCORES:
        classes = {f"test/{score}/{name}": by_class.get(score) for name, by_class in scores.get("classes", {}).items()}
        if len(chosen) + len(classes) <= max_metrics:
            chosen |= _numbers(classes)
    return chosen


def score_tags(scores: dict[str, Any]) -> dict[str, str]:
    """How the test scores were computed, and the number of images and groups."""
    return {f"test.{key}": str(value) for key, value in scores.items() if isinstance(value, str) or key in COUNTS}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}

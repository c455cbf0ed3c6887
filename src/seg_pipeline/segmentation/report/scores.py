"""Template values for the scores: key figures, one row per class, and notes."""

from collections.abc import Iterator
from typing import Any

from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.report.agreement import human_ceiling
from seg_pipeline.segmentation.report.interpretation import (
    MEASURES,
    OBJECT_MEANINGS,
    OBJECT_MEASURES,
    measure_meanings,
    score_meanings,
    scoring_note,
)
from seg_pipeline.segmentation.report.page import swatch
from seg_pipeline.segmentation.report.results import Results, interval, plural, score


def score_section(results: Results) -> dict[str, Any]:
    """Template values for the scores; empty lists if nothing was scored."""
    scores = results.test_scores
    if scores is None:
        return {
            name: []
            for name in (
                *("tiles", "scoring_note", "meanings", "classes", "measures", "measure_meanings", "extra"),
                *("objects", "object_measures", "object_meanings"),
            )
        }
    return {
        "tiles": list(_tiles(results, scores)),
        "scoring_note": scoring_note(scores),
        "meanings": score_meanings(scores),
        "classes": list(_class_rows(scores)),
        "measures": [name for _, name in computed_measures(scores)],
        "measure_meanings": measure_meanings(scores),
        "objects": object_rows(scores),
        "object_measures": [name for _, name in OBJECT_MEASURES],
        "object_meanings": OBJECT_MEANINGS,
        "extra": [*_extra(scores), *filter(None, [human_ceiling(results)[2]])],
    }


def computed_measures(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Key and heading of each measure that was computed."""
    first = next(iter(scores["classes"].values()))
    unit = f" ({scores.get('distance_unit', 'pixels')})"
    return [(key, name + unit * (key == "hd95")) for key, name in MEASURES if key in first]


def object_rows(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per class of objects: name, numbers of objects, and (value, text, interval) of each measure."""
    rows = []
    for name, class_scores in scores["classes"].items():
        if objects := class_scores.get("objects"):
            cells = [
                (objects[key], _object_score(objects[key], key), interval(objects.get(f"{key}_interval")))
                for key, _ in OBJECT_MEASURES
            ]
            counts = {"true": objects["num_true"], "predicted": objects["num_predicted"]}
            rows.append({"name": name, **counts, "cells": cells})
    return rows


def _object_score(value: float | None, key: str) -> str:
    return f"{value:+.2f}" if key == "count_bias" and value is not None else score(value, 2 + (key != "count_error"))


def digits_of(measure: str) -> int:
    return 1 if measure == "hd95" else 3


def _tiles(results: Results, scores: dict[str, Any]) -> Iterator[dict[str, str]]:
    for key, name in (("mean_dice", "mean Dice"), ("mean_iou", "mean IoU")):
        yield {"name": name, "value": score(scores[key]), "note": interval(scores.get(f"{key}_interval"))}
    people, ceiling, _ = human_ceiling(results)
    if ceiling:
        yield {
            "name": f"{people}, Dice",
            "value": score(ceiling["mean_dice"]),
            "note": interval(ceiling.get("mean_dice_interval")),
        }
    if objects := scores.get("objects"):
        yield {
            "name": "F1 of objects",
            "value": score(objects["mean_f1_50"]),
            "note": interval(objects.get("mean_f1_50_interval")),
        }
    groups = f"of {plural(results.num_groups, 'group')}"
    yield {"name": f"{scores.get('split', 'test')} images", "value": f"{scores['num_images']:,}", "note": groups}
    defined = {name: one["dice"] for name, one in scores["classes"].items() if one["dice"] is not None}
    if len(defined) > 1:
        worst = min(defined, key=lambda name: defined[name])
        yield {"name": "lowest class", "value": score(defined[worst]), "note": worst}


def _class_rows(scores: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per class: its colour, and the value, text and interval of each measure."""
    colours = class_colours(len(scores["classes"]))
    for (name, one), colour in zip(scores["classes"].items(), colours, strict=True):
        cells = [
            (one[key], _cell_text(one, key), interval(one.get(f"{key}_interval"), digits_of(key)))
            for key, _ in computed_measures(scores)
        ]
        yield {"name": name, "source": swatch(colour), "num_images": one["num_images"], "cells": cells}


def _cell_text(one: dict[str, Any], key: str) -> str:
    """The text of a class score, or the reason why there is none."""
    if one[key] is not None:
        return score(one[key], digits_of(key))
    return "never predicted" if one["num_images"] else "not in these images"


def _extra(scores: dict[str, Any]) -> Iterator[str]:
    """Sentences about scores that are not per class."""
    if scores.get("pixel_accuracy") is not None:
        yield f"Pixel accuracy (all classes correct at a pixel): {score(scores['pixel_accuracy'])}."
    if both := scores.get("by_aggregation"):
        yield f"Mean Dice by aggregation: {_score_list({kind: one['mean_dice'] for kind, one in both.items()})}."
    if sources := scores.get("by_source"):
        yield f"Mean Dice by source: {_score_list({name: one['mean_dice'] for name, one in sources.items()})}."
    if calibration := scores.get("calibration"):
        before = calibration.get("ece_before")
        changed = f" (before calibration {score(before, 4)})" if before not in (None, calibration["ece"]) else ""
        yield (
            f"Expected calibration error {score(calibration['ece'], 4)}{changed}: average gap between predicted and "
            "observed probability."
        )
    if review := scores.get("review"):
        yield _review(review)
    if volumes := scores.get("volumes"):
        classes = _score_list({name: one["dice"] for name, one in volumes["classes"].items()})
        series = plural(volumes["num_series"], "series")
        yield f"Dice of {series} as volumes: mean {score(volumes['mean_dice'])}; {classes}."
    if competition := scores.get("competition"):
        yield f"UW-Madison competition score, computed from its published rules: {_score_list(competition)}."


def _score_list(values: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {score(value)}" for name, value in values.items())


def _review(review: dict[str, Any]) -> str:
    """A sentence on how well the flag "look at this" worked."""
    limit, low = f"{review['dice_below']:g}", review["num_low"]
    share = (
        f"{100 * review['flagged']:.0f} % of {plural(review['num_images'], 'image')}{_interval_of(review, 'flagged')}"
    )
    if not low:
        return f"Look at this: {share} are flagged; no image has a Dice below {limit}, so there was nothing to catch."
    return (
        f"Look at this: {review['caught']} of {plural(low, 'image')} with a Dice below {limit} are flagged"
        f"{_interval_of(review, 'catch')}, {review['missed']} missed; {review['false_alarms']} false alarms. A person "
        f"must look at {share}."
    )


def _interval_of(review: dict[str, Any], rate: str) -> str:
    text = interval(review[f"{rate}_interval"], 2)
    return f" ({text})" if text else ""

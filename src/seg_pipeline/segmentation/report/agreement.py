"""The page on the agreement of two readers."""

import math
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.metrics.annotators import annotator_dice
from seg_pipeline.segmentation.report.interpretation import score_meanings
from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.report.results import Results, interval, listed, plural, score

MOST_ROWS = 500
"""The page lists the images with the lowest agreement up to this number."""


def agreement_page(agreement: dict[str, Any], images: pd.DataFrame, area_chart: bytes) -> str:
    """HTML from the scores and the table that ``metrics.compare_readers`` returns, and the PNG of the areas."""
    unit = agreement["distance_unit"]
    measures = {"dice": "Dice", "iou": "IoU", "kappa": "kappa", "surface_dice": "surface Dice", "hd95": "HD95"}
    ranked = images.dropna(subset=["dice"]).sort_values(["dice", "image_id"], kind="stable")
    return render(
        "agreement.html",
        title="Agreement of two readers",
        lead=f"{plural(agreement['num_images'], 'image')} of {plural(agreement['num_groups'], 'group')}. The other "
        f"reader's masks: {agreement['other']}.",
        left_out=_left_out(agreement),
        tiles=[
            (name, score(agreement[f"mean_{key}"]), interval(agreement[f"mean_{key}_interval"]))
            for key, name in list(measures.items())[:3]
        ],
        measures=[f"{name} ({unit})" if key == "hd95" else name for key, name in measures.items()],
        classes=[
            (name, one["num_images"], [_cell(one, key) for key in measures])
            for name, one in agreement["classes"].items()
        ],
        tolerance=f"{agreement['tolerance']:g} {unit}",
        aggregation=[_of_readers(one) for one in score_meanings({**agreement, "split": "test"})[:2]],
        area_unit=agreement["area_unit"],
        areas=[(name, one["area_difference"]) for name, one in agreement["classes"].items()],
        area_chart=embedded("area_differences", area_chart),
        images=ranked.head(MOST_ROWS).to_dict("records"),
        num_rows=len(ranked),
    )


def _cell(one: dict[str, Any], key: str) -> tuple[str, str]:
    digits = 1 if key == "hd95" else 3
    return score(one[key], digits), interval(one[f"{key}_interval"], digits)


def _of_readers(sentence: str) -> str:
    """What is said of ground truth and prediction, of two readers."""
    said = sentence.replace("ground truth and prediction", "readers' masks")
    return said.replace("A missed object or a false positive", "A class that only one reader drew")


def _left_out(agreement: dict[str, Any]) -> list[str]:
    said = []
    for reader, key in (("first", "only_first"), ("second", "only_second")):
        alone = agreement[key]
        if alone["num_images"]:
            said.append(f"{plural(alone['num_images'], 'image')} that only the {reader} reader annotated: left out.")
        if alone["classes"]:
            said.append(f"Classes that only the {reader} reader annotated are left out: {listed(alone['classes'])}.")
    return said


def human_ceiling(results: Results) -> tuple[str, dict[str, Any] | None, str]:
    """How well people agree on the split that was scored: their name, mean_dice and more, and a sentence.

    Two readers as ``compare_readers`` holds them, else several annotators in a label tool.
    """
    split = (results.test_scores or {}).get("split", "test")
    found = ((results.reader_agreement or {}).get("by_split") or {}).get(split)
    if found is None or found["mean_dice"] is None or math.isnan(found["mean_dice"]):
        return _of_annotators(results, split)
    return (
        "two readers",
        found,
        (
            f"Two readers agree on images of this split with mean Dice {_scores(found)}: the first made the ground "
            "truth, and the second is scored like the model. A model that scores as high errs no more than a second "
            "person; one that scores higher has learned the first reader's habits."
        ),
    )


def _of_annotators(results: Results, split: str) -> tuple[str, dict[str, Any] | None, str]:
    ids = results.manifest.loc[results.manifest["split"] == split, "image_id"]
    table = results.annotator_agreement
    found = None if table is None else annotator_dice(table, ids)
    if found is None:
        return "", None, ""
    return (
        "annotators",
        found,
        (
            f"Several people annotated {plural(found['num_images'], 'image')} of this split; two of them agree with "
            f"mean Dice {_scores(found)}. On such masks no model can be shown to be better than that."
        ),
    )


def _scores(found: dict[str, Any]) -> str:
    classes = ", ".join(f"{name} {score(one['dice'])}" for name, one in found["classes"].items())
    return f"{score(found['mean_dice'])} ({classes})"

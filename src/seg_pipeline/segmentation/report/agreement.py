"""The page on the agreement of two readers."""

import math
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.metrics.annotators import annotator_dice
from seg_pipeline.segmentation.report.interpretation import score_meanings
from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.report.results import Results, interval, join_words, plural, score

MAX_ROWS = 500
"""Rows in the page's list of the images with the lowest agreement."""


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
        left_out=_exclusions(agreement),
        tiles=[
            (name, score(agreement[f"mean_{key}"]), interval(agreement[f"mean_{key}_interval"]))
            for key, name in list(measures.items())[:3]
        ],
        measures=[f"{name} ({unit})" if key == "hd95" else name for key, name in measures.items()],
        classes=[
            (name, scores["num_images"], [_cell(scores, key) for key in measures])
            for name, scores in agreement["classes"].items()
        ],
        tolerance=f"{agreement['tolerance']:g} {unit}",
        aggregation=[_for_readers(sentence) for sentence in score_meanings({**agreement, "split": "test"})[:2]],
        area_unit=agreement["area_unit"],
        areas=[(name, scores["area_difference"]) for name, scores in agreement["classes"].items()],
        area_chart=embedded("area_differences", area_chart),
        images=ranked.head(MAX_ROWS).to_dict("records"),
        num_rows=len(ranked),
    )


def _cell(scores: dict[str, Any], key: str) -> tuple[str, str]:
    digits = 1 if key == "hd95" else 3
    return score(scores[key], digits), interval(scores[f"{key}_interval"], digits)


def _for_readers(sentence: str) -> str:
    """A sentence about ground truth and prediction, reworded for two readers."""
    reworded = sentence.replace("ground truth and prediction", "readers' masks")
    return reworded.replace("A missed object or a false positive", "A class that only one reader drew")


def _exclusions(agreement: dict[str, Any]) -> list[str]:
    sentences = []
    for reader, key in (("first", "only_first"), ("second", "only_second")):
        exclusive = agreement[key]
        if exclusive["num_images"]:
            sentences.append(
                f"{plural(exclusive['num_images'], 'image')} that only the {reader} reader annotated: left out."
            )
        if exclusive["classes"]:
            sentences.append(
                f"Classes that only the {reader} reader annotated are left out: {join_words(exclusive['classes'])}."
            )
    return sentences


def human_ceiling(results: Results) -> tuple[str, dict[str, Any] | None, str]:
    """How well people agree on the scored split: who they are, their scores (mean_dice and more), and a sentence.

    Uses the two readers of ``compare_readers``, else the annotators of a label tool.
    """
    split = (results.test_scores or {}).get("split", "test")
    scores = ((results.reader_agreement or {}).get("by_split") or {}).get(split)
    if scores is None or scores["mean_dice"] is None or math.isnan(scores["mean_dice"]):
        return _annotator_ceiling(results, split)
    return (
        "two readers",
        scores,
        (
            f"Two readers agree on images of this split with mean Dice {_dice_text(scores)}: the first made the ground "
            "truth, and the second is scored like the model. A model that scores as high makes no more errors than "
            "a second person; one that scores higher has learned the first reader's habits."
        ),
    )


def _annotator_ceiling(results: Results, split: str) -> tuple[str, dict[str, Any] | None, str]:
    ids = results.manifest.loc[results.manifest["split"] == split, "image_id"]
    table = results.annotator_agreement
    scores = None if table is None else annotator_dice(table, ids)
    if scores is None:
        return "", None, ""
    return (
        "annotators",
        scores,
        (
            f"Several people annotated {plural(scores['num_images'], 'image')} of this split; two of them agree with "
            f"mean Dice {_dice_text(scores)}. These masks cannot show that a model is better than that."
        ),
    )


def _dice_text(scores: dict[str, Any]) -> str:
    classes = ", ".join(f"{name} {score(of_class['dice'])}" for name, of_class in scores["classes"].items())
    return f"{score(scores['mean_dice'])} ({classes})"

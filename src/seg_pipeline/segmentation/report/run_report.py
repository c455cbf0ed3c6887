"""The report of a run: scores and their uncertainty, error analysis, training, data, and how to reproduce it."""

import hashlib
import json
import math
from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

from seg_pipeline import __version__
from seg_pipeline.segmentation.manifest.split_checks import split_table
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.metrics import run_comparison
from seg_pipeline.segmentation.report.charts import chart_data
from seg_pipeline.segmentation.report.gallery import galleries, scores_by_image, scores_caption
from seg_pipeline.segmentation.report.interpretation import limits
from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.report.pictures import picture_data
from seg_pipeline.segmentation.report.results import Results, join_words, plural, score
from seg_pipeline.segmentation.report.scores import score_section
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails
from seg_pipeline.segmentation.settings.training_config import flat

MAX_RULES = 12
MAX_CLASS_COLUMNS = 8
"""With more classes, the table of splits has no column per class."""
MAX_ROWS = 2000
"""The page lists this many of the worst images; image_scores.parquet has all of them."""
MAX_GROUPS = 200
"""With more groups, the filter by group is left out; use the text filter instead."""
FEW_LOW = 10
"""If fewer images have a low Dice, the report calls the limit of the flag "look at this" rough."""
SIZE = "\N{FIGURE SPACE}size\N{FIGURE SPACE}"
"""Placeholder for the size of the page in MB, which is known only once the page is rendered."""


def report_page(
    results: Results, details: ModelCardDetails, *, phantom: bool, images_per_gallery: int, other: str | None, seed: int
) -> str:
    """The report as HTML; ``other`` names the run to compare with, and ``seed`` determines the resampled intervals."""
    page = render(
        "report.html",
        title="Segmentation report",
        lead=_lead(results),
        missing=results.missing(),
        limits=limits(results, details, phantom=phantom),
        **score_section(results),
        figures={name: embedded(name, png) for name, png in results.figures.items()},
        charts=chart_data(results),
        **_images(results, images_per_gallery),
        comparison=_comparison(results, other, seed),
        **provenance_section(results),
        details=details,
        **_data(results),
        split=(results.test_scores or {}).get("split", "test"),
        size=SIZE,
    )
    return page.replace(SIZE, f"{len(page) / 1e6:.1f}", 1)


def _lead(results: Results) -> str:
    size = f"{plural(len(results.manifest), 'image')}, {plural(len(results.classes), 'class')}"
    if results.training_config is None:
        return size
    model, task = results.training_config["model"], results.training_config["task"]
    task_text = "classes may overlap" if task == "multilabel" else "one class per pixel"
    return f"{model['architecture']} with {model['encoder']}: {size} ({task_text})"


def _images(results: Results, number: int) -> dict[str, Any]:
    """The galleries, the table of images with its filters, and the images to enlarge."""
    values: dict[str, Any] = {"galleries": galleries(results, number), "pictures": "", "opened": 0}
    if results.image_scores is None:
        return values | {"images": [], "num_images": 0, "groups": [], "names": []}
    rows = image_rows(results.image_scores)
    groups = sorted({row["group"] for row in rows})
    if results.predictions is not None:
        values |= _pictures(results, results.predictions, values["galleries"], rows)
    return values | {
        "images": rows,
        "num_images": results.image_scores["image_id"].nunique(),
        "groups": groups if 1 < len(groups) <= MAX_GROUPS else [],
        "names": results.classes,
    }


def _pictures(
    results: Results, predicted: pd.DataFrame, gallery_images: dict[str, list], rows: list[dict]
) -> dict[str, Any]:
    """Data of the images to enlarge: those in galleries, then the worst. Sets ``opens`` in their ``rows``."""
    in_galleries = [image["image_id"] for images in gallery_images.values() for image in images]
    ranked = list(dict.fromkeys([*in_galleries, *(row["image_id"] for row in rows)]))
    scores, other = scores_by_image(results, ranked), results.other_predictions
    predictions = {"found": predicted} | ({} if other is None else {"other": other})
    prefix = "" if other is None else "this run: "
    embedded_ids, data = picture_data(
        ranked, results.manifest, lambda one: prefix + scores_caption(scores[one]), predictions, results.classes
    )
    for row in rows:
        row["opens"] = row["image_id"] in set(embedded_ids)
    return {
        "pictures": data,
        "opened": len(embedded_ids),
        "kilobytes": round(len(data) / 1000 / max(1, len(embedded_ids))),
    }


def _comparison(results: Results, other: str | None, seed: int) -> dict[str, Any] | None:
    if results.comparison is None or results.comparison.empty:
        return None
    summary = run_comparison.summarise(results.comparison, seed=seed)
    return {"other": other, "sentence": run_comparison.describe(summary), "rows": summary.to_dict("records")}


def _data(results: Results) -> dict[str, Any]:
    counts = results.findings.groupby(["action", "rule"]).size().sort_values(ascending=False).reset_index(name="number")
    return {
        "splits": split_table(results.manifest).to_dict("records"),
        "split_classes": results.classes if len(results.classes) <= MAX_CLASS_COLUMNS else [],
        "findings": counts.head(MAX_RULES).to_dict("records"),
    }


def provenance_section(results: Results) -> dict[str, Any]:
    """Template values for training, search, settings and reproduction."""
    return {
        "search": _search(results),
        "epochs": _epochs(results),
        "chosen": _postprocessing_text(results.postprocessing),
        "settings": [(name, json.dumps(value)) for name, value in flat(results.training_config or {}).items()],
        "command": results.run_command,
        "hashes": list(hashes(results)),
    }


def _epochs(results: Results) -> str:
    best, history = results.best_epoch(), results.training_history
    if best is None or history is None:
        return ""
    seconds = history["seconds"].sum() if "seconds" in history else 0.0
    duration = f" in {seconds / 60:,.1f} minutes" if seconds >= 60 else f" in {seconds:.0f} s" if seconds else ""
    return (
        f"{plural(len(history), 'epoch')}{duration}. The best is epoch {best['epoch']:.0f}: Dice "
        f"{score(best['val_dice'])} on the validation split, {score(best['train_dice'])} on the training images, at "
        "the network's input size."
    )


def _postprocessing_text(postprocessing: dict | None) -> str:
    """Which postprocessing steps were kept, and the number of images on which this was decided."""
    if postprocessing is None:
        return ""
    gains = postprocessing["gains"]
    kept = [f"{_step(gain['step'], gain['value'])} ({gain['class']})" for gain in gains if gain["kept"]]
    images = plural(postprocessing["num_images"], "validation image")
    outcome = f"kept: {join_words(kept)}" if kept else "none was kept"
    return (
        f"Of {plural(len(gains), 'step')} tried on {images}, each for one class, {outcome}. {postprocessing['rule']} "
        f"The intervals resample {postprocessing['resampled']}; the test split was not used. "
        + " ".join(_uncertainty(postprocessing))
    )


def _uncertainty(postprocessing: dict) -> Iterator[str]:
    """Sentences on the temperatures and on the flag "look at this"."""
    if values := postprocessing["settings"].get("temperatures"):
        texts = [f"{value:.2f}" for value in values[:1]]  # a multiclass task has one for all classes
        if len(set(values)) > 1:
            texts = [f"{value:.2f} ({name})" for name, value in zip(postprocessing["classes"], values, strict=True)]
        yield f"Logits are divided by {join_words(texts)}, so that probabilities are calibrated."
    review = postprocessing.get("review")
    if review is None:
        return
    low = f"{plural(review['num_low'], 'validation image')} with a Dice below {review['dice_below']:g}"
    if review["look_above"] is None:
        condition = f"a Dice below {review['dice_below']:g}"
        yield f"No limit for the flag `look_at_this` was chosen: there is no validation image with {condition}."
    else:
        rough = "; so few images make the limit rough" if review["num_low"] < FEW_LOW else ""
        yield (
            f"`look_at_this` flags images with an uncertainty ({review['score']}) of {review['look_above']:.3g} or "
            f"more, which catches {100 * review['catch']:.0f} % of {low}{rough}."
        )


def _search(results: Results) -> dict[str, Any] | None:
    """What the search chose and why, with its validation Dice and that of the final training."""
    search_result, best = results.best_hyperparameters, results.best_epoch()
    if search_result is None:
        return None
    after = f" after {plural(int(search_result['epochs']), 'epoch')}" if search_result.get("epochs") else ""
    reached = f" The final training reached {score(best['val_dice'])} at epoch {best['epoch']:.0f}." if best else ""
    used = flat(results.training_config or {})
    return {
        "reason": search_result["reason"],
        "outcome": f"The best trial had validation Dice {score(search_result['val_dice'])}{after}.{reached}",
        "rows": [
            (name, _short(value), used.get(name) == value) for name, value in search_result.get("values", {}).items()
        ],
    }


def _step(name: str, value: object) -> str:
    return name if value is True else f"{name} {_short(value)}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def hashes(results: Results) -> Iterator[tuple[str, str]]:
    """Names and hashes by which to compare data, settings, weights and versions."""
    yield "data: pixels, masks, splits", data_hash(results.manifest)
    if results.training_config is not None:
        yield "settings", hashlib.sha256(json.dumps(results.training_config, sort_keys=True).encode()).hexdigest()
    if results.checkpoint_sha256 is not None:
        yield "checkpoint.pt", results.checkpoint_sha256.split()[0]
    yield "versions", f"seg_pipeline {__version__}, pandas {pd.__version__}"


def image_rows(image_scores: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """One row per image, lowest Dice first, undefined last.

    Keys: image_id, group, opens (whether its picture is embedded), dice (mean over its classes, NaN if it shows none),
    errors (wrong pixels), worst (lowest class), missed and false (classes without a correct pixel), outcome, classes.
    """
    rows = image_scores.assign(
        missed=(image_scores["true_pos"] == 0) & (image_scores["false_neg"] > 0),
        false=(image_scores["true_pos"] == 0) & (image_scores["false_pos"] > 0) & (image_scores["false_neg"] == 0),
        errors=image_scores["false_pos"] + image_scores["false_neg"],
    )
    images = rows.groupby("image_id").agg(group=("group", "first"), dice=("dice", "mean"), errors=("errors", "sum"))
    ranked = images.sort_values(["dice", "errors"], ascending=[True, False], kind="stable").head(MAX_ROWS)
    parts: dict[str, list[dict]] = {image_id: [] for image_id in ranked.index}
    for row in rows[rows["image_id"].isin(ranked.index)].to_dict("records"):
        parts[row["image_id"]].append(row)
    return [
        {**row, "opens": False, **_classes(parts[row["image_id"]])} for row in ranked.reset_index().to_dict("records")
    ]


def _classes(rows: list[dict]) -> dict[Hashable, Any]:
    """The keys of an image's row that summarise its classes."""
    defined = [row for row in rows if not math.isnan(row["dice"])]
    lowest = min(defined, key=lambda row: row["dice"], default=None)
    missed, false = ([row["class"] for row in rows if row[error]] for error in ("missed", "false"))
    outcomes = [name for name, classes in (("missed", missed), ("false positive", false)) if classes]
    return {
        "worst": f"{lowest['class']} {score(lowest['dice'], 2)}" if lowest else "",
        "missed": join_words(missed, 4),
        "false": join_words(false, 4),
        "outcome": "|".join(outcomes) or "neither",
        "classes": "|".join(row["class"] for row in defined),
    }

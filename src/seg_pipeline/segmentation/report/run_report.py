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
from seg_pipeline.segmentation.report.gallery import galleries, scores_in_words, scores_of
from seg_pipeline.segmentation.report.interpretation import limits
from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.report.pictures import picture_data
from seg_pipeline.segmentation.report.results import Results, listed, plural, score
from seg_pipeline.segmentation.report.scores import score_section
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails
from seg_pipeline.segmentation.settings.training_config import flat

MOST_RULES = 12
MOST_CLASS_COLUMNS = 8
"""With more classes, the table of splits has no column per class."""
MOST_ROWS = 2000
"""The page lists the worst images up to this number; image_scores.parquet has all."""
MOST_GROUPS = 200
"""With more groups, the filter by group is left out; the text filter finds them too."""
FEW_LOW = 10
"""A limit of the flag "look at this" that rests on fewer images of low Dice is said to be rough."""
SIZE = "\N{FIGURE SPACE}size\N{FIGURE SPACE}"
"""Placeholder for the size of the page in MB, which is known only once the page is rendered."""


def report_page(
    results: Results, about: ModelCardDetails, *, phantom: bool, images_per_gallery: int, other: str | None, seed: int
) -> str:
    """The report as HTML; ``other`` names the run that this one is compared with, in intervals drawn from ``seed``."""
    page = render(
        "report.html",
        title="Segmentation report",
        lead=_lead(results),
        missing=results.missing(),
        limits=limits(results, about, phantom=phantom),
        **score_section(results),
        figures={name: embedded(name, png) for name, png in results.figures.items()},
        charts=chart_data(results),
        **_images(results, images_per_gallery),
        comparison=_comparison(results, other, seed),
        **provenance_section(results),
        about=about,
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
    form = "classes may overlap" if task == "multilabel" else "one class per pixel"
    return f"{model['architecture']} with {model['encoder']}: {size} ({form})"


def _images(results: Results, number: int) -> dict[str, Any]:
    """The galleries, the table of images and its filters, and the images that open large."""
    shown: dict[str, Any] = {"galleries": galleries(results, number), "pictures": "", "opened": 0}
    if results.image_scores is None:
        return shown | {"images": [], "num_images": 0, "groups": [], "names": []}
    rows = image_rows(results.image_scores)
    groups = sorted({row["group"] for row in rows})
    if results.predictions is not None:
        shown |= _pictures(results, results.predictions, shown["galleries"], rows)
    return shown | {
        "images": rows,
        "num_images": results.image_scores["image_id"].nunique(),
        "groups": groups if 1 < len(groups) <= MOST_GROUPS else [],
        "names": results.classes,
    }


def _pictures(results: Results, found: pd.DataFrame, shown: dict[str, list], rows: list[dict]) -> dict[str, Any]:
    """Data of the images that open large: those in galleries, then the worst; ``rows`` are told which ones do."""
    of_galleries = [one["image_id"] for images in shown.values() for one in images]
    wanted = list(dict.fromkeys([*of_galleries, *(row["image_id"] for row in rows)]))
    scores, other = scores_of(results, wanted), results.other_predictions
    predictions = {"found": found} | ({} if other is None else {"other": other})
    of = "" if other is None else "this run: "
    kept, data = picture_data(
        wanted, results.manifest, lambda one: of + scores_in_words(scores[one]), predictions, results.classes
    )
    for row in rows:
        row["opens"] = row["image_id"] in set(kept)
    return {"pictures": data, "opened": len(kept), "kilobytes": round(len(data) / 1000 / max(1, len(kept)))}


def _comparison(results: Results, other: str | None, seed: int) -> dict[str, Any] | None:
    if results.comparison is None or results.comparison.empty:
        return None
    summary = run_comparison.summarise(results.comparison, seed=seed)
    return {"other": other, "sentence": run_comparison.describe(summary), "rows": summary.to_dict("records")}


def _data(results: Results) -> dict[str, Any]:
    counts = results.findings.groupby(["action", "rule"]).size().sort_values(ascending=False).reset_index(name="number")
    return {
        "splits": split_table(results.manifest).to_dict("records"),
        "split_classes": results.classes if len(results.classes) <= MOST_CLASS_COLUMNS else [],
        "findings": counts.head(MOST_RULES).to_dict("records"),
    }


def provenance_section(results: Results) -> dict[str, Any]:
    """Template values for training, search, settings and reproduction."""
    return {
        "search": _search(results),
        "epochs": _epochs(results),
        "chosen": _chosen(results.postprocessing),
        "settings": [(name, json.dumps(value)) for name, value in flat(results.training_config or {}).items()],
        "command": results.run_command,
        "hashes": list(hashes(results)),
    }


def _epochs(results: Results) -> str:
    best, history = results.best_epoch(), results.training_history
    if best is None or history is None:
        return ""
    seconds = history["seconds"].sum() if "seconds" in history else 0.0
    took = f" in {seconds / 60:,.1f} minutes" if seconds >= 60 else f" in {seconds:.0f} s" if seconds else ""
    return (
        f"{plural(len(history), 'epoch')}{took}. The best is epoch {best['epoch']:.0f}: Dice {score(best['val_dice'])} "
        f"on the validation split, {score(best['train_dice'])} on the training images, at the network's size."
    )


def _chosen(postprocessing: dict | None) -> str:
    """Which postprocessing steps were kept, and on how many images that was decided."""
    if postprocessing is None:
        return ""
    tried = postprocessing["gains"]
    kept = [f"{_step(one['step'], one['value'])} ({one['class']})" for one in tried if one["kept"]]
    images = plural(postprocessing["num_images"], "validation image")
    outcome = f"kept: {listed(kept)}" if kept else "none was kept"
    return (
        f"Of {plural(len(tried), 'step')} tried on {images}, each for one class, {outcome}. {postprocessing['rule']} "
        f"The intervals resample {postprocessing['resampled']}; the test split was not used. "
        + " ".join(_uncertainty(postprocessing))
    )


def _uncertainty(postprocessing: dict) -> Iterator[str]:
    """The temperatures and the flag "look at this"."""
    if values := postprocessing["settings"].get("temperatures"):
        told = [f"{value:.2f}" for value in values[:1]]  # one for all classes of a multiclass task
        if len(set(values)) > 1:
            told = [f"{value:.2f} ({name})" for name, value in zip(postprocessing["classes"], values, strict=True)]
        yield f"Logits are divided by {listed(told)}, so that probabilities are calibrated."
    review = postprocessing.get("review")
    if review is None:
        return
    low = f"{plural(review['num_low'], 'validation image')} with a Dice below {review['dice_below']:g}"
    if review["look_above"] is None:
        lacking = f"validation image with a Dice below {review['dice_below']:g}"
        yield f"No limit for the flag `look_at_this` was chosen: there is no {lacking}."
    else:
        rough = "; so few make it rough" if review["num_low"] < FEW_LOW else ""
        yield (
            f"`look_at_this` flags an uncertainty ({review['score']}) of {review['look_above']:.3g} or more, which "
            f"catches {100 * review['catch']:.0f} % of {low}{rough}."
        )


def _search(results: Results) -> dict[str, Any] | None:
    """What the search chose and why, and its validation Dice beside that of the final training."""
    found, best = results.best_hyperparameters, results.best_epoch()
    if found is None:
        return None
    after = f" after {plural(int(found['epochs']), 'epoch')}" if found.get("epochs") else ""
    reached = f" The final training reached {score(best['val_dice'])} at epoch {best['epoch']:.0f}." if best else ""
    used = flat(results.training_config or {})
    return {
        "reason": found["reason"],
        "outcome": f"The best trial had validation Dice {score(found['val_dice'])}{after}.{reached}",
        "rows": [(name, _short(value), used.get(name) == value) for name, value in found.get("values", {}).items()],
    }


def _step(name: str, value: object) -> str:
    return name if value is True else f"{name} {_short(value)}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def hashes(results: Results) -> Iterator[tuple[str, str]]:
    """Names and hashes to compare data, settings, weights and versions with."""
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
    ranked = images.sort_values(["dice", "errors"], ascending=[True, False], kind="stable").head(MOST_ROWS)
    parts: dict[str, list[dict]] = {image_id: [] for image_id in ranked.index}
    for row in rows[rows["image_id"].isin(ranked.index)].to_dict("records"):
        parts[row["image_id"]].append(row)
    return [
        {**row, "opens": False, **_classes(parts[row["image_id"]])} for row in ranked.reset_index().to_dict("records")
    ]


def _classes(rows: list[dict]) -> dict[Hashable, Any]:
    """The keys of a row that summarise the classes of one image."""
    known = [row for row in rows if not math.isnan(row["dice"])]
    lowest = min(known, key=lambda row: row["dice"], default=None)
    missed, false = ([row["class"] for row in rows if row[error]] for error in ("missed", "false"))
    outcomes = [name for name, found in (("missed", missed), ("false positive", false)) if found]
    return {
        "worst": f"{lowest['class']} {score(lowest['dice'], 2)}" if lowest else "",
        "missed": listed(missed, 4),
        "false": listed(false, 4),
        "outcome": "|".join(outcomes) or "neither",
        "classes": "|".join(row["class"] for row in known),
    }

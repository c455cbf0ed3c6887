"""The report of a run: scores and their uncertainty, error analysis, training, data, and how to reproduce it."""

from __future__ import annotations

from typing import Any

from seg_pipeline.segmentation.manifest.splits import split_table
from seg_pipeline.segmentation.metrics import run_comparison
from seg_pipeline.segmentation.report.gallery import Gallery, add_images, select_galleries
from seg_pipeline.segmentation.report.image_table import MOST_GROUPS, image_rows
from seg_pipeline.segmentation.report.interpretation import limits
from seg_pipeline.segmentation.report.page import png_url, render
from seg_pipeline.segmentation.report.provenance import provenance_section
from seg_pipeline.segmentation.report.results import Results, plural
from seg_pipeline.segmentation.report.scores import score_section
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails

MOST_RULES = 12
MOST_CLASS_COLUMNS = 8
"""With more classes, the table of splits has no column per class."""
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
        figures={name: png_url(png) for name, png in results.figures.items()},
        galleries=_galleries(results, images_per_gallery),
        **_images(results),
        comparison=_comparison(results, other, seed),
        **provenance_section(results),
        **_data(results, about),
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


def _galleries(results: Results, number: int) -> list[Gallery]:
    if results.image_scores is None or results.predictions is None:
        return []
    selected = select_galleries(results.image_scores, number)
    return add_images(selected, results.manifest, results.predictions, results.image_scores, results.classes)


def _images(results: Results) -> dict[str, Any]:
    """The table of images, their number, and the values to filter by."""
    if results.image_scores is None:
        return {"images": [], "num_images": 0, "groups": [], "names": []}
    rows = image_rows(results.image_scores)
    groups = sorted({row["group"] for row in rows})
    return {
        "images": rows,
        "num_images": results.image_scores["image_id"].nunique(),
        "groups": groups if 1 < len(groups) <= MOST_GROUPS else [],
        "names": results.classes,
    }


def _comparison(results: Results, other: str | None, seed: int) -> dict[str, Any] | None:
    if results.comparison is None or results.comparison.empty:
        return None
    summary = run_comparison.summarise(results.comparison, seed=seed)
    return {"other": other, "sentence": run_comparison.describe(summary), "rows": summary.to_dict("records")}


def _data(results: Results, about: ModelCardDetails) -> dict[str, Any]:
    counts = results.findings.groupby(["action", "rule"]).size().sort_values(ascending=False).reset_index(name="number")
    stated = (
        ("data", about.data),
        ("source", about.source),
        ("ground truth", about.truth),
        ("intended use", about.intended_use),
    )
    return {
        "about": [(name, text) for name, text in stated if text],
        "splits": split_table(results.manifest).to_dict("records"),
        "split_classes": results.classes if len(results.classes) <= MOST_CLASS_COLUMNS else [],
        "findings": counts.head(MOST_RULES).to_dict("records"),
    }

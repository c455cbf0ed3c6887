"""The model card, in Markdown: the fields of Mitchell et al., "Model Cards for Model Reporting" (2019)."""

import re
from dataclasses import asdict
from typing import Any

from seg_pipeline import __version__
from seg_pipeline.segmentation.manifest.split_checks import split_table
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.report.agreement import human_ceiling
from seg_pipeline.segmentation.report.interpretation import (
    OBJECT_MEANINGS,
    OBJECT_MEASURES,
    limits,
    measure_meanings,
    score_meanings,
)
from seg_pipeline.segmentation.report.page import environment
from seg_pipeline.segmentation.report.results import Results, interval, plural, score
from seg_pipeline.segmentation.report.scores import computed_measures, digits_of, object_rows
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails


def model_card(results: Results, details: ModelCardDetails, *, phantom: bool) -> str:
    """The model card as Markdown; for a field missing in ``details``, the card names the parameter to set."""
    scores = results.test_scores
    markdown = environment(autoescape=False, plain=plain)  # Markdown is escaped differently from HTML
    return markdown.get_template("model_card.md").render(
        stated={
            name: text or f"Not stated; set `reporting.model_card.{name}`." for name, text in asdict(details).items()
        },
        config=results.training_config,
        classes=results.classes,
        scores=scores,
        rows=_rows(scores) if scores else [],
        means={key: _with_interval(scores, key) for key in ("mean_dice", "mean_iou")} if scores else {},
        objects=_object_rows(scores) if scores else [],
        object_headings=[name for _, name in OBJECT_MEASURES],
        object_meanings=OBJECT_MEANINGS,
        headings=[name for _, name in computed_measures(scores)] if scores else [],
        meanings=[*score_meanings(scores), *measure_meanings(scores)] if scores else [],
        limits=limits(results, details, phantom=phantom),
        splits=split_table(results.manifest).to_dict("records"),
        postprocessing=(results.postprocessing or {}).get("settings"),
        ceiling=human_ceiling(results)[2] if scores else "",
        missing=results.missing(),
        command=results.run_command,
        data_hash=data_hash(results.manifest),
        checkpoint=(results.checkpoint_sha256 or "").partition(" ")[0],
        num_groups=plural(results.num_groups, "group"),
        version=__version__,
    )


def _rows(scores: dict[str, Any]) -> list[list[str]]:
    """One row per class: name, number of images, and each measure with its interval."""
    rows = []
    for name, one in scores["classes"].items():
        cells = [_with_interval(one, key, digits_of(key)) for key, _ in computed_measures(scores)]
        rows.append([plain(name), str(one["num_images"]), *cells])
    return rows


def _object_rows(scores: dict[str, Any]) -> list[list[str]]:
    """One row per class of objects: name, numbers of objects, and each measure with its interval."""
    return [
        [
            *(plain(row["name"]), str(row["true"]), str(row["predicted"])),
            *(text + (f" ({pair})" if pair else "") for _, text, pair in row["cells"]),
        ]
        for row in object_rows(scores)
    ]


def _with_interval(scores: dict[str, Any], key: str, digits: int = 3) -> str:
    interval_text = interval(scores.get(f"{key}_interval"), digits)
    return score(scores[key], digits) + (f" ({interval_text})" if interval_text else "")


def plain(text: object) -> str:
    """Escape text from users so that Markdown shows it unchanged, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(str(text).split()))

"""The search page: what was chosen and why, the sanity checks, each step with its figure, and all trials."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.search.ranking import from_cell, searched_names, trial_score
from seg_pipeline.segmentation.settings.search import GridSettings

FIGURES = ("overfit_curve", "overfit_sheet", "learning_rates", "weight_decays", "heat_map", "importances")
STEPS = {
    "learning_rate": "learning rates",
    "weight_decay": "weight decays",
    "cross": "crossed",
    "tpe": "further settings",
}


def search_page(
    sanity_checks: dict, trials: pd.DataFrame, best: dict, figures: Sequence[bytes | None], *, grid: GridSettings
) -> str:
    """The search page as HTML, from the results of the search's nodes.

    ``figures`` are PNG files in the order of ``FIGURES``; None if there is nothing to show.
    """
    return render(
        "search.html",
        title="Search",
        best=best,
        values=[(name, _text(value)) for name, value in best["values"].items()],
        checks=sanity_checks,
        figures={name: embedded(name, png) for name, png in zip(FIGURES, figures, strict=True) if png},
        names=[name.rpartition(".")[2].replace("_", " ") for name in searched_names(trials)],
        trials=_trial_rows(trials, grid),
        states=sorted(set(trials["state"])),
        steps=STEPS,
        grid=grid,
    )


def _trial_rows(trials: pd.DataFrame, grid: GridSettings) -> list[dict[str, Any]]:
    """One row per trial, in the order of the table."""
    names, rows = searched_names(trials), []
    for number, trial_rows in trials.groupby("trial", sort=True):
        first = trial_rows.iloc[0]
        score = trial_score(trial_rows, grid) if first["state"] == "complete" else None
        rows.append(
            {
                "trial": number,
                "step": STEPS.get(first["step"], first["step"]),
                "state": first["state"],
                "reason": first["reason"],
                "repeat": first["repeat"] + 1,
                "values": [_text(from_cell(first[name])) for name in names],
                "epochs": int(trial_rows["val_loss"].notna().sum()),
                "score": "" if score is None else f"{abs(score):.4f}",
                "seconds": f"{trial_rows['seconds'].sum():.1f}",
            }
        )
    return rows


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "null" if value is None else str(value)

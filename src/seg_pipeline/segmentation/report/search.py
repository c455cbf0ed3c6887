"""The page of a search: what was chosen and why, the gates, every step with its figure, every trial."""

from __future__ import annotations

import base64
import io
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.report.page import render
from seg_pipeline.segmentation.settings.search import GridSettings

DOTS = 110
STEPS = {
    "learning_rate": "learning rates",
    "weight_decay": "weight decays",
    "cross": "crossed",
    "tpe": "further settings",
}


def figure_address(figure: Figure) -> str:
    """Data address of a figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def search_page(gates: dict, overfit_thumbnail: str, trials: pd.DataFrame, best: dict, *, grid: GridSettings) -> str:
    """HTML.

    Args:
        gates: the report of ``search.run_sanity_checks``.
        overfit_thumbnail: address of the sheet of what was learnt by heart.
        trials: of ``search.search``.
        best: of ``search.best_hyperparameters``.
    """
    from seg_pipeline.segmentation.search import search_figures  # loads torch, which other pages do without
    from seg_pipeline.segmentation.search.ranking import searched_names

    figures = search_figures(trials, grid)
    curve = plotting.plot_overfit(pd.DataFrame(gates["overfit"]["curve"]), least=gates["overfit"]["expected"])
    return render(
        "search.html",
        title="Search",
        best=best,
        values=[(name, _text(value)) for name, value in best["values"].items()],
        gates=gates,
        overfit_curve=figure_address(curve),
        overfit_thumbnail=overfit_thumbnail,
        figures={name: figure_address(figure) for name, figure in figures._asdict().items() if figure},
        names=[name.rpartition(".")[2].replace("_", " ") for name in searched_names(trials)],
        trials=_trial_rows(trials, grid),
        states=sorted(set(trials["state"])),
        steps=STEPS,
        grid=grid,
    )


def _trial_rows(trials: pd.DataFrame, grid: GridSettings) -> list[dict[str, Any]]:
    """A row a trial, in the order of the table."""
    from seg_pipeline.segmentation.search.ranking import plain, searched_names, trial_score

    names, rows = searched_names(trials), []
    for number, of_trial in trials.groupby("trial", sort=True):
        first = of_trial.iloc[0]
        score = trial_score(of_trial, grid) if first["state"] == "complete" else None
        rows.append(
            {
                "trial": number,
                "step": STEPS.get(first["step"], first["step"]),
                "state": first["state"],
                "reason": first["reason"],
                "repeat": first["repeat"] + 1,
                "values": [_text(plain(first[name])) for name in names],
                "epochs": int(of_trial["val_loss"].notna().sum()),
                "score": "" if score is None else f"{abs(score):.4f}",
                "seconds": f"{of_trial['seconds'].sum():.1f}",
            }
        )
    return rows


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "null" if value is None else str(value)

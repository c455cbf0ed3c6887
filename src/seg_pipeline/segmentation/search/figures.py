"""Figures of a search, drawn from its table of trials."""

from __future__ import annotations

import json
from typing import NamedTuple

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, points, searched_names
from seg_pipeline.segmentation.settings.search import GridSettings

LEAST_TRIALS = 8
"""For importances; with fewer they would be chance."""


class SearchFigures(NamedTuple):
    """``()`` where there is nothing to show."""

    learning_rates: Figure
    weight_decays: Figure | tuple[()]
    crossed: Figure | tuple[()]
    importances: Figure | tuple[()]


def search_figures(trials: pd.DataFrame, grid: GridSettings) -> SearchFigures:
    """Draw the grid, and the importances of all settings if there are enough trials.

    Weight decays are drawn if several were trained, the heat map if rates and decays both vary.
    """
    runs = trials[trials["step"] != "tpe"]
    table = points(runs, grid)
    rate, decay = _best_of_grid(table)
    first_decay = runs.loc[runs["step"] == "learning_rate", DECAY].iloc[0]
    score = (
        f"mean of the last {grid.average_last_validations} validations"
        if grid.average_last_validations > 1
        else "last validation"
    )
    over_rates, over_decays = runs[runs[DECAY] == first_decay], runs[runs[RATE] == rate]
    several_rates, several_decays = runs[RATE].nunique() > 1, over_decays[DECAY].nunique() > 1
    return SearchFigures(
        plotting.plot_trials(
            over_rates,
            table[table[DECAY] == first_decay],
            RATE,
            rate,
            title=f"Learning rates at weight decay {first_decay:g}: {rate:.3g} is best ({score})",
        ),
        plotting.plot_trials(
            over_decays,
            table[table[RATE] == rate],
            DECAY,
            decay,
            title=f"Weight decays at learning rate {rate:.3g}: {decay:g} is best ({score})",
        )
        if several_decays
        else (),
        plotting.plot_crossed(table, (RATE, DECAY), (rate, decay)) if several_rates and several_decays else (),
        _importances_figure(trials, grid),
    )


def _best_of_grid(table: pd.DataFrame) -> tuple[float, float]:
    best = table.sort_values("score", ascending=False, kind="stable").iloc[0]
    return float(best[RATE]), float(best[DECAY])


def _importances_figure(trials: pd.DataFrame, grid: GridSettings) -> Figure | tuple[()]:
    known = importances(trials, grid)
    return plotting.plot_importances(known, num_trials=int(points(trials, grid)["sound"].sum())) if known else ()


def importances(trials: pd.DataFrame, grid: GridSettings) -> dict[str, float]:
    """How well each setting separates the better half of the points from the rest (PED-ANOVA), as shares of 1.

    Empty for fewer than ``LEAST_TRIALS`` points.
    """
    table = points(trials, grid)
    sound = table[table["sound"]]
    names = [name for name in searched_names(trials) if sound[name].map(str).nunique() > 1]
    if len(sound) < LEAST_TRIALS or not names:
        return {}
    distributions: dict[str, BaseDistribution] = {name: _distribution(sound[name]) for name in names}
    study = optuna.create_study(direction="maximize")
    for row in sound.to_dict("records"):
        values = {name: _value(row[name], distributions[name]) for name in names}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE, params=values, distributions=distributions, value=row["score"]
            )
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.5)
    return {name: float(share) for name, share in get_param_importances(study, evaluator=evaluator).items()}


def _distribution(values: pd.Series) -> BaseDistribution:
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        low, high = float(values.min()), float(values.max())
        return FloatDistribution(low, high, log=low > 0 and high / low > 10)
    return CategoricalDistribution(sorted({json.dumps(_plain(value)) for value in values}))


def _value(value: object, distribution: BaseDistribution) -> float | str:
    return float(value) if isinstance(distribution, FloatDistribution) else json.dumps(_plain(value))  # type: ignore[arg-type]


def _plain(value: object) -> object:
    return value.item() if hasattr(value, "item") else value

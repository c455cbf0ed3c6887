"""Figures of a search, drawn from its table of trials."""

from __future__ import annotations

from typing import NamedTuple

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, best_point, points, searched_names
from seg_pipeline.segmentation.settings.search import GridSettings

LEAST_TRIALS = 8
"""For importances; with fewer they would be chance."""


class SearchFigures(NamedTuple):
    """``()`` if there is nothing to show."""

    learning_rates: Figure
    weight_decays: Figure | tuple[()]
    heat_map: Figure | tuple[()]
    importances: Figure | tuple[()]


def search_figures(trials: pd.DataFrame, grid: GridSettings) -> SearchFigures:
    """Draw the grid, and the importances of all settings if there are enough trials.

    Weight decays are drawn if several were trained, the heat map if rates and decays both vary.
    """
    runs = trials[trials["step"] != "tpe"]
    table = points(runs, grid)
    best = best_point(table)
    rate, decay = float(best[RATE]), float(best[DECAY])
    first_decay = runs.loc[runs["step"] == "learning_rate", DECAY].iloc[0]
    score = (
        f"mean of the last {grid.average_last_validations} validations"
        if grid.average_last_validations > 1
        else "last validation"
    )
    over_rates, over_decays = runs[runs[DECAY] == first_decay], runs[runs[RATE] == rate]
    known = importances(trials, grid)
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
        plotting.plot_score_heat_map(table, (RATE, DECAY), (rate, decay)) if several_rates and several_decays else (),
        plotting.plot_importances(known, num_trials=int(points(trials, grid)["sound"].sum())) if known else (),
    )


def importances(trials: pd.DataFrame, grid: GridSettings) -> dict[str, float]:
    """How well each setting separates the better half of the points from the rest (PED-ANOVA), as shares of 1.

    Empty for fewer than ``LEAST_TRIALS`` points.
    """
    table = points(trials, grid)
    sound = table[table["sound"]].copy()
    names = [name for name in searched_names(trials) if sound[name].map(str).nunique() > 1]
    if len(sound) < LEAST_TRIALS or not names:
        return {}
    distributions: dict[str, BaseDistribution] = {}
    for name in names:
        if is_numeric_dtype(sound[name]) and not is_bool_dtype(sound[name]):
            low, high = float(sound[name].min()), float(sound[name].max())
            distributions[name] = FloatDistribution(low, high, log=low > 0 and high / low > 10)
        else:
            sound[name] = sound[name].map(str)
            distributions[name] = CategoricalDistribution(sorted(set(sound[name])))
    study = optuna.create_study(direction="maximize")
    for row in sound.to_dict("records"):
        params = {name: row[name] for name in names}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["score"]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.5)
    return {name: float(share) for name, share in get_param_importances(study, evaluator=evaluator).items()}

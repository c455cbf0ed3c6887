"""Figures of a search, drawn from its table of trials."""

import math
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from seg_pipeline.segmentation.plotting.row_panels import add_note
from seg_pipeline.segmentation.plotting.style import count_steps, grown, new_figure, small, styled
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, best_point, points, searched_names
from seg_pipeline.segmentation.settings.search import GridSettings

MIN_TRIALS = 8
"""Fewest points for importances; with fewer they would be chance."""
COLOUR, CHOSEN_COLOUR = "#0072B2", "#D55E00"
PALEST = 0.75  # of viridis, whose end is too pale for lines
LEGEND_COLUMNS = 6
MAX_LEVEL = 6  # with more values, their names are sloped
STEEP = 50.0  # losses that span more than this factor get a logarithmic axis
DARK = 0.6  # share of the blues above which a number on it is white


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
    shares = importances(trials, grid)
    several_rates, several_decays = runs[RATE].nunique() > 1, over_decays[DECAY].nunique() > 1
    return SearchFigures(
        _plot_trials(
            over_rates,
            table[table[DECAY] == first_decay],
            RATE,
            rate,
            title=f"Learning rates at weight decay {first_decay:g}: {rate:.3g} is best ({score})",
        ),
        _plot_trials(
            over_decays,
            table[table[RATE] == rate],
            DECAY,
            decay,
            title=f"Weight decays at learning rate {rate:.3g}: {decay:g} is best ({score})",
        )
        if several_decays
        else (),
        _plot_heat_map(table, (rate, decay)) if several_rates and several_decays else (),
        _plot_importances(shares, num_trials=int(points(trials, grid)["complete"].sum())) if shares else (),
    )


def importances(trials: pd.DataFrame, grid: GridSettings) -> dict[str, float]:
    """How well each setting separates the better half of the points from the rest (PED-ANOVA), as fractions of 1.

    Empty for fewer than ``MIN_TRIALS`` points.
    """
    table = points(trials, grid)
    complete = table[table["complete"]].copy()
    names = [name for name in searched_names(trials) if complete[name].map(str).nunique() > 1]
    if len(complete) < MIN_TRIALS or not names:
        return {}
    distributions: dict[str, BaseDistribution] = {}
    for name in names:
        if is_numeric_dtype(complete[name]) and not is_bool_dtype(complete[name]):
            low, high = float(complete[name].min()), float(complete[name].max())
            distributions[name] = FloatDistribution(low, high, log=low > 0 and high / low > 10)
        else:
            complete[name] = complete[name].map(str)
            distributions[name] = CategoricalDistribution(sorted(set(complete[name])))
    study = optuna.create_study(direction="maximize")
    for row in complete.to_dict("records"):
        params = {name: row[name] for name in names}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["score"]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.5)
    return {name: float(share) for name, share in get_param_importances(study, evaluator=evaluator).items()}


@styled
def _plot_trials(trials: pd.DataFrame, points: pd.DataFrame, name: str, best: object, *, title: str) -> Figure:
    """Losses and validation Dice per epoch, coloured by the setting ``name``, and the score over that setting.

    ``points`` are from ``ranking.points``, with one row per value; ``best`` is the chosen value, which is marked.
    """
    values = sorted(trials[name].unique())
    figure = new_figure(10.5, 3.5 + 0.2 * math.ceil(len(values) / LEGEND_COLUMNS))
    losses, dice, final = figure.subplots(1, 3)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, PALEST, max(len(values), 1)))
    for colour, value in zip(colours, values, strict=True):
        _draw_value(losses, dice, trials[trials[name] == value], colour, f"{value:.3g}")
    _scale(losses, trials)
    losses.set(title="Loss: train dashed, val solid", ylabel="loss")
    dice.set(title="Dice on val", ylabel="val Dice", ylim=(0, None))
    for axes in (losses, dice):
        axes.set_xlabel("epoch")
        count_steps(axes)
    label = name.rpartition(".")[2].replace("_", " ")
    _draw_points(final, points.sort_values(name), name, best)
    final.set(title="Score (decides the choice)", xlabel=label, ylabel="score")
    figure.legend(*dice.get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS, title=label)
    figure.suptitle(title)
    return figure


def _draw_value(losses: Axes, dice: Axes, rows: pd.DataFrame, colour: np.ndarray, label: str) -> None:
    """Draw all trials of one value under one label."""
    state = rows["state"].iloc[0]
    text = label if state == "complete" else f"{label} ({state})"
    for number, (_, trial) in enumerate(rows.groupby("trial")):
        known = trial.dropna(subset=["val_dice"])
        losses.plot(trial["epoch"], trial["train_loss"], color=colour, linestyle="--", marker=".", linewidth=1)
        losses.plot(known["epoch"], known["val_loss"], color=colour, marker=".", linewidth=1.2)
        shown = text if number == 0 else None
        dice.plot(known["epoch"], known["val_dice"], color=colour, marker=".", linewidth=1.2, label=shown)
        if trial["state"].iloc[0] == "diverged" and len(known):
            dice.plot(known["epoch"].iloc[-1], known["val_dice"].iloc[-1], "x", color="black")


def _scale(axes: Axes, trials: pd.DataFrame) -> None:
    values = trials[["train_loss", "val_loss"]].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() / values.min() > STEEP:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_points(axes: Axes, points: pd.DataFrame, name: str, best: object) -> None:
    """Draw mean scores with bars from the lowest to the highest repeat; failed points are crosses at the bottom."""
    complete, failed = points[points["score"].notna()], points[points["score"].isna()]
    spread = np.abs(complete[["low", "high"]].to_numpy(dtype=float).T - complete["score"].to_numpy(dtype=float))
    bars = spread if (complete["repeats"] > 1).any() else None
    axes.errorbar(complete[name], complete["score"], yerr=bars, color=COLOUR, marker="o", linewidth=1.2, capsize=3)
    chosen = complete[complete[name] == best]
    axes.plot(chosen[name], chosen["score"], "o", color=CHOSEN_COLOUR, markersize=11, fillstyle="none", label="chosen")
    if len(failed):
        floor = axes.get_xaxis_transform()
        axes.plot(failed[name], [0.03] * len(failed), "x", color="black", transform=floor, label="diverged or failed")
    values = points[name].to_numpy(dtype=float)
    if (values > 0).all():
        axes.set_xscale("log")
    elif len(values) > 1:
        axes.set_xscale("symlog", linthresh=float(values[values > 0].min()))
    slope: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(values) > MAX_LEVEL else {}
    )
    axes.set_xticks(values, [f"{value:.3g}" for value in values], **slope)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True)
    axes.legend(loc="best")
    if (complete["score"] >= 0).all():
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # Dice; a loss as score is negative


@styled
def _plot_heat_map(points: pd.DataFrame, best: tuple[float, float]) -> Figure:
    """Heat map of the score over rate and decay; grey for pairs not tried, a cross for pairs that failed.

    ``best`` is the chosen pair, which is framed.
    """
    rows, columns = sorted(points[RATE].unique()), sorted(points[DECAY].unique())
    table = points.pivot_table(index=RATE, columns=DECAY, values="score", aggfunc="first", dropna=False)
    table = table.reindex(index=rows, columns=columns)
    figure = new_figure(grown(2.6) + 0.75 * len(columns), grown(1.7) + 0.42 * len(rows))
    axes = figure.subplots()
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="none")  # a dark page inverts it
    image = axes.imshow(np.ma.masked_invalid(table.to_numpy(dtype=float)), cmap=colours, aspect="auto", origin="lower")
    for value in points.to_dict("records"):
        position = columns.index(value[DECAY]), rows.index(value[RATE])
        is_finite = math.isfinite(value["score"])
        share = float(np.asarray(image.norm(value["score"]))) if is_finite else 0.0
        text, colour = (f"{value['score']:.3f}", "white" if share > DARK else "black") if is_finite else ("×", "0.4")
        axes.text(*position, text, ha="center", va="center", color=colour, fontsize=small())
    corner = (columns.index(best[1]) - 0.5, rows.index(best[0]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=CHOSEN_COLOUR, linewidth=2.5, clip_on=False))
    axes.set_xticks(range(len(columns)), [f"{value:.3g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:.3g}" for value in rows])
    axes.set(xlabel="weight decay", ylabel="learning rate")
    axes.spines[:].set_visible(False)
    axes.set_facecolor("0.88")
    add_note(figure, "grey: not tried" + ("; ×: diverged or failed" if points["score"].isna().any() else ""))
    figure.colorbar(image, ax=axes, label="score")
    figure.suptitle(f"Score of {len(points)} pairs; the chosen one is framed")
    return figure


@styled
def _plot_importances(importances: dict[str, float], *, num_trials: int) -> Figure:
    """Bar chart of the importance of each setting."""
    ranked = sorted(importances.items(), key=lambda one: one[1])
    figure = new_figure(6.4, 1.3 + grown(0.3) * max(2, len(ranked)))
    axes = figure.subplots()
    axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=COLOUR, height=0.6)
    for position, (_, share) in enumerate(ranked):
        axes.annotate(f" {share:.2f}", (share, position), va="center", fontsize=small())
    axes.set(xlabel="share of the importance", xlim=(0, 1.08 * max(share for _, share in ranked) + 1e-6))
    axes.grid(visible=True, axis="x")
    figure.suptitle(f"Importance of each setting ({num_trials} trials)")
    return figure

"""Figures of a search: the overfitting check, trials by setting, the heat map of two settings, importances."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from seg_pipeline.segmentation.plotting.style import count_steps, grown, new_figure, small, styled

LOSS_COLOUR, DICE_COLOUR, CHOSEN_COLOUR = "#0072B2", "#D55E00", "#D55E00"
PALEST = 0.88  # of viridis, whose end is too pale for lines
LEGEND_COLUMNS = 6
STEEP = 50.0  # losses that span more than this factor get a logarithmic axis
DARK = 0.6  # share of viridis below which a number on it is white


@styled
def plot_overfit(curve: pd.DataFrame, *, least: float) -> Figure:
    """Loss and Dice over the steps of overfitting a few images; ``least`` is the required Dice.

    ``curve``: step, loss, dice (missing for steps without a validation).
    """
    figure = new_figure(6.4, 2.9)
    loss, dice = figure.subplots(1, 2)
    known = curve.dropna(subset=["dice"]) if len(curve) else curve
    if len(curve):
        loss.plot(curve["step"], curve["loss"], color=LOSS_COLOUR, linewidth=1.2)
        dice.plot(known["step"], known["dice"].astype(float), color=DICE_COLOUR, marker=".", linewidth=1.2)
    dice.axhline(least, color="0.35", linestyle=":", linewidth=1)
    dice.annotate(
        f"required: {least:g}", (0.02, least), xycoords=("axes fraction", "data"), va="bottom", fontsize=small()
    )
    loss.set(title="Loss", xlabel="step", ylabel="loss")
    dice.set(title="Dice", xlabel="step", ylabel="Dice", ylim=(0, 1.05))
    for axes in (loss, dice):
        count_steps(axes)
    best = known["dice"].max() if len(known) else math.nan
    figure.suptitle(f"Overfitting a few images: Dice {best:.3f} after {len(curve)} steps")
    return figure


@styled
def plot_trials(trials: pd.DataFrame, points: pd.DataFrame, name: str, best: object, *, title: str) -> Figure:
    """Losses and validation Dice per epoch, coloured by a setting, and the score over that setting.

    Args:
        trials: one row per epoch and trial: trial, state, ``name``, epoch, train_loss, val_loss, val_dice.
        points: one row per value: ``name``, score (missing if a repeat failed), low, high, repeats, state.
        best: the chosen value, which is marked.
    """
    values = sorted(trials[name].unique())
    figure = new_figure(10.5, 3.5 + 0.2 * math.ceil(len(values) / LEGEND_COLUMNS))
    losses, dice, final = figure.subplots(1, 3)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, PALEST, max(len(values), 1)))
    for colour, value in zip(colours, values, strict=True):
        _draw_value(losses, dice, trials[trials[name] == value], colour, f"{value:.3g}")
    _scale(losses, trials)
    losses.set(title="Loss: train dashed, val solid", ylabel="loss")
    dice.set(title="Dice on val", ylabel="val Dice")
    for axes in (losses, dice):
        axes.set_xlabel("epoch")
        count_steps(axes)
    words = name.rpartition(".")[2].replace("_", " ")
    _draw_points(final, points.sort_values(name), name, best)
    final.set(title="Score (decides the choice)", xlabel=words, ylabel="score")
    figure.legend(*dice.get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS, title=words)
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
    sound, other = points[points["score"].notna()], points[points["score"].isna()]
    spread = np.abs(sound[["low", "high"]].to_numpy(dtype=float).T - sound["score"].to_numpy(dtype=float))
    bars = spread if (sound["repeats"] > 1).any() else None
    axes.errorbar(sound[name], sound["score"], yerr=bars, color=LOSS_COLOUR, marker="o", linewidth=1.2, capsize=3)
    chosen = sound[sound[name] == best]
    axes.plot(chosen[name], chosen["score"], "o", color=CHOSEN_COLOUR, markersize=11, fillstyle="none", label="chosen")
    if len(other):
        floor = axes.get_xaxis_transform()
        axes.plot(other[name], [0.03] * len(other), "x", color="black", transform=floor, label="diverged or failed")
    values = points[name].to_numpy(dtype=float)
    if (values > 0).all():
        axes.set_xscale("log")
    elif len(values) > 1:
        axes.set_xscale("symlog", linthresh=float(values[values > 0].min()))
    axes.set_xticks(values, [f"{value:.3g}" for value in values], rotation=45, ha="right", rotation_mode="anchor")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True)
    axes.legend(loc="best")


@styled
def plot_score_heat_map(points: pd.DataFrame, names: tuple[str, str], best: tuple[float, float]) -> Figure:
    """Heat map of the score over two settings; blank for pairs not tried, a cross for pairs that failed.

    ``points`` has the two ``names`` and score; ``best`` is the chosen pair, which is framed.
    """
    down, across = names
    rows, columns = (sorted(points[name].unique()) for name in names)
    table = points.pivot_table(index=down, columns=across, values="score", aggfunc="first", dropna=False)
    table = table.reindex(index=rows, columns=columns)
    figure = new_figure(grown(2.6) + 0.75 * len(columns), grown(1.7) + 0.42 * len(rows))
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="none")
    image = axes.imshow(np.ma.masked_invalid(table.to_numpy(dtype=float)), cmap=colours, aspect="auto", origin="lower")
    for pair in points.itertuples(index=False):
        value = dict(zip(points.columns, pair, strict=True))
        place = columns.index(value[across]), rows.index(value[down])
        sound = math.isfinite(value["score"])
        share = float(np.asarray(image.norm(value["score"]))) if sound else 1.0
        text, colour = (f"{value['score']:.3f}", "white" if share < DARK else "black") if sound else ("×", "0.4")
        axes.text(*place, text, ha="center", va="center", color=colour, fontsize=small())
    corner = (columns.index(best[1]) - 0.5, rows.index(best[0]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=CHOSEN_COLOUR, linewidth=2.5, clip_on=False))
    axes.set_xticks(range(len(columns)), [f"{value:.3g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:.3g}" for value in rows])
    axes.set(xlabel=across.rpartition(".")[2].replace("_", " "), ylabel=down.rpartition(".")[2].replace("_", " "))
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="score")
    figure.suptitle(f"Score of {len(points)} pairs; the chosen one is framed")
    return figure


@styled
def plot_importances(importances: dict[str, float], *, num_trials: int) -> Figure:
    """Bar chart of the importance of each setting."""
    ranked = sorted(importances.items(), key=lambda one: one[1])
    figure = new_figure(6.4, 1.3 + grown(0.3) * max(2, len(ranked)))
    axes = figure.subplots()
    axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=LOSS_COLOUR, height=0.6)
    for place, (_, share) in enumerate(ranked):
        axes.annotate(f" {share:.2f}", (share, place), va="center", fontsize=small())
    axes.set(xlabel="share of the importance", xlim=(0, 1.08 * max(share for _, share in ranked) + 1e-6))
    axes.grid(visible=True, axis="x")
    figure.suptitle(f"Importance of each setting ({num_trials} trials)")
    return figure

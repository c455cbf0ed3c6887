"""Curves over epochs and learning rates."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seg_pipeline.segmentation.plotting.style import new_figure, styled

TRAIN_COLOUR, VAL_COLOUR, BEST_COLOUR = "#0072B2", "#D55E00", "0.35"
MAX_MARKERS = 30  # more epochs than that are lines without points
PALEST = 0.88  # of viridis, whose end is too pale for lines
MAX_TICKS = 12
LEGEND_COLUMNS = 8
STEEP = 50.0  # losses that span more than this factor get a logarithmic axis


@styled
def plot_history(history: pd.DataFrame) -> Figure:
    """Loss, Dice, pixel accuracy and learning rate over the epochs; the best epoch (val Dice) is marked.

    ``history`` has one row an epoch: epoch (from 1), learning_rate, and train_ and val_ of loss, dice and
    pixel_accuracy; values that are not finite are left out.
    """
    rows = history.replace([np.inf, -np.inf], np.nan)
    figure = new_figure(7.2, 5.2)
    loss, dice, accuracy, rate = figure.subplots(2, 2, sharex=True).flat
    for axes, name, label in [
        (loss, "loss", "loss"),
        (dice, "dice", "Dice"),
        (accuracy, "pixel_accuracy", "pixel accuracy"),
    ]:
        _draw_line(axes, rows, f"train_{name}", color=TRAIN_COLOUR, label="train")
        _draw_line(axes, rows, f"val_{name}", color=VAL_COLOUR, label="val")
        axes.set(title=label[0].upper() + label[1:], ylabel=label)
    _draw_line(rate, rows, "learning_rate", color=TRAIN_COLOUR)
    rate.set(title="Learning rate", ylabel="learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    best = None if _num_folds(rows) > 1 else _best_epoch(rows)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True)
        if best is not None:
            axes.axvline(best["epoch"], color=BEST_COLOUR, linestyle=":", linewidth=1, label="best epoch")
    for axes in (accuracy, rate):
        axes.set_xlabel("epoch")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Training history: {_describe_folds(rows) or _describe_best(best, len(rows))}")
    return figure


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, **look: Any) -> None:
    """Through the epochs that have a value; a line of its own for each fold."""
    known, marker = rows.dropna(subset=[column]), "." if len(rows) <= MAX_MARKERS else ""
    folds = known.groupby(known.get("fold", pd.Series(-1, index=known.index)))
    for number, (_, of_fold) in enumerate(folds):
        label = look.get("label") if number == 0 else None
        axes.plot(of_fold["epoch"], of_fold[column], marker=marker, linewidth=1.2, **(look | {"label": label}))


def _num_folds(rows: pd.DataFrame) -> int:
    return rows["fold"].nunique() if "fold" in rows else 1


def _describe_folds(rows: pd.DataFrame) -> str:
    if _num_folds(rows) < 2:
        return ""
    best = rows.groupby("fold")["val_dice"].max()
    return f"best val Dice of {len(best)} folds {', '.join(f'{dice:.3f}' for dice in best)}"


def _best_epoch(rows: pd.DataFrame) -> pd.Series | None:
    """The row with the highest val Dice, the first of equals."""
    known = rows.dropna(subset=["val_dice"])
    return None if known.empty else known.iloc[int(known["val_dice"].argmax())]


def _describe_best(best: pd.Series | None, num_epochs: int) -> str:
    if best is None:
        return f"{num_epochs} epochs, no val Dice"
    return f"best val Dice {best['val_dice']:.3f} at epoch {best['epoch']:.0f} of {num_epochs}"


@styled
def plot_learning_rates(trials: pd.DataFrame, best: float) -> Figure:
    """Losses and val Dice of each learning rate's trial over the epochs, and the last val Dice over the rate.

    ``trials`` has one row an epoch of a trial: learning_rate, epoch, train_loss, val_loss, val_dice. A trial
    with a loss that is not finite counts as diverged. ``best`` is the rate that was chosen.

    Raises:
        ValueError: no trial has the rate ``best``.
    """
    rates = np.unique(trials["learning_rate"].to_numpy(dtype=float)).tolist()
    by_rate = {rate: trials[trials["learning_rate"] == rate].sort_values("epoch") for rate in rates}
    if not any(_same(rate, best) for rate in rates):
        raise ValueError(f"the chosen learning rate {best:g} is none of the trials' rates {rates}; give one of these")
    figure = new_figure(10.5, 3.7 + 0.18 * math.ceil(len(rates) / LEGEND_COLUMNS))
    losses, dice, final = figure.subplots(1, 3)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, PALEST, len(rates)))
    for colour, (rate, rows) in zip(colours, by_rate.items(), strict=True):
        _draw_trial(losses, dice, rows, colour, rate)
    _scale_losses(losses, trials)
    losses.set(title="Loss: train dashed, val solid", ylabel="loss")
    dice.set(title="Dice on val", ylabel="val Dice")
    for axes in (losses, dice):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True)
    _draw_final(final, by_rate, best)
    figure.legend(
        *dice.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=LEGEND_COLUMNS,
        title="learning rate",
    )
    figure.suptitle(f"Learning rates: {best:.3g} chosen of {len(rates)}")
    return figure


def _same(rate: float, other: float) -> bool:
    return math.isclose(rate, other, rel_tol=1e-6)


def _diverged(rows: pd.DataFrame) -> bool:
    return not np.isfinite(rows[["train_loss", "val_loss"]].to_numpy(dtype=float)).all()


def _draw_trial(losses: Axes, dice: Axes, rows: pd.DataFrame, colour: np.ndarray, rate: float) -> None:
    finite = rows.replace([np.inf, -np.inf], np.nan)
    label = f"{rate:.3g}" + (" (diverged)" if _diverged(rows) else "")
    losses.plot(finite["epoch"], finite["train_loss"], color=colour, linestyle="--", marker=".", linewidth=1)
    losses.plot(finite["epoch"], finite["val_loss"], color=colour, marker=".", linewidth=1.2)
    dice.plot(finite["epoch"], finite["val_dice"], color=colour, marker=".", linewidth=1.2, label=label)


def _scale_losses(axes: Axes, trials: pd.DataFrame) -> None:
    values = trials[["train_loss", "val_loss"]].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() / values.min() > STEEP:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_final(axes: Axes, by_rate: dict[float, pd.DataFrame], best: float) -> None:
    """Last val Dice over the rate; diverged trials are crosses on the floor, as their Dice means nothing."""
    diverged = [rate for rate, rows in by_rate.items() if _diverged(rows)]
    last = {rate: float(rows["val_dice"].iloc[-1]) for rate, rows in by_rate.items() if rate not in diverged}
    axes.plot(list(last), list(last.values()), color=TRAIN_COLOUR, marker="o", linewidth=1.2, label="val Dice")
    chosen = {rate: value for rate, value in last.items() if _same(rate, best)}
    axes.plot(
        list(chosen),
        list(chosen.values()),
        "o",
        color=VAL_COLOUR,
        markersize=11,
        fillstyle="none",
        label="chosen",
    )
    if diverged:
        floor = axes.get_xaxis_transform()
        axes.plot(diverged, [0.03] * len(diverged), "x", color="black", transform=floor, label="diverged")
    axes.set(xscale="log", title="Val Dice at the last epoch", xlabel="learning rate", ylabel="val Dice")
    ticks = _spread(list(by_rate))
    axes.set_xticks(ticks, [f"{rate:.3g}" for rate in ticks], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xticks([], minor=True)
    axes.grid(visible=True)
    axes.legend(loc="best")


def _spread(rates: list[float]) -> list[float]:
    """The ascending rates without those too near to the last one kept for a tick of their own."""
    least = math.log(rates[-1] / rates[0]) / MAX_TICKS
    kept = rates[:1]
    for rate in rates[1:]:
        if math.log(rate / kept[-1]) >= least:
            kept.append(rate)
    return kept

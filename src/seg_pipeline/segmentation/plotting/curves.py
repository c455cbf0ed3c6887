"""Curves of a training per epoch, and of overfitting a few images per step."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seg_pipeline.segmentation.plotting.style import class_colours, count_steps, new_figure, small, styled

TRAIN_COLOUR, VAL_COLOUR, BEST_COLOUR = "#0072B2", "#D55E00", "0.35"
MAX_LINES = 12
MAX_MARKERS = 30  # with more epochs, lines have no markers


@styled
def plot_history(history: pd.DataFrame) -> Figure:
    """Loss, Dice, pixel accuracy and learning rate per epoch; the best epoch (validation Dice) is marked.

    ``history`` has one row per epoch: epoch (from 1), learning_rate, and loss, dice and pixel_accuracy with the
    prefixes train_ and val_. Values that are not finite are left out. With cross-validation there is one line per fold.
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
        count_steps(axes)
        if best is not None:
            axes.axvline(best["epoch"], color=BEST_COLOUR, linestyle=":", linewidth=1, label="best epoch")
    for axes in (accuracy, rate):
        axes.set_xlabel("epoch")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Training curves: {_describe_folds(rows) or _describe_best(best, len(rows))}")
    return figure


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, **style: Any) -> None:
    """A line through the epochs that have a value; one per fold."""
    defined, marker = rows.dropna(subset=[column]), "." if len(rows) <= MAX_MARKERS else ""
    folds = defined.groupby(defined.get("fold", pd.Series(-1, index=defined.index)))
    for number, (_, fold_rows) in enumerate(folds):
        label = style.get("label") if number == 0 else None
        axes.plot(fold_rows["epoch"], fold_rows[column], marker=marker, linewidth=1.2, **(style | {"label": label}))


def _num_folds(rows: pd.DataFrame) -> int:
    return rows["fold"].nunique() if "fold" in rows else 1


def _describe_folds(rows: pd.DataFrame) -> str:
    if _num_folds(rows) < 2:
        return ""
    best = rows.groupby("fold")["val_dice"].max()
    return f"best val Dice of {len(best)} folds {', '.join(f'{dice:.3f}' for dice in best)}"


def _best_epoch(rows: pd.DataFrame) -> pd.Series | None:
    """The first row with the highest validation Dice."""
    defined = rows.dropna(subset=["val_dice"])
    return None if defined.empty else defined.iloc[int(defined["val_dice"].argmax())]


def _describe_best(best: pd.Series | None, num_epochs: int) -> str:
    if best is None:
        return f"{num_epochs} epochs, no val Dice"
    return f"best val Dice {best['val_dice']:.3f} at epoch {best['epoch']:.0f} of {num_epochs}"


@styled
def plot_object_scores(classes: Mapping[str, Any]) -> Figure:
    """F1 of objects against the IoU threshold of a match, one line per class.

    ``classes`` maps each class name to its object scores, of which "by_threshold" is drawn. At most ``MAX_LINES``
    classes are shown: those with the most objects.
    """
    shown = sorted(classes, key=lambda name: -classes[name]["num_true"])[:MAX_LINES]
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    for position, (name, colour) in enumerate(zip(classes, class_colours(len(classes)), strict=True)):
        if name not in shown:
            continue
        curve = classes[name]["by_threshold"]
        values = [math.nan if counts["f1"] is None else counts["f1"] for counts in curve.values()]
        axes.plot(
            [float(threshold) for threshold in curve],
            values,
            color=f"#{bytes(colour).hex()}",
            marker="os^Dv"[position % 5],
            markersize=4,
            linewidth=1.2,
            label=f"{name} ({classes[name]['num_true']:,} objects)",
        )
    axes.set(xlabel="IoU above which a pair matches", ylabel="F1", ylim=(-0.03, 1.03))
    axes.grid(visible=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(shown)))
    figure.suptitle("F1 of objects against the IoU threshold")
    return figure


@styled
def plot_overfit(curve: pd.DataFrame, *, required: float) -> Figure:
    """Loss and Dice over the steps of overfitting a few images; ``required`` is the Dice to reach.

    ``curve``: step, loss, dice (missing for steps without a validation).
    """
    figure = new_figure(6.4, 2.9)
    loss, dice = figure.subplots(1, 2)
    defined = curve.dropna(subset=["dice"]) if len(curve) else curve
    if len(curve):
        loss.plot(curve["step"], curve["loss"], color=TRAIN_COLOUR, linewidth=1.2)
        dice.plot(defined["step"], defined["dice"].astype(float), color=VAL_COLOUR, marker=".", linewidth=1.2)
    dice.axhline(required, color="0.35", linestyle=":", linewidth=1)
    dice.annotate(
        f"required: {required:g}",
        (0.02, required),
        xycoords=("axes fraction", "data"),
        va="bottom",
        fontsize=small(),
    )
    loss.set(title="Loss", xlabel="step", ylabel="loss")
    dice.set(title="Dice", xlabel="step", ylabel="Dice", ylim=(0, 1.05))
    for axes in (loss, dice):
        count_steps(axes)
    best = defined["dice"].max() if len(defined) else math.nan
    figure.suptitle(f"Overfitting a few images: Dice {best:.3f} after {len(curve)} steps")
    return figure

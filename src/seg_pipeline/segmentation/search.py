"""Which learning rate to train with: short runs from equal weights, compared on validation Dice."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import pandas as pd

from seg_pipeline.segmentation.processes import TrainingFailed
from seg_pipeline.segmentation.recipe import Recipe

log = logging.getLogger(__name__)


def search_learning_rates(
    recipe: Recipe, rates: list[float], *, epochs: int, run: Callable[[Recipe], Iterator[dict]]
) -> pd.DataFrame:
    """Trials: a row an epoch of each rate: trial, diverged, and what a history row has.

    Args:
        recipe: of the runs, but for learning rate and epochs.
        rates: peak learning rates, tried in rising order.
        epochs: of each run.
        run: trains a recipe from the start, yielding its history rows. TrainingFailed (its loss is no longer a
            number) ends that trial, which is marked as diverged.
    """
    rows: list[dict] = []
    for trial, rate in enumerate(sorted(rates), start=1):
        short = recipe.changed({"optimizer.learning_rate": rate, "fit.epochs": epochs})
        rows += _trial_rows(run(short), trial, rate)
        log.info("learning rate %.2g: validation Dice %.3f", rate, rows[-1]["val_dice"])
    return pd.DataFrame(rows)


def _trial_rows(history: Iterator[dict], trial: int, rate: float) -> Iterator[dict]:
    about = {"trial": trial, "learning_rate": rate}
    epoch = 0
    try:
        for row in history:
            epoch = row["epoch"]
            yield row | about | {"diverged": False}
    except TrainingFailed as error:
        log.warning("learning rate %.2g: %s", rate, error)
        nothing = dict.fromkeys(("train_loss", "val_loss", "val_dice"), math.nan)
        yield {"epoch": epoch + 1, **nothing, **about, "diverged": True}


def best_rate(trials: pd.DataFrame) -> dict:
    """The rate whose trial ended with the highest validation Dice, and why, in words.

    Raises:
        ValueError: every trial diverged.
    """
    last = trials.groupby("trial").last()
    sound = last[~last["diverged"] & last["val_dice"].notna()]
    if sound.empty:
        raise ValueError(
            f"training diverged at every learning rate tried ({', '.join(f'{r:g}' for r in last['learning_rate'])}); "
            "add lower ones under `hparam_search.learning_rates`"
        )
    best = sound.sort_values("val_dice", kind="stable").iloc[-1]
    reason = f"highest validation Dice ({best['val_dice']:.3f}) after {int(best['epoch'])} epochs of {len(last)} rates"
    if best["learning_rate"] in (last["learning_rate"].min(), last["learning_rate"].max()):
        reason += "; it lies at the grid's edge, so a rate beyond may do better"
    return {
        "learning_rate": float(best["learning_rate"]),
        "val_dice": float(best["val_dice"]),
        "reason": reason,
    }

"""Compare trials: their scores, the mean over repeats, the best point, and the reason in words."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.settings.search import GridSettings, Rule
from seg_pipeline.segmentation.settings.training_config import TrainingConfig, base_hash

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
WORDS = {"dice": "validation Dice", "loss": "validation loss"}
NOT_SETTINGS = ("trial", "step", "repeat", "seed", "state", "reason")


def row_score(row: dict, rule: Rule) -> float | None:
    """Score of an epoch, higher is better; None for an epoch without validation."""
    value = row["val_dice"] if rule == "dice" else -row["val_loss"]
    return None if math.isnan(value) else value


def trial_score(rows: pd.DataFrame, grid: GridSettings) -> float | None:
    """Mean score of a trial's last ``average_last_validations`` validations; higher is better."""
    values = (rows["val_dice"] if grid.choose_by == "dice" else -rows["val_loss"]).dropna()
    return None if values.empty else float(values.tail(grid.average_last_validations).mean())


def searched_names(trials: pd.DataFrame) -> list[str]:
    """Dotted names of the searched settings in a table of trials."""
    columns = list(map(str, trials))
    return columns[len(NOT_SETTINGS) : columns.index("epoch")]


def points(trials: pd.DataFrame, grid: GridSettings) -> pd.DataFrame:
    """One row per point (trials with equal settings): score (mean of repeats), low, high, repeats, sound, trial, step.

    A point is sound if all its repeats were trained to the end; otherwise it has no score.
    """
    names = searched_names(trials)
    rows = []
    for trial, of_trial in trials.groupby("trial", sort=True):
        first = of_trial.iloc[0]
        score = trial_score(of_trial, grid) if first["state"] == "complete" else None
        settings = json.dumps([plain(first[name]) for name in names])
        about = {name: first[name] for name in (*names, "step", "state")}
        rows.append({**about, "settings": settings, "trial": trial, "score": math.nan if score is None else score})
    if not rows:
        return pd.DataFrame(columns=[*names, "step", "state", "trial", "score", "low", "high", "repeats", "sound"])
    grouped = pd.DataFrame(rows).groupby("settings", sort=False)
    table = grouped.first()
    table["score"] = grouped["score"].agg(lambda scores: scores.mean(skipna=False))
    table["low"], table["high"], table["repeats"] = grouped["score"].min(), grouped["score"].max(), grouped.size()
    table["sound"] = table["score"].notna()
    return table.reset_index(drop=True)


def best_point(table: pd.DataFrame) -> pd.Series:
    """The sound point with the highest score; the first one in a tie.

    Raises:
        ValueError: no point is sound.
    """
    sound = table[table["sound"]]
    if sound.empty:
        how = ", ".join(f"{number} {state}" for state, number in table["state"].value_counts().items())
        raise ValueError(
            f"no trial of the search was trained to the end ({how or 'none was started'}); add lower rates to "
            "`hparam_search.grid.learning_rates`, or see the column `reason` of search_trials"
        )
    return sound.sort_values("score", ascending=False, kind="stable").iloc[0]


def at_edge(values: Sequence[float], best: float) -> int:
    """-1 if the best of several values is the lowest, 1 if it is the highest, else 0."""
    if len(values) < 2:
        return 0
    return -1 if best <= min(values) else int(best >= max(values))


def best_hyperparameters(trials: pd.DataFrame, config: TrainingConfig, grid: GridSettings, *, data_hash: str) -> dict:
    """The values to train with, and why. Keys: values, val_dice, epochs, reason, data_hash, base.

    ``config`` is that of the long training, from which the ``trials`` differ.

    Raises:
        ValueError: no trial was trained to the end.
    """
    table = points(trials, grid)
    best = best_point(table)
    values = {name: plain(best[name]) for name in searched_names(trials)}
    of_best = trials[trials["trial"] == best["trial"]]
    dice = points(trials, replace(grid, choose_by="dice"))
    return {
        "values": values,
        "val_dice": float(dice.loc[dice["trial"] == best["trial"], "score"].iloc[0]),
        "epochs": int(of_best["epoch"].max()),
        "reason": _reason(table, best, trials, grid),
        "data_hash": data_hash,
        "base": base_hash(config, values),
    }


def _reason(table: pd.DataFrame, best: pd.Series, trials: pd.DataFrame, grid: GridSettings) -> str:
    last = trials[trials["trial"] == best["trial"]]["epoch"].max()
    score = best["score"] if grid.choose_by == "dice" else -best["score"]
    over = min(grid.average_last_validations, last)
    text = f"{'highest' if grid.choose_by == 'dice' else 'lowest'} {WORDS[grid.choose_by]} ({score:.3f}"
    text += (
        f", mean of the last {over} of {last} epochs" if over > 1 else f" after {last} epoch{'' if last == 1 else 's'}"
    )
    if best["repeats"] > 1:
        low, high = sorted(abs(best[["low", "high"]]))
        text += f" and of {best['repeats']} repeats, {low:.3f} to {high:.3f}"
    text += f") of {len(table)} point{'' if len(table) == 1 else 's'}"
    others = table[table["sound"] & (table["trial"] != best["trial"])]
    if not others.empty:
        text += f"; the next best is {best['score'] - others['score'].max():.3f} behind"
    for name, words in ((RATE, "learning rate"), (DECAY, "weight decay")):
        text += _edge_words(table, best, name, words)
    for state in ("diverged", "pruned", "failed"):
        text += f"; {number} {state}" if (number := int((table["state"] == state).sum())) else ""
    return text


def _edge_words(table: pd.DataFrame, best: pd.Series, name: str, words: str) -> str:
    if name not in table or best["step"] == "tpe":
        return ""
    tried = table.loc[(table["step"] != "tpe") & table["sound"], name].dropna().unique().tolist()
    side = at_edge(tried, best[name])
    if not side:
        return ""
    beyond = table.loc[~table["sound"], name].dropna()
    if side > 0 and (beyond > best[name]).any():
        return f"; the next higher {words} diverged"
    edge = "upper" if side > 0 else "lower"
    return f"; the {words} is at the {edge} edge of the grid, so a value beyond it may be better"


def plain(value: object) -> Any:
    """The setting that a cell of the table holds; the inverse of ``cell``, with a missing cell for null."""
    if isinstance(value, str):
        return json.loads(value) if value[:1] in ("[", "{") else value
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def cell(value: Any) -> Any:
    """A setting as a cell of the table, which allows no lists: they become JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value

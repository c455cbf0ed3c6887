"""Compare trials: their scores, the mean over repeats, the best point, and the reason as text."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.settings.search import GridSettings, Rule
from seg_pipeline.segmentation.settings.training_config import TrainingConfig, base_hash

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
SCORE_NAMES = {"dice": "validation Dice", "loss": "validation loss"}
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
    """One row per point (trials with equal settings): score (mean of repeats), low, high, repeats, complete, trial, ...

    A point is complete if all its repeats were trained to the end; otherwise it has no score.
    """
    names = searched_names(trials)
    rows = []
    for trial, rows_of_trial in trials.groupby("trial", sort=True):
        first = rows_of_trial.iloc[0]
        score = trial_score(rows_of_trial, grid) if first["state"] == "complete" else None
        settings = json.dumps([from_cell(first[name]) for name in names])
        columns = {name: first[name] for name in (*names, "step", "state")}
        rows.append({**columns, "settings": settings, "trial": trial, "score": math.nan if score is None else score})
    if not rows:
        return pd.DataFrame(columns=[*names, "step", "state", "trial", "score", "low", "high", "repeats", "complete"])
    grouped = pd.DataFrame(rows).groupby("settings", sort=False)
    table = grouped.first()
    table["score"] = grouped["score"].agg(lambda scores: scores.mean(skipna=False))
    table["low"], table["high"], table["repeats"] = grouped["score"].min(), grouped["score"].max(), grouped.size()
    table["complete"] = table["score"].notna()
    return table.reset_index(drop=True)


def best_point(table: pd.DataFrame) -> pd.Series:
    """The complete point with the highest score; the first one in a tie.

    Raises:
        ValueError: no point is complete.
    """
    complete = table[table["complete"]]
    if complete.empty:
        states = ", ".join(f"{number} {state}" for state, number in table["state"].value_counts().items())
        raise ValueError(
            f"no trial of the search was trained to the end ({states or 'none was started'}); add lower rates to "
            "`hparam_search.grid.learning_rates`, or see the column `reason` of search_trials"
        )
    return complete.sort_values("score", ascending=False, kind="stable").iloc[0]


def at_edge(values: Sequence[float], best: float) -> int:
    """-1 if the best of several values is the lowest, 1 if it is the highest, else 0."""
    if len(values) < 2:
        return 0
    return -1 if best <= min(values) else int(best >= max(values))


def best_hyperparameters(trials: pd.DataFrame, config: TrainingConfig, grid: GridSettings, *, data_hash: str) -> dict:
    """The values to train with, and why. Keys: values, val_dice, epochs, reason, data_hash, base.

    ``config`` is the config of the long training, which the ``trials`` changed.

    Raises:
        ValueError: no trial was trained to the end.
    """
    table = points(trials, grid)
    best = best_point(table)
    values = {name: from_cell(best[name]) for name in searched_names(trials)}
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
    averaged = min(grid.average_last_validations, last)
    text = f"{'highest' if grid.choose_by == 'dice' else 'lowest'} {SCORE_NAMES[grid.choose_by]} ({score:.3f}"
    text += (
        f", mean of the last {averaged} of {last} epochs"
        if averaged > 1
        else f" after {last} epoch{'' if last == 1 else 's'}"
    )
    if best["repeats"] > 1:
        low, high = sorted(abs(best[["low", "high"]]))
        text += f" and of {best['repeats']} repeats, {low:.3f} to {high:.3f}"
    text += f") of {len(table)} point{'' if len(table) == 1 else 's'}"
    others = table[table["complete"] & (table["trial"] != best["trial"])]
    if not others.empty:
        text += f"; the next best is {best['score'] - others['score'].max():.3f} behind"
    for name, label in ((RATE, "learning rate"), (DECAY, "weight decay")):
        text += _edge_note(table, best, name, label)
    for state in ("diverged", "pruned", "failed"):
        text += f"; {number} {state}" if (number := int((table["state"] == state).sum())) else ""
    return text


def _edge_note(table: pd.DataFrame, best: pd.Series, name: str, label: str) -> str:
    if name not in table or best["step"] == "tpe":
        return ""
    tried = table.loc[(table["step"] != "tpe") & table["complete"], name].dropna().unique().tolist()
    side = at_edge(tried, best[name])
    if not side:
        return ""
    failed = table.loc[~table["complete"], name].dropna()
    if side > 0 and (failed > best[name]).any():
        return f"; the next higher {label} diverged"
    edge = "upper" if side > 0 else "lower"
    return f"; the {label} is at the {edge} edge of the grid, so a value beyond it may be better"


def from_cell(value: object) -> Any:
    """The setting in a cell of the table; the inverse of ``to_cell``. A missing cell is null."""
    if isinstance(value, str):
        return json.loads(value) if value[:1] in ("[", "{") else value
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def to_cell(value: Any) -> Any:
    """A setting as a cell of the table; lists, which a table cannot hold, become JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value

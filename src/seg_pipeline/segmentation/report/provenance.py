"""How the model was made, for the report: training, search, settings, and how to reproduce them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from seg_pipeline import __version__
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.report.results import Results, listed, plural, score
from seg_pipeline.segmentation.settings.training_config import flat


def provenance_section(results: Results) -> dict[str, Any]:
    """Template values for training, search, settings and reproduction."""
    return {
        "search": _search(results),
        "epochs": _epochs(results),
        "chosen": _chosen(results.postprocessing),
        "settings": [(name, json.dumps(value)) for name, value in flat(results.training_config or {}).items()],
        "command": results.run_command,
        "hashes": list(hashes(results)),
    }


def _epochs(results: Results) -> str:
    best, history = results.best_epoch(), results.training_history
    if best is None or history is None:
        return ""
    took = f" in {history['seconds'].sum() / 60:,.1f} minutes" if "seconds" in history else ""
    return (
        f"{plural(len(history), 'epoch')}{took}. The best is epoch {best['epoch']:.0f}: Dice {score(best['val_dice'])} "
        f"on the validation split, {score(best['train_dice'])} on the training images, at the network's size."
    )


def _chosen(postprocessing: dict | None) -> str:
    """Which postprocessing steps were kept, and on how many images that was decided."""
    if postprocessing is None:
        return ""
    tried = postprocessing["gains"]
    kept = [f"{one['step']} {_short(one['value'])} ({one['class']})" for one in tried if one["kept"]]
    images = plural(postprocessing["num_images"], "validation image")
    outcome = f"kept: {listed(kept)}" if kept else "none was kept"
    return (
        f"Of {plural(len(tried), 'step')} tried on {images}, each for one class, {outcome}. {postprocessing['rule']} "
        f"The intervals resample {postprocessing['resampled']}; the test split was not used."
    )


def _search(results: Results) -> dict[str, Any] | None:
    """What the search chose and why, and its validation Dice beside that of the final training."""
    found, best = results.best_hyperparameters, results.best_epoch()
    if found is None:
        return None
    after = f" after {plural(int(found['epochs']), 'epoch')}" if found.get("epochs") else ""
    reached = f" The final training reached {score(best['val_dice'])} at epoch {best['epoch']:.0f}." if best else ""
    used = flat(results.training_config or {})
    return {
        "reason": found["reason"],
        "outcome": f"Its best trial had validation Dice {score(found['val_dice'])}{after}.{reached}",
        "rows": [(name, _short(value), used.get(name) == value) for name, value in found.get("values", {}).items()],
    }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def hashes(results: Results) -> Iterator[tuple[str, str]]:
    """Names and hashes to compare data, settings, weights and versions with."""
    yield "data: pixels, masks, splits", data_hash(results.manifest)
    if results.training_config is not None:
        yield "settings", hashlib.sha256(json.dumps(results.training_config, sort_keys=True).encode()).hexdigest()
    if results.checkpoint_sha256 is not None:
        yield "checkpoint.pt", results.checkpoint_sha256.split()[0]
    yield "versions", f"seg_pipeline {__version__}, pandas {pd.__version__}"

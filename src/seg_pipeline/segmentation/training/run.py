"""Run or resume a training: one model, or one per fold, in one process or several."""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.models.features import with_features
from seg_pipeline.segmentation.models.input_check import fewest_images
from seg_pipeline.segmentation.models.trained_weights import check_fit, seen_before, seen_images, with_file_hashes
from seg_pipeline.segmentation.settings.checkpoint_content import check_resumable
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training import distributed, epoch
from seg_pipeline.segmentation.training.auto_settings import resolve_auto_settings
from seg_pipeline.segmentation.training.devices import autocast, pick_device, pick_precision
from seg_pipeline.segmentation.training.epoch import line
from seg_pipeline.segmentation.training.state import HISTORY, restore, start
from seg_pipeline.segmentation.training.step import smallest_part

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """What a training saves: plain values and tensors, and the history as a table."""

    last: dict
    """State to resume the training from."""
    best: dict
    """The best models so far: config, data_hash and models (one per fold, or one), each with config, row, model."""
    history: pd.DataFrame
    """One row per epoch, as ``TrainState.history``, with the column fold (from 0; -1 without folds)."""


def train(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    *,
    folds: int | None = None,
    saved: dict | None = None,
    cache_folder: Path | None = None,
) -> Iterator[Saved]:
    """Train, and yield what to save after every epoch, and within an epoch after ``compute.save_minutes``.

    Args:
        manifest: manifest with the column split, and fold if ``folds`` is given.
        config: settings of each model.
        compute: settings that cannot change the result.
        folds: number of models to train, each validated on one fold of the train and val images; None: one model
            on the split.
        saved: ``Saved.last`` of an unfinished training to resume.
        cache_folder: folder for decoded images.

    Raises:
        ValueError: ``saved`` has other settings or data, the manifest lacks folds, or ``make_loaders`` raises it.
        TrainingFailed: see ``epoch.fit``.
    """
    config = with_file_hashes(config)
    about = {"config": config.to_dict(), "data_hash": data_hash(manifest, folds=folds is not None), "folds": folds}
    models, rows, current = _taken_up(about, saved)
    for fold in range(len(models), folds or 1):
        part, config = _of_fold(manifest, config, fold, folds)
        images = seen_images(part, config)
        told = len(current["history"]) if current else 0
        for state in train_one(part, config, compute, current, cache_folder):
            if len(state["history"]) > told:
                told = len(state["history"])
                log.info("%s%s", f"fold {fold + 1}/{folds}, " if folds else "", line(state["history"][-1], config.fit))
            best = [*models, {"config": state["config"], "images": images, **(state["best"] or _untrained(state))}]
            history = [*rows, *({"fold": -1 if folds is None else fold, **row} for row in state["history"])]
            yield Saved(
                {**about, "models": models, "rows": rows, "current": state},
                {**about, "models": best},
                pd.DataFrame(history, columns=["fold", *HISTORY]),
            )
        models, rows, current = best, history, None


def _taken_up(about: dict, saved: dict | None) -> tuple[list[dict], list[dict], dict | None]:
    """Return the finished models, their history rows, and the state of the model in training."""
    if saved is None:
        return [], [], None
    mine, theirs = TrainingConfig.from_dict(about["config"]), check_resumable(saved)
    differences = mine.differences(theirs)
    differences += ["data or splits"] * (saved["data_hash"] != about["data_hash"])
    differences += [f"folds: {about['folds']}, there {saved['folds']}"] * (saved["folds"] != about["folds"])
    done = f"{len(saved['current']['history'])} of {theirs.fit.epochs} epochs"
    if about["folds"]:
        done += f" of fold {len(saved['models']) + 1} of {about['folds']}"
    if not differences:
        log.info("training: %s are done, with these settings and data", done)
        return saved["models"], saved["rows"], saved["current"]
    if saved["current"]["finished"] and len(saved["models"]) + 1 == (saved["folds"] or 1):
        log.info("training: starts from scratch, as the last run (finished) differs in %s", "; ".join(differences))
        return [], [], None
    raise ValueError(
        f"an unfinished training run ({done}) has other settings: {'; '.join(differences)}. "
        "Set them back to resume it, or start from scratch with `--params training.resume=false`"
    )


def check_start(manifest: pd.DataFrame, config: TrainingConfig, *, folds: int | None, allowed: bool) -> None:
    """Check that the trained weights that ``config`` starts from fit, and have not seen what the scores rest on.

    Args:
        manifest: manifest with all splits.
        folds: see ``train``.
        allowed: log a warning of images that they have seen.

    Raises:
        ValueError: the weights do not fit, or have seen test images, or have trained on validation images.
    """
    if config.start.checkpoint is None:
        return
    check_fit(config, folds)
    for fold in range(folds or 1):
        found = seen_before(*_of_fold(manifest, config, fold, folds))
        told = f"{config.start.checkpoint} has seen {' and '.join(found)}, so their scores would be too good"
        if found and not allowed:
            raise ValueError(
                f"`training.start_from`: {told}. Give them the split that they had there "
                "(`data_processing.split.method: table`), leave them out (`excluded_images`), or set "
                "`training.allow_leakage: true`"
            )
        if found:
            log.warning("%s (`training.allow_leakage`)", told)


def _of_fold(
    manifest: pd.DataFrame, config: TrainingConfig, fold: int, folds: int | None
) -> tuple[pd.DataFrame, TrainingConfig]:
    """Splits and config of one model; each fold starts from its own model of a checkpoint with folds."""
    if folds is None:
        return manifest, config
    return fold_split(manifest, fold, folds), config.changed({"start.model": fold} if config.start.checkpoint else {})


def _untrained(state: dict) -> dict:
    """Placeholder for the best epoch until the first one has ended."""
    return {"row": {"epoch": 0}, "model": state["mean"] or state["model"]}


def train_one(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    saved: dict | None,
    cache_folder: Path | None,
) -> Iterator[dict]:
    """Train one model, and yield the states to save, as often as ``train`` does.

    ``saved`` is such a state to resume from; a finished one is yielded at once.
    """
    if saved is not None and saved["finished"]:
        yield saved
        return
    device = pick_device(compute.device)
    fewest = fewest_images(config)
    if saved is None:
        config = resolve_auto_settings(config, manifest, device, processes=compute.processes)
        if compute.processes == 1 or device.type == "cpu":  # GPUs have batch norm over all of them
            number = int((manifest["split"] == "train").sum()) // compute.processes
            check_parts(config, number, fewest, compute.processes)
    if compute.processes > 1:
        yield from distributed.train_together(manifest, config, compute, saved, cache_folder)
        return
    state = restore(saved, device) if saved else start(config, data_hash(manifest), device)
    loaders = make_loaders(manifest, state.config, compute, device=device, cache_folder=cache_folder)
    models, precision = dict.fromkeys((state.model, state.judged)), pick_precision(config.fit.precision, device)
    loaders = with_features(
        loaders,
        list(models),
        state.config,
        compute,
        device=device,
        folder=cache_folder,
        autocast=partial(autocast, device, precision),
    )
    with contextlib.closing(loaders):
        for _ in epoch.fit(state, loaders, save_minutes=compute.save_minutes):
            yield state.to_dict()


def check_parts(config: TrainingConfig, num_images: int, fewest: int, processes: int) -> None:
    """Raise ValueError if batch norm would have a single value per channel in a step."""
    sampling = config.sampling
    assert not isinstance(sampling.batch_size, str)
    batch = max(1, min(sampling.batch_size // processes, num_images))
    if smallest_part(batch, sampling.micro_batch_size or batch) < fewest:
        model, (height, width) = config.model, config.input.size
        raise ValueError(
            f"`training.sampling`: a step computes a single image at once, and batch norm in {model.architecture} with "
            f"{model.encoder} then has one value per channel at {height} x {width}; set `batch_size` and "
            "`micro_batch_size` to 2 or more per process, or a larger `training.input.size`"
        )


def fold_split(manifest: pd.DataFrame, fold: int, folds: int) -> pd.DataFrame:
    """Return the manifest with one fold as val split and the others as train split; test is unchanged.

    Raises:
        ValueError: the manifest does not have these folds.
    """
    there = sorted(set(manifest.get("fold", pd.Series(dtype=int))) - {-1})
    if there != list(range(folds)):
        raise ValueError(
            f"training.folds: {folds}, but the manifest has {len(there)} folds; set "
            f"`data_processing.split.folds: {folds}` and run data_processing again"
        )
    split = manifest["split"].where(manifest["fold"] < 0, "train").mask(manifest["fold"] == fold, "val")
    return manifest.assign(split=split)

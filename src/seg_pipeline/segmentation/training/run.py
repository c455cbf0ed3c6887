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
from seg_pipeline.segmentation.models.input_check import min_batch_size
from seg_pipeline.segmentation.models.trained_weights import check_fit, find_leaks, seen_images, with_file_hashes
from seg_pipeline.segmentation.settings.checkpoint_content import check_resumable
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training import distributed, epoch
from seg_pipeline.segmentation.training.auto_settings import resolve_auto_settings
from seg_pipeline.segmentation.training.devices import autocast, pick_device, pick_precision
from seg_pipeline.segmentation.training.epoch import format_row
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
    header = {"config": config.to_dict(), "data_hash": data_hash(manifest, folds=folds is not None), "folds": folds}
    models, rows, current = _resume_point(header, saved)
    for fold in range(len(models), folds or 1):
        fold_manifest, config = _fold_data(manifest, config, fold, folds)
        images = seen_images(fold_manifest, config)
        num_logged = len(current["history"]) if current else 0
        for state in train_one_model(fold_manifest, config, compute, current, cache_folder):
            if len(state["history"]) > num_logged:
                num_logged = len(state["history"])
                log.info(
                    "%s%s", f"fold {fold + 1}/{folds}, " if folds else "", format_row(state["history"][-1], config.fit)
                )
            best = [*models, {"config": state["config"], "images": images, **(state["best"] or _initial_best(state))}]
            history = [*rows, *({"fold": -1 if folds is None else fold, **row} for row in state["history"])]
            yield Saved(
                {**header, "models": models, "rows": rows, "current": state},
                {**header, "models": best},
                pd.DataFrame(history, columns=["fold", *HISTORY]),
            )
        models, rows, current = best, history, None


def _resume_point(header: dict, saved: dict | None) -> tuple[list[dict], list[dict], dict | None]:
    """Return the finished models, their history rows, and the state of the model in training."""
    if saved is None:
        return [], [], None
    current_config, saved_config = TrainingConfig.from_dict(header["config"]), check_resumable(saved)
    differences = current_config.differences(saved_config)
    differences += ["data or splits"] * (saved["data_hash"] != header["data_hash"])
    differences += [f"folds: {header['folds']}, there {saved['folds']}"] * (saved["folds"] != header["folds"])
    progress = f"{len(saved['current']['history'])} of {saved_config.fit.epochs} epochs"
    if header["folds"]:
        progress += f" of fold {len(saved['models']) + 1} of {header['folds']}"
    if not differences:
        log.info("training: %s are done, with these settings and data", progress)
        return saved["models"], saved["rows"], saved["current"]
    if saved["current"]["finished"] and len(saved["models"]) + 1 == (saved["folds"] or 1):
        log.info("training: starting from scratch, as the last run (finished) differs in %s", "; ".join(differences))
        return [], [], None
    raise ValueError(
        f"an unfinished training run ({progress}) has other settings: {'; '.join(differences)}. "
        "Set them back to resume it, or start from scratch with `--params training.resume=false`"
    )


def check_start(manifest: pd.DataFrame, config: TrainingConfig, *, folds: int | None, allowed: bool) -> None:
    """Check that the weights that ``config`` starts from fit, and were not trained on images that are scored.

    Args:
        manifest: manifest with all splits.
        folds: see ``train``.
        allowed: only log a warning if they have seen such images.

    Raises:
        ValueError: the weights do not fit, or have seen test images, or have trained on validation images.
    """
    if config.start.checkpoint is None:
        return
    check_fit(config, folds)
    for fold in range(folds or 1):
        leaks = find_leaks(*_fold_data(manifest, config, fold, folds))
        problem = f"{config.start.checkpoint} has seen {' and '.join(leaks)}, so their scores would be too good"
        if leaks and not allowed:
            raise ValueError(
                f"`training.start_from`: {problem}. Give these images the split that they had there "
                "(`data_processing.split.method: table`), leave them out (`excluded_images`), or set "
                "`training.allow_leakage: true`"
            )
        if leaks:
            log.warning("%s (`training.allow_leakage`)", problem)


def _fold_data(
    manifest: pd.DataFrame, config: TrainingConfig, fold: int, folds: int | None
) -> tuple[pd.DataFrame, TrainingConfig]:
    """Splits and config of one model; each fold starts from its own model of a checkpoint with folds."""
    if folds is None:
        return manifest, config
    return fold_split(manifest, fold, folds), config.changed({"start.model": fold} if config.start.checkpoint else {})


def _initial_best(state: dict) -> dict:
    """Placeholder for the best epoch until the first one has ended."""
    return {"row": {"epoch": 0}, "model": state["mean"] or state["model"]}


def train_one_model(
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
    min_images = min_batch_size(config)
    if saved is None:
        config = resolve_auto_settings(config, manifest, device, processes=compute.processes)
        if compute.processes == 1 or device.type == "cpu":  # several GPUs synchronise batch norm
            num_images = int((manifest["split"] == "train").sum()) // compute.processes
            check_batch_norm(config, num_images, min_images, compute.processes)
    if compute.processes > 1:
        yield from distributed.train_distributed(manifest, config, compute, saved, cache_folder)
        return
    state = restore(saved, device) if saved else start(config, data_hash(manifest), device)
    loaders = make_loaders(manifest, state.config, compute, device=device, cache_folder=cache_folder)
    models, precision = dict.fromkeys((state.model, state.eval_model)), pick_precision(config.fit.precision, device)
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


def check_batch_norm(config: TrainingConfig, num_images: int, min_images: int, processes: int) -> None:
    """Raise ValueError if batch norm would have a single value per channel in a step."""
    sampling = config.sampling
    assert not isinstance(sampling.batch_size, str)
    batch = max(1, min(sampling.batch_size // processes, num_images))
    if smallest_part(batch, sampling.micro_batch_size or batch) < min_images:
        model, (height, width) = config.model, config.input.size
        raise ValueError(
            "`training.sampling`: a step computes a single image at a time, which leaves batch norm in "
            f"{model.architecture} with {model.encoder} one value per channel at {height} x {width}; set `batch_size` "
            "and `micro_batch_size` to 2 or more per process, or a larger `training.input.size`"
        )


def fold_split(manifest: pd.DataFrame, fold: int, folds: int) -> pd.DataFrame:
    """Return the manifest with one fold as val split and the others as train split; test is unchanged.

    Raises:
        ValueError: the manifest does not have these folds.
    """
    available = sorted(set(manifest.get("fold", pd.Series(dtype=int))) - {-1})
    if available != list(range(folds)):
        raise ValueError(
            f"training.folds: {folds}, but the manifest has {len(available)} folds; set "
            f"`data_processing.split.folds: {folds}` and run data_processing again"
        )
    split = manifest["split"].where(manifest["fold"] < 0, "train").mask(manifest["fold"] == fold, "val")
    return manifest.assign(split=split)

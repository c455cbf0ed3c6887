"""Nodes that train on the manifest and save the best checkpoint, the last one to resume from, and the history."""

from collections.abc import Iterator
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings


def choose_training_config(
    train_val_images: DataFrame,
    pseudo_labels: DataFrame | None,
    best_hyperparameters: dict | None,
    dataset: DatasetParams,
    scores: ScoreSettings,
    params: TrainingParams,
    seed: int,
) -> dict:
    """Settings of the run, with those found by a search on the same data; ``from_search`` lists the latter."""
    sources: list[str] = list(train_val_images["source"].unique()) if "source" in train_val_images else []
    params.input.check_sources(sources, others=bool(sources))
    config = make_training_config(dataset, scores, params, seed)
    rows = _with_pseudo_labels(train_val_images, pseudo_labels, params)
    search_result = best_hyperparameters if params.use_search_result else None
    config, from_search = seg.settings.with_search(config, search_result, seg.manifest.data_hash(rows))
    return {**config.to_dict(), seg.settings.FROM_SEARCH: from_search}


def train_model(
    train_val_images: DataFrame,
    pseudo_labels: DataFrame | None,
    config: dict,
    resume_from: dict | None,
    pixel_cache: Path,
    params: TrainingParams,
) -> Iterator[tuple[dict, dict, DataFrame, Figure, Figure]]:
    """Yield last checkpoint, best checkpoint, history and two figures during training; the catalog saves them."""
    snapshots = seg.training.train(
        _with_pseudo_labels(train_val_images, pseudo_labels, params),
        seg.settings.TrainingConfig.from_dict(config),
        params.compute,
        folds=params.folds,
        saved=resume_from if params.resume else None,
        cache_folder=pixel_cache,
    )
    figures = seg.exploration.TrainingFigures(train_val_images)
    for snapshot in snapshots:
        curves, sheet = figures.update(snapshot)
        yield snapshot.last, snapshot.best, snapshot.history, curves, sheet  # so that a kill below costs nothing
    device = seg.training.pick_device(params.compute.device)
    best = seg.prediction.with_temperatures(snapshot.best, train_val_images, device=device)
    yield snapshot.last, best, snapshot.history, curves, sheet


def _with_pseudo_labels(rows: DataFrame, pseudo_labels: DataFrame | None, params: TrainingParams) -> DataFrame:
    """The rows, and pseudo-labels in the train split if `training.pseudo_labels` is set."""
    if not params.pseudo_labels:
        return rows
    if pseudo_labels is None or pseudo_labels.empty:
        raise ValueError(
            "`training.pseudo_labels` is set, but no pseudo-labels exist: run `kedro run --pipeline select --params "
            "select.images=FOLDER,select.pseudo_labels=true` first"
        )
    return seg.manifest.with_pseudo_labels(rows, pseudo_labels)

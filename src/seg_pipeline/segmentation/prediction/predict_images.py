"""Predict probabilities and masks at each image's own size, with one model or the mean of several.

Axes: B images, K channels of the probabilities (the background first, if there is one), C classes, H rows,
W columns.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.datasets import to_native
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.table import OBJECT_MAP, iter_records, read_masks
from seg_pipeline.segmentation.metrics.calibration import BinCounts, Calibration, count_bins
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.objects.label_maps import encode_labels
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads
from seg_pipeline.segmentation.prediction.input_logits import Models, images_at_once, input_logits, probabilities_of
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, class_part, label_objects, make_masks
from seg_pipeline.segmentation.prediction.uncertainty import calibrated, image_uncertainty
from seg_pipeline.segmentation.settings.checkpoint_content import model_configs
from seg_pipeline.segmentation.settings.training import PredictSettings, Task
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

Finished = TypeVar("Finished")

NO_OPTIONS = PredictSettings()

MAX_BYTES = 2**30
"""Memory for probabilities being processed; if images are large, fewer threads process them at once."""


def load_models(checkpoint: dict, device: torch.device) -> list[tuple[Segmenter, TrainingConfig]]:
    """Build the models of a checkpoint (one, or one per fold) from its own config and weights, in evaluation mode.

    Raises:
        ValueError: as ``model_configs``, or weights do not fit their config.
    """
    configs = model_configs(checkpoint)
    models = []
    for number, (saved, config) in enumerate(zip(checkpoint["models"], configs, strict=True)):
        try:
            with torch.device("meta"):  # takes no memory, whatever sizes the config claims
                _check_weights(saved.get("model", {}), Segmenter(config, pretrained=False).state_dict())
            model = Segmenter(config, pretrained=False)
            model.load_state_dict(saved["model"])
        except Exception as error:  # whatever smp and torch raise about a foreign config  # noqa: BLE001
            raise ValueError(
                f"checkpoint: `models.{number}.model` does not fit `models.{number}.config`: {error!s:.300}"
            ) from None
        models.append((model.to(device).eval(), config))
    return models


def load_members(checkpoint: dict, device: torch.device) -> list[tuple[Segmenter, TrainingConfig]]:
    """``load_models`` for models that mlflow stored when ``models`` was called ``members``; their code calls this."""
    return load_models({"models": checkpoint["members"]}, device)


def _check_weights(weights: dict, expected: dict[str, Tensor]) -> None:
    for name in [*expected, *weights]:
        if name not in weights or name not in expected:
            raise ValueError(f"{name!r:.80} is {'unknown' if name in weights else 'missing'}")
        tensor, other = weights[name], expected[name]
        if not isinstance(tensor, Tensor) or (tensor.shape, tensor.dtype, tensor.layout) != (
            other.shape,
            other.dtype,
            other.layout,
        ):
            description = (
                f"{tensor.dtype} of {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else repr(tensor)[:80]
            )
            raise ValueError(f"{name} is {description}, expected {other.dtype} of {tuple(other.shape)}")


def config_of(checkpoint: dict) -> TrainingConfig:
    """Config of a checkpoint's first model. All its models share task, classes, background and scores."""
    return model_configs(checkpoint)[0]


def plain_masks(config: TrainingConfig) -> Postprocessing:
    """Settings that only threshold the probabilities, as training does for validation."""
    threshold = config.scores.threshold if config.task == "multilabel" else None
    return Postprocessing.none(len(config.classes), threshold, objects=config.objects)


def check_objects_match(postprocessing: Postprocessing, config: TrainingConfig) -> None:
    """Raise ValueError if the settings are for objects and the model is not, or vice versa."""
    if (postprocessing.object_seeds is not None) != config.objects:
        raise ValueError(
            f"the model was trained with `dataset.objects: {str(config.objects).lower()}`, but the postprocessing was "
            "chosen for a different model: run `kedro run --pipeline evaluation` again"
        )


def predict_masks(
    rows: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    postprocessing: Postprocessing,
    settings: PredictSettings = NO_OPTIONS,
    calibration: Calibration | None = None,
    uncalibrated: Calibration | None = None,
    workers: int | None = None,
) -> pd.DataFrame:
    """Predict all rows of a manifest.

    Args:
        postprocessing: how probabilities become masks.
        settings: test-time augmentation, windows and ensemble.
        calibration: updated with each image's probabilities and ground truth.
        uncalibrated: the same, with the probabilities before ``postprocessing.temperatures`` are applied.
        workers: threads that read images and finish predictions, which does not change the result; None: one per core.

    Returns:
        One row per image: image_id, height, width; and per class mask_<class> (run lengths as in the manifest),
        peak_<class> (largest probability in the image) and mean_<class> (mean probability inside the mask, NaN if
        it is empty); object_map_<class> if the model has objects; uncertainty and look_at_this, see
        ``image_uncertainty``.

    Raises:
        ValueError: ``rows`` is empty, for example because the test split has a share of 0, or
            ``check_objects_match`` raises it.
    """
    if rows.empty:
        raise ValueError("no images to predict: the test split is empty; set a share above 0 in `split.shares.test`")
    config = config_of(checkpoint)
    check_objects_match(postprocessing, config)
    names = list(config.classes)

    calibrations = [one for one in (calibration, uncalibrated) if one is not None]

    def finish(row: dict, tensor: Tensor) -> tuple[dict, list[BinCounts]]:
        raw = tensor.numpy()
        probabilities = calibrated(raw, postprocessing.temperatures, config.task)
        masks = make_masks(probabilities, postprocessing, task=config.task, background=config.background)
        uncalibrated_probabilities, class_probabilities = (
            class_part(one, postprocessing, config.background) for one in (raw, probabilities)
        )
        truth = read_masks(row, names) if calibrations else np.empty(0)
        bins = [
            count_bins(uncalibrated_probabilities if one is uncalibrated else class_probabilities, truth)
            for one in calibrations
        ]
        record = _prediction_row(row, class_probabilities, masks, config.classes)
        uncertainty = image_uncertainty(probabilities, postprocessing, task=config.task, background=config.background)
        record |= {"uncertainty": uncertainty.score, "look_at_this": uncertainty.look_at_this}
        if postprocessing.object_seeds is not None:
            labels = label_objects(probabilities, postprocessing)
            record |= {f"{OBJECT_MAP}{name}": encode_labels(one) for name, one in zip(names, labels, strict=True)}
        return record, bins

    table = []
    models = used_models(checkpoint, device, settings)
    for record, bins in predict_each(
        models, rows, finish, device=device, batch_size=batch_size, settings=settings, workers=workers
    ):
        for one, counts in zip(calibrations, bins, strict=True):
            one.add(counts)
        table.append(record)
    return pd.DataFrame(table).astype({"look_at_this": "boolean"})


def _prediction_row(row: dict, probabilities: np.ndarray, masks: np.ndarray, classes: tuple[str, ...]) -> dict:
    """One row of the predictions, from probabilities (C, H, W) and masks (C, H, W)."""
    ids = {name: row[name] for name in ("image_id", "height", "width")}
    runs = {f"mask_{name}": encode_rle(mask, order="C") for name, mask in zip(classes, masks, strict=True)}
    peaks = {f"peak_{name}": float(probability.max()) for name, probability in zip(classes, probabilities, strict=True)}
    means = {
        f"mean_{name}": float(probability[mask].mean()) if mask.any() else math.nan
        for name, probability, mask in zip(classes, probabilities, masks, strict=True)
    }
    return {**ids, **runs, **peaks, **means}


def used_models(checkpoint: dict, device: torch.device, settings: PredictSettings) -> Models:
    """Load the models of a checkpoint that ``settings.ensemble`` selects."""
    return load_models(checkpoint, device)[: 1 if settings.ensemble == "first" else None]


def full_size_logits(
    model: Segmenter,
    config: TrainingConfig,
    rows: pd.DataFrame,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings,
) -> Iterator[Tensor]:
    """Yield each row's logits, float32 (K, height, width), on the CPU."""
    all_logits = input_logits(
        [(model, config)], rows, device=device, batch_size=batch_size, settings=settings, workers=0
    )
    for height, width, (logits,) in zip(rows["height"], rows["width"], all_logits, strict=True):
        yield to_native(logits, int(height), int(width), config.input)


def predict_each(
    models: Models,
    rows: pd.DataFrame,
    finish: Callable[[dict, Tensor], Finished],
    *,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings,
    workers: int | None = None,
) -> Iterator[Finished]:
    """Yield ``finish(row, probabilities)`` for each row in order; reading, network and ``finish`` run concurrently.

    Args:
        finish: gets the row as a dict and its probabilities, float32 (K, height, width), on the CPU, the mean over the
            models; called in threads.
        workers: see ``predict_masks``.
    """
    config, inputs = models[0][1], [config.input for _, config in models]
    largest = int((rows["height"] * rows["width"]).max()) * config.num_channels * 4
    num_finishers = min(
        num_threads(workers), max(1, MAX_BYTES // (4 * largest))
    )  # logits, probabilities, temporary ones
    ahead = images_at_once(rows, config, batch_size, settings) + 2 * num_finishers

    def finished(item: tuple[dict, list[Tensor]]) -> Finished:
        row, logits = item
        resized = (
            to_native(one, row["height"], row["width"], settings_of_input)
            for one, settings_of_input in zip(logits, inputs, strict=True)
        )
        votes = [_in_one_thread(one, config.task) for one in resized]
        return finish(row, votes[0] if len(votes) == 1 else torch.stack(votes).mean(0))

    logits = input_logits(models, rows, device=device, batch_size=batch_size, settings=settings, workers=num_finishers)
    return map_in_threads(finished, zip(iter_records(rows), logits, strict=True), workers=num_finishers, ahead=ahead)


def _in_one_thread(logits: Tensor, task: Task) -> Tensor:
    """``probabilities_of`` contiguous logits, equal to the last bit for any number of torch's threads.

    torch computes the elements left over by its vector instructions differently; which ones they are depends on how
    it splits a tensor among threads.
    """
    if task == "multiclass":
        return probabilities_of(logits, task)  # split between vectors
    result = torch.empty_like(logits)
    for part, target in zip(
        logits.view(-1).split(SERIAL_ELEMENTS), result.view(-1).split(SERIAL_ELEMENTS), strict=True
    ):
        torch.sigmoid(part, out=target)
    return result


SERIAL_ELEMENTS = 2**15
"""Number of elements up to which torch uses one thread."""

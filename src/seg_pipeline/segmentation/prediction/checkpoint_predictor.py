"""Describe a checkpoint as a bundle, and predict with it through the interface of an exported model."""

import hashlib
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_pipeline import __version__
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.plotting import class_colours
from seg_pipeline.segmentation.prediction.bundle import Bundle, BundleNetwork
from seg_pipeline.segmentation.prediction.input_logits import Models
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predict_images import check_objects_match, load_models, plain_masks
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor, Network, Predictor
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_precision

PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "onnx", "onnxscript", "onnxruntime", "safetensors")
"""Packages whose versions a bundle records, if they are installed."""


def choose_predictor(
    model: str,
    *,
    checkpoint: dict[str, Any] | None,
    bundle: Bundle | None,
    bundle_format: str,
    postprocessing: Postprocessing | None,
    prediction: tuple[PredictSettings, PredictSettings | None],
    device: torch.device,
    source: str | None = None,
) -> ImagePredictor:
    """Load the model to predict with: a checkpoint or a bundle.

    Args:
        model: "checkpoint", "bundle", or the folder of a bundle.
        checkpoint: the trained model, or None.
        bundle: the exported model, or None.
        bundle_format: "onnx" or "int8"; for a bundle only.
        postprocessing: postprocessing for a checkpoint; a bundle has its own.
        prediction: default settings for a checkpoint, and settings that override these or a bundle's, or None.
        device: device that runs a checkpoint; a bundle runs on the CPU.
        source: see ``ImagePredictor``.

    Raises:
        ValueError: the model does not exist, or ``source`` is unknown.
    """
    default, override = prediction
    if model == "checkpoint":
        if checkpoint is None:
            raise ValueError(
                "there is no trained model: run `kedro run --pipeline training` first, or set `inference.model`"
            )
        return checkpoint_predictor(
            checkpoint, device=device, postprocessing=postprocessing, prediction=override or default, source=source
        )
    if model == "bundle" and bundle is None:
        raise ValueError(
            "there is no exported model: run `kedro run --pipeline export` first, or set `inference.model`"
        )
    folder = bundle.folder if model == "bundle" and bundle else Path(model)
    return Predictor(folder, bundle_format=bundle_format, prediction=override, source=source)


def checkpoint_predictor(
    checkpoint: dict[str, Any],
    *,
    device: torch.device,
    postprocessing: Postprocessing | None = None,
    prediction: PredictSettings | None = None,
    source: str | None = None,
) -> ImagePredictor:
    """Return a predictor that runs the trained model in the precision of its config.

    Args:
        checkpoint: one model, or one per fold.
        device: device that runs the model.
        postprocessing, prediction: see ``describe``.
        source: see ``ImagePredictor``.
    """
    models = load_models(checkpoint, device)
    bundle = describe(checkpoint, models, postprocessing=postprocessing, prediction=prediction)
    networks = [_network(*each, device) for each in models]
    return ImagePredictor(bundle, networks[: len(bundle.used)], source=source)


def describe(
    checkpoint: dict[str, Any],
    models: Models,
    *,
    postprocessing: Postprocessing | None = None,
    prediction: PredictSettings | None = None,
) -> Bundle:
    """Describe a checkpoint and its loaded models as a bundle without files.

    Args:
        postprocessing: None means only the threshold of validation, and the checkpoint's own temperatures.
        prediction: None means whole images, without test-time augmentation.
    """
    config = models[0][1]
    postprocessing = postprocessing or replace(plain_masks(config), temperatures=checkpoint.get("temperatures"))
    check_objects_match(postprocessing, config)
    return Bundle(
        folder=Path(),
        task=config.task,
        classes=config.classes,
        colours=tuple(f"#{bytes(colour).hex()}" for colour in class_colours(len(config.classes))),
        background=config.background,
        networks=tuple(_describe_network(*each) for each in models),
        postprocessing=postprocessing,
        prediction=prediction or PredictSettings(),
        provenance=_provenance(checkpoint),
    )


def _describe_network(model: Segmenter, config: TrainingConfig) -> BundleNetwork:
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (model.mean, model.std))
    return BundleNetwork(input=config.input, mean=mean, std=std)


def _network(model: Segmenter, config: TrainingConfig, device: torch.device) -> Network:
    dtype = pick_precision(config.fit.precision, device)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), autocast(device, dtype):
            return model(torch.from_numpy(images).to(device)).cpu().numpy()

    return run


def _provenance(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Origin of the model as plain values; the same checkpoint and package versions give the same result."""
    return {
        "data_hash": checkpoint.get("data_hash"),
        "folds": checkpoint.get("folds"),
        "models": [
            {"best": saved.get("row"), "weights_sha256": weights_hash(saved["model"]), "config": saved["config"]}
            for saved in checkpoint["models"]
        ],
        "versions": {"seg_pipeline": __version__, "python": platform.python_version(), **_versions()},
    }


def weights_hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return {name: metadata.version(name) for name in PACKAGES if name in installed}

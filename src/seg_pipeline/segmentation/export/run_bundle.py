"""Predictors to compare: a bundle in any of its formats, torch's included, and the trained model."""

from __future__ import annotations

from typing import Any

import torch

from seg_pipeline.segmentation.export.formats import load_network
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


def bundle_predictor(bundle: Bundle, bundle_format: str) -> ImagePredictor:
    """Like ``predictor.Predictor``, for every format of ``bundle.FILES``."""
    configs = [TrainingConfig.from_dict(member["config"]) for member in bundle.provenance["models"]]
    files = zip(bundle.paths(bundle_format), configs, strict=False)
    return ImagePredictor(
        bundle, [load_network(path, bundle_format, config) for path, config in files], bundle_format=bundle_format
    )


def trained_predictor(bundle: Bundle, checkpoint: dict[str, Any]) -> ImagePredictor:
    """The trained model in float32 on the CPU, with the bundle's prediction options and postprocessing."""
    return checkpoint_predictor(
        in_float32(checkpoint),
        device=torch.device("cpu"),
        postprocessing=bundle.postprocessing,
        prediction=bundle.prediction,
    )


def in_float32(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Evaluation may compute in bfloat16; the comparison is about the network, not the number format."""
    members = [
        {**one, "config": TrainingConfig.from_dict(one["config"]).changed({"fit.precision": "float32"}).to_dict()}
        for one in checkpoint["members"]
    ]
    return {**checkpoint, "members": members}

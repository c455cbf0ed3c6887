"""A checkpoint loaded by mlflow: uint8 images (B, C, H, W) to float32 probabilities (B, K, H, W)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class CheckpointModel(PythonModel):
    """Mean probability of the ensemble, from stored pixel values at any batch and image size."""

    def load_context(self, context: PythonModelContext) -> None:
        import torch
        from safetensors.torch import load_file

        from seg_pipeline.segmentation.prediction.predict_images import load_models

        folder = Path(context.artifacts["weights"])
        configs = json.loads((folder / "training_configs.json").read_text(encoding="utf-8"))
        saved = [
            {"config": config, "model": load_file(folder / f"model_{number}.safetensors")}
            for number, config in enumerate(configs)
        ]
        self.task = configs[0]["task"]
        self.models = [model for model, _ in load_models({"models": saved}, torch.device("cpu"))]

    def predict(  # mlflow passes all three
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        import torch

        images = torch.from_numpy(np.ascontiguousarray(model_input, dtype=np.uint8))
        with torch.inference_mode():
            logits = [model(images) for model in self.models]
            probabilities = [one.sigmoid() if self.task == "multilabel" else one.softmax(1) for one in logits]
            return torch.stack(probabilities).mean(0).numpy()


set_model(CheckpointModel())

"""An exported bundle served by mlflow, without torch: image files to one row per image and class.

Columns: image (its position in the request, from 0), class, height, width, area (pixels), rle ("start length ...",
starts from 1, along rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class BundleModel(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        from seg_pipeline.segmentation.prediction.predictor import Predictor

        self.predictor = Predictor(Path(context.artifacts["bundle"]))

    def predict(  # mlflow passes all three
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        rows = (row for number, file in enumerate(model_input["image"]) for row in self._rows(number, file))
        return pd.DataFrame(rows)

    def _rows(self, number: int, file: bytes) -> Iterator[dict[str, Any]]:
        from seg_pipeline.segmentation.images.decoding import decode_image
        from seg_pipeline.segmentation.images.masks import encode_rle

        image = decode_image(file, name=f"image {number}", settings=self.predictor.bundle.input.reading)
        masks = self.predictor.masks(self.predictor.probabilities(image))
        for name, mask in zip(self.predictor.bundle.classes, masks, strict=True):
            height, width = mask.shape
            row = {"image": number, "class": str(name), "height": height, "width": width}
            yield {**row, "area": int(mask.sum()), "rle": encode_rle(mask, order="C")}


set_model(BundleModel())

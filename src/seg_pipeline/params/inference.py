"""Parameters for predicting new images."""

from typing import Any, Literal

from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.training import PredictSettings


class InferenceParams(Params):
    images: str | None = None
    """A folder, an image, a glob, or a list: .txt with one path per line, .csv or .parquet with a column path."""
    output_folder: str | None = None
    """Folder for the masks; null: `inference` in 07_model_output."""
    model: str = "checkpoint"
    """checkpoint: the trained model; bundle: the exported model; or the folder of a bundle."""
    bundle_format: Literal["onnx", "int8"] = "onnx"
    """Which format of a bundle to run."""
    formats: list[Literal["masks", "overlays", "uncertainty", "spread", "rle", "coco"]] = Field(
        default=["masks", "overlays", "rle"]
    )
    """masks, overlays, uncertainty, spread (between the models of the folds): PNG files; rle: rle_masks.csv (id, class,
    predicted); coco: coco.json."""
    rle_order: Literal["C", "F"] = "C"
    """Run lengths of rle_masks.csv: C along rows, F down columns."""
    source: str | None = None
    """For a model trained on several data sets: normalise images like this source's (`training.input.by_source`)."""
    prediction: PredictSettings | None = None
    """Prediction options; null: those of evaluation (checkpoint), or of the bundle."""
    num_workers: int = Field(default=2, ge=1, le=64)
    """Threads that read images ahead; as many more write masks."""
    batch_size: int = Field(default=1, ge=1)
    """Images per batch."""
    device: str = "auto"
    """Device for a checkpoint; a bundle runs on the CPU."""

    def images_and_model(self) -> dict[str, Any]:
        """Keyword arguments of ``inference.predict_new_images``.

        Raises:
            ValueError: there are no images.
        """
        if self.images is None:
            raise ValueError(
                "`inference.images` must say what to predict: `--params inference.images=FOLDER`, or a glob or list"
            )
        names = "images", "model", "bundle_format", "source", "prediction", "device", "num_workers", "batch_size"
        return {name: getattr(self, name) for name in names}

"""Parameters of the exports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.training import ParitySettings

Format = Literal["onnx", "torchscript", "pt2", "safetensors", "int8", "bf16"]


class ExportParams(Params):
    formats: list[Format] = Field(default=["onnx", "torchscript", "pt2", "safetensors"], min_length=1)
    """onnx: for `seg-pipeline predict` and `serve`; torchscript: deprecated by torch, for programs that need it; pt2:
    torch.export; safetensors: only the weights; int8: onnx in 8 bits; bf16: pt2 in bfloat16."""
    max_dice_drop: float = Field(default=0.005, ge=0, le=1)
    """int8 and bf16 are omitted if Dice on validation images drops by more than this."""
    quality_images: int = Field(default=200, ge=1)
    """Validation images to measure this drop on."""
    calibration_images: int = Field(default=64, ge=1)
    """Train images to calibrate int8 with."""
    parity: ParitySettings = ParitySettings()
    """How the exact formats are compared with the trained model."""

    @model_validator(mode="after")
    def _check_formats(self) -> ExportParams:
        if "int8" in self.formats and "onnx" not in self.formats:
            raise ValueError("`formats`: int8 is made from onnx; add onnx")
        if self.formats == ["bf16"]:
            raise ValueError(
                "`formats`: bf16 is omitted if it lowers Dice too much; add one that is always exported, such as onnx"
            )
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"`formats` must not repeat a format, found {', '.join(self.formats)}")
        return self


class ExportNnunetParams(Params):
    name: str = Field(default="seg_pipeline", pattern=r"^\w+$")
    """Name of the data set in dataset.json."""
    overlap: Literal["regions", "paint"] = "regions"
    """Pixels with several classes: regions gives each combination its own label; paint uses the last class."""

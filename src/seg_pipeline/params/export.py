"""What leaves the project."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.training import ParitySettings

Format = Literal["onnx", "torchscript", "pt2", "safetensors", "int8", "bf16"]


class ExportParams(Params):
    formats: list[Format] = Field(default=["onnx", "torchscript", "pt2", "safetensors"], min_length=1)
    """onnx: what `seg-pipeline predict` and `serve` run; torchscript: deprecated by torch, for programs that read
    nothing else; pt2: torch.export; safetensors: the weights alone; int8: onnx in 8 bits; bf16: pt2 in bfloat16."""
    max_dice_drop: float = Field(default=0.005, ge=0, le=1)
    """int8 and bf16 are left out where the Dice of validation images falls by more."""
    quality_images: int = Field(default=200, ge=1)
    """Validation images on which it is taken."""
    calibration_images: int = Field(default=64, ge=1)
    """Train images from which int8 learns its ranges."""
    parity: ParitySettings = ParitySettings()
    """How far an exact format may differ from the trained model."""

    @model_validator(mode="after")
    def _formats_go_together(self) -> ExportParams:
        if "int8" in self.formats and "onnx" not in self.formats:
            raise ValueError("`formats`: int8 is made of onnx; add onnx")
        if self.formats == ["bf16"]:
            raise ValueError(
                "`formats`: bf16 is left out where it costs too much Dice; add one that stays, such as onnx"
            )
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"`formats`: each once, found {', '.join(self.formats)}")
        return self


class ExportNnunetParams(Params):
    name: str = Field(default="seg_pipeline", pattern=r"^\w+$")
    """Of the data set, in dataset.json."""
    overlap: Literal["regions", "paint"] = "regions"
    """Pixels of several classes: a label of their own and each class a region (regions), or the last class (paint)."""

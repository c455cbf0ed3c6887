"""The forms of the answers, as OpenAPI and the clients see them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class PixelData(BaseModel):
    """A picture within JSON."""

    type: Literal["image/png", "image/jpeg"]
    data: str = Field(description="The file in base64.")


class ClassResult(BaseModel):
    name: str
    colour: str = Field(description="As #rrggbb.")
    threshold: float | None = Field(description="Probability above which a pixel is of the class; null: multiclass.")
    area: int = Field(description="Pixels of the mask, at the picture's own size.")
    share: float = Field(description="Area over the picture's pixels.")
    confidence: float | None = Field(description="Mean probability within the mask; null where it is empty.")
    peak: float = Field(description="Largest probability in the picture.")
    rle: str = Field(description='Run lengths "start length start length ...", row by row, pixels counted from 1.')
    probabilities: PixelData | None = Field(
        description="Grey PNG: value / 255 is the probability, rounded; null unless asked for by `include`."
    )


class PictureFacts(BaseModel):
    file: str
    format: str = Field(description="What the file is, whatever its name says.")
    height: int
    width: int
    bits: int = Field(description="Of a stored value: 8 or 16.")
    channels: int = Field(description="1 for grey, 3 for colour; alpha is left out.")


class Prediction(BaseModel):
    picture: PictureFacts
    task: Literal["multilabel", "multiclass"]
    classes: list[ClassResult]
    display: PixelData | None = Field(
        description="The picture in 8 bits, as a screen can show it; null unless asked for by `include`."
    )


class ClassFacts(BaseModel):
    name: str
    colour: str
    threshold: float | None


class LimitFacts(BaseModel):
    formats: list[str]
    max_bytes: int
    max_pixels: int


class ModelFacts(BaseModel):
    task: Literal["multilabel", "multiclass"]
    classes: list[ClassFacts]
    background: bool = Field(description="Multiclass: pixels may be of no class.")
    input: dict[str, Any]
    postprocessing: dict[str, Any]
    provenance: dict[str, Any]
    limits: LimitFacts


class Health(BaseModel):
    status: Literal["ok"]

"""The forms of the answers, as OpenAPI and the clients see them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class PixelData(BaseModel):
    """An image within JSON."""

    type: Literal["image/png", "image/jpeg"] = Field(description="image/png or image/jpeg.")
    data: str = Field(description="The file in base64.")


class ClassResult(BaseModel):
    name: str = Field(description="As the model calls it.")
    colour: str = Field(description="As #rrggbb.")
    threshold: float | None = Field(description="Probability above which a pixel is of the class; null: multiclass.")
    area: int = Field(description="Pixels of the mask, at the image's own size.")
    share: float = Field(description="Area over the image's pixels.")
    confidence: float | None = Field(description="Mean probability within the mask; null where it is empty.")
    peak: float = Field(description="Largest probability in the image.")
    rle: str = Field(description='Run lengths "start length start length ...", row by row, pixels counted from 1.')
    probabilities: PixelData | None = Field(
        description="PixelData, grey: value / 255 is the probability, rounded; null unless asked for by include."
    )


class ImageFacts(BaseModel):
    file: str = Field(description="As the sender named it.")
    format: str = Field(description="What the file is, whatever its name says.")
    height: int = Field(description="Pixels.")
    width: int = Field(description="Pixels.")
    bits: int = Field(description="Of a stored value: 8 or 16.")
    channels: int = Field(description="1 for grey, 3 for colour; alpha is left out.")


class Prediction(BaseModel):
    image: ImageFacts = Field(description="ImageFacts.")
    task: Literal["multilabel", "multiclass"] = Field(description="multilabel (classes may overlap) or multiclass.")
    classes: list[ClassResult] = Field(description="A ClassResult for each class of the model, in its order.")
    display: PixelData | None = Field(
        description="PixelData of 8 bits, as a screen can show it; null unless asked for by include."
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
    task: Literal["multilabel", "multiclass"] = Field(description="multilabel (classes may overlap) or multiclass.")
    classes: list[ClassFacts] = Field(description="Name, colour and threshold of each class.")
    background: bool = Field(description="Multiclass: pixels may be of no class.")
    input: dict[str, Any] = Field(description="How an image becomes the network's input.")
    postprocessing: dict[str, Any] = Field(description="What is done to the masks.")
    provenance: dict[str, Any] = Field(description="Of what the model was made.")
    limits: LimitFacts = Field(description="Formats, bytes and pixels that the server takes.")


class Health(BaseModel):
    status: Literal["ok"]

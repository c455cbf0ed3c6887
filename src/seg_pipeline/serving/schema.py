"""Response models, as documented by OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class PixelData(BaseModel):
    """An image within JSON."""

    type: Literal["image/png", "image/jpeg"] = Field(description="image/png or image/jpeg.")
    data: str = Field(description="The file in base64.")


class ClassResult(BaseModel):
    name: str = Field(description="Name of the class.")
    colour: str = Field(description="Colour as #rrggbb.")
    threshold: float | None = Field(
        description="Probability above which a pixel belongs to the class; null for multiclass models."
    )
    area: int = Field(description="Area of the mask in pixels of the original image.")
    share: float = Field(description="Area as a fraction of the image.")
    confidence: float | None = Field(description="Mean probability inside the mask; null if it is empty.")
    peak: float = Field(description="Largest probability in the image.")
    rle: str = Field(description='Run lengths "start length start length ...", row by row, pixels counted from 1.')
    probabilities: PixelData | None = Field(
        description="Greyscale PixelData, value / 255 is the probability; null unless requested by include."
    )


class ImageFacts(BaseModel):
    file: str = Field(description="File name sent by the client.")
    format: str = Field(description="Format of the file's contents, whatever its name.")
    height: int = Field(description="Pixels.")
    width: int = Field(description="Pixels.")
    bits: int = Field(description="Bits per stored value: 8 or 16.")
    channels: int = Field(description="1 for greyscale, 3 for colour; alpha is ignored.")


class Prediction(BaseModel):
    image: ImageFacts = Field(description="ImageFacts.")
    task: Literal["multilabel", "multiclass"] = Field(description="multilabel (classes may overlap) or multiclass.")
    classes: list[ClassResult] = Field(description="One ClassResult per class, in the model's order.")
    display: PixelData | None = Field(description="8-bit PixelData for the screen; null unless requested by include.")


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
    background: bool = Field(description="Multiclass: pixels may belong to no class.")
    input: dict[str, Any] = Field(description="How an image becomes the network's input.")
    postprocessing: dict[str, Any] = Field(description="Postprocessing of the masks.")
    provenance: dict[str, Any] = Field(description="Checkpoint, data and versions behind the model.")
    limits: LimitFacts = Field(description="Accepted formats and largest size in bytes and pixels.")


class Health(BaseModel):
    status: Literal["ok"]

"""Responses, as documented by OpenAPI, and the exception that becomes an error response."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class PixelData(BaseModel):
    """An image embedded in JSON."""

    type: Literal["image/png", "image/jpeg"] = Field(description="image/png or image/jpeg.")
    data: str = Field(description="The file in base64.")


class ClassResult(BaseModel):
    name: str = Field(description="Name of the class.")
    colour: str = Field(description="Colour as #rrggbb.")
    threshold: float | None = Field(
        description="Probability above which a pixel belongs to the class; null for multiclass models."
    )
    area: int = Field(description="Area of the mask in pixels of the original image.")
    area_mm2: float | None = Field(
        description="Area in square millimetres; null unless the file records its pixel spacing."
    )
    share: float = Field(description="Area as a fraction of the image.")
    confidence: float | None = Field(description="Mean probability inside the mask; null if it is empty.")
    peak: float = Field(description="Largest probability in the image.")
    rle: str = Field(description='Run lengths "start length start length ...", row by row, pixels counted from 1.')
    objects: str | None = Field(
        default=None,
        description='Objects as "start length object ...", row by row; null unless the model segments objects.',
    )
    probabilities: PixelData | None = Field(
        description="Greyscale PixelData, value / 255 is the probability; null unless requested by include."
    )


class ImageFacts(BaseModel):
    file: str = Field(description="File name sent by the client.")
    format: str = Field(description="Format detected from the file's content, not from its name.")
    height: int = Field(description="Pixels.")
    width: int = Field(description="Pixels.")
    bits: int = Field(description="Bits per stored value: 8 or 16.")
    channels: int = Field(description="1 for greyscale, 3 for colour; alpha is ignored.")
    page: int = Field(description="Page of the file, counted from 1.")
    pages: int = Field(description="Images in the file.")
    spacing: tuple[float, float] | None = Field(
        description="Millimetres per row and per column; null unless the file records them."
    )
    value_range: tuple[float, float] | None = Field(
        description="What the stored values 0 and 65535 mean in DICOM and float files; null: the file's own values."
    )


class Prediction(BaseModel):
    image: ImageFacts = Field(description="ImageFacts.")
    task: Literal["multilabel", "multiclass"] = Field(description="multilabel (classes may overlap) or multiclass.")
    classes: list[ClassResult] = Field(description="One ClassResult per class, in the model's order.")
    network_ms: float = Field(description="Milliseconds spent on preparing the image and running the network.")
    uncertainty: float = Field(description="Uncertainty of the image: 0 is certain, 1 uncertain.")
    look_at_this: bool | None = Field(
        description="Whether a person should look at the image; null if evaluation did not choose a limit."
    )
    uncertainty_map: PixelData | None = Field(
        description="Greyscale PixelData of each pixel's entropy, 255 is the maximum; null unless requested by include."
    )
    spread_map: PixelData | None = Field(
        default=None,
        description="Greyscale PixelData of the disagreement between the models of the folds, 255 is the maximum; null "
        "unless requested by include.",
    )
    display: PixelData | None = Field(description="8-bit PixelData for the screen; null unless requested by include.")
    values: PixelData | None = Field(
        default=None,
        description="Stored values of a 16-bit grey image, if requested: 256 * red + green of the PixelData. "
        "Other images, and those over 4 million pixels, have `display` instead.",
    )
    window: tuple[float, float] | None = Field(
        default=None, description="Stored values shown as black and white, beside `values`."
    )


class ClassFacts(BaseModel):
    name: str
    colour: str
    threshold: float | None
    folder: str = Field(description="Name of the class as a folder of masks.")


class LimitFacts(BaseModel):
    formats: list[str]
    max_bytes: int
    max_pixels: int


class ModelFacts(BaseModel):
    task: Literal["multilabel", "multiclass"] = Field(description="multilabel (classes may overlap) or multiclass.")
    classes: list[ClassFacts] = Field(description="Name, colour and threshold of each class.")
    objects: bool = Field(description="Whether the model tells the objects of a class apart.")
    networks: int = Field(description="Networks whose probabilities are averaged: one per fold, else 1.")
    background: bool = Field(description="Multiclass: pixels may belong to no class.")
    input: dict[str, Any] = Field(description="How an image becomes the network's input.")
    postprocessing: dict[str, Any] = Field(description="Postprocessing of the masks.")
    provenance: dict[str, Any] = Field(description="Checkpoint, data and versions behind the model.")
    examples: list[str] = Field(description="Names of example images, at /api/examples/0, 1, ...")
    saves: bool = Field(description="Whether /api/save keeps corrected masks.")
    limits: LimitFacts = Field(description="Accepted formats and largest size in bytes and pixels.")


class Health(BaseModel):
    status: Literal["ok"]


class Problem(BaseModel):
    """Body of every response with status 400 or above."""

    error: str = Field(description="Short name, for programs.")
    detail: str = Field(description="What was found, what was expected and what to do, for people.")


class RequestError(Exception):
    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers or {}
        self.problem = Problem(error=error, detail=detail)

"""From an image to the answer: probabilities, masks, PNG and JSON.

Axes: C classes, K network channels (the classes, after the background where there is one), H rows, W columns.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from seg_pipeline.segmentation.data.normalisation import PERCENTILES
from seg_pipeline.segmentation.images.decoding import to_rgb8
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.settings.training import InputSettings
from seg_pipeline.serving.pictures import Picture
from seg_pipeline.serving.schema import ClassResult, ImageFacts, PixelData, Prediction

Extra = Literal["probabilities", "display"]

LOSSLESS_PIXELS = 1_048_576
"""A display image up to this size is a PNG; a larger one a JPEG, a tenth of the bytes and of the time."""


@dataclass(frozen=True)
class Wish:
    """What a request asks for."""

    form: Literal["json", "mask"] = "json"
    thresholds: tuple[float, ...] | None = None
    """One a class; None: the bundle's."""
    include: frozenset[Extra] = frozenset()


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str


def answer(predictor: ImagePredictor, picture: Picture, wish: Wish) -> Answer:
    """Computes and encodes; the caller bounds how many run at once.

    Raises:
        Refusal: as ``Picture.decode``.
    """
    bundle, image = predictor.bundle, picture.decode()
    probabilities = predictor.probabilities(as_input(image, bundle.input))
    masks = predictor.masks(probabilities, wish.thresholds)
    if wish.form == "mask":
        return Answer(mask_png(masks, bundle.colours, task=bundle.task), "image/png")
    result = Prediction(
        image=_image_facts(picture, image),
        task=bundle.task,
        classes=_class_results(bundle, probabilities, masks, wish),
        display=display_picture(image, bundle.input) if "display" in wish.include else None,
    )
    return Answer(result.model_dump_json().encode(), "application/json")


def as_input(image: np.ndarray, settings: InputSettings) -> np.ndarray | list[np.ndarray | None]:
    """The image; where the network sees frames of a series, as one that has no neighbours: repeated, or in the dark."""
    if isinstance(settings.channels, str):
        return image
    return [image if offset == 0 or settings.edge == "repeat" else None for offset in settings.channels]


def mask_png(masks: np.ndarray, colours: tuple[str, ...], *, task: str) -> bytes:
    """A PNG of bool masks (C, H, W).

    multiclass: (H, W) with a palette; 0 is no class, 1 the first class, in its colour, and so on.
    multilabel, whose classes may overlap: black and white (a bit a pixel; readers give 0 and 255), (C * H, W), the
    classes' masks one below another.
    """
    if task == "multilabel":
        return _png(masks.reshape(-1, masks.shape[-1]).view(np.uint8), cv2.IMWRITE_PNG_BILEVEL, 1)
    indices = np.zeros(masks.shape[1:], dtype=np.uint8)
    for index, mask in enumerate(masks, start=1):
        indices[mask] = index
    image = Image.fromarray(indices)
    image.putpalette(bytes(3) + b"".join(bytes.fromhex(colour.removeprefix("#")) for colour in colours))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _image_facts(picture: Picture, image: np.ndarray) -> ImageFacts:
    return ImageFacts(
        file=picture.name,
        format=picture.format,
        height=picture.height,
        width=picture.width,
        bits=8 * image.itemsize,
        channels=1 if image.ndim == 2 else 3,
    )


def _class_results(bundle: Bundle, probabilities: np.ndarray, masks: np.ndarray, wish: Wish) -> list[ClassResult]:
    foreground = probabilities[int(bundle.background) :]
    thresholds = wish.thresholds or bundle.postprocessing.thresholds or (None,) * len(bundle.classes)
    parts = zip(bundle.classes, bundle.colours, thresholds, foreground, masks, strict=True)
    return [_class_result(*part, with_map="probabilities" in wish.include) for part in parts]


def _class_result(
    name: str, colour: str, threshold: float | None, probability: np.ndarray, mask: np.ndarray, *, with_map: bool
) -> ClassResult:
    area = int(np.count_nonzero(mask))
    eighth = np.rint(probability * 255).astype(np.uint8) if with_map else None
    return ClassResult(
        name=name,
        colour=colour,
        threshold=threshold,
        area=area,
        share=area / mask.size,
        confidence=float(probability[mask].mean()) if area else None,
        peak=float(probability.max()),
        rle=encode_rle(mask, order="C"),
        probabilities=None if eighth is None else _pixel_data(_png(eighth), "image/png"),
    )


def display_picture(image: np.ndarray, settings: InputSettings) -> PixelData:
    """What a screen can show: 8 bits as they are, 16 bits through the percentiles that the network's input has."""
    window = settings.window if settings.normalisation in ("percentile", "training") else None
    shown = to_rgb8(image, window=None if image.dtype == np.uint8 else window or PERCENTILES)[..., ::-1]
    if shown.shape[0] * shown.shape[1] <= LOSSLESS_PIXELS:
        return _pixel_data(_png(shown), "image/png")
    return _pixel_data(cv2.imencode(".jpg", shown, (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes(), "image/jpeg")


def _png(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".png", pixels, options)[1].tobytes()


def _pixel_data(data: bytes, media_type: Literal["image/png", "image/jpeg"]) -> PixelData:
    return PixelData(type=media_type, data=base64.b64encode(data).decode())

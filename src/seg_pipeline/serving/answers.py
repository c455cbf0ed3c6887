"""From a picture to the answer: probabilities, masks, PNG and JSON.

Axes: C classes, K network channels (the classes, after the background where there is one), H rows, W columns.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from PIL import Image

from seg_pipeline.segmentation.images import to_rgb8
from seg_pipeline.segmentation.masks import encode_rle
from seg_pipeline.segmentation.normalise import PERCENTILES

if TYPE_CHECKING:
    from seg_pipeline.segmentation.predictor import Predictor
from seg_pipeline.segmentation.recipe import InputSettings
from seg_pipeline.serving.pictures import Picture
from seg_pipeline.serving.schema import ClassResult, PictureFacts, PixelData, Prediction

Extra = Literal["probabilities", "display"]

LOSSLESS_PIXELS = 1_048_576
"""A display picture up to this size is a PNG; a larger one a JPEG, a tenth of the bytes and of the time."""
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


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


def answer(predictor: Predictor, picture: Picture, wish: Wish) -> Answer:
    """Computes and encodes; the caller bounds how many run at once.

    Raises:
        Refusal: as ``Picture.decode``.
    """
    image = picture.decode()
    probabilities = predictor.probabilities(image)
    masks = predictor.masks(probabilities, wish.thresholds)
    if wish.form == "mask":
        return Answer(mask_png(masks, predictor.bundle.colours, task=predictor.bundle.task), "image/png")
    return Answer(_as_json(predictor, picture, image, probabilities, masks, wish), "application/json")


def mask_png(masks: np.ndarray, colours: tuple[str, ...], *, task: str) -> bytes:
    """A PNG of bool masks (C, H, W).

    multiclass: (H, W) with a palette; 0 is no class, 1 the first class, in its colour, and so on.
    multilabel, whose classes may overlap: grey, (C * H, W), the classes' masks of 0 and 255 one below another.
    """
    if task == "multilabel":
        return _png(masks.reshape(-1, masks.shape[-1]).astype(np.uint8) * 255)
    indices = np.zeros(masks.shape[1:], dtype=np.uint8)
    for index, mask in enumerate(masks, start=1):
        indices[mask] = index
    image = Image.fromarray(indices)
    image.putpalette(bytes(3) + b"".join(bytes.fromhex(colour.removeprefix("#")) for colour in colours))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _as_json(
    predictor: Predictor, picture: Picture, image: np.ndarray, probabilities: np.ndarray, masks: np.ndarray, wish: Wish
) -> bytes:
    bundle = predictor.bundle
    foreground = probabilities[len(probabilities) - len(bundle.classes) :]
    thresholds = wish.thresholds or bundle.postprocessing.thresholds or (None,) * len(bundle.classes)
    results = [
        _class_result(name, colour, threshold, probability, mask, with_map="probabilities" in wish.include)
        for name, colour, threshold, probability, mask in zip(
            bundle.classes, bundle.colours, thresholds, foreground, masks, strict=True
        )
    ]
    facts = PictureFacts(
        file=picture.name,
        format=picture.format,
        height=picture.height,
        width=picture.width,
        bits=8 * image.itemsize,
        channels=1 if image.ndim == 2 else 3,
    )
    display = display_picture(image, bundle.input) if "display" in wish.include else None
    return Prediction(picture=facts, task=bundle.task, classes=results, display=display).model_dump_json().encode()


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


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels, _FAST_PNG)[1].tobytes()


def _pixel_data(data: bytes, media_type: Literal["image/png", "image/jpeg"]) -> PixelData:
    return PixelData(type=media_type, data=base64.b64encode(data).decode())

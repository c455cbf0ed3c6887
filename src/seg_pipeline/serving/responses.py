"""Responses to prediction requests: probabilities, masks, PNG and JSON.

Axes: C classes, K network channels (the background, if there is one, then the classes), H rows, W columns.
"""

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from fastapi import Response

from seg_pipeline.segmentation.data.normalisation import PERCENTILES
from seg_pipeline.segmentation.images.intensities import percentiles, to_rgb8
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.inference.outputs import palette_image
from seg_pipeline.segmentation.objects.label_maps import encode_labels
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.settings.training import InputSettings
from seg_pipeline.serving.image_checks import DecodedUpload
from seg_pipeline.serving.schema import ClassResult, ImageFacts, PixelData, Prediction, RequestError

Extra = Literal["probabilities", "uncertainty", "spread", "display", "values"]

LOSSLESS_PIXELS = 1_048_576
"""Display images up to this size are PNG; larger ones JPEG, which takes a tenth of the bytes and the time."""
VALUES_PIXELS = 4_194_304
"""Largest image whose 16-bit values are sent."""


@dataclass(frozen=True)
class ResponseOptions:
    """Options of a prediction request."""

    response_format: Literal["json", "mask"] = "json"
    thresholds: tuple[float, ...] | None = None
    """One per class; None: the bundle's."""
    include: frozenset[Extra] = frozenset()


def respond(predictor: ImagePredictor, upload: DecodedUpload, options: ResponseOptions) -> Response:
    """Predict one image and encode the response; the caller limits how many run at once."""
    bundle, image = predictor.bundle, upload.pixels
    _check_values(upload, bundle.input)
    start = time.perf_counter()
    probabilities, spread = _run_network(predictor, as_input(image, bundle.input), options)
    network_ms = round(1000 * (time.perf_counter() - start), 1)
    masks = predictor.masks(probabilities, options.thresholds)
    if options.response_format == "mask":
        return Response(mask_png(masks, bundle.colours, task=bundle.task), media_type="image/png")
    doubt = predictor.uncertainty(probabilities)
    labels = predictor.objects(probabilities, options.thresholds) if bundle.objects else None
    result = Prediction(
        image=ImageFacts(
            file=upload.name,
            format=upload.format,
            height=image.shape[0],
            width=image.shape[1],
            bits=8 * image.itemsize,
            channels=1 if image.ndim == 2 else 3,
            page=upload.page,
            pages=upload.pages,
            spacing=upload.spacing,
            value_range=upload.value_range,
        ),
        task=bundle.task,
        classes=list(_class_results(bundle, probabilities, masks, labels, options, upload.spacing)),
        network_ms=network_ms,
        uncertainty=doubt.score,
        look_at_this=doubt.look_at_this,
        uncertainty_map=_grey(predictor.entropy(probabilities)) if "uncertainty" in options.include else None,
        spread_map=None if spread is None else _grey(spread),
        display=display_image(image, bundle.input) if "display" in options.include else None,
    )
    if "values" in options.include:
        if image.dtype == np.uint16 and image.ndim == 2 and image.size <= VALUES_PIXELS:
            in_bytes = np.dstack([np.zeros_like(image), image & 255, image >> 8])  # blue, green, red
            result.values = _png_data(in_bytes.astype(np.uint8))
            result.window = percentiles(image, _display_window(bundle.input))
        elif result.display is None:
            result.display = display_image(image, bundle.input)
    return Response(result.model_dump_json(), media_type="application/json")


def _run_network(
    predictor: ImagePredictor, image: np.ndarray | list[np.ndarray | None], options: ResponseOptions
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities, and the spread of the folds if requested."""
    if "spread" not in options.include:
        return predictor.probabilities(image), None
    if len(predictor.networks) < 2:
        raise RequestError(422, "no_spread", "this model is a single network: remove `include=spread`")
    (logits,) = predictor.input_logits([image])
    return predictor.finished(*logits), predictor.spread(*logits)


def _check_values(upload: DecodedUpload, settings: InputSettings) -> None:
    """Reject DICOM values that were shifted into 16 bits, if the model normalises by stored values."""
    if upload.value_range in (None, (0, 65535), settings.reading.value_range):
        return
    if settings.normalisation not in ("percentile", "image"):
        detail = (
            f"{upload.name}: its values begin at {upload.value_range[0]:g}, and this model normalises by stored values "
            f"(`normalisation: {settings.normalisation}`), so it cannot know what they mean; train it with "
            "`dataset.reading.value_range`, or with `normalisation: percentile`"
        )
        raise RequestError(422, "no_unit", detail)


def as_input(image: np.ndarray, settings: InputSettings) -> np.ndarray | list[np.ndarray | None]:
    """The network's input; for networks that take neighbouring frames, a series of this one image."""
    if isinstance(settings.channels, str):
        return image
    return [image if offset == 0 or settings.edge == "repeat" else None for offset in settings.channels]


def mask_png(masks: np.ndarray, colours: tuple[str, ...], *, task: str) -> bytes:
    """A PNG of bool masks (C, H, W).

    multiclass: (H, W) with a palette; 0 is background, 1 the first class in its colour, and so on.
    multilabel: black and white (1 bit per pixel, read as 0 and 255), (C * H, W), the masks of the classes stacked
    vertically, because they may overlap.
    """
    if task == "multilabel":
        return _png(masks.reshape(-1, masks.shape[-1]).view(np.uint8), cv2.IMWRITE_PNG_BILEVEL, 1)
    file = io.BytesIO()
    palette_image(masks, colours).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _class_results(
    bundle: Bundle,
    probabilities: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray | None,
    options: ResponseOptions,
    spacing: tuple[float, float] | None,
) -> Iterator[ClassResult]:
    thresholds = options.thresholds or bundle.postprocessing.thresholds or (None,) * len(bundle.classes)
    foreground = bundle.class_part(probabilities)
    object_texts = [None] * len(masks) if labels is None else map(encode_labels, labels)
    for name, colour, threshold, probability, mask, objects in zip(
        bundle.classes, bundle.colours, thresholds, foreground, masks, object_texts, strict=True
    ):
        area, include_map = int(np.count_nonzero(mask)), "probabilities" in options.include
        yield ClassResult(
            name=name,
            colour=colour,
            threshold=threshold,
            area=area,
            area_mm2=area * spacing[0] * spacing[1] if spacing else None,
            share=area / mask.size,
            confidence=float(probability[mask].mean()) if area else None,
            peak=float(probability.max()),
            rle=encode_rle(mask, order="C"),
            objects=objects,
            probabilities=_grey(probability) if include_map else None,
        )


def display_image(image: np.ndarray, settings: InputSettings) -> PixelData:
    """An 8-bit version for the screen; 16-bit images are scaled between the percentiles of the network's input."""
    shown = to_rgb8(image, window=None if image.dtype == np.uint8 else _display_window(settings))[..., ::-1]
    if shown.shape[0] * shown.shape[1] <= LOSSLESS_PIXELS:
        return _png_data(shown)
    jpeg = cv2.imencode(".jpg", shown, (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes()
    return PixelData(type="image/jpeg", data=base64.b64encode(jpeg).decode())


def _display_window(settings: InputSettings) -> tuple[float, float]:
    """Percentiles that become black and white on the screen."""
    return (settings.window if settings.normalisation in ("percentile", "training") else None) or PERCENTILES


def _png(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".png", pixels, options)[1].tobytes()


def _grey(values: np.ndarray) -> PixelData:
    """Values from 0 to 1 as grey from 0 to 255."""
    return _png_data(np.rint(values * 255).astype(np.uint8))


def _png_data(pixels: np.ndarray) -> PixelData:
    return PixelData(type="image/png", data=base64.b64encode(_png(pixels)).decode())

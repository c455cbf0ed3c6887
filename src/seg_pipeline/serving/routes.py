"""What the server answers, by path."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.serving.answers import Extra, Wish, answer
from seg_pipeline.serving.metrics import MEDIA_TYPE, Metrics
from seg_pipeline.serving.pictures import FORMATS, check_picture
from seg_pipeline.serving.places import Places
from seg_pipeline.serving.refusals import Problem, Refusal
from seg_pipeline.serving.schema import ClassFacts, Health, LimitFacts, ModelFacts, Prediction
from seg_pipeline.serving.settings import Settings
from seg_pipeline.serving.uploads import FIELD, read_upload

PAGE = Path(__file__).parent / "page"
router = APIRouter()

_WORDS = {
    400: "An empty file, a broken form, a form without the file; a name that the server does not answer for.",
    401: "The token is missing or wrong.",
    403: "Asked by a page of another server.",
    408: "The file did not arrive in time.",
    413: "More bytes or pixels than the limits.",
    415: "No form, or a file that is no image of a known format.",
    422: "A damaged image, or a query that does not fit the model.",
    429: "All places are taken; come back after Retry-After seconds.",
    503: "No worker was free in time; come back after Retry-After seconds.",
    504: "The image took too long.",
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words} for status, words in _WORDS.items()
}
_GUARDED: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Asked by a name that the server does not answer for."},
    **{status: _REFUSALS[status] for status in (401, 403)},
}
_FORMS = ("Prediction", "ImageFacts", "ClassResult", "PixelData", "ModelFacts", "Problem")
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}},
            }
        }
    },
}


@dataclass(frozen=True)
class Served:
    """What the routes share; `app.state.served`."""

    predictor: ImagePredictor
    settings: Settings
    metrics: Metrics
    places: Places

    def thresholds(self) -> tuple[float | None, ...]:
        """The bundle's, one a class; None for multiclass."""
        bundle = self.predictor.bundle
        given = bundle.postprocessing.thresholds if bundle.task == "multilabel" else None
        return given or (None,) * len(bundle.classes)


def _served(request: Request) -> Served:
    return request.app.state.served


@router.post(
    "/api/predict",
    summary="Masks of an image",
    response_model=Prediction,
    responses={200: {"content": {"image/png": {}}, "description": "As JSON, or as a PNG of the masks."}, **_REFUSALS},
    openapi_extra={"requestBody": _BODY},
)
async def predict(
    request: Request,
    form: Annotated[
        Literal["json", "mask"] | None,
        Query(description="json, or mask for a PNG; without it, mask where Accept names image/png, else json."),
    ] = None,
    threshold: Annotated[
        list[Annotated[float, Query(ge=0, le=1)]] | None,
        Query(description="Multilabel: one for all classes, or one a class in their order; else the model's own."),
    ] = None,
    include: Annotated[
        list[Extra] | None,
        Query(description="In JSON, besides: the classes' probabilities, a display image; may be repeated."),
    ] = None,
) -> Response:
    served = _served(request)
    settings, loop, began = served.settings, asyncio.get_running_loop(), time.perf_counter()
    deadline = loop.time() + settings.timeout
    if form is None:
        form = "mask" if "image/png" in request.headers.get("accept", "") else "json"
    wish = Wish(form, _one_a_class(threshold, served), frozenset(include or ()))
    with served.places.hold():
        upload = await read_upload(request, max_bytes=settings.max_bytes, deadline=deadline)
        picture = check_picture(upload.name, upload.data, max_pixels=settings.max_pixels)
        done = await served.places.run(partial(answer, served.predictor, picture, wish), deadline=deadline)
    served.metrics.took(time.perf_counter() - began)
    return Response(done.body, media_type=done.media_type)


def _one_a_class(given: list[float] | None, served: Served) -> tuple[float, ...] | None:
    if not given:
        return None
    bundle = served.predictor.bundle
    if bundle.task != "multilabel":
        raise Refusal(422, "no_thresholds", "a multiclass model takes the likeliest class: leave `threshold` out")
    if len(given) not in (1, len(bundle.classes)):
        words = f"`threshold` must be given once or {len(bundle.classes)} times (once a class), found {len(given)}"
        raise Refusal(422, "thresholds", words)
    return tuple(given) if len(given) > 1 else (given[0],) * len(bundle.classes)


@router.get(
    "/api/model",
    summary="What the model finds and takes",
    response_description="Classes, input, limits, provenance.",
    responses=_GUARDED,
)
async def model(request: Request) -> ModelFacts:
    served = _served(request)
    bundle, settings = served.predictor.bundle, served.settings
    classes = [
        ClassFacts(name=name, colour=colour, threshold=threshold)
        for name, colour, threshold in zip(bundle.classes, bundle.colours, served.thresholds(), strict=True)
    ]
    return ModelFacts(
        task=bundle.task,
        classes=classes,
        background=bundle.background,
        input=asdict(bundle.input),
        postprocessing=bundle.postprocessing.to_dict(),
        provenance=dict(bundle.provenance),
        limits=LimitFacts(formats=list(FORMATS), max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
    )


@router.get(
    "/healthz",
    summary="Whether the server is up",
    response_description="It is.",
    responses={status: _GUARDED[status] for status in (400, 403)},
)
async def health() -> Health:
    return Health(status="ok")


@router.get(
    "/metrics",
    summary="Counts for Prometheus",
    response_description="Text form 0.0.4.",
    response_class=PlainTextResponse,
    responses=_GUARDED,
)
async def metrics(request: Request) -> Response:
    served = _served(request)
    text = served.metrics.text(held=served.places.held, limit=served.places.limit)
    return Response(text, media_type=MEDIA_TYPE)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The schema as a page that needs no script."""
    template = jinja2.Template((PAGE / "docs.html").read_text(encoding="utf-8"), autoescape=True)
    schema = request.app.openapi()
    forms = [name for name, form in schema["components"]["schemas"].items() if name in _FORMS]
    return HTMLResponse(template.render(schema=schema, schemas=forms, base=str(request.base_url)))

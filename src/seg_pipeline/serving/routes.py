"""Routes of the server."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jinja2
from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from seg_pipeline.segmentation.inference.class_folders import class_folders
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.serving.decoding import Decode
from seg_pipeline.serving.image_checks import FORMATS
from seg_pipeline.serving.metrics import MEDIA_TYPE, Metrics
from seg_pipeline.serving.queue import RequestQueue
from seg_pipeline.serving.responses import Extra, ResponseOptions, respond
from seg_pipeline.serving.schema import ClassFacts, Health, LimitFacts, ModelFacts, Prediction, Problem, RequestError
from seg_pipeline.serving.settings import Settings
from seg_pipeline.serving.uploads import FIELD, read_upload

if TYPE_CHECKING:
    from seg_pipeline.serving.saving import Store

PAGE = Path(__file__).parent / "page"
_STATUS_DESCRIPTIONS = {
    400: "Empty file, malformed form, form without the file, or unknown Host header.",
    401: "Token missing or wrong.",
    403: "Cross-origin request refused.",
    408: "Upload timed out.",
    413: "File or image exceeds the limits.",
    415: "Not a form, or not an image of a supported format.",
    422: "Damaged image, an image that takes too long or too much memory to decode, or invalid query parameters.",
    429: "Too many requests, from all clients or from this one; retry after Retry-After seconds.",
    500: "The server failed; its log has the reason.",
    503: "No worker was free in time, or the server is stopping; retry after Retry-After seconds.",
    504: "Prediction timed out.",
}
_MISSING = {"model": Problem, "description": "There is no such example."}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description} for status, description in _STATUS_DESCRIPTIONS.items()
}
_SCHEMAS = ("Prediction", "ImageFacts", "ClassResult", "PixelData", "ModelFacts", "Saved", "Problem")


def form_schema(**fields: str) -> dict[str, Any]:
    """OpenAPI schema of a form with one file per field; the values describe the fields."""
    files = {name: {"type": "string", "format": "binary", "description": text} for name, text in fields.items()}
    schema = {"type": "object", "required": list(fields), "properties": files}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


router = APIRouter(responses={400: {"model": Problem, "description": "Unknown Host header."}, 403: ERRORS[403]})


@dataclass
class Readiness:
    """Whether the server is ready for requests."""

    is_warm: bool = False
    is_stopping: bool = False


@dataclass(frozen=True)
class Served:
    """State shared by the routes, stored as `app.state.served`."""

    predictor: ImagePredictor
    decode: Decode
    settings: Settings
    metrics: Metrics
    queue: RequestQueue
    readiness: Readiness
    examples: Sequence[Path] = ()
    store: "Store | None" = None

    def thresholds(self) -> tuple[float | None, ...]:
        """The bundle's thresholds, one per class; None for multiclass."""
        bundle = self.predictor.bundle
        thresholds = bundle.postprocessing.thresholds if bundle.task == "multilabel" else None
        return thresholds or (None,) * len(bundle.classes)


def _served(request: Request) -> Served:
    return request.app.state.served


def request_deadline(served: Served) -> float:
    """When a request that starts now must be answered, by the event loop's clock."""
    return asyncio.get_running_loop().time() + served.settings.timeout


@router.post(
    "/api/predict",
    summary="Predict the masks of an image",
    response_model=Prediction,
    responses={
        200: {"content": {"image/png": {}}, "description": "The prediction as JSON, or the masks as PNG."},
        **ERRORS,
    },
    openapi_extra={"requestBody": form_schema(**{FIELD: "The image."})},
)
async def predict(
    request: Request,
    response_format: Annotated[
        Literal["json", "mask"] | None,
        Query(description="json, or mask for a PNG; default: mask if Accept contains image/png, else json."),
    ] = None,
    threshold: Annotated[
        list[Annotated[float, Query(ge=0, le=1)]] | None,
        Query(description="Multilabel models: one for all classes, or one per class in order; default: the model's."),
    ] = None,
    include: Annotated[
        list[Extra] | None,
        Query(
            description="Extra parts of the JSON: maps of probabilities, uncertainty and spread, a display image, 16-"
            "bit values."
        ),
    ] = None,
    page: Annotated[
        int | None, Query(ge=1, description="Page of a TIFF or DICOM file with several images, counted from 1.")
    ] = None,
) -> Response:
    served = _served(request)
    settings, deadline, start = served.settings, request_deadline(served), time.perf_counter()
    if response_format is None:
        response_format = "mask" if "image/png" in request.headers.get("accept", "") else "json"
    options = ResponseOptions(response_format, _per_class(threshold, served), frozenset(include or ()))
    with served.queue.hold():
        name, data = await read_upload(request, max_bytes=settings.max_bytes, deadline=deadline)
        response = await served.queue.run(
            partial(_predict_upload, served, name, data, page, options), deadline=deadline
        )
    served.metrics.record_seconds(time.perf_counter() - start)
    return response


def _predict_upload(served: Served, name: str, data: bytes, page: int | None, options: ResponseOptions) -> Response:
    return respond(served.predictor, served.decode(name, data, page), options)


def _per_class(thresholds: list[float] | None, served: Served) -> tuple[float, ...] | None:
    if not thresholds:
        return None
    bundle = served.predictor.bundle
    if bundle.task != "multilabel":
        raise RequestError(
            422, "no_thresholds", "a multiclass model predicts the most probable class: remove `threshold`"
        )
    if len(thresholds) not in (1, len(bundle.classes)):
        detail = (
            f"`threshold` must be given once or {len(bundle.classes)} times (once per class), found {len(thresholds)}"
        )
        raise RequestError(422, "thresholds", detail)
    return tuple(thresholds) if len(thresholds) > 1 else (thresholds[0],) * len(bundle.classes)


@router.get(
    "/api/model",
    summary="Classes and limits of the model",
    response_description="Classes, input, limits, provenance.",
    responses={401: ERRORS[401]},
)
async def model(request: Request) -> ModelFacts:
    served = _served(request)
    bundle, settings = served.predictor.bundle, served.settings
    classes = [
        ClassFacts(name=name, colour=colour, threshold=threshold, folder=folder)
        for name, colour, threshold, folder in zip(
            bundle.classes, bundle.colours, served.thresholds(), class_folders(bundle.classes), strict=True
        )
    ]
    return ModelFacts(
        task=bundle.task,
        classes=classes,
        objects=bundle.objects,
        networks=len(served.predictor.networks),
        background=bundle.background,
        input=asdict(bundle.input),
        postprocessing=bundle.postprocessing.to_dict(),
        provenance=dict(bundle.provenance),
        examples=[path.name for path in served.examples],
        saves=served.store is not None,
        limits=LimitFacts(formats=list(FORMATS), max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
    )


@router.get(
    "/api/examples/{number}",
    summary="An example image",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, 401: ERRORS[401], 404: _MISSING},
)
async def example(request: Request, number: Annotated[int, PathParameter(ge=0)]) -> FileResponse:
    examples = _served(request).examples
    if number >= len(examples):
        raise RequestError(404, "no_example", f"there are {len(examples)} examples, counted from 0")
    return FileResponse(examples[number], media_type="application/octet-stream")


@router.get(
    "/healthz",
    summary="Liveness check",
    response_description="The server is up.",
)
async def health() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Readiness check",
    response_description="The model is warm; send requests here.",
    responses={503: {"model": Problem, "description": "Still warming up, or stopping."}},
)
async def ready(request: Request) -> Health:
    readiness = _served(request).readiness
    if readiness.is_stopping or not readiness.is_warm:
        reason = "stopping" if readiness.is_stopping else "warming up"
        raise RequestError(503, "not_ready", f"the server is {reason}", {"Retry-After": "1"})
    return Health(status="ok")


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_description="Text format 0.0.4.",
    response_class=PlainTextResponse,
    responses={401: ERRORS[401]},
)
async def metrics(request: Request) -> Response:
    served = _served(request)
    text = served.metrics.text(held=served.queue.held, limit=served.queue.limit)
    return Response(text, media_type=MEDIA_TYPE)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API documentation as a static page; FastAPI's own loads scripts from a CDN."""
    template = jinja2.Template((PAGE / "docs.html").read_text(encoding="utf-8"), autoescape=True)
    schema = request.app.openapi()
    schemas = [name for name in schema["components"]["schemas"] if name in _SCHEMAS]
    return HTMLResponse(template.render(schema=schema, schemas=schemas, base=str(request.base_url)))

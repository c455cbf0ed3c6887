"""The web application: routes and middleware around a predictor."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import seg_pipeline
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.serving import saving
from seg_pipeline.serving.decoding import Decode, DecodingProcesses, decode_upload
from seg_pipeline.serving.guard import Guard, error_response
from seg_pipeline.serving.metrics import Metrics
from seg_pipeline.serving.queue import RequestQueue
from seg_pipeline.serving.responses import as_input
from seg_pipeline.serving.routes import PAGE, Readiness, Served, router
from seg_pipeline.serving.saving import Store
from seg_pipeline.serving.schema import RequestError
from seg_pipeline.serving.settings import Settings

log = logging.getLogger("uvicorn.error")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm")
MAX_EXAMPLES = 24
STOP_SHARE = 0.2
"""Last share of ``stop_seconds``, reserved for predictions still running after the requests in progress ended."""


def make_app(predictor: ImagePredictor, settings: Settings, decode: Decode | None = None) -> FastAPI:
    """ASGI application. It is ready once it has predicted a blank image, so that the first request is not slow.

    Args:
        decode: decodes uploads; None: ``decode_upload`` in this process.

    Raises:
        ValueError: raised by ``Store``.
    """
    reading = predictor.bundle.input.reading
    decode = decode or partial(decode_upload, max_pixels=settings.max_pixels, reading=reading)
    queue = RequestQueue(workers=settings.workers, queue=settings.queue)
    metrics = Metrics()

    readiness = Readiness()

    async def warm_up() -> None:
        blank = np.zeros(predictor.bundle.input.size, dtype=np.uint8)
        try:
            await asyncio.to_thread(predictor.probabilities, as_input(blank, predictor.bundle.input))
            if isinstance(decode, DecodingProcesses):
                await asyncio.to_thread(decode.wait)
        except Exception:  # any error of the network's runtime
            log.exception("the model cannot predict a blank image, so this server will not become ready")
        else:
            readiness.is_warm = True

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(warm_up())
        yield
        readiness.is_stopping = True
        warming.cancel()
        if isinstance(decode, DecodingProcesses):
            await asyncio.to_thread(decode.close)
        await queue.close(seconds=STOP_SHARE * settings.stop_seconds)

    app = FastAPI(
        title="seg_pipeline",
        version=seg_pipeline.__version__,
        description="Segmentation with an exported model.",
        docs_url=None,  # FastAPI's own pages load scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    store = Store(settings.save, predictor.bundle) if settings.save else None
    examples = list_examples(settings.examples or predictor.bundle.folder / "examples")
    app.state.served = Served(predictor, decode, settings, metrics, queue, readiness, examples, store)
    app.include_router(router)
    if store:
        app.include_router(saving.router)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    for kind in (RequestError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _error)
    return app


def list_examples(folder: Path) -> list[Path]:
    """Images in a folder, at most ``MAX_EXAMPLES``; [] if there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()][:MAX_EXAMPLES]


async def _error(_: Request, error: Exception) -> JSONResponse:
    """Respond to errors of this package, invalid query parameters, and unknown paths and methods."""
    if isinstance(error, RequestValidationError):
        message = "; ".join(f"`{'.'.join(map(str, detail['loc'][1:]))}`: {detail['msg']}" for detail in error.errors())
        error = RequestError(422, "query", message)
    elif isinstance(error, HTTPException):
        error = RequestError(error.status_code, "http", str(error.detail), dict(error.headers or {}))
    assert isinstance(error, RequestError)
    return error_response(error)

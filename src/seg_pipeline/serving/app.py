"""The web application: a predictor behind routes and middleware."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import seg_pipeline
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.serving.decoding import Decode, DecodingProcesses, decode_upload
from seg_pipeline.serving.errors import RequestError
from seg_pipeline.serving.guard import Guard, error_response
from seg_pipeline.serving.metrics import Metrics
from seg_pipeline.serving.queue import RequestQueue
from seg_pipeline.serving.responses import as_input
from seg_pipeline.serving.routes import PAGE, Served, router
from seg_pipeline.serving.settings import Settings

log = logging.getLogger(__name__)


def make_app(predictor: ImagePredictor, settings: Settings, decode: Decode | None = None) -> FastAPI:
    """ASGI application. It predicts a blank image at start, so that the first request is not slow.

    Args:
        decode: decodes uploads; None: ``decode_upload`` in this process.
    """
    reading = predictor.bundle.input.reading
    decode = decode or partial(decode_upload, max_pixels=settings.max_pixels, reading=reading)
    queue = RequestQueue(workers=settings.workers, queue=settings.queue)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        blank = np.zeros(predictor.bundle.input.size, dtype=np.uint8)
        await asyncio.to_thread(predictor.probabilities, as_input(blank, predictor.bundle.input))
        yield
        if isinstance(decode, DecodingProcesses):
            decode.close()
        queue.close()

    app = FastAPI(
        title="seg_pipeline",
        version=seg_pipeline.__version__,
        description="Segmentation with an exported model.",
        docs_url=None,  # FastAPI's own pages load scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.served = Served(predictor, decode, settings, metrics, queue)
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    for kind in (RequestError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _error)
    return app


async def _error(_: Request, error: Exception) -> JSONResponse:
    """Respond to errors of this package, wrong query parameters, and unknown paths and methods."""
    if isinstance(error, RequestValidationError):
        words = "; ".join(f"`{'.'.join(map(str, one['loc'][1:]))}`: {one['msg']}" for one in error.errors())
        error = RequestError(422, "query", words)
    elif isinstance(error, HTTPException):
        error = RequestError(error.status_code, "http", str(error.detail), dict(error.headers or {}))
    assert isinstance(error, RequestError)
    return error_response(error)

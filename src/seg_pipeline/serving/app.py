"""The web application around a predictor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import seg_pipeline
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.serving.answers import as_input
from seg_pipeline.serving.guard import Guard, refused
from seg_pipeline.serving.metrics import Metrics
from seg_pipeline.serving.places import Places
from seg_pipeline.serving.refusals import Refusal
from seg_pipeline.serving.routes import PAGE, Served, router
from seg_pipeline.serving.settings import Settings

log = logging.getLogger(__name__)


def make_app(predictor: ImagePredictor, settings: Settings) -> FastAPI:
    """An ASGI application; it computes one image as it starts, so that the first request does not wait."""
    places = Places(workers=settings.workers, queue=settings.queue)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        blank = np.zeros(predictor.bundle.input.size, dtype=np.uint8)
        await asyncio.to_thread(predictor.probabilities, as_input(blank, predictor.bundle.input))
        yield
        places.close()

    app = FastAPI(
        title="seg_pipeline",
        version=seg_pipeline.__version__,
        description="Segmentation by an exported model.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.served = Served(predictor, settings, metrics, places)
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


async def _refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return refused(error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    words = "; ".join(f"`{'.'.join(map(str, one['loc'][1:]))}`: {one['msg']}" for one in error.errors())
    return refused(Refusal(422, "query", words))


async def _http(_: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    return refused(Refusal(error.status_code, "http", str(error.detail), dict(error.headers or {})))

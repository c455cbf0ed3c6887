"""A predictor without a network: the first class is as likely as a pixel is bright, the second as it is dark."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from seg_pipeline.segmentation.images.intensities import to_grey
from seg_pipeline.segmentation.objects.label_maps import numbered
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, make_masks
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.settings.training import InputSettings
from seg_pipeline.serving.app import make_app
from seg_pipeline.serving.settings import Settings


@dataclass(frozen=True)
class FakeBundle:
    task: str = "multilabel"
    classes: tuple[str, ...] = ("bright", "dark")
    colours: tuple[str, ...] = ("#e69f00", "#56b4e9")
    background: bool = False
    objects: bool = False
    input: InputSettings = field(default_factory=lambda: InputSettings(size=(32, 64)))
    postprocessing: Postprocessing = field(default_factory=lambda: Postprocessing.none(2, 0.5))
    folder: Path = Path("no-bundle")
    provenance: dict = field(
        default_factory=lambda: {"models": [{"best": {"val_dice": 0.9}, "weights_sha256": 64 * "f"}]}
    )
    class_part, without_gaps = Bundle.class_part, Bundle.without_gaps


class FakePredictor(ImagePredictor):
    def __init__(
        self, bundle: FakeBundle | None = None, job: Callable[[], object] = lambda: None, networks: int = 1
    ) -> None:
        self.bundle, self.job, self.networks = bundle or FakeBundle(), job, [None] * networks

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        self.job()
        bright = to_grey(image).astype(np.float32) / np.iinfo(image.dtype).max
        foreground = np.stack([bright, 1 - bright])
        if not self.bundle.background:
            return foreground
        nothing = np.full_like(bright, 0.7)
        return np.concatenate([nothing[None], foreground]) / 1.7

    def masks(self, probabilities: np.ndarray, thresholds: tuple[float, ...] | None = None) -> np.ndarray:
        bundle = self.bundle
        settings = replace(bundle.postprocessing, thresholds=thresholds) if thresholds else bundle.postprocessing
        return make_masks(probabilities, settings, task=bundle.task, background=bundle.background)

    def objects(self, probabilities: np.ndarray, thresholds: tuple[float, ...] | None = None) -> np.ndarray:
        """Pixels of one grey value are an object."""
        masks = self.masks(probabilities, thresholds)
        return np.stack([numbered(np.rint(255 * one * mask)) for one, mask in zip(probabilities, masks, strict=True)])

    def input_logits(self, images: Sequence[np.ndarray]) -> list:
        return [(image, image.shape) for image in images]

    def finished(self, logits: np.ndarray, _: tuple[int, int]) -> np.ndarray:
        return self.probabilities(logits)

    def spread(self, _: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """0 in the first column, and more from column to column up to 1."""
        return np.broadcast_to(np.linspace(0, 1, shape[1], dtype=np.float32), shape)


OBJECTS = FakeBundle(objects=True)
MULTICLASS = FakeBundle(task="multiclass", background=True, postprocessing=Postprocessing.none(2, None))


def as_file(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def as_dicom(values: np.ndarray, *, intercept: int = 0) -> bytes:
    """A CT image (H, W), or of several frames (N, H, W), with a spacing of 0.5 and 2 mm."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2"
    one.Rows, one.Columns = values.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelSpacing = 15, [0.5, 2]
    one.RescaleSlope, one.RescaleIntercept = 1, intercept
    if values.ndim == 3:
        one.NumberOfFrames = len(values)
    one.PixelData = values.astype("<u2").tobytes()
    file = io.BytesIO()
    one.save_as(file, enforce_file_format=True)
    return file.getvalue()


def app_of(predictor: FakePredictor, **settings: object) -> FastAPI:
    return make_app(predictor, Settings(**settings))


class WarmClient(TestClient):
    """Waits until the server has predicted its blank image."""

    def __enter__(self) -> WarmClient:
        super().__enter__()
        wait_until_warm(self.app)
        return self


def wait_until_warm(app: FastAPI) -> None:
    end = time.monotonic() + 120
    while not app.state.served.readiness.is_warm:
        assert time.monotonic() < end, "did not become ready"
        time.sleep(0.005)


def client_of(predictor: FakePredictor, **settings: object) -> TestClient:
    return WarmClient(app_of(predictor, **settings), base_url="http://localhost")


@pytest.fixture
def client() -> Iterator[TestClient]:
    with client_of(FakePredictor()) as client:
        yield client


@contextlib.contextmanager
def running(app: FastAPI, **config: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    """The address of a real server in a thread."""
    own = socket.create_server(("127.0.0.1", 0))  # given to the server, so that no other process can take its port
    port = own.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, **config))
    thread = threading.Thread(target=server.run, args=([own],))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        wait_until_warm(app)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(120)
        own.close()


@pytest.fixture(scope="session")
def fake() -> SimpleNamespace:
    """The helpers above, for tests: conftest is no module that they could import."""
    return SimpleNamespace(
        Predictor=FakePredictor,
        MULTICLASS=MULTICLASS,
        OBJECTS=OBJECTS,
        file=as_file,
        dicom=as_dicom,
        app=app_of,
        client=client_of,
        running=running,
    )


@pytest.fixture(scope="module")  # a browser that outlived its module would keep asyncio from running
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        with browser.new_context(viewport={"width": 1280, "height": 860}) as context:
            yield context
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Callable[[str], AbstractContextManager[Any]]:
    """Opens a page that notes what it asked for and what went wrong."""

    @contextlib.contextmanager
    def opened(link: str) -> Iterator[Any]:
        with browser.new_page() as page:
            page.set_default_timeout(60_000)
            page.asked, page.wrong = [], []
            page.on("request", lambda request: page.asked.append(request.url))
            page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: page.wrong.append(str(error)))
            page.goto(link)
            page.wait_for_selector("#classes tr, #token:not([hidden])")
            yield page
            address = link.partition("/#")[0]
            assert [url for url in page.asked if not url.startswith((address, "blob:" + address))] == []

    return opened

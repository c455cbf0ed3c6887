"""Save corrected masks in a folder that `new-data` can read, if the server was started with `--save`.

`images/` holds each image once; `masks/` its masks as `seg-pipeline predict` writes them or, if the model segments
objects, `labelme/` a file with one mask per object. Nothing is overwritten: another image of the same name gets a
number, and older masks of an image move to the hidden folder `.earlier`.
"""

import itertools
import json
import re
import threading
import unicodedata
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from seg_pipeline.segmentation.formats.label_tools import Picture, Style, labelme
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.inference.outputs import mask_files, write_masks
from seg_pipeline.segmentation.objects.label_maps import decode_labels
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.storage.atomic import beside, rename, replacing
from seg_pipeline.serving.image_checks import DecodedUpload
from seg_pipeline.serving.routes import ERRORS, Served, form_schema, request_deadline
from seg_pipeline.serving.schema import RequestError
from seg_pipeline.serving.uploads import FIELD, read_form

MASKS = "masks"
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp", "BMP": ".bmp"}
MAX_BYTES = 4_000_000
"""Limit for the masks: about 400,000 runs; error messages about that many take 200 MB in Python."""
RESERVED = re.compile(r"(?i)con|prn|aux|nul|com\d|lpt\d")
"""File names that Windows reserves."""
_RUNS = TypeAdapter(dict[str, str])


class Saved(BaseModel):
    files: list[str] = Field(description="Saved files, relative to the folder: the image and its masks.")


class Store:
    """A folder of saved images and masks. Thread-safe.

    Raises:
        ValueError: the folder holds masks of other classes.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.folder, self._bundle, self._lock = folder, bundle, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        if bundle.task == "multiclass":
            names, class_file = "".join(f"{name}\n" for name in bundle.classes), folder / "classes.txt"
            if class_file.exists() and class_file.read_text(encoding="utf-8") != names:
                raise ValueError(f"{folder}: holds masks of other classes ({class_file.name}); choose another folder")
            with replacing(class_file) as temporary:
                temporary.write_text(names, encoding="utf-8")

    def save(self, upload: DecodedUpload, data: bytes, masks: np.ndarray) -> list[str]:
        """Write an image, unless it exists, and its masks (from ``read_masks``); return the names of the files."""
        stem, suffix = safe_stem(upload.name), SUFFIXES.get(upload.format, ".png")
        if upload.pages > 1 or upload.format not in SUFFIXES:  # only the page, as the model saw it
            stem, suffix = f"{stem}_page{upload.page}" if upload.pages > 1 else stem, ".png"
            pixels = upload.pixels if upload.pixels.ndim == 2 else upload.pixels[..., ::-1]
            data = cv2.imencode(".png", pixels)[1].tobytes()
        with self._lock:
            image = self._image_file(stem, suffix, data)
            objects = [f"labelme/{image.stem}.json"] if self._bundle.objects else None
            files = objects or mask_files(image.stem, self._bundle)
            for file in files:
                self._move_aside(self.folder / file)
            if objects:
                self._write_objects(self.folder / objects[0], f"../images/{image.name}", masks)
            else:
                write_masks(self.folder, image.stem, masks, self._bundle)
        return [f"images/{image.name}", *files]

    def _write_objects(self, path: Path, image: str, labels: np.ndarray) -> None:
        by_class = dict(zip(self._bundle.classes, labels, strict=True))
        masks = {name: class_labels > 0 for name, class_labels in by_class.items()}
        size = labels.shape[1], labels.shape[2]
        content = labelme.document(Picture(image, image, size, masks, by_class), image, Style("masks"))
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def _image_file(self, stem: str, suffix: str, data: bytes) -> Path:
        """The image file with this content: an existing one, or a new one under the first free name."""
        folder = self.folder / "images"
        with beside(folder / f"{stem}{suffix}") as temporary:
            temporary.write_bytes(data)
            taken = {path.stem.lower(): path for path in folder.iterdir() if path != temporary}
            for number in itertools.count(1):
                name = f"{stem}_{number}" if number > 1 else stem
                existing = taken.get(name.lower())
                if existing is None:
                    rename(temporary, target := folder / f"{name}{suffix}")
                    return target
                if existing.suffix == suffix and existing.read_bytes() == data:
                    return existing
        raise AssertionError

    def _move_aside(self, mask: Path) -> None:
        if mask.exists():
            earlier = self.folder / ".earlier" / mask.relative_to(self.folder)
            earlier.parent.mkdir(parents=True, exist_ok=True)
            names = (earlier.with_stem(f"{mask.stem}_{number}") for number in itertools.count(1))
            mask.rename(next(name for name in names if not name.exists()))


def safe_stem(name: str) -> str:
    """A file name without folders and extension that every file system accepts."""
    base = unicodedata.normalize("NFC", re.split(r"[\\/]", name)[-1])
    stem = re.sub(r"[^\w-]+", "_", re.sub(r"\.[^.]*$", "", base)).strip("_")[:80]
    return f"image_{stem}" if not stem or RESERVED.fullmatch(stem) else stem


router = APIRouter()


@router.post(
    "/api/save",
    summary="Save an image and its corrected masks",
    responses=ERRORS,
    openapi_extra={
        "requestBody": form_schema(
            **{
                FIELD: "The image.",
                MASKS: "JSON by class: `rle` as in /api/predict, or `objects` if the model segments objects.",
            }
        )
    },
)
async def save(
    request: Request,
    page: Annotated[int | None, Query(ge=1, description="Page of a file with several images, counted from 1.")] = None,
) -> Saved:
    served: Served = request.app.state.served
    deadline = request_deadline(served)
    with served.queue.hold():
        limit = served.settings.max_bytes
        files = await read_form(request, (FIELD, MASKS), max_bytes=limit, deadline=deadline)
        return await served.queue.run(partial(_save_upload, served, files, page), deadline=deadline)


def _save_upload(served: Served, files: dict[str, tuple[str, bytes]], page: int | None) -> Saved:
    assert served.store is not None
    upload = served.decode(*files[FIELD], page)
    masks = read_masks(files[MASKS][1], served.predictor.bundle, upload.pixels.shape[:2])
    return Saved(files=served.store.save(upload, files[FIELD][1], masks))


def read_masks(data: bytes, bundle: Bundle, shape: tuple[int, ...]) -> np.ndarray:
    """Decode the form's field ``masks``: bool masks (C, H, W), or int32 object numbers (C, H, W).

    Raises:
        RequestError: 413, it is too large; 422, it is not such JSON, or does not match the classes, image or task.
    """
    if len(data) > MAX_BYTES:
        raise RequestError(413, "masks", f"`{MASKS}` has {len(data):,} bytes; at most {MAX_BYTES:,} are accepted")
    try:
        runs = _RUNS.validate_json(data)
        if set(runs) != set(bundle.classes):
            raise ValueError(f"the classes are {sorted(runs)}, expected {sorted(bundle.classes)}")
        decode = _decode_objects if bundle.objects else partial(decode_rle, order="C")
        masks = np.stack([decode(runs[name], (shape[0], shape[1])) for name in bundle.classes])
        if bundle.task == "multiclass" and (masks.sum(0, dtype=np.uint16) > 1).any():
            raise ValueError("masks overlap, but each pixel has at most one class")
    except ValidationError:
        raise RequestError(422, "masks", f"`{MASKS}` must be JSON: run lengths by class name") from None
    except ValueError as error:
        raise RequestError(422, "masks", f"`{MASKS}`: {error!s:.300}") from None
    return masks


def _decode_objects(text: str, shape: tuple[int, int]) -> np.ndarray:
    if any(len(number) > 9 for number in text.split()):  # sums of larger ones could exceed 64 bits
        raise ValueError("a number of a run of objects is too large")
    try:
        return decode_labels(text, shape)
    except ValueError as error:
        expected = 'runs of objects must be "start length object ..." in their order and within the image'
        raise ValueError(f"{expected} ({error})") from None

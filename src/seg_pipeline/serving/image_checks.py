"""Checks of an uploaded file by its first bytes and its header, before anything is decoded."""

import io
import re
from dataclasses import dataclass, replace

import numpy as np

from seg_pipeline.segmentation.images import tiff
from seg_pipeline.segmentation.images.decoding import decode_image
from seg_pipeline.segmentation.images.headers import HEAD, Header, is_whole, read_header
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving.errors import RequestError

MOST_DIRECTORIES = 16
"""Pages of a TIFF, with thumbnails and masks, whose headers are read to count its images; 10,000 would take 1.2 s."""
FORMATS = ("PNG", "JPEG", "TIFF", "WebP", "BMP")

_BEGINNINGS = (
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("JPEG", rb"\xff\xd8\xff"),
    ("TIFF", rb"II[*+]\x00|MM\x00[*+]"),
    ("WebP", rb"RIFF....WEBP"),
    ("BMP", rb"BM"),
    ("a GIF", rb"GIF8"),
    ("a PDF", rb"%PDF"),
    ("an SVG", rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg"),
    ("a web page", rb"\s*<(!doctype html|html)"),
    ("a ZIP archive", rb"PK\x03\x04"),
    ("a gzip file (a NIfTI volume?)", rb"\x1f\x8b"),
    ("a DICOM file", rb".{128}DICM"),
    ("a HEIC or AVIF image", rb"....ftyp"),
)


@dataclass(frozen=True)
class ImageUpload:
    """An upload whose header passed the checks; not decoded yet. Height and width are as stored."""

    name: str
    data: bytes
    format: str
    height: int
    width: int

    def decode(self, settings: ReadSettings) -> np.ndarray:
        """Pixels, as from ``read_image``; ``settings`` are the model's.

        Raises:
            RequestError: 422, the file is truncated, damaged, or has an unsupported pixel type.
        """
        try:
            allowed = replace(settings, max_pixels=self.height * self.width)
            image = decode_image(self.data, name=self.name, settings=allowed)
        except (ValueError, OSError) as error:
            raise RequestError(422, "damaged", str(error)) from None
        if sorted(image.shape[:2]) != sorted((self.height, self.width)):  # EXIF may turn it
            raise RequestError(422, "damaged", f"{self.name}: its size differs from its header")
        return image


def check_upload(name: str, data: bytes, *, max_pixels: int) -> ImageUpload:
    """Check format and size of a file. Its suffix and the media type sent by the client are ignored.

    Raises:
        RequestError: 400 for an empty file, 413 for too many pixels, 415 for another format, 422 for a damaged header
            or a file of several images.
    """
    if not data:
        raise RequestError(400, "empty_file", f"{name}: the file is empty (0 bytes)")
    kind = kind_of(data)
    if kind not in FORMATS:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise RequestError(415, "not_an_image", f"{name}: this is {kind}; send a {formats} file")
    if not is_whole(data):
        raise RequestError(422, "damaged", f"{name}: truncated or damaged, cannot be decoded")
    height, width, frames, _ = _header(name, data)
    if height * width > max_pixels:
        words = f"{name}: {width:,} x {height:,} pixels exceed this server's limit of {max_pixels:,}"
        raise RequestError(413, "image_too_large", words)
    if frames > 1:
        words = f"{name}: contains {frames} images; send one image per file"
        raise RequestError(422, "several_images", words)
    return ImageUpload(name, data, kind, height, width)


def kind_of(data: bytes) -> str:
    """One of ``FORMATS``, or a description of what the first bytes show."""
    head = data[:1024]
    for kind, beginning in _BEGINNINGS:
        if re.match(beginning, head, re.DOTALL | re.IGNORECASE):
            return kind
    return "text" if _is_text(head) else "not a known image format"


def _is_text(head: bytes) -> bool:
    try:
        return head[:1000].decode("utf-8").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def _header(name: str, data: bytes) -> Header:
    try:
        if tiff.is_tiff(data) and (number := tiff.count_directories(io.BytesIO(data))) > MOST_DIRECTORIES:
            return Header(1, 1, number)
        header = read_header(io.BytesIO(data), data[:HEAD])
    except Exception:  # whatever the readers of formats raise  # noqa: BLE001
        header = Header(0, 0)
    if min(header.height, header.width) < 1:
        raise RequestError(422, "damaged", f"{name}: truncated or damaged, its header cannot be read")
    return header

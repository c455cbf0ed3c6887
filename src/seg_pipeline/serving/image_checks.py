"""Check an uploaded file by its first bytes and its header, before anything is decoded."""

import contextlib
import io
import re
import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from seg_pipeline.segmentation.formats.dicom import read_facts, read_frame
from seg_pipeline.segmentation.images import tiff
from seg_pipeline.segmentation.images.decoding import decode_image, scale_to_uint16
from seg_pipeline.segmentation.images.headers import HEAD, Header, is_whole, read_header
from seg_pipeline.segmentation.images.intensities import fit_uint16, to_uint16
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving.schema import RequestError

MAX_DIRECTORIES = 16
"""TIFF pages (thumbnails and masks included) whose headers are read to count images; 10,000 would take 1.2 s."""
MAX_PAGES = 1000
"""The same limit if the request names a page."""
FORMATS = ("PNG", "JPEG", "TIFF", "WebP", "BMP", *(["DICOM"] if find_spec("pydicom") else []))

_SIGNATURES = (
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
    ("DICOM" if "DICOM" in FORMATS else "a DICOM file, which needs the extra `medical`", rb".{128}DICM"),
    ("a HEIC or AVIF image", rb"....ftyp"),
)


@dataclass(frozen=True)
class DecodedUpload:
    """An upload as ``read_image`` returns it."""

    name: str
    format: str
    pixels: np.ndarray
    page: int = 1
    pages: int = 1
    spacing: tuple[float, float] | None = None
    """Millimetres per row and per column."""
    value_range: tuple[float, float] | None = None
    """Values in the file that pixels 0 and 65535 represent; None: pixels are the file's own values."""


@dataclass(frozen=True)
class ImageUpload:
    """An upload whose header passed the checks, not yet decoded. Height and width are of the first page, as stored."""

    name: str
    data: bytes
    format: str
    height: int
    width: int
    page: int = 1
    pages: int = 1
    spacing: tuple[float, float] | None = None
    """Millimetres per row and per column of the decoded image."""

    def decode(self, settings: ReadSettings) -> DecodedUpload:
        """Decode the pixels, as ``read_image`` does, with the model's ``settings``.

        Raises:
            RequestError: 422, the file is truncated, damaged, or has an unsupported pixel type.
        """
        value_range = None
        try:
            if self.format == "DICOM":
                image, value_range = _dicom_pixels(self.name, self.data, self.page, settings)
            else:
                allowed = replace(settings, max_pixels=self.height * self.width)
                image = decode_image(self.data, name=self.name, settings=allowed, page=self.page)
                if self.format == "TIFF" and tiff.read_dtype(io.BytesIO(self.data)) not in (np.uint8, np.uint16, bool):
                    value_range = settings.value_range  # signed, 32-bit or float: scaled
        except (ValueError, OSError) as error:
            raise RequestError(422, "damaged", str(error)) from None
        if sorted(image.shape[:2]) != sorted((self.height, self.width)):  # EXIF may rotate it
            cause = f"page {self.page} has another size than the first" if self.page > 1 else "damaged"
            raise RequestError(422, "damaged", f"{self.name}: its size differs from its header: {cause}")
        return DecodedUpload(self.name, self.format, image, self.page, self.pages, self.spacing, value_range)


def check_upload(name: str, data: bytes, *, max_pixels: int, page: int | None = None) -> ImageUpload:
    """Check format and size of a file. Its suffix and the media type sent by the client are ignored.

    Args:
        page: page of a TIFF or DICOM file with several images, counted from 1.

    Raises:
        RequestError: 400 for an empty file, 413 for too many pixels, 415 for another format, 422 for a damaged header,
            a missing page, or a file of several images without ``page``.
    """
    if not data:
        raise RequestError(400, "empty_file", f"{name}: the file is empty (0 bytes)")
    file_format = detect_format(data)
    if file_format not in FORMATS:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise RequestError(415, "not_an_image", f"{name}: this is {file_format}; send a {formats} file")
    if not is_whole(data):
        raise RequestError(422, "damaged", f"{name}: truncated or damaged, cannot be decoded")
    (height, width, frames, orientation), spacing = _header(name, data, file_format, page)
    if height * width > max_pixels:
        detail = f"{name}: {width:,} x {height:,} pixels exceed this server's limit of {max_pixels:,}"
        raise RequestError(413, "image_too_large", detail)
    paged = file_format in ("TIFF", "DICOM")
    if frames > 1 and (page is None or not paged or height < 1):
        hint = "" if page or not paged else ", or choose one with `page`"
        detail = f"{name}: contains {frames} images; send one image per file{hint}"
        raise RequestError(422, "several_images", detail)
    if (page or 1) > frames:
        raise RequestError(422, "no_page", f"{name}: page {page} does not exist, the file has {frames}")
    sides = ("spacing_x", "spacing_y") if orientation >= 5 else ("spacing_y", "spacing_x")
    known_spacing = (spacing[sides[0]], spacing[sides[1]]) if spacing else None
    return ImageUpload(name, data, file_format, height, width, page or 1, frames, known_spacing)


def detect_format(data: bytes) -> str:
    """One of ``FORMATS``, or a description of the file's type, from its first bytes."""
    head = data[:1024]
    for file_format, signature in _SIGNATURES:
        if re.match(signature, head, re.DOTALL | re.IGNORECASE):
            return file_format
    return "text" if _is_text(head) else "not a known image format"


def _is_text(head: bytes) -> bool:
    try:
        return head[:1000].decode("utf-8").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def _header(name: str, data: bytes, file_format: str, page: int | None) -> tuple[Header, dict[str, float]]:
    """Header of the first page and spacing; for a file with too many pages, a header of 0 x 0 with their number."""
    header, file = Header(0, 0), io.BytesIO(data)
    spacing: dict[str, float] = {}
    max_pages = MAX_DIRECTORIES if page is None else MAX_PAGES
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):  # format readers raise anything
        if file_format == "DICOM":
            *size, spacing = read_facts(file)
            header = Header(*size)
        elif tiff.is_tiff(data) and (number := tiff.count_directories(file)) > max_pages:
            return Header(0, 0, number), {}
        else:
            header = read_header(file, data[:HEAD])
            spacing = _tiff_spacing(data) if tiff.is_tiff(data) else {}
    if min(header.height, header.width) < 1:
        raise RequestError(422, "damaged", f"{name}: truncated or damaged, its header cannot be read")
    return header, spacing


def _tiff_spacing(data: bytes) -> dict[str, float]:
    with contextlib.suppress(Exception):  # damaged metadata only costs the spacing
        return tiff.read_spacing(io.BytesIO(data))
    return {}


def _dicom_pixels(
    name: str, data: bytes, frame: int, settings: ReadSettings
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Pixels like a stored slice of a volume: whole numbers that fit into 16 bits are only shifted."""
    try:
        with warnings.catch_warnings(action="ignore"):
            values = read_frame(io.BytesIO(data), frame)
    except Exception as error:  # noqa: BLE001  each decoder has its own errors
        raise ValueError(f"{name}: its pixels cannot be decoded: {error!s:.200}") from None
    if values.ndim == 3:
        return values, None
    if settings.value_range is not None:
        return scale_to_uint16(values, settings.value_range), settings.value_range
    slope, low = fit_uint16(values)
    return to_uint16(values, slope, low)[0], (low, low + 65535 * slope)

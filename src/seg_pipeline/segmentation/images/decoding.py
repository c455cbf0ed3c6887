"""Read image files as arrays, after a check of their header.

Axes: H rows, W columns, C channels in the order red, green, blue.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

MAX_PIXELS = 50_000_000
"""Largest image that is decoded; a small file can claim to be a huge image."""
MAX_CHUNKS = 100_000
"""Most chunks of a PNG that are looked at; a file of 20 MB has about 2,500."""
DISPLAY_WINDOW = (1, 99)
"""Percentiles shown as black and white in 16-bit images."""

HEAD = 24
"""Leading bytes of a PNG that contain its size."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width from the header, without decoding.

    Raises:
        ValueError: no such file, not an image, larger than ``MAX_PIXELS``, or a TIFF of several pages.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a Path costs as much as the reading
            return _header_size(path, file.read(HEAD))
    except OSError as error:
        raise _unreadable(path, error) from None


def _header_size(path: str | Path, head: bytes) -> tuple[int, int]:
    """As ``read_size``, for a file that begins with ``head``; an OSError means that it is not an image."""
    height, width = _png_size(head) or _size_by_pil(path)
    if height * width > MAX_PIXELS:
        raise ValueError(f"{path}: {height} x {width} pixels are more than the limit of {MAX_PIXELS:,}")
    if not height * width:
        raise ValueError(f"{path}: not an image, or its header is damaged")
    return height, width


def _png_size(head: bytes) -> tuple[int, int] | None:
    """Height and width if ``head`` is that of a PNG, in a tenth of the time that PIL takes; else None."""
    if len(head) < HEAD or not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _size_by_pil(path: str | Path) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below PIL's
        try:
            with Image.open(path) as image:
                width, height = image.size
                pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path}: {error}") from None
    if pages > 1:
        raise ValueError(f"{path}: holds {pages} pages, of which only the first would be read; write one file per page")
    return height, width


def _unreadable(path: str | Path, error: OSError) -> ValueError:
    missing = isinstance(error, FileNotFoundError)
    return ValueError(f"{path}: no such file" if missing else f"{path}: not an image, or its header is damaged")


def read_image(path: str | Path) -> np.ndarray:
    """Pixels as stored: uint8 or uint16, (H, W) for grey and (H, W, 3) for colour; alpha is dropped.

    A palette image is read as its colours. EXIF orientation is ignored, because masks do not follow it.

    Raises:
        ValueError: as ``read_size``, or the file is truncated or damaged.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  as above
            head = file.read(HEAD)
            _header_size(path, head)
            data = head + file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    return decode_image(data, name=path)


def decode_image(data: bytes, *, name: str | Path) -> np.ndarray:
    """As ``read_image``, from the bytes of a file whose header the caller has checked.

    Raises:
        ValueError: as ``read_image``; the message calls the file ``name``.
    """
    image = _transparent_tiff(data, name) if data[:4] in (b"II*\0", b"MM\0*") else None
    if image is not None:
        return image
    return _red_first(_decoded(data) if is_whole(data) else None, name)


def _decoded(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # an empty file, a size that OpenCV itself refuses
        return None


def is_whole(data: bytes) -> bool:
    """Whether all chunks of a PNG lie within the file, or the last scan of a JPEG has an end; True for other formats.

    Without this check, OpenCV 5.0 allocates whatever a PNG chunk claims, 4 GB for a few bytes, and fills a truncated
    JPEG with grey. JPEG markers cannot occur within a scan; those of a thumbnail in the header come first.
    """
    if data.startswith(_PNG):
        return _has_whole_chunks(data)
    return not data.startswith(_JPEG) or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _has_whole_chunks(data: bytes) -> bool:
    at = len(_PNG)
    for _ in range(MAX_CHUNKS):
        kind, at = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND" or at > len(data):
            return at <= len(data)
    return False


def _red_first(decoded: np.ndarray | None, name: str | Path) -> np.ndarray:
    """Convert an image decoded by OpenCV to the form that ``read_image`` returns."""
    if decoded is None:
        raise ValueError(f"{name}: truncated or damaged, cannot be decoded")
    if decoded.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{name}: pixels are {decoded.dtype}, expected uint8 or uint16")
    if decoded.ndim == 2:
        return decoded
    if decoded.shape[2] == 2:
        return decoded[..., 0]
    return np.ascontiguousarray(decoded[..., 2::-1])  # OpenCV keeps blue first


def _transparent_tiff(data: bytes, name: str | Path) -> np.ndarray | None:
    """Uint8 (H, W, 3) of an 8-bit TIFF with alpha, which OpenCV would multiply into the colours; None for others."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            bits = getattr(image, "tag_v2", {}).get(258, (8,))
            if image.mode not in ("RGBA", "RGBX") or bits[0] != 8:
                return None
            return np.array(image)[..., :3]
    except (OSError, ValueError):
        raise ValueError(f"{name}: truncated or damaged, cannot be decoded") from None


def read_values(path: str | Path) -> np.ndarray:
    """Pixels of a mask file, usually (H, W): grey values, or palette indices (not colours).

    Raises:
        ValueError: as ``read_image``.
    """
    read_size(path)
    with Image.open(path) as image:
        if image.mode != "P":
            return read_image(path)
        try:
            return np.array(image)
        except OSError:
            raise ValueError(f"{path}: truncated or damaged, cannot be decoded") from None


def read_for_display(path: str | Path) -> np.ndarray:
    """Read an image to look at: uint8 (H, W, 3); 16-bit values are windowed to ``DISPLAY_WINDOW``.

    Raises:
        ValueError: as ``read_image``.
    """
    image = read_image(path)
    return to_rgb8(image, window=None if image.dtype == np.uint8 else DISPLAY_WINDOW)


def to_rgb8(image: np.ndarray, *, window: tuple[float, float] | None) -> np.ndarray:
    """Convert a stored image to uint8 (H, W, 3).

    Args:
        image: uint8 or uint16, (H, W) or (H, W, 3).
        window: percentiles of this image that become 0 and 255 (scanners differ in gain); None keeps
            uint8 unchanged and drops the lower 8 bits of uint16.
    """
    scaled = to_8bit(image) if window is None else scale_values(image, *percentiles(image, window))
    return scaled if scaled.ndim == 3 else cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB)


def to_8bit(values: np.ndarray) -> np.ndarray:
    """Convert to uint8: uint8 is unchanged, uint16 keeps its upper 8 bits."""
    return values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)


def percentiles(values: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of uint8 or uint16 values, bit-equal to ``np.percentile``, by counting: in a third of its time.

    Values between two neighbouring ranks are interpolated linearly.
    """
    ends = _counts(values).cumsum()
    ranks = np.divide(shares, 100) * (values.size - 1)
    below = np.floor(ranks)
    low, high = np.searchsorted(ends, (below, np.ceil(ranks)), side="right")
    part, step = ranks - below, (high - low).astype(np.float64)
    first, last = np.where(part < 0.5, low + step * part, high - step * (1 - part)).tolist()  # as numpy rounds
    return first, last


def _counts(values: np.ndarray) -> np.ndarray:
    """Number of pixels per value."""
    if values.dtype == np.uint8 and values.size < 2**24:  # OpenCV counts in float32, in a third of the time
        return cv2.calcHist([values.ravel()], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(values.ravel())


def scale_values(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale linearly to uint8: 0 up to ``low``, 255 from ``high`` on; all 0 if the two are equal."""
    scale = 255 / (high - low) if high > low else 0
    scaled = (np.arange(256 if values.dtype == np.uint8 else int(values.max()) + 1) - low) * scale
    table = np.rint(scaled.clip(0, 255)).astype(np.uint8)  # a look-up table: far fewer values than pixels
    return cv2.LUT(values, table) if values.dtype == np.uint8 else np.take(table, values)


def to_grey(image: np.ndarray) -> np.ndarray:
    """Convert (H, W) or (H, W, 3) to grey (H, W) of the same dtype, by luma (ITU-R BT.601)."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

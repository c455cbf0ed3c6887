"""Image files as arrays, decoded only after their header was checked.

Axes: H rows, W columns, C channels in the order red, green, blue.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 50_000_000
"""Largest image that is decoded; a small file can claim to be a huge picture."""


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width from the header, without decoding.

    Raises:
        ValueError: no such file, not an image, larger than ``MAX_PIXELS``, or a TIFF of several pages.
    """
    try:
        if (size := _png_size(path)) is not None:
            return _checked_size(path, *size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged metadata
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below PIL's
            with Image.open(path) as image:
                width, height = image.size
                pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from None
    except (UnidentifiedImageError, OSError):
        raise ValueError(f"{path}: not an image, or its header is damaged") from None
    if pages > 1:
        raise ValueError(f"{path}: holds {pages} pages, of which only the first would be read; write a file a page")
    return _checked_size(path, height, width)


def _png_size(path: str | Path) -> tuple[int, int] | None:
    """Height and width where the file begins as a PNG does: a tenth of the time that opening it takes."""
    with open(path, "rb") as file:  # noqa: PTH123  a Path costs as much as the reading
        head = file.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _checked_size(path: str | Path, height: int, width: int) -> tuple[int, int]:
    if height * width > MAX_PIXELS:
        raise ValueError(f"{path}: {height} x {width} pixels are more than the {MAX_PIXELS:,} that are decoded")
    if not height * width:
        raise ValueError(f"{path}: not an image, or its header is damaged")
    return height, width


def read_image(path: str | Path) -> np.ndarray:
    """Pixels as stored: uint8 or uint16, (H, W) for grey and (H, W, 3) for colour; alpha is dropped.

    A palette gives its colours. Turning a photo as its EXIF tag says is left out, as masks know nothing of it.

    Raises:
        ValueError: as ``read_size``, or the file is truncated or damaged.
    """
    read_size(path)
    if (image := _read_transparent_tiff(path)) is not None:
        return image
    if _is_cut_jpeg(path):
        raise ValueError(f"{path}: truncated or damaged, cannot be decoded")
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: truncated or damaged, cannot be decoded")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: pixels are {image.dtype}, expected uint8 or uint16")
    if image.ndim == 2:
        return image
    if image.shape[2] == 2:
        return image[..., 0]
    return np.ascontiguousarray(image[..., 2::-1])  # OpenCV keeps blue first


def _is_cut_jpeg(path: str | Path) -> bool:
    """Whether a JPEG ends before its last scan does: OpenCV would fill up with grey, and say nothing.

    The markers cannot occur within a scan; a thumbnail in the header has its own, before the picture's.
    """
    with open(path, "rb") as file:  # noqa: PTH123  as above
        if file.read(3) != b"\xff\xd8\xff":
            return False
        rest = file.read()
    return rest.rfind(b"\xff\xd9") < rest.rfind(b"\xff\xda")


def _read_transparent_tiff(path: str | Path) -> np.ndarray | None:
    """Uint8 (H, W, 3) of a TIFF of 8 bits with alpha, which OpenCV multiplies into the colours; None: another."""
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        return None
    with Image.open(path) as image:
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        if image.mode not in ("RGBA", "RGBX") or bits[0] != 8:
            return None
        try:
            return np.array(image)[..., :3]
        except (OSError, ValueError):
            raise ValueError(f"{path}: truncated or damaged, cannot be decoded") from None


def read_values(path: str | Path) -> np.ndarray:
    """Pixels of a mask file, (H, W) as a rule: grey values, or the indices of a palette (not its colours).

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


def to_rgb8(image: np.ndarray, *, window: tuple[float, float] | None) -> np.ndarray:
    """Uint8 (H, W, 3) of a stored image.

    Args:
        image: uint8 or uint16, (H, W) or (H, W, 3).
        window: percentiles of this image that become 0 and 255 (scanners differ in gain); None keeps
            uint8 as it is and shifts uint16 down by 8 bits.
    """
    scaled = to_8bit(image) if window is None else scale_values(image, *np.percentile(image, window).tolist())
    return scaled if scaled.ndim == 3 else cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB)


def to_8bit(values: np.ndarray) -> np.ndarray:
    """Uint8 of uint8 (as it is) or uint16 (its upper 8 bits)."""
    return values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)


def scale_values(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Uint8 of the same shape: 0 up to ``low``, 255 from ``high`` on, evenly between; all 0 where they are equal."""
    scale = 255 / (high - low) if high > low else 0
    scaled = (np.arange(int(values.max()) + 1) - low) * scale  # of each value once: pixels are many
    return np.take(np.rint(scaled.clip(0, 255)).astype(np.uint8), values)


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W) of (H, W) or (H, W, 3), same dtype: colours by their brightness (ITU-R BT.601)."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

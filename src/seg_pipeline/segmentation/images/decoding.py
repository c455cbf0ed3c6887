"""Read image files as arrays, after a check of their header.

Axes: H rows, W columns, C channels in the order red, green, blue. Every path may be an address, see ``addresses``.
"""

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from seg_pipeline.segmentation.images import tiff
from seg_pipeline.segmentation.images.addresses import DEFAULTS, Address, file_of, parse_address
from seg_pipeline.segmentation.images.headers import GIF, HEAD, PNG, Header, is_whole, read_header, turn
from seg_pipeline.segmentation.images.remote import open_file
from seg_pipeline.segmentation.settings.reading import ReadSettings

MAX_SAMPLES = 16
"""A TIFF may have so many values for each pixel that ``max_pixels`` allows."""
DAMAGED = "truncated or damaged, cannot be decoded"
WAITS = (0.1, 0.5)
"""Seconds before a file is read again after an I/O error."""

Result = TypeVar("Result")


class Oriented(NamedTuple):
    """An image as ``read_image`` returns it, and how it was turned: its EXIF orientation, 1 if it was not."""

    pixels: np.ndarray
    orientation: int
    stated: int
    """EXIF orientation of the file, applied or not."""


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of what ``read_image`` returns, from the header, without decoding.

    Raises:
        ValueError: no such file, not an image, larger than ``max_pixels``, or of several pages.
        OSError: the system cannot read the file, although it exists.
    """
    address = parse_address(path)

    def read(file: BinaryIO) -> tuple[int, int]:
        header = _checked_header(file, file.read(HEAD), address)
        return _turned_size(header, address.settings)

    return _from_file(address.path, read)


def count_pages(path: str | Path) -> int:
    """Number of pages of an image file; 1 if it cannot be read."""
    return _any_header(path).pages


def read_orientation(path: str | Path) -> int:
    """EXIF orientation of an image file; 1 if it has none or cannot be read."""
    return _any_header(path).orientation


def read_spacing(path: str | Path, *, turned: bool) -> dict[str, float]:
    """As ``tiff.read_spacing``, of an image that ``read_image`` has read and, if ``turned``, laid on its side.

    {} if the file is not a TIFF, or its metadata are damaged.
    """
    file = file_of(path)
    if not file.lower().endswith(tiff.ENDINGS):
        return {}
    try:
        found = _from_file(file, tiff.read_spacing)
    except Exception as error:  # as in _checked_header  # noqa: BLE001
        _raise_io_error(error)
        return {}
    sides = {"spacing_y": found["spacing_x"], "spacing_x": found["spacing_y"]} if found and turned else {}
    return found | sides


def read_georeference(path: str | Path) -> list[tiff.ExtraTag]:
    """Tags that say where on the earth a GeoTIFF that ``read_image`` has read lies; [] of other files.

    An image that its EXIF orientation turned has none, since they are about its stored pixels.
    """
    file, settings, page = parse_address(path)
    if not file.lower().endswith(tiff.ENDINGS):
        return []
    tags = _from_file(file, lambda opened: tiff.read_georeference(opened, page=page or 1))
    return [] if tags and settings.orientation == "apply" and read_orientation(file) != 1 else tags


def _any_header(path: str | Path) -> Header:
    def read(file: BinaryIO) -> Header:
        try:
            return read_header(file, file.read(HEAD))
        except Exception as error:  # as in _checked_header  # noqa: BLE001
            _raise_io_error(error)
            return Header(0, 0)

    try:
        return _from_file(file_of(path), read)
    except ValueError:
        return Header(0, 0)


def read_image(path: str | Path) -> np.ndarray:
    """Pixels: uint8 or uint16, (H, W) for grey and (H, W, 3) for colour; alpha is left out.

    Pixels have their stored values, except signed, 32-bit and float ones, which ``value_range`` scales to uint16. A
    palette image is read as its colours. EXIF orientation is applied, unless the settings say otherwise.

    Raises:
        ValueError: as ``read_size``, or the file is truncated, damaged or of pixels that cannot be used.
        OSError: as ``read_size``.
    """
    return read_oriented(path).pixels


def read_oriented(path: str | Path) -> Oriented:
    """As ``read_image``, and how the image was turned."""
    address = parse_address(path)
    return _from_file(address.path, lambda file: _decode(file, address))


def decode_image(
    data: bytes, *, name: str | Path, settings: ReadSettings = DEFAULTS, page: int | None = None
) -> np.ndarray:
    """As ``read_image``, from the bytes of a file, which messages call ``name``; ``page`` counts from 1."""
    return _decode(io.BytesIO(data), Address(str(name), settings, page)).pixels


def read_values(path: str | Path) -> np.ndarray:
    """Pixels of a mask file, usually (H, W): grey values or, of a palette with colours, indices; integers of any size.

    Raises:
        ValueError: as ``read_image``, or pixels are not whole numbers, or its shapes are in the alpha channel.
        OSError: as ``read_size``.
    """
    address = parse_address(path)
    return _from_file(address.path, lambda file: _decode(file, address, raw=True).pixels)


def _from_file(path: str, read: Callable[[BinaryIO], Result]) -> Result:
    """``read`` an open file, again after an I/O error, which may pass; a missing file is a ValueError."""

    def attempt() -> Result:
        with open_file(path) as file:
            return read(file)

    try:
        return repeated(attempt)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, not an image") from None


def repeated(read: Callable[[], Result]) -> Result:
    """``read()``, again after an I/O error, which may pass."""
    for wait in WAITS:
        try:
            return read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            raise
        except OSError:
            time.sleep(wait)
    return read()


def _checked_header(file: BinaryIO, head: bytes, address: Address) -> Header:
    path, settings, page = address
    try:
        header = read_header(file, head)
    except tiff.UnusableError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # readers of formats name no common error  # noqa: BLE001
        _raise_io_error(error)
        raise ValueError(f"{path}: not an image, or its header is damaged") from None
    height, width, pages, orientation = header
    if min(height, width) < 1:
        raise ValueError(f"{path}: not an image, or its header is damaged")
    if height * width > settings.max_pixels:
        raise ValueError(
            f"{path}: {height} x {width} pixels are more than the limit of {settings.max_pixels:,} "
            "(`dataset.reading.max_pixels`)"
        )
    if pages > 1 and page is None:
        raise ValueError(
            f"{path}: holds {pages} pages, of which only the first would be read; write one file per page, or set "
            "`pages: true` in the catalog's entry of the files"
        )
    if orientation != 1 and settings.orientation == "refuse":
        raise ValueError(f"{path}: has the EXIF orientation {orientation}, which `dataset.reading.orientation` refuses")
    return header


def _turned_size(header: Header, settings: ReadSettings) -> tuple[int, int]:
    turned = header.orientation >= 5 and settings.orientation == "apply"
    return (header.width, header.height) if turned else (header.height, header.width)


def _raise_io_error(error: Exception) -> None:
    """Raise errors of the system again, which readers of formats pass on; their own OSErrors have no number, and
    EINVAL is a seek to a negative place, which a damaged file asks for."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)):
        raise error


def _decode(file: BinaryIO, address: Address, *, raw: bool = False) -> Oriented:
    head = file.read(HEAD)
    header = _checked_header(file, head, address)
    path, settings, page = address
    try:
        if tiff.is_tiff(head):
            samples = tiff.read_samples(file, page=page or 1, limit=MAX_SAMPLES * settings.max_pixels, raw=raw)
        else:
            file.seek(len(head))
            samples = _samples(head + file.read(), raw=raw)
        pixels = _whole_numbers(samples) if raw else _usable(samples, settings)
    except tiff.UnusableError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # as above  # noqa: BLE001
        _raise_io_error(error)
        raise ValueError(f"{path}: {DAMAGED}") from None
    turns = header.orientation if settings.orientation == "apply" else 1
    return Oriented(turn(pixels, turns) if turns > 1 else pixels, turns, header.orientation)


def _samples(data: bytes, *, raw: bool) -> tiff.Samples:
    """Samples of a file that is not a TIFF, in the order red, green, blue, alpha."""
    if data.startswith(GIF) or (raw and _may_have_palette(data)):
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "P" or data.startswith(GIF):
                if raw and image.mode == "P":
                    palette = np.array(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
                    return tiff.Samples(tiff.numbered(np.array(image), palette), 1)
                shown = image if image.mode == "L" else image.convert("RGB")
                return tiff.Samples(np.array(shown), 1 if shown.mode == "L" else 3)
    values = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED) if is_whole(data) else None
    if values is None:
        raise tiff.UnusableError(DAMAGED)
    if values.ndim == 2:
        return tiff.Samples(values, 1)
    if values.shape[2] >= 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]  # OpenCV keeps blue first
    return tiff.Samples(values, 1 if values.shape[2] < 3 else 3)


def _may_have_palette(data: bytes) -> bool:
    return data[25] == 3 if data.startswith(PNG) else data.startswith(b"BM")


def _usable(samples: tiff.Samples, settings: ReadSettings) -> np.ndarray:
    """Pixels as ``read_image`` returns them."""
    values = samples.values if samples.values.ndim == 3 else samples.values[..., None]
    number, bands = values.shape[2], settings.bands
    if bands is not None and max(bands) > number:
        raise tiff.UnusableError(f"has {number} bands, but `dataset.reading.bands` names band {max(bands)}")
    if bands is None and samples.colours not in (1, 3):
        raise tiff.UnusableError(
            f"has {samples.colours} bands, expected 1 or 3; set `dataset.reading.bands` to one or three of them, such "
            "as [1, 2, 3]"
        )
    values = values[..., : samples.colours] if bands is None else values[..., [band - 1 for band in bands]]
    values = values[..., 0] if values.shape[2] == 1 else values
    if values.dtype not in (np.uint8, np.uint16):
        values = scale_to_uint16(values, settings.value_range)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def scale_to_uint16(values: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Uint16 of which 0 and 65535 are the ends of a range of values; NaN becomes 0."""
    if value_range is None:
        raise tiff.UnusableError(
            f"pixels are {values.dtype.name}, expected uint8 or uint16; set `dataset.reading.value_range` to the "
            "values that become black and white, such as [-1000, 1000]"
        )
    low, high = value_range
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.nan_to_num(shares, posinf=1, neginf=0).clip(0, 1) * 65535).astype(np.uint16)


def _whole_numbers(samples: tiff.Samples) -> np.ndarray:
    """Mask values without alpha."""
    values = samples.values
    if values.ndim == 3 and values.shape[2] > samples.colours:
        values, alpha = values[..., : samples.colours], values[..., -1]
        if alpha.min() < alpha.max() and (values == values[0, 0]).all():
            raise tiff.UnusableError(
                "its colours are all equal and its shapes in the alpha channel; export them as grey values"
            )
    if values.dtype.kind == "f":
        if not (values == np.rint(values)).all():
            raise tiff.UnusableError(f"pixels are {values.dtype.name} with fractions, expected whole numbers")
        values = values.astype(np.int64)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))

"""What the header of an image file says, and whether the file is whole; nothing is decoded."""

import re
import struct
import threading
import warnings
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from seg_pipeline.segmentation.images import tiff

HEAD = 4096
"""Leading bytes that show the format, and the size of a PNG."""
MAX_CHUNKS = 100_000
"""Most chunks of a PNG that are looked at; a file of 20 MB has about 2,500."""
MAX_SCANS = 100
"""Most scans of a progressive JPEG; encoders write about ten. Each costs a pass over all pixels: 400 kB took 48 s."""
ORIENTATION = 0x0112
"""EXIF tag."""

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8"
_PIL = threading.Lock()
"""Its limit and the filters of warnings belong to all threads."""
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A JPEG marker within a scan; there, 0xff as data is followed by 0, and restart markers belong to the scan."""


class Header(NamedTuple):
    """Height and width as stored, number of pages, and EXIF orientation (1: none)."""

    height: int
    width: int
    pages: int = 1
    orientation: int = 1


def read_header(file: BinaryIO, head: bytes) -> Header:
    """Header of a file that begins with ``head``; the size is 0 x 0 where a PNG's is.

    Raises:
        Exception: whatever PIL or tifffile raise about a file that is not an image.
    """
    if tiff.is_tiff(head):
        return Header(*tiff.read_header(file))
    if head.startswith(PNG) and head[12:16] == b"IHDR" and len(head) >= 24 and b"eXIf" not in head:
        width, height = struct.unpack(">II", head[16:24])  # a tenth of the time that PIL takes
        return Header(height, width)
    file.seek(0)
    with _PIL, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit decides
        try:
            with Image.open(file) as image:
                pages = getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP") else 1
                return Header(image.height, image.width, pages, _orientation(image))
        except MemoryError:
            raise ValueError("the header claims more than fits into memory") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  damaged metadata of a sound image, and PIL names no common error
        return 1
    return found if found in range(2, 9) else 1


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image or mask, (H, W) or (H, W, C), turned as an EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def is_whole(data: bytes) -> bool:
    """Whether all chunks of a PNG lie within the file, or a JPEG has an end after few scans; True for other formats.

    Without this check, OpenCV 5.0 allocates whatever a PNG chunk claims, 4 GB for a few bytes, and fills a truncated
    JPEG with grey. What follows the end, such as the film of a motion photo, does not matter.
    """
    if data.startswith(PNG):
        return _has_whole_chunks(data)
    return not data.startswith(JPEG) or _has_jpeg_end(data)


def _has_whole_chunks(data: bytes) -> bool:
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        kind, at = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND" or at > len(data):
            return at <= len(data)
    return False


def _has_jpeg_end(data: bytes) -> bool:
    """Go from segment to segment, by their lengths, and over scans, until the end marker."""
    at, scans = 2, 0
    while found := _NEXT_MARKER.search(data, at):
        if found[0] == b"\xff\xd9":
            return True
        scans += found[0] == b"\xff\xda"
        if scans > MAX_SCANS:
            return False
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
    return False

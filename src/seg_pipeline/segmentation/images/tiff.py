"""TIFF files of every common kind, through tifffile: the stored samples become grey or RGB pixels, or mask values.

OpenCV returns wrong pixels for planar files of 16 bits, multiplies alpha into colours, and reads neither 12 bits nor
several bands. Axes: H rows, W columns, S samples.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from seg_pipeline.segmentation.parallel.apart import ProcessDiedError, call_apart

if TYPE_CHECKING:
    import tifffile

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in both byte orders."""
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Place of an image on the earth: scale, tie points and transformation of its pixels, the three tags of its coordinate
system, and rational polynomials. Copied as they are, they need no library that knows coordinate systems."""
ExtraTag = tuple[int, int, int, Any, bool]
"""Tag as ``tifffile.imwrite`` takes it: code, data type, count, value, on the first page only."""
ENDINGS = (".tif", ".tiff")
MAX_PAGES = 10_000
"""Most pages of a file; the header of each is read."""
MM = {
    **dict.fromkeys(("m", "meter", "metre"), 1e3),
    **dict.fromkeys(("inch", "inches", "in"), 25.4),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters"), 1.0),
    **dict.fromkeys(("\u03bcm", "um", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("\u00e5", "angstrom"), 1e-7),
    "pm": 1e-9,
}
"""mm per unit of length."""
ROBUST = (1, 7, 8, 32946, 50000)
"""Compressions (none, JPEG, deflate, Zstandard) whose decoders' authors fuzz them. imagecodecs' LZW crashes for some
damaged tiles, and its JPEG XR and lossless JPEG do not end for others."""
REDUCED, TRANSPARENCY = 1, 4
"""Kinds of pages that are thumbnails, or masks, of another."""


class UnusableError(ValueError):
    """A file that may be whole, but whose pixels cannot be used; the message says why."""


class Samples(NamedTuple):
    """Pixels of a page as stored: (H, W) of one sample, else (H, W, S); of an image, ``colours`` samples come first."""

    values: np.ndarray
    colours: int


def is_tiff(head: bytes) -> bool:
    return head[:4] in MAGICS


def read_header(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height and width of the first page as stored, number of pages, and orientation."""
    with _opened(file) as tif:
        pages = _pages(tif)
        page = pages[0]
        return int(page.imagelength), int(page.imagewidth), _number(tif, pages), _orientation(page)


def count_directories(file: BinaryIO) -> int:
    """Number of pages, thumbnails and masks, in 2 microseconds each; the headers are not read."""
    with _opened(file) as tif:
        return len(tif.pages)


def read_samples(file: BinaryIO, *, page: int, limit: int, raw: bool) -> Samples:
    """Samples of a page, counted from 1: colours of an image, or (``raw``) the indices of a palette.

    0 is black, and 1-bit pixels are 0 and 255; an image's 2 and 4 bits are scaled to 8. CMYK becomes RGB.

    Raises:
        UnusableError: the page does not exist, is truncated, has other colours, or more than ``limit`` values.
        Exception: whatever tifffile raises about a damaged file.
    """
    with _opened(file) as tif:
        pages = _pages(tif)
        number = _number(tif, pages)
        if page > number:
            raise UnusableError(f"page {page} does not exist, the file has {number}")
        one = pages[min(page, len(pages)) - 1]
        spans = zip(one.dataoffsets, one.databytecounts, strict=True)
        if max((offset + length for offset, length in spans), default=0) > tif.filehandle.size:
            raise UnusableError("truncated or damaged, cannot be decoded")
        if (most := max(one.size, math.prod(one.chunks))) > limit:  # a tile may claim to be larger than its page
            raise UnusableError(f"its {most:,} values are more than the limit of {limit:,}")
        if number > len(pages):  # ImageJ's pixels of all pages follow those of the first
            if one.is_tiled or one.compression != 1 or one.samplesperpixel != 1:
                raise UnusableError(f"its {number} pages cannot be told apart; write one file per page")
            start = one.dataoffsets[0] + (page - 1) * one.nbytes
            data = tif.filehandle.read_array(f"{tif.byteorder}{np.dtype(one.dtype).str[1:]}", one.size, start)
            return _meaning(one, data.reshape(one.shape), raw=raw)
        values = _decode(file, one)
        if "S" in one.axes:
            values = np.moveaxis(values, one.axes.index("S"), -1)
        if values.ndim not in (2, 3) or values.shape[:2] != (one.imagelength, one.imagewidth):
            raise UnusableError(f"its pixels have the shape {values.shape}, expected height, width and bands")
        return _meaning(one, values, raw=raw)


def _decode(file: BinaryIO, page: tifffile.TiffPage) -> np.ndarray:
    """All values of a page. A decoder that may crash, or never end, runs in a process of its own."""
    if page.compression in ROBUST:
        return page.asarray(maxworkers=1)
    local = isinstance(file, io.BufferedReader) and isinstance(file.name, str)
    file.seek(0)
    try:
        return call_apart(_decode_page, os.path.abspath(file.name) if local else file.read(), page.index)  # noqa: PTH100
    except ProcessDiedError as error:
        raise UnusableError(f"damaged: the process that decoded it {error}") from None


def _decode_page(source: str | bytes, index: int) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(source if isinstance(source, str) else io.BytesIO(source)) as tif:
        return tif.pages[index].aspage().asarray(maxworkers=1)


def read_dtype(file: BinaryIO) -> np.dtype | None:
    """Type of the first page's samples, in the order of this machine's bytes."""
    with _opened(file) as tif:
        return tif.pages.first.dtype


def read_spacing(file: BinaryIO) -> dict[str, float]:
    """``spacing_y`` and ``spacing_x`` in mm, and ``spacing_z`` of a stack of slices, where OME or ImageJ give them.

    The resolution of other files is that of a printer or screen, and empty metadata or pixels as a unit tell nothing.
    """
    with _opened(file) as tif:
        if tif.is_ome:
            found = _ome_spacing(tif.ome_metadata or "")
        elif tif.is_imagej:
            found = _imagej_spacing(tif.imagej_metadata or {}, tif.pages.first.tags)
        else:
            return {}
    known = {name: value for name, value in found.items() if 0 < value < math.inf}
    return known if {"spacing_y", "spacing_x"} <= set(known) else {}


def _ome_spacing(xml: str) -> dict[str, float]:
    from xml.etree import ElementTree as ET

    pixels = next((one for one in ET.fromstring(xml).iter() if one.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return {}
    slices = int(pixels.get("SizeZ", 1)) > 1 and {pixels.get("SizeC", "1"), pixels.get("SizeT", "1")} == {"1"}
    return {
        f"spacing_{axis.lower()}": float(size) * MM.get(unit_key(pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")), 0)
        for axis in ("Y", "X", *("Z" * slices))
        if (size := pixels.get(f"PhysicalSize{axis}"))
    }


def _imagej_spacing(about: Mapping[str, Any], tags: tifffile.TiffTags) -> dict[str, float]:
    mm = {axis: MM.get(unit_key(about.get(f"{axis}unit") or about.get("unit") or ""), 0.0) for axis in "xyz"}
    found = {}
    for axis in "yx":
        pixels, units = tags[name].value if (name := f"{axis.upper()}Resolution") in tags else (0, 1)
        found[f"spacing_{axis}"] = units / pixels * mm[axis] if pixels else 0.0
    if about.get("slices", 1) == about.get("images", 1) > 1:
        found["spacing_z"] = float(about.get("spacing", 0)) * mm["z"]
    return found


def unit_key(text: str) -> str:
    r"""A unit as in ``MM``; ImageJ escapes the micro sign as "\u00B5", and there are two of it."""
    return text.strip().lower().replace("\\u00b5", "\u03bc").replace("\u00b5", "\u03bc")


def read_georeference(file: BinaryIO, *, page: int) -> list[ExtraTag]:
    """``GEO_TAGS`` of a page, counted from 1."""
    with _opened(file) as tif:
        pages = _pages(tif)
        tags = [tag for code in GEO_TAGS if (tag := pages[min(page, len(pages)) - 1].tags.get(code)) is not None]
        return [(tag.code, int(tag.dtype), tag.count, _verbatim(tif, tag), True) for tag in tags]


def _verbatim(tif: tifffile.TiffFile, tag: tifffile.TiffTag) -> Any:
    """A tag's value; texts as bytes, since other tags count in them."""
    if not isinstance(tag.value, str):
        return tag.value
    tif.filehandle.seek(tag.valueoffset)
    return tif.filehandle.read(tag.valuebytecount)


def write_mask(path: Path, values: np.ndarray, tags: Sequence[ExtraTag], colours: np.ndarray | None = None) -> None:
    """Write uint8, uint16 or uint32 (H, W); bytes may have a palette uint8 (N, 3), else they are grey values."""
    import tifffile

    how: dict[str, Any] = {"photometric": "minisblack"}
    if colours is not None:
        palette = np.zeros((3, 256), dtype=np.uint16)
        palette[:, : len(colours)] = colours.T.astype(np.uint16) * 257
        how = {"photometric": "palette", "colormap": palette}
    tifffile.imwrite(path, values, extratags=tags, compression="zlib", metadata=None, **how)


def _opened(file: BinaryIO) -> tifffile.TiffFile:
    import tifffile  # a fifth of a second, for TIFF alone

    file.seek(0)
    return tifffile.TiffFile(file)


def _pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Its pages without thumbnails and transparency masks."""
    if len(tif.pages) > MAX_PAGES:  # counting takes 2 microseconds per page, reading their headers 120
        raise UnusableError(f"holds {len(tif.pages):,} pages, more than the limit of {MAX_PAGES:,}")
    pages = [page.aspage() for page in tif.pages]
    return [page for page in pages if not page.subfiletype & (REDUCED | TRANSPARENCY)] or pages


def _number(tif: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> int:
    """Number of pages; ImageJ writes large stacks as one, followed by the pixels of the others."""
    stack = (tif.imagej_metadata or {}).get("images", 1) if tif.is_imagej else 1
    return max(len(pages), int(stack), *(page.imagedepth for page in pages))


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None and tag.value in range(2, 9) else 1


def _meaning(page: tifffile.TiffPage, values: np.ndarray, *, raw: bool) -> Samples:
    kind = page.photometric.name if hasattr(page.photometric, "name") else str(page.photometric)
    bits = page.bitspersample
    if kind == "PALETTE":
        palette = _palette(page.colormap) if page.colormap is not None or not raw else np.zeros((0, 3), np.uint8)
        return Samples(numbered(values, palette), 1) if raw else Samples(palette[values], 3)
    if kind == "SEPARATED" and values.ndim == 3 and values.shape[2] >= 4 and values.dtype.kind == "u":
        return Samples(_rgb_of_cmyk(values[..., :4]), 3)
    if kind not in ("MINISWHITE", "MINISBLACK", "RGB", "YCBCR"):
        raise UnusableError(f"a TIFF of {kind} colours cannot be read; convert it to grey or RGB")
    # tifffile writes bool arrays so; what is True there is meant
    if kind == "MINISWHITE" and not (raw and bits == 1 and page.software.startswith("tifffile")):
        if values.dtype.kind not in "ub":
            raise UnusableError(f"its pixels are {values.dtype} with 0 as white, which cannot be read; convert it")
        values = (2**bits - 1 - values.astype(np.int64)).astype(values.dtype if values.dtype.kind == "u" else np.uint8)
    if bits == 1:
        values = values.astype(np.uint8) * 255
    elif bits < 8 and not raw:
        values = (values * (255 // (2**bits - 1))).astype(np.uint8)
    samples = 1 if values.ndim == 2 else values.shape[2]
    alpha = sum(int(extra) in (1, 2) for extra in page.extrasamples)
    return Samples(values, 3 if kind in ("RGB", "YCBCR") else max(samples - alpha, 1))


def numbered(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Values of a mask with a palette (N, 3): greys if it holds only greys, which programs list in any order, or else
    the indices."""
    used = np.unique(indices)
    if not palette.size or (palette != palette[:, :1]).any() or used[-1] >= len(palette):
        return indices
    return palette[:, 0][indices] if len(np.unique(palette[used, 0])) == len(used) else indices


def _palette(colormap: np.ndarray | None) -> np.ndarray:
    """Uint8 (N, 3); some writers give 8 bits where the format has 16."""
    if colormap is None:
        raise UnusableError("its palette is missing")
    return (colormap >> 8 if colormap.max() > 255 else colormap).astype(np.uint8).T


def _rgb_of_cmyk(values: np.ndarray) -> np.ndarray:
    most = np.iinfo(values.dtype).max
    ink = values.astype(np.int64)
    return ((most - ink[..., :3]) * (most - ink[..., 3:]) // most).astype(values.dtype)

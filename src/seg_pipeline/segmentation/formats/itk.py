"""Read NRRD and MetaImage, whose voxels may be in files of their own, and the segments of 3D Slicer in NRRD."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_pipeline.segmentation.formats.dicom import TO_RAS
from seg_pipeline.segmentation.images.tiff import MM, unit_key

ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
DETACHED = (".nhdr", ".mhd")
"""Headers of voxels in other files."""
MAX_VOXELS = 2_000_000_000
"""Largest volume that is decoded; a small file can claim to be a huge one."""
DEFLATE = 1100
"""Bytes that a compressed byte can become, at most (1,032 and the headers): a file that claims more is damaged."""
_DATA_FILE = re.compile(r"^(?:ElementDataFile *=|data ?file *:) *(.*\S)", re.IGNORECASE | re.MULTILINE)
_GEOMETRY = re.compile(
    rb"(?im)^(?:DimSize|Offset|Position|Origin|Orientation|Rotation|TransformMatrix|Element\w+|sizes|spac[ \w]*)"
    rb"\s*[=:](.*)"
)
"""Lines of MetaImage and NRRD that say where voxels are."""
_NUMBER = re.compile(rb"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf)\b")
_UNITS = re.compile(rb"(?im)^space units:\s*(.*)")
_SEGMENT = re.compile(r"Segment(\d+)_Name")


def check_shape(path: Path, shape: tuple[int, ...], itemsize: int = 1) -> None:
    """Raise ValueError if a volume of this shape, with bytes per voxel, is too large for us or for its file, or has
    more than three dimensions."""
    if len(shape) < 2 or any(side != 1 for side in shape[3:]):
        raise ValueError(f"{path}: its shape is {shape}, expected 3 dimensions; split time or channels into files")
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise ValueError(f"{path}: {' x '.join(map(str, shape))} voxels are more than the {MAX_VOXELS:,} decoded")
    size = sum(file.stat().st_size for file in data_files(path) or [path])
    if np.prod(shape, dtype=float) * itemsize > DEFLATE * size:
        raise ValueError(f"{path}: {' x '.join(map(str, shape))} voxels cannot be in so small a file; it is damaged")


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels of a detached header; [] for any other file.

    Raises:
        OSError: the header cannot be read.
    """
    if not path.name.lower().endswith(DETACHED):
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    found = _DATA_FILE.search(text)
    if found is None or found[1] == "LOCAL":
        return []
    if found[1].startswith("LIST"):
        return [path.parent / line.strip() for line in text[found.end() :].splitlines() if line.strip()]
    numbered = re.match(r"(.*?)%0?\d*d(\S*)", found[1])  # slices, as slice_%03d.raw 1 40 1
    if numbered is None:
        return [path.parent / found[1]]
    names = re.compile(rf"{re.escape(numbered[1])}\d+{re.escape(numbered[2])}")
    return [file for file in sorted(path.parent.iterdir()) if names.fullmatch(file.name)]


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values as stored (x, y, z), and their affine to the right, front and head.

    Raises:
        ValueError: the file or its voxels are missing or damaged, or it has several values per voxel.
    """
    values, affine = _read(path)
    if values.shape[0] > 1:
        raise ValueError(f"{path}: holds {values.shape[0]} values per voxel, expected one; write one file per value")
    return values[0], affine


def segment_names(path: Path) -> list[str]:
    """Names of the segments in a segmentation of 3D Slicer; [] for any other file."""
    if not path.name.lower().endswith(ITK[:2]):
        return []
    about = _about(path)
    return [about[f"Segment{number}_Name"] for number in _numbers(about)]


def read_named_segments(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, mask (x, y, z) and affine of each segment of 3D Slicer; the mask may be smaller than the image.

    Raises:
        ValueError: as ``read_itk``, or two segments have one name.
    """
    about = _about(path)
    names = segment_names(path)
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: several segments have one name: {', '.join(names)}")
    values, affine = _read(path)
    for number, name in zip(_numbers(about), names, strict=True):
        # overlapping segments are on several layers; before Slicer 4.11 each segment had one, and the value 1
        layer = int(about.get(f"Segment{number}_Layer", number if len(values) > 1 else 0))
        if not 0 <= layer < len(values):
            raise ValueError(f"{path}: the segment {name} is on layer {layer} of {len(values)}")
        yield name, values[layer] == int(about.get(f"Segment{number}_LabelValue", 1)), affine


def _numbers(about: dict[str, str]) -> list[int]:
    return sorted(int(match[1]) for key in about if (match := _SEGMENT.fullmatch(key)))


def _about(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    reader = _reader(path)
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _reader(path: Path) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        _check_header(path)
        if missing := [file.name for file in data_files(path) if not file.is_file()]:
            raise ValueError(f"{path}: its voxels are in {missing[0]}, which is not there")
        reader.ReadImageInformation()
    except (RuntimeError, OSError) as error:
        raise _damaged(path, error) from None
    return reader


def _check_header(path: Path) -> None:
    """Refuse what ITK must not see: NDims over 10 writes beyond its memory, huge directions never end its SVD, and a
    header may name any file."""
    head = _head(path)
    if path.name.lower().endswith(DETACHED):
        outside = [one for one in data_files(path) if ".." in Path(os.path.relpath(one, path.parent)).parts]
    else:
        outside = re.findall(rb"ElementDataFile[ \t=:]*[^\s=:]", head) + re.findall(rb"(?im)^data ?file\s*:", head)
    if outside:
        raise ValueError(
            f"{path}: its voxels are in a file elsewhere; put header and voxels into one file, or one folder"
        )
    numbers = b" ".join(_GEOMETRY.findall(head))
    wrong = not {*re.findall(rb"NDims[\s=:]*(\S*)", head)} <= {b"2", b"3", b"4"}
    if wrong or not all(float(one) < 1e30 for one in _NUMBER.findall(numbers)):
        raise ValueError(f"{path}: not a NRRD or MetaImage file, or truncated or damaged: its sizes or directions")


def _head(path: Path) -> bytes:
    """The lines before the voxels."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return head.partition(b"LOCAL")[0] if path.suffix.lower() in (".mha", ".mhd") else re.split(rb"\r?\n\r?\n", head)[0]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (values per voxel, x, y, z) and their affine."""
    import SimpleITK as sitk

    reader = _reader(path)
    check_shape(path, reader.GetSize())
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _damaged(path, error) from None
    values = sitk.GetArrayFromImage(image).T
    if image.GetNumberOfComponentsPerPixel() == 1:
        values = values[None]
    sides = image.GetDimension()
    affine = np.eye(4)
    place = min(sides, 3)
    directions = np.reshape(image.GetDirection(), (sides, sides))[:place, :place]
    affine[:place, :place] = directions * image.GetSpacing()[:place]
    affine[:place, 3] = image.GetOrigin()[:place]
    return values, TO_RAS @ np.diag([*[_millimetres(path)] * 3, 1]) @ affine


def _millimetres(path: Path) -> float:
    """mm in the unit of positions, which ITK passes over: MetaImage has mm, NRRD may state another."""
    found = _UNITS.search(_head(path)) if path.name.lower().endswith(ITK[:2]) else None
    stated = set(re.findall(r'"\s*(.*?)\s*"', found[1].decode("utf-8", "replace"))) - {"", "???"} if found else set()
    if not stated:
        return 1
    if len(stated) > 1 or not MM.get(unit_key(*stated)):
        raise ValueError(
            f"{path}: its space units are {', '.join(sorted(stated))}, expected one for all axes, such as mm"
        )
    return MM[unit_key(*stated)]


def _damaged(path: Path, error: Exception) -> ValueError:
    last = str(error).strip().rsplit("\n", 1)[-1]
    return ValueError(f"{path}: not a NRRD or MetaImage file, or truncated or damaged: {last}")

"""Read DICOM: a series of slices or a multi-frame file as a volume; SEG and RTSTRUCT as masks by name.

Positions in DICOM point to the patient's left, back and head (LPS), in mm; arrays here have the axes (x, y, z), which
are column, row and slice, and an affine to the right, front and head, as in ``volume_files``.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM point to the patient's left and back where NIfTI points to the right and front."""
UNEVEN = 0.1
"""Slices whose distance differs from the usual one by more than this part have a gap."""
ON_SLICE = 0.4
"""How far a contour may be from a slice, as a part of the distance between slices."""
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Kinds of contours that enclose something; points and lines do not."""
NO_IMAGES = ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG")
"""Modalities of files that lie beside a series and are not its slices."""

MEASURES = ("CT", "PT")
"""Modalities whose values have a unit, however they are to be shown."""


def is_dicom(path: Path) -> bool:
    """Whether a file is named .dcm or begins as DICOM does, or a folder holds such a file; a DICOMDIR is an index."""
    if path.is_dir():
        return any(is_dicom(file) for file in sorted(path.iterdir()) if file.is_file())
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _damages(path: Path) -> Iterator[None]:
    """Raise ValueError for whatever pydicom raises about a damaged file: it converts values only when they are used."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        told = f"{error!s:.300}" or type(error).__name__
        raise ValueError(f"{path}: not a DICOM file, or truncated or damaged: {told}") from None


def read_dicom(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (x, y, z) in the unit of the modality (CT: Hounsfield units) and the affine, of a folder or a file.

    Slices are sorted by their position along the normal. A single image without a position, such as a radiograph, has
    values (x, y) and no affine.

    Raises:
        ValueError: the files are damaged, of several series or sizes, share positions, or leave a gap.
    """
    with _damages(path):
        return _read_images(path)


def _read_images(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    files = sorted(file for file in path.iterdir() if is_dicom(file)) if path.is_dir() else [path]
    slices = [one for one in map(_read, files) if one.get("Modality") not in NO_IMAGES]
    if not slices:
        raise ValueError(f"{path}: holds no DICOM images")
    if len(slices) == 1 and int(slices[0].get("NumberOfFrames", 1)) > 1:
        return _read_frames(path)
    if len(slices) == 1 and "ImageOrientationPatient" not in slices[0]:
        return _values(path, slices[0]).T, None
    return _stack(path, slices)


def _read(path: Path, **options: Any) -> Any:
    import pydicom

    with _damages(path):
        return pydicom.dcmread(path, **options)


def _stack(path: Path, slices: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    of_all = ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient", "PixelSpacing")
    for name in (*of_all, "ImagePositionPatient"):
        kinds = Counter(_plain(one.get(name)) for one in slices)
        if None in kinds:
            raise ValueError(f"{path}: {kinds[None]} of its {len(slices)} files have no {name}, so they are no slices")
        if len(kinds) > 1 and name in of_all:
            shown = " and ".join(f"{value} ({number} files)" for value, number in kinds.most_common(2))
            raise ValueError(f"{path}: not one series: {name} is {shown}; give each series its own folder")
    first = slices[0]
    along_row, along_column = np.reshape([float(one) for one in first.ImageOrientationPatient], (2, 3))
    normal = np.cross(along_row, along_column)
    slices = sorted(slices, key=lambda one: float(np.dot(_position(one), normal)))
    step = _step(path, np.array([_position(one) for one in slices]), normal, first)
    affine = np.eye(4)
    between_rows, between_columns = (float(one) for one in first.PixelSpacing)
    affine[:3] = np.stack(
        [along_row * between_columns, along_column * between_rows, step, _position(slices[0])], axis=1
    )
    values = np.stack([_values(path, one) for one in slices])  # (slice, row, column)
    return values.transpose(2, 1, 0), TO_RAS @ affine


def _plain(value: Any) -> Any:
    """A value that can be compared and counted; positions to a thousandth, as headers round off."""
    if value is None or isinstance(value, str | int):
        return value
    return tuple(round(float(one), 3) for one in value)


def _position(one: Any) -> np.ndarray:
    return np.array([float(value) for value in one.ImagePositionPatient])


def _step(path: Path, positions: np.ndarray, normal: np.ndarray, first: Any) -> np.ndarray:
    """From one slice to the next in mm; slices of a tilted gantry are shifted against each other."""
    if len(positions) == 1:
        return normal * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1)
    places = positions @ normal
    apart = np.diff(places)
    usual = float(np.quantile(apart, 0.5, method="lower"))
    if apart.min() <= UNEVEN * usual:
        raise ValueError(f"{path}: several of its slices share a position (times or echoes); give each its own folder")
    uneven = np.flatnonzero(np.abs(apart - usual) > UNEVEN * usual)
    if len(uneven):
        ends = f"{places[uneven[0]]:.6g} and {places[uneven[0] + 1]:.6g} mm"
        raise ValueError(
            f"{path}: a gap between the slices at {ends}, where the others are {usual:.4g} mm apart; add the missing "
            "files"
        )
    return (positions[-1] - positions[0]) / (len(positions) - 1)


def _values(path: Path, one: Any) -> np.ndarray:
    """Pixels times slope plus intercept, which each slice may have its own of; whole numbers stay whole."""
    try:
        pixels = one.pixel_array
    except Exception as error:  # noqa: BLE001  each decoder has its own errors, and a missing one names itself
        raise ValueError(f"{path}: its pixels cannot be decoded: {error}") from None
    if pixels.ndim != 2:
        raise ValueError(f"{path}: its slices are {pixels.shape}, expected grey values (H, W)")
    return _in_unit(one, pixels, float(one.get("RescaleSlope") or 1), float(one.get("RescaleIntercept") or 0))


def _in_unit(one: Any, pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Values in the modality's unit. Where they have none, the brightest is the highest, as for a radiograph."""
    bits, signed = int(one.BitsStored), bool(one.PixelRepresentation)
    if table := one.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        pixels, bits, signed = apply_modality_lut(pixels, one), int(table[0].LUTDescriptor[2]), False
    if one.get("PhotometricInterpretation") == "MONOCHROME1" and one.get("Modality") not in MEASURES:  # 0 is white
        pixels = (-1 if signed else (1 << bits) - 1) - pixels.astype(np.int32)
    if slope == 1 and intercept.is_integer():
        return pixels.astype(np.int32) + int(intercept)
    return pixels.astype(np.float32) * slope + intercept


def read_facts(file: BinaryIO) -> tuple[int, int, int, dict[str, float]]:
    """Height, width, number of frames, and ``spacing_y`` and ``spacing_x`` in mm if stated, of an opened DICOM file.

    Raises:
        Exception: whatever pydicom raises about a damaged file.
    """
    import pydicom

    one = pydicom.dcmread(file, stop_before_pixels=True)
    spacing = _of_frame(one, 1, "PixelMeasuresSequence", "PixelSpacing")
    known = {"spacing_y": float(spacing[0]), "spacing_x": float(spacing[1])} if spacing else {}
    return int(one.Rows), int(one.Columns), int(one.get("NumberOfFrames") or 1), known


def read_frame(file: BinaryIO, frame: int) -> np.ndarray:
    """A frame, counted from 1, of an opened DICOM file: uint8 (H, W, 3), or (H, W) in the unit of the modality.

    Raises:
        ValueError: its pixels are neither grey nor RGB.
        Exception: whatever pydicom raises about a damaged file.
    """
    import pydicom
    from pydicom.pixels.utils import pixel_array

    one = pydicom.dcmread(file)
    pixels = pixel_array(one, index=frame - 1)
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return pixels
    if pixels.ndim != 2 or not str(one.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ValueError(f"its pixels are {one.PhotometricInterpretation} {pixels.shape}, expected grey or RGB")
    group = "PixelValueTransformationSequence"
    slope, intercept = (_of_frame(one, frame, group, f"Rescale{name}") for name in ("Slope", "Intercept"))
    return _in_unit(one, pixels, float(slope or 1), float(intercept or 0))


def _of_frame(one: Any, frame: int, group: str, name: str) -> Any:
    """A value of a frame: of the file, or in multi-frame files of the frame's own or the shared group."""
    own = list(one.get("PerFrameFunctionalGroupsSequence") or [])[frame - 1 : frame]
    for functional in (*own, *(one.get("SharedFunctionalGroupsSequence") or [])):
        if functional.get(group):
            return functional.get(group)[0].get(name)
    return one.get(name)


def _read_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import highdicom

    file = next(file for file in sorted(path.iterdir()) if is_dicom(file)) if path.is_dir() else path
    try:
        volume = highdicom.imread(file).get_volume(apply_voi_transform=False, apply_presentation_lut=False)
    except Exception as error:  # noqa: BLE001  highdicom raises many kinds
        raise ValueError(f"{path}: its frames are no volume: {error}") from None
    return _as_columns(volume)


def _as_columns(volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values (x, y, z) and affine of a volume of highdicom, whose axes are slice, row and column in LPS."""
    return volume.array.transpose(2, 1, 0), TO_RAS @ volume.affine[:, [2, 1, 0, 3]]


def mask_kind(path: Path) -> str | None:
    """ "SEG" or "RTSTRUCT" if the file is one of these, which hold masks by name; else None."""
    if path.is_dir() or not is_dicom(path):
        return None
    with _damages(path):
        modality = str(_read(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality"))
    return modality if modality in ("SEG", "RTSTRUCT") else None


def check_frame(masks: Path, image: Path) -> None:
    """Raise ValueError if masks and a DICOM image say that their positions in mm cannot be compared."""
    if not is_dicom(image):
        return
    first = next(file for file in sorted(image.iterdir()) if is_dicom(file)) if image.is_dir() else image
    frames = [_frame_of(path) for path in (masks, first)]
    if None not in frames and frames[0] != frames[1]:
        raise ValueError(
            f"{masks}: drawn in the frame of reference {frames[0]}, the image {image.name} is in {frames[1]}: "
            "it belongs to another scan"
        )


def _frame_of(path: Path) -> str | None:
    with _damages(path):
        content = _read(path, stop_before_pixels=True)
        regions = content.get("StructureSetROISequence") or []
        stated = [one.get("ReferencedFrameOfReferenceUID") for one in regions] or [None]
        return stated[0] or content.get("FrameOfReferenceUID")


def mask_names(path: Path) -> list[str]:
    """Names of the masks in a DICOM SEG or RTSTRUCT; [] for another file."""
    kind = mask_kind(path)
    if kind is None:
        return []
    with _damages(path):
        content = _read(path)
        if kind == "SEG":
            return [str(one.SegmentLabel) for one in content.SegmentSequence if int(one.SegmentNumber) > 0]
        return [str(one.ROIName) for one in content.get("StructureSetROISequence", [])]


def read_segments(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Label, mask (x, y, z) and affine of each segment of a DICOM SEG; the mask may be smaller than the image.

    Raises:
        ValueError: it is damaged or holds probabilities, or two segments have one label.
    """
    import highdicom

    try:
        segments = highdicom.seg.segread(path)
        if str(segments.SegmentationType) == "FRACTIONAL":
            raise ValueError("its segments are fractions, expected binary ones")
        labels = {number: segments.get_segment_description(number).segment_label for number in segments.segment_numbers}
        if len(set(labels.values())) < len(labels):
            raise ValueError(f"several segments have one label: {', '.join(labels.values())}")
        for number, label in labels.items():
            volume = segments.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
            yield label, *_as_columns(volume)
    except Exception as error:  # noqa: BLE001  as above
        raise ValueError(f"{path}: not a usable DICOM SEG: {error}") from None


def read_contours(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask (x, y, z) of each region of an RTSTRUCT, on a grid of ``shape`` with ``affine``.

    A voxel is inside if its centre is; of several contours on a slice, an inner one cuts a hole.

    Raises:
        ValueError: the file is damaged, two regions have one name, or a contour does not lie on a slice of the grid.
    """
    with _damages(path):
        yield from _contours(path, _read(path), shape, affine)


def _contours(
    path: Path, structures: Any, shape: tuple[int, ...], affine: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    names = {int(one.ROINumber): str(one.ROIName) for one in structures.get("StructureSetROISequence", [])}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path}: several regions have one name: {', '.join(names.values())}")
    for region in structures.get("ROIContourSequence", []):
        name = names[int(region.ReferencedROINumber)]
        mask = np.zeros(shape, dtype=bool)
        closed = [one for one in region.get("ContourSequence", []) if one.ContourGeometricType in CLOSED]
        for contour in dict.fromkeys(tuple(map(float, one.ContourData)) for one in closed):  # a copy would be a hole
            try:
                _fill(mask, np.linalg.inv(affine) @ TO_RAS, contour)
            except ValueError as error:
                raise ValueError(f"{path}: a contour of {name}: {error}") from None
        yield name, mask


def _fill(mask: np.ndarray, to_index: np.ndarray, contour: tuple[float, ...]) -> None:
    """Invert the voxels of a mask (x, y, z) that a planar contour encloses."""
    columns, rows, places = to_index[:3, :3] @ np.reshape(contour, (-1, 3)).T + to_index[:3, 3:]
    place = round(float(places.mean()))
    if np.abs(places - place).max() > ON_SLICE or not 0 <= place < mask.shape[2]:
        raise ValueError(f"it lies at slice {places.mean():.2f} of 0 to {mask.shape[2] - 1}, expected it on a slice")
    outline = np.stack([columns, rows], axis=1).ravel() + 0.5  # a pixel's centre is at 0.5
    mask[..., place] ^= decode_segmentation([outline.tolist()], (mask.shape[1], mask.shape[0])).T

"""Read a volume in any of its file formats, cut along an axis, with the place of its voxels in the patient.

Axes: S slices, H rows, W columns. Volumes are reoriented so that the voxel axes run to the patient's right, front
and head (nibabel's closest canonical orientation; an oblique one stays oblique). Then

| axis | slices go from | rows go from | columns go from |
|---|---|---|---|
| axial | head to feet | front to back | left to right |
| coronal | front to back | head to feet | left to right |
| sagittal | left to right | head to feet | front to back |
"""

import itertools
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import ndimage

from seg_pipeline.segmentation.formats.dicom import (
    check_frame,
    is_dicom,
    mask_kind,
    mask_names,
    read_contours,
    read_dicom,
    read_segments,
)
from seg_pipeline.segmentation.formats.itk import ITK, check_shape, read_itk, read_named_segments, segment_names
from seg_pipeline.segmentation.images.decoding import read_image, read_values

Axis = Literal["axial", "coronal", "sagittal"]
AXES = ("axial", "coronal", "sagittal")
NIFTI = (".nii", ".nii.gz")
VOLUMES = NIFTI + ITK
ROUNDING = 0.01
"""A label this close to a whole number is that number: labels were stored as fractions or with a scale."""
NIFTI_UNITS = {1: 1000.0, 3: 0.001}
"""mm in the units of a NIfTI header that are not mm: metre and micrometre; 0 is unstated."""
MISPLACED = 0.1
"""Labels further off than this part of the smallest voxel side do not lie on their image; headers round off."""


class Volume(NamedTuple):
    values: np.ndarray
    """(S, H, W), or (S, H, W, 3) for a colour image."""
    spacing: tuple[float, ...]
    """mm between slices, rows and columns; empty for a flat image."""
    affine: np.ndarray | None
    """(4, 4), from slice, row and column to mm towards the patient's right, front and head; None for a flat image."""


def needs_package(path: Path) -> str | None:
    """The package that is needed to read a file and is not installed."""
    if is_dicom(path):
        return next((name for name in ("nibabel", "pydicom", "highdicom") if not find_spec(name)), None)
    wanted = {"nibabel": NIFTI + ITK, "SimpleITK": ITK}
    return next(
        (name for name, ends in wanted.items() if path.name.lower().endswith(ends) and not find_spec(name)), None
    )


def read_slices(path: Path, *, axis: Axis, labels: bool = False) -> Volume:
    """As ``read_volume``; an ordinary image is a single flat slice."""
    if path.name.lower().endswith(VOLUMES) or is_dicom(path):
        return read_volume(path, axis=axis)
    return Volume((read_values(path) if labels else read_image(path))[None], (), None)


def read_volume(path: Path, *, axis: Axis = "axial") -> Volume:
    """Read a volume in canonical orientation, cut along ``axis``; a 2-D one is a single slice.

    Raises:
        ValueError: the file is missing, damaged or too large, or has more than three dimensions.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    values, affine = _read_native(path)
    return Volume(values.T[None], (), None) if affine is None else _cut(path, values, affine, axis)


def read_named_masks(path: Path, image: Path, *, axis: Axis) -> Iterator[tuple[str, Volume]] | None:
    """Name and bool mask of each structure in a DICOM SEG, a segmentation of 3D Slicer, or RTSTRUCT drawn on ``image``.

    None for other files. A mask may be smaller than the image, except those of RTSTRUCT.
    """
    if segment_names(path):
        return ((name, _cut(path, values, affine, axis)) for name, values, affine in read_named_segments(path))
    kind = mask_kind(path)
    if kind is None:
        return None
    check_frame(path, image)
    if kind == "SEG":
        return ((name, _cut(path, values, affine, axis)) for name, values, affine in read_segments(path))
    shown, place = _read_native(image)
    if place is None:
        raise ValueError(f"{path.name}: its contours are in mm, but {image.name} has no position")
    shape = (*shown.shape, 1)[:3]
    return ((name, _cut(path, values, place, axis)) for name, values in read_contours(path, shape, place))


def structure_names(path: Path) -> list[str]:
    """Names of the structures in a file that ``read_named_masks`` reads; [] for any other."""
    return segment_names(path) or mask_names(path)


def _read_native(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values as stored (x, y, z) and their affine to the right, front and head; None for a flat image."""
    if is_dicom(path):
        return read_dicom(path)
    return read_itk(path) if path.name.lower().endswith(ITK) else _read_nifti(path)


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values as stored (x, y, z), scaled by the header, and their affine in mm."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, SpatialImage

    try:
        image = nibabel.load(path)
        if not isinstance(image, SpatialImage):
            raise ValueError(f"{path}: holds no volume")
        stored: Any = image.dataobj  # read only now
        check_shape(path, image.shape, stored.dtype.itemsize)
        if stored.dtype.kind not in "biuf":
            raise ValueError(f"{path}: its voxels are {stored.dtype}, expected numbers")
        # float32 holds 24 bits, more than the 16 that are kept, in half the memory of nibabel's float64
        as_is = (stored.slope, stored.inter) == (1, 0)
        values = stored.get_unscaled() if as_is else np.asarray(stored, dtype=np.float32)
    except MemoryError:
        raise ValueError(
            f"{path}: does not fit into memory, or is damaged and claims to be larger than it is"
        ) from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, OverflowError, zlib.error) as error:
        told = _misnamed(path) or f"not a NIfTI file, or truncated or damaged: {error}"
        raise ValueError(f"{path}: {told}") from None
    units = int(image.header["xyzt_units"]) & 7 if isinstance(image.header, nibabel.Nifti1Header) else 0
    return np.asanyarray(values), np.diag([*[NIFTI_UNITS.get(units, 1)] * 3, 1]) @ image.affine


def _misnamed(path: Path) -> str | None:
    """Why a file does not open if only its name is wrong, as nibabel tells compressed files by their names."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b" and not path.name.lower().endswith(".gz"):
        return "it is compressed by gzip, but is not named so; let its name end in .nii.gz"
    if int.from_bytes(start, "little") in (348, 540) and path.name.lower().endswith(".gz"):  # the header's size
        return "it is not compressed by gzip, but is named so; let its name end in .nii"
    return None


def _cut(path: Path, values: np.ndarray, affine: np.ndarray, axis: Axis) -> Volume:
    """Slices of values with the axes (x, y, z), whatever their orientation."""
    import nibabel

    values = values.reshape((*values.shape, 1)[:3])
    if not np.isfinite(affine).all():
        raise ValueError(f"{path}: its header places voxels at NaN or infinity; correct its affine")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(f"{path}: its header gives voxels no extent in some direction; correct its affine")
    orientation = nibabel.io_orientation(affine)
    affine = affine @ nibabel.orientations.inv_ornt_aff(orientation, values.shape)
    canonical = nibabel.apply_orientation(values, orientation)  # (right, front, head)
    from_head = canonical[:, ::-1, ::-1].transpose(2, 1, 0)  # (from the head, from the front, from the left)
    place = AXES.index(axis)
    order = [place, *(other for other in range(3) if other != place)]
    cut = from_head.transpose(order)
    # Where slice, row and column lie in the canonical volume: z and y count backwards.
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for column, one in enumerate(order):
        step[2 - one, column] = 1 if one == 2 else -1
    step[1:3, 3] = canonical.shape[1] - 1, canonical.shape[2] - 1
    affine = affine @ step
    return Volume(cut, tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()), affine)


def whole_labels(values: np.ndarray) -> np.ndarray:
    """Labels as whole numbers; fractions within ``ROUNDING`` of one are rounded.

    Raises:
        ValueError: a label is a fraction, as after interpolation, is no number, or is beyond 65535.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(f"{int((~np.isfinite(values)).sum())} labels are NaN or infinite")
        nearest = np.rint(values)
        between = np.abs(values - nearest) > ROUNDING
        if between.any():
            raise ValueError(
                f"labels must be whole numbers, found {values[between].flat[0]:g} and other fractions in "
                f"{int(between.sum())} voxels: they were interpolated. Resample the originals by nearest neighbour"
            )
        values = nearest
    low, high = values.min(), values.max()
    if low < -65535 or high > 65535:
        raise ValueError(f"labels must be from -65535 to 65535, found {low:g} to {high:g}")
    return values if values.dtype.kind == "u" and values.itemsize < 4 else values.astype(np.int32)


def misplacement(image: Volume, other: Volume) -> str | None:
    """Why ``other`` does not lie on ``image``, in mm; None if it does. Flat images need only equal sizes."""
    if image.values.shape[:3] != other.values.shape[:3]:
        return f"it is {other.values.shape[:3]}, the image {image.values.shape[:3]} (slices, H, W)"
    if image.affine is None or other.affine is None:
        return None
    corners = np.array([[*one, 1] for one in itertools.product(*((0, side - 1) for side in image.values.shape[:3]))])
    off = ((other.affine - image.affine) @ corners.T)[:3]
    furthest = float(np.linalg.norm(off, axis=0).max())
    if furthest <= MISPLACED * min(image.spacing):
        return None
    told = f"it lies up to {furthest:.3g} mm off the image"
    if not np.allclose(image.spacing, other.spacing, rtol=1e-3):
        return (
            f"{told}: its spacing is {_numbers(other.spacing)}, the image's {_numbers(image.spacing)} mm (slices, H, W)"
        )
    if np.ptp(off, axis=1).max() <= MISPLACED * min(image.spacing):
        return f"{told}: it is shifted by {_numbers(off.mean(axis=1))} mm (to the right, front and head)"
    return f"{told}: it is turned or mirrored against it"


def uncropped(labels: Volume, image: Volume) -> Volume | None:
    """Labels cut out of the grid of the image, on all of it, 0 elsewhere; None if they are not a part of that grid."""
    if image.affine is None or labels.affine is None:
        return None
    step = np.linalg.inv(image.affine) @ labels.affine
    start = np.rint(step[:3, 3]).astype(int)
    ends = np.array([[*one, 1] for one in itertools.product(*((0, side - 1) for side in labels.values.shape))])
    off = np.abs(step @ ends.T - ends.T - np.array([[*start, 0]]).T).max()
    if off > MISPLACED or (start < 0).any() or (start + labels.values.shape > image.values.shape[:3]).any():
        return None
    values = np.zeros(image.values.shape[:3], dtype=labels.values.dtype)
    values[tuple(slice(at, at + side) for at, side in zip(start, labels.values.shape, strict=True))] = labels.values
    return Volume(values, image.spacing, image.affine)


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{round(float(value), 3):g}" for value in values) + ")"


def resample_labels(labels: Volume, image: Volume) -> tuple[Volume, str]:
    """Whole-number labels on the grid of the image, by nearest neighbour, and how much of them lies in the image.

    Raises:
        ValueError: no labelled voxel lies in the image, or one of the two is flat.
    """
    if image.affine is None or labels.affine is None:
        raise ValueError("a flat image has no place in mm, so labels of another size cannot be resampled")
    step = np.linalg.inv(labels.affine) @ image.affine
    values = ndimage.affine_transform(
        labels.values, step[:3, :3], step[:3, 3], image.values.shape[:3], order=0, mode="grid-constant", cval=0
    )
    before, after = (
        float(np.count_nonzero(one) * abs(np.linalg.det(affine[:3, :3]))) / 1000
        for one, affine in ((labels.values, labels.affine), (values, image.affine))
    )
    if before and not after:
        raise ValueError("no labelled voxel lies in the image, not even after resampling")
    return Volume(values, image.spacing, image.affine), f"{after:.3g} of {before:.3g} cm3 of labels lie in the image"

"""Cut NIfTI volumes into slices: 16-bit images that are read as fast as any other.

A compressed volume can only be read from its start, so reading slices in random order would decompress the whole
volume each time. Each case is cut once, into a folder named after the hash of its contents; the folder is renamed into
place when it is complete.

Axes: S slices, H rows, W columns. Volumes are reoriented so that the voxel axes run to the patient's right, front
and head (nibabel's closest canonical orientation; an oblique one stays oblique). Then

| axis | slices go from | rows go from | columns go from |
|---|---|---|---|
| axial | head to feet | front to back | left to right |
| coronal | front to back | head to feet | left to right |
| sagittal | left to right | head to feet | front to back |
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from seg_pipeline.segmentation.images.decoding import read_image, read_values
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

Axis = Literal["axial", "coronal", "sagittal"]
AXES = ("axial", "coronal", "sagittal")
NIFTI = (".nii", ".nii.gz")
ANNOTATION_COLUMNS = ["image_id", "class", "mask"]
MAX_VOXELS = 2_000_000_000
"""Largest volume that is decoded; a small file can claim to be a huge one."""
_VERSION = 1  # raised whenever the same volume gives other slices


class Volume(NamedTuple):
    values: np.ndarray
    """(S, H, W), or (S, H, W, 3) for a colour image."""
    spacing: tuple[float, ...]
    """mm between slices, rows and columns; empty for a flat image."""
    directions: str
    """Direction of the stored axes, such as "LPS"; equal for all volumes of a case. "" for a flat image."""


@dataclass(frozen=True)
class Case:
    """A scan, with one file per channel, and its labels."""

    name: str
    images: tuple[Path, ...]
    labels: Path | None
    group: str | None = None
    problem: str | None = None
    """Why it cannot be used."""


@dataclass(frozen=True)
class Cutting:
    """How volumes are cut into slices. A stored value times ``slope`` plus ``intercept`` is the volume's own value.

    Attributes:
        slope, intercept: the same for all volumes, as CT needs; stored values outside 0 to 65535 are clipped and
            counted. None: fitted per volume, with whole numbers unchanged if they fit.
    """

    axis: Axis = "axial"
    slope: float | None = None
    intercept: float | None = None

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}, found {self.axis!r}")
        if (self.slope is None) != (self.intercept is None) or self.slope == 0:
            raise ValueError(
                f"slope and intercept must both be given, the slope not 0, or neither; found {self.slope} and "
                f"{self.intercept}"
            )


def read_volume(path: Path, *, axis: Axis = "axial") -> Volume:
    """Read a NIfTI file in canonical orientation, cut along ``axis``.

    Raises:
        ValueError: the file is missing, damaged or too large, or has more than three dimensions.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, SpatialImage

    try:
        image = nibabel.load(path)
        if not isinstance(image, SpatialImage):
            raise ValueError(f"{path}: holds no volume")
        _check_shape(path, image.shape)
        directions = "".join(map(str, nibabel.aff2axcodes(image.affine)))
        stored: Any = image.dataobj  # read only now
        if stored.dtype.kind not in "biuf":
            raise ValueError(f"{path}: its voxels are {stored.dtype}, expected numbers")
        # float32 holds 24 bits, more than the 16 that are kept, in half the memory of nibabel's float64
        as_is = (stored.slope, stored.inter) == (1, 0)
        values = stored.get_unscaled() if as_is else np.asarray(stored, dtype=np.float32)
        canonical = nibabel.as_closest_canonical(image.__class__(values, image.affine, image.header))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a NIfTI file, or truncated or damaged: {error}") from None
    values = np.asanyarray(canonical.dataobj).reshape(canonical.shape[:3])
    return Volume(*_cut(values, canonical.header.get_zooms()[:3], axis), directions)


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        raise ValueError(f"{path}: its shape is {shape}, expected 3 dimensions; split time or channels into files")
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise ValueError(f"{path}: {' x '.join(map(str, shape))} voxels are more than the {MAX_VOXELS:,} decoded")


def _cut(values: np.ndarray, zooms: tuple[float, ...], axis: Axis) -> tuple[np.ndarray, tuple[float, ...]]:
    """Slices (S, H, W) and their spacing, from values with the axes (right, front, head)."""
    from_head = values[:, ::-1, ::-1].transpose(2, 1, 0)  # (from the head, from the front, from the left)
    place = AXES.index(axis)
    order = [place, *(other for other in range(3) if other != place)]
    return from_head.transpose(order), tuple(float(zooms[::-1][other]) for other in order)


def read_slices(path: Path, *, axis: Axis, labels: bool = False) -> Volume:
    """As ``read_volume``; an ordinary image is a single flat slice."""
    if path.name.endswith(NIFTI):
        return read_volume(path, axis=axis)
    return Volume((read_values(path) if labels else read_image(path))[None], (), "")


def fit_uint16(values: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that keep whole numbers unchanged if they fit into uint16, else use its whole range.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of its values are NaN or infinite")
    whole = np.issubdtype(values.dtype, np.integer) or bool((np.rint(values) == values).all())
    if whole and high - min(low, 0) <= 65535:
        return 1.0, min(low, 0.0)
    return (high - low) / 65535 or 1.0, low


def to_uint16(values: np.ndarray, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """Stored values, and the number of clipped ones."""
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    clipped = int(((stored < 0) | (stored > 65535)).sum())
    return stored.clip(0, 65535).astype(np.uint16), clipped


def label_rows(values: np.ndarray, image_ids: list[str]) -> pd.DataFrame:
    """One row per slice and label value except 0: image_id, class (the value), mask; ``NO_CLASS`` if all are 0.

    Raises:
        ValueError: a label is not a whole number from 0 to 65535.
    """
    if not ((values == np.rint(values)) & (values >= 0) & (values <= 65535)).all():
        raise ValueError(f"labels must be whole numbers from 0 to 65535, found {values.min():g} to {values.max():g}")
    rows: list[tuple[str, str, str | None]] = []
    for image_id, labels in zip(image_ids, values, strict=True):
        present = np.flatnonzero(np.bincount(labels.astype(np.int64).ravel()))
        found = [(image_id, str(value), encode_rle(labels == value, order="C")) for value in present if value]
        rows += found or [(image_id, NO_CLASS, None)]
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS, dtype="str")


def index_volumes(
    cases: list[Case], store: Path, cutting: Cutting, *, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and annotations of all cases; the class column holds label values.

    ``store`` is the folder for the slices; a case with unchanged files and settings is not cut again. An unusable case
    has one row in the images, with its ``problem``.

    Raises:
        ValueError: nibabel is needed and not installed.
    """
    if any(path.name.endswith(NIFTI) for case in cases for path in case.images) and not find_spec("nibabel"):
        raise ValueError("reading NIfTI needs nibabel; install it with `pip install 'seg_pipeline[medical]'`")
    tasks = (joblib.delayed(_cut_case)(case, store, cutting) for case in cases)
    results = joblib.Parallel(n_jobs=num_workers, return_as="generator")(tasks)
    done = list(tqdm(results, total=len(cases), desc="cutting volumes", unit="case", disable=None))
    images, annotations = (pd.concat(tables, ignore_index=True) for tables in zip(*done, strict=True))
    return images, annotations


def _cut_case(case: Case, store: Path, cutting: Cutting) -> tuple[pd.DataFrame, pd.DataFrame]:
    try:
        folder = store / case.name / _key(case, cutting)
        if not folder.is_dir():
            _write_case(case, folder, cutting)
    except (ValueError, OSError) as error:
        path = case.images[0] if case.images else case.labels
        assert path is not None
        broken = {"path": path.as_posix(), "file": path.name, "image_id": None, "problem": str(error)}
        return pd.DataFrame([broken]), pd.DataFrame(columns=ANNOTATION_COLUMNS, dtype="str")
    images = pd.read_parquet(folder / "images.parquet")
    paths = [(folder / name).as_posix() for name in images["file"]]
    images = images.assign(path=paths, file=[f"{case.name}/{name}" for name in images["file"]], problem=None)
    return images, pd.read_parquet(folder / "annotations.parquet")


def _key(case: Case, cutting: Cutting) -> str:
    """Hash of the files' contents and the settings."""
    if case.problem:
        raise ValueError(case.problem)
    assert case.labels is not None
    total = hashlib.sha256(repr((_VERSION, case.name, case.group, asdict(cutting))).encode())
    for path in (*case.images, case.labels):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def _write_case(case: Case, folder: Path, cutting: Cutting) -> None:
    """Write slices and their tables, renamed into place when complete; older cuts of the case are removed."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        images, annotations = _write_slices(case, cutting, partial)
        images.to_parquet(partial / "images.parquet")
        annotations.to_parquet(partial / "annotations.parquet")
        for older in folder.parent.glob("[0-9a-f]*"):
            shutil.rmtree(older)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_slices(case: Case, cutting: Cutting, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert case.labels is not None
    channels = [read_slices(path, axis=cutting.axis) for path in case.images]
    labels = read_slices(case.labels, axis=cutting.axis, labels=True)
    for path, other in zip((*case.images[1:], case.labels), (*channels[1:], labels), strict=True):
        _check_alike(case.images[0], channels[0], path, other)
    fits = [_fit(path, channel, cutting) for path, channel in zip(case.images, channels, strict=True)]
    names, clipped = [f"{frame:04d}.png" for frame in range(len(labels.values))], []
    for frame, name in enumerate(names):
        pixels, outside = _stored([channel.values[frame] for channel in channels], fits)
        if not cv2.imwrite(str(folder / name), pixels[..., ::-1] if pixels.ndim == 3 else pixels):
            raise ValueError(f"{folder / name}: cannot be written; is the disk full?")
        clipped.append(outside)
    images = _described(case, channels[0], names).assign(clipped_pixels=clipped)
    for number, (slope, intercept) in enumerate(fits):
        suffix = f"_{number}" if len(fits) > 1 else ""
        images = images.assign(**{f"slope{suffix}": slope, f"intercept{suffix}": intercept})
    return images, label_rows(labels.values, images["image_id"].tolist())


def _check_alike(path: Path, image: Volume, other_path: Path, other: Volume) -> None:
    if image.values.shape[:3] != other.values.shape[:3]:
        raise ValueError(f"{other_path.name} is {other.values.shape}, {path.name} {image.values.shape} (slices, H, W)")
    if image.directions != other.directions:
        raise ValueError(
            f"the axes of {other_path.name} point {other.directions}, those of {path.name} {image.directions}; "
            "they do not overlay each other: fix the header that is wrong"
        )


def _fit(path: Path, channel: Volume, cutting: Cutting) -> tuple[float, float]:
    try:
        fitted = fit_uint16(channel.values)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if cutting.slope is None or cutting.intercept is None:
        return fitted
    return cutting.slope, cutting.intercept


def _stored(channels: list[np.ndarray], fits: list[tuple[float, float]]) -> tuple[np.ndarray, int]:
    """One slice as it is written: 8 bits if all channels are 8-bit and unchanged, else 16."""
    if all(one.dtype == np.uint8 for one in channels) and set(fits) == {(1.0, 0.0)}:
        stored, clipped = channels, 0
    else:
        pairs = [to_uint16(one, *fit) for one, fit in zip(channels, fits, strict=True)]
        stored, clipped = [values for values, _ in pairs], sum(number for _, number in pairs)
    return stored[0] if len(stored) == 1 else np.stack(stored, axis=-1), clipped


def _described(case: Case, volume: Volume, names: list[str]) -> pd.DataFrame:
    """Columns image_id, file, group and, for a volume, series, frame and spacing."""
    group = case.group or case.name
    if not volume.spacing:
        return pd.DataFrame({"image_id": [case.name], "file": names, "group": group})
    ids = [f"{case.name}_{frame:04d}" for frame in range(len(names))]
    table = pd.DataFrame({"image_id": ids, "file": names, "group": group, "series": case.name})
    spacing = dict(zip(("spacing_z", "spacing_y", "spacing_x"), volume.spacing, strict=True))
    return table.assign(frame=pd.array(range(len(names)), dtype="Int64"), **spacing)

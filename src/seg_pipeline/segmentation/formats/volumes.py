"""Cut volumes into slices: 16-bit images that are read as fast as any other.

A compressed volume can only be read from its start, so reading slices in random order would decompress the whole
volume each time. Each case is cut once, into a folder named after the hash of its contents; the folder is renamed into
place when it is complete. ``volume_files`` reads the volumes and describes their orientation.
"""

import functools
import hashlib
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.formats.itk import data_files
from seg_pipeline.segmentation.formats.volume_files import (
    AXES,
    Axis,
    Volume,
    misplacement,
    needs_package,
    read_named_masks,
    read_slices,
    resample_labels,
    uncropped,
    whole_labels,
)
from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.intensities import fit_uint16, to_uint16
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS
from seg_pipeline.segmentation.parallel.cluster import make_executor
from seg_pipeline.segmentation.parallel.executors import InProcess
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, map_ordered
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.storage.atomic import beside

ANNOTATION_COLUMNS = ["image_id", "class", "mask"]
_VERSION = 3  # raised whenever the same volume gives other slices


@dataclass(frozen=True)
class Case:
    """A scan, with one file (of DICOM: one folder) per channel, and its labels."""

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
        resample_labels: labels on another grid are resampled to that of their image (nearest neighbour), with a
            finding; else their case cannot be used.
    """

    axis: Axis = "axial"
    slope: float | None = None
    intercept: float | None = None
    resample_labels: bool = False

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}, found {self.axis!r}")
        if (self.slope is None) != (self.intercept is None) or self.slope == 0:
            raise ValueError(
                f"slope and intercept must both be given, the slope not 0, or neither; found {self.slope} and "
                f"{self.intercept}"
            )


def label_rows(values: np.ndarray, image_ids: list[str]) -> pd.DataFrame:
    """One row per slice and label value except 0: image_id, class (the value), mask; ``NO_CLASS`` if all are 0."""
    low = min(int(values.min()), 0)
    rows: list[tuple[str, str, str | None]] = []
    for image_id, labels in zip(image_ids, values, strict=True):
        present = np.flatnonzero(np.bincount((labels.astype(np.int64) - low).ravel())) + low
        found = [(image_id, str(value), encode_rle(labels == value, order="C")) for value in present if value]
        rows += found or [(image_id, NO_CLASS, None)]
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS, dtype="str")


def _mask_rows(name: str, masks: np.ndarray, image_ids: list[str]) -> list[tuple[str, str, str | None]]:
    """As ``label_rows``, of bool masks of one class."""
    return [(one, name, encode_rle(mask, order="C")) for one, mask in zip(image_ids, masks, strict=True) if mask.any()]


def index_volumes(
    cases: list[Case], store: Path, cutting: Cutting, *, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and annotations of all cases; the class column holds label values.

    ``store`` is the folder for the slices; a case with unchanged files and settings is not cut again. An unusable case
    has one row in the images, with its ``problem``.

    Raises:
        ValueError: a package that reads a file is not installed.
    """
    for path in {path.suffix: path for case in cases for path in (*case.images, case.labels) if path}.values():
        if package := needs_package(path):
            raise ValueError(
                f"reading {path.suffix} needs {package}; install it with `pip install 'seg_pipeline[medical]'`"
            )
    threads = joblib.effective_n_jobs(num_workers)
    keys = list(map_in_threads(partial(_key, cutting=cutting), cases, workers=threads if threads > 1 else 0))
    tasks = list(zip(cases, keys, strict=True))
    uncut = [case for case, key in tasks if key and not (store / case.name / key).is_dir()]
    executor = make_executor(num_workers) if uncut else InProcess()
    lost = "the process that read it died three times: it crashes its decoder, or memory ran out (use fewer workers)"
    results = map_ordered(
        executor,
        partial(_cut_case, store=store, cutting=cutting),
        tasks,
        fallback=lambda task: _unusable(task[0], lost),
    )
    done = list(progress_bar(results, total=len(cases), title="cutting volumes", unit="cases", hidden=not uncut))
    images, annotations = (pd.concat(tables, ignore_index=True) for tables in zip(*done, strict=True))
    return images, annotations


def _cut_case(task: tuple[Case, str | None], store: Path, cutting: Cutting) -> tuple[pd.DataFrame, pd.DataFrame]:
    case, key = task
    try:
        if case.problem or key is None:
            raise ValueError(case.problem or _missing(case))
        folder = store / case.name / key
        if not folder.is_dir():
            _write_case(case, folder, cutting)
    except (ValueError, OSError) as error:
        return _unusable(case, str(error))
    images = pd.read_parquet(folder / "images.parquet")
    paths = [(folder / name).as_posix() for name in images["file"]]
    images = images.assign(path=paths, file=[f"{case.name}/{name}" for name in images["file"]], problem=None)
    return images, pd.read_parquet(folder / "annotations.parquet")


def _unusable(case: Case, problem: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    path = case.images[0] if case.images else case.labels
    assert path is not None
    broken = {"path": path.as_posix(), "file": path.name, "image_id": None, "problem": problem}
    return pd.DataFrame([broken]), pd.DataFrame(columns=ANNOTATION_COLUMNS, dtype="str")


def _missing(case: Case) -> str:
    absent = [path for path in (*case.images, case.labels) if path and not path.exists()]
    return f"{absent[0]}: no such file" if absent else f"{case.images[0]}: cannot be read"


def _key(case: Case, cutting: Cutting) -> str | None:
    """Hash of the files' contents and the settings; None if the case has a problem or a file cannot be read."""
    if case.problem or case.labels is None:
        return None
    total = hashlib.sha256(repr((_VERSION, case.name, case.group, asdict(cutting))).encode())
    try:
        for path in (*case.images, case.labels):
            for file in sorted(path.iterdir()) if path.is_dir() else [path, *data_files(path)]:
                stamp = file.stat()
                total.update(_digest(file, stamp.st_size, stamp.st_mtime_ns))
    except OSError:
        return None
    return total.hexdigest()[:16]


@functools.cache  # a run loads the catalog's entries several times
def _digest(path: Path, _size: int, _changed: int) -> bytes:
    """SHA-256 of a file that had this size and time of change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write_case(case: Case, folder: Path, cutting: Cutting) -> None:
    """Write slices and their tables, renamed into place when complete; older cuts of the case are removed."""
    with beside(folder, folder=True) as partial:
        images, annotations = _write_slices(case, cutting, partial)
        images.to_parquet(partial / "images.parquet")
        annotations.to_parquet(partial / "annotations.parquet")
        for older in folder.parent.glob("[0-9a-f]*"):
            shutil.rmtree(older)
        partial.rename(folder)


def _write_slices(case: Case, cutting: Cutting, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert case.labels is not None
    channels = [read_slices(path, axis=cutting.axis) for path in case.images]
    for path, channel in zip(case.images[1:], channels[1:], strict=True):
        if reason := misplacement(channels[0], channel):
            raise ValueError(f"{path.name} does not lie on {case.images[0].name}: {reason}")
    fits = [_fit(path, channel, cutting) for path, channel in zip(case.images, channels, strict=True)]
    names, clipped = [f"{frame:04d}.png" for frame in range(len(channels[0].values))], []
    for frame, name in enumerate(names):
        pixels, outside = _stored([channel.values[frame] for channel in channels], fits)
        write_png(folder / name, pixels)
        clipped.append(outside)
    images = _described(case, channels[0], names).assign(clipped_pixels=clipped)
    annotations, repaired = _annotations(case, channels[0], images["image_id"].tolist(), cutting)
    images["repaired"] = pd.Series([repaired], dtype="str").reindex(images.index)  # one finding per case
    for number, (slope, intercept) in enumerate(fits):
        suffix = f"_{number}" if len(fits) > 1 else ""
        images = images.assign(**{f"slope{suffix}": slope, f"intercept{suffix}": intercept})
    return images, annotations


def _annotations(case: Case, image: Volume, image_ids: list[str], cutting: Cutting) -> tuple[pd.DataFrame, str | None]:
    """One row per slice and label or named structure, and what was repaired."""
    assert case.labels is not None
    named = read_named_masks(case.labels, case.images[0], axis=cutting.axis)
    if named is None:
        labels = read_slices(case.labels, axis=cutting.axis, labels=True)
        if labels.values.ndim > 3:
            raise ValueError(f"{case.labels.name}: labels must be grey values or a palette, found a colour image")
        try:
            labels = labels._replace(values=whole_labels(labels.values))
        except ValueError as error:
            raise ValueError(f"{case.labels.name}: {error}") from None
        labels, repaired = _on_image(labels, image, case, cutting)
        return label_rows(labels.values, image_ids), repaired
    rows, repairs = [], []
    for name, mask in named:
        placed, repaired = _on_image(mask, image, case, cutting)
        rows += _mask_rows(name, placed.values.astype(bool), image_ids)
        repairs += [repaired] if repaired else []
    shown = {image_id for image_id, _, _ in rows}
    rows += [(image_id, NO_CLASS, None) for image_id in image_ids if image_id not in shown]
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS, dtype="str"), repairs[0] if repairs else None


def _on_image(labels: Volume, image: Volume, case: Case, cutting: Cutting) -> tuple[Volume, str | None]:
    """Labels on the grid of the image, and what was repaired."""
    assert case.labels is not None
    name, of_image = ("/".join(path.parts[-2:]) for path in (case.labels, case.images[0]))
    if (reason := misplacement(image, labels)) is None:
        return labels, None
    if (whole := uncropped(labels, image)) is not None:
        return whole, None
    if not cutting.resample_labels:
        raise ValueError(
            f"{name} does not lie on {of_image}: {reason}. Correct the header that is wrong or, if both are right, set "
            "`resample_labels: true` under `slices` in the catalog"
        )
    try:
        resampled, told = resample_labels(labels, image)
    except ValueError as error:
        raise ValueError(f"{name} does not lie on {of_image}: {reason}; {error}") from None
    return resampled, f"{name} was resampled to the grid of {of_image} (nearest neighbour), as {reason}; {told}"


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

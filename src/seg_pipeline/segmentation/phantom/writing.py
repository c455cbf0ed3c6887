"""Write the phantom to a folder, series by series: images, table, and a record of its settings."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.parallel.cluster import make_executor
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.phantom.anatomy import CLASSES
from seg_pipeline.segmentation.phantom.drawing import draw_frame, make_series
from seg_pipeline.segmentation.storage.atomic import beside, replace_folder

RECORD = "phantom.json"
MADE_BY = "seg_pipeline phantom"
_VERSION = 1  # increase it if the same settings give other bytes, so that old samples are redrawn
# Noise does not compress: run-length coding is as small as deflate's default and takes a third of the time.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

Row = tuple[str, str, str]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PhantomSettings:
    """Settings that determine a phantom, to the byte.

    The defaults give about 250 frames; ``num_cases=137``, ``frames_per_series=(144, 144)``, ``size=266``,
    ``other_size=(310, 360)`` and ``dirty=False`` give 39,456, about as many as the real data has.
    """

    seed: int = 17
    num_cases: int = 14
    days_per_case: int = 2
    frames_per_series: Sequence[int] = (8, 10)
    """Minimum and maximum number."""
    size: int = 128
    """Height and width of a frame in pixels."""
    other_size: Sequence[int] = (128, 144)
    """Height and width of every fourth case's frames, beginning with the second case."""
    dirty: bool = True
    """Add a few faulty rows and files, see the package's docstring."""

    def __post_init__(self) -> None:
        min_frames, max_frames = self.frames_per_series
        for name, found, minimum in (
            ("num_cases", self.num_cases, 1),
            ("days_per_case", self.days_per_case, 1),
            ("the fewest frames_per_series", min_frames, 1),
            ("the most frames_per_series", max_frames, min_frames),
            ("the smallest of size and other_size", min(self.size, *self.other_size), 64),  # bowel loops need pixels
        ):
            if found < minimum:
                raise ValueError(f"phantom: {name} must be at least {minimum}, found {found}")

    def record(self) -> dict[str, Any]:
        """The settings as they are read back from JSON."""
        return json.loads(json.dumps({"version": _VERSION, **asdict(self)}))

    def scans(self) -> Iterator[Scan]:
        rng = np.random.default_rng([self.seed, 0])  # case numbers start at 1, so none shares this stream
        min_frames, max_frames = self.frames_per_series
        for case in range(1, self.num_cases + 1):
            height, width = self.other_size if (case - 2) % 4 == 0 else (self.size, self.size)
            gaps = rng.integers(14, 30, self.days_per_case)
            for day in (np.cumsum(gaps) - gaps[0]).tolist():
                yield Scan(
                    self.seed, case, day, int(rng.integers(min_frames, max_frames, endpoint=True)), (height, width)
                )


class Scan(NamedTuple):
    seed: int
    case: int
    day: int
    num_frames: int
    shape: tuple[int, int]

    def frames(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Id, image (H, W) uint16 and masks (C, H, W) bool of each frame."""
        series = make_series(self.seed, self.case, self.day, self.shape, overlaps=(self.case - 2) % 5 == 0)
        for frame in range(self.num_frames):
            yield self.image_id(frame), *draw_frame(series, frame, self.num_frames)

    def image_id(self, frame: int) -> str:
        return f"case{self.case}_day{self.day}_slice_{frame + 1:04d}"

    def file(self, frame: int) -> Path:
        height, width = self.shape
        folder = Path("train", f"case{self.case}", f"case{self.case}_day{self.day}", "scans")
        return folder / f"slice_{frame + 1:04d}_{width}_{height}_1.50_1.50.png"


def write_phantom(folder: str | os.PathLike[str], *, num_workers: int = 1, **settings: Any) -> None:
    """Draw the phantom of ``PhantomSettings`` into ``folder``; the same settings give the same bytes.

    The folder appears only when complete. A phantom with the same settings is kept; one with other settings is
    replaced. ``num_workers`` processes draw the series.

    Raises:
        ValueError: a setting is too small, or ``folder`` holds something other than a phantom.
    """
    requested, folder, start = PhantomSettings(**settings), Path(folder), time.perf_counter()
    if read_settings(folder) == requested.record():
        return
    with beside(folder, folder=True) as partial:
        num_frames = _write_all(partial, requested, num_workers)
        if read_settings(folder) != requested.record():  # otherwise another process was faster
            replace_folder(partial, folder)
    logger.info("made a phantom of %d frames at %s in %.1f s", num_frames, folder, time.perf_counter() - start)


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Settings of the phantom in ``folder``; None if the folder is missing or empty.

    Raises:
        ValueError: the folder holds something else, which must not be overwritten.
    """
    if (folder / RECORD).is_file():
        with contextlib.suppress(json.JSONDecodeError):  # then another program wrote it
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if record.get("made_by") == MADE_BY:
                return record["settings"]
    entries = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if entries:
        raise ValueError(
            f"{folder} is not a phantom's folder: it holds {len(entries)} entries, such as {entries[0]!r}, "
            f"but no {RECORD} written by this package. Choose a new or empty folder, or set `phantom: null` "
            "to read your own data"
        )
    return None


def _write_all(root: Path, settings: PhantomSettings, num_workers: int) -> int:
    """Write everything; return the number of frames, including the truncated one."""
    scans = list(settings.scans())
    num_clean = sum(scan.num_frames for scan in scans)
    series = map_ordered(make_executor(num_workers), functools.partial(_write_series, root), scans)
    with (root / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "class", "segmentation"))
        for rows in series:  # one series in memory at a time
            table.writerows(rows)
        faults, line = [], 2 + len(CLASSES) * num_clean  # the header is line 1
        for kind, fault_rows, fault_file in _write_faults(root, scans[-1], rows) if settings.dirty else ():
            table.writerows(fault_rows)
            lines = list(range(line, line + len(fault_rows)))
            faults.append({"kind": kind, "image_id": fault_rows[0][0], "rows": lines, "file": fault_file})
            line += len(fault_rows)
    num_frames = num_clean + sum(fault["file"] is not None for fault in faults)
    record = {"made_by": MADE_BY, "settings": settings.record(), "num_frames": num_frames, "faults": faults}
    (root / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return num_frames


def _write_series(root: Path, scan: Scan) -> list[Row]:
    """Write the images of a series; return its rows of the table."""
    (root / scan.file(0)).parent.mkdir(parents=True)
    rows = []
    for frame, (image_id, image, masks) in enumerate(scan.frames()):
        (root / scan.file(frame)).write_bytes(cv2.imencode(".png", image, _PNG_OPTIONS)[1].tobytes())
        rows += [(image_id, name, encode_rle(mask, order="C")) for name, mask in zip(CLASSES, masks, strict=True)]
    return rows


def _write_faults(root: Path, scan: Scan, rows: list[Row]) -> Iterator[tuple[str, list[Row], str | None]]:
    """Write faults after the last series, ``scan``, with table rows ``rows``; yield kind, rows and file of each."""
    longest = max(rows, key=lambda row: len(row[2]))  # the longest run lengths, so certainly not empty
    truncated, missing = scan.num_frames, scan.num_frames + 1
    content = (root / scan.file(truncated - 1)).read_bytes()
    (root / scan.file(truncated)).write_bytes(content[: len(content) // 2])
    masks_of_longest = [(name, rle) for image_id, name, rle in rows if image_id == longest[0]]
    yield "duplicate_row", [longest], None
    yield "missing_class", [(longest[0], "", "")], None  # a row with a mask would make the image itself unusable
    yield "truncated_file", [(scan.image_id(truncated), name, "") for name in CLASSES], scan.file(truncated).as_posix()
    yield "missing_file", [(scan.image_id(missing), name, rle) for name, rle in masks_of_longest], None

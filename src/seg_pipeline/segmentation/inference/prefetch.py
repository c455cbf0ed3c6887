"""Read new images, with their neighbouring frames."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.sample_decoding import frame_rows
from seg_pipeline.segmentation.images.addresses import file_of, format_address, parse_address
from seg_pipeline.segmentation.images.decoding import read_georeference, read_image
from seg_pipeline.segmentation.images.remote import is_remote, stamp_remote
from seg_pipeline.segmentation.images.tiff import ExtraTag
from seg_pipeline.segmentation.manifest.findings import Finding
from seg_pipeline.segmentation.prediction.predictor import Image
from seg_pipeline.segmentation.settings.training import InputSettings


class Loaded(NamedTuple):
    """An image and the network's input, or the finding that says why the image cannot be used."""

    image: np.ndarray | None = None
    network_input: Image | None = None
    finding: Finding | None = None
    georeference: Sequence[ExtraTag] = ()


class Reader:
    """Reads images of a table of ``find_images``, with neighbouring frames if the network takes them.

    Raises:
        ValueError: the network takes neighbouring frames, and the table has no series and frame.
    """

    def __init__(self, table: pd.DataFrame, settings: InputSettings) -> None:
        paths = [_address(path, settings) for path in table["path"]]
        self.rows: list[dict[str, Any]] = table.assign(path=paths).to_dict("records")  # type: ignore[assignment]
        self._frames: np.ndarray | None = None
        if isinstance(settings.channels, tuple):
            if not {"series", "frame"} <= set(table):
                raise ValueError(
                    f"this model takes neighbouring frames, at the offsets {list(settings.channels)}: pass a list of "
                    "images (.csv or .parquet) with the columns path, series and frame"
                )
            self._frames = frame_rows(table, settings)

    def load(self, index: int) -> Loaded:
        """Read one image; for a damaged file, return a finding instead of raising an error."""
        row = self.rows[index]
        if isinstance(row.get("problem"), str):
            return Loaded(finding=Finding("unreadable_image", row["problem"], "dropped", row["image_id"], row["file"]))
        try:
            image, georeference = read_image(row["path"]), read_georeference(row["path"])
            if self._frames is None:
                network_input: Image = image
            else:
                network_input = [
                    None if frame < 0 else image if frame == index else read_image(self.rows[frame]["path"])
                    for frame in self._frames[index].tolist()
                ]
        except (ValueError, OSError) as error:
            rule = "io_error" if isinstance(error, OSError) else "unreadable_image"
            reason = str(error).splitlines()[0]
            return Loaded(finding=Finding(rule, reason, "dropped", row["image_id"], row["file"]))
        listed = row.get("height"), row.get("width")
        if not any(pd.isna(side) for side in listed) and listed != image.shape[:2]:
            reason = (
                f"{row['path']}: image is {image.shape[0]} x {image.shape[1]} (height x width), the list says "
                f"{listed[0]:g} x {listed[1]:g}"
            )
            return Loaded(finding=Finding("size_differs_from_list", reason, "dropped", row["image_id"], row["file"]))
        return Loaded(image, network_input, georeference=georeference)


def _address(path: str, settings: InputSettings) -> str:
    """The path with the model's reading settings, unless it has its own, as in a manifest."""
    path_settings = parse_address(path).settings
    return format_address(path, settings.reading) if path_settings == type(path_settings)() else path


def signature(path: str | Path) -> tuple[int, int]:
    """Size in bytes and modification time (ns) of a file, to detect changes; (-1, -1) if it is missing.

    For an address, a hash of its etag replaces the time.
    """
    if is_remote(path):
        stamp = stamp_remote(file_of(path))
        return (stamp[0], zlib.crc32(stamp[1].encode())) if stamp else (-1, -1)
    try:
        stat = Path(file_of(path)).stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns

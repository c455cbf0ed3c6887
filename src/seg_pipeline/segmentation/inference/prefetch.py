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
    """An image and the network's input frames, or the finding that says why it cannot be used."""

    image: np.ndarray | None = None
    seen: Image | None = None
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
        """Read one image; a damaged file is returned as a finding, not raised."""
        row = self.rows[index]
        if isinstance(row.get("problem"), str):
            return Loaded(finding=Finding("unreadable_image", row["problem"], "dropped", row["image_id"], row["file"]))
        try:
            image, georeference = read_image(row["path"]), read_georeference(row["path"])
            if self._frames is None:
                seen: Image = image
            else:
                seen = [
                    None if at < 0 else image if at == index else read_image(self.rows[at]["path"])
                    for at in self._frames[index].tolist()
                ]
        except (ValueError, OSError) as error:
            rule = "io_error" if isinstance(error, OSError) else "unreadable_image"
            reason = str(error).splitlines()[0]
            return Loaded(finding=Finding(rule, reason, "dropped", row["image_id"], row["file"]))
        stated = row.get("height"), row.get("width")
        if not any(pd.isna(side) for side in stated) and stated != image.shape[:2]:
            reason = (
                f"{row['path']}: image is {image.shape[0]} x {image.shape[1]} (height x width), the list says "
                f"{stated[0]:g} x {stated[1]:g}"
            )
            return Loaded(finding=Finding("size_differs_from_list", reason, "dropped", row["image_id"], row["file"]))
        return Loaded(image, seen, georeference=georeference)


def _address(path: str, settings: InputSettings) -> str:
    """A path, which the manifest may already have with its settings, read as the model's images were."""
    given = parse_address(path).settings
    return format_address(path, settings.reading) if given == type(given)() else path


def signature(path: str | Path) -> tuple[int, int]:
    """Size in bytes and modification time (ns) of a file, to notice that it changed; (-1, -1) if it is missing.

    Of an address, a hash of its etag takes the place of the time.
    """
    if is_remote(path):
        about = stamp_remote(file_of(path))
        return (about[0], zlib.crc32(about[1].encode())) if about else (-1, -1)
    try:
        stat = Path(file_of(path)).stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns

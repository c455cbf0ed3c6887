"""Catalog entry for animations."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview

from seg_pipeline.datasets.described import Described
from seg_pipeline.segmentation.storage.atomic import replacing

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

FORMATS = (".gif", ".mp4")


class AnimationDataset(Described, AbstractDataset["np.ndarray", bytes | None]):
    """RGB frames, uint8 (T, H, W, 3), saved as GIF or MP4 according to the file's suffix; loads as the file's bytes.

    If OpenCV has no encoder for MP4, a warning is logged and no file is written. A node returns ``()`` if there is no
    series to show; an older file is then deleted. If there is no file, it loads as None."""

    missing_ok = True

    def __init__(self, *, filepath: str, frames_per_second: float = 4, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._frames_per_second = frames_per_second
        self.metadata = metadata
        if self._filepath.suffix not in FORMATS:
            raise ValueError(f"{filepath}: an animation must be saved as {' or '.join(FORMATS)}")
        if self._filepath.suffix == ".gif":
            self.preview = self._preview  # Kedro-Viz shows a GIF; it has no player for MP4

    def save(self, data: np.ndarray | tuple[()]) -> None:
        if isinstance(data, tuple):
            self._filepath.unlink(missing_ok=True)
            return
        if data.dtype != "uint8" or data.ndim != 4 or data.shape[3] != 3 or not len(data):
            raise ValueError(
                f"{self._filepath}: frames have dtype {data.dtype} and shape {data.shape}; an animation needs uint8 "
                "and (T, H, W, 3), with at least one frame"
            )
        if self._filepath.suffix == ".gif":
            with replacing(self._filepath) as file:
                _write_gif(data, file, self._frames_per_second)
        elif _has_mp4_encoder():
            with replacing(self._filepath) as file:
                _write_mp4(data, file, self._frames_per_second)
        else:
            self._filepath.unlink(missing_ok=True)  # an older series under this name would mislead
            log.warning("%s was not written: OpenCV has no MP4 encoder on this machine", self._filepath)

    def load(self) -> bytes | None:
        return self._filepath.read_bytes() if self._filepath.exists() else None

    def _preview(self) -> ImagePreview:
        return ImagePreview(base64.b64encode(self.load() or b"").decode("ascii"))

    def _exists(self) -> bool:
        return self._filepath.exists()


def _write_gif(frames: np.ndarray, file: Path, rate: float) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(file, save_all=True, append_images=others, duration=round(1000 / rate), loop=0)


def _has_mp4_encoder() -> bool:
    import tempfile

    import cv2

    with tempfile.TemporaryDirectory() as folder:
        return cv2.VideoWriter(f"{folder}/probe.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 1, (16, 16)).isOpened()


def _write_mp4(frames: np.ndarray, file: Path, rate: float) -> None:
    import cv2

    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1].copy())  # OpenCV expects BGR
    writer.release()
    written = max(
        0, int(cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FRAME_COUNT))
    )  # OpenCV does not report failed writes
    if written != len(frames):
        raise OSError(f"{written} of {len(frames)} frames were written; is the disk full?")

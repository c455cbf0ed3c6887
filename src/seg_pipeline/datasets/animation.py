"""Catalog entry for moving pictures."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

FORMATS = (".gif", ".mp4")
STILL_COLOURS = 64


class AnimationDataset(AbstractDataset["np.ndarray", "np.ndarray"]):
    """Pictures uint8 (T, H, W, 3), RGB, as GIF or MP4 by the file's ending.

    A GIF has 256 colours for the whole series; those of a legend, the same in every picture, stay exact.
    Where OpenCV has no encoder for MP4, the log says so and no file is written.

    ```yaml
    series_gif:
      type: seg_pipeline.datasets.animation.AnimationDataset
      filepath: data/08_reporting/series.gif
      frames_per_second: 6
    ```
    """

    def __init__(self, *, filepath: str, frames_per_second: float = 6, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._rate = frames_per_second
        self.metadata = metadata
        if self._filepath.suffix not in FORMATS:
            raise ValueError(f"{filepath}: an animation is saved as {' or '.join(FORMATS)}; end its name so")

    def save(self, data: np.ndarray) -> None:
        if data.dtype != "uint8" or data.ndim != 4 or data.shape[3] != 3 or not len(data):
            raise ValueError(
                f"{self._filepath}: pictures have dtype {data.dtype} and shape {data.shape}, but an animation "
                "needs uint8 and (T, H, W, 3), at least one"
            )
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        draft = self._filepath.with_name(f"{self._filepath.stem}.tmp{self._filepath.suffix}")
        try:
            written = _write_gif(data, draft, self._rate) if self._is_gif() else _write_mp4(data, draft, self._rate)
            if written:
                draft.replace(self._filepath)
            else:
                self._filepath.unlink(missing_ok=True)  # not an older series under this name
                log.warning("%s was not written: OpenCV has no encoder for it here", self._filepath)
        finally:
            draft.unlink(missing_ok=True)

    def load(self) -> np.ndarray:
        if not self._filepath.exists():
            raise ValueError(f"{self._filepath}: no animation there; run `kedro run --pipeline eda` first")
        return _read_gif(self._filepath) if self._is_gif() else _read_mp4(self._filepath)

    def preview(self) -> ImagePreview:
        """For Kedro-Viz: a GIF as it is, of an MP4 the first picture."""
        if self._is_gif():
            content = self._filepath.read_bytes()
        else:
            import cv2

            content = cv2.imencode(".png", self.load()[0][..., ::-1])[1].tobytes()
        return ImagePreview(base64.b64encode(content).decode("ascii"))

    def _is_gif(self) -> bool:
        return self._filepath.suffix == ".gif"

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "frames_per_second": self._rate}


def _write_gif(frames: np.ndarray, file: Path, rate: float) -> bool:
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(frames).tobytes())
    # no dithering: it would triple the size, and speckle what is of one colour
    coded = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    coded[0].save(file, save_all=True, append_images=coded[1:], duration=round(1000 / rate), loop=0)
    return True


def _palette(frames: np.ndarray) -> np.ndarray:
    """256 colours for all frames, uint8 (256, 3): those of what never changes, such as a legend, and the best rest."""
    import numpy as np
    from PIL import Image

    still = frames[0][(frames == frames[0]).all(axis=(0, 3))]
    colours, counts = np.unique(still.reshape(-1, 3), axis=0, return_counts=True)
    kept = colours[np.argsort(-counts, kind="stable")[:STILL_COLOURS]]
    strip = np.concatenate(list(frames[:: max(1, len(frames) // 8), ::2, ::2]))
    rest = Image.fromarray(strip).quantize(256 - len(kept)).getpalette() or []
    palette = np.concatenate([kept, np.array(rest, dtype=np.uint8).reshape(-1, 3)])[:256]
    return np.pad(palette, ((0, 256 - len(palette)), (0, 0)))


def _write_mp4(frames: np.ndarray, file: Path, rate: float) -> bool:
    import cv2

    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        return False
    for frame in frames:
        writer.write(frame[..., ::-1].copy())  # OpenCV keeps blue first
    writer.release()
    return file.exists() and file.stat().st_size > 0


def _read_gif(file: Path) -> np.ndarray:
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(file) as pictures:
        return np.stack([np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(pictures)])


def _read_mp4(file: Path) -> np.ndarray:
    import cv2
    import numpy as np

    reader, frames = cv2.VideoCapture(str(file)), []
    while True:
        found, frame = reader.read()
        if not found:
            break
        frames.append(frame[..., ::-1])
    reader.release()
    if not frames:
        raise ValueError(f"{file}: damaged, or no video that OpenCV can read")
    return np.stack(frames)

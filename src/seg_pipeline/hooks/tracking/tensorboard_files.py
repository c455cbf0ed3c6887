"""The TensorBoard store (extra ``tensorboard``): event files, one folder per run in ``tensorboard/<experiment>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_pipeline.hooks.tracking.tracker import Row, Run, Status, Tracker, Unavailable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

IMAGE_SUFFIXES = (".png", ".jpg")


class TensorboardTracker(Tracker):
    """Nested runs are subfolders of their parent. Files are not copied; a text entry lists their paths."""

    title = "tensorboard"

    def __init__(self, project: Path) -> None:
        self._root = project / "tensorboard"
        self._folders: dict[str, Path] = {}
        self._writers: dict[str, SummaryWriter] = {}

    def start(self, run: Run) -> None:
        """A resumed run finds its folder by the key in its name, so that TensorBoard draws one curve."""
        if run.key in self._writers:
            return
        parent = self._folders[run.parent] if run.parent else self._root / run.experiment
        name = re.sub(r"[^\w.+-]", "_", run.name)
        existing = [] if run.parent else sorted(parent.glob(f"*-{run.key[:8]}"))  # its name may have changed
        folder = existing[0] if existing else parent / (run.name if run.parent else f"{name}-{run.key[:8]}")
        self._folders[run.key], self._writers[run.key] = folder, _writer(folder)

    def where(self, run: Run) -> str:
        return f"tensorboard {self._folders[run.key]}; view it with: tensorboard --logdir {self._root}"

    def params(self, run: str, values: dict[str, Any]) -> None:
        self._text(run, "parameters", values)

    def tags(self, run: str, values: dict[str, str]) -> None:
        self._text(run, "about", values)

    def metrics(self, run: str, rows: list[Row], at: int) -> None:
        for row in rows:
            for name, value in row["values"].items():
                self._writers[run].add_scalar(name, value, row["step"], walltime=at / 1000)
        self._writers[run].flush()

    def artifact(self, run: str, path: str, folder: str) -> None:
        self._text(run, folder, {Path(path).name: path})

    def figure(self, run: str, path: str) -> None:
        if Path(path).suffix in IMAGE_SUFFIXES:
            self._image(run, path, f"figures/{Path(path).stem}", 0)
        else:
            self.artifact(run, path, "figures")

    def image(self, run: str, path: str, name: str, step: int, at: int) -> None:  # noqa: ARG002
        self._image(run, path, f"images/{name}", step)

    def rename(self, run: str, name: str) -> None:
        """Ignored: a run keeps its folder."""

    def model(self, run: str, path: str, name: str) -> None:
        """Ignored, because TensorBoard does not show models."""

    def finish(self, run: str, status: Status) -> None:
        self._text(run, "about", {"status": status})
        self._writers.pop(run).close()

    def _image(self, run: str, path: str, name: str, step: int) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writers[run].add_image(name, pixels, step, dataformats="HWC")

    def _text(self, run: str, title: str, values: dict[str, Any]) -> None:
        lines = [f"| {name} | {value} |" for name, value in values.items()]
        text = "\n".join(["| name | value |", "| --- | --- |", *lines])
        self._writers[run].add_text(f"{title}/{next(iter(values), '')}", text)


def _writer(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Unavailable("it is not installed; run pip install 'seg_pipeline[tensorboard]'") from error
    return SummaryWriter(str(folder))

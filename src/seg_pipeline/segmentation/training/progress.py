"""Progress bar of an epoch: loss, Dice, images per second and the time left in the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_pipeline.segmentation.settings.progress import progress_bar

SECONDS_BETWEEN = 1.0
"""Seconds between two updates of loss and Dice, because each waits for the device."""


class Bar:
    """Iterate over a loader with a progress bar, or with lines in the log.

    Args:
        num_images: number of images in the remaining batches.
        means: returns loss and Dice so far.
        hidden: never show the bar; for all processes except the first.
    """

    def __init__(
        self, loader: DataLoader, title: str, num_images: int, means: Callable[[], tuple[float, float]], *, hidden: bool
    ) -> None:
        self.loader, self.title, self.means, self._shown = loader, title, means, time.monotonic()
        self._bar = progress_bar(title=title, unit="images", hidden=hidden, total=num_images)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            self._bar.update(len(batch[0]))

    def show(self, progress: float, seconds: float) -> None:
        """Show loss, Dice and the time left of a run that has done ``progress`` (0 to 1) in ``seconds``."""
        if self._bar.disable or time.monotonic() - self._shown < max(SECONDS_BETWEEN, self._bar.mininterval):
            return
        loss, dice = self.means()
        time_left = tqdm.format_interval(seconds * (1 - progress) / max(progress, 1e-9))
        self._bar.set_description_str(f"{self.title}, {time_left} left", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.3f}, Dice {dice:.3f}")
        self._shown = time.monotonic()

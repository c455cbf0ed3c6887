"""Progress bar of an epoch: loss, Dice, images per second and the time left in the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

SECONDS_BETWEEN = 1.0
"""Between two looks at the loss, as each waits for the device."""


class Bar:
    """Batches of a loader, shown as they come; plain iteration where there is no terminal.

    Args:
        num_images: in the batches to come.
        means: gives loss and Dice so far.
        hidden: whatever there is; for all processes but the first.
    """

    def __init__(
        self, loader: DataLoader, title: str, num_images: int, means: Callable[[], tuple[float, float]], *, hidden: bool
    ) -> None:
        self.loader, self.title, self.means, self._shown = loader, title, means, time.monotonic()
        self._bar = tqdm(desc=title, unit=" images", leave=False, disable=hidden or None, total=num_images)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            self._bar.update(len(batch[0]))

    def show(self, progress: float, seconds: float) -> None:
        """Loss, Dice and time left of a run that did ``progress`` (0 to 1) of its work in ``seconds``."""
        if self._bar.disable or time.monotonic() - self._shown < SECONDS_BETWEEN:
            return
        loss, dice = self.means()
        left = tqdm.format_interval(seconds * (1 - progress) / max(progress, 1e-9))
        self._bar.set_description_str(f"{self.title}, {left} left", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.3f}, Dice {dice:.3f}")
        self._shown = time.monotonic()

"""Draw the frames of a series for an animation."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.plotting.overlays import overlay
from seg_pipeline.segmentation.plotting.style import class_colours

FONT = cv2.FONT_HERSHEY_SIMPLEX
LINE_PIXELS = 16
"""Height of a line of text in pixels."""
MARGIN = 4
FILL_OPACITY = 0.2  # enough to distinguish classes whose outlines are dark
MAX_LEGEND = 24


def draw_series(rows: pd.DataFrame, *, max_side: int) -> np.ndarray:
    """Draw the frames of a series in order: RGB, uint8 (T, H, W, 3).

    Each frame shows its number, the outlines of its masks with a faint fill, and a legend of at most ``MAX_LEGEND``
    classes that occur in the series. All frames get the size of the first, scaled so that its longer side has
    ``max_side`` pixels; images of another size are scaled to fit.
    """
    names = class_names(rows)
    shown = [name for name in names if (rows[f"area_{name}"] > 0).any()]
    colours = class_colours(len(names))[[names.index(name) for name in shown]]
    size = _frame_size(int(rows["height"].iloc[0]), int(rows["width"].iloc[0]), max_side)
    legend = _legend(shown[:MAX_LEGEND], colours, size[1])
    title = f"{rows['series'].iloc[0]}, frame"
    digits = len(str(int(rows["frame"].max())))
    return np.stack(
        [
            np.concatenate(
                [_title(f"{title} {int(row['frame']):{digits}d}", size[1]), _draw(row, shown, colours, size), legend]
            )
            for row in rows.to_dict("records")
        ]
    )


def _frame_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Height and width of the frames, even because most video encoders require it."""
    scale = max_side / max(height, width)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def _draw(row: dict, names: Sequence[str], colours: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image, canvas = read_for_display(row["path"]), np.zeros((*size, 3), dtype=np.uint8)
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    fitted = (min(size[1], round(image.shape[1] * scale)), min(size[0], round(image.shape[0] * scale)))
    small = cv2.resize(image, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    present = [index for index, name in enumerate(names) if row[f"area_{name}"]]
    if present:
        masks = np.stack([_fit_mask(row, names[index], fitted) for index in present])
        small = overlay(small, masks, alpha=FILL_OPACITY, colours=colours[present])
    top, left = (size[0] - fitted[1]) // 2, (size[1] - fitted[0]) // 2
    canvas[top : top + fitted[1], left : left + fitted[0]] = small
    return canvas


def _fit_mask(row: dict, name: str, size: tuple[int, int]) -> np.ndarray:
    mask = (read_masks(row, [name])[0] == 1).astype(np.uint8)
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _title(text: str, width: int) -> np.ndarray:
    band = np.zeros((LINE_PIXELS + 2, width, 3), dtype=np.uint8)
    scale = min(0.42, 0.42 * (width - 2 * MARGIN) / max(1, _width(text)))
    return cv2.putText(band, text, (MARGIN, LINE_PIXELS - 3), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return cv2.getTextSize(text, FONT, 0.42, 1)[0][0]


def _legend(names: Sequence[str], colours: np.ndarray, width: int) -> np.ndarray:
    """A legend with a square and a name per class, on as many lines as needed."""
    places, x, line = [], MARGIN, 0
    for name in names:
        needed = LINE_PIXELS + _width(name) + 2 * MARGIN
        if x > MARGIN and x + needed > width:
            x, line = MARGIN, line + 1
        places.append((x, line))
        x += needed
    band = np.zeros(((line + 1) * LINE_PIXELS + 2, width, 3), dtype=np.uint8)
    for name, colour, (left, row) in zip(names, colours[: len(names)].tolist(), places, strict=True):
        base = (row + 1) * LINE_PIXELS - 3
        cv2.rectangle(band, (left, base - 9), (left + 9, base), colour, -1)
        cv2.putText(band, name, (left + LINE_PIXELS, base), FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return band

"""The confusion matrix as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seg_pipeline.segmentation.plotting.style import new_figure, small, styled

MAX_WITH_NUMBERS = 15
DARK = 0.55  # from this share on, the number is white on dark blue


@styled
def plot_confusion(confusion: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """Confusion matrix in percent of each row: what the pixels of each true class were predicted as.

    ``confusion`` counts pixels, int (K, K); rows are the ground truth, columns the prediction. A row without pixels
    is grey. Up to 15 classes have their percentages written in the cells.

    Raises:
        ValueError: ``confusion`` is not K x K for K names.
    """
    if confusion.shape != (len(names), len(names)):
        raise ValueError(
            f"confusion has shape {confusion.shape}, but {len(names)} names need ({len(names)}, {len(names)})"
        )
    shares, totals = _row_shares(confusion)
    numbered = len(names) <= MAX_WITH_NUMBERS
    side = max(len(names) * 0.5, 2.8) if numbered else min(len(names) * 0.2, 18)
    figure = new_figure(side + 3.4, side + 1.6)
    figure.set_layout_engine("compressed")  # keeps the colour bar close to the square cells
    axes = figure.subplots()
    _draw_heat(figure, axes, shares)
    slope = 45 if numbered else 90
    axes.set_xticks(range(len(names)), names, rotation=slope, ha="right", va="center", rotation_mode="anchor")
    break_ = "\n" if numbered else "  "
    axes.set_yticks(range(len(names)), [f"{name}{break_}{total:,}" for name, total in zip(names, totals, strict=True)])
    axes.set(xlabel="predicted class", ylabel="true class (pixels)")
    figure.suptitle(title)
    if numbered:
        _write_shares(axes, shares)
    return figure


def _row_shares(confusion: np.ndarray) -> tuple[np.ma.MaskedArray, np.ndarray]:
    """Shares of each row's total, masked if the total is 0, and the totals."""
    totals = confusion.sum(axis=1)
    empty = np.broadcast_to((totals == 0)[:, None], confusion.shape)
    return np.ma.masked_array(confusion / np.maximum(totals, 1)[:, None], mask=empty), totals


def _draw_heat(figure: Figure, axes: Axes, shares: np.ma.MaskedArray) -> None:
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="0.85")
    heat = axes.imshow(100 * shares, cmap=colours, vmin=0, vmax=100)
    figure.colorbar(heat, ax=axes, label="share of the true class (%)", shrink=0.8)
    axes.spines[:].set_visible(True)


def _write_shares(axes: Axes, shares: np.ma.MaskedArray) -> None:
    for (row, column), share in np.ndenumerate(shares.filled(np.nan)):
        colour = "white" if share >= DARK else "black"
        axes.text(column, row, _percent(share), ha="center", va="center", fontsize=small(), color=colour)


def _percent(share: float) -> str:
    """The share in percent with one decimal that never rounds to 0 or 100; a dash for NaN."""
    if np.isnan(share):
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return "<0.1" if share < 0.0005 else f"{min(100 * share, 99.9):.1f}"

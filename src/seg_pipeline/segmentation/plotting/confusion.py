"""The confusion matrix as a heat map."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation.plotting.row_panels import MAX_WITH_NUMBERS, draw_heat
from seg_pipeline.segmentation.plotting.style import new_figure, styled


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
    totals = confusion.sum(axis=1)
    percent = 100 * confusion / np.where(totals > 0, totals, np.nan)[:, None]
    numbered = len(names) <= MAX_WITH_NUMBERS
    side = max(len(names) * 0.5, 2.8) if numbered else min(len(names) * 0.2, 18)
    figure = new_figure(side + 3.4, side + 1.6)
    figure.set_layout_engine("compressed")  # keeps the colour bar close to the square cells
    axes = figure.subplots()
    table, text = pd.DataFrame(percent, columns=list(names)), _exact_percent if numbered else None
    heat = draw_heat(axes, table, slope=45 if numbered else 90, text=text, aspect="equal")
    figure.colorbar(heat, ax=axes, label="share of the true class (%)", shrink=0.8)
    break_ = "\n" if numbered else "  "
    axes.set_yticks(range(len(names)), [f"{name}{break_}{total:,}" for name, total in zip(names, totals, strict=True)])
    axes.set(xlabel="predicted class", ylabel="true class (pixels)")
    figure.suptitle(title)
    return figure


def _exact_percent(value: float) -> str:
    """One decimal, which never rounds to 0 or 100; a dash for NaN."""
    if np.isnan(value):
        return "–"
    if value in (0, 100):
        return f"{value:.0f}"
    return "<0.1" if value < 0.05 else f"{min(value, 99.9):.1f}"

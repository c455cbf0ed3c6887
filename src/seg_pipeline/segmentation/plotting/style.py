"""Fonts, lines and colours of all figures."""

import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seg_pipeline.segmentation.settings.figures import CURRENT

# Okabe and Ito's colours without black (jfly.uni-koeln.de/color), then web-safe colours, each the farthest in CIELAB
# from all before it. The distance is the minimum of three: normal vision, and the models of deuteranopia and
# protanopia by Machado et al. (2009).
_PALETTE = bytes.fromhex(
    "E69F00 56B4E9 009E73 F0E442 0072B2 D55E00 CC79A7 0033CC 663300 FFCCCC 660066 663333 "
    "FFCC99 0099FF FF3366 003399 993366 3366FF 0066CC 666633 CCCC66 993399 999933 CC9999 "
    "FF99CC CCCCFF CC0033 99CC33 00CCCC 996699 CC0000 0099CC 663366 CC66FF 336600 FF6633 "
    "FF33CC 006666 CC9966 006699 CC6666 99CC99 339999 CC00CC 663399 FF99FF CC66CC 669900"
)

_ON_DARK: dict[Any, Any] = {"figure.facecolor": "#1d232c", "text.color": "#e6e9ee", "axes.labelcolor": "#e6e9ee"}

_Parameters = ParamSpec("_Parameters")
_style_lock = threading.Lock()


def small() -> float:
    """Font size, in points, of numbers inside a plot."""
    return CURRENT.font_size - 1


def grown(inches: float) -> float:
    """Scale a length chosen for a 9-point font to the current font size."""
    return inches * CURRENT.font_size / 9


def style() -> dict[Any, Any]:
    """The current Matplotlib settings."""
    return {
        "axes.axisbelow": True,
        "axes.grid": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": CURRENT.font_size,
        "axes.titleweight": "normal",
        "figure.dpi": CURRENT.dpi,
        "figure.titlesize": CURRENT.font_size + 1,
        "figure.titleweight": "bold",
        "font.size": CURRENT.font_size,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "legend.fontsize": small(),
        "text.parse_math": False,  # a class name may contain "$"
        **CURRENT.rc,
    }


def styled(plot: Callable[_Parameters, Figure]) -> Callable[_Parameters, Figure]:
    """Run ``plot`` with ``style()``, whatever the caller's Matplotlib settings."""

    @functools.wraps(plot)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Figure:
        # rc_context changes the settings of the whole process, so one figure at a time
        with _style_lock, matplotlib.rc_context(style()):
            return plot(*args, **kwargs)

    return wrapped


def on_dark(plot: Callable[_Parameters, Figure]) -> Callable[_Parameters, Figure]:
    """Draw a sheet of images on a dark background, for light and dark pages; apply it below ``styled``."""

    @functools.wraps(plot)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(_ON_DARK | CURRENT.rc):
            return plot(*args, **kwargs)

    return wrapped


def class_colours(num_classes: int) -> np.ndarray:
    """RGB colours, uint8 (C, 3), the same for a class index in every figure.

    The colours of the settings, if there is one per class. Otherwise 48 colours, which repeat; the first 11 also
    differ for colour-blind readers.
    """
    if num_classes and len(CURRENT.class_colours) == num_classes:
        return np.array([list(bytes.fromhex(colour[1:])) for colour in CURRENT.class_colours], dtype=np.uint8)
    palette = np.frombuffer(_PALETTE, dtype=np.uint8).reshape(-1, 3)
    return palette[np.arange(num_classes) % len(palette)]


def unit_colours(num_classes: int) -> np.ndarray:
    """``class_colours`` as float (C, 3) in 0..1, for Matplotlib."""
    return class_colours(num_classes) / 255


def count_steps(axes: Axes) -> None:
    """Put ticks at integers on the x axis, and draw a grid."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained")

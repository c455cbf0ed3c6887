"""Contact sheets: a grid of images with their masks.

Axes: C classes, H rows, W columns. An image is uint8, (H, W) or (H, W, 3) in RGB; masks are bool (C, H, W).
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from seg_pipeline.segmentation.plotting.overlays import (
    TINT,
    check_picture,
    draw_outlines,
    overlay,
    resized,
    resized_masks,
    tint,
    tiny_spots,
)
from seg_pipeline.segmentation.plotting.style import class_colours, new_figure, on_dark, small, styled

FALSE_TINT = 0.7
PANEL_INCHES = 2.0
TITLE_INCHES = 0.26
MARGIN_INCHES = 0.6
BLOCK_GAP = 0.06
MAX_ROWS = 6
LEGEND_NOTE = "tint: prediction (stronger: false positive); outline: ground truth; ring: too small to see"
MAX_LEGEND = 16
PANEL_PIXELS = 480
"""Larger images are shrunk to this longer side before drawing, because their outlines would be too thin to see."""


@styled
@on_dark
def plot_samples(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    titles: Sequence[str],
    class_names: Sequence[str],
    *,
    colours: np.ndarray | None = None,
    title: str = "Samples: image, masks, overlay",
) -> Figure:
    """Contact sheet of samples, one row each: image, masks, overlay.

    Images may differ in size. ``titles`` are written above the samples. ``colours``, uint8 (C, 3), default to those of
    the first C classes; pass them if ``masks`` hold only some of many classes.
    """
    _check_lengths(images=len(images), masks=len(masks), titles=len(titles))
    _check_classes(masks, class_names)
    colours = class_colours(len(class_names)) if colours is None else colours
    rows = []
    for image, mask in zip(images, masks, strict=True):
        picture, shown = _shrunk(image, mask)
        black = np.zeros_like(picture)
        rows.append(
            [picture, overlay(black, shown, alpha=1, colours=colours), overlay(picture, shown, colours=colours)]
        )
    figure = _draw_sheet(rows, titles, ["image", "masks", "overlay"])
    for axes, mask in zip(figure.axes[1::3], masks, strict=True):
        if not mask.any():
            axes.text(0.5, 0.5, "no class", transform=axes.transAxes, color="white", ha="center", va="center")
    figure.suptitle(title)
    _add_legend(figure, _names_to_show(masks, class_names), colours)
    return figure


@styled
@on_dark
def plot_predictions(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    titles: Sequence[str],
    class_names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Contact sheet of predictions, one row per image: image, ground truth, and prediction (tint) under true outlines.

    A strong tint is a false positive, an outline without a tint inside is a false negative. Objects that are too small
    to see are ringed.
    """
    _check_lengths(images=len(images), truths=len(truths), predictions=len(predictions), titles=len(titles))
    _check_classes([*truths, *predictions], class_names)
    colours = class_colours(len(class_names))
    rows = []
    for image, truth, predicted in zip(images, truths, predictions, strict=True):
        (picture, true), (_, found) = _shrunk(image, truth), _shrunk(image, predicted)
        tinted = tint(tint(picture, found, TINT, colours), found & ~true, FALSE_TINT, colours)
        rows.append([picture, overlay(picture, true), draw_outlines(tinted, true, colours)])
    figure = _draw_sheet(rows, titles, ["image", "ground truth", "prediction"])
    for index, (row, truth, predicted) in enumerate(zip(rows, truths, predictions, strict=True)):
        _ring_tiny_spots(figure.axes[3 * index + 2], truth | predicted, row[0].shape[0] / truth.shape[1])
    figure.suptitle(title)
    _add_legend(figure, _names_to_show([*truths, *predictions], class_names), colours, LEGEND_NOTE)
    return figure


@styled
@on_dark
def plot_augmentations(
    images: Sequence[Sequence[np.ndarray]],
    masks: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    class_names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Contact sheet with one row per sample: the original, then augmented draws, with masks as outlines.

    ``images`` and ``masks`` hold, per sample, the original first and then the same number of augmented draws.
    """
    _check_lengths(images=len(images), masks=len(masks), titles=len(titles))
    for name, pictures, drawn in zip(titles, images, masks, strict=True):
        _check_lengths(**{f"images of {name}": len(pictures), f"masks of {name}": len(drawn)})
    flat = [mask for draws in masks for mask in draws]
    _check_classes(flat, class_names)
    colours = class_colours(len(class_names))
    rows = [
        [draw_outlines(*_shrunk(image, mask), colours) for image, mask in zip(*draws, strict=True)]
        for draws in zip(images, masks, strict=True)
    ]
    headings = ["original", *[f"draw {draw}" for draw in range(1, len(rows[0]))]]
    figure = _draw_sheet(rows, titles, headings, named=0)
    figure.suptitle(title)
    _add_legend(figure, _names_to_show(flat, class_names), colours)
    return figure


def _ring_tiny_spots(axes: Axes, masks: np.ndarray, scale: float) -> None:
    """Ring the tiny objects of ``masks``, bool (C, H, W), on their image, which is drawn at ``scale``."""
    shown = 72 * PANEL_INCHES / max(masks.shape[1:])  # points per pixel in the panel
    for x, y in (tiny_spots(masks, shown) + 0.5) * scale - 0.5:
        for colour, width in (("black", 2.4), ("white", 1.0)):
            axes.plot(x, y, "o", markersize=11, fillstyle="none", color=colour, markeredgewidth=width)


def _check_lengths(**lengths: int) -> None:
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"a contact sheet needs the same number of each, at least 1, but got {lengths}")


def _check_classes(masks: Sequence[np.ndarray], class_names: Sequence[str]) -> None:
    if wrong := {len(mask) for mask in masks} - {len(class_names)}:
        raise ValueError(
            f"some masks hold {sorted(wrong)} classes, but there are {len(class_names)} class names: "
            f"{list(class_names)}; pass masks (C, H, W) with one mask per class"
        )


def _shrunk(image: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks, shrunk if the longer side exceeds ``PANEL_PIXELS``."""
    picture = check_picture(image, masks)
    scale = min(1.0, PANEL_PIXELS / max(picture.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return resized(picture, (height, width)), resized_masks(masks, (height, width))


def _draw_sheet(
    samples: list[list[np.ndarray]], titles: Sequence[str], headings: Sequence[str], *, named: int = 1
) -> Figure:
    """Draw one row per sample; more than ``MAX_ROWS`` samples go into two blocks side by side.

    ``named``: index of the column with the sample's title.
    """
    num_blocks = 1 if len(samples) <= MAX_ROWS else 2
    num_rows, wide = math.ceil(len(samples) / num_blocks), len(headings)
    # height over width of the cells: that of the median image, within bounds
    ratio = float(np.clip(np.median([image.shape[0] / image.shape[1] for image, *_ in samples]), 0.5, 1.5))
    widths = [*[1.0] * wide, *[BLOCK_GAP, *[1.0] * wide] * (num_blocks - 1)]
    height = num_rows * (PANEL_INCHES * ratio + TITLE_INCHES) + MARGIN_INCHES
    figure = new_figure((PANEL_INCHES + 0.1) * sum(widths), height)
    grid = figure.add_gridspec(num_rows, len(widths), width_ratios=widths)
    for index, (panels, title) in enumerate(zip(samples, titles, strict=True)):
        block, row = divmod(index, num_rows)
        last = row == num_rows - 1 or index == len(samples) - 1
        for column, (panel, heading) in enumerate(zip(panels, headings, strict=True)):
            axes = figure.add_subplot(grid[row, block * (wide + 1) + column])
            _draw_cell(axes, panel, ratio)
            axes.set(title=title if column == named else "", xlabel=heading if last else "")
    return figure


def _draw_cell(axes: Axes, picture: np.ndarray, ratio: float) -> None:
    """Draw the image centred in a cell with this ratio of height to width, as large as fits."""
    height, width = picture.shape[:2]
    axes.imshow(picture)
    cell_width = max(width, height / ratio)
    side, above = (cell_width - width) / 2, (cell_width * ratio - height) / 2
    axes.set(xlim=(-0.5 - side, width - 0.5 + side), ylim=(height - 0.5 + above, -0.5 - above))
    axes.set(xticks=[], yticks=[], facecolor="0.25")  # so that all cells look equally large
    axes.spines[:].set_visible(False)


def _names_to_show(masks: Sequence[np.ndarray], class_names: Sequence[str]) -> dict[int, str]:
    """All classes by index, or only those in the masks if there are too many for a legend."""
    if len(class_names) <= MAX_LEGEND:
        return dict(enumerate(class_names))
    is_shown = np.any([mask.any(axis=(1, 2)) for mask in masks], axis=0)
    return {index: name for index, name in enumerate(class_names) if is_shown[index]}


def _add_legend(figure: Figure, names: dict[int, str], colours: np.ndarray, note: str = "") -> None:
    patches = [
        Patch(facecolor=colours[index] / 255, edgecolor="0.4", linewidth=0.5, label=name)
        for index, name in names.items()
    ]
    if not patches:
        return
    points = (0.6 * max(map(len, names.values())) + 5) * small()  # a letter is 0.6 font sizes wide, the patch 5
    columns = max(1, int(figure.get_figwidth() * 72 / points))
    legend = figure.legend(handles=patches, loc="outside lower center", ncols=columns, title=note)
    legend.get_title().set_fontsize(small())
    figure.set_figheight(figure.get_figheight() + (math.ceil(len(patches) / columns) + bool(note)) * small() / 45)

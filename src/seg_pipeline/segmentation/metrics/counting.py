"""Pixel counts and surface distances of each image, and of each series as a volume."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.images.masks import IGNORE, decode_rle
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, iter_records, read_masks
from seg_pipeline.segmentation.metrics import overlap as metrics
from seg_pipeline.segmentation.metrics import surface_distances
from seg_pipeline.segmentation.metrics.overlap import Collected, ImageCounts
from seg_pipeline.segmentation.metrics.uw_madison import Volume
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import MeasureSettings


def count_images(
    truth: pd.DataFrame,
    predictions: pd.DataFrame,
    names: list[str],
    *,
    measures: MeasureSettings,
    workers: int | None = None,
) -> tuple[ImageCounts, Tensor]:
    """Counts of every image, in the order of the rows, and the confusion matrix of all images.

    Of each image only the classes that it shows are decoded: of hundreds, that is a few.

    Args:
        workers: threads, which do not change the result; None: one per core.
    """
    collected, unit = Collected[ImageCounts](at_once=AT_ONCE), unit_of(truth)
    confusion = torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)

    def counted(pair: tuple[dict, dict]) -> tuple[Tensor, ImageCounts, Tensor]:
        row, guess = pair
        spacing = (1.0, row["spacing_y"], row["spacing_x"]) if unit == "mm" else (1.0, 1.0, 1.0)
        shown = _shown(row, guess, names)
        some = [names[number] for number in shown]
        predicted, masks = read_masks({**guess, "ignore": ""}, some).view(bool), read_masks(row, some)
        counts, pixels = count_image(predicted, masks, spacing=spacing, measures=measures)
        return torch.tensor([*shown, len(names)]), counts, pixels

    pairs = zip(iter_records(truth), iter_records(predictions), strict=True)
    found = map_in_threads(counted, pairs, workers=num_threads(workers))
    for places, counts, pixels in progress_bar(found, total=len(truth), title="scoring", unit="images"):
        confusion[places[:, None], places] += pixels
        collected.add(_of_all(counts, places[:-1], len(names)))
    return collected.all(), confusion


AT_ONCE = 64
"""Number of images whose counts are concatenated at once; one at a time adds a tenth to the time per image."""


def unit_of(rows: pd.DataFrame) -> str:
    """Unit of distances: "mm" if the spacing of every image is known, else "pixels"."""
    sides = ["spacing_y", "spacing_x"]
    return "mm" if set(sides) <= set(rows) and bool((rows[sides] > 0).all(axis=None)) else "pixels"


def _shown(row: dict, guess: dict, names: list[str]) -> list[int]:
    """Numbers of the classes of which an image has pixels, true or predicted, and of one that is not annotated."""
    true, guessed = ([one[f"mask_{name}"] for name in names] for one in (row, guess))
    shown = {number for number, text in enumerate(true) if guessed[number] or text not in ("", NOT_ANNOTATED)}
    unknown = [true.index(NOT_ANNOTATED)] if NOT_ANNOTATED in true else []
    return sorted({*shown, *unknown}) or [0]  # any class carries the ignored pixels


def _of_all(counts: ImageCounts, places: Tensor, number: int) -> ImageCounts:
    """Counts (1, number) of counts of the classes at ``places``; the image has no pixel of the others."""

    def spread(values: Tensor) -> Tensor:
        empty = values.new_full((1, number), math.nan if values.is_floating_point() else 0)
        return empty.index_copy_(1, places, values)

    return ImageCounts(*(spread(values) if values.ndim == 2 else values for values in counts))


def count_image(
    predicted: np.ndarray, masks: np.ndarray, *, spacing: surface_distances.Spacing, measures: MeasureSettings
) -> tuple[ImageCounts, Tensor]:
    """Counts of one image, (1, C) and (1,), and its confusion matrix.

    Args:
        predicted: bool (C, H, W).
        masks: ground truth, uint8 (C, H, W) of 0, 1 and ``IGNORE``; for distances, ignored pixels are outside both
            masks.
        spacing: distance between frames, rows and columns.
        measures: tolerance in the unit of ``spacing``, boundary width as a fraction of the diagonal.
    """
    overlap, confusion = count_pixels(predicted, masks)
    truth, shape = masks == 1, masks.shape[1:]
    if masks.max() == IGNORE:
        predicted = predicted & (masks != IGNORE)
    width = max(1, round(measures.boundary_width * math.hypot(*shape)))
    apart = [
        surface_distances.compare(
            one[None], true[None], spacing=spacing, tolerance=measures.tolerance, boundary_width=width
        )
        for one, true in zip(predicted, truth, strict=True)
    ]
    diagonal = _float([surface_distances.diagonal((1, *shape), spacing)])
    return ImageCounts(**overlap._asdict(), **_stacked(apart, diagonal.item()), diagonal=diagonal), confusion


def count_pixels(predicted: np.ndarray, masks: np.ndarray) -> tuple[metrics.Counts, Tensor]:
    """``overlap.count`` and ``overlap.confusion`` of one image: bool and uint8 (C, H, W).

    Pixels that are background in both are only counted, which is most of the image.
    """
    flat = [array.reshape(len(array), -1) for array in (predicted, masks.view(bool))]
    there = np.flatnonzero(np.logical_or.reduce(np.logical_or(*flat), axis=0))
    # Selecting most of them costs more than it saves.
    chosen = there if 2 * len(there) < flat[0].shape[1] else slice(None)
    guess, truth = (array.reshape(len(array), -1)[:, chosen] for array in (predicted, masks))
    if _exclusive(guess) and _exclusive(truth == 1) and _ignored_alike(truth):
        counts, confusion = _count_exclusive(guess, truth)
    else:
        pair = torch.from_numpy(guess)[None, :, None], torch.from_numpy(truth)[None, :, None]
        counts, confusion = metrics.count(*pair), metrics.confusion(*pair)
    rest = predicted[0].size - guess.shape[1]
    confusion[-1, -1] += rest
    return counts._replace(right=counts.right + rest, known=counts.known + rest), confusion


def _exclusive(masks: np.ndarray) -> bool:
    """Whether no pixel of bool masks (C, P) belongs to two classes."""
    return bool(np.add.reduce(masks.view(np.uint8), axis=0, dtype=np.uint8).max(initial=0) <= 1)


def _ignored_alike(masks: np.ndarray) -> bool:
    """Whether every ignored pixel of masks (C, P) is ignored for all classes; not so if a class is not annotated."""
    if masks.max(initial=0) != IGNORE:
        return True
    ignored = masks == IGNORE
    return bool((ignored == ignored[:1]).all())


def _count_exclusive(predicted: np.ndarray, masks: np.ndarray) -> tuple[metrics.Counts, Tensor]:
    """``count_pixels`` of (C, P) for classes that do not overlap: read off the confusion matrix, ten times faster."""
    number = len(masks)
    true, found = (np.full(masks.shape[1], number, dtype=np.uint16) for _ in range(2))
    for label, where in ((true, masks == 1), (found, predicted)):
        for index, mask in enumerate(where):
            np.copyto(label, np.uint16(index), where=mask)
    if masks.max(initial=0) == IGNORE:  # an ignored pixel is ignored for every class: counted in a row of its own
        np.copyto(true, np.uint16(number + 1), where=masks[0] == IGNORE)
    pairs = true.astype(np.intp) * (number + 1) + found
    pixels = np.bincount(pairs, minlength=(number + 1) * (number + 2))[: (number + 1) ** 2]
    matrix = torch.from_numpy(pixels.reshape(number + 1, number + 1))
    hits = matrix.diagonal()
    counts = metrics.Counts(
        true_pos=hits[None, :-1].clone(),
        false_pos=(matrix.sum(0) - hits)[None, :-1],
        false_neg=(matrix.sum(1) - hits)[None, :-1],
        right=hits.sum()[None],
        known=matrix.sum()[None],
    )
    return counts, matrix


def _stacked(of_classes: list[surface_distances.MaskComparison], worst: float) -> dict[str, Tensor]:
    """Tensors (1, C); if only one mask is empty, the distance is ``worst``."""
    *counts, hd95 = zip(*of_classes, strict=True)
    columns = torch.tensor(counts)[:, None]
    names = surface_distances.MaskComparison._fields
    return {**dict(zip(names[:-1], columns, strict=True)), names[-1]: _float([hd95]).clamp(max=worst)}


def _float(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class SeriesCounts(NamedTuple):
    """Counts of the series whose images form a volume."""

    rows: pd.DataFrame
    """One row per series: series, group, num_missing."""
    counts: ImageCounts
    """Counts of each series as one volume (N, C); the boundary counts are 0."""
    volumes: list[list[Volume]]
    """Per series: one volume per class, then one of all classes together."""


def count_volumes(
    truth: pd.DataFrame,
    predictions: pd.DataFrame,
    names: list[str],
    counts: ImageCounts,
    *,
    measures: MeasureSettings,
    workers: int | None = None,
) -> SeriesCounts | None:
    """Counts of each series whose images form a volume (see ``layout_of``); None if no series does.

    Missing frames between others count as empty in the ground truth and the prediction.

    Args:
        truth, predictions, counts: of the same images in the same order.
        workers: see ``count_images``.
    """
    collected, volumes, about = Collected[ImageCounts](), [], []

    def counted(at: Any) -> tuple[Layout, _Compared] | None:
        rows = truth.iloc[at]
        layout = layout_of(rows, measures.spacing_z)
        return layout and (layout, _count_volume(rows, predictions.iloc[at], names, layout, measures))

    places = truth.groupby("series", sort=False).indices
    measured = map_in_threads(counted, places.values(), workers=num_threads(workers), ahead=num_threads(workers))
    bar = progress_bar(places.items(), title="scoring volumes", unit="series")
    for (series, at), volume in zip(bar, measured, strict=True):
        if volume is None:
            continue
        layout, found = volume
        overlap = {name: value[at].sum(0, keepdim=True) for name, value in counts.overlap._asdict().items()}
        diagonal = _float([surface_distances.diagonal(layout.shape, layout.spacing)])
        collected.add(ImageCounts(**overlap, **_stacked(found.apart, diagonal.item()), diagonal=diagonal))
        volumes.append(found.volumes)
        missing = layout.shape[0] - len(at)
        about.append({"series": series, "group": truth["group"].iloc[at[0]], "num_missing": missing})
    return SeriesCounts(pd.DataFrame(about), collected.all(), volumes) if about else None


class Layout(NamedTuple):
    """How the images of a series are placed in a volume."""

    shape: tuple[int, int, int]
    spacing: surface_distances.Spacing
    places: list[int]
    """Frame index of each image."""


def layout_of(rows: pd.DataFrame, spacing_z: float | None) -> Layout | None:
    """Layout of a series, or None if its images do not form a volume.

    A volume has at least two frames, all of one size and spacing; a known spacing across frames; no frame twice; and
    at most as many missing frames as present ones.
    """
    if "spacing_z" in rows and (rows["spacing_z"] > 0).all():
        spacing_z = float(rows["spacing_z"].iloc[0])
    alike = all(rows[name].nunique() == 1 for name in ("height", "width", "spacing_y", "spacing_x") if name in rows)
    frames = rows["frame"] - rows["frame"].min()
    depth = int(frames.max()) + 1
    if spacing_z is None or unit_of(rows) != "mm" or not alike or frames.duplicated().any():
        return None
    if len(rows) < 2 or depth > 2 * len(rows):
        return None
    first = rows.iloc[0]
    spacing = spacing_z, float(first["spacing_y"]), float(first["spacing_x"])
    return Layout((depth, int(first["height"]), int(first["width"])), spacing, frames.astype(int).tolist())


class _Compared(NamedTuple):
    apart: list[surface_distances.MaskComparison]
    volumes: list[Volume]


def _count_volume(
    rows: pd.DataFrame, guesses: pd.DataFrame, names: list[str], layout: Layout, measures: MeasureSettings
) -> _Compared:
    apart, volumes = [], []
    merged = np.zeros((2, *layout.shape), dtype=bool)
    for name in names:
        frames, predicted, truth = read_volumes(rows, guesses, f"mask_{name}", layout)
        options = {"spacing": layout.spacing, "tolerance": measures.tolerance, "volume": True}
        apart.append(surface_distances.compare(predicted, truth, **options))  # type: ignore[arg-type]
        if measures.competition:
            volumes.append(Volume.of(predicted, truth, layout.shape))
            merged[:, frames] |= np.stack([predicted, truth])
    if measures.competition:
        volumes.append(Volume.of(merged[0], merged[1], layout.shape))
    return _Compared(apart, volumes)


def read_volumes(
    rows: pd.DataFrame, guesses: pd.DataFrame, column: str, layout: Layout
) -> tuple[slice, np.ndarray, np.ndarray]:
    """Frames from the first to the last that show a class, and their prediction and truth, both bool (D, H, W).

    Ignored pixels are outside both. Most frames of a scan do not show an organ, so they are never decoded.
    """
    annotated = (rows[column] != NOT_ANNOTATED).to_numpy()
    masks = (table[column].where(annotated, "") for table in (guesses, rows))
    runs = list(zip(layout.places, *masks, rows["ignore"], strict=True))
    shown = [place for place, guess, true, _ in runs if guess or true] or [0]
    first, depth, shape = min(shown), max(shown) - min(shown) + 1, layout.shape[1:]
    pair = np.zeros((2, depth, *shape), dtype=bool)
    for place, guess, true, unknown in runs:
        for volume, text in zip(pair, (guess, true), strict=True):
            if text:
                volume[place - first] = decode_rle(text, shape, order="C")
        if unknown and 0 <= place - first < depth:
            pair[:, place - first] &= ~decode_rle(unknown, shape, order="C")
    return slice(first, first + depth), pair[0], pair[1]

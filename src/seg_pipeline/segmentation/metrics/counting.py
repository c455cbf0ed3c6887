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

    For each image only the classes it shows are decoded: a few out of possibly hundreds.

    Args:
        workers: number of threads, which does not affect the result; None: one per core.
    """
    collected, unit = Collected[ImageCounts](at_once=AT_ONCE), unit_of(truth)
    confusion = torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)

    def count(pair: tuple[dict, dict]) -> tuple[Tensor, ImageCounts, Tensor]:
        row, prediction = pair
        spacing = (1.0, row["spacing_y"], row["spacing_x"]) if unit == "mm" else (1.0, 1.0, 1.0)
        present = _present_classes(row, prediction, names)
        present_names = [names[number] for number in present]
        predicted, masks = (
            read_masks({**prediction, "ignore": ""}, present_names).view(bool),
            read_masks(row, present_names),
        )
        counts, pixels = count_image(predicted, masks, spacing=spacing, measures=measures)
        return torch.tensor([*present, len(names)]), counts, pixels

    pairs = zip(iter_records(truth), iter_records(predictions), strict=True)
    results = map_in_threads(count, pairs, workers=num_threads(workers))
    for class_indices, counts, pixels in progress_bar(results, total=len(truth), title="scoring", unit="images"):
        confusion[class_indices[:, None], class_indices] += pixels
        collected.add(_expand_to_all(counts, class_indices[:-1], len(names)))
    return collected.all(), confusion


AT_ONCE = 64
"""Number of images whose counts are concatenated at once; one at a time adds a tenth to the time per image."""


def unit_of(rows: pd.DataFrame) -> str:
    """Unit of distances: "mm" if the spacing of every image is known, else "pixels"."""
    sides = ["spacing_y", "spacing_x"]
    return "mm" if set(sides) <= set(rows) and bool((rows[sides] > 0).all(axis=None)) else "pixels"


def _present_classes(row: dict, guess: dict, names: list[str]) -> list[int]:
    """Indices of the classes with true or predicted pixels in an image, and of one class that is not annotated."""
    true_masks, predicted_masks = ([masks[f"mask_{name}"] for name in names] for masks in (row, guess))
    present = {
        number for number, text in enumerate(true_masks) if predicted_masks[number] or text not in ("", NOT_ANNOTATED)
    }
    unknown = [true_masks.index(NOT_ANNOTATED)] if NOT_ANNOTATED in true_masks else []
    return sorted({*present, *unknown}) or [0]  # any class carries the ignored pixels


def _expand_to_all(counts: ImageCounts, class_indices: Tensor, number: int) -> ImageCounts:
    """Expand the counts of some classes to counts (1, number) of all; the image has no pixels of the others."""

    def expand(values: Tensor) -> Tensor:
        empty = values.new_full((1, number), math.nan if values.is_floating_point() else 0)
        return empty.index_copy_(1, class_indices, values)

    return ImageCounts(*(expand(values) if values.ndim == 2 else values for values in counts))


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
    comparisons = [
        surface_distances.compare(
            mask[None], true_mask[None], spacing=spacing, tolerance=measures.tolerance, boundary_width=width
        )
        for mask, true_mask in zip(predicted, truth, strict=True)
    ]
    diagonal = _float([surface_distances.diagonal((1, *shape), spacing)])
    return ImageCounts(**overlap._asdict(), **_stacked(comparisons, diagonal.item()), diagonal=diagonal), confusion


def count_pixels(predicted: np.ndarray, masks: np.ndarray) -> tuple[metrics.Counts, Tensor]:
    """``overlap.count`` and ``overlap.confusion`` of one image: bool and uint8 (C, H, W).

    Pixels that are background in both are only counted, which is most of the image.
    """
    flat = [array.reshape(len(array), -1) for array in (predicted, masks.view(bool))]
    foreground = np.flatnonzero(np.logical_or.reduce(np.logical_or(*flat), axis=0))
    # Selecting most of the pixels costs more than it saves.
    selected = foreground if 2 * len(foreground) < flat[0].shape[1] else slice(None)
    prediction, truth = (array.reshape(len(array), -1)[:, selected] for array in (predicted, masks))
    if _exclusive(prediction) and _exclusive(truth == 1) and _same_ignored_pixels(truth):
        counts, confusion = _count_exclusive(prediction, truth)
    else:
        pair = torch.from_numpy(prediction)[None, :, None], torch.from_numpy(truth)[None, :, None]
        counts, confusion = metrics.count(*pair), metrics.confusion(*pair)
    rest = predicted[0].size - prediction.shape[1]
    confusion[-1, -1] += rest
    return counts._replace(right=counts.right + rest, known=counts.known + rest), confusion


def _exclusive(masks: np.ndarray) -> bool:
    """Whether no pixel of bool masks (C, P) belongs to two classes."""
    return bool(np.add.reduce(masks.view(np.uint8), axis=0, dtype=np.uint8).max(initial=0) <= 1)


def _same_ignored_pixels(masks: np.ndarray) -> bool:
    """Whether every ignored pixel of masks (C, P) is ignored for all classes; false if a class is not annotated."""
    if masks.max(initial=0) != IGNORE:
        return True
    ignored = masks == IGNORE
    return bool((ignored == ignored[:1]).all())


def _count_exclusive(predicted: np.ndarray, masks: np.ndarray) -> tuple[metrics.Counts, Tensor]:
    """``count_pixels`` of (C, P) for classes that do not overlap: ten times faster, from the confusion matrix."""
    number = len(masks)
    true_labels, predicted_labels = (np.full(masks.shape[1], number, dtype=np.uint16) for _ in range(2))
    for label, masks_of_side in ((true_labels, masks == 1), (predicted_labels, predicted)):
        for index, mask in enumerate(masks_of_side):
            np.copyto(label, np.uint16(index), where=mask)
    if masks.max(initial=0) == IGNORE:  # an ignored pixel is ignored for every class: counted in a row of its own
        np.copyto(true_labels, np.uint16(number + 1), where=masks[0] == IGNORE)
    pairs = true_labels.astype(np.intp) * (number + 1) + predicted_labels
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
        truth, predictions, counts: the same images in the same order.
        workers: see ``count_images``.
    """
    collected, volumes, series_rows = Collected[ImageCounts](), [], []

    def count(positions: Any) -> tuple[Layout, _VolumeComparison] | None:
        rows = truth.iloc[positions]
        layout = layout_of(rows, measures.spacing_z)
        return layout and (layout, _count_volume(rows, predictions.iloc[positions], names, layout, measures))

    rows_of_series = truth.groupby("series", sort=False).indices
    measured = map_in_threads(count, rows_of_series.values(), workers=num_threads(workers), ahead=num_threads(workers))
    bar = progress_bar(rows_of_series.items(), title="scoring volumes", unit="series")
    for (series, positions), volume in zip(bar, measured, strict=True):
        if volume is None:
            continue
        layout, compared = volume
        overlap = {name: value[positions].sum(0, keepdim=True) for name, value in counts.overlap._asdict().items()}
        diagonal = _float([surface_distances.diagonal(layout.shape, layout.spacing)])
        collected.add(ImageCounts(**overlap, **_stacked(compared.comparisons, diagonal.item()), diagonal=diagonal))
        volumes.append(compared.volumes)
        missing = layout.shape[0] - len(positions)
        series_rows.append({"series": series, "group": truth["group"].iloc[positions[0]], "num_missing": missing})
    return SeriesCounts(pd.DataFrame(series_rows), collected.all(), volumes) if series_rows else None


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
    uniform = all(rows[name].nunique() == 1 for name in ("height", "width", "spacing_y", "spacing_x") if name in rows)
    frames = rows["frame"] - rows["frame"].min()
    depth = int(frames.max()) + 1
    if spacing_z is None or unit_of(rows) != "mm" or not uniform or frames.duplicated().any():
        return None
    if len(rows) < 2 or depth > 2 * len(rows):
        return None
    first = rows.iloc[0]
    spacing = spacing_z, float(first["spacing_y"]), float(first["spacing_x"])
    return Layout((depth, int(first["height"]), int(first["width"])), spacing, frames.astype(int).tolist())


class _VolumeComparison(NamedTuple):
    comparisons: list[surface_distances.MaskComparison]
    volumes: list[Volume]


def _count_volume(
    rows: pd.DataFrame, predictions: pd.DataFrame, names: list[str], layout: Layout, measures: MeasureSettings
) -> _VolumeComparison:
    comparisons, volumes = [], []
    merged = np.zeros((2, *layout.shape), dtype=bool)
    for name in names:
        frames, predicted, truth = read_volumes(rows, predictions, f"mask_{name}", layout)
        options = {"spacing": layout.spacing, "tolerance": measures.tolerance, "volume": True}
        comparisons.append(surface_distances.compare(predicted, truth, **options))  # type: ignore[arg-type]
        if measures.competition:
            volumes.append(Volume.of(predicted, truth, layout.shape))
            merged[:, frames] |= np.stack([predicted, truth])
    if measures.competition:
        volumes.append(Volume.of(merged[0], merged[1], layout.shape))
    return _VolumeComparison(comparisons, volumes)


def read_volumes(
    rows: pd.DataFrame, predictions: pd.DataFrame, column: str, layout: Layout
) -> tuple[slice, np.ndarray, np.ndarray]:
    """The range of frames that show a class, and their prediction and truth, both bool (D, H, W).

    Ignored pixels are outside both. Most frames of a scan do not show the organ and are never decoded.
    """
    annotated = (rows[column] != NOT_ANNOTATED).to_numpy()
    masks = (table[column].where(annotated, "") for table in (predictions, rows))
    runs = list(zip(layout.places, *masks, rows["ignore"], strict=True))
    present = [place for place, prediction, truth_runs, _ in runs if prediction or truth_runs] or [0]
    first, depth, shape = min(present), max(present) - min(present) + 1, layout.shape[1:]
    pair = np.zeros((2, depth, *shape), dtype=bool)
    for place, prediction, truth_runs, unknown in runs:
        for volume, text in zip(pair, (prediction, truth_runs), strict=True):
            if text:
                volume[place - first] = decode_rle(text, shape, order="C")
        if unknown and 0 <= place - first < depth:
            pair[:, place - first] &= ~decode_rle(unknown, shape, order="C")
    return slice(first, first + depth), pair[0], pair[1]

"""Test images to enlarge in the report: pixels, ground truth and predictions, as data for ``viewer.js``."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd
from markupsafe import Markup

from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.table import read_shown_masks
from seg_pipeline.segmentation.plotting.overlays import resized_masks, tiny_spots
from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.report.page import jpeg_url

MAX_SIDE = 512
"""Longer side of an enlarged image, in pixels; smaller images keep their size."""
MAX_BYTES = 3_000_000
"""Total size of embedded images, small enough to send the page by mail."""


def picture_data(
    image_ids: Iterable[str],
    manifest: pd.DataFrame,
    caption: Callable[[str], str],
    predictions: Mapping[str, pd.DataFrame],
    names: list[str],
    *,
    max_bytes: int = MAX_BYTES,
) -> tuple[list[str], Markup]:
    """The ids of images that fit into ``max_bytes``, and JSON with their pixels and masks for a ``<script>`` element.

    Args:
        image_ids: images in order of importance.
        caption: returns the line below an image.
        predictions: "found" maps to this run's predictions and, if there is another run, "other" to its predictions.

    Each picture has id, caption, width, height, image (data URL), ``true`` and a key per prediction (run lengths by
    index of the class, along rows from 1), and ``spots`` (centres of objects that are too small to see).
    """
    rows = manifest.set_index("image_id", drop=False)
    predicted_rows = {
        kind: table.assign(ignore="").set_index("image_id", drop=False) for kind, table in predictions.items()
    }
    fitting, parts, size = [], [], 0
    for image_id in dict.fromkeys(image_ids):
        row = rows.loc[image_id].to_dict()
        mask_rows = {"true": row} | {kind: table.loc[image_id].to_dict() for kind, table in predicted_rows.items()}
        shown = {kind: read_shown_masks(mask_row, names, side=MAX_SIDE) for kind, mask_row in mask_rows.items()}
        part = _json(_picture(row, shown, caption(image_id)))
        size += len(part)
        if size > max_bytes:
            break
        fitting.append(image_id)
        parts.append(part)
    colours = [f"#{bytes(colour).hex()}" for colour in class_colours(len(names))]
    header = {"names": names, "colours": colours, "kinds": list(predictions)}
    return fitting, Markup(f'{_json(header)[:-1]},"pictures":[{",".join(parts)}]}}')


def _picture(row: dict, masks: dict[str, np.ndarray], caption: str) -> dict[str, Any]:
    image = read_for_display(row["path"])
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    spots = tiny_spots(np.logical_or.reduce(list(masks.values())), MAX_SIDE / max(image.shape[:2]))
    return {
        "id": row["image_id"],
        "caption": caption,
        "width": width,
        "height": height,
        "image": jpeg_url(small, max_side=MAX_SIDE),
        "spots": ((spots + 0.5) * scale).round(1).tolist(),
    } | {kind: _run_lengths(resized_masks(mask, (height, width))) for kind, mask in masks.items()}


def _run_lengths(masks: np.ndarray) -> dict[int, str]:
    return {index: encode_rle(mask, order="C") for index, mask in enumerate(masks) if mask.any()}


def _json(value: object) -> str:
    """JSON that cannot close the script element around it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")

"""Decode manifest rows into samples, which data sets use and the cache stores.

An image is uint8 (H, W, 3), or (H, W, 1) if the network takes grey values or frames, at the size of
``geometry.input_shapes``; ``Decoder.truth`` defines the ground truth. Randomness comes later, in the data sets.
"""

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.geometry import input_shapes, resize_truth
from seg_pipeline.segmentation.data.normalisation import stored_pixels
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.fingerprints import content_hash
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, OBJECT_MAP, class_names, read_masks
from seg_pipeline.segmentation.objects.gaps import gaps
from seg_pipeline.segmentation.objects.label_maps import decode_labels, resize_labels
from seg_pipeline.segmentation.settings.training import InputSettings, Task

POINTS = 256
"""Number of foreground pixels kept per image, as candidates that a window must contain."""


class Decoder:
    """Images and truths of a manifest, decoded from their files at each call.

    Args:
        manifest: one row per image; only the columns that decoding needs are kept.
        settings: settings of the network's input.
        task: multilabel or multiclass; decides the shape of the truth.
        background: multiclass pixels may belong to no class; these have the first channel of the logits.
        objects: the truth of a multilabel task also has the gaps between objects, one channel per class.

    Raises:
        ValueError: there are more channels than uint8 can number, or the manifest has no objects.
    """

    def __init__(
        self, manifest: pd.DataFrame, settings: InputSettings, *, task: Task, background: bool, objects: bool = False
    ) -> None:
        self.settings, self.task, self.background, self.objects = settings, task, background, objects
        self.names = class_names(manifest)
        if len(self.names) + background > IGNORE - 1:
            raise ValueError(f"{len(self.names)} classes are too many: a mask has at most {IGNORE - 1} channels")
        needed = ["path", "height", "width", "ignore", "content_hash", *(f"mask_{name}" for name in self.names)]
        if objects:
            of_objects = [f"{OBJECT_MAP}{name}" for name in self.names]
            if missing := [name for name in of_objects if name not in manifest]:
                raise ValueError(
                    f"`dataset.objects` is true, but the manifest has no column {missing[0]}: run data_processing "
                    "again (`combine` if it is made of several data sets)"
                )
            needed += of_objects
        # One dict per row would take several times the memory, and workers would copy each dict they touch.
        self._columns = {name: manifest[name].array for name in needed if name in manifest}
        self._length = len(manifest)

    def __len__(self) -> int:
        return self._length

    def row(self, index: int) -> dict:
        return {name: column[index] for name, column in self._columns.items()}

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of the decoded image."""
        height, width = (int(self._columns[side][index]) for side in ("height", "width"))
        return input_shapes(height, width, self.settings)[0]

    def image(self, index: int, *, verify: bool = False) -> np.ndarray:
        """Decode an image: uint8 (H, W, K), writable.

        Args:
            verify: compare the file's pixels with the manifest's content hash.

        Raises:
            ValueError: the file cannot be read or has changed.
        """
        path = self._columns["path"][index]
        image = read_image(path)
        shape = int(self._columns["height"][index]), int(self._columns["width"][index])
        if image.shape[:2] != shape:
            raise ValueError(
                f"{path}: image is {image.shape[0]} x {image.shape[1]} (height x width), the manifest says "
                f"{shape[0]} x {shape[1]}: the file has changed, run data_processing again"
            )
        if verify and content_hash(image) != self._columns["content_hash"][index]:
            raise ValueError(f"{path}: its pixels differ from the manifest: run data_processing again")
        return stored_pixels(image, self.settings, self.shape(index))

    def truth(self, index: int) -> np.ndarray:
        """Decode the ground truth of an image.

        Multilabel: uint8 (C, H, W) of 0, 1 and ``IGNORE``; with ``objects`` (2 C, H, W), the gaps after the classes.
        Multiclass: uint8 (H, W), the channel of the logits that each pixel belongs to. Where classes overlap, the last
        one counts. Unknown pixels are ``IGNORE``, and so are unlabelled pixels if there is no background, or if a class
        is not annotated (they may belong to it).
        """
        row = self.row(index)
        runs = {channel: row[f"mask_{name}"] for channel, name in enumerate(self.names)}
        annotated = [channel for channel, text in runs.items() if text != NOT_ANNOTATED]
        present = [channel for channel in annotated if runs[channel]]
        # any annotated class carries the ignored pixels
        names_to_decode = [self.names[channel] for channel in present or annotated[:1]]
        masks = read_masks(row, names_to_decode)
        if self.task == "multiclass":
            unlabelled = 0 if self.background and len(annotated) == len(runs) else IGNORE
            return resize_truth(self._labels(masks, present, unlabelled), self.shape(index))
        truth = resize_truth(masks, self.shape(index))
        if len(present) < len(self.names):
            decoded = truth
            truth = np.repeat(np.where(decoded[:1] == IGNORE, IGNORE, 0).astype(np.uint8), len(self.names), axis=0)
            truth[present] = decoded[: len(present)]
            truth[[text == NOT_ANNOTATED for text in runs.values()]] = IGNORE
        return np.concatenate([truth, self._gaps(row, truth)]) if self.objects else truth

    def _gaps(self, row: dict, truth: np.ndarray) -> np.ndarray:
        native = int(row["height"]), int(row["width"])
        result = truth.copy()
        for name, channel in zip(self.names, result, strict=True):
            labels = resize_labels(decode_labels(row[f"{OBJECT_MAP}{name}"], native), channel.shape)
            channel[channel != IGNORE] = gaps(labels)[channel != IGNORE]
        return result

    def _labels(self, masks: np.ndarray, present: list[int], unlabelled: int) -> np.ndarray:
        labels = np.full(masks.shape[1:], unlabelled, dtype=np.uint8)
        for channel, mask in zip(present, masks, strict=False):
            labels[mask == 1] = channel + self.background
        labels[masks[0] == IGNORE] = IGNORE
        return labels

    def points(self, _: int, truth: np.ndarray) -> np.ndarray:
        """``class_points`` of a truth."""
        return class_points(truth, self.background)


def class_points(truth: np.ndarray, background: bool) -> np.ndarray:
    """Positions (row * width + column) of at most ``POINTS`` foreground pixels: int32, empty if there are none.

    Each class in the truth gets the same number, evenly spread over its pixels from top to bottom.
    """
    if truth.ndim == 3:
        masks = [mask == 1 for mask in truth]
    else:
        present = np.flatnonzero(np.bincount(truth.ravel(), minlength=256)[:IGNORE])
        masks = [truth == label for label in present if label >= background]
    positions = [pixels for mask in masks if (pixels := np.flatnonzero(mask)).size]
    if not positions:
        return np.empty(0, dtype=np.int32)
    share = POINTS // len(positions)
    chosen = [pixels[np.arange(share) * len(pixels) // share] for pixels in positions]
    return np.concatenate(chosen).astype(np.int32)


def frame_rows(manifest: pd.DataFrame, settings: InputSettings) -> np.ndarray:
    """The rows whose images form a sample's channels: int64 (N, parts), -1 for black.

    For rgb and grey this is the sample's own row. For frames it is the row of the same series at frame + offset; if
    that frame is missing, ``settings.edge`` decides.

    Raises:
        ValueError: a frame number is missing, or occurs twice in a series.
    """
    if isinstance(settings.channels, str):
        return np.arange(len(manifest))[:, None]
    series_and_frames = list(zip(manifest["series"], _frames(manifest), strict=True))
    rows = {series_and_frame: row for row, series_and_frame in enumerate(series_and_frames)}

    def nearest_row(series: str, frame: int, offset: int) -> int:
        step_to_image = -1 if offset > 0 else 1
        offsets = range(offset, 0, step_to_image) if settings.edge == "repeat" else [offset]
        fallback = rows[series, frame] if settings.edge == "repeat" or offset == 0 else -1
        return next((rows[series, frame + step] for step in offsets if (series, frame + step) in rows), fallback)

    return np.array(
        [
            [nearest_row(*series_and_frame, offset) for offset in settings.channels]
            for series_and_frame in series_and_frames
        ],
        dtype=np.int64,
    )


def _frames(manifest: pd.DataFrame) -> list[int]:
    frames = manifest["frame"]
    bad = frames.isna() | manifest.duplicated(["series", "frame"], keep=False)
    if bad.any():
        row = manifest[bad].iloc[0]
        raise ValueError(
            f"{row['image_id']}: frame {row['frame']} of series {row['series']} is missing or duplicated "
            f"({int(bad.sum())} such images), so its neighbours are unknown; fix `pattern` of `image_files` "
            "in the catalog, or set `channels` to rgb or grey"
        )
    return [int(frame) for frame in frames]

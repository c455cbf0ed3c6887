"""Read an image once: check its masks, make them canonical, and measure its size and contents."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images import fingerprints
from seg_pipeline.segmentation.images.decoding import Oriented, read_oriented, read_spacing
from seg_pipeline.segmentation.images.mask_files import Note, Picture, read_mask_file, round_mask
from seg_pipeline.segmentation.images.masks import (
    MaskError,
    MaskRead,
    Order,
    binary_mask,
    encode_rle,
    indexed_masks,
    is_colour,
    pixel_value,
    read_rle,
)
from seg_pipeline.segmentation.manifest.metadata import IGNORED, INDEXED, MaskFormat
from seg_pipeline.segmentation.manifest.table import OBJECT_MAP
from seg_pipeline.segmentation.objects.label_maps import encode_labels, join_masks, numbered


class ImageMasks(NamedTuple):
    """Ground truth of an image: its classes that have pixels, by number, and unlabelled pixels as bool (H, W).

    ``shared``: pixels that pairs of classes shared in the source, as ``fingerprints.overlaps`` writes them; exclusive
    classes no longer share any. ``given``: objects per class if ``MaskReader.instances`` is set, else None.
    ``labels``: label maps by class number if ``MaskReader.objects`` is set. ``notes``: how files were repaired.
    """

    shown: dict[int, MaskRead]
    ignore: np.ndarray
    shared: str
    given: list[int] | None
    notes: list[Note]
    labels: dict[int, np.ndarray]


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of a data set.

    Attributes:
        class_values: class name -> its value in the metadata or in an indexed mask.
        mask_format: what the mask lists hold: run lengths ("rle") or paths.
        exclusive: a pixel has at most one class; a pixel of several classes is ignored.
        ignore_unlabelled: a pixel without a class is ignored (else: background).
        instances: each mask of a list is an object, even if it touches another of its class; in an indexed mask each
            value is an object of the only class.
        objects: keep the label map of each class; needs ``instances``.
        nearest_value: pixels of mask files are read as the closest declared value, of 8-bit binary masks as 0 or 255.
        resample: a mask file of another size but the same proportions is scaled to its image.
        class_values, background_values, ignore_values of an indexed mask: whole numbers, or colours "#rrggbb".
    """

    class_values: dict[str, str]
    mask_format: MaskFormat
    rle_order: Order = "C"
    rle_first: int = 1
    exclusive: bool = False
    ignore_unlabelled: bool = False
    background_values: list[int | str] = field(default_factory=list)
    ignore_values: list[int | str] = field(default_factory=list)
    instances: bool = False
    objects: bool = False
    nearest_value: bool = False
    resample: bool = False

    @functools.cached_property
    def settings(self) -> str:
        """All settings as text, for cache keys."""
        return repr(self)

    def read(self, row: Mapping, shape: tuple[int, int], orientation: int = 1) -> ImageMasks:
        """Read the masks of a row with mask_<class> lists.

        Args:
            orientation: EXIF orientation by which the image was turned; ``shape`` is that of the turned one.

        Raises:
            MaskError: a mask cannot be read or does not fit an image of ``shape``.
            OSError: the system cannot read a file.
        """
        given, picture = None, Picture(shape, orientation, [])
        labels: dict[int, np.ndarray] = {}
        if self.mask_format == INDEXED:
            shown, ignore, given = self._read_indexed(row, picture, labels)
        else:
            parts = [self._read_all(row[f"mask_{name}"], picture) for name in self.class_values]
            read = [_union(masks) for masks in parts]
            shown = {number: one for number, (_, one) in enumerate(read) if one is not None and one.area}
            if self.objects:
                labels |= {number: join_masks([one.mask for one in parts[number]], shape) for number in shown}
            unlabelled = _union(self._read_all(row.get(f"mask_{IGNORED}", ()), picture))[1]
            ignore = np.zeros(shape, dtype=bool) if unlabelled is None else unlabelled.mask
            given = [number for number, _ in read] if self.instances else None
        shared = fingerprints.overlaps({number: one.mask for number, one in shown.items()})
        if self.ignore_unlabelled or (self.exclusive and shared):
            times = np.zeros(shape, dtype=np.uint16)  # number of classes of each pixel
            for one in shown.values():
                times += one.mask
            ignore = ignore | (times == 0) if self.ignore_unlabelled else ignore
            ignore = ignore | (times > 1) if self.exclusive and shared else ignore
        if ignore.any():
            shown = {number: _mask_read(one.mask & ~ignore) for number, one in shown.items()}
            labels = {number: one * ~ignore for number, one in labels.items()}
        return ImageMasks(shown, ignore, shared, given, picture.notes, labels)

    def _read_indexed(
        self, row: Mapping, picture: Picture, labels: dict[int, np.ndarray]
    ) -> tuple[dict[int, MaskRead], np.ndarray, list[int] | None]:
        """Classes shown, pixels to ignore and, with ``instances``, the number of objects: each value is one.

        With ``objects``, ``labels`` gets their label map.
        """
        paths = row[f"mask_{INDEXED}"]
        if len(paths) != 1:
            raise MaskError(
                "mask_without_file", f"the row names {len(paths)} mask files, expected one with all classes"
            )
        path = paths[0]
        colours = any(is_colour(value) for value in self.class_values.values())
        image = read_mask_file(path, picture, colours=colours, resample=self.resample, nearest=self.nearest_value)
        classes, background, ignored = (
            [pixel_value(value) for value in values]
            for values in (self.class_values.values(), self.background_values, self.ignore_values)
        )
        if self.instances:
            ignore = np.isin(image, ignored)
            mask = ~(ignore | np.isin(image, [0, *background]))
            if self.objects:
                labels[0] = numbered(np.where(mask, image, 0))
            return {0: _mask_read(mask)}, ignore, [len(np.unique(image[mask]))]
        if self.nearest_value:
            image = round_mask(image, [*classes, *background, *ignored], path, picture.notes, colours=colours)
        try:
            masks, ignore = indexed_masks(
                image, classes, background_values=background, ignore_values=ignored, colours=colours
            )
            return {number: _mask_read(mask) for number, mask in masks.items()}, ignore, None
        except MaskError as error:
            raise MaskError(error.rule, f"{path}: {error}") from None

    def _read_all(self, sources: Sequence[str], picture: Picture) -> list[MaskRead]:
        return [self._read_one(source, picture) for source in sources]

    def _read_one(self, source: str, picture: Picture) -> MaskRead:
        if self.mask_format == "rle":
            return read_rle(source, picture.shape, order=self.rle_order, first=self.rle_first)
        values = read_mask_file(source, picture, resample=self.resample, nearest=self.nearest_value)
        if self.nearest_value and (values[values != 0] != values.max()).any():
            levels = [0, 255 if values.dtype == np.uint8 else int(values.max())]
            values = round_mask(values, levels, source, picture.notes)
        try:
            return _mask_read(binary_mask(values))
        except MaskError as error:
            raise MaskError(error.rule, f"{source}: {error}") from None


def _union(parts: list[MaskRead]) -> tuple[int, MaskRead | None]:
    """Number of masks that have pixels, and their union; None if there is no mask."""
    number = sum(part.area > 0 for part in parts)
    if len(parts) < 2:
        return number, parts[0] if parts else None
    return number, _mask_read(np.logical_or.reduce([part.mask for part in parts]))


def _mask_read(mask: np.ndarray) -> MaskRead:
    return MaskRead(mask, int(np.count_nonzero(mask)), None)


class Outcome(NamedTuple):
    """Result of measuring an image: its features (None if it cannot be used) and findings.

    A finding is a rule, a reason, an action, and whether it is about the row of the metadata.
    """

    features: dict[str, object] | None
    findings: list[tuple[str, str, str, bool]]


def measure_image(row: dict, reader: MaskReader) -> Outcome:
    """Measure the image of a row with path, mask_<class> lists and, if its name gives them, height and width."""
    try:
        image = read_oriented(row["path"])
    except ValueError as error:
        return Outcome(None, [("unreadable_image", str(error), "dropped", False)])
    except OSError as error:
        return Outcome(None, [("io_error", f"the system cannot read the image: {error}", "dropped", False)])
    try:
        truth = reader.read(row, (image.pixels.shape[0], image.pixels.shape[1]), image.orientation)
        spacing = read_spacing(row["path"], turned=image.orientation >= 5)
    except MaskError as error:  # any other ValueError would be a bug, not a bad mask
        return Outcome(None, [(error.rule, str(error), "dropped", True)])
    except OSError as error:
        return Outcome(None, [("io_error", f"the system cannot read the image or a mask: {error}", "dropped", False)])
    features = _features(image.pixels, truth, list(reader.class_values))
    if reader.objects:
        for number, name in enumerate(reader.class_values):
            features[f"{OBJECT_MAP}{name}"] = encode_labels(truth.labels[number]) if number in truth.labels else ""
    features |= {name: size for name, size in spacing.items() if pd.isna(row.get(name))}
    doubts = [*truth.notes, *_orientation_doubts(image, row, reader)]
    doubts += _doubts(row, features, truth.shared if reader.exclusive else "")
    return Outcome(features, [(*doubt, False) for doubt in doubts])


def _orientation_doubts(image: Oriented, row: Mapping, reader: MaskReader) -> list[Note]:
    """What was done about an EXIF orientation, and whether the masks show that it was right."""
    if image.stated == 1:
        return []
    if image.orientation == 1:
        reason = f"its EXIF orientation {image.stated} is not applied, as `dataset.reading.orientation` says"
        return [("exif_orientation", reason, "flagged")]
    reason = f"the image was turned as its EXIF orientation {image.stated} says"
    height, width = image.pixels.shape[:2]
    if reader.mask_format != "rle" and image.stated >= 5 and height != width:
        return [("exif_orientation", reason, "repaired")]
    doubt = "; whether its masks were drawn on the turned picture, their size cannot tell"
    drawn = any(len(row[name]) for name in row if str(name).startswith("mask_"))
    return [("exif_orientation", reason + doubt * drawn, "flagged" if drawn else "repaired")]


def _doubts(row: dict, features: dict, shared: str) -> list[Note]:
    """Rule, reason and action for everything suspicious about a usable image."""
    height, width = features["height"], features["width"]
    named = tuple(
        given if pd.notna(given := row.get(name)) else size for name, size in (("height", height), ("width", width))
    )
    doubts = []
    if named != (height, width):
        reason = (
            f"the name says {named[0]} x {named[1]} (height x width), the header {height} x {width}; the header is used"
        )
        doubts.append(("size_differs_from_name", reason, "repaired"))
    if features["intensity_min"] == features["intensity_max"]:
        doubts.append(("blank_image", f"every pixel is {features['intensity_min']}", "flagged"))
    if shared:
        pixels = sum(fingerprints.parse_overlaps(shared).values())
        doubts.append(
            (
                "overlapping_classes",
                f"{pixels} pixels belong to several classes; they are ignored in training and scores",
                "repaired",
            )
        )
    return doubts


def _features(image: np.ndarray, truth: ImageMasks, names: list[str]) -> dict:
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    least, most, _, _ = cv2.minMaxLoc(image.reshape(height, -1))
    features: dict[str, object] = {
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": "uint8" if image.itemsize == 1 else "uint16",
        "intensity_min": int(least),
        "intensity_max": int(most),
        "intensity_mean": sum(cv2.mean(image)[:channels]) / channels,
        "content_hash": fingerprints.content_hash(image),
        "thumbnail": fingerprints.thumbnail(image),
        "overlaps": truth.shared,
    }
    shown = {names[number]: one for number, one in truth.shown.items() if one.area}
    for name in names:
        one = shown.get(name)
        features[f"mask_{name}"] = (one.rle or encode_rle(one.mask, order="C")) if one else ""
    features["ignore"] = encode_rle(truth.ignore, order="C") if truth.ignore.any() else ""
    for number, name in enumerate(names):
        one = shown.get(name)
        features[f"area_{name}"] = one.area if one else 0
        features[f"share_{name}"] = one.area / one.mask.size if one else 0.0
        if truth.given is not None:
            features[f"objects_{name}"] = truth.given[number]
        else:
            features[f"objects_{name}"] = fingerprints.count_objects(one.mask) if one else 0
    return features

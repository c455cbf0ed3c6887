"""Parameters of the data set, its cleaning and its splits."""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.segmentation.settings.training import Task


def _colour_text(value: object) -> object:
    """Convert a colour [128, 0, 255] to "#8000ff"; leave other values unchanged."""
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]*", value):
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError("a colour must have six hexadecimal digits, such as #8000ff")
        return value.lower()
    if not isinstance(value, list):
        return value
    if len(value) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in value):
        raise ValueError("a colour must be [red, green, blue], each from 0 to 255")
    return "#{:02x}{:02x}{:02x}".format(*value)


RESERVED = {"(none)", "(ignore)", "no mask"}
"""Names that tables use for "no class", unlabelled pixels, and images without a mask."""
MIN_COLOUR_DISTANCE = 30
"""If two declared RGB colours are closer than this (Euclidean distance), figures use their own colours."""
Value = Annotated[int | str, BeforeValidator(_colour_text)]


class ClassParams(Params):
    name: str = Field(min_length=1)
    """Name in tables, figures and scores."""
    value: Annotated[str, BeforeValidator(_colour_text)] = Field(coerce_numbers_to_str=True)
    """Value of the class in the class column or in an indexed mask; a colour as [red, green, blue]."""
    colour: Annotated[str, BeforeValidator(_colour_text), Field(pattern="^#[0-9a-f]{6}$")] | None = None
    """Colour in figures, as [red, green, blue] or "#rrggbb"; null: the value, if it is a colour."""


def _expand_name(declared: object) -> object:
    return {"name": declared, "value": declared} if isinstance(declared, str) else declared


class DatasetParams(Params):
    """The data set, shared by all pipelines."""

    task: Task
    """multilabel: classes may overlap (sigmoid); multiclass: one class per pixel (softmax)."""
    classes: list[Annotated[ClassParams, BeforeValidator(_expand_name)]] = Field(min_length=1)
    """Classes in channel order; a bare name is a class whose value is its name."""
    objects: bool = False
    """Segment objects, such as cells: the model learns to separate those that touch, and prediction gives each object
    its own number. Needs `task: multilabel` and `annotations.multiple_masks: instances`."""
    unlabelled_pixels: Literal["background", "ignore"] = "background"
    """Meaning of pixels without a class: background, or unknown and ignored in training and scores."""
    reading: ReadSettings = ReadSettings()
    """How image files are read as pixels."""

    @property
    def names(self) -> list[str]:
        return [cls.name for cls in self.classes]

    @property
    def colours(self) -> list[str]:
        """One "#rrggbb" per class for figures; empty unless every class has one and all are distinguishable."""
        colours = [cls.colour or (cls.value if re.fullmatch("#[0-9a-f]{6}", cls.value) else "") for cls in self.classes]
        if "" in colours:
            return []
        rgb = [bytes.fromhex(colour[1:]) for colour in colours]
        return (
            colours if all(math.dist(*pair) >= MIN_COLOUR_DISTANCE for pair in itertools.combinations(rgb, 2)) else []
        )

    @property
    def values(self) -> dict[str, str]:
        return {cls.name: cls.value for cls in self.classes}

    @model_validator(mode="after")
    def _check_classes(self) -> DatasetParams:
        for kind, entries in (("names", self.names), ("values", list(self.values.values()))):
            if duplicates := sorted({entry for entry in entries if entries.count(entry) > 1}):
                raise ValueError(f"class {kind} must be unique, found {duplicates} more than once")
        if reserved := sorted(RESERVED & set(self.names)):
            raise ValueError(f"class names {reserved} are reserved; choose others and keep the `value`s")
        if self.objects and self.task == "multiclass":
            raise ValueError(
                "`objects: true` needs `task: multilabel`: the gaps between objects are learned beside their classes. "
                "Classes that do not overlap can be trained as multilabel too"
            )
        if self.task == "multilabel" and self.unlabelled_pixels == "ignore":
            raise ValueError(
                "`unlabelled_pixels: ignore` needs `task: multiclass`: a sigmoid learns from pixels of no class"
            )
        return self


class ColumnParams(Params):
    image_id: str = "image_id"
    """Column with the id of the image."""
    class_: str | None = Field(default="class_id", alias="class")
    """Column with the class; null: no such column, every row belongs to the only class."""
    mask: str | list[str] = "mask_id"
    """Column with the mask; or a list of columns, one per class, each named like the `value` of its class."""


class AnnotationParams(Params):
    mask_format: Literal["rle", "files", "indexed"]
    """rle: run lengths in the table; files: ids of binary mask files; indexed: ids of files with all classes."""
    columns: ColumnParams = ColumnParams()
    """Column names of the metadata table."""
    patterns: dict[str, str] = Field(default={})
    """Per column, a regular expression for its values, whose named groups become columns: `ImageId_ClassId:
    '(?P<image_id>.+)_(?P<class>[^_]+)'` splits a joined key, `'(?:.*/)?(?P<image_id>[^/]+)\\.png'` takes the name from
    a path. Backslashes are read as /."""
    no_mask_values: list[Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(default=[])
    """Values of the mask column that mean "no mask of this class", such as -1; run lengths may also be empty."""
    rle_starts: Literal["absolute", "relative"] = "absolute"
    """relative: each start counts from the end of the previous run."""
    rle_order: Literal["C", "F"] | None = None
    """C: runs go along rows; F: down columns. Declare it, because both orders decode without an error."""
    rle_first: Literal[0, 1] = 1
    """Index of the first pixel in run lengths."""
    multiple_masks: Literal["merge", "instances", "refuse"] = "refuse"
    """Meaning of several masks of one class in an image: parts of one mask (merge), one object each (instances), or a
    contradiction (refuse: drop the image). With `mask_format: indexed`, instances means that each pixel value is
    an object of the only class."""
    images_without_row: Literal["drop", "empty"] = "drop"
    """Images without a row: not annotated (drop, with a finding), or without any class (empty)."""
    background_values: list[Value] = Field(default=[])
    """Values of an indexed mask that mean background."""
    nearest_value: bool = False
    """Read each pixel of a mask file as the closest declared value: for masks that JPEG compression changed. In binary
    masks, 128 and above is white."""
    resample_masks: bool = False
    """Resize a mask file (nearest neighbour) that has its image's aspect ratio but another size; false: drop the image,
    with a finding."""
    ignore_values: list[Value] = Field(default=[])
    """Values of an indexed mask, or of the class column in other formats, that mean unknown: ignored everywhere."""

    @model_validator(mode="after")
    def _check_indexed(self) -> AnnotationParams:
        if self.mask_format == "indexed" and (self.no_mask_values or not isinstance(self.columns.mask, str)):
            raise ValueError(
                "`mask_format: indexed` needs one mask column with a mask in each row; remove `no_mask_values`"
            )
        return self

    @model_validator(mode="after")
    def _check_rle_order(self) -> AnnotationParams:
        if self.mask_format == "rle" and self.rle_order is None:
            raise ValueError("`mask_format: rle` needs `rle_order`: C (runs go along rows) or F (down columns)")
        if self.mask_format == "indexed" and self.images_without_row == "empty":
            raise ValueError(
                "`images_without_row: empty` cannot be used with `mask_format: indexed`, which needs a mask per image"
            )
        return self


class SharesParams(Params):
    train: float = Field(default=0.70, gt=0, le=1)
    """Share of images to train on."""
    val: float = Field(default=0.15, ge=0, lt=1)
    """Share of images on which epoch, thresholds and postprocessing are chosen."""
    test: float = Field(default=0.15, ge=0, lt=1)
    """Share of images for the final scores."""

    @model_validator(mode="after")
    def _check_sum(self) -> SharesParams:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares of train, val and test must add up to 1, found {total:g}")
        return self


class SplitParams(Params):
    method: Literal["draw", "time", "table", "leave_one_group_out"] = "draw"
    """draw: at random, see below; time: each series is cut in chronological order; table: from `predefined_splits`;
    leave_one_group_out: as draw, with one fold per group. A pattern group `split` is always kept."""
    shares: SharesParams = SharesParams()
    """Fractions of the images per split; 0 omits a split."""
    grouped: bool = True
    """Keep all images of a group (patient, drive) in one split."""
    stratified: bool = True
    """Balance classes and areas between the splits."""
    folds: int = Field(default=5, ge=2, le=100)
    """Folds of train and val for cross-validation; fewer if there are fewer groups."""
    allow_leakage: bool = False
    """Report a group or equal images in two splits as findings instead of stopping."""


class ExcludeParams(Params):
    images: str = Field(min_length=1)
    """Shell pattern for image_id, such as case7_day0_*."""
    reason: str = Field(min_length=1)
    """Reason, shown with the finding."""
    action: Literal["drop", "flag"] = "drop"
    """drop: do not use the images; flag: use them, with a finding."""


class DataProcessingParams(Params):
    annotations: AnnotationParams
    excluded_images: list[ExcludeParams] = Field(default=[])
    """Images to drop or flag, in addition to the table `excluded_images`."""
    split: SplitParams = SplitParams()
    strict: bool = False
    """Stop if an input would be dropped, instead of continuing without it."""
    num_workers: int = Field(default=1, ge=-1)
    """Processes that read images; -1: one per core. Useful from a few thousand images."""

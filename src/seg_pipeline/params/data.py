"""What the data set is, and how it is cleaned and split."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.training import Task


def _colour_text(given: object) -> object:
    """[128, 0, 255] -> "#8000ff"."""
    if isinstance(given, str) and given.startswith("#"):
        if not re.fullmatch("#[0-9a-fA-F]{6}", given):
            raise ValueError("a colour must have six hexadecimal digits, such as #8000ff")
        return given.lower()
    if not isinstance(given, list):
        return given
    if len(given) != 3 or not all(isinstance(one, int) and 0 <= one <= 255 for one in given):
        raise ValueError("a colour must be [red, green, blue], each from 0 to 255")
    return "#{:02x}{:02x}{:02x}".format(*given)


Value = Annotated[int | str, BeforeValidator(_colour_text)]


class ClassParams(Params):
    name: str = Field(min_length=1)
    value: Annotated[str, BeforeValidator(_colour_text)] = Field(coerce_numbers_to_str=True)
    """What the class column, or a pixel of an indexed mask, holds for it; a colour as [red, green, blue]."""


def _name_is_value(given: object) -> object:
    return {"name": given, "value": given} if isinstance(given, str) else given


class DatasetParams(Params):
    """What the data set is; the same for all pipelines."""

    task: Task
    """multilabel: classes may overlap (sigmoid); multiclass: one class a pixel (softmax)."""
    classes: list[Annotated[ClassParams, BeforeValidator(_name_is_value)]] = Field(min_length=1)
    """In channel order; a bare name stands for a class whose value is its name."""
    unlabelled_pixels: Literal["background", "ignore"] = "background"
    """What a pixel without a class is: background, or of unknown truth (counts nowhere)."""

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.classes]

    @property
    def values(self) -> dict[str, str]:
        return {one.name: one.value for one in self.classes}

    @model_validator(mode="after")
    def _consistent(self) -> DatasetParams:
        for what, found in (("names", self.names), ("values", list(self.values.values()))):
            if twice := sorted({one for one in found if found.count(one) > 1}):
                raise ValueError(f"class {what} must differ from each other, found {twice} more than once")
        if self.task == "multilabel" and self.unlabelled_pixels == "ignore":
            raise ValueError(
                "`unlabelled_pixels: ignore` needs `task: multiclass`: a sigmoid learns from pixels of no class"
            )
        return self


class ColumnParams(Params):
    image_id: str = "image_id"
    class_: str = Field(default="class_id", alias="class")
    mask: str = "mask_id"


class AnnotationParams(Params):
    mask_format: Literal["rle", "files", "indexed"]
    """rle: run lengths in the table; files: ids of binary mask files; indexed: ids of files with all classes."""
    columns: ColumnParams = ColumnParams()
    """Names of the metadata table's columns."""
    rle_order: Literal["C", "F"] | None = None
    """C: runs go along rows; F: down columns. Sources disagree and data cannot tell, so it must be declared."""
    rle_first: Literal[0, 1] = 1
    """Number of the first pixel."""
    multiple_masks: Literal["merge", "instances", "refuse"] = "refuse"
    """Several masks of one class in one image are parts of it (merge), an object each (instances), or a
    contradiction (refuse: image dropped)."""
    images_without_row: Literal["drop", "empty"] = "drop"
    """An image that no row names is not annotated (drop: a finding), or shows no class (empty)."""
    background_values: list[Value] = Field(default=[])
    """Values of an indexed mask that mean: no class."""
    ignore_values: list[Value] = Field(default=[])
    """Values of an indexed mask, or of the class column of the other forms, that mean: truth not known."""

    @model_validator(mode="after")
    def _order_is_declared(self) -> AnnotationParams:
        if self.mask_format == "rle" and self.rle_order is None:
            raise ValueError("`rle_order` must be declared for `mask_format: rle`: C (along rows) or F (down columns)")
        if self.mask_format == "indexed" and self.images_without_row == "empty":
            raise ValueError(
                "`images_without_row: empty` does not go with `mask_format: indexed`, where each image has a mask"
            )
        return self


class SharesParams(Params):
    train: float = Field(default=0.70, gt=0, le=1)
    val: float = Field(default=0.15, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_in_all(self) -> SharesParams:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares of train, val and test must add up to 1, found {total:g}")
        return self


class SplitParams(Params):
    method: Literal["draw", "time", "table"] = "draw"
    """draw: at random, see below; time: each series is cut in its order; table: as `predefined_splits` says."""
    shares: SharesParams = SharesParams()
    """Of the images; a share of 0 leaves its split out."""
    grouped: bool = True
    """Keep groups (patients, drives) whole."""
    stratified: bool = True
    """Make the splits alike in classes and areas."""
    folds: int = Field(default=5, ge=2, le=100)
    """Parts of train and val for cross-validation; fewer where there are fewer groups."""
    allow_leakage: bool = False
    """Go on, with findings, although a group or equal images lie in two splits."""


class ExcludeParams(Params):
    images: str = Field(min_length=1)
    """Shell pattern over image_id, such as case7_day0_*."""
    reason: str = Field(min_length=1)
    action: Literal["drop", "flag"] = "drop"


class DataProcessingParams(Params):
    annotations: AnnotationParams
    excluded_images: list[ExcludeParams] = Field(default=[])
    """Images to leave out or to flag, beside those in `excluded_images`."""
    split: SplitParams = SplitParams()
    strict: bool = False
    """Stop at the first finding that drops something, instead of going on without it."""
    num_workers: int = Field(default=1, ge=-1)
    """Processes that read images; -1: one a core. Starting them pays from some thousand images on."""

"""What the YAML under `conf/` may say: one model a pipeline, with bounds, closed to unknown keys.

The only reader of YAML keys. Nodes take these models and pass plain keywords on to the library.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from seg_pipeline.segmentation.recipe import (
    ComputeSettings,
    FitSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    SamplingSettings,
    ScoreSettings,
    Task,
)


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    unlabelled: Literal["background", "ignore"] = "background"
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
        if self.task == "multilabel" and self.unlabelled == "ignore":
            raise ValueError("`unlabelled: ignore` needs `task: multiclass`: a sigmoid learns from pixels of no class")
        return self


class ColumnParams(Params):
    image_id: str = "image_id"
    class_: str = Field(default="class_id", alias="class")
    mask: str = "mask_id"


class AnnotationParams(Params):
    form: Literal["rle", "files", "indexed"]
    """rle: run lengths in the table; files: ids of binary mask files; indexed: ids of files with all classes."""
    columns: ColumnParams = ColumnParams()
    """Names of the metadata table's columns."""
    rle_order: Literal["C", "F"] | None = None
    """C: runs go along rows; F: down columns. Sources disagree and data cannot tell, so it must be declared."""
    rle_first: Literal[0, 1] = 1
    """Number of the first pixel."""
    several_per_class: Literal["merge", "instances", "refuse"] = "refuse"
    """Several masks of one class in one image are parts of it (merge), an object each (instances), or a
    contradiction (refuse: image dropped)."""
    images_without_row: Literal["drop", "empty"] = "drop"
    """An image that no row names is not annotated (drop: a finding), or shows no class (empty)."""
    background_values: list[Value] = []
    """Values of an indexed mask that mean: no class."""
    ignore_values: list[Value] = []
    """Values of an indexed mask, or of the class column of the other forms, that mean: truth not known."""

    @model_validator(mode="after")
    def _order_is_declared(self) -> AnnotationParams:
        if self.form == "rle" and self.rle_order is None:
            raise ValueError("`rle_order` must be declared for `form: rle`: C (along rows) or F (down columns)")
        if self.form == "indexed" and self.images_without_row == "empty":
            raise ValueError(
                "`images_without_row: empty` does not go with `form: indexed`, where each image has a mask"
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
    """draw: at random, see below; time: each series is cut in its order; table: as `given_splits` says."""
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
    exclude: list[ExcludeParams] = []
    """Images to leave out or to flag, beside those in `excluded_images`."""
    split: SplitParams = SplitParams()
    strict: bool = False
    """Stop at the first finding that drops something, instead of going on without it."""
    num_workers: int = Field(default=1, ge=-1)
    """Processes that read images; -1: one a core. Starting them pays from some thousand images on."""


class AnimationParams(Params):
    series: str | None = None
    """null: the one with most annotated pixels."""
    max_frames: int = Field(default=60, ge=1, le=1000)
    """A longer series is thinned evenly."""
    max_side: int = Field(default=320, ge=64, le=2048)
    """Pixels of the pictures' longer side."""


class EdaParams(Params):
    num_samples: int = Field(default=6, ge=1, le=24)
    """Images on the overlay sheet."""
    sample_selection: Literal["stratified", "random"] = "stratified"
    """stratified: every class, images without mask and many groups in turn; train images in both cases."""
    sample_ids: list[str] = Field(default=[], max_length=24)
    """Images that come first on the sheet, of any split."""
    max_images: int = Field(default=400, ge=1, le=100_000)
    """Images whose pixels are read for intensities and places, drawn at random from all splits."""
    max_points: int = Field(default=5000, ge=1, le=100_000)
    """Images in the chart in which each is a point."""
    max_classes: int = Field(default=20, ge=1, le=48)
    """Classes in a figure; of more the most frequent are shown, and the rest is summed in words."""
    day_pattern: str | None = r"day(?P<day>\d+)"
    """Regular expression whose group `day` is a number in the series' name; null: there is none."""
    animation: AnimationParams = AnimationParams()

    @model_validator(mode="after")
    def _pattern_has_a_day(self) -> EdaParams:
        try:
            groups = re.compile(self.day_pattern or "(?P<day>)").groupindex
        except re.error as error:
            raise ValueError(f"`day_pattern` {self.day_pattern!r} is no regular expression: {error}") from None
        if "day" not in groups:
            raise ValueError(f"`day_pattern` {self.day_pattern!r} needs a group named day, as in `day(?P<day>\\d+)`")
        return self


class FigureParams(Params):
    """The look of every figure."""

    font_size: float = Field(default=9, ge=6, le=16)
    """Points; titles are one larger, numbers inside a plot one smaller."""
    dpi: int = Field(default=150, ge=50, le=600)
    rc: dict[str, object] = {}
    """Other settings of Matplotlib, such as {font.family: serif}."""

    @model_validator(mode="after")
    def _matplotlib_knows_it(self) -> FigureParams:
        if self.rc:
            from matplotlib import RcParams  # 0.3 s, only where it is needed

            try:
                RcParams(self.rc)
            except (KeyError, ValueError) as error:
                raise ValueError(f"`rc` is not for Matplotlib: {error.args[0]}") from None
        return self


class TrainingParams(Params):
    """The groups up to `fit` determine the result; `segmentation/recipe.py` describes their keys."""

    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    sampling: SamplingSettings = SamplingSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    fit: FitSettings = FitSettings()
    compute: ComputeSettings = ComputeSettings()
    folds: int | None = Field(default=None, ge=2)
    """Train so many models, each validated on one fold; null: one model, on the split."""
    use_search: bool = True
    """Take the learning rate that hparam_search found on the same data, where there is one."""
    resume: bool = True
    """Go on from an unfinished run with the same data and settings; false: start anew."""


class HparamSearchParams(Params):
    learning_rates: list[Annotated[float, Field(gt=0, lt=10)]] = Field(default=[3e-4, 1e-3, 3e-3], min_length=2)
    epochs: int = Field(default=4, ge=1)
    """Epochs of each trial; each starts from equal weights."""


class EvaluationParams(Params):
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
    num_gallery: int = Field(default=6, ge=1, le=24)
    """Images on the sheet of predictions."""


class TrackingParams(Params):
    enabled: bool = True
    experiment: str = "seg_pipeline"


class ExportNnunetParams(Params):
    name: str = Field(default="seg_pipeline", pattern=r"^\w+$")
    """Of the data set, in dataset.json."""
    overlap: Literal["regions", "paint"] = "regions"
    """Pixels of several classes: a label of their own and each class a region (regions), or the last class (paint)."""


class Parameters(Params):
    """All that `conf/` and `--params` may set, by top-level key."""

    seed: int = Field(ge=0, lt=2**31)
    dataset: DatasetParams
    data_processing: DataProcessingParams
    eda: EdaParams
    scores: ScoreSettings
    training: TrainingParams
    hparam_search: HparamSearchParams
    evaluation: EvaluationParams
    tracking: TrackingParams
    figures: FigureParams = FigureParams()
    export_nnunet: ExportNnunetParams = ExportNnunetParams()
    data_root: str | None = None
    """Folder of all outputs."""
    raw_root: str | None = None
    """Folder of the raw data."""

    @model_validator(mode="after")
    def _makes_a_recipe(self) -> Parameters:
        make_recipe(self.dataset, self.scores, self.training, self.seed)
        return self

    @model_validator(mode="after")
    def _pixel_values(self) -> Parameters:
        """An indexed mask holds whole numbers, or colours, not names."""
        given = self.data_processing.annotations
        values = [*self.dataset.values.values(), *given.background_values, *given.ignore_values]
        colours = [value for value in values if str(value).startswith("#")]
        numbers = [value for value in values if str(value).isdigit()]
        if given.form == "indexed" and len(values) not in (len(colours), len(numbers)):
            raise ValueError(
                "with `form: indexed` every class, background and ignore value must be a whole number, or every one "
                f"a colour [red, green, blue]; found {', '.join(map(str, values[:8]))}"
            )
        return self


def make_recipe(dataset: DatasetParams, scores: ScoreSettings, training: TrainingParams, seed: int) -> Recipe:
    """All that determines the result of a training run. Raises ValueError where parts do not fit each other."""
    return Recipe(
        task=dataset.task,
        classes=tuple(dataset.names),
        background=dataset.task == "multiclass" and dataset.unlabelled == "background",
        model=training.model,
        input=training.input,
        sampling=training.sampling,
        loss=training.loss,
        optimizer=training.optimizer,
        fit=training.fit,
        scores=scores,
        seed=seed,
    )

"""All that determines a training run, as plain values: what a checkpoint records and a resume compares.

Each group of settings is declared here once, with its bounds. ``params`` reads the same classes from YAML
(pydantic checks the bounds there); a notebook or a test builds them by keyword.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

log = logging.getLogger(__name__)

Task = Literal["multilabel", "multiclass"]
Aggregation = Literal["image", "dataset"]
EmptyPolicy = Literal["skip", "zero", "one"]
Share = Annotated[float, Ge(0), Le(1)]
FROM_SEARCH = "from_search"
"""Key beside the settings in recipe.json: which of them a search found, and why."""
STRIDE = 32
"""Encoders halve five times: a network's input has multiples of this as height and width."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A group of settings; closed to keys that it does not declare."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    architecture: str = "unet"
    """Any of segmentation_models_pytorch."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """Any encoder of segmentation_models_pytorch; this one's ImageNet weights come with the installation."""
    encoder_weights: str | None = "imagenet"
    """null: random."""
    decoder_channels: tuple[int, ...] | None = None
    """Channels of the decoder's stages, deepest first; null: the architecture's own. A unet takes fewer than 5:
    it then ends before the full resolution, which is quicker, and its logits are scaled up."""
    decoder_norm: Literal["batch", "instance", "none"] = "batch"
    """Normalisation in the decoder (unet, unetplusplus, linknet, manet); instance serves very small batches."""


@dataclass(frozen=True, kw_only=True)
class InputSettings(Settings):
    """From a stored image to the network's input."""

    size: tuple[int, int] = (128, 128)
    """Height and width of the network's input in training; scores are taken at native size."""
    fit: Literal["resize", "pad", "crop"] = "resize"
    """resize: stretch to `size`; pad: scale to fit into `size` and fill up (the filling counts nowhere);
    crop: train on windows of `size`, validate and predict on whole images."""
    scale: Annotated[float, Gt(0), Le(4)] = 1.0
    """For crop: images are scaled by this first."""
    zoom: Annotated[float, Ge(1), Le(4)] = 1.0
    """For crop: a window shows 1/zoom to zoom times the size it is scaled to."""
    foreground: Share = 0.0
    """For crop: share of windows that hold a pixel of a class drawn from those of the image."""
    channels: Literal["rgb", "grey"] | tuple[int, ...] = "rgb"
    """rgb, grey, or offsets of frames in the series, such as [-1, 0, 1], whose grey values are the channels."""
    edge: Literal["repeat", "black"] = "repeat"
    """Beyond the ends of a series or a gap in it: the nearest frame towards the image itself, or black."""
    normalisation: Literal["encoder", "percentile", "image", "fixed", "training"] = "encoder"
    """encoder: stored values as the encoder's weights expect them; percentile: `window` of each image becomes black
    and white; image: zero mean and unit deviation of each image; fixed: `window` of stored values becomes
    black and white; training: percentiles, mean and deviation of the train images."""
    window: tuple[float, float] | None = None
    """Percentiles (percentile, training; null: 1 and 99) or stored values (fixed)."""
    statistics: tuple[tuple[float, ...], ...] | None = None
    """For training: (low, high), mean and deviation a channel; null: measured on the train images."""

    def __post_init__(self) -> None:
        if min(self.size) < STRIDE or any(side % STRIDE for side in self.size):
            raise ValueError(f"`size` must be multiples of 32 from 32 on (encoders halve 5 times), found {self.size}")
        if self.normalisation in ("encoder", "image") and self.window is not None:
            raise ValueError(f"`window` has no meaning for `normalisation: {self.normalisation}`; leave it null")
        if self.normalisation == "fixed" and self.window is None:
            raise ValueError("`normalisation: fixed` needs `window`: the stored values of black and white")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"`window` must be two rising values, found {self.window}")
        if self.normalisation != "fixed" and self.window and not 0 <= self.window[0] < self.window[1] <= 100:
            raise ValueError(f"`window` must be two rising percentiles within 0 to 100, found {self.window}")
        if isinstance(self.channels, tuple) and 0 not in self.channels:
            raise ValueError(f"`channels` must hold 0, the image itself, found {list(self.channels)}")
        if self.fit != "crop" and (self.scale, self.zoom, self.foreground) != (1, 1, 0):
            raise ValueError(f"`scale`, `zoom` and `foreground` are for `fit: crop`, found `fit: {self.fit}`")

    @property
    def num_channels(self) -> int:
        return {"rgb": 3, "grey": 1}[self.channels] if isinstance(self.channels, str) else len(self.channels)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Settings):
    """Which samples a step sees, and how they are varied."""

    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = 16
    """Images a step; auto: the largest power of two that fits into memory, at most 64."""
    micro_batch_size: Annotated[int, Ge(1)] | None = None
    """Images computed at once; gradients add up over a batch's parts. null: the batch whole."""
    balance: Literal["none", "foreground", "classes"] = "classes"
    """none: each image once an epoch; foreground: as many draws with mask as without; classes: seven draws of ten
    first take a class, each as often, then an image that shows it (with `fit: crop`, a window with such a pixel)."""
    augmentation: Literal["none", "light", "medical", "street"] = "light"
    albumentations: str | None = None
    """File of a pipeline saved by `albumentations.save`, in place of `augmentation`; needs the extra of that name."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    """cutmix: a rectangle of another image of the batch; mixup: a blend, whose loss is blended too."""
    mix_share: Share = 0.5
    """Share of the batches that are mixed."""


@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings):
    terms: dict[Literal["bce", "ce", "dice", "focal", "tversky", "lovasz"], Annotated[float, Gt(0)]] | None = None
    """Weight of each in the sum; null: {bce: 0.5, dice: 0.5} for multilabel, {ce: 0.75, dice: 0.25} for multiclass."""
    class_weights: Literal["auto", "none", "balanced"] | Annotated[tuple[float, ...], MinLen(1)] = "auto"
    """auto: balanced for multiclass, none for multilabel, whose classes do not compete for pixels; balanced:
    1 / sqrt(share of the train split's pixels); or a number a channel, the background's first."""
    stride: Annotated[int, Ge(1), Le(8)] = 1
    """Take the loss of every so many-th pixel in height and width; of 2 a step is quicker and loses little."""
    focal_gamma: Annotated[float, Ge(0), Le(10)] = 2.0
    tversky_beta: Share = 0.7
    """Weight of missed pixels; 1 - beta is that of false ones."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Gt(0), Lt(10)] = 1e-3
    """Peak rate, reached after the warm-up; the search's, where there is one, goes before."""
    weight_decay: Annotated[float, Ge(0), Lt(10)] = 1e-2
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """For sgd."""
    schedule: Literal["constant", "cosine", "one_cycle", "poly"] = "one_cycle"
    warmup: Share = 0.1
    """Share of the run in which the rate rises to its peak."""
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    """Largest norm of the gradient; null: as it is."""
    encoder_rate: Annotated[float, Gt(0), Le(1)] = 1.0
    """Rate of the encoder, as a share of the decoder's."""
    freeze_encoder: bool = False
    """The encoder stays as it is, its batch statistics included."""


@dataclass(frozen=True, kw_only=True)
class FitSettings(Settings):
    epochs: Annotated[int, Ge(1)] = 20
    max_minutes: Annotated[float, Gt(0)] | None = None
    """Time for training, validation included; the schedule ends in it. null: as long as the epochs take."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after so many epochs without a better validation Dice; null: never."""
    validate_every: Annotated[int, Ge(1)] = 1
    """Epochs between validations; the last epoch is always validated."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of the running mean of the weights, which is what is validated and kept; 0: none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Autocast; auto: bfloat16 where the processor has it, else float16 on CUDA, else float32."""
    compile: bool = False
    """torch.compile; pays on long runs, needs a C++ compiler."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """How overlap is scored wherever a Dice or IoU is reported or chosen by."""

    aggregation: Aggregation = "image"
    """image: mean over images of each image's score; dataset: one score from the counts of all pixels."""
    empty_policy: EmptyPolicy = "skip"
    """Score of a class that neither truth nor prediction shows: skip (left out), zero or one."""
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Probability above which a multilabel pixel belongs to a class."""


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(Settings):
    """What of the test scores is a matter of choice; printed with them."""

    tolerance: Annotated[float, Ge(0)] = 3.0
    """How far apart two surfaces may lie and count as one (surface Dice): mm where the spacing of all images is
    known, else pixels."""
    boundary_width: Annotated[float, Gt(0), Le(0.5)] = 0.02
    """Of the strip inside a mask's border whose overlap is boundary IoU, as a share of the image's diagonal."""
    spacing_z: Annotated[float, Gt(0)] | None = None
    """mm between the frames of a series, where the manifest has no column of this name; series of images whose
    spacing is known are scored as volumes then. null: no volumes."""
    competition: bool = False
    """Give the UW-Madison competition's score in all its readings; it is of volumes."""
    repeats: Annotated[int, Ge(100), Le(100_000)] = 1000
    """Resamples of the groups that an interval is made of."""
    confidence: Annotated[float, Gt(0.5), Lt(1)] = 0.95
    """Share of the resamples that an interval holds."""


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """How a trained model predicts. What each option gains and costs on val: `prediction_options.parquet`."""

    tta: Literal["none", "horizontal", "flips"] = "none"
    """Mean of the probabilities of mirrored images: left to right (twice the work), or all four ways."""
    overlap: Annotated[float, Ge(0), Le(0.9)] | None = None
    """For `fit: crop`: predict in windows of `input.size` that overlap by this share of a side, the middle of each
    counting most, for images too large for memory; null: whole images at once."""
    members: Literal["all", "first"] = "all"
    """Of a training with folds: the mean of all models' probabilities, or the first model alone."""

    @property
    def mirrored(self) -> tuple[tuple[int, ...], ...]:
        """Axes of (K, H, W) along which each view of an image is mirrored."""
        return {"none": ((),), "horizontal": ((), (-1,)), "flips": ((), (-1,), (-2,), (-2, -1))}[self.tta]


@dataclass(frozen=True, kw_only=True)
class ComputeSettings(Settings):
    """On what a training runs, and how often it is saved: what cannot change its result."""

    device: str = "auto"
    """auto: CUDA where there is one, else CPU."""
    devices: Annotated[int, Ge(1)] = 1
    """GPUs, or processes on a CPU, that train one model together; each takes its part of a batch."""
    restarts: Annotated[int, Ge(0)] = 2
    """How often several processes start again from the last state when one of them dies."""
    num_workers: Annotated[int, Ge(0)] | None = None
    """Processes that decode ahead; null: 0 on CPU, where training itself takes every core, else up to 8."""
    prefetch: Annotated[int, Ge(1)] = 2
    """Batches that each of them holds ready."""
    timeout: Annotated[float, Gt(0)] = 300.0
    """Seconds after which a worker that gives no batch ends the run."""
    cache: Literal["auto", "none", "ram", "disk"] = "auto"
    """Where decoded images are kept; auto: in memory where they are small, else on disk."""
    save_minutes: Annotated[float, Ge(0)] | None = 10.0
    """Save within an epoch when so much time has passed; null: only after epochs."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of one training run. What cannot change its result (device, workers, cache) is not here."""

    task: Task
    classes: tuple[str, ...]
    background: bool = False
    """Multiclass pixels may belong to no class: the network has a channel more, its first."""
    model: ModelSettings = field(default_factory=ModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        terms, weights = self.loss.terms, self.loss.class_weights
        foreign = "ce" if self.task == "multilabel" else "bce"
        if terms is not None and (not terms or foreign in terms):
            raise ValueError(f"`loss.terms` of a {self.task} task must be some, without {foreign}; found {terms}")
        if not isinstance(weights, str) and len(weights) != self.num_channels:
            first = "the background's first, " if self.background else ""
            raise ValueError(f"`loss.class_weights` must be {self.num_channels} numbers, {first}found {len(weights)}")

    @property
    def num_channels(self) -> int:
        """Of the logits."""
        return len(self.classes) + self.background

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """With other values by dotted name: ``changed({"optimizer.learning_rate": 1e-3, "seed": 4})``."""
        recipe = self
        for name, value in values.items():
            group, _, key = name.rpartition(".")
            new = {key: _tupled(value)}
            if group:
                new = {group: replace(getattr(recipe, group), **new)}
            recipe = replace(recipe, **new)
        return recipe

    def value(self, name: str) -> Any:
        """Plain value of a dotted name. Raises AttributeError where there is none."""
        return to_plain(functools.reduce(getattr, name.split("."), self))

    def to_dict(self) -> dict:
        """Plain values, as ``from_dict`` takes them back from a checkpoint."""
        return to_plain(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Leaves ``FROM_SEARCH`` out. Raises ValueError where ``values`` are not those of this version."""
        try:
            return from_plain(cls, {name: value for name, value in values.items() if name != FROM_SEARCH})
        except TypeError as error:
            raise ValueError(
                f"the checkpoint's settings are of another version of this project ({error}); train anew with "
                "`--params training.resume=false`, or use the version that wrote it"
            ) from None

    def flat(self) -> dict[str, Any]:
        """Plain values by dotted name; an empty group is a value."""
        return _flat(self.to_dict())

    def differences(self, other: Recipe) -> list[str]:
        """ "key: mine, there theirs" for each setting that differs."""
        mine, theirs = self.flat(), other.flat()
        return [
            f"{name}: {mine.get(name)}, there {theirs.get(name)}"
            for name in mine | theirs
            if mine.get(name) != theirs.get(name)
        ]


def to_plain(value: Any) -> Any:
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: to_plain(part) for key, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, tuple | list) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list) else value


def from_plain(kind: type, values: dict[str, Any]) -> Any:
    """The group of settings ``kind`` from what ``to_plain(asdict(...))`` gave.

    Raises:
        TypeError: a setting is missing, or unknown.
    """
    hints = typing.get_type_hints(kind)
    if missing := {one.name for one in fields(kind)} - set(values):
        raise TypeError(f"without {', '.join(sorted(missing))}")
    return kind(
        **{
            name: from_plain(hints[name], value) if is_dataclass(hints.get(name)) else _tupled(value)
            for name, value in values.items()
        }
    )


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


NOT_SEARCHED_ON = ("fit.epochs", "fit.max_minutes", "fit.patience", "fit.validate_every", "seed")
"""A search is short and has seeds of its own, so these may differ between it and the training that takes its values."""


def base_hash(recipe: Recipe, names: Iterable[str]) -> str:
    """Sha256 of all settings but those of these dotted names and ``NOT_SEARCHED_ON``."""
    left_out = {*names, *NOT_SEARCHED_ON}
    settings = [
        (name, value)
        for name, value in recipe.flat().items()
        if not any(name == one or name.startswith(f"{one}.") for one in left_out)
    ]
    return hashlib.sha256(json.dumps(sorted(settings)).encode()).hexdigest()


def with_search(recipe: Recipe, found: dict | None, data_hash: str) -> tuple[Recipe, dict]:
    """The recipe with the values that a search found on the same data and for the same other settings.

    Args:
        found: values by dotted name, reason, data_hash and base of the search, or None.

    Returns:
        The recipe, and what of ``found`` is in it: values and reason; empty where it is the parameters' alone.
    """
    why = _not_taken(recipe, found, data_hash)
    if found is None or why:
        log.log(logging.WARNING if found else logging.INFO, "all settings are the parameters': %s", why)
        return recipe, {}
    said = ", ".join(f"{name} {value}" for name, value in found["values"].items())
    log.info("from the search: %s (%s); all else from the parameters", said, found["reason"])
    return recipe.changed(found["values"]), {name: found[name] for name in ("values", "val_dice", "epochs", "reason")}


def _not_taken(recipe: Recipe, found: dict | None, data_hash: str) -> str:
    if found is None:
        return "no search's result is used"
    if found["data_hash"] != data_hash:
        return "the search was on other data"
    if found.get("base") != base_hash(recipe, found.get("values", ())):
        return "the search was for other settings; to search for these: `kedro run --pipeline hparam_search`"
    return ""

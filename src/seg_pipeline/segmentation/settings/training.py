"""Groups of settings, each declared here once, with its bounds.

``params`` reads the same classes from YAML (pydantic checks the bounds there); a notebook or a test builds them by
keyword. ``config.TrainingConfig`` holds those that determine a training run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

Task = Literal["multilabel", "multiclass"]
Aggregation = Literal["image", "dataset"]
EmptyPolicy = Literal["skip", "zero", "one"]
Share = Annotated[float, Ge(0), Le(1)]
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
    resize_mode: Literal["resize", "pad", "crop"] = "resize"
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
        if self.resize_mode != "crop" and (self.scale, self.zoom, self.foreground) != (1, 1, 0):
            raise ValueError(
                f"`scale`, `zoom` and `foreground` are for `resize_mode: crop`, found `resize_mode: {self.resize_mode}`"
            )

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
    oversampling: Literal["none", "foreground", "classes"] = "classes"
    """none: each image once an epoch; foreground: as many draws with mask as without; classes: seven draws of ten
    first take a class, each as often, then an image that shows it (with
    `resize_mode: crop`, a window with such a pixel)."""
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
    pixel_stride: Annotated[int, Ge(1), Le(8)] = 1
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
    """For `resize_mode: crop`: predict in windows of `input.size` that overlap by this share of a side, the
    middle of each counting most, for images too large for memory; null: whole images at once."""
    ensemble: Literal["all", "first"] = "all"
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
class ParitySettings(Settings):
    """On what exported forms are compared with the trained model, and how far they may differ."""

    images: Annotated[int, Ge(1), Le(100)] = 4
    """Validation images."""
    scales: Annotated[tuple[Annotated[float, Gt(0), Le(8)], ...], MinLen(1)] = (1.0, 0.6, 1.7)
    """Of their height and width: each is compared at these sizes."""
    batch_sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 3)
    max_logit_difference: Annotated[float, Gt(0)] = 1e-4
    """At the image's own size."""
    max_pixel_share: Annotated[float, Ge(0), Le(1)] = 1e-4
    """Pixels at which a mask differs, of all pixels and classes."""
    max_dice_difference: Annotated[float, Ge(0), Le(1)] = 1e-3

"""Groups of settings, each declared once with its bounds.

``params`` reads these classes from YAML, where pydantic checks the bounds; notebooks and tests build them by keyword.
``training_config.TrainingConfig`` holds those that determine the result of a training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from seg_pipeline.segmentation.settings.reading import ReadSettings

Task = Literal["multilabel", "multiclass"]
Aggregation = Literal["image", "dataset"]
EmptyPolicy = Literal["skip", "zero", "one"]
Share = Annotated[float, Ge(0), Le(1)]
STRIDE = 32
"""Encoders halve the resolution five times, so height and width of a network's input must be multiples of this."""
LARGEST = 8192
"""Largest height and width of a network's input."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A group of settings that rejects undeclared keys."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """The network."""

    architecture: str = "unet"
    """An architecture of segmentation_models_pytorch: unet, unetplusplus, manet, linknet, fpn, pspnet, deeplabv3,
    deeplabv3plus, pan, upernet, segformer or dpt."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """Any encoder of segmentation_models_pytorch or, as tu-NAME, of timm; `architecture: dpt` needs a vision
    transformer of timm. The ImageNet weights of the default are installed with the package."""
    encoder_weights: str | None = "imagenet"
    """Pretrained weights; null: random; or a file of timm's weights (.safetensors, .pt, .pth, .bin)."""
    decoder_channels: tuple[int, ...] | None = None
    """Channels of the decoder's stages, deepest first; null: the architecture's own. A unet with fewer than 5 stops
    before the full resolution, which is faster, and its logits are upsampled."""
    decoder_norm: Literal["batch", "instance", "none"] = "batch"
    """Normalisation in the decoder (unet, unetplusplus, linknet, manet); use instance for very small batches."""


@dataclass(frozen=True, kw_only=True)
class StartSettings(Settings):
    """Trained weights that a run starts from; `training.start_from` and `training.keep_normalisation` set them."""

    checkpoint: str | None = None
    """A `checkpoint.pt`; null: only the encoder's weights are pretrained."""
    model: Annotated[int, Ge(0)] = 0
    """Number of the checkpoint's model, if it has one per fold."""
    keep_normalisation: bool = True
    """Use the checkpoint's normalisation."""


Normalisation = Literal["encoder", "percentile", "image", "fixed", "training"]


@dataclass(frozen=True, kw_only=True)
class SourceInput(Settings):
    """How the images of one source of a combined data set are normalised."""

    normalisation: Normalisation = "encoder"
    """As `training.input.normalisation`, but for this source."""
    window: tuple[float, float] | None = None
    """As `training.input.window`, but for this source."""


@dataclass(frozen=True, kw_only=True)
class InputSettings(Settings):
    """How a stored image becomes the network's input."""

    size: tuple[int, int] = (128, 128)
    """Height and width of the network's input in training; one number means a square, and on the command line 96x128
    means 96 high and 128 wide. Scores are computed at each image's own size."""
    resize_mode: Literal["resize", "pad", "crop"] = "resize"
    """resize: stretch to `size`; pad: scale to fit into `size` and pad (padding is ignored); crop: train on windows of
    `size`, validate and predict on whole images."""
    scale: Annotated[float, Gt(0), Le(4)] = 1.0
    """For crop: factor by which images are scaled first."""
    zoom: Annotated[float, Ge(1), Le(4)] = 1.0
    """For crop: windows of 1/zoom to zoom times `size` are cut and scaled to `size`."""
    foreground: Share = 0.0
    """For crop: share of windows that must contain a pixel of a class, chosen among the classes in the image."""
    channels: Literal["rgb", "grey"] | tuple[int, ...] = "rgb"
    """rgb, grey, or offsets of frames in the series, such as [-1, 0, 1], whose grey values become the channels."""
    edge: Literal["repeat", "black"] = "repeat"
    """Frames beyond the ends of a series or in a gap: repeat the nearest frame, or use black."""
    normalisation: Normalisation = "encoder"
    """encoder: as the encoder's weights expect; percentile: the percentiles `window` of each image become black and
    white; image: zero mean and unit deviation per image; fixed: the stored values `window` become black and white;
    training: percentiles, mean and deviation of the train images."""
    window: tuple[float, float] | None = None
    """Percentiles (percentile, training; null: 1 and 99) or stored values (fixed)."""
    statistics: tuple[tuple[float, ...], ...] | None = None
    """For training: (low, high), mean and deviation per channel; null: measured on the train images."""
    by_source: dict[str, SourceInput] = field(default_factory=dict)
    """`normalisation` and `window` of those sources of a combined data set that differ from the others. `a/b` is source
    b of a source a that is itself combined; the entry `a` applies to all of its sources without their own entry."""
    reading: ReadSettings = field(default_factory=ReadSettings)
    """How the files of new images are read; set by `dataset.reading`."""

    def __post_init__(self) -> None:
        if any(side % STRIDE or not STRIDE <= side <= LARGEST for side in self.size):
            near = "x".join(str(min(max(STRIDE, round(side / STRIDE) * STRIDE), LARGEST)) for side in self.size)
            raise ValueError(
                f"`size` must be multiples of 32 from 32 to {LARGEST} (encoders halve 5 times), found {self.size}; the "
                f"nearest is `training.input.size={near}`"
            )
        if self.normalisation in ("encoder", "image") and self.window is not None:
            raise ValueError(f"`window` has no meaning for `normalisation: {self.normalisation}`; leave it null")
        if self.normalisation == "fixed" and self.window is None:
            raise ValueError("`normalisation: fixed` needs `window`: the stored values of black and white")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"`window` must be two rising values, found {self.window}")
        if self.normalisation != "fixed" and self.window and not 0 <= self.window[0] < self.window[1] <= 100:
            raise ValueError(f"`window` must be two rising percentiles within 0 to 100, found {self.window}")
        if isinstance(self.channels, tuple) and 0 not in self.channels:
            raise ValueError(f"`channels` must contain 0, the image itself, found {list(self.channels)}")
        if self.resize_mode != "crop" and (self.scale, self.zoom, self.foreground) != (1, 1, 0):
            raise ValueError(
                f"`scale`, `zoom` and `foreground` are for `resize_mode: crop`, found `resize_mode: {self.resize_mode}`"
            )

        for source in self.by_source:
            self._check_source(source)

    def _check_source(self, source: str) -> None:
        try:
            own = self.of_source(source)
        except ValueError as error:
            raise ValueError(f"`by_source.{source}`: {error}") from None
        # The network subtracts one mean and divides by one deviation, so all sources need the same.
        kinds = {self.normalisation, own.normalisation}
        if "training" in kinds or ("image" in kinds and len(kinds) > 1):
            raise ValueError(
                f"`by_source.{source}`: {own.normalisation} beside `normalisation: {self.normalisation}` would need "
                "a mean and deviation of its own; combine encoder, percentile and fixed, or image for all sources"
            )

    def source_input(self, source: str | None) -> SourceInput | None:
        """Entry of a source in ``by_source``; a source "a/b" without an entry uses that of "a"."""
        entry = None
        while source and entry is None:
            entry, source = self.by_source.get(source), source.rpartition("/")[0]
        return entry

    def of_source(self, source: str | None) -> InputSettings:
        """The settings for images of one source; sources without an entry in ``by_source`` use the common ones."""
        entry = self.source_input(source)
        changed = asdict(entry) if entry else {}
        return replace(self, by_source={}, **changed) if self.by_source else self

    def check_sources(self, sources: Sequence[str], *, others: bool = False) -> None:
        """Compare the names in ``by_source`` with those of the data.

        Args:
            others: the test split may have further sources; an unknown name is then an error only if it resembles one
                of ``sources``.

        Raises:
            ValueError: no source has one of the names, so its images would silently get the common normalisation.
        """
        known = {
            "/".join(parts[: n + 1]) for parts in (source.split("/") for source in sources) for n in range(len(parts))
        }
        for name in self.by_source.keys() - known:
            near = get_close_matches(name, sorted(known), 1)
            if near or not others:
                hint = f"did you mean `by_source.{near[0]}`?" if near else f"known: {', '.join(sorted(known))}"
                hint = hint if known else "it is not a combined one, see docs/how-to/combine.md"
                raise ValueError(f"`training.input.by_source.{name}`: the manifest has no source of this name; {hint}")

    @property
    def num_channels(self) -> int:
        return {"rgb": 3, "grey": 1}[self.channels] if isinstance(self.channels, str) else len(self.channels)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Settings):
    """Which images a step sees, and how they are augmented."""

    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = 16
    """Images per step; auto: the largest power of two up to 64 that fits into memory."""
    micro_batch_size: Annotated[int, Ge(1)] | None = None
    """Images computed at once; their gradients add up to one step. null: the whole batch."""
    oversampling: Literal["none", "foreground", "classes"] = "classes"
    """none: each image once per epoch; foreground: images with and without a mask equally often; classes: 70 % of the
    draws first pick a class, then an image (with `resize_mode: crop`, a window) that shows it."""
    augmentation: Literal["none", "light", "medical", "street", "microscopy"] = "light"
    """Preset of random changes to train images; docs/explanation/training.md lists them."""
    albumentations: str | None = None
    """File of a pipeline saved by `albumentations.save`, used instead of `augmentation`; needs the extra
    `albumentations`."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    """cutmix: paste a rectangle of another image of the batch; mixup: blend two images and their losses."""
    mix_share: Share = 0.5
    """Share of the batches that are mixed."""


@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings):
    """The loss: a weighted sum of terms."""

    terms: dict[Literal["bce", "ce", "dice", "focal", "tversky", "lovasz"], Annotated[float, Gt(0)]] | None = None
    """Weight of each term in the sum; null: {bce: 0.5, dice: 0.5} for multilabel, {ce: 0.75, dice: 0.25} for
    multiclass."""
    class_weights: Literal["auto", "none", "balanced"] | Annotated[tuple[float, ...], MinLen(1)] = "auto"
    """balanced: 1 / sqrt(share of the train split's pixels); auto: balanced for multiclass, none for multilabel, where
    classes do not compete for pixels; or one number per channel, the background first."""
    pixel_stride: Literal[1, 2, 4, 8] = 1
    """Compute the loss at every n-th pixel in height and width; 2 is faster and loses little."""
    focal_gamma: Annotated[float, Ge(0), Le(10)] = 2.0
    """How strongly focal loss discounts easy pixels; 0: not at all."""
    tversky_beta: Share = 0.7
    """Weight of false negatives; that of false positives is 1 - beta."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
    """Optimiser and learning-rate schedule."""

    name: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd with Nesterov momentum."""
    learning_rate: Annotated[float, Gt(0), Lt(10)] = 1e-3
    """Peak rate, reached after the warm-up. The result of a search takes precedence."""
    rate_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    """How `batch_size: auto` scales `learning_rate`, which then refers to 16 images per step: by the square root of the
    batch size, in proportion to it, or not at all."""
    weight_decay: Annotated[float, Ge(0), Lt(10)] = 1e-2
    """Decoupled for adamw; biases and norm layers get none."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """For sgd."""
    schedule: Literal["constant", "cosine", "one_cycle", "poly"] = "one_cycle"
    """Shape of the rate after the warm-up; docs/explanation/training.md has the formulas."""
    warmup: Share = 0.1
    """Share of the run in which the rate rises to its peak."""
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    """Largest norm of the gradient; null: no limit."""
    encoder_rate: Annotated[float, Gt(0), Le(1)] = 1.0
    """Learning rate of the encoder as a share of the decoder's."""
    freeze_encoder: bool = False
    """Keep the encoder's weights and batch statistics fixed. Its features are then computed once per image; for train
    images only with `augmentation: none` and `mix: none`."""


@dataclass(frozen=True, kw_only=True)
class FitSettings(Settings):
    """Length, validation and precision of a training."""

    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the train images."""
    max_minutes: Annotated[float, Gt(0)] | None = None
    """Time limit for training and validation; the schedule fits into it. null: no limit."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after this many epochs without a better validation Dice; null: never."""
    validate_every: Annotated[int, Ge(1)] = 1
    """Epochs between validations; the last epoch is always validated."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of a moving average of the weights, which is validated and saved; 0: none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Mixed precision; auto: bfloat16 if the processor supports it, else float16 on CUDA, else float32."""
    compile: bool | Literal["auto"] = "auto"
    """Use torch.compile, which needs a C++ compiler; auto: for long runs on a GPU."""
    tf32: bool = True
    """Let a GPU round float32 factors to 10 bits: several times faster in `precision: float32`."""
    time_convolutions: bool | Literal["auto"] = "auto"
    """Let cuDNN time its algorithms once per image size; auto: if all images have one size (not with `crop`)."""
    repeatable: bool = False
    """Use only deterministic algorithms on a GPU, so that equal runs give equal weights, as they always do on a CPU."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """How every Dice and IoU is computed that is reported or used for a choice."""

    aggregation: Aggregation = "image"
    """image: mean of the images' scores; dataset: one score from the pixels of all images."""
    empty_policy: EmptyPolicy = "skip"
    """Score of a class that neither ground truth nor prediction shows: skip (left out), zero or one."""
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Probability above which a multilabel pixel belongs to a class."""


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(Settings):
    """Definitions behind the test scores, which are reported with them."""

    tolerance: Annotated[float, Ge(0)] = 3.0
    """Distance up to which two surfaces count as equal (surface Dice): mm if the spacing of all images is known, else
    pixels."""
    boundary_width: Annotated[float, Gt(0), Le(0.5)] = 0.02
    """Width of the strip inside a mask's border that boundary IoU compares, as a share of the image's diagonal."""
    spacing_z: Annotated[float, Gt(0)] | None = None
    """Distance between frames in mm if the manifest has no such column; series with a known spacing are scored as
    volumes. null: no volumes."""
    cldice: bool = False
    """Also score centrelines of thin structures, such as vessels (clDice); needs the extra `centrelines`."""
    competition: bool = False
    """Add the UW-Madison competition's score in all its interpretations; it needs volumes."""
    repeats: Annotated[int, Ge(100), Le(100_000)] = 1000
    """Bootstrap resamples of the groups per confidence interval."""
    confidence: Annotated[float, Gt(0.5), Lt(1)] = 0.95
    """Level of the confidence intervals."""

    def __post_init__(self) -> None:
        if self.cldice and find_spec("skimage") is None:
            raise ValueError("`cldice: true` needs scikit-image: `pip install 'seg_pipeline[centrelines]'`")


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """How a trained model predicts.

    `prediction_options.parquet` has the gain and cost of each option on validation images.
    """

    tta: Literal["none", "horizontal", "flips", "auto"] = "none"
    """Average the probabilities of mirrored images: left to right (twice the work), or all four flips. auto: what
    evaluation chose on validation images, or none before it has run."""
    overlap: Annotated[float, Ge(0), Le(0.9)] | None = None
    """For `resize_mode: crop`: predict in windows of `input.size` that overlap by this share of a side, weighted
    towards their centre, for images too large for memory; null: whole images."""
    ensemble: Literal["all", "first"] = "all"
    """After training with folds: average the probabilities of all models, or use only the first."""

    @property
    def mirrored(self) -> tuple[tuple[int, ...], ...]:
        """Axes of (K, H, W) along which each view of an image is mirrored."""
        return {"horizontal": ((), (-1,)), "flips": ((), (-1,), (-2,), (-2, -1))}.get(self.tta, ((),))

    def resolved(self, choice: dict | None) -> PredictSettings:
        """A copy with `tta: auto` replaced by evaluation's choice (its ``postprocessing.json``), or by none."""
        if self.tta != "auto":
            return self
        return replace(self, tta=choice["tta"]["option"] if choice and "tta" in choice else "none")


@dataclass(frozen=True, kw_only=True)
class ComputeSettings(Settings):
    """Where a training runs and how often it is saved. None of these settings changes the result."""

    device: str = "auto"
    """auto: CUDA if available, else CPU."""
    devices: Annotated[int, Ge(1)] = 1
    """GPUs, or processes on a CPU, that train one model together on each machine; each gets a part of the batch."""
    nodes: Annotated[int, Ge(1)] | None = None
    """Machines that train one model together: this one, and others that run `seg-pipeline join` or that
    `cluster.engine: ray` starts. null: PET_NNODES, else 1."""
    endpoint: str | None = None
    """Name and port at which the other machines reach this one, such as `node0:29400`. null: PET_MASTER_ADDR and
    PET_MASTER_PORT, or a free port with `cluster.engine: ray`."""
    shared_folder: str | None = None
    """With several machines: a folder that all of them can access, for the job and its states."""
    restarts: Annotated[int, Ge(0)] = 2
    """How often all processes are restarted from the last save after one has died."""
    num_workers: Annotated[int, Ge(0)] | None = None
    """Processes that decode images; null: 0 on a CPU, where training uses every core, else up to 8."""
    prefetch: Annotated[int, Ge(1)] = 2
    """Batches that each worker prepares ahead."""
    timeout: Annotated[float, Gt(0)] = 300.0
    """Seconds without a batch from a worker after which the run stops."""
    cache: Literal["auto", "none", "ram", "disk", "device"] = "auto"
    """Where decoded images, and features of a frozen encoder, are kept; auto: on the GPU if they fit into a quarter of
    its free memory, else in memory if they are small, else on disk."""
    save_minutes: Annotated[float, Ge(0)] | None = 10.0
    """Minutes between saves within an epoch; null: save only after epochs."""

    @property
    def num_nodes(self) -> int:
        """Machines that train together."""
        text = os.environ.get("PET_NNODES", "1")
        if self.nodes is None and not text.isdigit():
            raise ValueError(f"PET_NNODES is {text!r}, expected one number; set `training.compute.nodes`")
        return self.nodes or int(text)

    @property
    def processes(self) -> int:
        """Processes that train together, on all machines."""
        return self.devices * self.num_nodes


@dataclass(frozen=True, kw_only=True)
class ParitySettings(Settings):
    """How exported formats are compared with the trained model, and how far they may differ."""

    images: Annotated[int, Ge(1), Le(100)] = 4
    """Validation images to compare."""
    scales: Annotated[tuple[Annotated[float, Gt(0), Le(8)], ...], MinLen(1)] = (1.0, 0.6, 1.7)
    """Factors of height and width at which each image is compared."""
    batch_sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 3)
    """Batch sizes at which each format is compared."""
    max_logit_difference: Annotated[float, Gt(0)] = 1e-4
    """Largest difference of a logit at the image's own size."""
    max_pixel_share: Annotated[float, Ge(0), Le(1)] = 1e-4
    """Share of pixels, over all classes, at which a mask may differ."""
    max_dice_difference: Annotated[float, Ge(0), Le(1)] = 1e-3
    """Largest difference of an image's Dice."""

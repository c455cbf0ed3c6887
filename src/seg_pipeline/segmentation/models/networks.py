"""Networks: any smp decoder on any smp or timm encoder."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
from timm import data as timm_data
from torch import nn

from seg_pipeline.segmentation.models import encoder_weights as pretrained
from seg_pipeline.segmentation.models.vision_transformers import build_dpt

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

STAGES = 5
"""Number of times that an encoder halves the image size."""

_SIZED_DECODERS = ("dpt", "manet", "unet", "unetplusplus")
_NORMS: dict[str, str | dict] = {
    "instance": {"type": "instancenorm", "affine": True},  # smp initialises a weight that it has only then
    "none": "identity",
}
_NORMED_DECODERS = ("linknet", "manet", "pspnet", "unet", "unetplusplus", "upernet")


def build_model(
    architecture: str,
    *,
    encoder: str,
    encoder_weights: str | None,
    in_channels: int,
    num_classes: int,
    decoder_channels: Sequence[int] | None = None,
    decoder_norm: str = "batch",
) -> nn.Module:
    """Network from images (B, in_channels, H, W) to logits (B, num_classes, H, W), or coarser ones.

    ``unet`` takes any H and W: it upsamples to the size of each skip connection, the last one to the image.
    Every other architecture raises RuntimeError, naming the next size that fits, unless H and W are
    multiples of its encoder's stride (32 for most).

    A checkpoint stores these keywords and is rebuilt, without a download, by
    ``build_model(**(stored | {"encoder_weights": None}))``.

    Args:
        architecture: An smp architecture in lower case, such as "unet" or "fpn".
        encoder: An smp encoder, such as "resnet34", or "tu-" and the name of a timm model.
        encoder_weights: None for random ones; "imagenet" or another set that smp has for the encoder. They
            are downloaded, except those of ``encoder_weights.PACKAGED_ENCODER``.
        in_channels: With pretrained weights, 1 channel gets the sum of the stem's 3 and any other number
            repeats them, scaled to the same response.
        num_classes: Channels of the logits, a background channel included.
        decoder_channels: Width of each decoder block, deepest first; for ``unet``, ``unetplusplus``, ``manet``, and 4
            for ``dpt``, which also fuses them at the first width. A ``unet`` accepts fewer than 5: each block less
            halves the logits' height and width, and the last blocks are the costly ones.
        decoder_norm: "batch", "instance" or "none".

    Raises:
        ValueError: a name is unknown (the message gives the nearest ones), smp has no such weights, or the
            architecture takes no ``decoder_channels`` or no other ``decoder_norm``.
    """
    check_names(architecture, encoder, encoder_weights)
    sizes = _decoder_options(architecture, decoder_channels, decoder_norm)
    num_blocks = len(decoder_channels) if decoder_channels else STAGES
    packaged = (encoder, encoder_weights) == (pretrained.PACKAGED_ENCODER, "imagenet")
    local = packaged or pretrained.is_weight_file(encoder_weights)
    # smp wants True, not "imagenet", for timm's encoders.
    download = None if local else True if encoder.startswith("tu-") and encoder_weights else encoder_weights
    model: Any = _create_model(architecture, encoder, download, in_channels, num_classes, sizes)
    if packaged:
        model.encoder.model.load_state_dict(pretrained.packaged_encoder_weights(in_channels))
    elif local:
        weights = pretrained.read_weight_file(model.encoder, encoder, str(encoder_weights), in_channels)
        model.encoder.load_state_dict(weights)
    shortened = architecture == "unet" and num_blocks < STAGES
    return _drop_last_blocks(model, sizes["decoder_channels"][:num_blocks], num_classes) if shortened else model


def _create_model(
    architecture: str, encoder: str, weights: Any, in_channels: int, num_classes: int, options: dict[str, Any]
) -> nn.Module:
    if architecture == "dpt":
        return build_dpt(encoder, weights, in_channels, num_classes, **options)
    try:
        return smp.create_model(architecture, encoder, weights, in_channels, num_classes, **options)
    except ValueError as error:
        if "downsampling pattern" not in str(error):
            raise
        raise ValueError(
            f"architecture: {architecture!r} needs features of several sizes, but those of {encoder} have one size, as "
            "in any plain vision transformer; set `training.model.architecture: dpt`"
        ) from None


def _drop_last_blocks(model: nn.Module, channels: Sequence[int], num_classes: int) -> nn.Module:
    """A U-Net without its last decoder blocks; its logits have the resolution of the last remaining block."""
    decoder: Any = model.decoder
    decoder.blocks = decoder.blocks[: len(channels)]
    model.segmentation_head = smp.base.SegmentationHead(channels[-1], num_classes, kernel_size=3)
    smp.base.initialization.initialize_head(model.segmentation_head)
    return model


def _decoder_options(architecture: str, channels: Sequence[int] | None, norm: str) -> dict[str, Any]:
    if channels is not None and architecture not in _SIZED_DECODERS:
        raise ValueError(
            f"decoder_channels: {architecture!r} takes none; {', '.join(_SIZED_DECODERS)} do. Set it to null"
        )
    if norm != "batch" and architecture not in _NORMED_DECODERS:
        raise ValueError(
            f"decoder_norm: {architecture!r} has batch norm only; {', '.join(_NORMED_DECODERS)} support {norm!r}"
        )
    options: dict[str, Any] = {}
    if channels is not None:
        stages = STAGES - 1 if architecture == "dpt" else STAGES
        missing = stages - len(channels)
        if missing < 0 or (missing and architecture != "unet") or not channels:
            allowed = f"1 to {STAGES}" if architecture == "unet" else str(stages)
            raise ValueError(f"decoder_channels: {architecture!r} takes {allowed} numbers, found {list(channels)}")
        options["decoder_channels"] = (*channels, *[channels[-1]] * missing)
    return options if norm == "batch" else options | {"decoder_use_norm": _NORMS[norm]}


def encoder_normalisation(encoder: str, encoder_weights: str | None) -> Normalisation:
    """Mean and standard deviation per RGB channel, in 0..1, that the encoder's weights expect.

    Works offline. timm ships the values of its models; smp downloads those of its own encoders, so the ones that
    differ from ImageNet's are listed here (source: the ``pretrained_settings`` of earlier smp).
    """
    if encoder.startswith("tu-") and timm.models.is_model_pretrained(encoder.removeprefix("tu-")):
        params = smp.encoders.get_preprocessing_params(encoder)
        return tuple(params["mean"]), tuple(params["std"])
    if encoder in ("inceptionresnetv2", "inceptionv4", "xception") or encoder_weights == "advprop":
        return timm_data.IMAGENET_INCEPTION_MEAN, timm_data.IMAGENET_INCEPTION_STD
    if encoder.startswith("dpn"):
        return timm_data.IMAGENET_DPN_MEAN, timm_data.IMAGENET_DPN_STD
    return timm_data.IMAGENET_DEFAULT_MEAN, timm_data.IMAGENET_DEFAULT_STD


def check_names(architecture: str, encoder: str, encoder_weights: str | None) -> None:
    """Raise ValueError, with the nearest names, if one is unknown or there are no such weights for the encoder."""
    _check_known("architecture", architecture, smp.MODEL_ARCHITECTURES_MAPPING)
    # smp's own "timm-" encoders are left out: deprecated, and its lite0 is not the network of the weights.
    smp_encoders = [name for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")]
    from_timm = [f"tu-{name}" for name in [*timm.list_models(), *timm.list_pretrained()]]
    _check_known("encoder", encoder, [*smp_encoders, *from_timm])
    if encoder in smp_encoders:
        known = list(smp.encoders.encoders[encoder]["pretrained_settings"])
    else:
        known = ["imagenet"] if timm.models.is_model_pretrained(encoder.removeprefix("tu-")) else []
    if encoder_weights not in [None, *known] and not pretrained.is_weight_file(encoder_weights):
        raise ValueError(
            f"encoder_weights: {encoder_weights!r} is unknown for encoder {encoder!r}; expected null (random), one of "
            f"{known}, or a file ({', '.join(pretrained.SUFFIXES)})"
        )


def _check_known(parameter: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0)
        raise ValueError(f"{parameter}: {name!r} is unknown; the nearest known ones are {', '.join(nearest)}")

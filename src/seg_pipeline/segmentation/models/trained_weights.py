"""Start a training from the weights of an earlier one: what must fit, the rows of the head, images seen before."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.models.encoder_weights import is_file
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.plain_values import to_plain, tupled
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
        ValueError: the file is missing, or no checkpoint with a trained model.
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
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"`training.start_from`: {path} is not the `checkpoint.pt` of a training ({told:.200})"
        ) from error
    return models


def check_fit(config: TrainingConfig, folds: int | None) -> None:
    """Check that the network of ``config`` can take over the weights that it starts from, if any.

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
    theirs = models[0]["config"]
    values = {f"training.{name}": (config.value(name), _value(theirs, name)) for name in MUST_FIT}
    values["dataset.task"] = config.task, theirs["task"]
    unlike = [f"`{name}` is {mine}, there {there}" for name, (mine, there) in values.items() if mine != there]
    if unlike:
        raise ValueError(
            f"`training.start_from`: the weights of {config.start.checkpoint} do not fit: {'; '.join(unlike)}. Set "
            "what the checkpoint has, or `training.start_from: null`"
        )


def _value(config: dict[str, Any], name: str) -> Any:
    group, _, key = name.partition(".")
    return config[group].get(key)


def with_file_hashes(config: TrainingConfig) -> TrainingConfig:
    """The config with the SHA-256 of the file whose weights it starts from: another file makes another config."""
    start, weights = config.start.checkpoint, config.model.encoder_weights
    named = {"start.checkpoint": start} if start else {"model.encoder_weights": weights} if is_file(weights) else {}
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
    """The config with the normalisation of the checkpoint that it starts from, unless it is to have its own."""
    if config.start.checkpoint is None:
        return config
    theirs = _start_model(config)["config"]["input"]
    mine = to_plain({name: getattr(config.input, name) for name in NORMALISATION})
    one, other = (
        " ".join(str(values[name]) for name in NORMALISATION[:2] if values.get(name) is not None)
        for values in (mine, theirs)
    )
    if not config.start.keep_normalisation:
        log.info("normalisation: %s, as set; %s has %s", one, config.start.checkpoint, other)
        return config
    log.info(
        "normalisation: %s, of %s (set: %s); `training.keep_normalisation: false` takes what is set",
        *(other, config.start.checkpoint, one),
    )
    kept = {name: tupled(theirs.get(name)) for name in NORMALISATION}
    return replace(config, input=replace(config.input, **kept))


@torch.no_grad()
def load_start(model: Segmenter, config: TrainingConfig) -> None:
    """Copy into ``model`` the weights that ``config`` starts from.

    Rows of the head go by the name of their class; those of classes that the checkpoint does not have stay as they
    are, and those of classes that ``config`` does not have are left out.

    Raises:
        ValueError: a weight is missing, unknown or of another shape.
    """
    saved, own = _start_model(config), model.state_dict()
    before, now = _channels(saved["config"]), _channels(config.to_dict())
    pairs = [(now.index(name), row) for row, name in enumerate(before) if name in now]
    last = [name for name in own if name.startswith(HEAD)][-1].rpartition(".")[0]
    wrong = [f"{name} is missing" for name in own if name not in saved["model"]]
    for name, value in saved["model"].items():
        is_head = name.rpartition(".")[0] == last
        expected = (*([len(before)] if is_head else own[name].shape[:1]), *own[name].shape[1:]) if name in own else None
        if expected != tuple(value.shape):
            wrong.append(f"{name} is {tuple(value.shape)}, expected {expected or 'nothing of this name'}")
        elif is_head:
            for row, there in pairs:
                own[name][row] = value[there]
        elif config.start.keep_normalisation or name not in ("mean", "std"):
            own[name].copy_(value)
    if wrong:
        raise ValueError(f"`training.start_from`: {config.start.checkpoint}: {'; '.join(wrong[:5])}")
    fresh, dropped = [set(one) - set(other) for one, other in ((now, before), (before, now))]
    log.info("weights of %s%s%s", config.start.checkpoint, _told("new", fresh), _told("left out", dropped))


def _told(what: str, classes: set[str]) -> str:
    return f"; {what}: {', '.join(sorted(name or 'background' for name in classes))}" if classes else ""


def _channels(config: dict[str, Any]) -> list[str]:
    """Names of the channels of the logits; the background's is empty, and cores of objects follow the classes."""
    cores = [f"objects of {name}" for name in config["classes"]] if config.get("objects") else []
    return [""] * bool(config.get("background")) + list(config["classes"]) + cores


def seen_images(manifest: pd.DataFrame, config: TrainingConfig) -> Images:
    """Images of the train and val splits, and those of the checkpoint that ``config`` starts from."""
    parts = {split: manifest[manifest["split"] == split] for split in ("train", "val")}
    own = {split: torch.tensor(image_hashes(part).tolist(), dtype=torch.int64) for split, part in parts.items()}
    old = (_start_model(config).get("images") or {}) if config.start.checkpoint else {}
    return {split: torch.cat([old.get(split, one[:0]), one]).unique() for split, one in own.items()}


def image_hashes(rows: pd.DataFrame) -> pd.Series:
    """The first 8 bytes of each image's content hash, int64; without blank images, which are all equal."""
    hashes = rows.loc[rows["intensity_min"] < rows["intensity_max"], "content_hash"]
    return hashes.map(lambda one: int(one[:16], 16)).astype("uint64").astype("int64")


def seen_before(manifest: pd.DataFrame, config: TrainingConfig) -> list[str]:
    """Describe the images that the checkpoint of ``config`` has seen: test images at all, val images in training."""
    images = _start_model(config).get("images")
    if images is None:
        log.warning(
            "%s is of an older version and does not record its images: test and validation images that it has trained "
            "on go unnoticed",
            config.start.checkpoint,
        )
        return []
    hashes, found = image_hashes(manifest), []
    for split, before in (("test", ("train", "val")), ("val", ("train",))):
        known = hashes[hashes.isin(torch.cat([images[name] for name in before]).numpy())].index
        ids = manifest.loc[known].query("split == @split")["image_id"]
        if len(ids):
            found.append(f"{len(ids)} {split} images ({', '.join(map(str, ids[:3]))})")
    return found

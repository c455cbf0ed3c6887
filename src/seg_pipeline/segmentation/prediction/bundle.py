"""An exported model: files that run without the training code, and ``bundle.json``, which describes them.

docs/how-to/deploy.md explains each key of ``bundle.json``. This module does not import torch, because the server and
`seg-pipeline predict` run without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, class_part
from seg_pipeline.segmentation.settings.plain_values import from_plain, to_plain
from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings, Task
from seg_pipeline.segmentation.storage.atomic import replacing

KIND = "seg_pipeline.bundle"
FORMAT_VERSION = 2
"""Version of ``bundle.json``; increased when older readers would misread a new file. 2: "members" became "networks",
and the formats measured by the export are listed under "formats"."""
DESCRIPTION = "bundle.json"
COLOUR = re.compile("#[0-9a-fA-F]{6}")
FILES = {
    "onnx": "model.onnx",
    "torchscript": "model.torchscript.pt",
    "pt2": "model.pt2",
    "safetensors": "model.safetensors",
    "int8": "model.int8.onnx",
    "bf16": "model.bf16.pt2",
}
"""File name of each format of the (first) network."""


class File(NamedTuple):
    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class BundleNetwork:
    """One network. Training with folds gives one per fold; the ensemble averages their probabilities."""

    input: InputSettings
    mean: tuple[float, ...]
    """Mean per channel, for values in 0..1, which the network subtracts itself; like ``std``, for information only."""
    std: tuple[float, ...]
    files: Mapping[str, File] = field(default_factory=dict)
    """File of each format; the keys are those of ``FILES``."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Description of an exported model.

    Each network maps uint8 (B, K, H, W), H and W multiples of 32, to float32 logits (B, channels, H, W).
    """

    folder: Path
    task: Task
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    """One colour per class, "#rrggbb"."""
    background: bool
    """Whether the first channel of the logits is the background."""
    networks: tuple[BundleNetwork, ...]
    postprocessing: Postprocessing
    prediction: PredictSettings
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the model: checkpoint, data, scores, versions."""

    @property
    def input(self) -> InputSettings:
        """Input settings of the first network; the others differ in ``statistics`` only."""
        return self.networks[0].input

    @property
    def num_channels(self) -> int:
        """Number of channels of the logits."""
        return len(self.classes) * (1 + self.objects) + self.background

    @property
    def objects(self) -> bool:
        """Whether the logits include the gaps between objects, one channel per class after the classes."""
        return self.postprocessing.object_seeds is not None

    def without_gaps(self, probabilities: np.ndarray) -> np.ndarray:
        """The channels of the background and the classes, without the gaps between objects."""
        return probabilities[: len(self.classes) + self.background]

    def class_part(self, probabilities: np.ndarray) -> np.ndarray:
        """``postprocessing.class_part`` of the probabilities (K, H, W) of this model."""
        return class_part(probabilities, self.postprocessing, self.background)

    @property
    def formats(self) -> tuple[str, ...]:
        return tuple(self.networks[0].files)

    def with_thresholds(self, thresholds: Sequence[float]) -> Bundle:
        """A copy with other thresholds: one for all classes, or one per class.

        Raises:
            ValueError: the task is multiclass, or the number of thresholds is wrong.
        """
        if self.task != "multilabel":
            raise ValueError("only multilabel tasks have thresholds; in a multiclass task the largest probability wins")
        values = tuple(thresholds) * (len(self.classes) if len(thresholds) == 1 else 1)
        if len(values) != len(self.classes):
            raise ValueError(f"{len(values)} thresholds for {len(self.classes)} classes: {', '.join(self.classes)}")
        return replace(self, postprocessing=replace(self.postprocessing, thresholds=values))

    def paths(self, bundle_format: str) -> list[Path]:
        """Return the file of each network in one format, after checking it against the recorded hash and size.

        Raises:
            ValueError: the bundle lacks the format, or a file is missing or has changed since the export.
        """
        if bundle_format not in self.formats:
            available = ", ".join(self.formats) or "none"
            raise ValueError(
                f"{self.folder}: has no format {bundle_format!r}; it has {available}. {self._remedy(bundle_format)}"
            )
        return [_verified_path(self.folder, network.files[bundle_format]) for network in self.used]

    def _remedy(self, bundle_format: str) -> str:
        for quality in self.provenance.get("quality", {}).get("formats", []):
            if quality["format"] == bundle_format:
                return (
                    f"The export left it out: its Dice is {quality['dice']}, the trained model's "
                    f"{quality['dice_trained']}; `export.max_dice_drop` limits the drop"
                )
        return "Name it in `export.formats` and export again"

    @property
    def used(self) -> tuple[BundleNetwork, ...]:
        return self.networks[:1] if self.prediction.ensemble == "first" else self.networks

    def _check(self) -> None:
        """Raise ValueError if its parts contradict each other."""
        settings = self.postprocessing
        if len(settings.fill_holes) != len(self.classes) or (settings.thresholds is None) != (
            self.task == "multiclass"
        ):
            raise ValueError("postprocessing needs one value per class, and in a multiclass task no thresholds")
        if any(replace(one.input, statistics=None) != replace(self.input, statistics=None) for one in self.networks):
            raise ValueError("the input settings of its networks may differ only in their statistics")
        for one in self.provenance.get("quality", {}).get("formats", []):
            _ = one["format"], one["dice"], one["dice_trained"]  # read by messages

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of ``bundle.json`` as plain values."""
        return {
            "format": KIND,
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "classes": list(self.classes),
            "colours": list(self.colours),
            "background": self.background,
            "objects": self.objects,
            "networks": [_network_dict(network) for network in self.networks],
            "postprocessing": self.postprocessing.to_dict(),
            "prediction": to_plain(asdict(self.prediction)),
            "provenance": dict(self.provenance),
        }

    def write(self) -> None:
        """Write ``bundle.json``. Call it last, because a folder without this file does not count as a bundle."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with replacing(self.folder / DESCRIPTION) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> Bundle:
        """Read the bundle in a folder; raises ValueError if there is none or it has a different version."""
        folder = Path(folder)
        try:
            values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(
                f"{folder}: no bundle there (no {DESCRIPTION}); make one with `kedro run --pipeline export`"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{folder / DESCRIPTION}: damaged, not valid JSON ({error}); export again") from None
        return cls.from_dict(values, folder)

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path) -> Bundle:
        """The inverse of ``to_dict``; raises ValueError if ``values`` have a different version."""
        if not isinstance(values, dict) or values.get("format") != KIND:
            found = values.get("format") if isinstance(values, dict) else values
            raise ValueError(
                f"{folder / DESCRIPTION}: format is {found!r:.80}, expected {KIND!r}; export the model again"
            )
        version = values.get("format_version", values.get("version"))  # called "version" in bundles of format 1
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder / DESCRIPTION}: format_version is {version!r:.80}, expected {FORMAT_VERSION}; export "
                "the model again with this version of seg_pipeline: `kedro run --pipeline export`"
            )
        try:
            if problems := "; ".join(_problems(values)):
                raise TypeError(problems)
            bundle = cls(
                folder=folder,
                task=values["task"],
                classes=tuple(values["classes"]),
                colours=tuple(values["colours"]),
                background=values["background"],
                networks=tuple(_network(network) for network in values["networks"]),
                postprocessing=Postprocessing.from_dict(values["postprocessing"]),
                prediction=from_plain(PredictSettings, values["prediction"], "prediction"),
                provenance=values["provenance"],
            )
            bundle._check()
            return bundle
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{folder / DESCRIPTION}: invalid description ({error}); export again") from None


def _problems(values: dict[str, Any]) -> Iterator[str]:
    """Describe each invalid value that affects the prediction."""
    task, classes, colours, networks = (values[name] for name in ("task", "classes", "colours", "networks"))
    if task not in get_args(Task):
        yield f"task is {task!r:.80}, expected {' or '.join(get_args(Task))}"
    if not _is_list_of_names(classes) or not classes or len(set(classes)) < len(classes):
        yield f"classes are {classes!r:.80}, expected a list of different names"
    if not _is_list_of_names(colours) or len(colours) != len(classes) or not all(map(COLOUR.fullmatch, colours)):
        yield f"colours are {colours!r:.80}, expected one #rrggbb per class"
    if not isinstance(values["background"], bool) or (values["background"] and task == "multilabel"):
        yield f"background is {values['background']!r:.80}, expected true or false; a multilabel task has none"
    if not isinstance(networks, list) or not networks:
        yield "networks are missing"
    if not isinstance(values["provenance"], dict):
        yield "provenance is not an object"


def _is_list_of_names(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) and value for value in values)


def file_name(bundle_format: str, number: int) -> str:
    """File name of a network by its number, from 0: model.onnx, model_2.onnx, model_3.onnx."""
    stem, dot, rest = FILES[bundle_format].partition(".")
    return f"{stem}_{number + 1}{dot}{rest}" if number else FILES[bundle_format]


def describe_file(path: Path) -> File:
    """Name, sha256 and size of a file."""
    with path.open("rb") as stream:
        return File(path.name, hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def _verified_path(folder: Path, expected: File) -> Path:
    path = folder / Path(expected.name).name  # never outside the folder, whatever the JSON says
    if not path.is_file():
        raise ValueError(f"{path}: missing from the bundle; copy the whole folder, or export again")
    if (found := describe_file(path)) != expected:
        raise ValueError(
            f"{path}: changed since the export (sha256 {found.sha256[:12]}..., {found.bytes} bytes; expected "
            f"{expected.sha256[:12]}..., {expected.bytes} bytes); copy it again, or export again"
        )
    return path


def _network_dict(network: BundleNetwork) -> dict[str, Any]:
    files = {bundle_format: file._asdict() for bundle_format, file in network.files.items()}
    return {**to_plain({**asdict(network), "files": {}}), "files": files}


def _network(values: dict[str, Any]) -> BundleNetwork:
    return BundleNetwork(
        input=from_plain(InputSettings, values["input"], "input"),
        mean=tuple(map(float, values["mean"])),
        std=tuple(map(float, values["std"])),
        files={bundle_format: _file(**file) for bundle_format, file in values["files"].items()},
    )


def _file(name: str, sha256: str, bytes: int) -> File:  # noqa: A002
    if not isinstance(name, str) or not isinstance(sha256, str) or type(bytes) is not int:
        raise TypeError(f"a file is {(name, sha256, bytes)!r:.80}, expected name, sha256 and bytes")
    return File(name, sha256, bytes)

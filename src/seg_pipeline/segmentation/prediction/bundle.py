"""A trained model as files that run without this project's training code, and the JSON that says all about them.

docs/how-to/deploy.md describes each key of ``bundle.json``. Free of torch: what serves a model reads it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings, Task
from seg_pipeline.segmentation.settings.training_config import from_plain, to_plain

KIND = "seg_pipeline.bundle"
VERSION = 1
"""Of the schema; raised where a reader of the version before would go wrong."""
DESCRIPTION = "bundle.json"
FILES = {
    "onnx": "model.onnx",
    "torchscript": "model.torchscript.pt",
    "pt2": "model.pt2",
    "safetensors": "model.safetensors",
    "int8": "model.int8.onnx",
    "bf16": "model.bf16.pt2",
}
"""File name of each form of the (first) network."""


class File(NamedTuple):
    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network; a training with folds has several, which vote by the mean of their probabilities."""

    input: InputSettings
    mean: tuple[float, ...]
    """Taken off each channel, in 0..1, within the network: here for information, as is ``std``."""
    std: tuple[float, ...]
    files: Mapping[str, File] = field(default_factory=dict)
    """By form: a key of ``FILES``."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A network takes uint8 (B, K, H, W), of multiples of 32, and gives float32 logits (B, channels, H, W)."""

    folder: Path
    task: Task
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    """A colour a class, "#rrggbb"."""
    background: bool
    """The first channel of the logits is no class."""
    members: tuple[Member, ...]
    postprocessing: Postprocessing
    prediction: PredictSettings
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: checkpoint, data, scores, versions."""

    @property
    def input(self) -> InputSettings:
        """Of the first member; another's differs in ``statistics`` only."""
        return self.members[0].input

    @property
    def num_channels(self) -> int:
        """Of the logits."""
        return len(self.classes) + self.background

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(self.members[0].files)

    def with_thresholds(self, thresholds: Sequence[float]) -> Bundle:
        """With other thresholds: one for all classes, or one a class.

        Raises:
            ValueError: the task is multiclass, or their number is another.
        """
        if self.task != "multilabel":
            raise ValueError("thresholds are for multilabel tasks; of multiclass ones the largest probability wins")
        values = tuple(thresholds) * (len(self.classes) if len(thresholds) == 1 else 1)
        if len(values) != len(self.classes):
            raise ValueError(f"{len(values)} thresholds for {len(self.classes)} classes: {', '.join(self.classes)}")
        return replace(self, postprocessing=replace(self.postprocessing, thresholds=values))

    def paths(self, form: str) -> list[Path]:
        """The file of each member in a form, once its contents are known to be those that were exported.

        Raises:
            ValueError: the bundle lacks the form, or a file is missing or has changed.
        """
        if form not in self.forms:
            there = ", ".join(self.forms) or "none"
            raise ValueError(f"{self.folder}: has no form {form!r}; it has {there}. {self._remedy(form)}")
        return [_checked(self.folder, member.files[form]) for member in self.used]

    def _remedy(self, form: str) -> str:
        for one in self.provenance.get("quality", {}).get("forms", []):
            if one["form"] == form:
                return (
                    f"The export left it out: its Dice is {one['dice']}, as trained {one['dice_trained']}; "
                    "`export.max_dice_drop` says how far it may fall"
                )
        return "Name it in `export.formats` and export again"

    @property
    def used(self) -> tuple[Member, ...]:
        return self.members[:1] if self.prediction.ensemble == "first" else self.members

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what ``bundle.json`` holds."""
        return {
            "format": KIND,
            "version": VERSION,
            "task": self.task,
            "classes": list(self.classes),
            "colours": list(self.colours),
            "background": self.background,
            "members": [_member_dict(member) for member in self.members],
            "postprocessing": self.postprocessing.to_dict(),
            "prediction": to_plain(asdict(self.prediction)),
            "provenance": dict(self.provenance),
        }

    def write(self) -> None:
        """Writes ``bundle.json``, last of all files: a folder without it is no bundle."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        draft = self.folder / f"{DESCRIPTION}.tmp"
        draft.write_text(f"{text}\n", encoding="utf-8")
        draft.replace(self.folder / DESCRIPTION)

    @classmethod
    def read(cls, folder: str | Path) -> Bundle:
        """Raises ValueError where the folder holds no bundle, or one of another version."""
        folder = Path(folder)
        try:
            values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(
                f"{folder}: no bundle there (no {DESCRIPTION}); make one with `kedro run --pipeline export`"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{folder / DESCRIPTION}: damaged, no JSON ({error}); export again") from None
        return cls.from_dict(values, folder)

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path) -> Bundle:
        """The reverse of ``to_dict``; raises ValueError where ``values`` are not those of this version."""
        if not isinstance(values, dict) or (values.get("format"), values.get("version")) != (KIND, VERSION):
            found = f"{values.get('format')!r}, {values.get('version')!r}" if isinstance(values, dict) else repr(values)
            raise ValueError(
                f"{folder / DESCRIPTION}: format and version are {found[:80]}, expected {KIND!r}, {VERSION}; "
                "export again with this version of seg_pipeline"
            )
        try:
            return cls(
                folder=folder,
                task=values["task"],
                classes=tuple(values["classes"]),
                colours=tuple(values["colours"]),
                background=values["background"],
                members=tuple(_member(one) for one in values["members"]),
                postprocessing=Postprocessing.from_dict(values["postprocessing"]),
                prediction=from_plain(PredictSettings, values["prediction"]),
                provenance=values["provenance"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / DESCRIPTION}: not as exported ({error}); export again") from None


def file_name(form: str, number: int) -> str:
    """Of the network of a member, counted from 0: model.onnx, model_2.onnx, model_3.onnx."""
    stem, dot, rest = FILES[form].partition(".")
    return f"{stem}_{number + 1}{dot}{rest}" if number else FILES[form]


def describe_file(path: Path) -> File:
    """Name, sha256 and size of a file."""
    with path.open("rb") as stream:
        return File(path.name, hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def _checked(folder: Path, expected: File) -> Path:
    path = folder / Path(expected.name).name  # whatever the JSON says, nothing outside the folder
    if not path.is_file():
        raise ValueError(f"{path}: missing from the bundle; copy the whole folder, or export again")
    if (found := describe_file(path)) != expected:
        raise ValueError(
            f"{path}: not the file that was exported (sha256 {found.sha256[:12]}... of {found.bytes} bytes, expected "
            f"{expected.sha256[:12]}... of {expected.bytes}); copy it again, or export again"
        )
    return path


def _member_dict(member: Member) -> dict[str, Any]:
    files = {form: file._asdict() for form, file in member.files.items()}
    return {**to_plain({**asdict(member), "files": {}}), "files": files}


def _member(values: dict[str, Any]) -> Member:
    return Member(
        input=from_plain(InputSettings, values["input"]),
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        files={form: File(**file) for form, file in values["files"].items()},
    )

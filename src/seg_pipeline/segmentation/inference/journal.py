"""What is done already: a line of JSON an image, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seg_pipeline.segmentation.inference.outputs import write_file
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor

SETTINGS, LINES = "run.json", "images.jsonl"


def identity(predictor: ImagePredictor, output: dict[str, Any]) -> dict[str, Any]:
    """All that decides about the files of a run, beside the images."""
    described = predictor.bundle.to_dict()
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    kept = {name: described[name] for name in ("task", "classes", "postprocessing", "prediction")}
    return {"model": {"sha256": digest, "form": predictor.form, **kept}, "output": output}


class Journal:
    """The journal of an output folder.

    Args:
        folder: of the outputs; made where it does not exist.
        about: as ``identity``.

    Raises:
        ValueError: the folder holds a run of another model or other settings, or files of another kind.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._path = folder / LINES
        _claim(folder, about)
        self.records = {record["image_id"]: record for record in self._read()}

    def keep(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Forgets images whose record no longer holds; all others keep their order."""
        kept = {name: record for name, record in self.records.items() if holds(record)}
        text = "".join(_line(record) for record in kept.values())
        if not self._path.exists() or self._path.read_text(encoding="utf-8") != text:
            write_file(self._path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
        self.records = kept

    def add(self, record: dict[str, Any]) -> None:
        """Once all files of the image are there."""
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(record))
        self.records[record["image_id"]] = record

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be cut off
                yield json.loads(line)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _claim(folder: Path, about: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != about:
            differing = ", ".join(_differing(about, there))
            raise ValueError(
                f"{folder}: holds predictions of another run, which differs in {differing}; give another folder, or "
                "delete this one"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty, and holds no earlier run to go on with; give another folder")
    write_file(path, lambda draft: draft.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8"))


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    names = [(part, name) for part in ("model", "output") for name in {**mine[part], **theirs.get(part, {})}]
    found = [f"{part}.{name}" for part, name in names if mine[part].get(name) != theirs.get(part, {}).get(name)]
    return found if found == ["model.sha256"] else [name for name in found if name != "model.sha256"]

"""Journal of finished images, one line of JSON per image, from which an interrupted run resumes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.storage.atomic import replacing, sweep
from seg_pipeline.segmentation.storage.locks import only_process

SETTINGS, LINES, LOCK = "run.json", "images.jsonl", ".lock"


def identity(predictor: ImagePredictor, output: dict[str, Any]) -> dict[str, Any]:
    """Everything besides the images that determines the output files."""
    described = predictor.bundle.to_dict()
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    kept = {name: described[name] for name in ("task", "classes", "postprocessing", "prediction")}
    return {"model": {"sha256": digest, "format": predictor.bundle_format, **kept}, "output": output}


class Journal:
    """The journal of an output folder, which is created if missing; ``about`` is the run's ``identity``.

    Raises:
        ValueError: the folder holds a run with another model or other settings, or other files.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._path = folder / LINES
        _claim(folder, about)
        self.records: dict[str, dict[str, Any]] = {}

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Read the journal and hold its lock. Raises ValueError if another process predicts into the folder."""
        busy = "process {process} is predicting into this folder; wait for it, stop it, or choose another folder"
        with only_process(self._path.with_name(LOCK), busy):
            self.records = {record["image_id"]: record for record in self._read()}
            yield

    def keep(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Forget images whose record is no longer valid; the others keep their order."""
        kept = {name: record for name, record in self.records.items() if holds(record)}
        text = "".join(_line(record) for record in kept.values())
        if not self._path.exists() or self._path.read_text(encoding="utf-8") != text:
            with replacing(self._path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        self.records = kept

    def add(self, record: dict[str, Any]) -> None:
        """Record an image; call it after all its files are written."""
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(record))
        self.records[record["image_id"]] = record

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for line in io.StringIO(self._path.read_text(encoding="utf-8")):  # splitlines also cuts at U+2028 in names
            if line.endswith("\n"):  # an interrupted run may leave its last line incomplete
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
                f"{folder}: holds predictions of another run, which differs in {differing}; choose another folder, "
                "or delete this one"
            )
        return
    sweep(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty and holds no earlier run to resume; choose another folder")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    names = [(part, name) for part in ("model", "output") for name in {**mine[part], **theirs.get(part, {})}]
    found = [f"{part}.{name}" for part, name in names if mine[part].get(name) != theirs.get(part, {}).get(name)]
    return found if found == ["model.sha256"] else [name for name in found if name != "model.sha256"]

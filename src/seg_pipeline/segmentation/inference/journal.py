"""Journal of finished images, one line of JSON per image, from which an interrupted run resumes."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.storage.atomic import replacing, sweep
from seg_pipeline.segmentation.storage.locks import only_process

MAX_SIDE = 1 << 31
SETTINGS, LINES, LOCK = "run.json", "images.jsonl", ".lock"


def identity(predictor: ImagePredictor, output: dict[str, Any]) -> dict[str, Any]:
    """Everything except the images that determines the output files."""
    described = predictor.bundle.to_dict()
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    shown = {name: described[name] for name in ("task", "classes", "postprocessing", "prediction")}
    return {"model": {"sha256": digest, "format": predictor.bundle_format, **shown}, "output": output}


class Journal:
    """The journal of an output folder, which is created if missing; ``run_identity`` is the result of ``identity``.

    Raises:
        ValueError: the folder holds a run with another model or other settings, or other files.
    """

    def __init__(self, folder: Path, run_identity: dict[str, Any]) -> None:
        self._path, self._classes = folder / LINES, run_identity["model"]["classes"]
        _check_or_start(folder, run_identity)
        self.records: dict[str, dict[str, Any]] = {}

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Read the journal and hold its lock. Raises ValueError if another process predicts into the folder."""
        busy = "process {process} is predicting into this folder; wait for it, stop it, or choose another folder"
        with only_process(self._path.with_name(LOCK), busy):
            self.records = {record["image_id"]: record for record in self._read()}
            yield

    def keep(self, is_valid: Callable[[dict[str, Any]], bool]) -> None:
        """Forget images whose record is no longer valid; the others keep their order."""
        valid = {name: record for name, record in self.records.items() if is_valid(record)}
        text = "".join(_line(record) for record in valid.values())
        if not self._path.exists() or self._path.read_bytes() != text.encode():
            with replacing(self._path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        self.records = valid

    def add(self, record: dict[str, Any]) -> None:
        """Record an image; call it after all its files are written."""
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(record))
        self.records[record["image_id"]] = record

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        for line in io.StringIO(text):  # splitlines would also split at U+2028 in names
            record = _parse_json(line) if line.endswith("\n") else None  # an interrupted run may leave half a line
            if _is_record(record, self._classes):
                yield record


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_record(record: Any, classes: list[str]) -> TypeGuard[dict[str, Any]]:
    """Whether a line is a valid record of ``Writer.record``; images with damaged records are predicted again."""
    types: dict[str, type] = {"image_id": str, "file": str, "signature": list}
    if not isinstance(record, dict):
        return False
    types |= (
        {"rule": str, "reason": str}
        if "rule" in record
        else {"height": int, "width": int, "uncertainty": float, "classes": dict}
    )
    if any(type(record.get(name)) is not expected_type for name, expected_type in types.items()):
        return False
    if "objects" in record and not _are_objects(record["objects"], classes):
        return False
    return "rule" in record or (
        all(0 < record[side] < MAX_SIDE for side in ("height", "width"))
        and list(record["classes"]) == list(classes)
        and all(
            isinstance(one, list)
            and _has_types(one, (str, int, float | None, float))
            and 0 <= one[1] <= record["height"] * record["width"]
            for one in record["classes"].values()
        )
    )


def _are_objects(value: Any, classes: list[str]) -> bool:
    """Whether part of a line is a valid result of ``record_objects``."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("mm2"), float | None)
        and isinstance(value.get("classes"), dict)
        and list(value["classes"]) == list(classes)
        and all(isinstance(one, list) and _has_types(one, (str, list)) for one in value["classes"].values())
    )


def _has_types(values: list[Any], types: tuple[Any, ...]) -> bool:
    return len(values) == len(types) and all(
        isinstance(one, expected_type) for one, expected_type in zip(values, types, strict=True)
    )


def _check_or_start(folder: Path, run_identity: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.exists():
        stored = _parse_json(path.read_text(encoding="utf-8", errors="replace"))
        if not isinstance(stored, dict) or not all(isinstance(stored.get(part), dict) for part in run_identity):
            raise ValueError(
                f"{path}: is damaged, so this run cannot be resumed; choose another folder, or delete this one"
            )
        if stored != run_identity:
            differing = ", ".join(_differing_settings(run_identity, stored))
            raise ValueError(
                f"{folder}: holds predictions of another run, which differs in {differing}; choose another folder, "
                "or delete this one"
            )
        return
    sweep(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty and holds no earlier run to resume; choose another folder")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(run_identity, indent=2) + "\n", encoding="utf-8")


def _differing_settings(run: dict[str, Any], stored: dict[str, Any]) -> list[str]:
    names = [(part, name) for part in ("model", "output") for name in {**run[part], **stored.get(part, {})}]
    differing = [f"{part}.{name}" for part, name in names if run[part].get(name) != stored.get(part, {}).get(name)]
    return differing if differing == ["model.sha256"] else [name for name in differing if name != "model.sha256"]

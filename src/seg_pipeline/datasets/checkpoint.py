"""Catalog entry for checkpoints: whatever breaks off a save, one that can be read is there at every instant.

Beside ``last.pt`` lie ``last.pt.previous``, the save before, and for each its sha256 in the form that
``sha256sum --check`` reads. A checkpoint is sound where its digest is one of the two recorded. A save goes:

1. write and sync ``last.pt.tmp``;
2. where the present ``last.pt`` is sound, record its digest as the previous one's too;
3. record the digest of the new file as that of ``last.pt``;
4. where the present ``last.pt`` is sound, rename it to ``last.pt.previous`` (a damaged one must not push out
   a sound one);
5. rename the new file to ``last.pt``.

Each change is one rename, on disk before the next. All that needs room comes before step 4. Broken off before
4, ``last.pt`` is sound by the digest of step 2; between 4 and 5 nothing stands at ``last.pt``, and
``last.pt.previous`` is sound; after 5 both are. Loading tries the two in this order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

log = logging.getLogger(__name__)

MOST_SHOWN = 30
"""Entries of a list or dict in a preview; an optimiser has one for each weight."""
PLAIN_TYPES = (str, bytes, bool, int, float, type(None))


class CheckpointDataset(AbstractDataset[dict[str, Any], dict[str, Any] | None]):
    """Dict of tensors and plain values; tensors load on the CPU, and code in the file never runs.

    ``missing_ok``: loads as None where there is no checkpoint yet.
    """

    def __init__(self, *, filepath: str, missing_ok: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._previous = _beside(self._filepath, ".previous")
        self.missing_ok = missing_ok
        self.metadata = metadata

    def load(self) -> dict[str, Any] | None:
        if not self._exists():
            if self.missing_ok:
                return None
            raise ValueError(f"{self._filepath}: no checkpoint there; train first")
        damages: list[str] = []
        for file in (self._filepath, self._previous):
            damage = self._damage(file)
            if damage is None:
                if damages:
                    log.warning("%s; going on from %s, the save before", "; ".join(damages), file)
                return _read(file)
            damages.append(damage)
        raise ValueError(
            f"no checkpoint can be read: {'; '.join(damages)}. Copy a sound one there, with the .sha256 file "
            "beside it, or delete these files and train again"
        )

    def preview(self) -> JSONPreview:
        """Settings and scores for Kedro-Viz; of the weights, how many numbers they are."""
        return JSONPreview(json.dumps(_outline(self.load() if self._exists() else {})))

    def save(self, data: dict[str, Any]) -> None:
        for where in _foreign_values(data, ""):
            raise ValueError(f"{self._filepath}: a checkpoint holds tensors and plain values, found {where}")
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        new = _beside(self._filepath, ".tmp")
        try:
            _write(data, new)
            present = _digest(self._filepath) if self._filepath.exists() else ""
            sound = present and self._accepts(present)
            if sound:
                _record(present, self._previous)
            _record(_digest(new), self._filepath)
            if sound:
                _move(self._filepath, self._previous)
            _move(new, self._filepath)
        finally:
            new.unlink(missing_ok=True)

    def _damage(self, file: Path) -> str | None:
        """What is wrong with a file, if anything."""
        if not file.exists():
            return f"{file} is missing"
        if self._accepts(_digest(file)):
            return None
        return f"{file} is damaged or incomplete (its sha256 is not the recorded one)"

    def _accepts(self, digest: str) -> bool:
        recorded = {_recorded(self._filepath), _recorded(self._previous)} - {None}
        if not recorded:
            log.warning("%s has no .sha256 file beside it: damage would go unnoticed", self._filepath)
        return not recorded or digest in recorded

    def _exists(self) -> bool:
        return self._filepath.exists() or self._previous.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "missing_ok": self.missing_ok}


def _write(data: dict[str, Any], file: Path) -> None:
    import torch

    try:
        with file.open("wb") as stream:
            torch.save(data, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError on positions
        free = shutil.disk_usage(file.parent).free / 2**20
        raise ValueError(
            f"{file}: the checkpoint could not be written, with {free:.0f} MiB free there; make room or set "
            f"another `data_root`. What was saved before is untouched. ({error})"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: refused, as it holds more than tensors and plain values: reading it could run foreign "
            f"code. Expected a checkpoint that this project saved. ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{file}: damaged or no checkpoint. ({str(error).splitlines()[0]})") from error


def _outline(value: Any) -> Any:
    """Plain values as JSON takes them; a tensor as its shape, many under one key as how many numbers they hold."""
    if hasattr(value, "numel"):
        return f"tensor {list(value.shape)}"
    if isinstance(value, dict):
        if len(value) > 1 and all(hasattr(one, "numel") for one in value.values()):
            return f"{len(value)} tensors, {sum(one.numel() for one in value.values()):,} numbers"
        return {str(key): _outline(one) for key, one in islice(value.items(), MOST_SHOWN)}
    if isinstance(value, list | tuple):
        return [_outline(one) for one in value[:MOST_SHOWN]]
    return value if isinstance(value, PLAIN_TYPES) and not isinstance(value, bytes) else str(value)


def _foreign_values(value: object, where: str) -> Iterator[str]:
    """Places of values that ``weights_only`` would refuse to load again, such as numpy's numbers."""
    import torch

    kind = type(value)  # exact: a subclass of float, such as numpy's, is refused
    if kind in (dict, OrderedDict):
        for key, part in value.items():  # type: ignore[attr-defined]
            yield from _foreign_values(key, f"a key of {where or 'its top'}")
            yield from _foreign_values(part, f"{where}.{key}".lstrip("."))
    elif kind in (list, tuple, set, torch.Size):
        for index, part in enumerate(value):  # type: ignore[arg-type]
            yield from _foreign_values(part, f"{where}.{index}".lstrip("."))
    elif kind not in (torch.Tensor, torch.nn.Parameter, *PLAIN_TYPES):
        yield f"{kind.__module__}.{kind.__qualname__} at {where or 'its top'}"


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _digest(file: Path) -> str:
    """Takes about 0.1 s for 160 MB."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _recorded(file: Path) -> str | None:
    side = _beside(file, ".sha256")
    return side.read_text(errors="replace").partition(" ")[0] if side.exists() else None


def _record(digest: str, file: Path) -> None:
    side = _beside(file, ".sha256")
    draft = _beside(side, ".tmp")
    try:
        with draft.open("w", newline="\n") as stream:
            stream.write(f"{digest}  {file.name}\n")
            stream.flush()
            os.fsync(stream.fileno())
        _move(draft, side)
    finally:
        draft.unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    source.replace(target)
    if os.name == "posix":  # Windows cannot open a folder, and NTFS journals renames by itself
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

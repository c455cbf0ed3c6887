"""Catalog entry for checkpoints that keeps a readable one at any time, even if a save is interrupted.

Next to ``last.pt`` are ``last.pt.previous``, the previous save, and a ``.sha256`` file for each, in the format of
``sha256sum --check``. A checkpoint is intact if its digest is one of the two recorded ones. A save takes five steps:

1. write and sync a temporary file (``segmentation.storage.atomic``);
2. if the current ``last.pt`` is intact, record its digest for ``last.pt.previous`` as well;
3. record the digest of the new file for ``last.pt``;
4. if the current ``last.pt`` is intact, rename it to ``last.pt.previous`` (a damaged one is not kept);
5. rename the new file to ``last.pt``.

Each change is one rename, which is on disk before the next begins. Everything that needs disk space comes before
step 4. If a save is interrupted before step 4, ``last.pt`` is intact by the digest of step 2; between steps 4 and 5
there is no ``last.pt`` and ``last.pt.previous`` is intact; after step 5 both are. Loading tries them in this order.
"""

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

from seg_pipeline.datasets.described import Described
from seg_pipeline.segmentation.storage.atomic import beside, rename, replacing

log = logging.getLogger(__name__)

MAX_SHOWN = 30
"""Entries of a list or dict in a preview; an optimiser has one per weight."""
PLAIN_TYPES = (str, bytes, bool, int, float, type(None))


class CheckpointDataset(Described, AbstractDataset[dict[str, Any], dict[str, Any] | None]):
    """A dict of tensors and plain values. Tensors are loaded on the CPU; code in the file is never run.

    With ``missing_ok``, ``load`` returns None if there is no checkpoint yet.
    """

    def __init__(self, *, filepath: str, missing_ok: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._previous = Path(f"{self._filepath}.previous")
        self.missing_ok = missing_ok
        self.metadata = metadata

    def load(self) -> dict[str, Any] | None:
        if not self._exists():
            if self.missing_ok:
                return None
            raise ValueError(f"{self._filepath}: no checkpoint; run `kedro run --pipeline training` first")
        damages: list[str] = []
        for file in (self._filepath, self._previous):
            damage = self._find_damage(file)
            if damage is None:
                if damages:
                    log.warning("%s; using %s, the previous save", "; ".join(damages), file)
                return _read(file)
            damages.append(damage)
        raise ValueError(
            f"no checkpoint can be read: {'; '.join(damages)}. Copy an intact one there together "
            "with its .sha256 file, or delete these files and train again"
        )

    def preview(self) -> JSONPreview:
        """Settings, scores and number of weights, for Kedro-Viz."""
        return JSONPreview(json.dumps(_summary(self.load() if self._exists() else {})))

    def save(self, data: dict[str, Any]) -> None:
        for description in _unsafe_values(data, ""):
            raise ValueError(
                f"{self._filepath}: a checkpoint may only hold tensors and plain values, found {description}"
            )
        with beside(self._filepath) as new:
            self._write(data, new)
            current = _digest(self._filepath) if self._filepath.exists() else ""
            intact = current and self._is_recorded(current)
            if intact:
                _record_digest(current, self._previous)
            _record_digest(_digest(new), self._filepath)
            if intact:
                rename(self._filepath, self._previous)
            rename(new, self._filepath)

    def _write(self, data: dict[str, Any], file: Path) -> None:
        import torch

        try:
            with file.open("wb") as stream:
                torch.save(data, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError about file positions
            free = shutil.disk_usage(file.parent).free / 2**20
            raise ValueError(
                f"{self._filepath}: the checkpoint could not be written ({free:.0f} MiB free); free disk space or set "
                f"another `data_root`. The previous save is unchanged. ({error})"
            ) from error

    def _find_damage(self, file: Path) -> str | None:
        """Describe what is wrong with a file, or return None."""
        if not file.exists():
            return f"{file} is missing"
        if self._is_recorded(_digest(file)):
            return None
        return f"{file} is damaged or incomplete (its sha256 differs from the recorded one)"

    def _is_recorded(self, digest: str) -> bool:
        recorded = {_recorded_digest(self._filepath), _recorded_digest(self._previous)} - {None}
        if not recorded:
            log.warning("%s has no .sha256 file, so damage cannot be detected", self._filepath)
        return not recorded or digest in recorded

    def _exists(self) -> bool:
        return self._filepath.exists() or self._previous.exists()


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: refused, because it holds more than tensors and plain values, and reading it could run "
            f"foreign code. Expected a checkpoint saved by this project. ({str(error).partition(chr(10))[0]})"
        ) from error
    except Exception as error:  # torch documents no common exception
        raise ValueError(f"{file}: damaged, or not a checkpoint. ({str(error).partition(chr(10))[0]})") from error
    if isinstance(content, dict) and "members" in content:  # the old name
        content.setdefault("models", content.pop("members"))
    return content


def _summary(value: Any) -> Any:
    """Summarise a value for JSON: a tensor by its shape, a dict of tensors by their number and size."""
    if hasattr(value, "numel"):
        return f"tensor {list(value.shape)}"
    if isinstance(value, dict):
        if len(value) > 1 and all(hasattr(item, "numel") for item in value.values()):
            return f"{len(value)} tensors, {sum(item.numel() for item in value.values()):,} numbers"
        return {str(key): _summary(item) for key, item in islice(value.items(), MAX_SHOWN)}
    if isinstance(value, list | tuple):
        return [_summary(item) for item in value[:MAX_SHOWN]]
    return value if isinstance(value, PLAIN_TYPES) and not isinstance(value, bytes) else str(value)


def _unsafe_values(value: object, where: str) -> Iterator[str]:
    """Yield type and position of values that ``weights_only`` refuses to load, such as numpy numbers."""
    import torch

    kind = type(value)  # exact, because a subclass of float, such as numpy's, is refused
    if kind in (dict, OrderedDict):
        for key, part in value.items():  # type: ignore[attr-defined]
            yield from _unsafe_values(key, f"a key of {where or 'the top level'}")
            yield from _unsafe_values(part, f"{where}.{key}".lstrip("."))
    elif kind in (list, tuple, set, torch.Size):
        for index, part in enumerate(value):  # type: ignore[arg-type]
            yield from _unsafe_values(part, f"{where}.{index}".lstrip("."))
    elif kind not in (torch.Tensor, torch.nn.Parameter, *PLAIN_TYPES):
        yield f"{kind.__module__}.{kind.__qualname__} at {where or 'the top level'}"


def _digest(file: Path) -> str:
    """SHA-256 of a file; takes about 0.1 s for 160 MB."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _recorded_digest(file: Path) -> str | None:
    digest_file = Path(f"{file}.sha256")
    return digest_file.read_text(encoding="utf-8", errors="replace").partition(" ")[0] if digest_file.exists() else None


def _record_digest(digest: str, file: Path) -> None:
    with replacing(Path(f"{file}.sha256")) as temporary:
        temporary.write_text(f"{digest}  {file.name}\n", newline="\n", encoding="utf-8")

"""JSON that describes a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, *, hint: str = "") -> Any:
    """The content of a file.

    Raises:
        ValueError: there is none, which ``hint`` may say more of, or it holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file{hint}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from None

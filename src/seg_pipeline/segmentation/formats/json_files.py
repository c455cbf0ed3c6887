"""Read JSON files that describe a data set, with errors that name the file."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, *, hint: str = "") -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: the file is missing (``hint`` is added to the message) or does not hold JSON.
    """
    try:
        return json.loads(path.read_bytes())  # of any Unicode encoding, with a byte-order mark or without
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file{hint}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None

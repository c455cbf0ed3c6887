"""The address of an image: the path of its file and, after "?", how to read it where that is not the default.

The manifest's paths are addresses, such as "scans/a.tif?page=3&bands=4,3,2", so that whoever reads an image reads the
same pixels.
"""

import functools
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from seg_pipeline.segmentation.settings.reading import ReadSettings

DEFAULTS = ReadSettings()
_OPTION = f"(?:page|{'|'.join(one.name for one in fields(ReadSettings))})=[^&?/]+"
_ADDRESS = re.compile(rf"(.*)\?({_OPTION}(?:&{_OPTION})*)", re.DOTALL)


class Address(NamedTuple):
    """A file, the settings to read it with, and its page, counted from 1; None: its only one."""

    path: str
    settings: ReadSettings = DEFAULTS
    page: int | None = None


def parse_address(text: str | Path) -> Address:
    """Split an address into its parts."""
    text = str(text)
    found = _ADDRESS.fullmatch(text) if "?" in text else None
    return Address(text) if found is None else Address(found[1], *_options(found[2]))


def file_of(text: str | Path) -> str:
    """The path of an address's file."""
    return parse_address(text).path


def format_address(path: str | Path, settings: ReadSettings) -> str:
    """The address that reads ``path``, which may name a page, with other settings."""
    address = parse_address(path)
    plain = asdict(settings)
    options = {"page": address.page} | {name: plain[name] for name, at in asdict(DEFAULTS).items() if plain[name] != at}
    said = "&".join(f"{name}={_text(value)}" for name, value in options.items() if value is not None)
    return f"{address.path}?{said}" if said else address.path


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@functools.lru_cache(maxsize=1024)
def _options(text: str) -> tuple[ReadSettings, int | None]:
    given = dict(option.split("=", 1) for option in text.split("&"))
    page = given.pop("page", None)
    values: dict[str, Any] = {name: value for name, value in given.items() if name == "orientation"}
    values |= {name: tuple(json.loads(f"[{given[name]}]")) for name in ("bands", "value_range") if name in given}
    values |= {"max_pixels": int(given["max_pixels"])} if "max_pixels" in given else {}
    return ReadSettings(**values), None if page is None else int(page)

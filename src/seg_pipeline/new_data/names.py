"""Propose a regular expression that reads image_id, group, series and frame from file names."""

import re
from dataclasses import dataclass

from seg_pipeline.new_data.scanning import SPLIT_WORDS, literal

SEPARATORS = re.compile(r"([_\-./ ]+)")
NUMBERED = re.compile(r"([A-Za-z]*)(\d+)")
FEW_GROUPS = 5
"""With fewer groups than this, a finer part of the names is proposed if there is one."""


@dataclass(frozen=True)
class Names:
    """A proposal; ``pattern`` matches a whole path without its extension."""

    pattern: str
    about: str
    """Description for the user."""
    groups: list[str]
    """Group of each name; the name itself if there are no groups."""


@dataclass(frozen=True)
class _Parts:
    """Fields of the names, one list per field, and the separators between them."""

    fields: list[list[str]]
    separators: list[str]

    def varies(self, at: int) -> bool:
        return len(set(self.fields[at])) > 1 and not {one.lower() for one in self.fields[at]} <= SPLIT_WORDS.keys()

    def joined(self, start: int, end: int) -> list[str]:
        """Text of the fields from ``start`` to before ``end``, of each name."""
        cut = [self.fields[at] for at in range(start, end)]
        return ["\0".join(one) for one in zip(*cut, strict=True)] if cut else [""] * len(self.fields[0])


def propose(names: list[str], *, group: str = "auto", whole: bool | None = None) -> Names:
    """Propose a pattern for these paths without extensions.

    Args:
        group: "auto", "none", or the number of leading fields of the name that identify what must not be split.
        whole: image_id is the whole path, not only the file name; None: only if file names repeat.
    """
    if whole is None:
        whole = len({name.rsplit("/", 1)[-1] for name in names}) < len(names)
    stems = [name.rsplit("/", 1)[-1] for name in names]
    if not whole and _folder_each(names, stems):  # one folder per image
        found = propose(stems, group=group, whole=True)
        folders = [set(column) for column in zip(*(name.split("/")[:-1] for name in names), strict=True)]
        before = "".join(f"{re.escape(one.pop())}/" if len(one) == 1 else "[^/]+/" for one in folders)
        return Names(before + found.pattern, found.about, found.groups)
    parts = _parted(names)
    if parts is None or len(names) < 2:
        return Names(_plain(names, whole), "names have different parts: each image is its own group", names)
    frame = _frame(parts)
    first, last = _group(parts, frame, group, whole)
    texts = parts.joined(first, last + 1) if last is not None else names
    return Names(_pattern(parts, first, last, frame, whole), _about(texts, names, last, frame), texts)


def choices(names: list[str], proposed: Names, *, whole: bool | None) -> tuple[dict[str, str], str]:
    """The different ways to group these paths, as answers with their meanings, and which of them is ``proposed``."""
    found: dict[str, Names] = {}
    for parts in range(1, 1 + max(len(SEPARATORS.split(name)[::2]) for name in names)):
        try:
            one = propose(names, group=str(parts), whole=whole)
        except ValueError:
            break
        if 1 < len(set(one.groups)) < len(names) and len(set(one.groups)) not in map(_number, found.values()):
            found[str(parts)] = one
    found["none"] = propose(names, group="none", whole=whole)
    key = next((key for key, one in found.items() if one.pattern == proposed.pattern), "auto")
    return {key: one.about for key, one in {**({"auto": proposed} if key == "auto" else {}), **found}.items()}, key


def _number(one: Names) -> int:
    return len(set(one.groups))


def _folder_each(names: list[str], stems: list[str]) -> bool:
    """Whether each file is in a folder with its own name, all equally deep."""
    own = all(f"{stem}/" in name for stem, name in zip(stems, names, strict=True))
    return own and len({name.count("/") for name in names}) == 1


def _plain(names: list[str], whole: bool) -> str:
    if whole or not any("/" in name for name in names):
        return "(?P<image_id>.+)"
    return "(?:.+/)?(?P<image_id>[^/]+)"


def _parted(names: list[str]) -> _Parts | None:
    """Split names into fields; None if they do not all have the same separators."""
    rows = [SEPARATORS.split(name) for name in names]
    separators = rows[0][1::2]
    if any(row[1::2] != separators for row in rows) or any("" in row[::2] for row in rows):
        return None
    return _Parts([list(column) for column in zip(*(row[::2] for row in rows), strict=True)], separators)


def _frame(parts: _Parts) -> int | None:
    """Index of the last field if it is a number that counts within the fields before it."""
    last = len(parts.fields) - 1
    numbers = [NUMBERED.fullmatch(text) for text in parts.fields[last]]
    before = parts.joined(0, last)
    counts = all(numbers) and len(set(before)) <= len(before) / 2 and any(parts.varies(at) for at in range(last))
    return last if counts and parts.varies(last) else None


def _group(parts: _Parts, frame: int | None, wanted: str, whole: bool) -> tuple[int, int | None]:
    """First and last field of the group; (0, None): each image is its own group."""
    varying = [at for at in range(len(parts.fields)) if parts.varies(at) and at != frame]
    if wanted == "none" or not varying:
        return 0, None
    if wanted != "auto":
        last = _place(wanted, len(parts.fields))
        return min(varying[0], last), last
    # if names repeat in the folders train and val, equal numbers there are different images
    sizes = {at: len(set(parts.joined(0 if whole else varying[0], at + 1))) for at in varying}
    total = len(parts.fields[0])
    repeated = [at for at in varying if sizes[at] <= total / 2]
    if not repeated:
        return 0, None
    return varying[0], next((at for at in repeated if sizes[at] >= FEW_GROUPS), repeated[0])


def _place(wanted: str, count: int) -> int:
    """Index of the field that the user counts from 1."""
    if not wanted.isdigit() or not 1 <= int(wanted) <= count:
        raise ValueError(f"--group must be none or a number of parts from 1 to {count}, found {wanted!r}")
    return int(wanted) - 1


def _pattern(parts: _Parts, first: int, last: int | None, frame: int | None, whole: bool) -> str:
    """Regular expression of all fields, with the named groups around them."""
    count = len(parts.fields)
    slashes = [at for at in range(count - 1) if "/" in parts.separators[at]]
    id_from = 0 if whole or not slashes else slashes[-1] + 1
    series = _series_end(parts, last, frame)
    # a named group must not cross the start of image_id
    series = series if series is None or first >= id_from or series < id_from else None
    text = ""
    for at in range(count):
        text += "(?P<image_id>" * (at == id_from)
        text += "(?P<series>" * (series is not None and at == first) + "(?P<group>" * (last is not None and at == first)
        text += _field(parts.fields[at], frame=at == frame)
        text += ")" * (at == last) + ")" * (at == series)
        text += re.escape(parts.separators[at]) if at < count - 1 else ")"
    return text.replace(r"\-", "-").replace(r"\ ", " ")


def _series_end(parts: _Parts, last: int | None, frame: int | None) -> int | None:
    if last is None or frame is None:
        return None
    between = [at for at in range(last + 1, frame) if parts.varies(at)]
    return between[-1] if between else None


def _field(texts: list[str], *, frame: bool) -> str:
    """Regular expression of one field; a frame number is a named group."""
    found = [NUMBERED.fullmatch(text) for text in texts]
    if len(set(texts)) == 1 and not all(found):
        return literal(texts[0])
    heads = sorted({match[1] for match in found if match})
    number = r"(?P<frame>\d+)" if frame else r"\d+"
    if all(found) and len(heads) == 1:
        return heads[0] + number
    if all(found) and len(heads) == 2 and not heads[0]:
        return (f"{heads[1]}?" if len(heads[1]) == 1 else f"(?:{heads[1]})?") + number
    return f"[A-Za-z]*{number}" if frame else r"[^_./ -]+"


def _about(texts: list[str], names: list[str], last: int | None, frame: int | None) -> str:
    if last is None:
        told = (
            "; the names are only numbers, so check whether consecutive images are related"
            if _only_count(names)
            else ""
        )
        return f"each of the {len(names)} images is its own group{told}"
    shown = sorted({text.replace("\0", " ") for text in texts})
    few = ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
    return f"{len(shown)} groups ({few})" + ("; the last number is the frame" if frame is not None else "")


def _only_count(names: list[str]) -> bool:
    return len({re.sub(r"\d+", "#", name) for name in names}) == 1 and len(names) > 1

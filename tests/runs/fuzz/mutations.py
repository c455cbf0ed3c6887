"""Damage files as storage, broken writers and attackers do: each mutant follows from its seed's name and its number."""

import copy
import random
import re
import struct
from typing import Any

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    16,
    127,
    128,
    255,
    256,
    1024,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
"""Values at the edges of types and sizes; negative ones wrap."""
NUMBERS = (
    b"0", b"1", b"-1", b"2", b"255", b"256", b"65536", b"2147483647", b"4294967296", b"9223372036854775807", b"1e308",
    b"-1e309", b"nan", b"0.5", b"1e-320", b"18446744073709551616", b"9" * 400, b"", b"x", b"\xff", b"true", b"null",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "a",
    "../../etc/passwd", "\u2028", "\ud800", "=1+1", "a" * 5000, [], [[]], [None], [0] * 3000, {},
    {"": None}, {"size": -1},
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One to four changes of a file; ``others`` are files to take parts from."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(_CHANGES)(data, rng, others) if data else rng.choice(others)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Half of the changes hit the first 128 bytes, where headers are."""
    return rng.randrange(min(len(data), rng.choice((128, len(data)))))


def _flip(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_byte(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([rng.choice((0, 1, 10, 32, 127, 128, 254, 255, rng.randrange(256)))]) + data[at + 1 :]


def _set_integer(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    """Overwrite 2, 4 or 8 bytes, such as a length, an offset or a size, in either byte order."""
    at, kind = _place(data, rng), rng.choice("HIQ")
    value = rng.choice(INTEGERS) % 2 ** (8 * struct.calcsize(kind))
    new = struct.pack(rng.choice("<>") + kind, value)
    return data[:at] + new + data[at + len(new) :]


def _truncate(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def _remove(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 100)) :]


def _repeat(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    at, length = _place(data, rng), rng.choice((1, 4, 12, 64, 500))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 20)) + data[at + length :]


def _splice(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    start = rng.randrange(max(len(other), 1))
    part, at = other[start : start + rng.choice((4, 32, 256, len(other)))], _place(data, rng)
    return data[:at] + part + data[at + rng.choice((0, len(part))) :]


def _number(data: bytes, rng: random.Random, _: list[bytes]) -> bytes:
    """Replace a number that is written as text."""
    found = list(_NUMBER.finditer(data[: 1 << 16]))
    if not found:
        return _set_integer(data, rng, _)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS) + data[one.end() :]


_CHANGES = (
    _flip,
    _flip,
    _set_byte,
    _set_byte,
    _set_integer,
    _set_integer,
    _truncate,
    _remove,
    _repeat,
    _splice,
    _number,
)


def mutate_tree(value: Any, rng: random.Random) -> Any:
    """A copy of nested dicts and lists in which one to three parts are replaced, removed, repeated or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        kind = rng.randrange(10)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2:
            other, place = rng.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice(("", "x", "a.b", "\u0000"))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Each part of nested dicts and lists: what holds it, and its key there."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, part in pairs[:200]:
        yield value, key
        yield from _places(part)

"""Where the values of a column are: in a mapped Arrow file, or in memory."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc


@dataclass(frozen=True)
class StoredFile:
    """A column of a mapped Arrow file."""

    path: str
    column: str
    length: int
    nulls: int

    @property
    def kind(self) -> pa.DataType:
        return _schema(self.path).field(self.column).type

    def take(self, rows: np.ndarray) -> pa.Array:
        starts = _starts(self.path)
        reader = open_arrow(self.path)  # anew: pages read count as memory while a file is mapped
        groups = np.searchsorted(starts, rows, side="right") - 1
        return by_group(
            groups, lambda at, where: reader.get_batch(at)[self.column].take(pa.array(rows[where] - starts[at]))
        )

    def sizes(self) -> np.ndarray:
        """Bytes of each text, or length of each list."""
        reader = open_arrow(self.path)
        batches = (reader.get_batch(at)[self.column] for at in range(reader.num_record_batches))
        return np.concatenate([np.zeros(0, np.int32), *map(value_sizes, batches)])

    def value(self, row: int) -> Any:
        starts = _starts(self.path)
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return _kept_batch(self.path, at)[self.column][row - int(starts[at])].as_py()


class InMemory(NamedTuple):
    """Values that no file holds yet."""

    values: pa.Array
    length: int
    nulls: int

    @property
    def kind(self) -> pa.DataType:
        return self.values.type

    def take(self, rows: np.ndarray) -> pa.Array:
        return self.values.take(pa.array(rows))

    def sizes(self) -> np.ndarray:
        return value_sizes(self.values)

    def value(self, row: int) -> Any:
        return self.values[row].as_py()


def one_piece(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values without the pieces of a column that was concatenated."""
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def row_type(number: int) -> Any:
    """The smaller type that holds the rows of so many values."""
    return np.int32 if number < np.iinfo(np.int32).max else np.int64


def value_sizes(values: pa.Array) -> np.ndarray:
    """Bytes of each text, or length of each list; 0 where it is missing: int32."""
    measured = pc.list_value_length(values) if pa.types.is_list(values.type) else pc.binary_length(values)
    return measured.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)


def open_arrow(path: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(path))


_kept_open = functools.lru_cache(maxsize=16)(open_arrow)


@functools.lru_cache(maxsize=64)
def _schema(path: str) -> pa.Schema:
    return open_arrow(path).schema


@functools.lru_cache(maxsize=4096)
def _kept_batch(path: str, at: int) -> pa.RecordBatch:
    return _kept_open(path).get_batch(at)


@functools.lru_cache(maxsize=64)
def _starts(path: str) -> np.ndarray:
    """Row with which each batch of an Arrow file starts."""
    reader = open_arrow(path)
    sizes = [reader.get_batch(at).num_rows for at in range(reader.num_record_batches)]
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def by_group(groups: np.ndarray, read: Callable[[int, np.ndarray], pa.Array]) -> pa.Array:
    """What ``read`` gives for the places of each group, in the order of the places."""
    order = np.argsort(groups, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    parts = [read(int(groups[where[0]]), where) for where in places]
    whole = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    return whole if (np.diff(order) > 0).all() else whole.take(pa.array(np.argsort(order)))

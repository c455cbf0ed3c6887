"""Columns that stay on disk: a large table in memory holds where its masks are, and reads those that are asked for.

Masks are most of a table, and each join, filter and copy would multiply them. ``read_table`` therefore unpacks the
masks of a large table into an Arrow file beside it, which is mapped and not read; a filtered or joined table, and a
worker that gets one, has eight bytes per mask. The Parquet file is the table: the Arrow file is made again when it is
missing or when the table has changed.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import extensions
from pyarrow import parquet

from seg_pipeline.segmentation.storage.atomic import beside

LEAST_ROWS = 10_000
"""Rows from which masks stay on disk; fewer take less memory than the libraries."""
BLOCK = 4096
"""Rows that are read at once."""
GROUP = 4 * BLOCK
"""Rows per row group of a Parquet file: a reader holds one in memory twice."""


class StoredFile(NamedTuple):
    """A column of a mapped Arrow file."""

    path: str
    column: str
    length: int
    nulls: int

    def take(self, rows: np.ndarray) -> pa.Array:
        starts, reader = _starts(self.path), _open(self.path)  # anew: pages read count as memory while a file is mapped
        groups = np.searchsorted(starts, rows, side="right") - 1
        return _by_group(
            groups, lambda at, where: reader.get_batch(at)[self.column].take(pa.array(rows[where] - starts[at]))
        )

    def value(self, row: int) -> Any:
        starts = _starts(self.path)
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return _kept_batch(self.path, at)[self.column][row - int(starts[at])].as_py()


class InMemory(NamedTuple):
    """Values that no file holds yet."""

    values: pa.Array
    length: int
    nulls: int

    def take(self, rows: np.ndarray) -> pa.Array:
        return self.values.take(pa.array(rows))

    def value(self, row: int) -> Any:
        return self.values[row].as_py()


def _open(path: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(path))


_kept_open = functools.lru_cache(maxsize=16)(_open)


@functools.lru_cache(maxsize=4096)
def _kept_batch(path: str, at: int) -> pa.RecordBatch:
    return _kept_open(path).get_batch(at)


@functools.lru_cache(maxsize=64)
def _starts(path: str) -> np.ndarray:
    """Row with which each batch of an Arrow file starts."""
    reader = _open(path)
    sizes = [reader.get_batch(at).num_rows for at in range(reader.num_record_batches)]
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def _by_group(groups: np.ndarray, read: Callable[[int, np.ndarray], pa.Array]) -> pa.Array:
    """What ``read`` gives for the places of each group, in the order of the places."""
    order = np.argsort(groups, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    parts = [read(int(groups[where[0]]), where) for where in places]
    whole = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    return whole if (np.diff(order) > 0).all() else whole.take(pa.array(np.argsort(order)))


@extensions.register_extension_dtype
class StoredDtype(extensions.ExtensionDtype):
    """Of texts, or lists of texts, that are read when they are asked for."""

    type, name, kind, na_value = str, "stored", "O", np.nan

    @classmethod
    def construct_array_type(cls) -> Any:
        return StoredColumn

    def _get_common_dtype(self, dtypes: list) -> Any:
        return self if all(one == self or isinstance(one, pd.StringDtype) for one in dtypes) else None

    def __from_arrow__(self, array: pa.Array | pa.ChunkedArray) -> "StoredColumn":
        return StoredColumn._from_sequence(array)


class StoredColumn(extensions.ExtensionArray):
    """Values of ``sources``, one after the other, at ``rows``: int64, -1 where a value is missing."""

    def __init__(self, sources: tuple[StoredFile | InMemory, ...], rows: np.ndarray) -> None:
        self._sources, self._rows = sources, rows

    @classmethod
    def _from_sequence(cls, scalars: Any, **_: Any) -> Self:
        if isinstance(scalars, cls):
            return scalars
        arrow = scalars if isinstance(scalars, pa.Array | pa.ChunkedArray) else pa.array(scalars, from_pandas=True)
        arrow = arrow.combine_chunks() if isinstance(arrow, pa.ChunkedArray) else arrow
        arrow = arrow.cast(_stored_type(arrow.type))
        return cls((InMemory(arrow, len(arrow), arrow.null_count),), np.arange(len(arrow)))

    @classmethod
    def _concat_same_type(cls, to_concat: Iterable[Self]) -> Self:
        parts = list(to_concat)
        if all(one._sources is parts[0]._sources for one in parts):
            return cls(parts[0]._sources, np.concatenate([one._rows for one in parts]))
        starts = np.cumsum([0, *(one._starts()[-1] for one in parts[:-1])])
        rows = [np.where(one._rows < 0, -1, one._rows + start) for one, start in zip(parts, starts, strict=True)]
        return cls(tuple(itertools.chain.from_iterable(one._sources for one in parts)), np.concatenate(rows))

    @property
    def dtype(self) -> StoredDtype:
        return StoredDtype()

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: Any) -> Any:
        if not isinstance(item, int | np.integer):
            return type(self)(self._sources, self._rows[pd.api.indexers.check_array_indexer(self, item)])
        row = int(self._rows[item])
        if row < 0:
            return np.nan
        if len(self._sources) == 1:
            value = self._sources[0].value(row)
        else:
            starts = self._starts()
            at = int(np.searchsorted(starts, row, side="right")) - 1
            value = self._sources[at].value(row - int(starts[at]))
        return np.nan if value is None else value

    def __setitem__(self, key: Any, value: Any) -> None:
        new = self._from_sequence(value if pd.api.types.is_list_like(value) else [value])
        both = self._concat_same_type([self, new])
        self._sources, self._rows = both._sources, both._rows[: len(self)]
        self._rows[key] = both._rows[len(self._rows) :]

    def __iter__(self) -> Iterator:
        for block in self._blocks():
            yield from (np.nan if value is None else value for value in block.arrow().to_pylist())

    def __eq__(self, other: object) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        others: Any = other if pd.api.types.is_list_like(other) else itertools.repeat(other)
        return np.fromiter((one == two for one, two in zip(self, others, strict=False)), dtype=bool, count=len(self))

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.empty(len(self), dtype=object)
        values[:] = list(self)
        return values if dtype is None else values.astype(dtype)

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:  # noqa: A002  pyarrow's name
        return self.arrow() if type is None else self.arrow().cast(type)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        if allow_fill and fill_value is not None and not pd.isna(fill_value):
            indices = np.where(np.asarray(indices) < 0, len(self), indices)
            return self._concat_same_type([self, self._from_sequence([fill_value])]).take(indices)
        rows = extensions.take(self._rows, indices, allow_fill=allow_fill, fill_value=-1 if allow_fill else None)
        return type(self)(self._sources, np.asarray(rows, dtype=np.int64))

    def copy(self) -> Self:
        return type(self)(self._sources, self._rows.copy())

    def isna(self) -> np.ndarray:
        if not any(one.nulls for one in self._sources):
            return self._rows < 0
        return np.concatenate([block.arrow().is_null().to_numpy(zero_copy_only=False) for block in self._blocks()])

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        dtype = pd.api.types.pandas_dtype(dtype)
        if isinstance(dtype, StoredDtype):
            return self.copy() if copy else self
        return np.asarray(self, dtype=dtype) if isinstance(dtype, np.dtype) else pd.array(self.arrow(), dtype=dtype)

    def arrow(self) -> pa.Array:
        """The values themselves: large_string, or lists of it."""
        starts = self._starts()
        kind = self.kind

        def read(at: int, where: np.ndarray) -> pa.Array:
            return pa.nulls(len(where), kind) if at < 0 else self._sources[at].take(self._rows[where] - starts[at])

        if not len(self):
            return pa.array([], kind)
        return _by_group(np.searchsorted(starts, self._rows, side="right") - 1, read)

    def in_lists(self, ends: np.ndarray) -> Self:
        """The texts from each of ``ends`` to the next one, as lists."""
        parts = []
        for start in range(0, len(ends) - 1, BLOCK):
            some = ends[start : start + BLOCK + 1]
            lists = pa.ListArray.from_arrays(pa.array(some - some[0], pa.int32()), self[some[0] : some[-1]].arrow())
            parts.append(self._from_sequence(lists))
        return self._concat_same_type(parts)

    @property
    def holds_lists(self) -> bool:
        return pa.types.is_list(self.kind)

    @property
    def kind(self) -> pa.DataType:
        """Type of the values."""
        known = next((one for one in self._sources if one.length), None)
        return pa.large_string() if known is None else known.take(np.zeros(1, dtype=np.int64)).type

    def _starts(self) -> np.ndarray:
        """Row with which each source starts, and the number of all; -1 is before the first."""
        return np.cumsum([0, *(one.length for one in self._sources)])

    def _blocks(self) -> Iterator[Self]:
        for start in range(0, max(1, len(self)), BLOCK):
            yield self[start : start + BLOCK]

    def _hash_pandas_object(self, **how: Any) -> np.ndarray:
        hashes = [pd.array(one.arrow(), dtype="str")._hash_pandas_object(**how) for one in self._blocks()]
        return np.concatenate(hashes)


def is_long(name: str) -> bool:
    """Whether a column of this name holds masks, whose memory grows with the size of the images."""
    return name in ("mask", "ignore") or name.startswith(("mask_", "object_map_"))


def read_table(path: Path, *, least_rows: int | None = None) -> pd.DataFrame:
    """The table of a Parquet file. Columns of masks stay on disk if it has ``least_rows`` (``LEAST_ROWS``) or more."""
    with parquet.ParquetFile(path) as file:
        long = [name for name in file.schema_arrow.names if is_long(name)]
        if not long or file.metadata.num_rows < max(LEAST_ROWS if least_rows is None else least_rows, 1):
            return pd.read_parquet(path)
        try:
            store = _unpacked(path, file, long)
        except OSError:  # a full disk, or a folder that may not be written to
            return pd.read_parquet(path)
        names, about = list(file.schema_arrow.names), file.schema_arrow.pandas_metadata or {}
        others = [name for name in names if name not in long]
        frames = [
            file.read_row_group(at, others, use_pandas_metadata=True).to_pandas() for at in range(file.num_row_groups)
        ]
    frame = pd.concat(frames)
    for span in about.get("index_columns", []):
        if isinstance(span, dict):  # a range, which each group has begun anew
            frame.index = pd.RangeIndex(span["start"], span["stop"], span["step"])
    columns = {**{str(name): column for name, column in frame.items()}, **store}
    return pd.DataFrame({name: columns[name] for name in names if name in columns}, index=frame.index, copy=False)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a Parquet file as pandas does, group by group: the masks are not in memory at once."""
    stored = {str(name): table[name].array for name in table if isinstance(table[name].dtype, StoredDtype)}
    if not stored:
        table.to_parquet(path, row_group_size=GROUP)
        return
    blank = {
        name: pd.Series(None if column.holds_lists else "", table.index, object if column.holds_lists else "str")
        for name, column in stored.items()
    }
    rest = pa.Table.from_pandas(table.assign(**blank))
    schema = rest.schema
    for name, column in stored.items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, column.kind))
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(table), GROUP):
            part = rest.slice(start, GROUP)
            values = {name: column[start : start + GROUP].arrow() for name, column in stored.items()}
            writer.write_table(pa.table([values.get(name, part[name]) for name in schema.names], schema=schema))


def _unpacked(path: Path, file: parquet.ParquetFile, long: list[str]) -> dict[str, StoredColumn]:
    """The columns ``long`` of a Parquet file, in an Arrow file beside it."""
    about = path.stat()
    target = path.with_name(f".{path.name}-{about.st_size}-{about.st_mtime_ns}.arrow")
    if not target.exists():
        fields = [pa.field(name, _stored_type(file.schema_arrow.field(name).type)) for name in long]
        with beside(target) as temporary, pa.ipc.new_file(str(temporary), pa.schema(fields)) as writer:
            for batch in file.iter_batches(BLOCK, columns=long):
                writer.write_batch(batch.cast(pa.schema(fields)))
            writer.close()
            temporary.replace(target)
        for old in path.parent.glob(f".{path.name}-*.arrow"):
            if old != target:
                with suppress(OSError):
                    old.unlink()
    reader, number = _open(str(target)), file.metadata.num_rows
    nulls = {
        name: sum(reader.get_batch(at)[name].null_count for at in range(reader.num_record_batches)) for name in long
    }
    rows = np.arange(number)
    return {name: StoredColumn((StoredFile(str(target), name, number, nulls[name]),), rows) for name in long}


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.large_string())
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise TypeError(f"a stored column cannot hold {kind} values, only text or lists of it")
    return pa.large_string()

"""Columns that stay on disk: a large table in memory holds where its texts are, and reads those that are asked for.

Masks and other long texts are most of a table, and each join, filter and copy would multiply them. ``read_table``
therefore unpacks those of a large table into an Arrow file beside it, which is mapped and not read; a filtered or
joined table, and a worker that gets one, has four bytes per value. The Parquet file is the table: the Arrow file is
made again when it is missing or when the table has changed. Columns that are in no table yet are in scratch files, see
``ColumnWriter``.
"""

import functools
import itertools
import os
import weakref
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import extensions
from pyarrow import parquet

from seg_pipeline.segmentation.storage.atomic import ScratchFolder, beside
from seg_pipeline.segmentation.storage.column_sources import (
    InMemory,
    StoredFile,
    by_group,
    one_piece,
    open_arrow,
    row_type,
    value_sizes,
)

TEXTS = {"path", "file", "content_hash", "thumbnail", "key"}
"""Columns of images that stay on disk with the masks."""
LEAST_ROWS = 10_000
"""Rows from which texts stay on disk; fewer take less memory than the libraries."""
BLOCK = 4096
"""Rows that are read at once."""
GROUP = 4 * BLOCK
"""Rows per row group of a Parquet file: a reader holds one in memory twice."""


def is_large(rows: Sized) -> bool:
    """Whether texts of so many rows stay on disk."""
    return len(rows) >= LEAST_ROWS


def as_stored(column: pd.Series) -> pd.Series:
    """The texts of a large table, so that a joined or filtered table shares them."""
    return pd.Series(StoredColumn._from_sequence(column.array), column.index) if is_large(column) else column


def _python_values(values: pa.Array) -> list:
    """As ``to_pylist``, a third of its time, with nan where a value is missing."""
    if pa.types.is_list(values.type):
        ends = np.cumsum(value_sizes(values)).tolist()
        flat = values.flatten().to_numpy(zero_copy_only=False).tolist()
        found: list = [flat[start:end] for start, end in itertools.pairwise([0, *ends])]
    else:
        found = values.to_numpy(zero_copy_only=False).tolist()
    for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)) if values.null_count else ():
        found[row] = np.nan
    return found


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
    """Values of ``sources``, one after the other, at ``rows``: whole numbers, -1 where a value is missing."""

    def __init__(self, sources: tuple[StoredFile | InMemory, ...], rows: np.ndarray) -> None:
        self._sources = sources
        self._rows = rows.astype(row_type(sum(one.length for one in sources)), copy=False)

    @classmethod
    def _from_sequence(cls, scalars: Any, **_: Any) -> Self:
        if isinstance(scalars, cls):
            return scalars
        arrow = scalars if isinstance(scalars, pa.Array | pa.ChunkedArray) else pa.array(scalars, from_pandas=True)
        arrow = one_piece(arrow).cast(_stored_type(arrow.type))
        return cls((InMemory(arrow, len(arrow), arrow.null_count),), np.arange(len(arrow)))

    @classmethod
    def _concat_same_type(cls, to_concat: Iterable[Self]) -> Self:
        parts = list(to_concat)
        if all(one._sources is parts[0]._sources for one in parts):
            return cls(parts[0]._sources, np.concatenate([one._rows for one in parts]))
        sources = {id(source): source for one in parts for source in one._sources}
        starts = dict(zip(sources, np.cumsum([0, *(one.length for one in sources.values())]), strict=False))
        rows = []
        for one in parts:
            shifts = np.array([starts[id(source)] for source in one._sources]) - one._starts()[:-1]
            at = np.searchsorted(one._starts()[1:-1], one._rows, side="right")
            rows.append(np.where(one._rows < 0, -1, one._rows + shifts[at]))
        return cls(tuple(sources.values()), np.concatenate(rows))

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
        self._sources, self._rows = both._sources, both._rows[: len(self)].copy()
        self._rows[key] = both._rows[len(self._rows) :]

    def __iter__(self) -> Iterator:
        for block in self._blocks():
            yield from _python_values(block.arrow())

    def tolist(self) -> list:
        return list(itertools.chain.from_iterable(_python_values(block.arrow()) for block in self._blocks()))

    def __eq__(self, other: object) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        if isinstance(other, str) and not other and not self.holds_lists:  # without reading a text
            return ~self.isna() & (self.sizes() == 0)
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
        return type(self)(self._sources, np.asarray(rows))

    def factorize(self, use_na_sentinel: bool = True) -> tuple[np.ndarray, Any]:
        if not use_na_sentinel or self.holds_lists:
            return super().factorize(use_na_sentinel)
        blocks = [block.arrow().dictionary_encode() for block in self._blocks()]
        alike = pa.chunked_array(blocks).unify_dictionaries().chunks
        codes = [one.indices.fill_null(-1).to_numpy(zero_copy_only=False) for one in alike]
        return np.concatenate(codes).astype(np.intp), self._from_sequence(alike[0].dictionary)

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
        return by_group(np.searchsorted(starts, self._rows, side="right") - 1, read)

    def in_lists(self, ends: np.ndarray) -> "StoredColumn":
        """The texts from each of ``ends`` to the next one, as lists."""
        lists = ColumnWriter(pa.list_(pa.large_string()))
        for start in range(0, len(ends) - 1, BLOCK):
            some = ends[start : start + BLOCK + 1]
            texts = self[some[0] : some[-1]].arrow()
            lists.append(pa.ListArray.from_arrays(pa.array(some - some[0], pa.int32()), texts))
        return lists.column()

    def sizes(self) -> np.ndarray:
        """Bytes of each text, or length of each list; 0 where it is missing."""
        known = np.concatenate([*(one.sizes() for one in self._sources), np.zeros(1, np.int32)])
        return known[self._rows]

    @property
    def holds_lists(self) -> bool:
        return pa.types.is_list(self.kind)

    @property
    def kind(self) -> pa.DataType:
        """Type of the values."""
        known = next((one for one in self._sources if one.length), None)
        return pa.large_string() if known is None else known.kind

    def _starts(self) -> np.ndarray:
        """Row with which each source starts, and the number of all; -1 is before the first."""
        return np.cumsum([0, *(one.length for one in self._sources)])

    def _blocks(self) -> Iterator[Self]:
        for start in range(0, max(1, len(self)), BLOCK):
            yield self[start : start + BLOCK]

    def _hash_pandas_object(self, **how: Any) -> np.ndarray:
        hashes = [pd.array(one.arrow(), dtype="str")._hash_pandas_object(**how) for one in self._blocks()]
        return np.concatenate(hashes)


class ColumnWriter:
    """Writes values to a file in the system's folder for temporary files as they come; ``column`` has them all.

    The file is removed when no column uses it any more, at the latest when the process ends.
    """

    def __init__(self, kind: pa.DataType | None = None) -> None:
        self._path, self._kind = Path(_folder(os.getpid()).name, f"{next(_numbers)}.arrow"), kind or pa.large_string()
        self._file = pa.ipc.new_file(str(self._path), pa.schema([pa.field("values", self._kind)]))
        self._places: list[np.ndarray] = []
        self._number = 0

    def append(self, values: pa.Array | pa.ChunkedArray) -> None:
        if len(values):
            values = one_piece(values)
            there = values.is_valid().to_numpy(zero_copy_only=False)
            end = self._number + len(values)
            kind = row_type(end)
            self._places.append(np.where(there, np.arange(self._number, end, dtype=kind), kind(-1)))
            self._file.write_batch(pa.record_batch([values.cast(self._kind)], ["values"]))
            self._number += len(values)

    def column(self) -> StoredColumn:
        self._file.close()
        source = StoredFile(str(self._path), "values", self._number, 0)
        weakref.finalize(source, _remove_own, str(self._path), os.getpid())
        return StoredColumn((source,), np.concatenate([np.zeros(0, np.int32), *self._places]))


_numbers = itertools.count()


@functools.cache
def _folder(_process: int) -> ScratchFolder:
    """For the files of one process, not of its forks."""
    return ScratchFolder()


def _remove_own(path: str, process: int) -> None:
    """Remove a file in the process that wrote it, not in its forks."""
    if os.getpid() == process:
        with suppress(OSError):  # as Windows refuses to remove a mapped file; the folder goes with the process
            Path(path).unlink()


def concat_stored(blocks: Iterable[pd.DataFrame], names: Iterable[str] | None = None) -> pd.DataFrame:
    """One table of blocks of rows, of which texts, those of ``names`` or all columns, stay on disk."""
    writers: dict[str, ColumnWriter] = {}
    rest = []
    for block in blocks:
        stored = list(map(str, block) if names is None else names)
        for name in stored:
            writers.setdefault(name, ColumnWriter()).append(pa.array(block[name].array, pa.large_string()))
        rest.append(block.drop(columns=stored))
    columns = {name: writer.column() for name, writer in writers.items()}
    return pd.DataFrame({**columns, **pd.concat(rest, ignore_index=True)}, copy=False)


def long_columns(names: list[str]) -> list[str]:
    """Columns of a table of images that stay on disk: masks, and texts that few steps read."""
    if {"mask", "class", "image_id"} <= set(names):  # an annotation table, which has several rows per image
        return ["image_id", "class", "mask"]
    masks = [name for name in names if name in ("mask", "ignore") or name.startswith(("mask_", "object_map_"))]
    listed = {"image_id", "path", "file"} <= set(names)  # an index of files
    return [name for name in names if name in masks or name in TEXTS] if masks or listed else []


def read_table(path: Path, *, least_rows: int | None = None) -> pd.DataFrame:
    """The table of a Parquet file. ``long_columns`` stay on disk if it has ``least_rows`` (``LEAST_ROWS``) or more."""
    with parquet.ParquetFile(path) as file:
        long = long_columns(file.schema_arrow.names)
        if not long or file.metadata.num_rows < max(LEAST_ROWS if least_rows is None else least_rows, 1):
            return pd.read_parquet(path)
        try:
            store = _unpacked(path, file, long)
        except OSError:  # a full disk, or a folder that may not be written to
            return pd.read_parquet(path)
        names, about = list(file.schema_arrow.names), file.schema_arrow.pandas_metadata or {}
        index = file.read([], use_pandas_metadata=True).to_pandas().index
        kept = set(names) - {span for span in about.get("index_columns", []) if isinstance(span, str)}
        columns = {  # one by one, as each is in memory twice while it is read
            name: store[name] if name in store else file.read([name]).to_pandas()[name].array
            for name in names
            if name in kept
        }
    return pd.DataFrame(columns, index=index, copy=False)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a Parquet file as pandas does, group by group: the masks are not in memory at once."""
    stored = {str(name): table[name].array for name in table if isinstance(table[name].dtype, StoredDtype)}
    if not stored:
        table.to_parquet(path, row_group_size=GROUP)
        return
    texts, lists = pd.Series("", table.index, "str"), pd.Series(None, table.index, object)
    blank = {name: lists if column.holds_lists else texts for name, column in stored.items()}
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
    if not target.exists() or not set(long) <= set(open_arrow(str(target)).schema.names):  # an older version wrote it
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
    reader, number = open_arrow(str(target)), file.metadata.num_rows
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

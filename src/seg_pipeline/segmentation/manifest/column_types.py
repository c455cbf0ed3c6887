"""Column declarations of the tables, and what is wrong with a table that does not match them.

Written here and not with pandera: the declarations also generate docs/reference/tables.md, know columns that exist once
per class, and name all faults of a table in one message.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from seg_pipeline.segmentation.storage.stored_columns import StoredColumn

Kind = Literal["text", "integer", "number", "boolean", "list"]

CLASS = "<class>"
"""In a column name: there is one such column per class."""


@dataclass(frozen=True)
class Column:
    """What a column may hold.

    Attributes:
        least, most: inclusive bounds.
        nullable: values may be missing.
        required: the column itself must exist.
    """

    name: str
    kind: Kind
    meaning: str
    least: float | None = None
    most: float | None = None
    one_of: tuple[str, ...] = ()
    nullable: bool = False
    unique: bool = False
    required: bool = True

    def faults(self, table: pd.DataFrame) -> Iterator[str]:
        """What is wrong with the column in ``table``, as text."""
        names = self.names_in(table)
        if not names and self.required:
            yield f"column {self.name!r} is missing; there are {', '.join(map(str, table))}"
        for name in names:
            yield from self._faults_of(table[name])

    def names_in(self, table: pd.DataFrame) -> list[str]:
        prefix, is_many, _ = self.name.partition(CLASS)
        return [name for name in map(str, table) if (name.startswith(prefix) if is_many else name == self.name)]

    def _faults_of(self, values: pd.Series) -> Iterator[str]:
        found = values[values.notna()]
        if len(found) < len(values) and not self.nullable:
            yield f"column {values.name!r} is empty in {_where(values.isna())}, but every row needs a value"
        if not _is_kind(found, self.kind):
            yield f"column {values.name!r} holds {found.dtype} values such as {_short(found)}, expected {self.kind}"
            return
        for bad, expected in self._doubts(found):
            if bad.any():
                yield f"column {values.name!r} holds {_short(found[bad])} in {_where(bad)}, expected {expected}"

    def _doubts(self, found: pd.Series) -> Iterator[tuple[pd.Series, str]]:
        if self.least is not None:
            yield found < self.least, f"at least {self.least:g}"
        if self.most is not None:
            yield found > self.most, f"at most {self.most:g}"
        if self.one_of:
            yield ~found.isin(self.one_of), f"one of {', '.join(self.one_of)}"
        if self.unique:
            yield found.duplicated(), "each value once"


@dataclass(frozen=True)
class Table:
    """The columns of a table; a ``validator`` for entries of Kedro's catalog.

    ``closed``: no other columns are allowed.
    """

    name: str
    about: str
    columns: tuple[Column, ...]
    closed: bool = False

    def validate(self, data: pd.DataFrame | None) -> pd.DataFrame | None:
        """Return the table unchanged; None passes, as an optional catalog entry without a file loads as None.

        Raises:
            ValueError: the table is not as declared; the message names every faulty column.
        """
        if data is None:
            return None
        if not isinstance(data, pd.DataFrame):
            raise ValueError(f"table `{self.name}`: found a {type(data).__name__}, expected a DataFrame")
        faults = [fault for column in self.columns for fault in column.faults(data)]
        if self.closed and (strange := set(map(str, data)) - {one.name for one in self.columns}):
            faults.append(f"columns {sorted(strange)} are not declared")
        if faults:
            raise ValueError(
                f"table `{self.name}` does not match docs/reference/tables.md: {'; '.join(faults)}. If an older "
                "version wrote it, run data_processing again"
            )
        return data


def _is_kind(values: pd.Series, kind: Kind) -> bool:
    types = pd.api.types
    if values.empty:
        return True  # a column of missing values only has lost its type
    if isinstance(values.array, StoredColumn):
        return kind == ("list" if values.array.holds_lists else "text")
    checks = {"text": types.is_string_dtype, "integer": types.is_integer_dtype, "boolean": types.is_bool_dtype}
    if kind in checks:
        return checks[kind](values)
    if kind == "number":
        return types.is_numeric_dtype(values) and not types.is_bool_dtype(values)
    return bool(values.map(lambda value: hasattr(value, "__len__") and not isinstance(value, str)).all())


def _short(values: pd.Series) -> str:
    text = repr(values.astype(object).iloc[0])  # object: a bare 3, not np.int64(3)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _where(bad: pd.Series) -> str:
    rows = bad.index[bad.to_numpy(dtype=bool)]
    return f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows (the first: {rows[0]})"

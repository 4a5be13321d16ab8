"""Records as rows: which values are bound for a record, and which record a row is.

A mapping is made once per record class and dialect and kept: its statements are put together then, and
converting a row costs one call per column that needs any. New records are converted many at once, by column.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, Generic, TypeVar

from holdfast.records.declare import Record, SoftRecord, table_of
from holdfast.records.tables import Column, Table
from holdfast.store.column_writers import WriteAll, column_writer
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Row

R = TypeVar("R", bound=Record)

STORES_OWN = ("tenant_id", "id", "revision", "created_at", "updated_at")
"""The columns that the store sets; an insert names them first, in this order."""
_WORDS = ("words_first", "words_rest")


@dataclass(frozen=True, slots=True)
class Mapping(Generic[R]):
    """One record class in one dialect. `own` are the columns that its fields fill.

    `columns` is what a row of it is read from, as a select names it.
    """

    cls: type[R]
    table: Table
    dialect: Dialect
    own: tuple[Column, ...]
    searched: tuple[Column, ...]
    soft: bool
    columns: str
    _writers: tuple[tuple[str, Callable[[Any], Any]], ...]
    _names: tuple[str, ...]
    _readers: tuple[tuple[str, Callable[[Any], Any]], ...]
    _moment: Callable[[Any], Any] | None
    _fields: Callable[[R], tuple[Any, ...]]
    _setters: tuple[tuple[str, Callable[[R, Any], None]], ...]
    _column_writers: tuple[tuple[str, WriteAll], ...]

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that a record fills: its own fields, then its words if it is searched."""
        return (*(column.name for column in self.own), *(_WORDS if self.searched else ()))

    @property
    def changing(self) -> tuple[str, ...]:
        """Those of them that an update may change."""
        fixed = {column.name for column in self.own if column.immutable}
        # The words of a text that stays are those of its record, not of the one that is offered.
        fixed |= {
            name
            for name, columns in zip(_WORDS, (self.searched[:1], self.searched[1:]), strict=True)
            if all(column.immutable for column in columns)
        }
        return tuple(name for name in self.written if name not in fixed)

    def values(self, record: R) -> list[Any]:
        """What is bound for `written`. Raises `InvalidData` and `UnsupportedValue` with the field's name."""
        values = [write(getattr(record, name)) for name, write in self._writers]
        return [*values, *self.words(record)] if self.searched else values

    def words(self, record: R) -> tuple[str, str]:
        """What the search of a record looks into: see `words_columns`."""
        return words_columns(self.dialect, [getattr(record, column.name) for column in self.searched])

    def record(self, row: Row) -> R:
        """The record in a row of `columns`; what stands behind them is left out."""
        values = dict(zip(self._names, row, strict=False))
        for name, read in self._readers:
            values[name] = read(values[name])
        return self.cls(**values)

    def read(self, name: str, value: Any) -> Any:
        """One column's value as its field has it."""
        convert = self.dialect.reader(self.table.column(name))
        return value if convert is None else convert(value)

    def stored(self, record: R, revision: int, created_at: Any, updated_at: Any) -> R:
        """`record` as it stands in the store now."""
        # Written out: `replace` takes twice as long.
        values = {name: getattr(record, name) for name in self._names}
        values["revision"] = revision
        values["created_at"] = self.moment(created_at)
        values["updated_at"] = self.moment(updated_at)
        return self.cls(**values)

    def new(self, records: Sequence[R], tenant: str, now: Any) -> tuple[list[Row], list[R]]:
        """Rows of `STORES_OWN` and `written` for new records, at least one, and these as they will be stored.

        Raises what `values` raises.
        """
        columns = dict(zip(self._names, zip(*map(self._fields, records), strict=True), strict=True))
        ids, *own = (write(columns[name]) for name, write in self._column_writers)
        if self.searched:
            texts = zip(*(columns[column.name] for column in self.searched), strict=True)
            own += zip(*(words_columns(self.dialect, each) for each in texts), strict=True)
        rows: list[Row] = list(zip(repeat(tenant), ids, repeat(1), repeat(now), repeat(now), *own))
        return rows, self._copies(len(records), columns, self.moment(now))

    def _copies(self, count: int, columns: dict[str, Any], now: datetime) -> list[R]:
        """Records of these fields, with the times and the revision of new ones.

        They are copies, so that no constructor runs, which would take longer than all the rest.
        """
        columns |= {"revision": repeat(1), "created_at": repeat(now), "updated_at": repeat(now)}
        copies = [object.__new__(self.cls) for _ in range(count)]
        for name, set_field in self._setters:
            deque(map(set_field, copies, columns[name]), maxlen=0)
        return copies

    def moment(self, value: Any) -> datetime:
        """A time of the store's own columns."""
        return value if self._moment is None else self._moment(value)  # type: ignore[no-any-return]


def mapping_of(cls: type[R], dialect: Dialect) -> Mapping[R]:
    """The mapping of a declared record class."""
    hashable: Any = cls
    made: Mapping[R] = _made(hashable, dialect)
    return made


@functools.lru_cache(maxsize=256)
def _made(cls: Any, dialect: Dialect) -> Mapping[Any]:
    table = table_of(cls)
    own = tuple(column for column in table.columns if column.name not in STORES_OWN)
    readable = tuple(column for column in table.columns if column.name != "tenant_id")
    names = tuple(column.name for column in readable)
    return Mapping(
        cls,
        table,
        dialect,
        own,
        tuple(column for column in own if column.search),
        issubclass(cls, SoftRecord),
        listed(dialect, (column.name for column in readable)),
        tuple((column.name, dialect.writer(column)) for column in own),
        names,
        tuple((column.name, read) for column in readable if (read := dialect.reader(column)) is not None),
        dialect.reader(table.column("created_at")),
        attrgetter(*names),
        tuple((name, getattr(cls, name).__set__) for name in names),
        tuple((column.name, column_writer(dialect, column)) for column in (table.column("id"), *own)),
    )


def _texts(value: Any) -> Sequence[str]:
    """The texts in a searched field: one, a list of them, or none."""
    return (value,) if isinstance(value, str) else value or ()


def words_columns(dialect: Dialect, values: Sequence[Any]) -> tuple[str, str]:
    """The two columns of words of a searched row: those of its first searched value, then of the rest."""
    first, *rest = (_texts(value) for value in values)
    return dialect.words_column(first), dialect.words_column([text for texts in rest for text in texts])


def numbered(dialect: Dialect, count: int, start: int = 1) -> str:
    """So many placeholders, counted from `start`."""
    return ", ".join(dialect.mark(number) for number in range(start, start + count))


def listed(dialect: Dialect, names: Iterable[str]) -> str:
    """Column names as a statement lists them."""
    return ", ".join(dialect.quoted(name) for name in names)


def assigned(dialect: Dialect, names: Sequence[str], start: int) -> str:
    """`name = placeholder` for each, counted from `start`."""
    return ", ".join(
        f"{dialect.quoted(name)} = {dialect.mark(number)}" for number, name in enumerate(names, start)
    )

"""Tables as plain facts: their columns, what kind of value each holds, and which rows belong together.

Everything that treats tables alike reads this: the repositories, copying between databases, the file
backend. How a kind is spelled in a database is the business of `holdfast.store.dialects`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds, whatever the database calls its type."""

    TEXT = "text"  # no NUL, no lone surrogate
    INTEGER = "integer"  # 64 bits, signed
    REAL = "real"  # finite
    BOOLEAN = "boolean"
    MOMENT = "moment"  # UTC, microseconds
    DURATION = "duration"  # microseconds
    BYTES = "bytes"
    TEXTS = "texts"  # a list of texts
    JSON = "json"  # a JSON object or list, in the text form of the codec
    PAYLOAD = "payload"  # any value, as bytes of the codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `type` is the enum of a closed set of texts."""

    name: str
    kind: Kind
    type: type[StrEnum] | None = None
    nullable: bool = False
    immutable: bool = False
    search: bool = False  # its words are found by full-text search; the first such column ranks highest
    personal: bool = False  # says something about one person: exported and erased with them
    secret: bool = False  # never shown, printed or logged
    filter: str | None = None  # its name in the query language; None: not to be filtered by


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table. `key` is its primary key or, where there is none, what tells its rows apart.

    `owner` names the table and the columns (here) that hold its key, when rows belong to another row and
    live and are dropped together with it. A `sealed` table is written by the verbs of its family alone.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    owner: tuple[str, tuple[str, ...]] | None = None
    sealed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of this name; `KeyError` if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

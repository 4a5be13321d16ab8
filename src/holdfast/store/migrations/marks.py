"""What a MySQL statement leaves behind, so that it can be seen later whether it ran.

DDL commits by itself on MySQL and can not share a transaction with a note about it. When a process died
between the two, the catalogue is asked: `marks` are the tables, columns, indexes … that the statement makes
or takes away. Statements that change nothing by running twice need no marks; one whose effect is not seen in
the catalogue (a procedure that is called, a partition that is added) is `BLIND`.

MySQL and MariaDB (10.6 or newer) make one DDL statement happen wholly or not at all, so one mark tells for
all clauses of an ALTER TABLE. MariaDB drops the tables of one DROP TABLE one after the other; Holdfast's own
migrations drop one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from holdfast.store.migrations.catalogue import catalogue
from holdfast.store.migrations.reader import Name, NotUnderstood, Reader
from holdfast.store.migrations.session import MigrationSession


class Handling(Enum):
    """How the runner makes sure that a statement happens once."""

    ROWS = "rows"  # it changes rows: its note is written in the same transaction
    SETTING = "setting"  # it sets something for the session: run again whenever the migration goes on
    REPEATABLE = "repeatable"  # to run it again changes nothing more
    VISIBLE = "visible"  # the catalogue shows whether it ran
    BLIND = "blind"  # nothing shows it


class Mark(NamedTuple):
    """A thing of the catalogue that is there, or gone, when the statement has run.

    `kind` is a statement of `catalogue`; `table` is None for what stands alone; `schema` None is the store's.
    """

    kind: str
    schema: str | None
    table: str | None
    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known about a statement before it runs."""

    handling: Handling
    marks: tuple[Mark, ...] = ()


_KINDS = frozenset(
    {"table", "view", "column", "index", "constraint", "trigger", "procedure", "function", "event"}
)
_OF_ROWS = frozenset(
    {"INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "WITH", "VALUES", "TABLE", "LOAD", "DO"}
)
_REPEATABLE = frozenset({"ANALYZE", "OPTIMIZE", "CHECK", "REPAIR", "FLUSH", "GRANT", "REVOKE", "SHOW"})
_SETTINGS = frozenset({"SET", "PREPARE", "DEALLOCATE"})
# Clauses of ALTER TABLE that say how the table is from then on.
_TABLE_OPTIONS = frozenset(
    {
        "MODIFY", "ALTER", "ENGINE", "COMMENT", "ROW_FORMAT", "AUTO_INCREMENT", "CONVERT", "DEFAULT",
        "CHARACTER", "CHARSET", "COLLATE", "ORDER", "FORCE", "STATS_PERSISTENT", "STATS_AUTO_RECALC",
        "STATS_SAMPLE_PAGES", "KEY_BLOCK_SIZE", "CHECKSUM", "ALGORITHM", "LOCK", "ENABLE", "DISABLE",
    }
)  # fmt: skip
_INDEX_WORDS = ("INDEX", "KEY")


async def holds(session: MigrationSession, trace: Trace) -> bool:
    """Whether the catalogue looks now as it does after the statement."""
    for mark in trace.marks:
        rows = await session.fetch(catalogue("mysql")[mark.kind], mark.schema, mark.table, mark.name)
        if bool(rows[0][0]) != mark.present:
            return False
    return True


@lru_cache(maxsize=256)
def trace_of(statement: str) -> Trace:
    """What is known about one MySQL statement; `{binary}` may stand in it or be filled in."""
    reader = Reader(statement)
    first = reader.word()
    if first in _OF_ROWS:
        return Trace(Handling.ROWS)
    if first in _SETTINGS:
        return Trace(Handling.SETTING)
    if first in _REPEATABLE:
        return Trace(Handling.REPEATABLE)
    read = _VERBS.get(first)
    if read is None:
        return Trace(Handling.BLIND)
    try:
        return read(reader)
    except NotUnderstood:
        return Trace(Handling.BLIND)


def _visible(marks: list[Mark]) -> Trace:
    """A trace by marks. A thing that is taken away and made again tells nothing."""
    opposites = {mark._replace(present=not mark.present) for mark in marks}
    telling = tuple(mark for mark in marks if mark not in opposites)
    return Trace(Handling.VISIBLE, telling) if telling else Trace(Handling.BLIND)


def _alone(kind: str, name: Name, *, present: bool) -> Mark:
    return Mark(kind, name.schema, None, name.name, present)


_CREATED = (
    "TABLE", "VIEW", "INDEX", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SEQUENCE", "DATABASE", "SCHEMA",
    "USER", "ROLE", "SERVER", "TABLESPACE", "UNDO", "SPATIAL", "PACKAGE",
)  # fmt: skip
_KIND = {"SEQUENCE": "table"}


def _create(reader: Reader) -> Trace:
    if reader.takes("OR", "REPLACE"):
        return Trace(Handling.REPEATABLE)
    kind = reader.skip_to(*_CREATED)
    if kind == "SPATIAL":
        kind = reader.skip_to("INDEX")
    if kind not in ("INDEX", "SEQUENCE") and kind.lower() not in _KINDS:
        return Trace(Handling.BLIND)
    reader.if_exists()
    name = reader.name()
    if kind != "INDEX":
        return _visible([_alone(_KIND.get(kind, kind.lower()), name, present=True)])
    reader.skip_to("ON")
    table = reader.name()
    return _visible([Mark("index", table.schema, table.name, name.name, True)])


def _drop(reader: Reader) -> Trace:
    kind = reader.word()
    if kind not in ("INDEX", "SEQUENCE") and kind.lower() not in _KINDS:
        return Trace(Handling.BLIND)
    reader.if_exists()
    if kind != "INDEX":
        kind = _KIND.get(kind, kind.lower())
        return _visible([_alone(kind, name, present=False) for name in reader.names()])
    name = reader.name()
    reader.skip_to("ON")
    table = reader.name()
    return _visible([Mark("index", table.schema, table.name, name.name, False)])


def _rename(reader: Reader) -> Trace:
    if not reader.takes_one("TABLE", "TABLES"):
        return Trace(Handling.BLIND)
    marks = []
    while True:
        reader.if_exists()
        old = reader.name()
        reader.skip_to("TO")
        marks += [
            _alone("table", old, present=False),
            _alone("table", reader.name(), present=True),
        ]
        if not reader.takes(","):
            return _visible(marks)


def _alter(reader: Reader) -> Trace:
    _ = reader.takes("ONLINE")
    _ = reader.takes("IGNORE")
    if reader.takes_one("DATABASE", "SCHEMA"):
        return Trace(Handling.REPEATABLE)
    if not reader.takes("TABLE"):
        return Trace(Handling.BLIND)
    reader.if_exists()
    return _Alteration(reader).trace()


class _Alteration:
    """The clauses of one ALTER TABLE."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._table = reader.name()
        self._marks: list[Mark] = []
        self._renames: list[Mark] = []
        self._blind = False

    def trace(self) -> Trace:
        """What the clauses leave behind, together."""
        while self._reader.peek() not in ("", ";"):
            self._clause()
            self._reader.skip_clause()
            _ = self._reader.takes(")")  # of a list of columns
            _ = self._reader.takes(",")
        # Under a new name of the table the other marks would be looked for in the wrong place.
        if marks := self._renames or self._marks:
            return _visible(marks)
        return Trace(Handling.BLIND if self._blind else Handling.REPEATABLE)

    def _mark(self, kind: str, name: str, *, present: bool) -> None:
        self._marks.append(Mark(kind, self._table.schema, self._table.name, name, present))

    def _clause(self) -> None:
        verb = self._reader.word()
        if verb == "ADD":
            self._add()
        elif verb == "DROP":
            self._drop()
        elif verb == "RENAME":
            self._rename()
        elif verb == "CHANGE":
            self._change()
        elif verb not in _TABLE_OPTIONS:
            self._blind = True

    def _takes_special(self) -> bool:
        """Take what begins neither a column nor an index; the first two could name a column."""
        return (
            self._reader.takes("SYSTEM", "VERSIONING")
            or self._reader.takes("PERIOD", "FOR")
            or self._reader.takes("PARTITION")
        )

    def _add(self) -> None:
        reader = self._reader
        if self._takes_special():
            self._blind = True
        elif reader.takes("CONSTRAINT"):
            reader.if_exists()
            self._add_constraint()
        elif reader.takes("PRIMARY"):
            self._mark("index", "PRIMARY", present=True)
        elif reader.takes_one("CHECK", "FOREIGN"):
            self._blind = True  # the database chooses its name
        elif reader.peek() in ("UNIQUE", "FULLTEXT", "SPATIAL", *_INDEX_WORDS):
            _ = reader.takes_one("UNIQUE", "FULLTEXT", "SPATIAL")
            _ = reader.takes_one(*_INDEX_WORDS)
            reader.if_exists()
            self._add_named("index")
        else:
            self._add_columns()

    def _add_named(self, kind: str) -> None:
        if self._reader.peek() in ("(", "USING"):
            self._blind = True
        else:
            self._mark(kind, self._reader.plain_name(), present=True)

    def _add_constraint(self) -> None:
        if self._reader.takes("PRIMARY"):
            self._mark("index", "PRIMARY", present=True)
        elif self._reader.peek() in ("UNIQUE", "CHECK", "FOREIGN"):
            self._blind = True
        else:
            name = self._reader.plain_name()
            is_primary = self._reader.takes("PRIMARY")
            self._mark(*(("index", "PRIMARY") if is_primary else ("constraint", name)), present=True)

    def _add_columns(self) -> None:
        reader = self._reader
        _ = reader.takes("COLUMN")
        reader.if_exists()
        several = reader.takes("(")
        self._mark("column", reader.plain_name(), present=True)
        reader.skip_clause()
        while several and reader.takes(","):
            self._mark("column", reader.plain_name(), present=True)
            reader.skip_clause()
        if several and reader.peek() != ")":
            raise NotUnderstood

    def _drop(self) -> None:
        reader = self._reader
        if self._takes_special():
            self._blind = True
            return
        if reader.takes("PRIMARY"):
            self._mark("index", "PRIMARY", present=False)
            return
        kind = "column"
        if reader.takes_one(*_INDEX_WORDS):
            kind = "index"
        elif reader.takes("FOREIGN", "KEY") or reader.takes_one("CONSTRAINT", "CHECK"):
            kind = "constraint"
        _ = reader.takes("COLUMN")
        reader.if_exists()
        self._mark(kind, reader.plain_name(), present=False)

    def _rename(self) -> None:
        reader = self._reader
        kind = "column" if reader.takes("COLUMN") else "index" if reader.takes_one(*_INDEX_WORDS) else None
        if kind is not None:
            reader.if_exists()
            self._mark(kind, reader.plain_name(), present=False)
            reader.skip_to("TO")
            self._mark(kind, reader.plain_name(), present=True)
            return
        _ = reader.takes_one("TO", "AS", "=")
        new = reader.name()
        self._renames = [
            _alone("table", self._table, present=False),
            _alone("table", new, present=True),
        ]

    def _change(self) -> None:
        _ = self._reader.takes("COLUMN")
        self._reader.if_exists()
        old, new = self._reader.plain_name(), self._reader.plain_name()
        if old.lower() != new.lower():
            self._mark("column", old, present=False)
            self._mark("column", new, present=True)


_VERBS: dict[str, Callable[[Reader], Trace]] = {
    "CREATE": _create,
    "DROP": _drop,
    "RENAME": _rename,
    "ALTER": _alter,
}

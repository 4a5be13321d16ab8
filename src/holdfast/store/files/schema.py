"""What an index has beside the tables of a store: notes of what changed, and what was written where.

The notes are made by triggers, in the transaction of the change itself, so no change can be without its note.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.records.tables import Kind, Table
from holdfast.store.files.aggregates import aggregates, root_columns

TABLES = """
CREATE TABLE IF NOT EXISTS mirror_pending (
    aggregate TEXT NOT NULL,
    key TEXT NOT NULL,
    change INTEGER NOT NULL,
    PRIMARY KEY (aggregate, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mirror_files (
    path TEXT NOT NULL PRIMARY KEY,
    aggregate TEXT NOT NULL,
    key TEXT NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    digest BLOB,
    next_digest BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS mirror_files_of ON mirror_files (aggregate, key);
CREATE TABLE IF NOT EXISTS mirror_state (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""


def statements() -> Iterator[str]:
    """Everything that makes an index out of a current SQLite store; harmless to run again."""
    yield from (text.strip() for text in TABLES.split(";") if text.strip())
    for aggregate in aggregates().values():
        for table in aggregate.tables:
            for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
                name = f"mirror_{table.name}_{event.lower()}"
                yield f"DROP TRIGGER IF EXISTS {name}"
                yield (
                    f"CREATE TRIGGER {name} AFTER {event} ON {table.name} BEGIN "
                    f"INSERT INTO mirror_pending (aggregate, key, change) "
                    f"VALUES ('{aggregate.name}', {_key(table, row)}, 1) "
                    f"ON CONFLICT (aggregate, key) DO UPDATE SET change = change + 1; END"
                )


def _key(table: Table, row: str) -> str:
    """The expression for the key of the document that a row belongs to."""
    parts = []
    for name in root_columns(table):
        spelled = f"{row}.{name}"
        parts.append(f"hex({spelled})" if table.column(name).kind is Kind.BYTES else spelled)
    return f"json_array({', '.join(parts)})"

"""An index that was lost, made anew from the documents: every row comes back, or nothing does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast.errors import DamagedData
from holdfast.store.drivers.base import Driver, Transaction
from holdfast.store.files.aggregates import aggregates
from holdfast.store.files.edits import documents, read_document, spelled_key
from holdfast.store.files.rendering import DIALECT
from holdfast.store.table_rows import table_rows

_STATE = "SELECT value FROM mirror_state WHERE name = 'filled'"
_FILLED = "INSERT INTO mirror_state (name, value) VALUES ('filled', ?1)"
_WRITTEN = (
    "INSERT INTO mirror_files (path, aggregate, key, size, mtime_ns, digest, next_digest) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)"
)


async def fill_if_new(driver: Driver, base: Path) -> int:
    """Read all documents into an index that has never been filled; how many there were.

    In one transaction with the mark that it is done: a process that dies on the way leaves an index that is
    filled the next time. Raises `DamagedData` with the place of a document that can not be read; nothing is
    taken in then.
    """
    if await driver.fetch_text(_STATE):
        return 0
    found = await asyncio.to_thread(lambda: list(documents(base)))
    async with driver.transaction() as transaction:
        await transaction.fetch_text("PRAGMA defer_foreign_keys = ON")
        order = {name: number for number, name in enumerate(aggregates())}
        for path in sorted(found, key=lambda path: order[path.relative_to(base).parts[0]]):
            await _fill(transaction, base, path)
        await transaction.fetch_text("DELETE FROM mirror_pending")
        await transaction.fetch_text(_FILLED, str(len(found)))
    return len(found)


async def _fill(transaction: Transaction, base: Path, path: Path) -> None:
    aggregate, rows, digest = await asyncio.to_thread(read_document, base, path)
    place = str(path.relative_to(base))
    for table in aggregate.tables:
        into = table_rows(table, DIALECT)
        try:
            await transaction.load(table.name, into.written, [into.bound(row) for row in rows[table.name]])
        except Exception as error:
            raise DamagedData(f"{place} does not fit into {table.name}: {error}", where=place) from error
    (root,) = rows[aggregate.root.name]
    about = await asyncio.to_thread(path.stat)
    key = spelled_key(aggregate, root)
    about_file = (about.st_size, about.st_mtime_ns, digest)
    await transaction.fetch_text(_WRITTEN, place, aggregate.name, key, *about_file)

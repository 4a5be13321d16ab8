"""What people have done to the documents: looked at when a store is opened for work, taken in or reported.

A record whose document carries the stored revision is changed by it, and a new document of a record makes
one. Everything else is reported and left as it is: history is not written by hand, and a file that can not be
read is never dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import DamagedData, HoldfastError
from holdfast.records.tables import Kind, Table
from holdfast.store.drivers.base import Driver
from holdfast.store.files.aggregates import Aggregate, aggregates
from holdfast.store.files.documents import parse
from holdfast.store.files.mirror import is_ours
from holdfast.store.files.place import TEMPORARY, Form, digest_of, form_of, unpacked
from holdfast.store.files.rendering import DIALECT, path_of, read_rows, rows_of
from holdfast.store.table_rows import Plain, table_rows

_logger = logging.getLogger("holdfast.files")


@dataclass(frozen=True, slots=True)
class Problem:
    """A document that was not taken in: its file, and why."""

    path: str
    cause: str


def documents(base: Path) -> Iterator[Path]:
    """Every file that is or claims to be a document, by name; what an interrupted writing left is removed."""
    for name in aggregates():
        for path in sorted((base / name).rglob("*")):
            if path.name.startswith(TEMPORARY):
                path.unlink(missing_ok=True)
            elif path.is_file() and form_of(path) is not None:
                yield path


def read_document(base: Path, path: Path) -> tuple[Aggregate, dict[str, list[Plain]], bytes]:
    """The rows of a file, and the digest of what it holds. Raises `DamagedData` with the place."""
    place = str(path.relative_to(base))
    try:
        data = path.read_bytes()
        text = unpacked(path, data)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedData(f"{place} can not be read: {error}", where=place) from None
    aggregate, rows = rows_of(parse(text, form_of(path) or "yaml", place=place), place=place)
    return aggregate, rows, digest_of(data)


async def look(driver: Driver, base: Path, form: Form, *, apply: bool) -> list[Problem]:
    """Compare the documents with what was written; with `apply` take in what can be.

    Missing documents are noted to be written again. Returns what could not be taken in.
    """
    problems = []
    for path in await asyncio.to_thread(lambda: list(documents(base))):
        if await is_ours(driver, base, path):
            continue
        place = str(path.relative_to(base))
        try:
            await _take_in(driver, base, path, form, apply=apply)
        except (HoldfastError, OSError) as error:
            cause = error.cause if isinstance(error, HoldfastError) else str(error)
            problems.append(Problem(place, cause))
            _logger.warning("%s is not taken in: %s", place, cause)
    if apply:
        await _note_missing(driver, base)
    return problems


async def _take_in(driver: Driver, base: Path, path: Path, form: Form, *, apply: bool) -> None:
    aggregate, rows, digest = await asyncio.to_thread(read_document, base, path)
    (root,) = rows[aggregate.root.name]
    expected, place = path_of(aggregate, root, form), str(path.relative_to(base))
    if str(expected) != place:
        raise DamagedData(f"it holds what belongs into {expected}", where=place)
    if "revision" not in aggregate.root.names:
        raise DamagedData("history and definitions are not changed by hand", where=place)
    into = table_rows(aggregate.root, DIALECT)
    async with driver.transaction() as transaction:
        stored = await read_rows(transaction, aggregate, into.key_of(root))
        changed = _changed(aggregate, rows, stored, place)
        if not apply:
            return
        if changed is not None:
            await transaction.fetch_text(into.upsert(), *into.bound(changed))
        # What the file holds is in the store now: it may be written anew.
        spelled = spelled_key(aggregate, root)
        await transaction.fetch_text(_NOTE, aggregate.name, spelled)
        await transaction.fetch_text(_OURS, place, aggregate.name, spelled, digest)


_OURS = (
    "INSERT INTO mirror_files (path, aggregate, key, digest, next_digest) VALUES (?1, ?2, ?3, ?4, ?4) "
    "ON CONFLICT (path) DO UPDATE SET digest = ?4, next_digest = ?4, size = NULL"
)


def _changed(
    aggregate: Aggregate, rows: dict[str, list[Plain]], stored: dict[str, list[Plain]], place: str
) -> Plain | None:
    """The root row that an edit makes, with the next revision; None if it says what is stored."""
    table, (edited,) = aggregate.root, rows[aggregate.root.name]
    _check_values(table, edited, place)
    revision = table.names.index("revision")
    before = stored[table.name][0] if stored[table.name] else None
    for part in aggregate.parts:
        if rows[part.name] != stored.get(part.name, []):
            raise DamagedData(f"{part.name} are not changed by hand", where=place)
    if before is None:
        return _with(edited, revision, 1)
    if edited == before:
        return None
    if edited[revision] != before[revision]:
        raise DamagedData(
            f"it was made of revision {edited[revision]}, and revision {before[revision]} is stored",
            where=place,
        )
    for number, column in enumerate(table.columns):
        if column.immutable and edited[number] != before[number]:
            raise DamagedData(f"{column.name} can not be changed", where=f"{place}: {column.name}")
    return _with(edited, revision, before[revision] + 1)


def _check_values(table: Table, row: Plain, place: str) -> None:
    """Texts of closed sets, and texts that no column takes: what the store would refuse."""
    for column, value in zip(table.columns, row, strict=True):
        if column.type is not None and value is not None and value not in list(column.type):
            known = ", ".join(column.type)
            raise DamagedData(f"{column.name} is one of {known}", where=f"{place}: {column.name}")
        if column.kind is Kind.TEXT and value is not None and "\0" in value:
            raise DamagedData(f"{column.name} holds a NUL character", where=f"{place}: {column.name}")


def _with(row: Plain, position: int, value: int) -> Plain:
    return (*row[:position], value, *row[position + 1 :])


def spelled_key(aggregate: Aggregate, root: Plain) -> str:
    """The key of a root row as notes spell it."""
    parts = table_rows(aggregate.root, DIALECT).key_of(root)
    return json.dumps(
        [part.hex().upper() if isinstance(part, bytes) else part for part in parts],
        ensure_ascii=False,
        separators=(",", ":"),
    )


_NOTE = (
    "INSERT INTO mirror_pending (aggregate, key, change) VALUES (?1, ?2, 1) "
    "ON CONFLICT (aggregate, key) DO UPDATE SET change = change + 1"
)


async def _note_missing(driver: Driver, base: Path) -> None:
    """Have documents that were removed by hand written again: the index is what counts."""
    rows = await driver.fetch_text("SELECT path, aggregate, key FROM mirror_files WHERE digest IS NOT NULL")
    missing = [row for row in rows if not (base / row[0]).exists()]
    if missing:
        async with driver.transaction() as transaction:
            for path, aggregate, key in missing:
                _logger.warning("%s was removed by hand and is written again", path)
                await transaction.fetch_text(_NOTE, aggregate, key)

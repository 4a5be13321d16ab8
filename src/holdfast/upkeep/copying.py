"""A store copied into another, of whatever kind each is: streamed, resumable, compared at the end.

Rows go table by table in the order of their keys. A batch and the note of how far it came are one
transaction of the target, so a copy that was killed at any point goes on behind the last batch that is there,
and no row is there twice. At the end both stores are read once more and compared by count and digest; a table
that differs, because the source changed meanwhile, is put right row by row and compared again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec

from holdfast.errors import CopyDiffers, CopyUnfinished, StoreInUse, TargetNotEmpty
from holdfast.records.keys import new_id
from holdfast.records.tables import Table
from holdfast.store.dialects import dialect_of
from holdfast.store.drivers.base import Transaction
from holdfast.store.store import Store
from holdfast.store.table_rows import Digest, Plain, TableRows, pages, table_rows
from holdfast.upkeep.selection import Selection

_REPAIRS_MAX = 3

Report = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is: rows of one table, and what is being done with them."""

    table: str
    rows: int
    total: int
    stage: str  # copying, comparing or repairing


@dataclass(frozen=True, slots=True)
class Compared:
    """One table in both stores."""

    table: str
    rows: int
    digest: str


@dataclass(slots=True)
class Copied:
    """What a copy did: rows written, rows put right afterwards, and what both stores hold now."""

    rows: int = 0
    repaired: int = 0
    tables: list[Compared] = field(default_factory=list)


class Copy:
    """One copy from an open store into another open store; nothing else may write to either."""

    def __init__(
        self, source: Store, target: Store, selection: Selection, report: Report = lambda progress: None
    ) -> None:
        self._source, self._target, self._selection, self._report = source, target, selection, report
        self._id = ""
        self._done = Copied()

    async def run(self, *, resume: bool = False) -> Copied:
        """Copy, compare, and put right what differs.

        With `resume` an unfinished copy goes on, and a finished one is brought up to date. Raises
        `StoreInUse`, `TargetNotEmpty`, `CopyUnfinished`, and `CopyDiffers` when both are still not equal at
        the end.
        """
        await self._check_idle(self._source)
        await self._check_idle(self._target)
        begin_at, after = await self._begin(resume)
        tables = self._selection.tables()
        names = [table.name for table in tables]
        if begin_at is not None:
            start = names.index(begin_at) if begin_at in names else 0
            for table in tables[start:]:
                await self._fill(table, after)
                after = None
        self._done.tables = await self._settle(tables)
        await self._target.driver.fetch("copies.finish", self._id)
        return self._done

    async def compare(self) -> list[Compared]:
        """Compare both stores without writing. Raises `CopyDiffers` that names the tables."""
        compared, differing = await self._compare(self._selection.tables())
        if differing:
            raise _differs(differing)
        return compared

    async def _check_idle(self, store: Store) -> None:
        present = await store.driver.fetch("copies.present")
        if present:
            raise StoreInUse(
                f"{len(present)} or more processes work on {store.place or store.driver.dialect}: "
                + ", ".join(f"{host} pid {pid}" for host, pid in present),
                where=store.place,
            )

    async def _begin(self, resume: bool) -> tuple[str | None, Plain | None]:
        """Where to go on: a table and a key in it; no table when all rows were copied before."""
        spelled = json.dumps(
            {"only": sorted(self._selection.only), "since": str(self._selection.since or "")}
        )
        rows = await self._target.driver.fetch("copies.latest")
        if not rows:
            await self._check_empty()
            self._id = new_id()
            await self._target.driver.fetch("copies.begin", self._id, self._source.place, spelled)
            return "", None
        self._id, source, selection, table, after, self._done.rows, finished = rows[0]
        if (source, selection) != (self._source.place, spelled):
            raise CopyUnfinished(
                f"this store was filled by another copy, from {source} with {selection}",
                fix="copy the same again with --resume, or into a new store",
            )
        if not resume:
            state = "complete" if finished else f"not finished: it stands at {table or 'the beginning'}"
            raise CopyUnfinished(
                f"a copy into this store is {state}", fix="go on with it: the same command with --resume"
            )
        if finished:
            return None, None
        return table, None if after is None else tuple(msgspec.msgpack.decode(bytes(after)))

    async def _check_empty(self) -> None:
        for table in self._selection.tables():
            rows = table_rows(table, dialect_of(self._target.driver))
            text, values = rows.page(None, 1)
            if await self._target.driver.fetch_text(text, *values):
                raise TargetNotEmpty(
                    f"the target holds {table.name} already", where=self._target.place, table=table.name
                )

    # Filling.

    async def _fill(self, table: Table, after: Plain | None) -> None:
        into = table_rows(table, dialect_of(self._target.driver))
        total, rows = await self._count(table), 0
        async for page in self._pages(self._source, table, after):
            key = into.key_of(page[-1])
            async with self._target.transaction() as transaction:
                await transaction.load(table.name, into.written, [into.bound(row) for row in page])
                await self._note(transaction, table, key, len(page))
            rows += len(page)
            self._report(Progress(table.name, rows, total, "copying"))

    async def _note(self, transaction: Transaction, table: Table, key: Plain | None, rows: int) -> None:
        self._done.rows += rows
        noted = None if key is None else msgspec.msgpack.encode(key)
        await transaction.fetch("copies.advance", self._id, table.name, noted, self._done.rows)

    async def _count(self, table: Table) -> int:
        driver = self._source.driver
        rows = await driver.fetch_text(f"SELECT count(*) FROM {dialect_of(driver).table(table.name)}")
        return int(rows[0][0])

    def _pages(self, store: Store, table: Table, after: Plain | None = None) -> AsyncIterator[list[Plain]]:
        """The rows of a table that are selected, in the order of their key."""
        rows = table_rows(table, dialect_of(store.driver))
        return pages(store.driver, rows, after, since=self._selection.beginning(table))

    # Comparing.

    async def _settle(self, tables: list[Table]) -> list[Compared]:
        for _ in range(_REPAIRS_MAX):
            compared, differing = await self._compare(tables)
            if not differing:
                return compared
            for table in differing:  # parents before their children
                await self._repair(table, deleting=False)
            for table in reversed(differing):
                await self._repair(table, deleting=True)
        compared, differing = await self._compare(tables)
        if differing:
            raise _differs(differing)
        return compared

    async def _compare(self, tables: list[Table]) -> tuple[list[Compared], list[Table]]:
        compared, differing = [], []
        for table in tables:
            here, there = await self._digest(self._source, table), await self._digest(self._target, table)
            compared.append(Compared(table.name, here.rows, here.hex))
            if (here.rows, here.hex) != (there.rows, there.hex):
                differing.append(table)
        return compared, differing

    async def _digest(self, store: Store, table: Table) -> Digest:
        digest = Digest()
        async for page in self._pages(store, table):
            digest.add(page)
            self._report(Progress(table.name, digest.rows, 0, "comparing"))
        return digest

    # Putting right.

    async def _repair(self, table: Table, *, deleting: bool) -> None:
        """Make the target's rows those of the source, page by page: write what differs, or delete."""
        into, floor = table_rows(table, dialect_of(self._target.driver)), None
        async for page in self._pages(self._source, table):
            until = into.key_of(page[-1])
            await self._replace(into, page, floor, until, deleting=deleting)
            floor = until
            self._report(Progress(table.name, self._done.repaired, 0, "repairing"))
        await self._replace(into, [], floor, None, deleting=deleting)

    async def _replace(
        self, into: TableRows, page: list[Plain], floor: Plain | None, until: Plain | None, *, deleting: bool
    ) -> None:
        wanted = {into.key_of(row): row for row in page}
        found: dict[Plain, Plain] = {}
        since = self._selection.beginning(into.table)
        async for there in pages(self._target.driver, into, floor, until=until, since=since):
            found.update((into.key_of(row), row) for row in there)
        gone = [key for key in found if key not in wanted] if deleting else []
        changed = [] if deleting else [row for key, row in wanted.items() if found.get(key) != row]
        if not gone and not changed:
            return
        async with self._target.transaction() as transaction:
            for key in gone:
                await transaction.fetch_text(into.delete(), *into.key_values(key))
            for row in changed:
                await transaction.fetch_text(into.upsert(), *into.bound(row))
        self._done.repaired += len(gone) + len(changed)


def _differs(tables: list[Table]) -> CopyDiffers:
    names = ", ".join(table.name for table in tables)
    return CopyDiffers(f"source and target differ in {names}", tables=[table.name for table in tables])

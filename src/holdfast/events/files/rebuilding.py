"""A store made of a log in files: its executions, their definitions and their whole history.

An unfinished execution is ready to go on from its last recorded result. What was never an event is not there:
messages that no execution had received, queues and their limits, and every other record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import DamagedData, NoStore, TargetNotEmpty
from holdfast.events.files.layout import REPLACED, execution_folders
from holdfast.events.files.lines import Logged, LoggedEvent, definition_key
from holdfast.events.files.reading import lines_below
from holdfast.events.files.stored import execution_keys
from holdfast.records.engine_tables import DEFINITIONS, EVENTS, EXECUTION_DETAILS, EXECUTIONS, PAYLOADS
from holdfast.records.events import EventType
from holdfast.records.tables import Table
from holdfast.store.dialects import dialect_of
from holdfast.store.drivers.base import Transaction
from holdfast.store.store import Store
from holdfast.store.table_rows import Plain, table_rows

_ENDS = {
    EventType.EXECUTION_COMPLETED: "completed",
    EventType.EXECUTION_FAILED: "failed",
    EventType.EXECUTION_CANCELLED: "cancelled",
}


@dataclass(slots=True)
class Rebuilt:
    """What was made of a log. `present` were in the store already, from an attempt that was interrupted."""

    executions: int = 0
    unfinished: int = 0
    events: int = 0
    present: int = 0


class Rebuilding:
    """Fills an open store from the files below a folder. Interrupted, it goes on when it is run again."""

    def __init__(self, store: Store, base: Path, report: Callable[[Rebuilt], None]) -> None:
        self._store = store
        self._base = base
        self._report = report
        self._definitions: set[tuple[str, bytes]] = set()
        self._done = Rebuilt()

    async def run(self) -> Rebuilt:
        """Each execution is one transaction.

        Raises `NoStore` when there is no log, `TargetNotEmpty` when the store has executions that are not in
        it, `DamagedData` with the file and the offset; what was filled before stays.
        """
        found = await asyncio.to_thread(execution_folders, self._base)
        folders = [folder for folder in found if REPLACED not in folder.name]
        if not folders:
            raise NoStore(f"No event log at {self._base}", fix="name the folder that event_log.dir named")
        present = {key async for page in execution_keys(self._store) for key, _, _ in page}
        if present:
            await self._refuse_others(present, folders)
        for folder in folders:
            logged = await asyncio.to_thread(_read, folder)
            if not logged:
                continue
            if logged[0].event.execution in present:
                self._done.present += 1
            else:
                await self._fill(folder, logged)
            self._report(self._done)
        return self._done

    async def _refuse_others(self, present: set[bytes], folders: Sequence[Path]) -> None:
        """The store has executions; they may only be those of this log."""
        known = {await asyncio.to_thread(_key_of, folder) for folder in folders}
        if others := present - known:
            raise TargetNotEmpty(
                f"the store has {len(others)} executions that are not in the log",
                where=self._store.place,
                fix="rebuild into a new store",
            )

    async def _fill(self, folder: Path, logged: Sequence[Logged]) -> None:
        about = logged[0].about
        if about is None:
            raise DamagedData("the first line tells nothing of its execution", where=str(folder))
        events = [each.event for each in logged]
        execution = _standing(about.execution, events)
        async with self._store.transaction() as transaction:
            known = definition_key(about.execution)
            if about.definition is not None and known not in self._definitions:
                await self._define(transaction, known, about.definition)
            await self._load(transaction, EXECUTIONS, [execution])
            if about.details is not None:
                await self._load(transaction, EXECUTION_DETAILS, [about.details])
            bodies = {event.ref: event for event in events if event.ref and event.value is not None}
            await self._load(
                transaction, PAYLOADS, [(e.execution, e.ref, e.tenant, e.value) for e in bodies.values()]
            )
            await self._load(transaction, EVENTS, [_row(event) for event in events])
        self._definitions.add(known)
        self._done.executions += 1
        self._done.events += len(events)
        self._done.unfinished += execution[EXECUTIONS.names.index("finished_at")] is None

    async def _define(self, transaction: Transaction, key: tuple[str, bytes], definition: Plain) -> None:
        if not await transaction.fetch("workflows.get_definition", *key):
            await self._load(transaction, DEFINITIONS, [definition])

    async def _load(self, transaction: Transaction, table: Table, rows: Sequence[Plain]) -> None:
        if rows:
            into = table_rows(table, dialect_of(self._store.driver))
            await transaction.load(table.name, into.written, [into.bound(row) for row in rows])


def _read(folder: Path) -> list[Logged]:
    return list(lines_below(folder))


def _key_of(folder: Path) -> bytes | None:
    first = next(lines_below(folder), None)
    return None if first is None else first.event.execution


def _row(event: LoggedEvent) -> Plain:
    inline = event.value if event.ref is None else None
    return (*event[:14], inline, event.ref)


def _standing(execution: Plain, events: Sequence[LoggedEvent]) -> Plain:
    """An execution's row as its events leave it."""
    status, finished_at = "ready", None
    for event in events:
        if event.type in _ENDS:
            status, finished_at = _ENDS[EventType(event.type)], event.at
        elif event.type == EventType.STEP_RESET:  # a retry took the end back
            status, finished_at = "ready", None
    row = dict(zip(EXECUTIONS.names, execution, strict=True))
    row |= {"status": status, "finished_at": finished_at, "owner": None, "due_at": None, "blocked_on": None}
    row |= {"epoch": max(event.epoch for event in events), "recoveries": 0, "wakes": 0}
    return tuple(row.values())

"""Runs a migration statement by statement where DDL commits by itself (MySQL, MariaDB).

What ran is noted in `schema_migration_steps`, so that a process that dies at any point leaves a migration
that the next one finishes:

    DDL     note `begun` · COMMIT · the statement · note `done` · COMMIT
    rows    BEGIN · the statement · note `done` · COMMIT
    end     BEGIN · ledger row · notes removed · COMMIT

Statements that stand together and all only make things, or all only take things away, share their notes,
since the marks of one then say nothing about another: a commit costs more than most of them.

A statement that is noted as done is not run again. One that was begun and not done may have run: its marks in
the catalogue tell (`marks`). A failed statement is noted as not begun; it and all behind it may be corrected
in the file, while an edit before it is an error. SET and its like are run again: they were the session's.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from holdfast.errors import (
    DowngradeRefused,
    HoldfastError,
    MigrationChanged,
    MigrationFailed,
    MigrationUnclear,
    StoreUnavailable,
    UnknownOutcome,
)
from holdfast.store.migrations.data_loss import Loss
from holdfast.store.migrations.execution import Execution, refusal
from holdfast.store.migrations.files import Migration
from holdfast.store.migrations.ledger import Ledger, Step
from holdfast.store.migrations.marks import Handling, Trace, holds, trace_of
from holdfast.store.migrations.plan import Direction
from holdfast.store.migrations.session import MigrationSession

if TYPE_CHECKING:
    from holdfast.store.migrations.parser import Section, Statement

_GROUP_MAX = 100
_logger = logging.getLogger("holdfast.migrations")


class _Place(NamedTuple):
    """A statement, and where it stands; `number` counts from 1."""

    migration: Migration
    direction: Direction
    section: Section
    number: int
    statement: Statement
    trace: Trace

    def step(self, *, seen_before: bool = False) -> Step:
        return Step(
            self.migration.version,
            self.number,
            str(self.direction),
            checksum_of(self.statement),
            is_done=False,
            seen_before=seen_before,
        )


class Stepwise:
    """Runs migrations of one command, one at a time, under the lock."""

    def __init__(self, session: MigrationSession, ledger: Ledger, execution: Execution) -> None:
        self._session = session
        self._ledger = ledger
        self._execution = execution

    async def run(
        self, migration: Migration, direction: Direction, section: Section, *, guarded: bool
    ) -> None:
        """Run a section, or what is left of it, and record it; `guarded` refuses to lose rows.

        Raises as `Execution.run`, MigrationChanged (a statement that ran was edited), MigrationUnclear.
        """
        begun = time.perf_counter()
        try:
            await self._ledger.ensure()
            noted = await self._noted(migration, section)
            places = [
                _Place(migration, direction, section, number, statement, self._trace(statement))
                for number, statement in enumerate(section.statements, start=1)
            ]
            left = [place for place in places if not (step := noted.get(place.number)) or not step.is_done]
            for group in _groups(left, noted):
                await self._group(group, noted, guarded=guarded)
            async with self._session.transaction():
                if direction is Direction.UP:
                    await self._ledger.add(migration)
                    took_ms = round((time.perf_counter() - begun) * 1000)
                    await self._ledger.finish(migration.version, took_ms)
                else:
                    await self._ledger.remove(migration.version)
                await self._ledger.forget_steps(migration.version)
        except (MigrationFailed, MigrationChanged, MigrationUnclear, DowngradeRefused):
            raise
        except (StoreUnavailable, UnknownOutcome):
            raise
        except HoldfastError as error:
            raise self._execution.failed_outside(migration, section, error) from error

    async def _noted(self, migration: Migration, section: Section) -> dict[int, Step]:
        found = {s.number: s for s in await self._ledger.steps() if s.version == migration.version}
        for step in found.values():
            is_there = step.number <= len(section.statements)
            if is_there and checksum_of(section.statements[step.number - 1]) == step.checksum:
                continue
            line = section.statements[step.number - 1].line if is_there else 1
            raise MigrationChanged(
                f"migration {migration.label} stopped half-way, and its statement {step.number}, which was "
                "run, has been edited since",
                where=f"{migration.source}:{line}",
                fix=f"restore the first {max(found)} statements as they were; those behind them may change",
                versions=[migration.version],
            )
        if found:
            _logger.info("migration %d (%s) goes on", migration.version, migration.name)
        return found

    def _trace(self, statement: Statement) -> Trace:
        return trace_of(self._execution.text(statement))

    async def _group(self, group: Sequence[_Place], noted: Mapping[int, Step], *, guarded: bool) -> None:
        first = group[0]
        if first.trace.handling is Handling.SETTING:
            await self._run(first)
        elif first.trace.handling is Handling.ROWS:
            await self._rows(first, guarded=guarded)
        elif (step := noted.get(first.number)) is not None and await self._ran(first, step):
            await self._ledger.end_steps(first.migration.version, first.number, first.number)
        else:
            await self._definitions(group, is_noted=step is not None, guarded=guarded)

    async def _run(self, place: _Place) -> None:
        await self._execution.run(place.migration, place.section, place.statement)

    async def _rows(self, place: _Place, *, guarded: bool) -> None:
        async with self._session.transaction():
            await self._ledger.begin_step(place.step())
            await self._run(place)
            deletes = place.statement.text.lstrip()[:6].upper() == "DELETE"
            if guarded and deletes and await self._changed_rows():
                raise refusal(place.migration, place.statement, Loss("DELETE of rows", None))
            await self._ledger.end_steps(place.migration.version, place.number, place.number)

    async def _changed_rows(self) -> bool:
        rows = await self._session.fetch("SELECT row_count() > 0")
        return bool(rows[0][0])

    async def _definitions(self, group: Sequence[_Place], *, is_noted: bool, guarded: bool) -> None:
        version, last = group[0].migration.version, group[-1].number
        if not is_noted:
            begun = [place.step(seen_before=await self._sees(place)) for place in group]
            async with self._session.transaction():
                for step in begun:
                    await self._ledger.begin_step(step)
        for place in group:
            try:
                await self._guarded_run(place, guarded=guarded)
            except (StoreUnavailable, UnknownOutcome):
                raise
            except HoldfastError:
                async with self._session.transaction():
                    await self._ledger.end_steps(version, group[0].number, place.number - 1)
                    await self._ledger.forget_steps(version, place.number, last)
                raise
        await self._ledger.end_steps(version, group[0].number, last)

    async def _sees(self, place: _Place) -> bool:
        return place.trace.handling is Handling.VISIBLE and await holds(self._session, place.trace)

    async def _guarded_run(self, place: _Place, *, guarded: bool) -> None:
        if not guarded:
            await self._run(place)
            return
        async with self._unlocked_afterwards():
            await self._execution.refuse_loss(place.migration, place.statement, lock=True)
            await self._run(place)

    @asynccontextmanager
    async def _unlocked_afterwards(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            with suppress(StoreUnavailable, UnknownOutcome):  # the locks went with the connection
                await self._session.execute("UNLOCK TABLES")

    async def _ran(self, place: _Place, step: Step) -> bool:
        """Whether a statement that was begun by a process that is gone ran."""
        if place.trace.handling is Handling.BLIND:
            raise MigrationUnclear(
                f"migration {place.migration.label} stopped at `{place.statement.summary}`, and nothing in "
                "the database tells whether that ran",
                where=f"{place.migration.source}:{place.statement.line}",
                fix=f"look at the database, then: holdfast storage migrate resolve {step.version} --ran "
                "(it did) or --did-not-run",
                version=step.version,
                statement=place.statement.text,
            )
        # Seen before it ran, the marks tell nothing; then it failed or changes nothing, and does so again.
        return not step.seen_before and await self._sees(place)


def _groups(places: Iterable[_Place], noted: Mapping[int, Step]) -> Iterator[list[_Place]]:
    """The statements that share their notes, in order; one that was begun before stands alone."""
    group: list[_Place] = []
    for place in places:
        if group and _may_join(group[-1], place, noted) and len(group) < _GROUP_MAX:
            group.append(place)
            continue
        if group:
            yield group
        group = [place]
    if group:
        yield group


def _may_join(before: _Place, place: _Place, noted: Mapping[int, Step]) -> bool:
    both = (before, place)
    return (
        all(each.trace.handling is Handling.VISIBLE and each.number not in noted for each in both)
        and len({mark.present for each in both for mark in each.trace.marks}) == 1
        and place.number == before.number + 1
    )


def checksum_of(statement: Statement) -> str:
    """What a statement is recognised by."""
    return hashlib.sha256(statement.text.encode()).hexdigest()

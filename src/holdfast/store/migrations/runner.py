"""Applies migrations and takes them back, one by one, behind the lock of the database.

A command first reads the ledger without the lock; when there is nothing to do it is over. Otherwise it takes
the lock and reads again: of many processes that start at once, one migrates and the others, when they
get the lock, find nothing left.

    one migration     BEGIN · ledger row · its statements · COMMIT       all of it happens, or none
    notransaction     its statements, one by one · ledger row            for what the database refuses inside
                                                                         a transaction
    on MySQL          statement by statement, each of them noted         see `stepwise`

Because the ledger row is written first, a process that came past the lock would stop at its primary key
before it changed anything. A `notransaction` migration that is interrupted runs again from its first
statement, so each of its statements must be repeatable (`IF NOT EXISTS`); its error says what stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from holdfast.errors import (
    DowngradeRefused,
    HoldfastError,
    InvalidArgument,
    MigrationFailed,
    MigrationsPending,
    StoreUnavailable,
    UnknownOutcome,
)
from holdfast.store.migrations import plan
from holdfast.store.migrations.execution import Execution
from holdfast.store.migrations.files import Migration, MigrationSet
from holdfast.store.migrations.ledger import Ledger
from holdfast.store.migrations.plan import Direction, MigrationState
from holdfast.store.migrations.session import MigrationSession

if TYPE_CHECKING:
    from holdfast.store.migrations.parser import Section

LOCK_TIMEOUT = timedelta(seconds=60)

Progress = Callable[[Migration, int, int], None]
"""Called before each migration with it, its place counted from 1, and how many there are."""

_logger = logging.getLogger("holdfast.migrations")


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that was run by this call, and how long it took."""

    version: int
    name: str
    direction: Direction
    duration_ms: int


async def status(session: MigrationSession, migrations: MigrationSet) -> list[MigrationState]:
    """How every known and every applied version stands; reads only, and needs no ledger to be there."""
    ledger = _ledger(session, migrations)
    return plan.states(migrations, await ledger.rows(), await ledger.steps())


async def pending(
    session: MigrationSession, migrations: MigrationSet, *, to: int | None = None
) -> list[Migration]:
    """What `up` would apply now. Raises what `up` raises before its first change; reads only."""
    if to is not None:
        plan.check_target(migrations, to)
    ledger = _ledger(session, migrations)
    rows = await ledger.rows()
    plan.check(migrations, rows)
    todo = plan.to_apply(migrations, rows, to=to)
    plan.check_interrupted(migrations, await ledger.steps(), forth=todo)
    return todo


async def require_current(session: MigrationSession, migrations: MigrationSet) -> None:
    """For programs that must not migrate: raise `MigrationsPending` unless everything is applied."""
    missing = await pending(session, migrations)
    if missing:
        raise MigrationsPending(
            f"{len(missing)} migration{'s are' if len(missing) > 1 else ' is'} not applied, "
            f"the first is {missing[0].label}",
            versions=[migration.version for migration in missing],
        )


async def up(
    session: MigrationSession,
    migrations: MigrationSet,
    *,
    to: int | None = None,
    lock_timeout: timedelta = LOCK_TIMEOUT,
    progress: Progress | None = None,
) -> list[Applied]:
    """Apply everything that is not applied, or up to and with version `to`, in order of version.

    Effects: each migration is one transaction with its ledger row; those before a failing one stay. On
    MySQL each statement is, and one that was interrupted is finished.
    Races: waits up to `lock_timeout` for another migrating process, then does only what is left.
    Raises: MigrationLocked, MigrationFailed (the database is as before that migration), SchemaTooNew,
    MigrationChanged, MigrationNotFound (`to`), on MySQL MigrationInterrupted and MigrationUnclear;
    StoreUnavailable and UnknownOutcome when the connection is lost: call again.
    """
    if not await pending(session, migrations, to=to):
        return []
    async with session.exclusive(lock_timeout):
        todo = await pending(session, migrations, to=to)
        return await _Run(session, migrations, progress, len(todo)).apply(todo)


async def down(
    session: MigrationSession,
    migrations: MigrationSet,
    *,
    steps: int = 1,
    allow_data_loss: bool = False,
    lock_timeout: timedelta = LOCK_TIMEOUT,
    progress: Progress | None = None,
) -> list[Applied]:
    """Take back the `steps` applied migrations with the largest versions, newest first.

    Raises as `up`, and `DowngradeRefused` when one of them has no Down section or no file, or would lose
    rows without `allow_data_loss` (see `data_loss`); then, as a rule, nothing has been taken back.
    """
    async with session.exclusive(lock_timeout):
        ledger = _ledger(session, migrations)
        rows = await ledger.rows()
        plan.check(migrations, rows)
        todo = plan.to_revert(migrations, rows, versions=plan.last_applied(rows, steps))
        plan.check_interrupted(migrations, await ledger.steps(), back=todo)
        run = _Run(session, migrations, progress, len(todo))
        return await run.revert(todo, allow_data_loss=allow_data_loss)


async def to(
    session: MigrationSession,
    migrations: MigrationSet,
    version: int,
    *,
    allow_data_loss: bool = False,
    lock_timeout: timedelta = LOCK_TIMEOUT,
    progress: Progress | None = None,
) -> list[Applied]:
    """Make `version` the newest applied one: take back what is above it, apply what is missing below.

    0 takes everything back. Raises as `up` and `down`.
    """
    plan.check_target(migrations, version)
    async with session.exclusive(lock_timeout):
        ledger = _ledger(session, migrations)
        rows = await ledger.rows()
        plan.check(migrations, rows)
        back = plan.to_revert(migrations, rows, versions=[applied for applied in rows if applied > version])
        forth = plan.to_apply(migrations, rows, to=version)
        plan.check_interrupted(migrations, await ledger.steps(), forth=forth, back=back)
        run = _Run(session, migrations, progress, len(back) + len(forth))
        reverted = await run.revert(back, allow_data_loss=allow_data_loss)
        return reverted + await run.apply(forth)


def _ledger(session: MigrationSession, migrations: MigrationSet) -> Ledger:
    if session.dialect != migrations.dialect:
        raise InvalidArgument(f"these migrations are for {migrations.dialect}, not for {session.dialect}")
    return Ledger(session, migrations.dialect)


class _Run:
    """The changing part of one command, under the lock."""

    def __init__(
        self, session: MigrationSession, migrations: MigrationSet, progress: Progress | None, total: int
    ) -> None:
        self._session = session
        self._ledger = _ledger(session, migrations)
        self._execution = Execution(session, migrations.dialect)
        self._progress = progress
        self._total = total
        self._started = 0

    async def apply(self, todo: list[Migration]) -> list[Applied]:
        return [await self._one(migration, Direction.UP, migration.up, guarded=False) for migration in todo]

    async def revert(self, todo: list[Migration], *, allow_data_loss: bool) -> list[Applied]:
        guarded = not allow_data_loss
        # `plan.to_revert` lets only those through that have a Down section.
        sections = [(migration, migration.down) for migration in todo if migration.down is not None]
        if guarded:
            await self._look_ahead(sections)
        return [
            await self._one(migration, Direction.DOWN, section, guarded=guarded)
            for migration, section in sections
        ]

    async def _look_ahead(self, sections: list[tuple[Migration, Section]]) -> None:
        """Refuse before the first is run, so that a refusal of the third leaves the first two in place."""
        async with self._session.transaction():
            await self._ledger.run_if_named("enter_transaction")
            for migration, section in sections:
                for statement in section.statements:
                    await self._execution.refuse_loss(migration, statement, lock=False)

    async def _one(
        self, migration: Migration, direction: Direction, section: Section, *, guarded: bool
    ) -> Applied:
        self._started += 1
        if self._progress is not None:
            self._progress(migration, self._started, self._total)
        begun = time.perf_counter()
        if not self._session.undoes_ddl:
            from holdfast.store.migrations.stepwise import Stepwise

            stepwise = Stepwise(self._session, self._ledger, self._execution)
            await stepwise.run(migration, direction, section, guarded=guarded)
        elif section.transactional:
            await self._in_transaction(migration, direction, section, guarded=guarded)
        else:
            await self._one_by_one(migration, direction, section)
        took_ms = _since_ms(begun)
        verb = "applied" if direction is Direction.UP else "took back"
        _logger.info("%s migration %d (%s) in %d ms", verb, migration.version, migration.name, took_ms)
        return Applied(migration.version, migration.name, direction, took_ms)

    async def _in_transaction(
        self, migration: Migration, direction: Direction, section: Section, *, guarded: bool
    ) -> None:
        begun = time.perf_counter()
        try:
            async with self._session.transaction():
                await self._ledger.ensure()
                await self._ledger.run_if_named("enter_transaction")
                await self._record(migration, direction)
                for statement in section.statements:
                    if guarded:
                        await self._execution.refuse_loss(migration, statement, lock=True)
                    await self._execution.run(migration, section, statement)
                if direction is Direction.UP:
                    await self._ledger.finish(migration.version, _since_ms(begun))
        except (MigrationFailed, DowngradeRefused, StoreUnavailable, UnknownOutcome):
            raise
        except HoldfastError as error:
            raise self._execution.failed_outside(migration, section, error) from error

    async def _one_by_one(self, migration: Migration, direction: Direction, section: Section) -> None:
        begun = time.perf_counter()
        async with self._session.transaction():
            await self._ledger.ensure()
        await self._ledger.run_if_named("enter_session")
        try:
            for statement in section.statements:
                await self._execution.run(migration, section, statement)
        finally:
            await self._ledger.run_if_named("leave_session")
        async with self._session.transaction():
            await self._record(migration, direction)
            if direction is Direction.UP:
                await self._ledger.finish(migration.version, _since_ms(begun))

    async def _record(self, migration: Migration, direction: Direction) -> None:
        if direction is Direction.UP:
            await self._ledger.add(migration)
        else:
            await self._ledger.remove(migration.version)


def _since_ms(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1000)

"""Applies migrations and takes them back, one by one, behind the lock of the database.

A command first reads the ledger without the lock; when there is nothing to do it is over. Otherwise it takes
the lock and reads again: of many processes that start at once, one migrates and the others, when they
get the lock, find nothing left.

    one migration     BEGIN · ledger row · its statements · COMMIT       all of it happens, or none
    notransaction     its statements, one by one · ledger row            for what the database refuses inside
                                                                         a transaction

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
from holdfast.store.migrations.files import Migration, MigrationSet
from holdfast.store.migrations.ledger import Ledger, render
from holdfast.store.migrations.plan import Direction, MigrationState
from holdfast.store.migrations.session import MigrationSession

if TYPE_CHECKING:
    from holdfast.store.migrations.data_loss import Loss
    from holdfast.store.migrations.parser import Section, Statement

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
    return plan.states(migrations, await _ledger(session, migrations).rows())


async def pending(
    session: MigrationSession, migrations: MigrationSet, *, to: int | None = None
) -> list[Migration]:
    """What `up` would apply now. Raises what `up` raises before its first change; reads only."""
    if to is not None:
        plan.check_target(migrations, to)
    rows = await _ledger(session, migrations).rows()
    plan.check(migrations, rows)
    return plan.to_apply(migrations, rows, to=to)


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

    Effects: each migration is one transaction with its ledger row; those before a failing one stay.
    Races: waits up to `lock_timeout` for another migrating process, then does only what is left.
    Raises: MigrationLocked, MigrationFailed (the database is as before that migration), SchemaTooNew,
    MigrationChanged, MigrationNotFound (`to`); StoreUnavailable and UnknownOutcome when the connection
    is lost: call again.
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
        rows = await _ledger(session, migrations).rows()
        plan.check(migrations, rows)
        todo = plan.to_revert(migrations, rows, versions=plan.last_applied(rows, steps))
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
        rows = await _ledger(session, migrations).rows()
        plan.check(migrations, rows)
        back = plan.to_revert(migrations, rows, versions=[applied for applied in rows if applied > version])
        forth = plan.to_apply(migrations, rows, to=version)
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
        self._dialect = migrations.dialect
        self._ledger = _ledger(session, migrations)
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
                    loss = await self._find_loss(statement, lock=False)
                    self._refuse_loss(migration, statement, loss)

    async def _one(
        self, migration: Migration, direction: Direction, section: Section, *, guarded: bool
    ) -> Applied:
        self._started += 1
        if self._progress is not None:
            self._progress(migration, self._started, self._total)
        begun = time.perf_counter()
        if section.transactional:
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
                        loss = await self._find_loss(statement, lock=True)
                        self._refuse_loss(migration, statement, loss)
                    await self._execute(migration, section, statement)
                if direction is Direction.UP:
                    await self._ledger.finish(migration.version, _since_ms(begun))
        except (MigrationFailed, DowngradeRefused, StoreUnavailable, UnknownOutcome):
            raise
        except HoldfastError as error:
            # The ledger row or the COMMIT: deferred constraints are checked there.
            raise MigrationFailed(
                f"migration {migration.label} failed outside its statements: {_reason(error)}",
                where=migration.source,
                fix=_advice(section, None),
                version=migration.version,
                cause_code=error.code,
            ) from error

    async def _one_by_one(self, migration: Migration, direction: Direction, section: Section) -> None:
        begun = time.perf_counter()
        async with self._session.transaction():
            await self._ledger.ensure()
        await self._ledger.run_if_named("enter_session")
        try:
            for statement in section.statements:
                await self._execute(migration, section, statement)
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

    async def _execute(self, migration: Migration, section: Section, statement: Statement) -> None:
        try:
            await self._session.execute(render(statement.text, self._session.schema))
        except (StoreUnavailable, UnknownOutcome):
            raise  # the connection, not the statement; the same command may succeed
        except HoldfastError as error:
            raise MigrationFailed(
                f"migration {migration.label} failed at `{statement.summary}`: {_reason(error)}",
                where=f"{migration.source}:{statement.line}",
                fix=_advice(section, statement),
                version=migration.version,
                statement=statement.text,
                cause_code=error.code,
            ) from error

    async def _find_loss(self, statement: Statement, *, lock: bool) -> Loss | None:
        from holdfast.store.migrations.data_loss import find_loss

        text = render(statement.text, self._session.schema)
        return await find_loss(self._session, text, self._dialect, lock=lock)

    @staticmethod
    def _refuse_loss(migration: Migration, statement: Statement, loss: Loss | None) -> None:
        if loss is None:
            return
        what = f"{loss.action} {loss.table}, which has rows" if loss.table else loss.action
        raise DowngradeRefused(
            f"taking back migration {migration.label} would lose data: {what}",
            where=f"{migration.source}:{statement.line}",
            fix="make a backup, then repeat the command with --allow-data-loss",
            version=migration.version,
        )


def _advice(section: Section, statement: Statement | None) -> str:
    if section.transactional:
        return "the database is as it was before this migration; correct the cause and run the command again"
    if statement is None or statement is section.statements[0]:
        return "nothing was changed; correct the cause and run the command again"
    return (
        "this migration is not a transaction: what it did before this statement stays; correct the cause, "
        "see that its statements can be repeated, and run the command again"
    )


def _reason(error: HoldfastError) -> str:
    """Our cause and the database's own first line: who mends a statement needs the name it complains of."""
    told = str(error.__cause__ or "").split("\n", 1)[0]
    return error.cause if not told or told in error.cause else f"{error.cause}: {told}"


def _since_ms(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1000)

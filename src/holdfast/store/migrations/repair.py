"""Puts the ledger right by hand, where a person knows what the database can not tell.

Nothing of the schema is touched: a person has made it so, or is about to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from holdfast.errors import InvalidArgument, MigrationNotFound
from holdfast.store.migrations import plan
from holdfast.store.migrations.files import Migration, MigrationSet
from holdfast.store.migrations.ledger import Ledger, LedgerRow, Step
from holdfast.store.migrations.plan import Standing
from holdfast.store.migrations.session import MigrationSession


class Verdict(StrEnum):
    """What a person says of a migration, or of the statement that it stopped at (MySQL)."""

    APPLIED = "applied"  # all of it is there; its file is taken as it is now
    PENDING = "pending"  # nothing of it is there
    RAN = "ran"  # that statement ran: go on behind it
    DID_NOT_RUN = "did-not-run"  # that statement did not run: run it


@dataclass(frozen=True, slots=True)
class Repair:
    """What was changed, or would be. `statement` is the one it stopped at, where it is about that alone."""

    version: int
    name: str
    before: Standing
    after: Standing
    statement: str | None
    changes: bool


async def resolve(
    session: MigrationSession,
    migrations: MigrationSet,
    version: int,
    verdict: Verdict,
    *,
    lock_timeout: timedelta,
    dry_run: bool = False,
) -> Repair:
    """Record what `verdict` says about migration `version`, under the lock; with `dry_run` only look.

    Raises: MigrationNotFound (no file and no row has the version; for APPLIED: no file), InvalidArgument (RAN
    and DID_NOT_RUN when it did not stop at a statement), MigrationLocked.
    """
    if dry_run:
        return (await _examine(session, migrations, version, verdict))[0]
    async with session.exclusive(lock_timeout):
        repair, step = await _examine(session, migrations, version, verdict)
        if repair.changes:
            await _record(session, migrations, repair, verdict, step)
        return repair


async def _examine(
    session: MigrationSession, migrations: MigrationSet, version: int, verdict: Verdict
) -> tuple[Repair, Step | None]:
    ledger = Ledger(session, migrations.dialect)
    rows, steps = await ledger.rows(), await ledger.steps()
    state = next((s for s in plan.states(migrations, rows, steps) if s.version == version), None)
    if state is None:
        raise MigrationNotFound(f"there is no migration {version}", version=version)
    migration, mine = migrations.get(version), [step for step in steps if step.version == version]
    if verdict is Verdict.APPLIED:
        if migration is None:
            raise MigrationNotFound(f"migration {version} has no file here", version=version)
        changes = bool(mine) or not _is_recorded(migration, rows.get(version))
        return Repair(version, state.name, state.standing, Standing.APPLIED, None, changes), None
    if verdict is Verdict.PENDING:
        after = Standing.PENDING
        changes = bool(mine) or version in rows
        return Repair(version, state.name, state.standing, after, None, changes), None
    step = next((step for step in mine if not step.is_done), None)
    if step is None or migration is None:
        raise InvalidArgument(
            f"migration {version} ({state.name}) did not stop at a statement",
            fix="say --applied or --pending for the whole of it",
        )
    statement = _statement(migration, step)
    return Repair(version, state.name, state.standing, Standing.INTERRUPTED, statement, True), step


def _is_recorded(migration: Migration, row: LedgerRow | None) -> bool:
    return row is not None and row.checksum == migration.checksum


def _statement(migration: Migration, step: Step) -> str | None:
    section = migration.up if step.direction == "up" else migration.down
    statements = () if section is None else section.statements
    return statements[step.number - 1].summary if step.number <= len(statements) else None


async def _record(
    session: MigrationSession,
    migrations: MigrationSet,
    repair: Repair,
    verdict: Verdict,
    step: Step | None,
) -> None:
    ledger = Ledger(session, migrations.dialect)
    migration = migrations.get(repair.version)
    if not session.undoes_ddl:
        await ledger.ensure()  # it would commit what else is in the transaction
    async with session.transaction():
        await ledger.ensure()
        if verdict is Verdict.RAN and step is not None:
            await ledger.end_steps(step.version, step.number, step.number)
        elif verdict is Verdict.DID_NOT_RUN and step is not None:
            await ledger.forget_steps(step.version, step.number, step.number)
        elif verdict is Verdict.PENDING:
            await ledger.remove(repair.version)
            await ledger.forget_steps(repair.version)
        elif migration is not None:
            if repair.version in await ledger.rows():
                await ledger.amend(migration)
            else:
                await ledger.add(migration)
            await ledger.forget_steps(repair.version)

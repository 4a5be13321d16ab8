"""Decides, without touching the database, what a command has to do and whether it may.

Everything here follows from two things: the files (`MigrationSet`) and the ledger's rows. What is refused:
a ledger that knows newer versions than the files (`SchemaTooNew`), an applied file that was edited
(`MigrationChanged`), and going back over a migration that has no way back (`DowngradeRefused`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from holdfast.errors import (
    DowngradeRefused,
    InvalidArgument,
    MigrationChanged,
    MigrationInterrupted,
    MigrationNotFound,
    SchemaTooNew,
)
from holdfast.store.migrations.files import OWN_VERSION_MAX, Migration, MigrationSet
from holdfast.store.migrations.ledger import LedgerRow, Step

Rows = Mapping[int, LedgerRow]
"""The ledger, by version."""


class Direction(StrEnum):
    """Which way a migration is run."""

    UP = "up"
    DOWN = "down"


class Standing(StrEnum):
    """How a migration stands in one database."""

    PENDING = "pending"  # has a file, is not applied
    APPLIED = "applied"  # is applied; the file is the same, or the row was made by hand
    CHANGED = "changed"  # is applied, but the file was edited since
    UNKNOWN = "unknown"  # is applied, but there is no file for it
    INTERRUPTED = "interrupted"  # MySQL: some of its statements ran, and the next command finishes it


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One line of `status`. The last four fields are None while it is not applied.

    `checksum` is that of the ledger (None also in a row made by hand), `duration_ms` how long it took,
    `applied_by` the host and process. `source` and `reversible` are None and False without a file.
    """

    version: int
    name: str
    standing: Standing
    source: str | None
    reversible: bool
    checksum: str | None = None
    applied_at: datetime | None = None
    duration_ms: int | None = None
    applied_by: str | None = None

    @property
    def is_applied(self) -> bool:
        """Whether the ledger has it; one that was interrupted on its way down is still there."""
        return self.applied_at is not None


def states(migrations: MigrationSet, ledger: Rows, steps: Sequence[Step] = ()) -> list[MigrationState]:
    """Every version that has a file or a row, in ascending order."""
    known = {migration.version: migration for migration in migrations.migrations}
    halfway = {step.version for step in steps}
    return [
        _state(v, known.get(v), ledger.get(v), is_halfway=v in halfway)
        for v in sorted(known.keys() | ledger.keys() | halfway)
    ]


def _state(
    version: int, migration: Migration | None, row: LedgerRow | None, *, is_halfway: bool
) -> MigrationState:
    if is_halfway:
        standing = Standing.INTERRUPTED
    elif row is None:
        standing = Standing.PENDING
    elif migration is None:
        standing = Standing.UNKNOWN
    else:
        standing = Standing.CHANGED if _is_changed(migration, row) else Standing.APPLIED
    return MigrationState(
        version=version,
        name=migration.name if migration else (row.name if row else ""),
        standing=standing,
        source=migration.source if migration else None,
        reversible=migration is not None and migration.down is not None,
        checksum=row.checksum if row else None,
        applied_at=row.applied_at if row else None,
        duration_ms=row.duration_ms if row else None,
        applied_by=row.applied_by if row else None,
    )


def check(migrations: MigrationSet, ledger: Rows) -> None:
    """Raise `SchemaTooNew` or `MigrationChanged` when files and ledger do not belong together."""
    for version in ledger:
        if migrations.get(version) is None and migrations.is_beyond(version):
            raise SchemaTooNew(
                f"the database has migration {version} ({ledger[version].name or 'unnamed'}), which is newer "
                "than anything this program knows",
                fix=SchemaTooNew.default_fix
                if version <= OWN_VERSION_MAX
                else f"point this program at the folder of migrations that has {version}",
                version=version,
            )
    changed = [m for m in migrations.migrations if m.version in ledger and _is_changed(m, ledger[m.version])]
    if changed:
        raise MigrationChanged(
            f"migration {changed[0].label} was applied on {ledger[changed[0].version].applied_at:%Y-%m-%d} "
            "and its file was edited since",
            where=changed[0].source,
            versions=[migration.version for migration in changed],
        )


def check_interrupted(
    migrations: MigrationSet,
    steps: Sequence[Step],
    *,
    forth: Sequence[Migration] = (),
    back: Sequence[Migration] = (),
) -> None:
    """Raise `MigrationInterrupted` for one that stopped half-way and would not be finished by this."""
    chosen = {(migration.version, Direction.UP) for migration in forth}
    chosen |= {(migration.version, Direction.DOWN) for migration in back}
    for step in steps:
        direction = Direction(step.direction)
        if (step.version, direction) in chosen:
            continue
        migration = migrations.get(step.version)
        raise MigrationInterrupted(
            f"migration {migration.label if migration else step.version} stopped half-way {direction}",
            where=migration.source if migration else None,
            fix=f"finish it: holdfast storage migrate {direction}",
            version=step.version,
        )


def _is_changed(migration: Migration, row: LedgerRow) -> bool:
    return row.checksum is not None and row.checksum != migration.checksum


def to_apply(migrations: MigrationSet, ledger: Rows, *, to: int | None = None) -> list[Migration]:
    """What is not applied, up to and with version `to`, in ascending order."""
    return [
        migration
        for migration in migrations.migrations
        if migration.version not in ledger and (to is None or migration.version <= to)
    ]


def to_revert(migrations: MigrationSet, ledger: Rows, *, versions: list[int]) -> list[Migration]:
    """The applied `versions` to take back, newest first; `DowngradeRefused` when one has no way back."""
    found = []
    for version in sorted(versions, reverse=True):
        migration = migrations.get(version)
        if migration is None:
            raise DowngradeRefused(
                f"migration {version} ({ledger[version].name or 'unnamed'}) has no file here",
                fix=f"restore the file of {version}, whose Down section takes it back",
                version=version,
            )
        if migration.down is None:
            raise DowngradeRefused(
                f"migration {migration.label} cannot be taken back: it has no Down section",
                where=migration.source,
                version=version,
            )
        found.append(migration)
    return found


def check_target(migrations: MigrationSet, version: int) -> None:
    """Raise `MigrationNotFound` unless `version` is 0 (nothing applied) or has a file."""
    if version == 0 or migrations.get(version) is not None:
        return
    known = ", ".join(str(migration.version) for migration in migrations.migrations[-5:]) or "none"
    raise MigrationNotFound(f"there is no migration {version}; the newest are: {known}", version=version)


def last_applied(ledger: Rows, steps: int) -> list[int]:
    """The `steps` applied versions with the largest numbers."""
    if steps < 1:
        raise InvalidArgument(f"{steps} is not a number of steps", fix="pass 1 or more")
    return sorted(ledger, reverse=True)[:steps]

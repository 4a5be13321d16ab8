"""Whether a store can be used right now: reached, read, written, and of the right schema, and how fast.

Nothing is left behind: what is written is rolled back. What is wrong inside of a store, such as work that
stands still, is found by `holdfast.fleet.diagnosis`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import perf_counter
from typing import Any

from holdfast.errors import HoldfastError, MigrationsPending, SchemaTooNew, StoreUnavailable
from holdfast.records.keys import new_id
from holdfast.store import migrations
from holdfast.store.rows import moment
from holdfast.store.store import Store

CLOCK_MAX = timedelta(seconds=2)
"""More than this between the clocks of the store and of this host is worth a warning."""
LAG_MAX = timedelta(seconds=10)
DISK_MIN_BYTES = 1 << 30
DISK_MIN_SHARE = 0.05
INTEGRITY = 6


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what it found, how long it took, and the error if it failed."""

    name: str
    state: State
    took: timedelta
    detail: str
    error: HoldfastError | None = None

    @property
    def exit_code(self) -> int:
        """What the command line returns for this check alone; a schema that does not fit is 6."""
        if self.error is None:
            return 0
        return INTEGRITY if isinstance(self.error, MigrationsPending | SchemaTooNew) else self.error.exit_code


Found = tuple[State, str]
_Look = Callable[[Store], Awaitable[Found]]


async def examine(store: Store, *, limit: timedelta = timedelta(seconds=10)) -> list[Check]:
    """Connect a store that is not open, look at it and disconnect; each check may take `limit`.

    Never raises for what it finds. Behind a check that failed come only those that can still tell something.
    """
    connect = await _checked("connect", _connect, store, limit)
    if connect.error is not None:
        return [connect]
    checks = [connect]
    try:
        for name, look in _LOOKS.items():
            if name == "write" and any(check.error is not None for check in checks):
                continue
            checks.append(await _checked(name, look, store, limit))
    finally:
        await store.driver.close()
    return checks


async def _checked(name: str, look: _Look, store: Store, limit: timedelta) -> Check:
    began = perf_counter()
    error: HoldfastError | None = None
    try:
        async with asyncio.timeout(limit.total_seconds()):
            state, detail = await look(store)
    except TimeoutError:
        error = StoreUnavailable(f"no answer within {limit.total_seconds():g} s", where=store.place or None)
    except HoldfastError as failure:
        error = failure
    if error is not None:
        state, detail = State.FAILED, error.cause
    took = timedelta(seconds=perf_counter() - began)
    return Check(name=name, state=state, took=took, detail=detail, error=error)


async def _connect(store: Store) -> Found:
    await store.driver.open()
    return State.OK, store.place


async def _read(store: Store) -> Found:
    version = (await store.driver.fetch("health.server"))[0][0]
    return State.OK, f"{_PRODUCTS.get(store.driver.dialect, store.driver.dialect)} {version}"


async def _schema(store: Store) -> Found:
    known = migrations.load(store.driver.dialect, store.options.migrations_folder)
    async with store.driver.migrations() as session:
        await migrations.require_current(session, known)
    return State.OK, f"version {known.migrations[-1].version}"


class _Undone(Exception):
    """Ends a transaction without anything having happened."""


async def _write(store: Store) -> Found:
    try:
        async with store.transaction() as transaction:
            await transaction.fetch("health.write", store.tenant, f"health {new_id()}")
            raise _Undone
    except _Undone:
        return State.OK, "rolled back"


async def _clock(store: Store) -> Found:
    before = datetime.now(UTC)
    theirs: datetime = moment((await store.driver.fetch("store.now"))[0][0])
    ours = before + (datetime.now(UTC) - before) / 2
    apart = theirs - ours
    state = State.OK if abs(apart) <= CLOCK_MAX else State.WARNING
    return state, f"{apart / timedelta(milliseconds=1):+.0f} ms to this host"


async def _replication(store: Store) -> Found:
    _, read_only, copies, lag_us = (await store.driver.fetch("health.server"))[0]
    if read_only:
        behind = "" if lag_us is None else f", {_seconds(lag_us)} behind"
        return State.WARNING, f"refuses writes{behind}"
    if copies is None:
        return State.OK, "none known"
    behind = "" if lag_us is None else f", {_seconds(lag_us)} behind"
    late = lag_us is not None and timedelta(microseconds=lag_us) > LAG_MAX
    return State.WARNING if late else State.OK, f"{copies} following{behind}"


def _seconds(lag_us: Any) -> str:
    return f"{int(lag_us) / 1e6:.1f} s"


async def _disk(store: Store) -> Found:
    if store.driver.path is None:
        return State.OK, "not on this host"
    usage = await asyncio.to_thread(shutil.disk_usage, store.driver.path.parent)
    scarce = usage.free < max(DISK_MIN_BYTES, DISK_MIN_SHARE * usage.total)
    free = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f} GiB"
    return State.WARNING if scarce else State.OK, free


_PRODUCTS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL or MariaDB"}
_LOOKS: dict[str, _Look] = {
    "read": _read,
    "schema": _schema,
    "write": _write,
    "clock": _clock,
    "replication": _replication,
    "disk": _disk,
}

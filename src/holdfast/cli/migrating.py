"""What the verbs of `storage migrate` do: a session on the configured database, with a line per migration."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cli.loop import until_stopped
from holdfast.errors import DowngradeRefused, InvalidArgument, NoStore
from holdfast.store import migrations
from holdfast.store.migrations import (
    Applied,
    Direction,
    Migration,
    MigrationSession,
    MigrationSet,
    MigrationState,
    Standing,
)
from holdfast.store.store import PARTITIONS_AHEAD, Store
from holdfast.stores import build_store

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.config.schema import Config

T = TypeVar("T")
Work = Callable[[MigrationSession, MigrationSet], Awaitable[T]]
Planned = tuple[str, int, str]
"""What would be done, to which version, called what."""
_DONE = {Direction.UP: "applied", Direction.DOWN: "took back"}


@asynccontextmanager
async def _connected(config: Config, *, create: bool) -> AsyncIterator[Store]:
    """A store whose driver is connected and whose schema nobody has looked at."""
    store = build_store(config, create=create)
    await store.driver.open()
    try:
        yield store
    finally:
        await store.driver.close()


def _with_session(invocation: Invocation, work: Work[T], *, create: bool = False) -> T:
    config = invocation.load_config().config

    async def run() -> T:
        async with _connected(config, create=create) as store:
            known = migrations.load(store.driver.dialect, config.storage.migrations.dir)
            async with store.driver.migrations() as session:
                result = await work(session, known)
            if create and store.driver.dialect == "postgresql":
                await store.driver.fetch("store.ensure_partitions", PARTITIONS_AHEAD)
            return result

    return until_stopped(run)


def probe(invocation: Invocation) -> dict[str, Any]:
    """Connect, ask for the time, and look at the schema."""
    config = invocation.load_config().config

    async def run() -> dict[str, Any]:
        began = time.perf_counter()
        async with _connected(config, create=False) as store:
            await store.driver.fetch("store.now")
            took_ms = (time.perf_counter() - began) * 1000
            known = migrations.load(store.driver.dialect, config.storage.migrations.dir)
            async with store.driver.migrations() as session:
                pending = await migrations.pending(session, known)
        return {
            "store": str(config.storage.url),
            "type": config.storage.type,
            "latency_ms": round(took_ms, 1),
            "pending_migrations": len(pending),
        }

    return until_stopped(run)


def read_states(invocation: Invocation) -> list[MigrationState]:
    """How every migration stands; reads only."""
    return _with_session(invocation, migrations.status)


def migrate_up(invocation: Invocation) -> None:
    """Apply what is not applied, and report it."""
    if invocation.flags.dry_run:
        _report_plan(invocation, [("apply", each.version, each.name) for each in _plan_up(invocation)])
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        return await migrations.up(
            session, known, lock_timeout=_lock_timeout(invocation), progress=_progress(invocation, "applying")
        )

    _report(invocation, _with_session(invocation, work, create=True))


def _plan_up(invocation: Invocation) -> Sequence[Migration]:
    try:
        return _with_session(invocation, migrations.pending)
    except NoStore:
        return known_to(invocation.load_config().config).migrations


def known_to(config: Config) -> MigrationSet:
    """Every migration for the configured kind of database, without opening one."""
    storage = config.storage
    return migrations.load("postgresql" if storage.type == "postgresql" else "sqlite", storage.migrations.dir)


def migrate_down(invocation: Invocation, steps: int, *, allow_data_loss: bool) -> None:
    """Take back the newest `steps`, and report it."""
    if invocation.flags.dry_run:
        applied = [state for state in read_states(invocation) if state.standing is not Standing.PENDING]
        _report_plan(invocation, _back(applied[::-1][:steps]))
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        return await migrations.down(
            session,
            known,
            steps=steps,
            allow_data_loss=allow_data_loss,
            lock_timeout=_lock_timeout(invocation),
            progress=_progress(invocation, "taking back"),
        )

    _report(invocation, _with_session(invocation, work))


def migrate_to(invocation: Invocation, version: int, *, allow_data_loss: bool) -> None:
    """Make `version` the newest applied one, and report it."""
    if invocation.flags.dry_run:
        states = read_states(invocation)
        applied = [state for state in states if state.standing is not Standing.PENDING]
        back = _back([state for state in applied[::-1] if state.version > version])
        pending = [state for state in states if state.standing is Standing.PENDING]
        forth = [("apply", each.version, each.name) for each in pending if each.version <= version]
        _report_plan(invocation, [*back, *forth])
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        return await migrations.to(
            session,
            known,
            version,
            allow_data_loss=allow_data_loss,
            lock_timeout=_lock_timeout(invocation),
            progress=_progress(invocation, "migrating"),
        )

    _report(invocation, _with_session(invocation, work))


def _back(states: Sequence[MigrationState]) -> list[Planned]:
    for state in states:
        if not state.reversible:
            raise DowngradeRefused(
                f"migration {state.version} ({state.name}) has no way back", where=state.source
            )
    return [("take back", state.version, state.name) for state in states]


def _report_plan(invocation: Invocation, planned: Sequence[Planned]) -> None:
    if invocation.output.is_table:
        lines = [f"would {verb} {version} {name}" for verb, version, name in planned]
        invocation.output.text("\n".join(lines or ["nothing to do"]))
        return
    rows = [{"version": version, "name": name, "action": f"would {verb}"} for verb, version, name in planned]
    invocation.output.records(rows, ["version", "name", "action"], key="version", dry_run=True)


def _report(invocation: Invocation, applied: Sequence[Applied]) -> None:
    if not invocation.output.is_table:
        rows = [
            {
                "version": each.version,
                "name": each.name,
                "action": _DONE[each.direction],
                "duration_ms": each.duration_ms,
            }
            for each in applied
        ]
        columns = ["version", "name", "action", "duration_ms"]
        invocation.output.records(rows, columns, key="version", dry_run=False)
        return
    for each in applied:
        invocation.output.text(f"{_DONE[each.direction]} {each.version} {each.name} in {each.duration_ms} ms")
    if not applied:
        invocation.output.text("nothing to do; the schema is up to date")


def _progress(invocation: Invocation, verb: str) -> migrations.Progress:
    form = invocation.flags.progress
    if form == "auto":
        form = "plain" if invocation.stderr.isatty() and invocation.output.is_table else "none"

    def tell(migration: Migration, place: int, total: int) -> None:
        if form == "plain":
            invocation.say(f"{verb} {place}/{total}: {migration.version} {migration.name}")
        elif form == "json":
            line = {"event": "migration", "version": migration.version, "place": place, "total": total}
            print(json.dumps(line), file=invocation.stderr, flush=True)

    return tell


def _lock_timeout(invocation: Invocation) -> timedelta:
    return invocation.timeout or invocation.load_config(inspect=True).config.storage.migrations.lock_timeout


def check_name(name: str) -> None:
    """Raise `InvalidArgument` for what can not name a migration."""
    if not re.search(r"\w", name):
        raise InvalidArgument(f"{name!r} is no name for a migration", fix="use letters, digits and _")

"""What the verbs of `storage migrate` do: a session on the configured database, with a line per migration."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cli.bars import drawn
from holdfast.cli.loop import until_stopped
from holdfast.cli.output import counted, one_line, seconds_text
from holdfast.errors import DowngradeRefused, InvalidArgument, NoStore
from holdfast.store import migrations
from holdfast.store.migrations import (
    Applied,
    Direction,
    Migration,
    MigrationSession,
    MigrationSet,
    MigrationState,
    Repair,
    Verdict,
)
from holdfast.store.store import Store
from holdfast.stores import build_store

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.config.schema import Config

T = TypeVar("T")
Work = Callable[[MigrationSession, MigrationSet], Awaitable[T]]
Planned = tuple[str, int, str]
"""What would be done, to which version, called what."""
_SHOWN = 60
"""How much of a statement a table shows."""
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
            if create:
                await store.driver.settle()
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
            links = await store.driver.encryption()
            known = migrations.load(store.driver.dialect, config.storage.migrations.dir)
            async with store.driver.migrations() as session:
                pending = await migrations.pending(session, known)
        return {
            "store": str(config.storage.url),
            "type": config.storage.type,
            "latency_ms": round(took_ms, 1),
            "pending_migrations": len(pending),
            "connections": [
                {
                    "server": link.server,
                    "tls": link.protocol,
                    "cipher": link.cipher,
                    "mode": str(link.mode),
                    "verified": link.verified,
                }
                for link in links
            ],
        }

    return until_stopped(run)


def read_states(invocation: Invocation) -> list[MigrationState]:
    """How every migration stands; reads only."""
    return _with_session(invocation, migrations.status)


def migrate_up(invocation: Invocation) -> None:
    """Apply what is not applied, and report it."""
    invocation.load_config(inspect=True).refuse("storage.partitioning.enabled")
    if invocation.flags.dry_run:
        _report_plan(invocation, [("apply", each.version, each.name) for each in _plan_up(invocation)])
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        with _progress(invocation, "applying") as progress:
            return await migrations.up(
                session, known, lock_timeout=_lock_timeout(invocation), progress=progress
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
    dialect = storage.type if storage.type in ("postgresql", "mysql") else "sqlite"
    return migrations.load(dialect, storage.migrations.dir)


def migrate_down(invocation: Invocation, steps: int, *, allow_data_loss: bool) -> None:
    """Take back the newest `steps`, and report it."""
    if invocation.flags.dry_run:
        applied = [state for state in read_states(invocation) if state.is_applied]
        _report_plan(invocation, _back(applied[::-1][:steps]))
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        with _progress(invocation, "taking back") as progress:
            return await migrations.down(
                session,
                known,
                steps=steps,
                allow_data_loss=allow_data_loss,
                lock_timeout=_lock_timeout(invocation),
                progress=progress,
            )

    _report(invocation, _with_session(invocation, work))


def migrate_to(invocation: Invocation, version: int, *, allow_data_loss: bool) -> None:
    """Make `version` the newest applied one, and report it."""
    if invocation.flags.dry_run:
        states = read_states(invocation)
        applied = [state for state in states if state.is_applied]
        back = _back([state for state in applied[::-1] if state.version > version])
        pending = [state for state in states if not state.is_applied and state.version <= version]
        forth = [("apply", each.version, each.name) for each in pending]
        _report_plan(invocation, [*back, *forth])
        return

    async def work(session: MigrationSession, known: MigrationSet) -> list[Applied]:
        with _progress(invocation, "migrating") as progress:
            return await migrations.to(
                session,
                known,
                version,
                allow_data_loss=allow_data_loss,
                lock_timeout=_lock_timeout(invocation),
                progress=progress,
            )

    _report(invocation, _with_session(invocation, work))


def show_plan(invocation: Invocation) -> None:
    """Print every statement that `up` would run, with its table, rows, lock and time."""
    try:
        found = _with_session(invocation, migrations.forecast)
    except NoStore:
        found = migrations.forecast_empty(known_to(invocation.load_config().config))
    total = timedelta(milliseconds=sum(each.estimate_ms for each in found))
    output = invocation.output
    rows = [
        {
            "version": each.version,
            "name": each.name,
            "line": each.line,
            "table": each.table,
            "rows": each.rows,
            "blocks": str(each.blocks),
            "lock": each.lock,
            "work": str(each.work),
            "estimate": timedelta(milliseconds=each.estimate_ms),
            "statement": one_line(each.statement, _SHOWN) if output.is_table else each.statement,
            "source": each.source,
        }
        for each in found
    ]
    if output.is_table and not found:
        output.text("nothing to do; the schema is up to date")
        return
    columns = ["version", "line", "table", "rows", "blocks", "lock", "estimate", "statement"]
    output.records(rows, columns, key="version", estimate=total.total_seconds())
    if output.is_table:
        steps = counted(len(found), "statement", "statements")
        versions = counted(len({each.version for each in found}), "migration", "migrations")
        about = seconds_text(total.total_seconds())
        output.text(f"\n{versions}, {steps}, about {about}; rows and times are estimates")


def repair(invocation: Invocation, version: int, verdict: Verdict) -> None:
    """Record what a person says of a migration, after asking, and report it."""

    async def look(session: MigrationSession, known: MigrationSet) -> Repair:
        return await migrations.resolve(
            session, known, version, verdict, lock_timeout=_lock_timeout(invocation), dry_run=True
        )

    async def record(session: MigrationSession, known: MigrationSet) -> Repair:
        return await migrations.resolve(
            session, known, version, verdict, lock_timeout=_lock_timeout(invocation)
        )

    found = _with_session(invocation, look)
    if not found.changes or invocation.flags.dry_run:
        _report_repair(invocation, found, "would be recorded" if found.changes else "nothing to do")
        return
    about = f"`{found.statement}` of migration {version}" if found.statement else f"migration {version}"
    if not invocation.confirm(f"record {about} ({found.name}) as {verdict}?"):
        invocation.say("nothing was done")
        return
    _report_repair(invocation, _with_session(invocation, record), "recorded")


def _report_repair(invocation: Invocation, done: Repair, result: str) -> None:
    if invocation.output.is_table:
        changed = f"{done.before} -> {done.after}" if done.changes else str(done.before)
        invocation.output.text(f"{done.version} {done.name}: {changed} ({result})")
        return
    row = {
        "version": done.version,
        "name": done.name,
        "before": str(done.before),
        "after": str(done.after),
        "statement": done.statement,
        "result": result,
    }
    invocation.output.record(row, key="version")


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


@contextmanager
def _progress(invocation: Invocation, verb: str) -> Iterator[migrations.Progress]:
    form = invocation.flags.progress
    if form == "auto" and invocation.stderr.isatty() and invocation.output.is_table:
        with drawn(invocation) as draw:
            yield lambda migration, place, total: draw(
                f"{verb} {migration.version} {migration.name}", place - 1, total
            )
        return

    def tell(migration: Migration, place: int, total: int) -> None:
        if form == "plain":
            invocation.say(f"{verb} {place}/{total}: {migration.version} {migration.name}")
        elif form == "json":
            line = {"event": "migration", "version": migration.version, "place": place, "total": total}
            print(json.dumps(line), file=invocation.stderr, flush=True)

    yield tell


def _lock_timeout(invocation: Invocation) -> timedelta:
    return invocation.timeout or invocation.load_config(inspect=True).config.storage.migrations.lock_timeout


def check_name(name: str) -> None:
    """Raise `InvalidArgument` for what can not name a migration."""
    if not re.search(r"\w", name):
        raise InvalidArgument(f"{name!r} is no name for a migration", fix="use letters, digits and _")

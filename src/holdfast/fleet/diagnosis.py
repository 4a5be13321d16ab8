"""What is wrong with a store and its fleet, as far as it can be seen from here. Reads only.

Each check looks at one thing that somebody has to do something about, and says what. A check that finds
nothing says so too, so that silence is never taken for health.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from holdfast.fleet.roster import Registered, WorkerState, read_roster
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.store import migrations
from holdfast.store.migrations import Standing
from holdfast.store.store import Store

SQLITE_AT_LEAST = (3, 51, 3)
"""Before it, several connections that write and checkpoint at once could damage a database in WAL mode."""
POSTGRESQL_AT_LEAST = 14


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"  # works, but not as well or as safely as it could
    PROBLEM = "problem"  # something stands still or may be lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. `fix` is what to do, empty when there is nothing; `details` are for machines."""

    check: str
    level: Level
    message: str
    fix: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From when on something counts as a finding."""

    snapshot: timedelta = timedelta(minutes=5)
    """Age of an open transaction: dead rows that it could still see slow every claim down."""
    takeover: timedelta = timedelta(minutes=1)
    """How long a live fleet may take to put back what a dead worker ran."""


async def diagnose(store: Store, limits: Limits | None = None) -> list[Finding]:
    """All checks, on a store whose driver is open; its schema may be missing or of another version.

    Nothing is changed, and no lock is held beyond a statement. What it says was so when it looked.
    """
    limits = limits or Limits()
    findings = await _schema(store)
    if findings[0].level is Level.PROBLEM:
        return findings  # the other checks read tables that may not be there
    roster = await read_roster(store)
    findings += await _versions(store, roster)
    findings += await _queues(store, roster)
    findings += await _left_behind(store, roster, limits)
    if store.driver.dialect == "postgresql":
        findings += await _postgresql(store, limits)
    elif store.driver.dialect == "mysql":
        findings += await _mysql(store)
    else:
        findings += await _sqlite(store)
    return findings


def _problem(check: str, message: str, fix: str, **details: Any) -> Finding:
    return Finding(check=check, level=Level.PROBLEM, message=message, fix=fix, details=details)


def _warning(check: str, message: str, fix: str, **details: Any) -> Finding:
    return Finding(check=check, level=Level.WARNING, message=message, fix=fix, details=details)


def _or_well(check: str, findings: list[Finding], well: str) -> list[Finding]:
    return findings or [Finding(check=check, level=Level.OK, message=well)]


def _count(count: int) -> str:
    return "1 execution" if count == 1 else f"{count:,} executions"


# The schema.


async def _schema(store: Store) -> list[Finding]:
    known = migrations.load(store.driver.dialect, store.options.migrations_folder)
    async with store.driver.migrations() as session:
        states = await migrations.status(session, known)
    said = {
        Standing.PENDING: ("is not applied", "holdfast storage migrate up"),
        Standing.UNKNOWN: ("is not known to this version", "upgrade holdfast on this machine"),
        Standing.CHANGED: ("is not what its file says now", "restore the file as it was applied"),
    }
    findings = []
    for standing, (what, fix) in said.items():
        versions = [state.version for state in states if state.standing is standing]
        if versions:
            named = ", ".join(map(str, versions))
            findings.append(_problem("schema", f"migration {named} {what}", fix, versions=versions))
    return _or_well("schema", findings, f"all {len(states)} migrations are applied")


# Work that nobody does.


async def _versions(store: Store, roster: Sequence[Registered]) -> list[Finding]:
    """Executions that wait for a version which no live worker offers."""
    live = [each for each in roster if each.state is WorkerState.ACTIVE]
    offered = {offer for each in live for offer in each.details.get("offers", ())}
    findings = []
    rows = await store.driver.fetch("diagnosis.versions")
    for definition, workflow, version, queue, count, example in rows:
        if definition not in offered:
            message = f"no live worker offers version {version} of {workflow}"
            findings.append(
                _problem(
                    "versions",
                    f"{message}; held up: {_count(count)} in queue {queue}",
                    f"start a worker whose code has version {version}: holdfast worker APP --queues {queue}",
                    workflow=workflow,
                    version=version,
                    queue=queue,
                    count=count,
                    definition=definition,
                    example=example,
                )
            )
    return _or_well("versions", findings, "no execution waits for a version that nobody offers")


async def _queues(store: Store, roster: Sequence[Registered]) -> list[Finding]:
    """Ready executions of queues that no live worker serves."""
    findings = []
    for queue, class_, paused, count in await store.driver.fetch("diagnosis.ready"):
        details = {"queue": queue, "class": class_, "count": count}
        if queue == LOCAL_QUEUE:
            message = f"`holdfast run` was interrupted; not finished: {_count(count)}"
            findings.append(_warning("queues", message, "holdfast resume --all", **details))
        elif paused:
            message = f"queue {queue} is paused; ready in it: {_count(count)}"
            findings.append(_warning("queues", message, f"holdfast queues resume {queue}", **details))
        elif not any(each.serves(queue, class_) for each in roster):
            message = f"no live worker serves class {class_} of queue {queue}; ready: {_count(count)}"
            fix = f"holdfast worker --queues {queue} --classes {class_}"
            findings.append(_problem("queues", message, fix, **details))
    return _or_well("queues", findings, "all that is ready has a worker")


async def _left_behind(store: Store, roster: Sequence[Registered], limits: Limits) -> list[Finding]:
    """Executions of dead owners that nobody put back."""
    somebody = any(each.is_worker and each.state is WorkerState.ACTIVE for each in roster)
    # With a worker about they are put back in seconds; without one they stay until somebody comes.
    patience = limits.takeover if somebody else None
    left = Counter[str]()
    for each in roster:
        if each.state is WorkerState.LAPSED and (patience is None or -each.lease_left >= patience):
            left[f"{each.program} on {each.host}, process {each.pid}"] += each.running
    for owner, count in await store.driver.fetch("diagnosis.orphans"):
        left[f"a process nobody knows, {owner[:8]}"] += count
    fix = "start a worker: holdfast worker; for runs of your own: holdfast resume --all"
    findings = [
        _problem("owners", f"{who}, is dead; not taken over: {_count(count)}", fix, owner=who, count=count)
        for who, count in left.items()
        if count
    ]
    return _or_well("owners", findings, "every running execution has a live owner")


# The database.


async def _postgresql(store: Store, limits: Limits) -> list[Finding]:
    rows = await store.driver.fetch("diagnosis.settings")
    version, synchronous, fsync, pages, sees_all = rows[0]
    shown, findings = f"PostgreSQL {version // 10_000}.{version % 10_000}", []
    if version < POSTGRESQL_AT_LEAST * 10_000:
        findings.append(
            _problem("database", f"{shown} is too old", f"upgrade to {POSTGRESQL_AT_LEAST} or newer")
        )
    for name, value in (("fsync", fsync), ("full_page_writes", pages)):
        if value == "off":
            message = f"{name} is off: a power cut may damage the database"
            findings.append(_problem("database", message, f"set {name} = on"))
    if synchronous == "off":
        message = "synchronous_commit is off: a power cut may lose what was acknowledged"
        findings.append(
            _warning("database", message, "set synchronous_commit = on for the role or the server")
        )
    findings = _or_well("database", findings, f"{shown}, synchronous_commit is {synchronous}")
    return [*findings, *await _snapshots(store, limits, bool(sees_all)), *await _partitions(store)]


async def _snapshots(store: Store, limits: Limits, sees_all: bool) -> list[Finding]:
    """Transactions that keep dead rows from being cleaned up."""
    findings = []
    for who, state, age_us in await store.driver.fetch("diagnosis.snapshots"):
        age = timedelta(microseconds=age_us)
        if age >= limits.snapshot:
            message = (
                f"a transaction has been open for {age.total_seconds():,.0f} s ({who}, {state}): no row "
                "that was updated since is cleaned up, which makes claims slower and slower"
            )
            fix = "end it; idle_in_transaction_session_timeout keeps it from coming back"
            findings.append(
                _problem("snapshots", message, fix, who=who, state=state, age_s=age.total_seconds())
            )
    well = "no transaction has been open for long" + ("" if sees_all else ", among those this role may see")
    return _or_well("snapshots", findings, well)


async def _partitions(store: Store) -> list[Finding]:
    findings = []
    for table, ahead, strays in await store.driver.fetch("diagnosis.partitions"):
        if ahead < 1:
            message = f"table {table} has no partition for next month"
            findings.append(
                _problem(
                    "partitions", message, "holdfast storage migrate up", table=table, months_ahead=ahead
                )
            )
        if strays:
            message = f"the default partition of table {table} has rows, which belong to no month"
            fix = "move them into partitions of their months; retention does not see them here"
            findings.append(_problem("partitions", message, fix, table=table, rows_at_least=strays))
    return _or_well("partitions", findings, "partitions are made ahead, and no row fell beside them")


async def _mysql(store: Store) -> list[Finding]:
    """What a connection does not insist on; see `drivers.mysql_server` for what it does."""
    rows = await store.driver.fetch("diagnosis.settings")
    version, doublewrite = rows[0]
    shown = f"MariaDB {version.partition('-')[0]}" if "MariaDB" in version else f"MySQL {version}"
    findings = []
    if str(doublewrite) in ("0", "OFF"):
        message = "innodb_doublewrite is off: a power cut may damage the database"
        fix = "set innodb_doublewrite = ON, unless the file system writes pages whole"
        findings.append(_warning("database", message, fix))
    return _or_well("database", findings, f"{shown}, every commit is on disk before it is acknowledged")


async def _sqlite(store: Store) -> list[Finding]:
    rows = await store.driver.fetch("diagnosis.settings")
    version, mode = rows[0]
    findings = []
    if tuple(int(part) for part in version.split(".")[:3]) < SQLITE_AT_LEAST:
        wanted = ".".join(map(str, SQLITE_AT_LEAST))
        message = f"SQLite {version} may damage a database that several processes write"
        findings.append(_problem("database", message, f"install apsw with SQLite {wanted} or newer"))
    is_recorded = getattr(store.driver, "is_recorded", False)
    if mode == "memory" and not is_recorded:
        findings.append(
            _warning("database", "the store is in memory and ends with its process", "choose a file")
        )
    elif mode not in ("wal", "memory"):
        message = f"the journal mode is {mode}, not wal"
        findings.append(_problem("database", message, "open the store once, as by `holdfast storage init`"))
    return _or_well("database", findings, f"SQLite {version}, journal mode {mode}")

"""Every column of every view is what its rows say, and a view that is changed wrongly is noticed.

The rows are made for it: two tenants, every status, both sides of each condition, two days. What the views
should tell of them is worked out here in Python.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.records.catalogue import all_tables
from holdfast.records.tables import Column, Kind
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store
from holdfast.store.table_rows import table_rows
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

Rows = dict[str, list[dict[str, Any]]]
DAY = 86_400_000_000
_COUNT = itertools.count()
NOON = (datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)).timestamp()
NOW = int(NOON) * 1_000_000
"""Three days ago at noon: rows are made around it, on two days and far from midnight."""
_NONE: dict[Kind, Any] = {
    Kind.TEXT: "", Kind.INTEGER: 0, Kind.REAL: 0.0, Kind.BOOLEAN: False, Kind.MOMENT: NOW, Kind.TEXTS: [],
    Kind.JSON: "{}", Kind.BYTES: b"", Kind.PAYLOAD: b"", Kind.DURATION: 60_000_000,
}  # fmt: skip
STATUSES = (
    *["completed"] * 7, *["failed"] * 5, *["cancelled"] * 3, *["ready"] * 4, *["running"] * 2,
    *["waiting"] * 6,
    "paused",
)  # fmt: skip
"""As many of each as of no other, so that none is taken for another."""
FINAL = ("completed", "failed", "cancelled")


def _nothing(column: Column) -> Any:
    return None if column.nullable else _NONE[column.kind]


def designed() -> Rows:
    """Rows of the tables that the views read."""
    made: Rows = {
        "definitions": [],
        "queues": [{"name": "empty", "paused": True}, {"name": "q0"}, {"name": "q1", "paused": True}],
    }
    made["definitions"] = [
        {"tenant_id": tenant, "hash": b"d" * 16, "name": "w", "version": "1", "kind": "yaml"}
        for tenant in "ab"
    ]
    made["executions"], made["events"] = [], []
    for number in range(84):
        status, tenant = STATUSES[number * 5 % 28], "ab"[number % 3 == 1]
        made["executions"].append(_execution(number, status, tenant))
        if status in FINAL:
            made["events"] += _events(number, tenant)
    made["agents"] = [
        {"tenant_id": tenant, "id": "ana", "role": tenant, "type": "t", "status": "idle", "heartbeat_at": NOW}
        for tenant in "ab"
    ] + [{"tenant_id": "a", "id": "idle", "status": "offline"}]
    made["tasks"] = [_task(number) for number in range(33)]
    made["conversations"] = [
        {"tenant_id": tenant, "id": f"c{n}", "status": "active"} for tenant in "ab" for n in "12"
    ]
    made["messages"] = [_message(number) for number in range(12)]
    made["incidents"] = [_incident(number) for number in range(128)]
    return made


def _execution(number: int, status: str, tenant: str) -> dict[str, Any]:
    created = NOW - DAY * (number % 2) + number
    ended = {"finished_at": created + 1_000_000 * (number + 1)} if status in FINAL else {}
    if status == "failed" and number > 60:  # too long ago to be recent
        created -= 9 * DAY
        ended = {"finished_at": created + 5_000_000}
    return {
        "key": number.to_bytes(16, "big"), "tenant_id": tenant, "id": f"e{number}",
        "workflow": f"w{number // 42}",
        "version": "1", "definition": b"d" * 16, "fingerprint": b"f" * 16, "status": status, "class": "io",
        "queue": f"q{number // 28}" if number else "done", "priority": number, "epoch": number + 100,
        "recoveries": number % 4,
        "created_at": created, "owner": b"o" * 16 if status == "running" else None,
        "due_at": NOW if status == "waiting" and number % 2 else None,
        "blocked_on": "queue" if status == "waiting" and number % 3 == 0 else None, **ended,
    }  # fmt: skip


def _events(number: int, tenant: str) -> list[dict[str, Any]]:
    kinds = ["step.failed", "child.failed", "step.completed"]
    if number % 3 == 0:
        kinds[:2] = ["child.failed", "step.failed"]
    return [
        {
            "execution": number.to_bytes(16, "big"), "seq": seq, "tenant_id": tenant, "epoch": 1,
            "type": kind,
            "path": f"{kind}-{number}", "attempt": 1, "at": NOW,
        }
        for seq, kind in enumerate(kinds[number % 2 :] if number % 5 else kinds[2:], 1)
    ]  # fmt: skip


def _task(number: int) -> dict[str, Any]:
    done = (*["claimed"] * 2, *["completed"] * 4, "failed", *["cancelled"] * 3)
    status = (*done, "pending")[number * 3 % 11]
    claimed = status != "pending"
    return {
        "tenant_id": "ab"[number % 3 == 0], "id": f"t{number}", "capability": "x", "status": status,
        "agent": "ana" if claimed else None, "max_attempts": 3, "on_failed_dependency": "fail",
        "lease_until": NOW - number * 1_000 if status in ("claimed", "completed") else None,
        "finished_at": NOW if status in ("completed", "failed", "cancelled") else None,
    }  # fmt: skip


def _message(number: int) -> dict[str, Any]:
    return {
        "tenant_id": "ab"[number % 2], "id": f"m{number}", "conversation_id": "c1" if number % 3 else "c2",
        "seq": number + 1, "role": "user", "content": "x", "created_at": NOW - DAY * (number // 6),
        "prompt_tokens": 2**number, "completion_tokens": 3 * 2**number, "cost_micros": 7 * 2**number,
    }  # fmt: skip


def _incident(number: int) -> dict[str, Any]:
    detected = NOW - DAY * (number // 4 % 2) + number
    reached = number // 8 % 5
    times = ("acknowledged_at", "mitigated_at", "resolved_at", "closed_at")
    return {
        "tenant_id": "ab"[number // 80], "id": f"i{number}", "title": "x",
        "severity": ("critical", "high", "medium", "low")[number % 4], "assignee": f"p{number}",
        "status": ("open", "acknowledged", "mitigated", "resolved", "closed")[reached],
        "detected_at": detected,
        "deleted_at": NOW if number % 7 == 3 else None,
        **{name: detected + 1_000_000 * (number + place) for place, name in enumerate(times[:reached], 1)},
    }  # fmt: skip


# What the views should tell, as rows of the columns that are named first.


def _grouped(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(_day(row[name[1:]]) if name[0] == "@" else row.get(name) for name in names)].append(row)
    return found


def _day(moment_us: int) -> str:
    return datetime.fromtimestamp(moment_us / 1e6, UTC).date().isoformat()


def _mean(values: list[int]) -> Any:
    return sum(values) / len(values) if values else None


def _of(rows: list[dict[str, Any]], status: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["status"] == status]


def _took(rows: list[dict[str, Any]], since: str = "created_at", until: str = "finished_at") -> list[int]:
    return [row[until] - row[since] for row in rows if row.get(until) is not None]


ACTIVE = (
    "tenant_id", "key", "id", "workflow", "version", "status", "queue", "class", "priority", "due_at",
    "blocked_on",
    "owner", "epoch", "recoveries", "created_at",
)  # fmt: skip
FAILURES = (
    "tenant_id", "key", "id", "workflow", "version", "queue", "recoveries", "created_at", "failed_at",
    "failed_step",
)  # fmt: skip
OPEN = (
    "tenant_id", "id", "title", "severity", "status", "assignee", "detected_at", "acknowledged_at",
    "mitigated_at",
    "urgency",
)  # fmt: skip


def active_executions(rows: Rows) -> list[Any]:
    return [[each.get(name) for name in ACTIVE] for each in rows["executions"] if "finished_at" not in each]


def workflow_statistics(rows: Rows) -> list[Any]:
    return [
        [
            *key, len(some), sum("finished_at" not in each for each in some),
            *(len(_of(some, end)) for end in FINAL),
            _mean(_took(_of(some, "completed"))), max(each["created_at"] for each in some),
        ]
        for key, some in _grouped(rows["executions"], "tenant_id", "workflow").items()
    ]  # fmt: skip


def queue_depths(rows: Rows) -> list[Any]:
    active = [each for each in rows["executions"] if "finished_at" not in each]
    found = _grouped(active, "queue")
    paused = {each["name"]: each.get("paused", False) for each in rows["queues"]}
    return [
        [
            name, paused.get(name, False),
            *(len(_of(found.get((name,), []), status)) for status in ("ready", "running", "waiting")),
            sum(each["blocked_on"] is not None for each in found.get((name,), [])),
            min((each["created_at"] for each in _of(found.get((name,), []), "ready")), default=None),
        ]
        for name in {*paused, *(key[0] for key in found)}
    ]  # fmt: skip


def agent_workload(rows: Rows) -> list[Any]:
    found = _grouped(rows["tasks"], "tenant_id", "agent")
    return [
        [
            *(each.get(name) for name in ("tenant_id", "id", "role", "type", "status", "heartbeat_at")),
            *(len(_of(some, status)) for status in ("claimed", "completed", "failed")),
            min((task["lease_until"] for task in _of(some, "claimed")), default=None),
        ]
        for each in rows["agents"]
        for some in [found.get((each["tenant_id"], each["id"]), [])]
    ]  # fmt: skip


def open_incidents(rows: Rows) -> list[Any]:
    urgency = {"critical": 1, "high": 2, "medium": 3, "low": 4}
    return [
        [*(each.get(name) for name in OPEN[:-1]), urgency[each["severity"]]]
        for each in rows["incidents"]
        if each["deleted_at"] is None and each.get("resolved_at") is None
    ]


def recent_failures(rows: Rows) -> list[Any]:
    events = _grouped(rows["events"], "execution")
    recent = [
        each for each in _of(rows["executions"], "failed") if each["finished_at"] > NOW - DAY
    ]  # the others are nine days older
    failed = ("step.failed", "child.failed")
    return [
        [
            *(each[name] for name in FAILURES[:-2]), each["finished_at"],
            next((e["path"] for e in reversed(events[each["key"],]) if e["type"] in failed), None),
        ]
        for each in recent
    ]  # fmt: skip


def execution_daily_stats(rows: Rows) -> list[Any]:
    return [
        [
            *key, len(some), *(len(_of(some, end)) for end in FINAL), _mean(_took(_of(some, "completed"))),
            max(_took(_of(some, "completed")), default=None),
        ]
        for key, some in _grouped(rows["executions"], "tenant_id", "@created_at", "workflow").items()
    ]  # fmt: skip


def conversation_daily_stats(rows: Rows) -> list[Any]:
    return [
        [
            *key, len({each["conversation_id"] for each in some}), len(some),
            *(sum(each[f"{name}_tokens"] for each in some) for name in ("prompt", "completion")),
            sum(each["cost_micros"] for each in some),
        ]
        for key, some in _grouped(rows["messages"], "tenant_id", "@created_at").items()
    ]  # fmt: skip


def incident_daily_stats(rows: Rows) -> list[Any]:
    kept = [each for each in rows["incidents"] if each["deleted_at"] is None]
    return [
        [
            *key, len(some), sum(each.get("resolved_at") is None for each in some),
            _mean(_took(some, "detected_at", "acknowledged_at")),
            _mean(_took(some, "detected_at", "resolved_at")),
        ]
        for key, some in _grouped(kept, "tenant_id", "@detected_at", "severity").items()
    ]  # fmt: skip


STARTED = ("started", "completed", "failed", "cancelled", "mean_duration_us", "longest_us")
VIEWS: dict[str, tuple[Callable[[Rows], list[Any]], tuple[str, ...]]] = {
    "active_executions": (active_executions, ACTIVE),
    "workflow_statistics": (
        workflow_statistics,
        ("tenant_id", "workflow", "executions", "active", *FINAL, "mean_duration_us", "last_created_at"),
    ),
    "queue_depths": (
        queue_depths,
        ("queue", "paused", "ready", "running", "waiting", "blocked", "oldest_ready_at"),
    ),
    "agent_workload": (
        agent_workload,
        (
            "tenant_id", "agent", "role", "type", "status", "heartbeat_at", "claimed", "completed", "failed",
            "next_lease_until",
        ),
    ),
    "open_incidents": (open_incidents, OPEN),
    "recent_failures": (recent_failures, FAILURES),
    "execution_daily_stats": (execution_daily_stats, ("tenant_id", "day", "workflow", *STARTED)),
    "conversation_daily_stats": (
        conversation_daily_stats,
        (
            "tenant_id", "day", "conversations", "messages", "prompt_tokens", "completion_tokens",
            "cost_micros",
        ),
    ),
    "incident_daily_stats": (
        incident_daily_stats,
        ("tenant_id", "day", "severity", "detected", "unresolved", "mean_acknowledge_us", "mean_resolve_us"),
    ),
}  # fmt: skip


# Asking and comparing.


def _plain(value: Any) -> Any:
    """A value of any database: times as microseconds, days as text, whole numbers as such."""
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def anew() -> str:
    """What makes a statement another one: PostgreSQL keeps plans that a replaced view makes invalid."""
    return f"/* {next(_COUNT)} */"


async def told(store: Store, view: str) -> list[Any]:
    """The rows of a view, every column of it, in an order of their own."""
    dialect = dialect_of(store.driver)
    names = ", ".join(map(dialect.quoted, VIEWS[view][1]))
    rows = await store.driver.fetch_text(f"SELECT {names} FROM {dialect.table(view)} {anew()}")
    everything = await store.driver.fetch_text(f"SELECT * FROM {dialect.table(view)} LIMIT 1 {anew()}")
    assert all(len(row) == len(VIEWS[view][1]) for row in everything), f"{view} has other columns"
    return sorted(([_plain(value) for value in row] for row in rows), key=_order)


def _order(row: list[Any]) -> str:
    return repr([each for each in row if isinstance(each, str | bytes)])


def is_right(expected: list[Any], found: list[Any]) -> bool:
    """Whether rows are what they should be; means may be rounded."""
    if len(expected) != len(found):
        return False
    return all(
        one == other or (isinstance(one, float) and other is not None and abs(one - other) <= 1)
        for row, told_row in zip(sorted(expected, key=_order), found, strict=True)
        for one, other in zip(row, told_row, strict=True)
    )


@pytest.fixture
async def filled(shared_url: str) -> AsyncIterator[Store]:
    tables = {table.name: table for table in all_tables()}
    async with opened(shared_url) as store:
        for name, rows in designed().items():
            table = tables[name]
            into = table_rows(table, dialect_of(store.driver))
            for row in rows:
                given = [{"revision": 1, **row}.get(each.name, _nothing(each)) for each in table.columns]
                await store.driver.fetch_text(into.upsert(), *into.bound(tuple(given)))
        if store.driver.dialect == "postgresql":
            for _ in range(2):
                await store.driver.fetch_text(f"SELECT {store.driver.schema}.refresh_dashboards()")
        yield store


async def test_every_column_of_every_view(filled: Store) -> None:
    rows = designed()
    for view, (expected, names) in VIEWS.items():
        found = await told(filled, view)
        assert is_right(expected(rows), found), (view, names, sorted(expected(rows), key=_order), found)


CHANGES = (
    ("'ready'", "'running'"), ("'running'", "'waiting'"), ("'waiting'", "'paused'"),
    ("'completed'", "'failed'"),
    ("'failed'", "'cancelled'"), ("'cancelled'", "'completed'"), ("'claimed'", "'pending'"),
    ("'step.failed', ", ""),
    (", 'child.failed'", ""), ("DESC", "ASC"), ("IS NULL", "IS NOT NULL"), ("IS NOT NULL", "IS NULL"),
    ("count(DISTINCT conversation_id)", "count(conversation_id)"), ("max(", "min("), ("min(", "max("),
    ("avg(", "max("), ("THEN 1 WHEN", "THEN 5 WHEN"), ("ELSE 4", "ELSE 0"),
    ("interval '7 days'", "interval '1 day'"),
    ("INTERVAL 7 DAY", "INTERVAL 1 DAY"), ("7 * 86400000000", "1 * 86400000000"), ("LEFT JOIN", "JOIN"),
    ("given.agent = a.id", "given.agent <> a.id"), ("given.tenant_id = a.tenant_id", "1 = 1"),
    ("e.execution = x.key", "e.execution IS NOT NULL"), ("e.execution = x.`key`", "e.execution IS NOT NULL"),
    ("deleted_at IS NULL AND ", ""), (" AND resolved_at IS NULL", ""),
    ("created_at AT TIME ZONE 'UTC'", "now()"),
    ("sum(prompt_tokens)", "sum(completion_tokens)"), ("sum(cost_micros)", "max(cost_micros)"),
    ("acknowledged_at - detected_at", "resolved_at - detected_at"), ("count(blocked_on)", "count(status)"),
    ("detected_at, acknowledged_at)", "detected_at, resolved_at)"), ("UNION ALL", "UNION"),
    ("* 1000000", "* 1000"),
    ("open_tenant IS NOT NULL", "finished_at IS NULL OR 1 = 1"),
    ("finished_at - created_at", "finished_at - 0"),
    ("created_at, finished_at)", "finished_at, created_at)"), ("count(resolved_at)", "count(mitigated_at)"),
    ("count(*) AS", "count(DISTINCT status) AS"), ("0 AS paused", "1 AS paused"),
    ("recoveries,", "epoch AS recoveries,"),
    ("priority,", "epoch AS priority,"),
    ("acknowledged_at, mitigated_at", "mitigated_at AS acknowledged_at, mitigated_at"),
)  # fmt: skip
"""Mistakes that somebody could make in any of the views' texts."""
HARMLESS = {
    (
        "queue_depths",
        "UNION ALL",
    ): "a queue has one row of settings, and executions are told apart by their time",
    ("conversation_daily_stats", "count(*) AS"): "there is no status",
}


async def test_a_view_that_is_changed_wrongly_is_noticed(filled: Store) -> None:
    dialect = dialect_of(filled.driver)
    rows, tried, unnoticed = designed(), 0, list[str]()
    for view, text in definitions(dialect.name).items():
        right = VIEWS[view][0](rows)
        for before, after in CHANGES:
            for wrong in mistaken(text, before, after):
                if (view, before) in HARMLESS or not await replaced(filled, view, wrong):
                    continue
                tried += 1
                if is_right(right, await told(filled, view)):
                    unnoticed.append(f"{view}: {before} as {after}")
        assert await replaced(filled, view, text)
        assert is_right(right, await told(filled, view))
    assert not unnoticed, "\n".join(unnoticed)
    assert tried > 60


def definitions(dialect: str) -> dict[str, str]:
    """The texts of the views in the migration."""
    folder = Path(holdfast.__file__).parent / "store" / "migrations" / dialect
    text = (folder / "0009_views.sql").read_text("utf-8").partition("-- +migrate Down")[0]
    made = re.findall(r"^(CREATE [A-Z ]*VIEW (?:\{schema\}\.)?(\w+).*?);$", text, re.MULTILINE | re.DOTALL)
    found = {name: statement for statement, name in made if name in VIEWS}
    assert set(found) == set(VIEWS)
    return found


def mistaken(text: str, before: str, after: str) -> list[str]:
    """The text with one mistake, once for every place where it can be made."""
    places = [found.start() for found in re.finditer(re.escape(before), text)]
    return [text[:place] + after + text[place + len(before) :] for place in places]


async def replaced(store: Store, view: str, text: str) -> bool:
    """Put a definition in the place of a view; False for a text that the database does not take."""
    kind = "MATERIALIZED VIEW" if "MATERIALIZED" in text else "VIEW"
    name = dialect_of(store.driver).table(view)
    try:
        async with store.transaction() as transaction:
            await transaction.fetch_text(f"DROP {kind} IF EXISTS {name}")
            await transaction.fetch_text(text.replace("{schema}", store.driver.schema))
            await transaction.fetch_text(f"SELECT * FROM {name} {anew()}")
    except holdfast.HoldfastError:
        return False
    return True

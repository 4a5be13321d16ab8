"""Every index of incidents, runbooks and audit entries is what its query reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.domain.audit import Act, Audit
from holdfast.records.audit import AuditEntry
from holdfast.records.declare import Record, table_of
from holdfast.records.incidents import Incident, IncidentStatus, Severity, TimelineEntry, TimelineKind
from holdfast.records.runbooks import Runbook, RunbookEdition, RunbookRun, RunOutcome
from holdfast.store.pages import Pages
from holdfast.store.sql import Statements
from holdfast.store.store import Store
from tests.conformance.test_plans_conversations import plan_of
from tests.conformance.test_plans_identity import page_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

MANY = 3_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
KINDS: tuple[type[Record], ...] = (
    Incident, TimelineEntry, Runbook, RunbookEdition, RunbookRun, AuditEntry,
)  # fmt: skip


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with opened(shared_url) as store:
        await filled(store)
        yield store


def incident(number: int) -> Incident:
    at = BEGAN + timedelta(minutes=number)
    plain = Incident(
        id=f"i{number}",
        title=f"w{number % 300} fails",
        detected_at=at,
        severity=Severity.CRITICAL if number % 150 == 0 else Severity.LOW,
        assignee=f"u{number % 200}" if number % 2 else None,
        affected_services=(f"s{number % 300}",),
        tags=(f"t{number % 300}",),
    )
    if number % 100 == 0:
        return plain
    times = dict.fromkeys(("acknowledged_at", "mitigated_at", "resolved_at", "closed_at"), at)
    return replace(plain, status=IncidentStatus.CLOSED, **times)  # type: ignore[arg-type]


def run(number: int) -> RunbookRun:
    at, done = BEGAN + timedelta(minutes=number), number % 100 != 0
    return RunbookRun(
        id=f"r{number}",
        runbook=f"b{number % 300}",
        edition=1,
        execution=f"runbook-r{number}",
        queue="default",
        incident=f"i{number % 500}" if number % 3 else None,
        started_at=at,
        outcome=RunOutcome.COMPLETED if done else None,
        finished_at=at if done else None,
    )


async def filled(store: Store) -> None:
    """Enough rows, of which each query wants few."""
    await store.repo(Incident).create_many(incident(number) for number in range(MANY))
    await store.repo(TimelineEntry, unsealed=True).create_many(
        TimelineEntry(incident=f"i{n % 30}", seq=n // 30 + 1, at=BEGAN, kind=TimelineKind.NOTE, actor="ana")
        for n in range(MANY)
    )
    await store.repo(Runbook).create_many(
        Runbook(id=f"b{n}", name=f"book {n}", title=f"w{n % 300}", tags=(f"t{n % 300}",)) for n in range(MANY)
    )
    await store.repo(RunbookEdition, unsealed=True).create_many(
        RunbookEdition(runbook=f"b{n % 300}", edition=n // 300 + 1, definition="x", hash=bytes(16))
        for n in range(MANY)
    )
    await store.repo(RunbookRun, unsealed=True).create_many(run(number) for number in range(MANY))
    audit = Audit(store)
    for _ in range(MANY // 500):
        await audit.append_many(
            [
                Act(action=f"a{n % 100}", actor=f"u{n % 100}", resource_kind="incidents", resource_id=f"i{n}")
                for n in range(500)
            ]
        )
    for cls in KINDS:
        table = store.repo(cls).mapping.dialect.table(table_of(cls).name)
        verb = {"mysql": "ANALYZE TABLE", "postgresql": "VACUUM ANALYZE"}.get(store.driver.dialect, "ANALYZE")
        await store.driver.fetch_text(f"{verb} {table}")


PAGES: list[tuple[type[Record], str, str, str]] = [
    (Incident, "", "-created_at", "incidents_newest"),
    (Incident, "status:open", "-created_at", "incidents_by_status"),
    (Incident, "severity:critical", "-created_at", "incidents_by_severity"),
    (Incident, "assignee:u7", "-created_at", "incidents_by_assignee"),
    (TimelineEntry, "incident:i7", "seq", "incident_timeline_seq"),
    (Runbook, "", "-created_at", "runbooks_newest"),
    (RunbookEdition, "runbook:b7", "-edition", "runbook_versions_edition"),
    (RunbookRun, "", "-created_at", "runbook_runs_newest"),
    (RunbookRun, "runbook:b7", "-created_at", "runbook_runs_of"),
    (RunbookRun, "incident:i7", "-created_at", "runbook_runs_for"),
    (RunbookRun, "-has:outcome", "id", "runbook_runs_open"),
    (AuditEntry, "", "-created_at", "audit_logs_newest"),
    (AuditEntry, "", "seq", "audit_logs_seq"),
    (AuditEntry, "actor:u7", "-created_at", "audit_logs_by_actor"),
    (AuditEntry, "action:a7", "-created_at", "audit_logs_by_action"),
    (AuditEntry, "resource:incidents resource_id:i7", "-created_at", "audit_logs_by_resource"),
]
SORTED_FURTHER = {"incident_timeline_seq", "runbook_versions_edition", "audit_logs_seq"}
"""A page is in the order of a number and then of the id, although no two rows have one number: PostgreSQL and
SQLite sort within each number, which is nothing; MySQL sorts the rows of one incident or runbook."""
TABLES = {f"SCAN {table_of(cls).name}" for cls in KINDS}


async def test_pages_read_their_index(store: Store) -> None:
    found = {}
    for cls, query, sort, index in PAGES:
        if index == "audit_logs_seq" and store.driver.dialect == "mysql":
            index = "audit_logs_in_order"
        text, values = page_of(store, cls, query, sort)
        found[f"{cls.__name__} {query} by {sort}"] = (index, await plan_of(store, text, *values))
    slow = {
        name for name, (index, plan) in found.items()
        if plan & TABLES or ("sort" in plan and index not in SORTED_FURTHER)
    }  # fmt: skip
    assert not {name: found[name] for name in slow}
    assert not {name: plan for name, (index, plan) in found.items() if index not in plan}


async def test_statements_read_their_index(store: Store) -> None:
    sql = Statements(store.driver.dialect, schema=store.driver.schema, now=store.driver.now)
    for name, given, index in (
        ("incidents.last_entry", ("default", "i7"), "incident_timeline_seq"),
        ("runbooks.find", ("default", "book 7"), "runbooks_named"),
        ("runbooks.lock", ("default", "b7"), None),
    ):
        if name == "runbooks.find" and store.driver.dialect == "mysql":
            index = "runbooks_by_name"
        plan = await plan_of(store, sql[name], *given)
        assert not plan & {*TABLES, "sort"}, (name, plan)
        assert index is None or index in plan, (name, plan)


async def test_words_services_and_tags_are_looked_up(store: Store) -> None:
    asked: list[tuple[type[Record], str, dict[str, str]]] = [
        (
            Incident,
            "w7",
            {"postgresql": "incidents_search", "mysql": "incidents_words", "sqlite": "incidents_words"},
        ),
        (
            Runbook,
            "w7",
            {"postgresql": "runbooks_search", "mysql": "runbooks_words", "sqlite": "runbooks_words"},
        ),
        (Incident, "service:s7", {"postgresql": "incidents_services"}),
        (Incident, "tag:t7", {"postgresql": "incidents_tags"}),
        (Runbook, "tag:t7", {"postgresql": "runbooks_tags"}),
    ]
    for cls, query, index in asked:
        if store.driver.dialect in index:
            repo = store.repo(cls)
            text, values = Pages(repo.mapping, store.tenant, repo.parsed(query)).count()
            plan = await plan_of(store, text, *values)
            assert index[store.driver.dialect] in plan, (query, plan)

"""Every index of workflows, deployments, schedules, agents and tasks is what its query reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.tasks import NewTask, Tasks
from holdfast.records.declare import Record, table_of
from holdfast.records.schedules import FiringState, Schedule, ScheduleFiring
from holdfast.records.tasks import AgentRecord, AgentStatus, TaskRecord, TaskStatus
from holdfast.records.workflows import Deployment, DeploymentStatus, WorkflowStatus, WorkflowVersion
from holdfast.store.pages import Pages
from holdfast.store.query import bound_list
from holdfast.store.sql import Statements
from holdfast.store.store import Store
from tests.conformance.test_plans_identity import indexes, page_of
from tests.conformance.test_store import opened
from tests.conformance.test_workflow_versions import flow

pytestmark = pytest.mark.anyio

MANY = 2_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS: tuple[type[Record], ...] = (
    WorkflowVersion, Deployment, Schedule, ScheduleFiring, AgentRecord, TaskRecord,
)  # fmt: skip


async def filled(store: Store) -> None:
    """Enough rows, of which each query wants few."""
    await store.put_definition(flow("1"))
    await store.repo(WorkflowVersion, unsealed=True).create_many(
        WorkflowVersion(
            name=f"w{number // 4}",
            version=str(number % 4),
            definition=flow("1").hash,
            status=WorkflowStatus.DRAFT if number % 200 == 0 else WorkflowStatus.ACTIVE,
            tags=(f"t{number}",),
        )
        for number in range(MANY)
    )
    await store.repo(Deployment, unsealed=True).create_many(
        Deployment(
            workflow=f"w{number // 4}",
            version="1",
            environment="production",
            status=DeploymentStatus.SUPERSEDED if number % 4 else DeploymentStatus.ACTIVE,
            ended_at=NOW if number % 4 else None,
        )
        for number in range(MANY)
    )
    await store.repo(Schedule).create_many(
        Schedule(
            workflow=f"w{number // 4}",
            cron="@daily",
            enabled=number % 200 == 0,
            next_run_at=NOW if number % 200 == 0 else None,
            planned_revision=0 if number % 400 == 0 else 1,
        )
        for number in range(MANY)
    )
    await store.repo(ScheduleFiring, unsealed=True).create_many(
        ScheduleFiring(
            schedule=f"s{number // 4}",
            nominal_at=NOW + timedelta(minutes=number),
            state=FiringState.STARTED if number % 200 == 0 else FiringState.COMPLETED,
            finished_at=None if number % 200 == 0 else NOW,
        )
        for number in range(MANY)
    )
    await store.repo(AgentRecord).create_many(
        AgentRecord(
            id=f"a{number}",
            capabilities=(f"c{number}",),
            status=AgentStatus.IDLE if number % 200 == 0 else AgentStatus.OFFLINE,
        )
        for number in range(MANY)
    )
    await store.repo(TaskRecord, unsealed=True).create_many(
        TaskRecord(
            id=f"x{number}:p" if number % 2 else f"t{number}",
            capability=f"c{number % 50}",
            status=TaskStatus.FAILED if number % 200 == 0 else TaskStatus.COMPLETED,
            agent=f"a{number}",
            execution=number.to_bytes(16, "big") if number % 2 else None,
            path="p" if number % 2 else None,
        )
        for number in range(MANY)
    )
    await Tasks(store).create_many([
        NewTask(capability="c1", id="first"),
        *(NewTask(capability="c1", id=f"n{number}", depends_on=[f"n{number - 3}" if number > 2 else "first"])
          for number in range(900)),
    ])  # fmt: skip
    names = [table_of(cls).name for cls in KINDS] + ["task_dependencies"]
    for table in (store.repo(TaskRecord).mapping.dialect.table(name) for name in names):
        analyze = f"ANALYZE TABLE {table}" if store.driver.dialect == "mysql" else f"ANALYZE {table}"
        await store.driver.fetch_text(analyze)


PAGES: list[tuple[type[Record], str, str, str]] = [
    (WorkflowVersion, "", "-created_at", "workflows_listed"),
    (WorkflowVersion, "status:draft", "-created_at", "workflows_by_status"),
    (Deployment, "", "-created_at", "deployments_listed"),
    (Deployment, "workflow:w7", "-created_at", "deployments_of"),
    (Schedule, "", "-created_at", "schedules_listed"),
    (Schedule, "workflow:w7", "-created_at", "schedules_of"),
    (ScheduleFiring, "", "-created_at", "schedule_firings_listed"),
    (ScheduleFiring, "schedule:s7", "-created_at", "schedule_firings_of"),
    (AgentRecord, "", "-created_at", "agents_listed"),
    (AgentRecord, "status:idle", "-created_at", "agents_by_status"),
    (TaskRecord, "", "-created_at", "tasks_listed"),
    (TaskRecord, "status:failed", "-created_at", "tasks_by_status"),
]
GIN: list[tuple[type[Record], str, str]] = [
    (AgentRecord, "capability:c7", "agents_able"),
    (WorkflowVersion, "tag:t7", "workflows_tagged"),
]
"""Lists are searched by what they hold on PostgreSQL alone; elsewhere the rows of the tenant are read."""


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with opened(shared_url) as store:
        await filled(store)
        yield store


def statements(store: Store) -> list[tuple[str, tuple[Any, ...], str]]:
    dialect = store.driver.dialect
    some = bound_list(dialect, ["first", "n1"])
    names = {
        "sqlite": {"workflows": "sqlite_autoindex_workflows_2", "tasks": "sqlite_autoindex_tasks_1"},
        "postgresql": {"workflows": "workflows_named", "tasks": "tasks_pkey"},
        "mysql": {"workflows": "workflows_named", "tasks": "PRIMARY"},
    }[dialect]
    return [
        ("deployments.active_version", ("default", "w7", "production"), "deployments_active"),
        ("workflows.lock", ("default", "w7"), names["workflows"]),
        ("dependencies.lock_dependents", ("default", some), "task_dependents"),
        ("dependencies.lock", ("default", some), names["tasks"]),
        ("schedules.open", ("default", "s50", 1, 1), "schedule_firings_open"),
        ("schedules.look", ("default", 500, 1, 1), "schedule_firings_open"),
        ("schedules.look", ("default", 500, 1, 1), "schedules_unplanned"),
        ("schedules.look", ("default", 500, 1, 1), "schedules_due"),
        ("tasks.agents_of", ("default", "x7", (7).to_bytes(16, "big")), names["tasks"]),
    ]


async def test_pages_and_statements_read_their_index(store: Store) -> None:
    found = {}
    for cls, query, sort, index in PAGES:
        text, values = page_of(store, cls, query, sort)
        plan = await indexes(store, text, *values)
        found[f"{cls.__name__} {query} by {sort}"] = (index, plan)
        slow = [word for word in plan if "Sort" in word or "SCAN" in word or "filesort" in word]
        assert not slow, (cls, query, plan)
    sql = Statements(store.driver.dialect, schema=store.driver.schema, now=store.driver.now)
    for name, given, index in statements(store):
        text = sql[name] if store.driver.dialect == "mysql" else sql[name].replace("FOR UPDATE", "")
        found[f"{name} by {index}"] = (index, await indexes(store, text, *given))
    assert not {name: plan for name, (index, plan) in found.items() if index not in plan}


async def test_what_is_due_next_is_read_from_its_index(store: Store) -> None:
    dialect = store.repo(Schedule).mapping.dialect
    table = dialect.table("schedules")
    due = "due_at" if dialect.name == "mysql" else "next_run_at"
    enabled = {"mysql": "1 = 1", "sqlite": "enabled = 1", "postgresql": "enabled"}[dialect.name]
    text = (
        f"SELECT id FROM {table} WHERE tenant_id = 'default' AND {enabled} "
        f"AND {due} IS NOT NULL AND {due} <= {dialect.mark(1)} "
        f"ORDER BY {due} LIMIT 10"
    )
    bound = dialect.writer(table_of(Schedule).column("created_at"))(NOW)
    assert "schedules_due" in await indexes(store, text, bound)


async def test_lists_are_searched_by_what_they_hold(store: Store) -> None:
    if store.driver.dialect != "postgresql":
        return
    for cls, query, index in GIN:
        repo = store.repo(cls)
        text, values = Pages(repo.mapping, store.tenant, repo.parsed(query)).count()
        assert index in await indexes(store, text, *values), query


async def test_words_of_versions_are_read_from_their_index(store: Store) -> None:
    repo = store.repo(WorkflowVersion)
    pages = Pages(repo.mapping, store.tenant, repo.parsed("w7"))
    text, values = pages.count()
    plan = await indexes(store, text, *values)
    expected = {"sqlite": "workflows_words", "postgresql": "workflows_search", "mysql": "workflows_words"}
    assert any(expected[store.driver.dialect] in word for word in plan), plan

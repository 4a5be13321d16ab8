"""The views tell what is there, under the same names and with the same figures on every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from statistics import mean
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.agents import Agents
from holdfast.domain.incidents import Incidents
from holdfast.domain.tasks import Tasks
from holdfast.errors import ConstraintViolated
from holdfast.fleet.queues import Queues
from holdfast.records.incidents import Incident, Severity
from holdfast.store.store import Store
from holdfast.upkeep.optimizing import optimize
from tests.conformance.everything import write_everything
from tests.conformance.test_plans_conversations import plan_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

EXECUTIONS = 21
"""Of `report`: 12 end, 6 wait for a signal or an answer, 3 are queued; 3 of those that end have a child."""
VIEWS = (
    "active_executions", "agent_workload", "conversation_daily_stats", "execution_daily_stats",
    "incident_daily_stats", "open_incidents", "queue_depths", "recent_failures", "steps",
    "workflow_statistics",
)  # fmt: skip
MONITORING = ("connection_stats", "index_usage_stats", "table_bloat", "table_scans", "table_sizes")
INCIDENTS = 2_000


async def write_failures(url: str) -> None:
    """Two executions that fail at a step, one of which a child fails."""
    app = hf.App(url)

    @app.step(max_attempts=1)
    async def break_down() -> None:
        raise ValueError("out of paper")

    @app.workflow
    async def failing() -> None:
        await break_down()

    @app.workflow
    async def relying() -> None:
        await failing()

    async with app:
        for workflow, id in ((failing, "f1"), (relying, "f2")):
            handle = await workflow.options(id=id).start()
            with pytest.raises(hf.HoldfastError):
                await handle


async def write_work(store: Store) -> None:
    """Tasks that `busy` holds, has completed and has failed; incidents of each severity; an old failure."""
    agents, tasks = Agents(store), Tasks(store)
    await agents.register("busy", capabilities=["paint"])
    for number in range(4):
        await tasks.create("paint", {"n": number}, max_attempts=1)
    for end in ("complete", "complete", "fail", None):
        task = await tasks.claim("busy", ["paint"])
        assert task is not None
        if end == "complete":
            await tasks.complete(task)
        elif end == "fail":
            await tasks.fail(task, {"message": "no brush"})
    for severity in Severity:
        await write_incidents(store, severity)
    await Queues(store).pause("slow")


async def write_incidents(store: Store, severity: Severity) -> None:
    incidents = Incidents(store)
    detected = datetime.now(UTC) - timedelta(minutes=10)
    for state in ("open", "resolved"):
        id = f"{severity}-{state}"
        await incidents.open(Incident(id=id, title=id, severity=severity, detected_at=detected), by="ana")
        if state == "resolved":
            await incidents.acknowledge(id, by="ana")
            await incidents.resolve(id, by="ana", root_cause="paper")


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    await write_everything(shared_url, EXECUTIONS)
    await write_failures(shared_url)
    async with opened(shared_url) as store:
        await write_work(store)
        async for _ in optimize(store):
            pass
        yield store


async def rows_of(store: Store, view: str, *columns: str, where: str = "1 = 1") -> list[tuple[Any, ...]]:
    schema = f"{store.driver.schema}." if store.driver.schema else ""
    names = ", ".join(columns) or "*"
    return sorted(await store.driver.fetch_text(f"SELECT {names} FROM {schema}{view} WHERE {where}"), key=str)


async def by_name(store: Store, view: str, name: str, *columns: str) -> Mapping[Any, tuple[Any, ...]]:
    return {row[0]: tuple(row[1:]) for row in await rows_of(store, view, name, *columns)}


async def test_executions_by_workflow_queue_and_day(store: Store) -> None:
    counted = ("executions", "active", "completed", "failed", "cancelled")
    statistics = await by_name(store, "workflow_statistics", "workflow", *counted)
    assert statistics["report"] == (EXECUTIONS + 1, 10, 12, 0, 0)  # one is a schedule's
    assert statistics["child"] == (3, 0, 3, 0, 0)
    assert statistics["failing"] == (2, 0, 0, 2, 0)
    assert statistics["relying"] == (1, 0, 0, 1, 0)

    active = await by_name(store, "active_executions", "id", "workflow", "status", "queue")
    assert len([id for id, row in active.items() if row[0] == "report"]) == 10
    assert active["queued-6"] == ("report", "ready", "slow")
    assert "f1" not in active
    depths = await by_name(store, "queue_depths", "queue", "paused", "ready", "running")
    assert depths["slow"] == (True, 3, 0)
    assert sum(row[1] for row in depths.values()) == len(
        [row for row in active.values() if row[1] == "ready"]
    )

    daily: dict[str, list[int]] = {}
    for workflow, *figures in await rows_of(
        store, "execution_daily_stats", "workflow", "started", "completed", "failed", "cancelled"
    ):  # a test may run at midnight
        daily[workflow] = [a + b for a, b in zip(daily.get(workflow, [0] * 4), figures, strict=True)]
    assert daily == {name: [row[0], *row[2:]] for name, row in statistics.items()}


async def test_means_are_those_of_the_rows(store: Store) -> None:
    took: dict[str, list[int]] = {}
    for workflow, created, finished in await rows_of(
        store, "executions", "workflow", "created_at", "finished_at", where="status = 'completed'"
    ):
        took.setdefault(workflow, []).append(microseconds(finished) - microseconds(created))
    told = await by_name(store, "workflow_statistics", "workflow", "completed", "mean_duration_us")
    assert {workflow for workflow, row in told.items() if row[0]} == set(took)
    for workflow, durations in took.items():
        assert told[workflow][0] == len(durations)
        # Told in whole microseconds: half of one may be between, and what MariaDB's four decimals leave out.
        assert told[workflow][1] == pytest.approx(mean(durations), abs=0.5001, rel=0)
    longest = await rows_of(store, "execution_daily_stats", "longest_us", where="completed > 0")
    assert max(row[0] for row in longest) == max(max(durations) for durations in took.values())


def microseconds(moment: Any) -> int:
    if isinstance(moment, int):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


async def test_failures_name_the_step(store: Store) -> None:
    failures = await rows_of(store, "recent_failures", "id", "workflow", "failed_step")
    assert len(failures) == 3
    paths = {workflow: path for _, workflow, path in failures}
    assert "break_down" in paths["failing"]
    assert "failing" in paths["relying"]
    old = {"sqlite": "finished_at - 8 * 86400000000", "postgresql": "finished_at - interval '8 days'"}
    changed = old.get(store.driver.dialect, "finished_at - INTERVAL 8 DAY")
    schema = f"{store.driver.schema}." if store.driver.schema else ""
    async with store.transaction() as transaction:
        await transaction.fetch_text(f"UPDATE {schema}executions SET finished_at = {changed} WHERE id = 'f1'")
    left = await rows_of(store, "recent_failures", "id")
    assert len(left) == 2
    assert ("f1",) not in left


async def test_agents_conversations_and_incidents(store: Store) -> None:
    workload = await by_name(
        store, "agent_workload", "agent", "claimed", "completed", "failed", "next_lease_until"
    )
    assert workload["busy"][:3] == (1, 2, 1)
    assert workload["busy"][3] is not None
    assert workload["a1"] == (0, 0, 0, None)

    days = await rows_of(store, "conversation_daily_stats", "conversations", "messages", "prompt_tokens")
    assert (sum(row[0] for row in days), sum(row[1] for row in days)) == (1, 3)

    still_open = await by_name(store, "open_incidents", "id", "severity", "urgency")
    urgency = {"critical": 1, "high": 2, "medium": 3, "low": 4}
    assert still_open == {
        **{f"{name}-open": (name, number) for name, number in urgency.items()}, "i1": ("high", 2),
    }  # fmt: skip
    daily = await rows_of(
        store, "incident_daily_stats", "severity", "detected", "unresolved", "mean_resolve_us"
    )
    assert sum(row[1] for row in daily) == 9
    assert sum(row[2] for row in daily) == 5
    ten_minutes = 600_000_000
    assert all(ten_minutes <= row[3] <= 2 * ten_minutes for row in daily if row[3] is not None)
    assert {row[0] for row in daily if row[3] is not None} == set(urgency)


async def test_every_view_answers(store: Store) -> None:
    for view in VIEWS:
        assert await rows_of(store, view), view


async def test_a_registered_version_keeps_its_definition(store: Store) -> None:
    schema = f"{store.driver.schema}." if store.driver.schema else ""
    with pytest.raises(ConstraintViolated):
        async with store.transaction() as transaction:
            await transaction.fetch_text(f"UPDATE {schema}workflows SET version = 'other'")
    async with store.transaction() as transaction:
        await transaction.fetch_text(f"UPDATE {schema}workflows SET description = 'other'")


async def test_dashboards_are_as_old_as_their_refresh(fresh_postgres: str) -> None:
    async with opened(fresh_postgres) as store:
        assert await rows_of(store, "incident_daily_stats") == []
        await write_incidents(store, Severity.LOW)
        assert await rows_of(store, "incident_daily_stats") == []
        for _ in range(2):  # the second finds rows to compare with
            await store.driver.fetch_text(f"SELECT {store.driver.schema}.refresh_dashboards()")
        assert await rows_of(store, "incident_daily_stats", "detected", "unresolved") == [(2, 1)]


async def test_postgresql_tells_what_it_counts(fresh_postgres: str) -> None:
    await write_everything(fresh_postgres, 7)
    async with opened(fresh_postgres) as store:
        async for _ in optimize(store):
            pass
        for view in MONITORING:
            assert await rows_of(store, view), view
        sizes = await by_name(
            store, "table_sizes", "table_name", "partitions", "estimated_rows", "total_bytes"
        )
        assert sizes["messages"][:2] == (0, 3)
        assert sizes["events"][0] > 3
        assert not [name for name in sizes if name.startswith("events_")]
        (whole,) = await store.driver.fetch_text(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class "
            f"WHERE relnamespace = '{store.driver.schema}'::regnamespace AND relkind IN ('r', 'm')"
        )
        assert sum(row[2] for row in sizes.values()) == whole[0]
        indexes = await by_name(
            store, "index_usage_stats", "index_name", "table_name", "belongs_to", "is_unique"
        )
        assert indexes["runbooks_named"] == ("runbooks", "runbooks_named", True)
        assert [row for row in indexes.values() if row[1] == "events_results" and row[0] != "events"]
        bloat = await by_name(store, "table_bloat", "table_name", "last_vacuum_at")
        assert bloat["messages"][0] is not None
        connections = await rows_of(store, "connection_stats", "connections")
        assert sum(row[0] for row in connections) >= 1


async def test_the_most_urgent_incidents_are_the_first_of_an_index(shared_url: str) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    async with opened(shared_url) as store:
        if store.driver.dialect == "mysql":
            pytest.skip("has no indexes over expressions")
        await store.repo(Incident).create_many(
            Incident(
                id=f"i{n}", title="x", severity=list(Severity)[n % 4], detected_at=began + timedelta(hours=n)
            )
            for n in range(INCIDENTS)
        )
        schema = f"{store.driver.schema}." if store.driver.schema else ""
        await store.driver.fetch_text(f"ANALYZE {schema}incidents")
        text = (
            f"SELECT id FROM {schema}open_incidents WHERE tenant_id = 'default' "
            "ORDER BY urgency, detected_at LIMIT 20"
        )
        plan = await plan_of(store, text)
        assert "incidents_urgent" in plan
        assert not plan & {"sort", "SCAN incidents"}
        found = await store.driver.fetch_text(text)
        assert found[0] == (f"i{list(Severity).index(Severity.CRITICAL)}",)


KINDS = {
    "partial": "indpred IS NOT NULL",
    "composite": "indnkeyatts > 1",
    "expression": "indexprs IS NOT NULL",
    "covering": "indnatts > indnkeyatts",
    "gin": "amname = 'gin'",
    "btree": "amname = 'btree'",
}


async def test_indexes_of_every_kind_and_triggers(fresh_postgres: str) -> None:
    async with opened(fresh_postgres) as store:
        figures = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in KINDS.values())
        (row,) = await store.driver.fetch_text(
            f"SELECT {figures} "
            "FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam "
            f"WHERE relnamespace = '{store.driver.schema}'::regnamespace AND NOT c.relispartition"
        )
        counts = dict(zip(KINDS, row, strict=True))
        assert counts["btree"] + counts["gin"] >= 25
        assert all(counts.values()), counts
        (triggers,) = await store.driver.fetch_text(
            "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid "
            f"WHERE relnamespace = '{store.driver.schema}'::regnamespace AND NOT tgisinternal"
        )
        assert triggers[0] >= 7

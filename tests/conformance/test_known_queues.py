"""Failures that other queues had, each as a test of the rule that keeps it away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import holdfast as hf
from holdfast.fleet import sweeps
from holdfast.fleet.cancelling import post
from holdfast.fleet.claims import BY_AGE_EVERY, Lane, claim_lane, peek
from holdfast.fleet.limits import claim_limited, promote, repair
from holdfast.fleet.queues import Queues
from holdfast.records.executions import BootId, ExecutionStatus
from holdfast.records.queues import QueueSettings, Rate
from holdfast.store.drivers.base import Row
from holdfast.store.drivers.mysql_text import compiled
from holdfast.store.store import Store
from tests.conformance.fleets import NEWEST, Ghost, hired, present
from tests.conformance.hands import (
    bare,
    beside,
    hand,
    is_mysql,
    is_sqlite,
    mark,
    plant,
    row_of,
    rows,
    statements_of,
    until,
)

pytestmark = pytest.mark.anyio

BOOT = BootId(b"\xb0" * 16)
MANY = 100_000
DEAD = 20_000


class Work:
    """An app whose one workflow notes who came by, and waits where the test says so."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.ran: list[str] = []
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

        @self.app.step
        async def body(name: str) -> str:
            self.ran.append(name)
            if name.startswith("slow"):
                self.arrived.set()
                await self.go_on.wait()
            return name

        @self.app.workflow
        async def work(name: str) -> str:
            return await body(name)

        self.work: Any = work


async def is_now(store: Store, id: str, status: str) -> bool:
    return (await store.get_execution(id)).status == status


async def becomes(store: Store, id: str, status: str = "completed") -> None:
    await until(lambda: is_now(store, id, status), f"{id} did not become {status}")


COPIED = (
    "key", "tenant_id", "id", "workflow", "version", "definition", "fingerprint", "status", "queue", "class",
    "priority", "epoch", "limit_key", "created_at",
)  # fmt: skip
LOGGED = (
    "execution",
    "seq",
    "tenant_id",
    "epoch",
    "type",
    "generation",
    "attempt",
    "result",
    "at",
    "payload",
)
DEFINED = ("hash", "name", "version", "kind", "document", "created_at")


async def copies(store: Store, model: str, count: int, *, first: int = 1, **changes: str) -> None:
    """`count` more ready executions like `model`, with logs; `changes` are SQL by column, `n` the number."""
    if is_mysql(store):
        prefix = ""
        numbers = json.dumps(list(range(first, first + count)))
        series = f"JSON_TABLE('{numbers}', '$[*]' COLUMNS (n INT PATH '$')) g"
        key = "UNHEX(CONCAT(HEX(SUBSTR(m.`key`, 1, 12)), LPAD(HEX(n), 8, '0')))"
    elif is_sqlite(store):
        prefix = ""
        series = f"(SELECT value AS n FROM json_each('{json.dumps(list(range(first, first + count)))}'))"
        key = "unhex(hex(substr(m.key, 1, 12)) || printf('%08X', n))"
    else:
        prefix, series = f"{store.driver.schema}.", f"generate_series({first}, {first + count - 1}) AS n"
        key = "substr(m.key, 1, 12) || int4send(n)"
    tenant = changes.get("tenant_id", "m.tenant_id")
    row = {"id": joined(store, "m.id", "'-'", "n"), **changes, "key": key}
    event = {"execution": key, "tenant_id": tenant}
    copied = ", ".join("`key`" if name == "key" and is_mysql(store) else name for name in COPIED)
    models = f"FROM {prefix}executions m CROSS JOIN {series}"
    chosen = f"WHERE m.tenant_id = '{store.tenant}' AND m.id = '{model}'"
    texts = [
        f"INSERT INTO {prefix}events ({', '.join(LOGGED)}) "
        f"SELECT {', '.join(event.get(name, f'v.{name}') for name in LOGGED)} "
        f"{models} JOIN {prefix}events v ON v.execution = m.key {chosen}",
        f"INSERT INTO {prefix}executions ({copied}) "
        f"SELECT {', '.join(row.get(name, f'm.{name}') for name in COPIED)} {models} {chosen}",
    ]
    if "tenant_id" in changes:
        texts.append(
            f"INSERT INTO {prefix}definitions (tenant_id, {', '.join(DEFINED)}) "
            f"SELECT {tenant}, {', '.join(DEFINED)} FROM {prefix}definitions m"
        )
    if not is_sqlite(store):
        texts.append(f"ANALYZE {'TABLE ' if is_mysql(store) else ''}{prefix}executions")
    for text in texts:
        await store.driver.fetch_text(text)


def joined(store: Store, *texts: str) -> str:
    """SQL that writes texts one after the other."""
    return f"CONCAT({', '.join(texts)})" if is_mysql(store) else " || ".join(texts)


# KQ1: a message is delivered again because its time or its run is longer than the visibility timeout.


async def test_known_kq1_a_delayed_start_is_not_claimed_before_it_is_due(shared_url: str) -> None:
    work = Work(shared_url)
    async with work.app, asyncio.timeout(20):
        store = work.app.store
        await work.work.options(id="later", delay="10h").enqueue("later")
        await present(store, BOOT)
        lane = Lane("default", "io", store.tenant)
        assert (await peek(store, ["default"], ["io"], [])).lanes == []
        assert await claim_lane(store, BOOT, lane, 10, schema=NEWEST) == []
        assert await sweeps.wake_due(store) == 0
        due = "timer_at" if is_mysql(store) else "due_at"
        plant(store, "fleet.wake_due", f"{due} <= ", f"{due} > ")  # as if ten hours had passed
        assert await sweeps.wake_due(store) == 1
        assert [row[1] for row in await claim_lane(store, BOOT, lane, 10, schema=NEWEST)] == ["later"]
        assert await claim_lane(store, BOOT, lane, 10, schema=NEWEST) == []


async def test_known_kq1_a_run_longer_than_many_leases_is_not_delivered_again(shared_url: str) -> None:
    work, lease = Work(shared_url), timedelta(seconds=1)
    async with work.app, asyncio.timeout(30):
        store = work.app.store
        await work.work.options(id="x").enqueue("slow")
        async with (
            hired(shared_url, work.app, lease=lease) as owner,
            hired(shared_url, work.app, lease=lease) as other,
        ):
            await work.arrived.wait()
            first = await lease_of(store, "x")

            async def renewed_often() -> bool:
                return await lease_of(store, "x") - first > 3 * lease / timedelta(microseconds=1)

            await until(renewed_often, "the lease is not renewed")
            work.go_on.set()
            await becomes(store, "x")
            claimed = owner.worker.report.claimed + other.worker.report.claimed
        assert (work.ran, claimed) == (["slow"], 1)
        assert (await store.get_execution("x")).epoch == 1


async def lease_of(store: Store, id: str) -> int:
    """The end of the lease of an execution's owner, in microseconds."""
    owner = (await store.get_execution(id)).owner
    end = {
        "sqlite": "lease_until",
        "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', lease_until)",
        "postgresql": "(extract(epoch FROM lease_until) * 1000000)::bigint",
    }[store.driver.dialect]
    text = f"SELECT {end} FROM {{workers}} WHERE boot_id = {mark(store, 1)}"
    return int((await rows(store, text, owner))[0][0])


# KQ2: what was popped from a queue is gone when the worker dies.


async def test_known_kq2_a_worker_that_dies_after_its_claim_loses_nothing(shared_url: str) -> None:
    work = Work(shared_url)
    names = [f"n{number}" for number in range(25)]
    async with work.app, hand(shared_url) as elsewhere, asyncio.timeout(30):
        for name in names:
            await work.work.options(id=name).enqueue(name)
        ghost = Ghost(elsewhere, timedelta(seconds=60))
        await ghost.appear()
        assert len(await ghost.claim()) == len(names)
        assert work.ran == []
        await ghost.vanish()
        async with hired(shared_url, work.app):
            for name in names:
                await becomes(work.app.store, name)
    assert sorted(work.ran) == sorted(names)


async def test_known_kq2_with_limits_too_and_the_places_come_along(shared_url: str) -> None:
    work = Work(shared_url)
    names = [f"n{number}" for number in range(6)]
    async with work.app, hand(shared_url) as elsewhere, asyncio.timeout(30):
        store = work.app.store
        await Queues(store).set_limits("default", concurrency=2, key_concurrency=1)
        for number, name in enumerate(names):
            await work.work.options(id=name, limit_key=f"k{number % 2}").enqueue(name)
        ghost = Ghost(elsewhere, timedelta(seconds=60))
        await ghost.appear()
        settings = await Queues(store).settings("default")
        boot = ghost.registration.boot
        await present(store, BOOT)
        assert len(await claim_limited(elsewhere, boot, settings, "io", store.tenant, 10)) == 2
        assert await claim_limited(store, BOOT, settings, "io", store.tenant, 10) == []
        await ghost.vanish()
        async with hired(shared_url, work.app):
            for name in names:
                await becomes(store, name)
    assert sorted(work.ran) == sorted(names)


# KQ3: dead tuples behind a held snapshot make every claim slower.


async def test_known_kq3_a_claim_behind_a_held_snapshot_reads_each_dead_row_once(fresh_postgres: str) -> None:
    """Rows that were claimed and ended since somebody's old snapshot can not be removed. A claim has to pass
    them, but it passes each of them once, however many it takes; and when the snapshot is gone, none."""
    work = Work(fresh_postgres)
    async with work.app, asyncio.timeout(60):
        store = work.app.store
        await work.work.options(id="m", priority=-9).enqueue("m")
        await present(store, BOOT)
        await copies(store, "m", DEAD + 1_000, priority="0")
        held, connection = await beside(store), await beside(store)
        try:
            fresh = await buffers(connection, store, "fleet.claim", 100)
            await held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await held.fetchval("SELECT count(*) FROM holdfast.executions")
            done = 0
            while done < DEAD:
                lane = Lane("default", "io", store.tenant)
                done += len(await claim_lane(store, BOOT, lane, 1_000, schema=NEWEST))
            behind = await buffers(connection, store, "fleet.claim", 100)
            one = await buffers(connection, store, "fleet.claim", 1)
            many = await buffers(connection, store, "fleet.claim", 500)
            await held.execute("ROLLBACK")
            await connection.execute("VACUUM holdfast.executions")
            after = await buffers(connection, store, "fleet.claim", 100)
        finally:
            await held.close(timeout=5)
            await connection.close(timeout=5)
        print(f"buffers: {fresh} for 100 rows; behind {done} dead {behind}, {one} for 1; {after} afterwards")
        assert behind < fresh + DEAD / 10, "at most a page for every ten dead rows, which lie side by side"
        assert many < behind + 400 * fresh / 100 * 1.5, "what is dead is passed once for a batch"
        assert 100 * one > 10 * behind, "the twin: claiming one by one passes it every time"
        assert after < 1.5 * fresh


async def buffers(connection: asyncpg.Connection[Any], store: Store, statement: str, limit: int) -> int:
    """Buffers that a claim touches; it is rolled back."""
    plan = await explain(connection, store, statement, limit)
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


# KQ4: a claim that sorts, or reads what it does not take.


async def explain(
    connection: asyncpg.Connection[Any], store: Store, statement: str, limit: int, *, generic: bool = True
) -> dict[str, Any]:
    """How a claim ran, by a generic plan (what a driver ends up with) or by one for its values."""
    text = store.driver._sql[statement]  # type: ignore[attr-defined]
    lane = f"'default', 'io', '{store.tenant}'"
    empty = "'{}'::bytea[]"
    values = {
        "fleet.claim": f"{lane}, '\\x{BOOT.hex()}', {limit}, {empty}, {NEWEST}",
        "fleet.claim_oldest": f"{lane}, '\\x{BOOT.hex()}', {limit}, {empty}, {NEWEST}",
        "queues.candidates": f"{lane}, {limit}, {empty}",
    }[statement]
    async with rolled_back(connection):
        await connection.execute(
            f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan"
        )
        await connection.execute("SET LOCAL jit = off")
        await connection.execute(f"PREPARE claim AS {text}")
        try:
            found = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim({values})"
            )
        finally:
            await connection.execute("DEALLOCATE claim")
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return plan


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("generic", [True, False], ids=["generic", "custom"])
async def test_known_kq4_a_claim_goes_by_its_index_and_reads_what_it_takes(
    fresh_postgres: str, generic: bool
) -> None:
    work = Work(fresh_postgres)
    async with work.app, asyncio.timeout(120):
        store = work.app.store
        await present(store, BOOT)
        await work.work.options(id="m").enqueue("m")
        await copies(store, "m", MANY, priority="n % 3")
        connection = await beside(store)
        try:
            for statement in ("fleet.claim", "queues.candidates"):
                for limit in (1, 100, 1_000):
                    plan = await explain(connection, store, statement, limit, generic=generic)
                    judge(plan, limit)
            plan = await explain(connection, store, "fleet.claim_oldest", 10, generic=generic)
            assert read(plan) <= 40, "a few rows for each of the three priorities"
            await connection.execute("DROP INDEX holdfast.executions_ready")
            await connection.execute(
                "CREATE INDEX executions_ready ON holdfast.executions (queue, class, tenant_id) "
                "WHERE status = 'ready'"
            )
            with pytest.raises(AssertionError):  # the twin: an index that does not match the order
                judge(await explain(connection, store, "queues.candidates", 100, generic=generic), 100)
        finally:
            await connection.close(timeout=5)


def judge(plan: dict[str, Any], limit: int) -> None:
    found = list(nodes(plan))
    whole = {"Sort", "Incremental Sort", "Seq Scan", "Hash Join", "Bitmap Heap Scan"}
    assert not [node for node in found if node["Node Type"] in whole and not searches(node)]
    assert any(node.get("Index Name") == "executions_ready" for node in found)
    assert all(node.get("Rows Removed by Filter", 0) == 0 for node in found)
    assert read(plan) <= 2 * limit, "once in the index's order, once by key"


def searches(node: dict[str, Any]) -> bool:
    """Whether a bitmap is a search by keys that were picked: it costs what an index scan does."""
    condition = node.get("Recheck Cond", "")
    return "(key = ANY (" in condition or "(execution = e.key)" in condition


def read(plan: dict[str, Any]) -> int:
    """Rows of executions that were read."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(plan)
        if node["Node Type"] in ("Index Scan", "Index Only Scan", "Seq Scan", "Bitmap Heap Scan")
        and node.get("Relation Name") == "executions"
    )


async def test_known_kq4_on_mysql_a_claim_goes_by_its_index_and_reads_what_it_takes(fresh_mysql: str) -> None:
    work = Work(fresh_mysql)
    async with work.app, asyncio.timeout(120):
        store = work.app.store
        await present(store, BOOT)
        await work.work.options(id="m").enqueue("m")
        await copies(store, "m", MANY // 5, priority="n % 3")
        connection = await beside(store)
        try:
            for statement in ("fleet.claim", "queues.candidates"):
                for limit in (1, 100, 1_000):
                    assert await mysql_reads(connection, store, statement, limit) <= 2 * limit + 5
            assert await mysql_reads(connection, store, "fleet.claim_oldest", 10) <= 40
            await connection.execute("DROP INDEX executions_ready ON executions")
            await connection.execute(
                "CREATE INDEX executions_ready ON executions (status, queue, class, tenant_id)"
            )
            with pytest.raises(AssertionError):  # the twin: an index that does not match the order
                await mysql_reads(connection, store, "queues.candidates", 100)
        finally:
            await connection.close(timeout=5)


async def mysql_reads(connection: Any, store: Store, statement: str, limit: int) -> int:
    """How many rows the locking statement of a claim reads; it must not sort, and goes by its index."""
    lane = ["default", "io", store.tenant]
    values = [*lane, limit, "[]"] if statement == "queues.candidates" else [*lane, BOOT, limit, "[]", NEWEST]
    *before, picking = _until_locked(store, statement, values)
    await connection.execute("START TRANSACTION")
    try:
        for text in before:
            await connection.execute(text)
        plan = await connection.fetch("EXPLAIN " + picking.replace(" INTO @hf_keys", ""))
        assert not any("filesort" in (row[9] or "") for row in plan), plan
        assert not any(row[3] in ("ALL", "index") and row[2] == "executions" for row in plan), plan
        if statement != "fleet.claim_oldest":
            assert any(row[5] == "executions_ready" for row in plan), plan
        first = await _handled(connection)
        await connection.execute(picking)
        return await _handled(connection) - first
    finally:
        await connection.execute("ROLLBACK")


def _until_locked(store: Store, statement: str, values: list[Any]) -> list[str]:
    """The SQL of a script up to the statement that locks."""
    texts = [
        text.decode("utf-8", "surrogateescape")
        for text in compiled(statements_of(store)[statement].replace("{binary}", "utf8mb4_bin")).render(
            values
        )
    ]
    locking = next(number for number, text in enumerate(texts) if "FOR UPDATE" in text)
    return texts[: locking + 1]


async def _handled(connection: Any) -> int:
    """Rows that the session has read by an index or a scan, those of temporary tables not counted."""
    asked = (
        "SHOW STATUS WHERE variable_name IN ('Handler_read_key', 'Handler_read_next', 'Handler_read_prev')"
    )
    return sum(int(row[1]) for row in await connection.fetch(asked))


async def test_known_kq4_on_sqlite_a_claim_goes_by_its_index_and_does_not_sort(tmp_path: Any) -> None:
    async with hand(f"sqlite:///{tmp_path / 'holdfast.db'}") as store:
        connection = bare(store)
        connection.create_scalar_function("hf_now", lambda: 0, 0)
        try:
            for statement in ("fleet.claim", "queues.candidates"):
                told = sqlite_plan(store, connection, statement)
                assert any(
                    "USING INDEX executions_ready" in line or "executions_ready (queue=?" in line
                    for line in told
                )
                assert not any("TEMP B-TREE" in line for line in told), told
                assert not any(line.startswith("SCAN executions") for line in told), told
            connection.execute("DROP INDEX executions_ready")
            connection.execute(
                "CREATE INDEX executions_ready ON executions (queue, class, tenant_id) WHERE status = 'ready'"
            )
            assert any("TEMP B-TREE" in line for line in sqlite_plan(store, connection, "fleet.claim")), (
                "the twin"
            )
        finally:
            connection.close()


def sqlite_plan(store: Store, connection: Any, statement: str) -> list[str]:
    text = store.driver._sql[statement]  # type: ignore[attr-defined]
    count = max(int(n) for n in __import__("re").findall(r"\?(\d+)", text))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * count)]


# KQ5: a large tenant or a stream of urgent work keeps all others waiting.


async def test_known_kq5_a_small_tenant_does_not_wait_behind_a_large_one(shared_url: str) -> None:
    work = Work(shared_url)
    async with work.app, asyncio.timeout(120):
        store = work.app.store
        await work.work.options(id="big").enqueue("big")
        await copies(store, "big", MANY)
        await copies(store, "big", 1, first=MANY + 1, tenant_id="'small'", id="'small'")
        async with hired(shared_url, work.app, concurrency=10) as worker:

            async def has_ended() -> bool:
                text = "SELECT count(*) FROM {executions} WHERE tenant_id = 'small' AND status = 'completed'"
                return bool((await rows(store, text))[0][0])

            await until(has_ended, "the small tenant waits")
            assert worker.worker.report.claimed < MANY / 10
        text = "SELECT count(*) FROM {executions} WHERE tenant_id = 'small' AND epoch = 1"
        assert (await rows(store, text))[0][0] == 1


async def test_known_kq5_the_lowest_priority_has_its_turn_under_a_stream_of_urgent_work(
    shared_url: str,
) -> None:
    """Every look finds more urgent work than can be taken; the oldest of all is taken within eight claims."""
    work = Work(shared_url)
    async with work.app, asyncio.timeout(120):
        store = work.app.store
        await work.work.options(id="low", priority=-100).enqueue("low")
        await copies(store, "low", MANY, priority="9", id=joined(store, "'high '", "n"))
        claims = 0
        async with hired(shared_url, work.app, concurrency=10) as worker:
            await until(lambda: is_now(store, "low", "completed"), "the lowest priority waits")
            claims = worker.worker.report.claimed
        assert claims < MANY / 10
        lane = Lane("default", "io", store.tenant)
        taken: list[Row] = []
        await present(store, BOOT)
        await work.work.options(id="lower", priority=-100).enqueue("lower")
        for turn in range(1, BY_AGE_EVERY + 1):
            by_age = turn % BY_AGE_EVERY == 0
            taken += await claim_lane(store, BOOT, lane, 10, schema=NEWEST, by_age=by_age)
        assert "lower" in [row[1] for row in taken]


async def test_known_kq5_with_limits_too(shared_url: str) -> None:
    work = Work(shared_url)
    async with work.app, asyncio.timeout(60):
        store = work.app.store
        await Queues(store).set_limits(
            "default", concurrency=2, tenant_concurrency=2, rate=Rate.of(10**6, "1s")
        )
        await work.work.options(id="low", priority=-100).enqueue("low")
        await copies(store, "low", 5_000, priority="9", id=joined(store, "'high '", "n"))
        await copies(store, "low", 1, first=MANY + 1, tenant_id="'small'", id="'small'")
        async with hired(shared_url, work.app, concurrency=10) as worker:
            await until(lambda: is_now(store, "low", "completed"), "the lowest priority waits")

            async def small_ended() -> bool:
                text = "SELECT count(*) FROM {executions} WHERE tenant_id = 'small' AND status = 'completed'"
                return bool((await rows(store, text))[0][0])

            await until(small_ended, "the small tenant waits")
            assert worker.worker.report.claimed < 2_500


# KQ9: what was acknowledged is delivered again.


async def test_known_kq9_an_acknowledged_execution_is_never_run_again(shared_url: str) -> None:
    work = Work(shared_url)
    async with work.app, asyncio.timeout(30):
        store = work.app.store
        await Queues(store).set_limits("default", concurrency=5, key_concurrency=5)
        handle = await work.work.options(id="x", limit_key="k", dedupe_key="d").enqueue("x")
        async with hired(shared_url, work.app) as worker:
            assert await handle == "x"
            boot = worker.launcher.registration.boot
        execution = await store.get_execution("x")
        before = await row_of(store, execution.key)
        # Everything that brings executions back, one after the other, for one that has ended.
        assert not await post(store, execution.key, "signal", "again", None, b"m" * 16)
        await sweeps.recover(store, boot, None)
        await sweeps.wake_due(store)
        await promote(store, "default", [f"key:{store.tenant}:k"])
        await repair(store)
        again = await work.work.options(id="x").enqueue("x")
        assert again.id == "x"
        settings = QueueSettings(name="default")
        await present(store, BOOT)
        assert await claim_limited(store, BOOT, settings, "io", store.tenant, 10) == []
        async with hired(shared_url, work.app) as other:
            await work.work.options(id="after").enqueue("after")
            await becomes(store, "after")
            assert other.worker.report.claimed == 1
        assert await row_of(store, execution.key) == before
        assert before.status is ExecutionStatus.COMPLETED
        assert work.ran == ["x", "after"]

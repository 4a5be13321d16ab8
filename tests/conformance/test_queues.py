"""Queues as people see and steer them, and deduplication of what is left in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import InvalidArgument, OtherQueue, QueueNotFound, UnknownOutcome, WrongStatus
from holdfast.fleet import queues as looking
from holdfast.fleet.ownership import Registration
from holdfast.fleet.queues import Queues
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey
from holdfast.records.queues import QueueSettings, Rate, Tally
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Batch, NewExecution, Reply, Transition
from holdfast.store.entries import Entry, Holding, Placed
from holdfast.store.journal import Journal
from holdfast.store.store import Store
from tests.conformance.hands import (
    DEAD,
    beside,
    hand,
    is_mysql,
    is_postgresql,
    is_sqlite,
    journal_over,
    plant,
    row_of,
    rows,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with hand(shared_url) as opened:
        yield opened


def left(id: str, store: Store, **fields: Any) -> Entry:
    """The entry that leaves an execution for workers."""
    status = fields.pop("status", "ready")
    owner = DEAD if status == "running" else None
    holding = Holding(fields.pop("key", None) or new_key(), id, fields.pop("tenant", store.tenant), epoch=0)
    new = NewExecution(
        holding.key, holding.tenant, id, "proof", "1", b"d" * 32, b"f" * 16, status,
        fields.pop("queue", "mail"), "io", 0, fields.pop("due_in_us", None), owner, 0, **fields,
    )  # fmt: skip
    return Entry(holding, EventType.EXECUTION_STARTED, create=new)


async def leave(store: Store, id: str, **fields: Any) -> ExecutionKey:
    entry = left(id, store, **fields)
    assert await store.journal.append(entry) is Answer.WRITTEN
    return entry.holding.key


async def end(store: Store, key: ExecutionKey, status: str, error: dict[str, Any] | None = None) -> None:
    holding = Holding(key, "?", store.tenant, epoch=0, next_seq=2)
    placed = Placed(codec.encode(error or {}), None, None)
    kind = EventType(f"execution.{status}")
    await store.journal.append(
        Entry(holding, kind, payload=placed, transition=Transition(status, final=True))
    )


# Looking.


async def test_every_queue_with_anything_in_it_is_listed_with_its_depth(store: Store) -> None:
    queues = Queues(store)
    assert await queues.states() == []
    for n in range(3):
        await leave(store, f"r{n}")
    await leave(store, "running", queue="calls", status="running")
    await leave(store, "later", queue="delayed", status="waiting", due_in_us=10**9)
    await end(store, await leave(store, "failed", queue="dead"), "failed", {"type": "x", "message": "y"})
    await end(store, await leave(store, "done", queue="finished"), "completed")
    await queues.set_limits("said", concurrency=3)
    found = {state.settings.name: state for state in await queues.states()}
    assert sorted(found) == ["calls", "dead", "delayed", "mail", "said"]
    told = {
        name: [
            tally.count
            for tally in (
                state.ready,
                state.running,
                state.waiting,
                state.blocked,
                state.paused,
                state.failed,
            )
        ]
        for name, state in found.items()
    }
    assert told == {
        "calls": [0, 1, 0, 0, 0, 0], "dead": [0, 0, 0, 0, 0, 1], "delayed": [0, 0, 1, 0, 0, 0],
        "mail": [3, 0, 0, 0, 0, 0], "said": [0, 0, 0, 0, 0, 0],
    }  # fmt: skip
    oldest = await row_of(store, (await store.get_execution("r0")).key)
    assert found["mail"].oldest_ready == oldest.created_at
    assert not any(tally.more for state in found.values() for tally in (state.ready, state.waiting))


async def test_counting_stops_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "COUNT_MAX", 5)
    await asyncio.gather(*(leave(store, f"m{n}") for n in range(8)))
    await leave(store, "one", queue="other")
    found = {state.settings.name: state for state in await Queues(store).states()}
    assert found["mail"].ready == Tally(5, more=True)
    assert str(found["mail"].ready) == "5+"
    assert found["other"].ready == Tally(1)


async def test_a_look_at_a_large_queue_reads_a_bounded_number_of_rows(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store:
        await fill(store, 60_000)
        connection = await beside(store)
        try:
            text = store.driver._sql["queues.depths"]  # type: ignore[attr-defined]
            values = (["big"], looking.COUNT_MAX + 1, store.tenant)
            assert await rows_read(connection, text, *values) <= 4 * (looking.COUNT_MAX + 1)
            text = store.driver._sql["queues.unfinished"]  # type: ignore[attr-defined]
            assert await rows_read(connection, text, looking.COUNT_MAX + 1) <= 2 * (looking.COUNT_MAX + 1)
        finally:
            await connection.close(timeout=5)
        found = await Queues(store).state("big")
        assert found.ready == Tally(looking.COUNT_MAX, more=True)


async def rows_read(connection: Any, text: str, *values: Any) -> int:
    """How many rows the scans of a statement returned or threw away."""
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *values)
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(json.loads(plan)[0]["Plan"])
        if "Scan" in node["Node Type"] and node.get("Relation Name") == "executions"
    )


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def fill(store: Store, count: int, *, queue: str = "big", priority: str = "0") -> None:
    """Many ready executions at once, without a log."""
    head = (
        "(key, tenant_id, id, workflow, version, definition, fingerprint, status, queue, class, priority, "
        "epoch, created_at)"
    )
    if is_sqlite(store):
        text = (
            f"INSERT INTO executions {head} WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
            "WHERE n < ?1) SELECT randomblob(16), ?2, ?3 || n, 'proof', '1', zeroblob(32), randomblob(16), "
            f"'ready', ?3, 'io', {priority}, 0, hf_now() FROM g"
        )
    elif is_mysql(store):
        numbers = json.dumps(list(range(1, count + 1)))
        text = (
            f"INSERT INTO executions {head.replace('key', '`key`')} "
            "SELECT RANDOM_BYTES(16), ?2, CONCAT(?3, n), 'proof', '1', REPEAT(X'00', 32), RANDOM_BYTES(16), "
            f"'ready', ?3, 'io', {priority}, 0, UTC_TIMESTAMP(6) "
            "FROM JSON_TABLE(?1, '$[*]' COLUMNS (n INT PATH '$')) g"
        )
        await store.driver.fetch_text(text, numbers, store.tenant, queue)
        return
    else:
        schema = store.driver.schema
        text = (
            f"INSERT INTO {schema}.executions {head} SELECT uuid_send(gen_random_uuid()), $2, $3 || n, "
            "'proof', '1', decode(repeat('00', 32), 'hex'), uuid_send(gen_random_uuid()), 'ready', $3, 'io', "
            f"{priority}, 0, now() FROM generate_series(1, $1) n"
        )
    await store.driver.fetch_text(text, count, store.tenant, queue)


async def test_workers_that_serve_a_queue_are_counted(store: Store) -> None:
    await leave(store, "m")
    registration = Registration(store, program="worker")
    await registration.start()
    try:
        said = {"queues": ["mail"], "classes": ["io"], "concurrency": 1, "state": "active"}
        await store.driver.fetch("fleet.describe", registration.boot, json.dumps(said))
        assert (await Queues(store).state("mail")).listeners == 1
        await store.driver.fetch(
            "fleet.describe", registration.boot, json.dumps(said | {"state": "draining"})
        )
        assert (await Queues(store).state("mail")).listeners == 0
    finally:
        await registration.stop()


# Steering.


async def test_limits_are_set_one_by_one_and_taken_away(store: Store) -> None:
    queues = Queues(store)
    await queues.set_limits("mail", concurrency=5, rate=Rate.parse("10/1s"))
    await queues.set_limits("mail", key_concurrency=2)
    assert await queues.settings("mail") == QueueSettings(
        name="mail", concurrency=5, key_concurrency=2, rate=Rate(10, timedelta(seconds=1))
    )
    after = await queues.set_limits("mail", concurrency=None, key_concurrency=None, rate=None)
    assert after == QueueSettings(name="mail")
    assert not after.is_limited
    await queues.pause("mail")
    assert (await queues.settings("mail")).paused


async def test_two_that_set_at_once_do_not_lose_each_others_change(shared_url: str) -> None:
    async with hand(shared_url) as one, hand(shared_url) as two:
        await Queues(one).pause("mail")
        await asyncio.gather(
            Queues(one).set_limits("mail", concurrency=5), Queues(two).set_limits("mail", key_concurrency=2)
        )
        after = await Queues(one).settings("mail")
        assert (after.concurrency, after.key_concurrency, after.paused) == (5, 2, True)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"key_concurrency": -1}, {"tenant_concurrency": 10**7}], ids=str
)
async def test_a_limit_that_can_not_be_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await Queues(store).set_limits("mail", **wrong)
    assert await Queues(store).states() == []


@pytest.mark.parametrize("name", ["", "a" * 256, "a\nb", "local"])
async def test_a_name_that_can_not_be_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await Queues(store).pause(name)


async def test_a_queue_nobody_knows_is_not_found(store: Store) -> None:
    with pytest.raises(QueueNotFound):
        await Queues(store).state("mail")


# Dead letters.


async def test_dead_letters_tell_the_reason_and_page(store: Store) -> None:
    for n in range(5):
        error = {"type": "ValueError", "message": f"number {n}", "step": "send"}
        await end(store, await leave(store, f"m{n}"), "failed", error)
    await end(store, await leave(store, "other", queue="other"), "failed")
    queues = Queues(store)
    first = await queues.dead_letters("mail", limit=3)
    assert [(letter.id, letter.message, letter.step) for letter in first] == [
        (f"m{n}", f"number {n}", "send") for n in (4, 3, 2)
    ]
    rest = await queues.dead_letters("mail", limit=3, before=first[-1].key)
    assert [letter.id for letter in rest] == ["m1", "m0"]
    assert (await queues.dead_letters("other"))[0].type == "unknown"


async def test_only_a_dead_letter_of_the_queue_is_requeued(store: Store) -> None:
    queues = Queues(store)
    key = await leave(store, "m")
    await end(store, key, "failed", {"type": "x", "message": "y"})
    with pytest.raises(OtherQueue):
        await queues.requeue("calls", await row_of(store, key))
    assert [execution.id for execution in await queues.failed("mail", "workflow:proof")] == ["m"]
    assert await queues.failed("mail", "workflow:other") == []
    await queues.requeue("mail", await row_of(store, key))
    assert (await row_of(store, key)).status == "ready"
    with pytest.raises(WrongStatus):
        await queues.requeue("mail", await row_of(store, key))


# Deduplication.


async def test_a_taken_key_answers_the_execution_that_has_it(store: Store) -> None:
    first = await leave(store, "one", dedupe_key="order 7")
    assert await store.journal.append(left("two", store, dedupe_key="order 7")) is Answer.RECORDED
    found = await Queues(store).by_dedupe_key("mail", "order 7")
    assert found is not None
    assert found.key == first
    assert await store.find_execution("two") is None


@pytest.mark.parametrize(
    "other", [{"queue": "calls"}, {"tenant": "other"}, {"dedupe_key": "order 8"}], ids=str
)
async def test_a_key_is_taken_per_tenant_and_queue(store: Store, other: dict[str, str]) -> None:
    await leave(store, "one", dedupe_key="order 7")
    await leave(store, "two", **{"dedupe_key": "order 7", **other})


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_key_is_free_again_when_its_execution_has_ended(store: Store, status: str) -> None:
    await end(store, await leave(store, "one", dedupe_key="order 7"), status)
    assert await Queues(store).by_dedupe_key("mail", "order 7") is None
    await leave(store, "two", dedupe_key="order 7")


async def test_a_key_is_taken_while_its_execution_waits_or_runs(store: Store) -> None:
    await leave(store, "one", dedupe_key="a", status="waiting", due_in_us=10**9)
    await leave(store, "two", dedupe_key="b", status="running")
    for key in ("a", "b"):
        assert await store.journal.append(left("x", store, dedupe_key=key)) is Answer.RECORDED


async def test_of_many_at_once_one_is_left(shared_url: str) -> None:
    async with hand(shared_url) as one, hand(shared_url) as two:
        entries = [
            store.journal.append(left(f"m{n}{store is two}", store, dedupe_key="order 7"))
            for n in range(20)
            for store in (one, two)
        ]
        answers = await asyncio.gather(*entries)
        assert sorted(answer.value for answer in answers) == ["recorded"] * 39 + ["written"]
        found = await rows(one, "SELECT count(*) FROM {executions}")
        assert found[0][0] == 1


async def test_without_the_unique_index_several_are_left(shared_url: str) -> None:
    """The twin: what tells the two apart is the index, not a look before."""
    async with hand(shared_url) as one:
        schema = f"{one.driver.schema}." if one.driver.schema else ""
        where = " ON executions" if is_mysql(one) else ""
        await one.driver.fetch_text(f"DROP INDEX {schema}executions_dedupe{where}")
        if not is_postgresql(one):
            plant(one, "journal.id_taken", "dedupe_key = ?5", "dedupe_key = ?5 AND 0")
        for id in ("one", "two"):
            await leave(one, id, dedupe_key="order 7")
        assert (await rows(one, "SELECT count(*) FROM {executions}"))[0][0] == 2


async def test_after_a_lost_reply_the_own_start_is_told_from_another(shared_url: str) -> None:
    """A batch that was written though its reply was lost is `written` when it is sent again."""
    lost: list[int] = []

    async def losing(flush: Any, batch: Batch) -> list[Reply]:
        replies: list[Reply] = await flush(batch)
        if not lost:
            lost.append(1)
            raise UnknownOutcome("the reply was lost")
        return replies

    async with hand(shared_url) as store, journal_over(store, losing) as journal:
        assert isinstance(journal, Journal)
        assert await journal.append(left("one", store, dedupe_key="order 7")) is Answer.WRITTEN
        assert await journal.append(left("two", store, dedupe_key="order 7")) is Answer.RECORDED
        assert (await rows(store, "SELECT count(*) FROM {executions}"))[0][0] == 1


async def test_enqueueing_with_a_taken_key_gives_the_handle_of_the_first(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def mail(to: str) -> str:
        return to

    async with app, asyncio.timeout(20):
        chosen: Any = mail
        options = chosen.options(queue="mail", dedupe_key="order 7")
        handles = await asyncio.gather(*(options.enqueue(f"{n}") for n in range(5)))
        assert len({handle.id for handle in handles}) == 1

"""Queues with limits: who gets a place, who waits for one, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.fleet import limits
from holdfast.fleet.limits import claim_limited, promote, repair
from holdfast.fleet.queues import Queues
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import BootId, ExecutionKey
from holdfast.records.queues import QueueSettings, Rate
from holdfast.store.drivers.base import Answer, NewExecution, Row
from holdfast.store.entries import Entry, Holding
from holdfast.store.query import bound_list
from holdfast.store.store import Store
from tests.conformance.fleets import NEWEST, hired, present
from tests.conformance.hands import (
    beside,
    ending,
    hand,
    is_mysql,
    moment_text,
    plant,
    prefixed,
    row_of,
    statements_of,
    suspending,
    take_over,
    until,
    waiters,
)

pytestmark = pytest.mark.anyio

BOOT = BootId(b"\xb0" * 16)
QUEUE = "mail"


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with hand(shared_url) as opened:
        await present(opened, BOOT)
        yield opened


async def enqueue(
    store: Store, id: str, *, queue: str = QUEUE, tenant: str | None = None, **fields: Any
) -> ExecutionKey:
    """An execution that is left for workers."""
    holding = Holding(new_key(), id, tenant or store.tenant, epoch=0)
    new = NewExecution(
        holding.key, holding.tenant, id, "proof", "1", b"d" * 32, b"f" * 16, "ready", queue, "io",
        fields.pop("priority", 0), None, None, 0, **fields,
    )  # fmt: skip
    answer = await store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, create=new))
    assert answer is Answer.WRITTEN
    return holding.key


async def limit(store: Store, **settings: Any) -> QueueSettings:
    return await Queues(store).set_limits(QUEUE, **settings)


async def claim(store: Store, count: int = 10, *, tenant: str | None = None, **options: Any) -> list[str]:
    """Claim as a worker does; the ids."""
    return [row[1] for row in await claim_rows(store, count, tenant=tenant, **options)]


async def claim_rows(
    store: Store, count: int = 10, *, tenant: str | None = None, **options: Any
) -> list[Row]:
    known = (await limits.settings(store)).get(QUEUE) or QueueSettings(name=QUEUE)
    return await claim_limited(store, BOOT, known, "io", tenant or store.tenant, count, **options)


def holding_of(row: Row) -> Holding:
    holding = Holding(ExecutionKey(bytes(row[0])), row[1], row[2], epoch=row[7], next_seq=2, wakes=row[8])
    holding.limited = True
    return holding


async def finish(store: Store, row: Row) -> None:
    """End a claimed execution: the flush gives its places back, and nothing is promoted yet."""
    assert await store.journal.append(ending(holding_of(row))) is Answer.WRITTEN


async def places(store: Store) -> dict[str, list[bytes | None]]:
    """The holders of each scope, by number."""
    table = f"{store.driver.schema}.slots" if store.driver.schema else "slots"
    found: dict[str, list[bytes | None]] = {}
    text = f"SELECT scope, no, holder FROM {table} ORDER BY scope, no"
    for scope, no, holder in await store.driver.fetch_text(text):
        found.setdefault(scope, []).append(holder)
        assert len(found[scope]) == no, "a hole among the places"
    return found


async def status_of(store: Store, key: ExecutionKey) -> str:
    return str((await row_of(store, key)).status)


# What is given.


async def test_a_queue_runs_no_more_than_its_limit_and_goes_on_when_one_ends(store: Store) -> None:
    await limit(store, concurrency=2)
    for n in range(5):
        await enqueue(store, f"m{n}")
    first = await claim_rows(store)
    assert [row[1] for row in first] == ["m0", "m1"]
    assert await claim(store) == []
    await finish(store, first[0])
    assert await claim(store) == ["m2"]
    assert await claim(store) == []


async def test_a_claimed_row_looks_like_that_of_a_queue_without_limits(store: Store) -> None:
    await limit(store, concurrency=2, key_concurrency=2, tenant_concurrency=2, rate=Rate.of(5, "1s"))
    key = await enqueue(store, "m", limit_key="k")
    await enqueue(store, "f", queue="free", limit_key="k")
    row = (await claim_rows(store))[0]
    refused = bound_list(store.driver.dialect, [])
    other = (await store.driver.fetch("fleet.claim", "free", "io", store.tenant, BOOT, 1, refused, NEWEST))[0]
    assert len(row) == len(other)
    for n, (mine, theirs) in enumerate(zip(row, other, strict=True)):
        assert n in (0, 1, 6, 13) or mine == theirs, "only key, id, queue and the input may differ"
    execution = await row_of(store, key)
    assert (execution.status, execution.owner, execution.epoch) == ("running", BOOT, 1)


async def test_a_key_runs_no_more_than_its_limit_and_the_rest_is_parked(store: Store) -> None:
    await limit(store, key_concurrency=1)
    keys = {}
    for id, limit_key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("c1", None)):
        keys[id] = await enqueue(store, id, limit_key=limit_key)
    rows = await claim_rows(store)
    assert sorted(row[1] for row in rows) == ["a1", "b1", "c1"]
    assert [await status_of(store, keys[id]) for id in ("a2", "a3")] == ["waiting", "waiting"]
    first = next(row for row in rows if row[1] == "a1")
    await finish(store, first)
    assert await promote(store, QUEUE, limits.scopes_of(store.tenant, first[12])) == 1
    assert await claim(store) == ["a2"]
    assert await status_of(store, keys["a3"]) == "waiting"


async def test_what_is_parked_is_promoted_by_priority_and_then_by_age(store: Store) -> None:
    await limit(store, key_concurrency=1)
    for id, priority in (("holder", 9), ("low", 0), ("high", 5), ("later", 5)):
        await enqueue(store, id, limit_key="a", priority=priority)
    order = []
    while rows := await claim_rows(store):
        order += [row[1] for row in rows]
        await finish(store, rows[0])
        await promote(store, QUEUE, [f"key:{store.tenant}:a"])
    assert order == ["holder", "high", "later", "low"]


async def test_a_tenant_runs_no_more_than_its_limit_and_others_go_on(store: Store) -> None:
    await limit(store, tenant_concurrency=1, concurrency=2)
    for tenant in ("big", "big", "small"):
        await enqueue(store, f"{tenant}{new_key().hex()}", tenant=tenant)
    assert len(await claim(store, tenant="big")) == 1
    assert len(await claim(store, tenant="big")) == 0
    assert len(await claim(store, tenant="small")) == 1


async def test_the_same_key_of_another_tenant_is_another_key(store: Store) -> None:
    await limit(store, key_concurrency=1)
    await enqueue(store, "one", tenant="one", limit_key="k")
    await enqueue(store, "two", tenant="two", limit_key="k")
    assert await claim(store, tenant="one") == ["one"]
    assert await claim(store, tenant="two") == ["two"]


async def test_all_limits_at_once_give_all_places_or_none(store: Store) -> None:
    await limit(store, concurrency=3, key_concurrency=1, tenant_concurrency=2)
    await enqueue(store, "a", limit_key="k")
    parked = await enqueue(store, "b", limit_key="k")
    await enqueue(store, "c", limit_key="l")
    await enqueue(store, "d", limit_key="m")
    assert sorted(await claim(store)) == ["a", "c"]
    assert {scope: len(held) for scope, held in (await places(store)).items()} == {
        "": 2, f"key:{store.tenant}:k": 1, f"key:{store.tenant}:l": 1, f"tenant:{store.tenant}": 2,
    }  # fmt: skip
    assert await status_of(store, parked) == "waiting"


async def test_a_worker_whose_lease_is_over_gets_nothing_and_holds_no_place(store: Store) -> None:
    await limit(store, concurrency=2, rate=Rate.of(5, "1h"))
    await enqueue(store, "m")
    workers = prefixed(store, "workers")
    await store.driver.fetch_text(f"UPDATE {workers} SET lease_until = {moment_text(store, 1)}")
    assert await claim(store) == []
    assert [held for held in (await places(store)).values() if any(held)] == []
    await store.driver.fetch_text(f"DELETE FROM {workers}")
    assert await claim(store) == [], "nor one that is not registered"
    await present(store, BOOT)
    assert await claim(store) == ["m"]


async def test_a_paused_queue_gives_nothing(store: Store) -> None:
    await enqueue(store, "m")
    await Queues(store).pause(QUEUE)
    assert await claim(store) == []
    late = await claim_limited(store, BOOT, QueueSettings(name=QUEUE), "io", store.tenant, 10)
    assert late == [], "a worker that has not heard of it yet"
    await Queues(store).resume(QUEUE)
    assert await claim(store) == ["m"]


async def test_a_claim_looks_behind_a_busy_key_and_never_again_at_what_it_parked(store: Store) -> None:
    await limit(store, key_concurrency=1)
    await enqueue(store, "holder", limit_key="a")
    assert await claim(store) == ["holder"]
    many = 300
    await asyncio.gather(*(enqueue(store, f"a{n}", limit_key="a") for n in range(many)))
    await enqueue(store, "other", limit_key="b")
    assert await claim(store) == ["other"], "rounds go on while they park and find nothing"
    assert await claim(store) == []
    assert await count(store, "blocked_on IS NOT NULL AND status = 'waiting'") == many


async def test_a_claim_that_gives_up_before_the_end_asks_for_another_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_MAX", 5)
    monkeypatch.setattr(limits, "ROUNDS_MAX", 2)
    await limit(store, key_concurrency=1)
    await enqueue(store, "holder", limit_key="a")
    assert await claim(store) == ["holder"]
    for n in range(20):
        await enqueue(store, f"a{n:02}", limit_key="a")
    await enqueue(store, "other", limit_key="b")
    while await store.hints.wait(0.0):
        pass
    looks = 0
    while not (taken := await claim(store)):
        looks += 1
        assert await count(store, "status = 'waiting'") == looks * 10, "a bounded number"
        assert await store.hints.wait(0.0), "the worker would sleep until its next poll"
    assert (taken, looks) == (["other"], 2)


async def count(store: Store, where: str) -> int:
    table = f"{store.driver.schema}.executions" if store.driver.schema else "executions"
    return int((await store.driver.fetch_text(f"SELECT count(*) FROM {table} WHERE {where}"))[0][0])


# Rates.


async def test_a_rate_gives_its_burst_and_then_what_time_brings(shared_url: str) -> None:
    async with hand(shared_url) as store:
        await present(store, BOOT)
        clock = Shifted(store)
        await limit(store, rate=Rate.of(10, "1s"))
        clock.stop()
        for n in range(30):
            await enqueue(store, f"m{n:02}")
        assert len(await claim(store, 50)) == 10
        assert await claim(store, 50) == []
        clock.forward(timedelta(milliseconds=250))
        assert len(await claim(store, 50)) == 2
        clock.forward(timedelta(milliseconds=50))
        assert len(await claim(store, 50)) == 1, "parts of a token are kept"
        clock.forward(timedelta(hours=1))
        assert len(await claim(store, 50)) == 10, "no more than one period is saved up"


async def test_a_clock_that_jumps_back_brings_no_token_twice(shared_url: str) -> None:
    async with hand(shared_url) as store:
        await present(store, BOOT)
        clock = Shifted(store)
        clock.stop()
        await limit(store, rate=Rate.of(2, "1s"))
        for n in range(10):
            await enqueue(store, f"m{n}")
        assert len(await claim(store, 50)) == 2
        clock.forward(timedelta(seconds=-30))
        assert await claim(store, 50) == []
        clock.forward(timedelta(seconds=30, milliseconds=500))
        assert len(await claim(store, 50)) == 1


class Shifted:
    """The clock that the statements about queues go by, stopped and moved by hand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at = 0

    def stop(self) -> None:
        import time

        self._at = time.time_ns() // 1000
        self.forward(timedelta(0))

    def forward(self, by: timedelta) -> None:
        self._at += round(by / timedelta(microseconds=1))
        statements = statements_of(self._store)
        assert statements["queues.lock"]  # read from their file before they are replaced
        fresh = type(statements)(
            self._store.driver.dialect, schema=self._store.driver.schema, now=self._now()
        )
        for name in ("queues.lock", "queues.spend"):
            statements._texts[name] = fresh[name]

    def _now(self) -> str:
        return moment_text(self._store, self._at)


# Changing limits.


async def test_a_lowered_limit_is_kept_before_anything_new_is_given(store: Store) -> None:
    await limit(store, concurrency=5)
    for n in range(10):
        await enqueue(store, f"m{n}")
    rows = await claim_rows(store)
    assert len(rows) == 5
    await limit(store, concurrency=2)
    for n, row in enumerate(rows):
        await finish(store, row)
        assert len(await claim(store)) == (1 if n >= 3 else 0), f"after {n + 1} ends"
    held = [holder for holder in (await places(store))[""] if holder is not None]
    assert len(held) == 2


async def test_a_raised_limit_counts_at_once_and_promotes(store: Store) -> None:
    await limit(store, key_concurrency=1)
    for n in range(4):
        await enqueue(store, f"m{n}", limit_key="a")
    assert len(await claim(store)) == 1
    await limit(store, key_concurrency=3)
    assert len(await claim(store)) == 2
    await limit(store, key_concurrency=None)
    assert len(await claim(store)) == 1
    assert await count(store, "status = 'ready' OR status = 'waiting'") == 0


# Takeover and suspension.


async def test_a_taken_over_execution_keeps_its_place_and_comes_first(store: Store) -> None:
    """More urgent ones wait in front of it: behind them it would block the queue for ever."""
    await limit(store, concurrency=1)
    await enqueue(store, "dead", priority=-5)
    assert await claim(store) == ["dead"]
    for n in range(3):
        await enqueue(store, f"m{n}", priority=5)
    await recover(store, BOOT)
    assert await claim(store) == ["dead"]
    assert await claim(store) == []


async def test_the_queue_stands_still_when_holders_are_not_looked_for(store: Store) -> None:
    """The twin: what the statement `queues.holding` is for."""
    await limit(store, concurrency=1)
    await enqueue(store, "dead", priority=-5)
    await claim(store)
    for n in range(3):
        await enqueue(store, f"m{n}", priority=5)
    await recover(store, BOOT)
    plant(store, "queues.holding", "s.holder IS NOT NULL", "s.holder IS NULL")
    assert await claim(store) == []


async def recover(store: Store, boot: BootId) -> None:
    """What the sweep does with what a dead worker ran."""
    await store.driver.fetch("fleet.recover", boot, 100)


async def test_a_taken_over_execution_of_a_key_does_not_take_a_second_place(store: Store) -> None:
    await limit(store, key_concurrency=2, concurrency=9)
    await enqueue(store, "a1", limit_key="a")
    await claim(store)
    await recover(store, BOOT)
    await enqueue(store, "a2", limit_key="a")
    assert sorted(await claim(store)) == ["a1", "a2"]
    held = await places(store)
    assert [len(set(held[scope])) for scope in ("", f"key:{store.tenant}:a")] == [2, 2]


async def test_an_execution_that_waits_gives_its_place_back(store: Store) -> None:
    await limit(store, concurrency=1, key_concurrency=1)
    await enqueue(store, "waits", limit_key="a")
    await enqueue(store, "next", limit_key="a")
    row = (await claim_rows(store))[0]
    assert await store.journal.append(suspending(holding_of(row), expect_wakes=None)) is Answer.WRITTEN
    assert await promote(store, QUEUE, limits.scopes_of(row[2], row[12])) == 1
    assert await claim(store) == ["next"]


async def test_a_parked_execution_that_gets_a_message_is_parked_again(store: Store) -> None:
    await limit(store, key_concurrency=1)
    await enqueue(store, "holder", limit_key="a")
    parked = await enqueue(store, "parked", limit_key="a")
    assert await claim(store) == ["holder"]
    await store.driver.fetch("executions.wake", parked)
    assert await status_of(store, parked) == "ready"
    assert await claim(store) == []
    assert await status_of(store, parked) == "waiting"


# Repair.


async def test_repair_asks_one_question_when_nothing_is_wrong(store: Store) -> None:
    await limit(store, key_concurrency=1)
    for n in range(3):
        await enqueue(store, f"m{n}", limit_key="a")
    await claim(store)
    asked = []
    real = store.driver.fetch

    async def fetch(name: str, *args: Any) -> list[Row]:
        asked.append(name)
        return await real(name, *args)

    store.driver.fetch = fetch  # type: ignore[method-assign]
    assert await repair(store) == 0
    assert asked == ["queues.astray"]


async def test_repair_frees_what_an_owner_forgot(store: Store) -> None:
    """An owner that knew nothing of places, such as `resume` of an earlier version, ends an execution."""
    await limit(store, concurrency=1, key_concurrency=1)
    await enqueue(store, "first", limit_key="a")
    await enqueue(store, "second", limit_key="a")
    row = (await claim_rows(store))[0]
    holding = holding_of(row)
    await promote(store, QUEUE, [f"key:{store.tenant}:a"])
    holding.limited = False
    assert await store.journal.append(ending(holding)) is Answer.WRITTEN
    assert await claim(store) == []
    assert await repair(store) > 0
    assert await claim(store) == ["second"]


async def test_repair_promotes_after_a_process_died_between_flush_and_promotion(store: Store) -> None:
    await limit(store, key_concurrency=1)
    await enqueue(store, "first", limit_key="a")
    parked = await enqueue(store, "second", limit_key="a")
    row = (await claim_rows(store))[0]
    await finish(store, row)  # and the process is gone
    assert await status_of(store, parked) == "waiting"
    assert await repair(store) == 1
    assert await claim(store) == ["second"]


async def test_repair_forgets_keys_that_nobody_uses(store: Store) -> None:
    await limit(store, key_concurrency=2)
    await enqueue(store, "a", limit_key="a")
    await enqueue(store, "b", limit_key="b")
    rows = await claim_rows(store)
    await finish(store, next(row for row in rows if row[1] == "a"))
    await repair(store)
    assert list(await places(store)) == [f"key:{store.tenant}:b"]


async def test_repair_leaves_a_place_to_what_was_taken_over(store: Store) -> None:
    await limit(store, concurrency=1)
    await enqueue(store, "dead")
    await claim(store)
    await recover(store, BOOT)
    assert await repair(store) == 0
    assert (await places(store))[""] != [None]


# Two connections.


async def race(mine: Store) -> tuple[Row, ExecutionKey]:
    """A holder that runs, and a second execution of its key."""
    await limit(mine, key_concurrency=1)
    await enqueue(mine, "holder", limit_key="a")
    row = (await claim_rows(mine))[0]
    second = await enqueue(mine, "second", limit_key="a")
    return row, second


class Stops:
    """Stops one named statement of a store's transactions, before it runs."""

    def __init__(self, store: Store, name: str) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        driver: Any = store.driver
        transaction = driver.transaction
        stop = self

        class Slowed:
            def __init__(self, real: Any) -> None:
                self._real = real

            async def __aenter__(self) -> Any:
                opened = await self._real.__aenter__()
                fetch = opened.fetch

                async def slow(asked: str, *args: Any) -> Any:
                    if asked == name:
                        stop.reached.set()
                        await stop.released.wait()
                    return await fetch(asked, *args)

                opened.fetch = slow
                return opened

            async def __aexit__(self, *error: Any) -> Any:
                return await self._real.__aexit__(*error)

        driver.transaction = lambda **options: Slowed(transaction(**options))


def unlocked(store: Store) -> None:
    """Plant that the queue's row is only read."""
    plant(store, "queues.lock", "FOR UPDATE" if is_mysql(store) else "FOR NO KEY UPDATE", "")


@pytest.mark.parametrize("locked", [True, False])
async def test_an_end_between_the_look_of_a_claim_and_its_parking_promotes_all_the_same(
    server_url: str, locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite the claim has the one write lock meanwhile. Without the row's lock it sleeps on."""
    async with hand(server_url) as mine, hand(server_url) as theirs:
        await present(mine, BOOT)
        row, second = await race(mine)
        monkeypatch.setattr(limits, "ROUNDS_MAX", 1)  # the next round would take what was promoted
        if not locked:
            unlocked(mine)
            unlocked(theirs)
        stop = Stops(theirs, "queues.park")
        claiming = asyncio.ensure_future(claim(theirs))
        await stop.reached.wait()
        await finish(mine, row)  # a flush asks nobody
        promoting = asyncio.ensure_future(promote(mine, QUEUE, [f"key:{mine.tenant}:a"]))
        connection = await beside(mine)

        async def settled() -> bool:
            return promoting.done() or bool(await waiters(connection))

        await until(settled, "the promotion neither waits nor ends")
        await connection.close(timeout=5)
        stop.released.set()
        assert await claiming == []
        await promoting
        assert await status_of(mine, second) == ("ready" if locked else "waiting")


async def test_a_promotion_that_comes_before_a_claim_leaves_it_nothing_to_park(server_url: str) -> None:
    async with hand(server_url) as mine, hand(server_url) as theirs:
        await present(mine, BOOT)
        row, _ = await race(mine)
        await finish(mine, row)
        stop = Stops(mine, "queues.places")
        promoting = asyncio.ensure_future(promote(mine, QUEUE, [f"key:{mine.tenant}:a"]))
        await stop.reached.wait()
        claiming = asyncio.ensure_future(claim(theirs))
        connection = await beside(mine)

        async def waits() -> bool:
            return bool(await waiters(connection))

        await until(waits, "the claim does not wait")
        await connection.close(timeout=5)
        stop.released.set()
        assert await promoting == 0
        assert await claiming == ["second"]


@pytest.mark.parametrize("locked", [True, False])
async def test_two_claims_at_once_do_not_give_one_place_twice(server_url: str, locked: bool) -> None:
    async with hand(server_url) as mine, hand(server_url) as theirs:
        await present(mine, BOOT)
        await limit(mine, concurrency=1)
        await enqueue(mine, "one")
        await enqueue(mine, "two")
        if not locked:
            for store in (mine, theirs):
                unlocked(store)
        stop = Stops(theirs, "queues.occupy")
        slow = asyncio.ensure_future(claim(theirs, 1))
        await stop.reached.wait()
        fast = asyncio.ensure_future(claim(mine))
        connection = await beside(mine)

        async def settled() -> bool:
            return fast.done() or bool(await waiters(connection))

        await until(settled, "the other claim neither waits nor ends")
        await connection.close(timeout=5)
        stop.released.set()
        taken = [*await slow, *await fast]
        assert len(taken) == (1 if locked else 2)


async def test_many_workers_at_once_keep_every_limit(shared_url: str) -> None:
    """Four claimers and enders at full speed; the places are compared with what runs at every step."""
    workers, total = 4, 120
    async with hand(shared_url) as watcher:
        await present(watcher, BOOT)
        await limit(watcher, concurrency=4, key_concurrency=2)
        for n in range(total):
            await enqueue(watcher, f"m{n}", limit_key=f"k{n % 3}")
        running: dict[str, int] = {}
        seen: list[str] = []

        async def work() -> None:
            async with hand(shared_url) as store:
                while len(seen) < total:
                    rows = await claim_rows(store, 2)
                    for row in rows:
                        running[row[12]] = running.get(row[12], 0) + 1
                        seen.append(row[1])
                    assert sum(running.values()) <= 4
                    assert max(running.values(), default=0) <= 2
                    await asyncio.sleep(0)
                    for row in rows:
                        running[row[12]] -= 1
                        await finish(store, row)
                        await promote(store, QUEUE, [f"key:{store.tenant}:{row[12]}"])

        async with asyncio.timeout(60):
            await asyncio.gather(*(work() for _ in range(workers)))
        assert sorted(seen) == sorted(f"m{n}" for n in range(total))
        assert await count(watcher, "status <> 'completed'") == 0
        assert json.dumps([len(held) for held in (await places(watcher)).values()])


# With real workers.


async def test_an_execution_that_a_person_resumes_keeps_its_place(store: Store) -> None:
    await limit(store, concurrency=1)
    key = await enqueue(store, "dead")
    await claim(store)
    await enqueue(store, "next")
    taken = await take_over(store, key)
    assert await claim(store) == []
    taken.holding.next_seq = 2
    assert await store.journal.append(ending(taken.holding)) is Answer.WRITTEN
    await repair(store)  # for an owner that knew nothing of places
    assert await claim(store) == ["next"]


@pytest.mark.parametrize("limited", [True, False])
async def test_workers_run_no_more_at_once_than_the_limits_say(shared_url: str, limited: bool) -> None:
    """Two workers of ten places each. Without limits more run at once, so the count is able to tell."""
    app, now, most = hf.App(shared_url), Counter[str](), Counter[str]()

    @app.step
    async def work(key: str) -> str:
        for name in ("all", key):
            now[name] += 1
            most[name] = max(most[name], now[name])
        await asyncio.sleep(0.01)
        for name in ("all", key):
            now[name] -= 1
        return key

    @app.workflow
    async def one(key: str) -> str:
        return await work(key)

    chosen: Any = one
    async with app, asyncio.timeout(60):
        if limited:
            await Queues(app.store).set_limits("default", concurrency=3, key_concurrency=1)
        handles = [
            await chosen.options(id=f"x{n}", limit_key=f"k{n % 4}").enqueue(f"k{n % 4}") for n in range(40)
        ]
        async with hired(shared_url, app), hired(shared_url, app):
            assert await asyncio.gather(*handles) == [f"k{n % 4}" for n in range(40)]
        if limited:
            assert await repair(app.store) == 0, "the workers have given everything back themselves"
    keys = [most[f"k{n}"] for n in range(4)]
    if limited:
        assert (most["all"] <= 3, keys) == (True, [1, 1, 1, 1])
    else:
        assert most["all"] > 3
        assert max(keys) > 1

"""What a store counts about itself, on every database: statements, slow ones, connections and who waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import HoldfastError, PoolTimeout, VersionConflict
from holdfast.records.events import EventType
from holdfast.store.entries import Entry, Holding
from holdfast.store.figures import StatementFigures
from holdfast.store.store import Store
from tests.conformance.notebooks import Note
from tests.conformance.test_repository import notes_of
from tests.conformance.test_store import opened, put
from tests.databases import empty_store

pytestmark = pytest.mark.anyio

ONE_CONNECTION = {
    f"storage__{server}__pool__{setting}": value
    for server in ("postgresql", "mysql")
    for setting, value in {"min": "1", "max": "1", "acquire_timeout": "200ms"}.items()
}
PATIENCE_S = 10


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of every kind that has a pool with an end."""
    return empty_store(request, tmp_path)


def by_name(store: Store) -> dict[str, StatementFigures]:
    return {each.name: each for each in store.figures().statements}


def counts(store: Store) -> dict[str, int]:
    return {name: each.count for name, each in by_name(store).items()}


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    return [json.loads(each.getMessage()) for each in caplog.records if each.name == logger]


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - a counter tells nobody that it has changed
            await asyncio.sleep(0.005)


def assert_sound(figures: Iterable[StatementFigures]) -> None:
    for each in figures:
        assert sum(each.histogram) == each.count > 0, each
        assert 0 < each.max_s <= each.total_s, each
        assert each.errors <= each.count, each


async def test_every_statement_is_counted_under_its_name(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (store, notes):
        before = counts(store)
        note = await notes.create(Note(id="a", title="A"))
        for _ in range(3):
            await notes.get("a")
        note = await notes.update(note)
        await notes.upsert(note)
        await notes.find("tag:x")
        await notes.find_fields(["title"], limit=1)
        await notes.search("a")
        await notes.count()
        await notes.create_many([Note(title="B"), Note(title="C")])
        await notes.update_many("tag:x", done=True)
        await notes.delete("a")
        await notes.restore("a")
        await notes.delete_many("tag:x")
        await store.find_execution("x")
        await store.list_executions("status:failed")
        made = {name: count - before.get(name, 0) for name, count in counts(store).items()}
        expected = {
            "notes.create": 1, "notes.get": 4, "notes.update": 2, "notes.upsert": 1, "notes.find": 2,
            "notes.search": 1, "notes.count": 1, "notes.load": 1, "notes.delete": 2, "notes.restore": 1,
            "executions.get": 1, "executions.find": 1,
        }  # fmt: skip
        assert {name: made.get(name) for name in expected} == expected
        figures = store.figures()
        assert_sound(figures.statements)
        assert [each.total_s for each in figures.statements] == sorted(
            (each.total_s for each in figures.statements), reverse=True
        )


async def test_errors_are_counted_and_still_raised(store_url: str) -> None:
    async with opened(store_url) as store:
        for _ in range(2):
            with pytest.raises(HoldfastError):
                await store.driver.fetch_text("SELECT nothing FROM nowhere LIMIT 1")
        with pytest.raises(HoldfastError):
            async with store.transaction() as transaction:
                await transaction.fetch_text("SELECT nothing FROM nowhere LIMIT 1")
        found = by_name(store)["nowhere.find"]
        assert (found.count, found.errors) == (3, 3)
        assert_sound(store.figures().statements)


async def test_a_transaction_is_counted_and_a_rollback_commits_nothing(store_url: str) -> None:
    async with opened(store_url) as store:
        before = counts(store)
        async with store.transaction() as transaction:
            await transaction.fetch("store.now")
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as transaction:
                await transaction.fetch("store.now")
                raise ZeroDivisionError
        after = counts(store)
        names = ("transaction.begin", "transaction.commit", "store.now")
        assert [after[name] - before.get(name, 0) for name in names] == [2, 1, 2]
        assert "transaction.commit" not in {each.name for each in store.figures().statements if each.errors}


async def test_a_flush_is_counted_once_however_much_it_writes(store_url: str) -> None:
    async with opened(store_url) as store:
        key = await put(store, "x")
        holding = Holding(key, "x", store.tenant, epoch=1, next_seq=2)
        before = counts(store)["journal.flush"]
        flushes, entries = store.journal.flushes, store.journal.entries
        waiters = [
            store.journal.append(Entry(holding, EventType.STEP_STARTED, path=f"s{number}"))
            for number in range(40)
        ]
        await asyncio.gather(*waiters)
        assert store.journal.entries - entries == 40
        assert counts(store)["journal.flush"] - before == store.journal.flushes - flushes < 40


async def test_a_slow_statement_leaves_one_line_without_values(
    store_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with notes_of(store_url, tmp_path, storage__slow_query="80ms") as (store, notes):
        note = await notes.create(Note(id="a", title="never seen in a log"))
        caplog.clear()
        async with store.transaction() as transaction:
            await notes.within(transaction).update(note)
            late = asyncio.create_task(notes.update(note))
            await asyncio.sleep(0.2)  # what is measured
        with pytest.raises(VersionConflict):
            await late
        told = [each for each in lines(caplog, "holdfast.slow") if each["statement"] == "notes.update"]
        assert len(told) == 1
        assert told[0].pop("duration") >= 150
        assert told[0] == {
            "level": "warn", "message": "Slow query detected", "database": store.driver.dialect,
            "statement": "notes.update", "tenant": "default",
        }  # fmt: skip
        assert "never seen" not in caplog.text
        assert store.figures().slow >= 1


async def test_what_is_quick_is_not_told(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(store_url, storage__slow_query="1h") as store:
        await store.counts()
        assert lines(caplog, "holdfast.slow") == []
        assert store.figures().slow == 0


async def test_a_connection_held_for_long_is_told_once(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(store_url) as store:
        store._meter.holds._limit_s = 0.05
        caplog.clear()
        async with store.transaction() as transaction:
            await transaction.fetch("store.now")
        assert lines(caplog, "holdfast.held") == []
        async with store.transaction() as transaction:
            await transaction.fetch("executions.counts")
            await until(lambda: lines(caplog, "holdfast.held"))
            await asyncio.sleep(0.12)  # time for a second line, which must not come
        told = lines(caplog, "holdfast.held")
        assert len(told) == 1
        assert told[0].pop("duration") >= 50
        place = told[0].pop("taken")
        assert __file__ in place
        assert place.endswith(" in test_a_connection_held_for_long_is_told_once")
        assert told[0] == {
            "level": "warn", "message": "Connection held for long", "database": store.driver.dialect,
            "statement": "executions.counts", "tenant": "default",
        }  # fmt: skip


async def test_every_one_of_many_long_transactions_is_told(
    shared_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also those that begin while the timer of an earlier one runs."""
    async with opened(shared_url) as store:
        store._meter.holds._limit_s = 0.1

        async def hold(after_s: float) -> None:
            await asyncio.sleep(after_s)
            async with store.transaction():
                await asyncio.sleep(0.25)

        await asyncio.gather(hold(0.0), hold(0.05), hold(0.09))
        assert len(lines(caplog, "holdfast.held")) == 3


async def test_the_pool_says_who_waits(store_url: str) -> None:
    async with opened(store_url, **ONE_CONNECTION) as store:
        before = store.figures().pool
        assert (before.waiting, before.in_use) == (0, 0)
        async with store.transaction():
            waiter = asyncio.create_task(store.transaction().__aenter__())
            await until(lambda: store.figures().pool.waiting == 1)
            waiter.cancel()
            with suppress(asyncio.CancelledError):
                await waiter
            await until(lambda: store.figures().pool.waiting == 0)
        pool = store.figures().pool
        assert pool.acquired - before.acquired >= 2
        assert pool.size == pool.idle + pool.in_use <= pool.most
        assert 0 < pool.acquire_max_s <= pool.acquire_total_s


async def test_a_full_pool_says_how_many_wait(server_url: str) -> None:
    async with opened(server_url, **ONE_CONNECTION) as store:
        async with store.transaction():
            assert store.figures().pool.in_use == 1
            told = await asyncio.gather(*(store.counts() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, PoolTimeout) for each in told)
        pool = store.figures().pool
        assert (pool.timeouts, pool.waiting, pool.in_use) == (3, 0, 0)
        waiting = sorted(each.details["waiting"] for each in told if isinstance(each, PoolTimeout))
        assert waiting == [0, 1, 2]
        assert any("2 more waiting" in str(each) for each in told)


async def test_an_idle_store_asks_nothing(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.counts()
        before = counts(store)
        await asyncio.sleep(2.0)  # what is measured
        after = counts(store)
        assert sum(after.values()) - sum(before.values()) <= 1


async def test_two_stores_count_apart(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as other:
        await one.counts()
        assert "executions.counts" not in counts(other)

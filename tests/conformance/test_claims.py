"""The claim itself: what it refuses by its own look, and what it tells of an execution nobody has touched."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

import holdfast as hf
from holdfast.fleet.claims import Lane, claim_lane, read_claimed
from holdfast.fleet.forking import fork
from holdfast.fleet.queues import Queues
from holdfast.records.events import EventType
from holdfast.records.executions import BootId
from holdfast.store.store import Store
from tests.conformance.fleets import NEWEST, hired, present
from tests.conformance.hands import is_postgresql, rows

pytestmark = pytest.mark.anyio
BOOT = BootId(b"\x07" * 16)


class Echo:
    """An app with one workflow of two steps."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)

        @self.app.step
        async def say(text: str) -> str:
            return text

        @self.app.workflow
        async def echo(text: str) -> str:
            return await say(await say(text))

        self.echo: Any = echo


async def claim(store: Store, *, schema: int = NEWEST, by_age: bool = False) -> list[Any]:
    lane = Lane("default", "io", store.tenant)
    return await claim_lane(store, BOOT, lane, 10, schema=schema, by_age=by_age)


async def newest_migration(store: Store) -> int:
    prefix = f"{store.driver.schema}." if store.driver.schema else ""
    [[version]] = await store.driver.fetch_text(f"SELECT max(version) FROM {prefix}schema_migrations")
    return int(version)


@pytest.mark.parametrize("by_age", [False, True], ids=["by-priority", "by-age"])
async def test_a_claim_sees_for_itself_that_the_schema_is_newer(shared_url: str, by_age: bool) -> None:
    """The worker looked before somebody migrated."""
    made = Echo(shared_url)
    async with made.app:
        store = made.app.store
        await present(store, BOOT)
        await made.echo.enqueue("a")
        known = await newest_migration(store)
        assert await claim(store, schema=known - 1, by_age=by_age) == []
        assert len(await claim(store, schema=known, by_age=by_age)) == 1


@pytest.mark.parametrize("by_age", [False, True], ids=["by-priority", "by-age"])
async def test_a_claim_sees_for_itself_that_its_queue_has_got_limits(shared_url: str, by_age: bool) -> None:
    made = Echo(shared_url)
    async with made.app:
        store = made.app.store
        await present(store, BOOT)
        await made.echo.enqueue("a")
        await Queues(store).pause("default")
        assert await claim(store, by_age=by_age) == []


async def test_what_nobody_has_touched_comes_with_its_input(shared_url: str) -> None:
    made = Echo(shared_url)
    async with made.app:
        store = made.app.store
        await present(store, BOOT)
        await made.echo.enqueue("a")
        found = await claim(store)
        assert found[0][13] is not None
        [claimed] = await read_claimed(store, found)
        [told] = await store.driver.fetch("events.history", claimed.holding.key)
        [event] = claimed.events
        # Epoch and time are not told: nothing asks for those of a start.
        assert [event[:6], event[7], *event[9:]] == [tuple(told)[:6], told[7], *tuple(told)[9:]]
        assert (claimed.is_fresh, claimed.holding.next_seq, event[1]) == (
            True,
            2,
            EventType.EXECUTION_STARTED,
        )


async def test_what_somebody_has_touched_comes_without(shared_url: str) -> None:
    """A row that was written again since its start may have a longer log than the claim's snapshot shows."""
    made = Echo(shared_url)
    async with made.app:
        store = made.app.store
        await present(store, BOOT)
        await made.echo.options(id="paused").enqueue("a")
        handle = await made.app.handle("paused")
        await handle.pause()
        await handle.resume()
        if is_postgresql(store):  # elsewhere a claim sees all that was committed before it
            await made.echo.options(id="written").enqueue("a")
            await rows(store, "UPDATE {executions} SET wakes = wakes WHERE id = 'written'")
        await made.echo.options(id="large").enqueue(secrets.token_hex(20_000))
        found = await claim(store)
        assert [(row[1], row[13]) for row in found] == [(row[1], None) for row in found]
        for claimed in await read_claimed(store, found):
            history = await store.driver.fetch("events.history", claimed.holding.key)
            assert [tuple(row) for row in claimed.events] == [tuple(row) for row in history]


async def test_a_fork_begins_with_the_log_it_was_given(shared_url: str) -> None:
    """Its row and its whole log are written by one transaction."""
    made = Echo(shared_url)
    async with made.app:
        store = made.app.store
        async with hired(shared_url, made.app):
            await (await made.echo.options(id="first").enqueue("a"))
        await fork(store, await store.get_execution("first"), at="say#2", id="second")
        await present(store, BOOT)
        [row] = await claim(store)
        [claimed] = await read_claimed(store, [row])
        assert row[13] is None
        assert len(claimed.events) > 1

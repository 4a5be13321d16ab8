"""Followers of the log and of streams: whatever the order in which writers commit, nothing is skipped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast.events.cursors import BEGINNING
from holdfast.events.log import EventLog
from holdfast.events.streams import Streams
from holdfast.store import codec
from holdfast.store.drivers.base import Transaction
from holdfast.store.store import Store
from tests.conformance.hands import begin, hand, is_mysql, is_postgresql, plant, result
from tests.databases import empty_store

pytestmark = pytest.mark.anyio

Write = Callable[[Transaction], Awaitable[None]]
Page = Callable[[str], Awaitable[list[Any]]]


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    """Where two writers can be at work at once."""
    return empty_store(request, tmp_path)


def appending(store: Store, stream: str, seq: int, payload: Any = None) -> Write:
    """Append one event to a stream, as `Streams.append` does, in a transaction that stays open."""

    async def write(transaction: Transaction) -> None:
        await transaction.fetch("streams.make", store.tenant, stream)
        await transaction.fetch("streams.lock", store.tenant, stream)
        await transaction.fetch("streams.advance", store.tenant, stream, seq)
        body = codec.encode(payload, what="payload")
        await transaction.fetch("streams.insert", store.tenant, stream, seq, "said", body)

    return write


@asynccontextmanager
async def written_late(store: Store, write: Write) -> Any:
    """What `write` does is done before the block, and committed behind it."""
    async with store.transaction() as transaction:
        await write(transaction)
        yield


async def read_around(page: Page, reading: Callable[[], Awaitable[None]], count: int) -> list[Any]:
    """`count` events; `reading` happens when all that can be read at first has been read once.

    A page may be empty while anybody on the server, in any database, could still write below it.
    """
    cursor, found, is_first = BEGINNING, list[Any](), True
    while len(found) < count or is_first:
        events = await page(cursor)
        found += events
        cursor = events[-1].cursor if events else cursor
        if is_first and not events:
            is_first = False
            await reading()
    return found


def without_bound(store: Store) -> None:
    """The follower reads what it can see, and does not ask who is still writing."""
    for statement in ("streams.follow", "events.follow"):
        if is_mysql(store):
            plant(store, statement, "AND position <= @hf_before", "")
        else:
            plant(store, statement, "AND xid < pg_snapshot_xmin(pg_current_snapshot())", "")


async def late_in_a_stream(writer: Store, other: Store, reader: Store, count: int = 2) -> list[str]:
    """The streams that are told, when the first writer commits last, and the reader looks before that."""
    streams = Streams(reader)
    async with asyncio.timeout(30):
        late = written_late(writer, appending(writer, "a first", 1))
        await late.__aenter__()
        async with other.transaction() as transaction:
            await appending(other, "b second", 1)(transaction)

        async def commit() -> None:
            await late.__aexit__(None, None, None)

        found = await read_around(lambda cursor: streams.page(after=cursor), commit, count)
    return [event.stream for event in found]


async def test_a_stream_that_is_committed_late_is_not_skipped(server_url: str) -> None:
    async with hand(server_url) as writer, hand(server_url) as other, hand(server_url) as reader:
        assert sorted(await late_in_a_stream(writer, other, reader)) == ["a first", "b second"]


async def test_without_the_bound_a_late_stream_is_skipped(server_url: str) -> None:
    async with hand(server_url) as writer, hand(server_url) as other, hand(server_url) as reader:
        without_bound(reader)
        assert await late_in_a_stream(writer, other, reader, 1) == ["b second"]
        assert [event.seq for event in await Streams(reader).read("a first")] == [1]


async def late_in_the_log(
    writer: Store, other: Store, reader: Store, count: int = 4
) -> list[tuple[str, str]]:
    """The same for the log: somebody outside writes late, an owner's flush is first."""
    log = EventLog(reader)
    early, late_one = (
        await begin(other, "early", key=b"\x02" * 16),
        await begin(writer, "late", key=b"\x01" * 16),
    )

    async def write(transaction: Transaction) -> None:
        value = codec.encode({}, what="step.reset")
        await transaction.fetch("control.event", late_one.key, "step.reset", value, None)

    async with asyncio.timeout(30):
        late = written_late(writer, write)
        await late.__aenter__()
        await other.journal.append(result(early, "a"))

        async def commit() -> None:
            await late.__aexit__(None, None, None)

        found = await read_around(lambda cursor: log.everything(after=cursor), commit, count)
    return [(event.execution_id, str(event.type)) for event in found if event.seq == 2]


async def test_an_event_that_is_committed_late_is_not_skipped(server_url: str) -> None:
    async with hand(server_url) as writer, hand(server_url) as other, hand(server_url) as reader:
        found = await late_in_the_log(writer, other, reader)
        assert sorted(found) == [("early", "step.completed"), ("late", "step.reset")]


async def test_without_the_bound_a_late_event_is_skipped(server_url: str) -> None:
    async with hand(server_url) as writer, hand(server_url) as other, hand(server_url) as reader:
        without_bound(reader)
        assert await late_in_the_log(writer, other, reader, 3) == [("early", "step.completed")]


async def test_a_mark_lies_behind_all_that_is_there_and_before_all_that_comes(shared_url: str) -> None:
    async with hand(shared_url) as store:
        log, holding = EventLog(store), await begin(store)
        mark = await log.mark()
        is_alone = not is_postgresql(store)  # there a mark lies before whoever writes to the server
        assert not is_alone or await log.everything(after=mark) == []
        await store.journal.append(result(holding, "a"))
        async with asyncio.timeout(30):
            while "a" not in [event.path for event in await log.everything(after=mark)]:
                await store.driver.fetch("store.now")
        assert not is_alone or await log.everything(after=await log.mark()) == []


async def test_many_writers_and_readers_that_come_and_go(shared_url: str) -> None:
    """Commits after random pauses, some taken back; every reader gets every event from its cursor on."""
    chance = random.Random(7)
    writers, rounds = 6, 25
    async with hand(shared_url) as store, hand(shared_url) as reader:
        said = dict[str, int]()

        async def write(stream: str) -> None:
            for _ in range(rounds):
                seq = said.get(stream, 0) + 1
                try:
                    async with store.transaction() as transaction:
                        await appending(store, stream, seq, seq)(transaction)
                        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))
                        if chance.random() < 0.2:
                            raise RuntimeError
                except RuntimeError:
                    continue
                said[stream] = seq

        wanted = set[tuple[str, int]]()

        async def follow() -> list[tuple[str, int]]:
            streams, cursor = Streams(reader), BEGINNING
            found = list[tuple[str, int]]()
            while not wanted or wanted - set(found):
                events = await streams.page(after=cursor, limit=chance.choice([1, 7, 100]))
                found += [(event.stream, event.seq) for event in events]
                cursor = events[-1].cursor if events else cursor
                await asyncio.sleep(chance.choice([0, 0.001, 0.02]))
            return found

        following = [asyncio.create_task(follow()) for _ in range(3)]
        async with asyncio.timeout(120):
            await asyncio.gather(*(write(f"s{number}") for number in range(writers)))
            wanted |= {(stream, seq) for stream, last in said.items() for seq in range(1, last + 1)}
            assert len(wanted) > writers
            told = await asyncio.gather(*following)
        for found in told:
            assert set(found) == wanted
            for stream in said:
                assert [seq for name, seq in found if name == stream] == list(range(1, said[stream] + 1))

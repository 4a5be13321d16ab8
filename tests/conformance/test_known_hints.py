"""Failures that other queues had with notifications and reconnections, each as a test of our rule."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from holdfast.store.drivers.postgresql import PostgresqlDriver
from holdfast.store.drivers.postgresql_hints import HintTiming, PostgresqlHints
from holdfast.store.hints import Hints, HintSource, HintState
from holdfast.store.metrics import Metered
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for
from scripts.pgbouncer import SERVER_CONNECTIONS
from tests.conformance.hands import begin, beside, hand, until
from tests.pooler import behind_pooler

pytestmark = pytest.mark.anyio

QUICK = HintTiming(heartbeat=0.2, answer=0.4, first_pause=0.2, most_pause=0.4)


def driver_of(store: Store) -> PostgresqlDriver:
    driver = store.driver.inner if isinstance(store.driver, Metered) else store.driver
    assert isinstance(driver, PostgresqlDriver)
    return driver


def source_on(store: Store, timing: HintTiming, *, connect: Any = None) -> PostgresqlHints:
    driver = driver_of(store)
    return PostgresqlHints(connect or driver.connect, driver._notify, driver.options.schema, timing)


async def is_in(source: HintSource, state: HintState) -> bool:
    return source.state is state


async def listening(hints: Hints, source: HintSource) -> None:
    """Past the wake-up that comes with the beginning."""

    async def ready() -> bool:
        await hints.wait(0.01)
        return source.state is HintState.LISTENING

    await until(ready, "it never listened")
    while await hints.wait(0.1):
        pass


# KQ6: NOTIFY takes a lock of the whole database at commit.


class Notifications:
    """What arrives on a channel: when, and from which session."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.senders: set[int] = set()

    def __call__(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if not str(payload).startswith("?"):
            self.at.append(time.monotonic())
            self.senders.add(pid)


async def fifty_writers(url: str, timing: HintTiming, seconds: float) -> tuple[Notifications, int, int]:
    """Commit from fifty tasks as fast as it goes: what was notified, by whom it may be, and the commits."""
    heard, commits = Notifications(), 0
    async with hand(url) as store:
        source = source_on(store, timing)
        store.hints = Hints(source)
        ear = await beside(store)
        await ear.add_listener(source.channel, heard)
        stop_at = time.monotonic() + seconds

        async def writer(number: int) -> None:
            nonlocal commits
            while time.monotonic() < stop_at:
                async with store.transaction() as transaction:
                    await transaction.fetch("store.now")
                store.hints.ready("default")
                commits += 1

        await asyncio.gather(*(writer(number) for number in range(50)))
        await until(lambda: _so(source._connection is not None), "never connected")
        assert source._connection is not None
        mine = source._connection.get_server_pid()
        await store.hints.close()  # what was still to be told
        await ear.execute("SELECT 1")
        await ear.close()
    return heard, mine, commits


async def _so(value: bool) -> bool:
    return value


async def test_known_kq6_no_notification_inside_a_business_transaction(fresh_postgres: str) -> None:
    """Every notification comes from a session that runs nothing but LISTEN, NOTIFY and SELECT 1."""
    heard, mine, commits = await fifty_writers(fresh_postgres, HintTiming(), 1.0)
    assert heard.senders == {mine}
    assert commits > 10 * len(heard.at)


async def test_known_kq6_many_commits_make_few_notifications(fresh_postgres: str) -> None:
    heard, _, _ = await fifty_writers(fresh_postgres, HintTiming(), 1.0)
    assert len(heard.at) >= 2
    assert busiest(heard.at, 1.0) <= 21  # the first at once, then every 50 ms


async def test_known_kq6_without_a_pause_they_would_be_many(fresh_postgres: str) -> None:
    heard, _, _ = await fifty_writers(fresh_postgres, HintTiming(between_notifications=0.0), 1.0)
    assert busiest(heard.at, 1.0) > 40


def busiest(times: list[float], window_s: float) -> int:
    """The most events in any window of this length."""
    times = sorted(times)
    return max((bisect.bisect_left(times, at + window_s) - i for i, at in enumerate(times)), default=0)


async def test_the_first_notification_leaves_at_once(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store, hand(fresh_postgres) as other, asyncio.timeout(20):
        store.hints.ready("default")  # connects
        source = other.hints._source
        assert source is not None
        await listening(other.hints, source)
        started = time.monotonic()
        store.hints.ready("default")
        assert await other.hints.wait(5)
        assert time.monotonic() - started < 0.2


# KQ7: a connection that is gone and says nothing.


class Hole:
    """A way to a server that can stop carrying what is under way without closing it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: set[asyncio.Event] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    def swallow(self) -> None:
        """From now on nothing passes on the connections there are; new ones work."""
        for lost in self._lost:
            lost.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Hole]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        lost = asyncio.Event()
        self._lost.add(lost)
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink, lost)))

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                if not lost.is_set():
                    sink.write(data)
        if not lost.is_set():
            sink.transport.abort()


@asynccontextmanager
async def through_a_hole(store: Store, timing: HintTiming) -> AsyncIterator[tuple[Hole, Hints, HintSource]]:
    """Hints whose listening goes through a `Hole`."""
    options = driver_of(store).options
    async with Hole(options.host, options.port).running() as hole:
        way = PostgresqlDriver(replace(options, host="127.0.0.1", port=hole.port))
        source = source_on(store, timing, connect=way.connect)
        hints = Hints(source)
        try:
            yield hole, hints, source
        finally:
            await hints.close()


async def test_known_kq7_a_connection_that_went_silent_is_noticed(fresh_postgres: str) -> None:
    async with (
        hand(fresh_postgres) as store,
        through_a_hole(store, QUICK) as (hole, hints, source),
        asyncio.timeout(20),
    ):
        await listening(hints, source)
        hole.swallow()
        store.hints.ready("default")  # lost on the way
        assert await hints.wait(3)  # all the same: whatever came meanwhile
        await until(lambda: is_in(source, HintState.LISTENING), "it did not come back")
        await listening(hints, source)
        store.hints.ready("default")
        assert await hints.wait(3)


async def test_known_kq7_without_a_heartbeat_it_would_not_be(fresh_postgres: str) -> None:
    async with (
        hand(fresh_postgres) as store,
        through_a_hole(store, replace(QUICK, heartbeat=60.0)) as (hole, hints, source),
        asyncio.timeout(20),
    ):
        await listening(hints, source)
        hole.swallow()
        store.hints.ready("default")
        assert not await hints.wait(3)
        assert source.state is HintState.LISTENING  # it has no idea


def test_known_kq7_a_silent_connection_lasts_fifteen_seconds_at_most() -> None:
    timing = HintTiming()
    assert timing.heartbeat + timing.answer <= 15


async def test_known_kq7_a_reconnection_says_that_something_may_have_come(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store, asyncio.timeout(20):
        source = source_on(store, QUICK)
        hints = Hints(source)
        await listening(hints, source)
        assert source._connection is not None
        pid = source._connection.get_server_pid()
        await store.driver.fetch_text("SELECT pg_terminate_backend($1)", pid)
        assert await hints.wait(5)
        await until(lambda: is_in(source, HintState.LISTENING), "it did not come back")
        await hints.close()


async def test_known_kq7_a_pooler_that_drops_listen_is_noticed_and_said(
    fresh_postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hand(fresh_postgres) as store, asyncio.timeout(20):
        options = replace(driver_of(store).options, **_address(behind_pooler(fresh_postgres, direct=False)))

        async def connect() -> asyncpg.Connection[Any]:
            return await asyncpg.connect(
                host=options.host, port=options.port, user=options.user, password=options.password,
                database=options.database, statement_cache_size=0,
            )  # fmt: skip

        source = source_on(store, QUICK, connect=connect)
        with caplog.at_level(logging.WARNING, logger="holdfast.hints"):
            await is_deaf(source)
        assert [record for record in caplog.records if "direct_url" in record.getMessage()] == caplog.records
        assert len(caplog.records) == 1  # once, however often it looks again
        async with pinned(connect) as sessions:
            # A LISTEN that is accepted stays in a session that somebody else uses next.
            assert [await one.fetch("SELECT pg_listening_channels()") for one in sessions] == [[]] * 4


async def is_deaf(source: PostgresqlHints) -> None:
    """It says that it hears nothing, tries again now and then, and lets time pass all the same."""
    hints = Hints(source)
    await hints.wait(0.01)
    await until(lambda: is_in(source, HintState.DEAF), "it believes to hear")
    while await hints.wait(0.5):
        pass  # what was heard at the beginning
    await hints.close()


@asynccontextmanager
async def pinned(connect: Any) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    """Connections that hold every session of the pooler, by a transaction each."""
    async with AsyncExitStack() as stack:
        sessions = []
        for _ in range(SERVER_CONNECTIONS):
            session = await connect()
            stack.push_async_callback(session.close, timeout=5)
            await session.execute("BEGIN")
            sessions.append(session)
        yield sessions
        for session in sessions:
            await session.execute("ROLLBACK")


async def test_known_kq7_notifications_that_do_not_arrive_are_noticed_and_said(
    fresh_postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hand(fresh_postgres) as store, asyncio.timeout(20):

        class Dropping:
            """Takes LISTEN for an answer and drops it."""

            def __init__(self, connection: asyncpg.Connection[Any]) -> None:
                self._connection = connection

            def __getattr__(self, name: str) -> Any:
                return getattr(self._connection, name)

            async def add_listener(self, channel: str, callback: Any) -> None:
                await self._connection.add_listener(channel, callback)
                await self._connection.execute("UNLISTEN *")

        async def connect() -> Any:
            return Dropping(await driver_of(store).connect())

        with caplog.at_level(logging.WARNING, logger="holdfast.hints"):
            await is_deaf(source_on(store, replace(QUICK, retest=1.0), connect=connect))
        assert ["direct_url" in record.getMessage() for record in caplog.records] == [True]


def _address(url: str) -> dict[str, Any]:
    server = config_for(url).storage.postgresql
    return {"host": server.host, "port": server.port}


async def test_hints_arrive_around_a_pooler(fresh_postgres: str) -> None:
    url = behind_pooler(fresh_postgres)
    async with hand(url) as mine, hand(url) as theirs, asyncio.timeout(20):
        source = mine.hints._source
        assert source is not None
        await listening(mine.hints, source)
        await begin(theirs)
        theirs.hints.ready("default")
        assert await mine.hints.wait(5)


# KQ10: everybody comes back in the same second.

CLIENTS = 60
MOST_IN_100_MS, MOST_IN_500_MS = 18, 40


async def reconnections(url: str, timing: HintTiming) -> list[float]:
    """When each connection was asked for after the server ended those of `CLIENTS` clients."""
    asked: list[float] = []
    async with hand(url) as store:
        driver = driver_of(store)

        async def connect() -> asyncpg.Connection[Any]:
            asked.append(time.monotonic())
            return await driver.connect()

        sources = [source_on(store, timing, connect=connect) for _ in range(CLIENTS)]
        everybody = [Hints(source) for source in sources]
        try:
            waiting = [asyncio.ensure_future(hints.wait(20)) for hints in everybody]
            await asyncio.gather(*waiting)
            await until(lambda: _so(all(s.state is HintState.LISTENING for s in sources)), "not connected")
            first = {_pid(source) for source in sources}
            asked.clear()
            await store.driver.fetch_text(
                "SELECT count(pg_terminate_backend(pid)) FROM unnest($1::integer[]) AS pid", list(first)
            )

            async def are_back() -> bool:
                return all(s.state is HintState.LISTENING and _pid(s) not in first for s in sources)

            await until(are_back, "not everybody came back")
        finally:
            await asyncio.gather(*(hints.close() for hints in everybody))
    return asked


def _pid(source: PostgresqlHints) -> int:
    return source._connection.get_server_pid() if source._connection is not None else 0


async def test_known_kq10_clients_come_back_spread_out(fresh_postgres: str) -> None:
    async with asyncio.timeout(30):
        asked = await reconnections(fresh_postgres, HintTiming())
    assert len(asked) >= CLIENTS
    assert busiest(asked, 0.1) <= MOST_IN_100_MS
    assert busiest(asked, 0.5) <= MOST_IN_500_MS


async def test_known_kq10_without_jitter_they_would_come_at_once(fresh_postgres: str) -> None:
    async with asyncio.timeout(30):
        asked = await reconnections(fresh_postgres, HintTiming(least_pause=0.1, first_pause=0.1))
    assert busiest(asked, 0.5) > MOST_IN_500_MS  # a loaded machine spreads them a little


async def test_known_kq10_failures_wait_longer_and_never_longer_than_the_limit(fresh_postgres: str) -> None:
    store = build_store(config_for(fresh_postgres))
    source = source_on(store, HintTiming())
    for failures, ceiling in ((0, 2.0), (1, 4.0), (2, 5.0), (50, 5.0)):
        pauses = [source._pause(failures) for _ in range(500)]
        assert min(pauses) >= 0.1 and ceiling * 0.9 < max(pauses) <= ceiling

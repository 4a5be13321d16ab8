"""Several servers in one address, with real replication between them: the one that takes writes is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

import holdfast as hf
from holdfast.errors import Conflict, NotFound, NoWritableServer, ReadOnlyServer, RetryLater
from holdfast.records.executions import ExecutionStatus
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for
from tests.conformance.hands import begin, hand, result, rows
from tests.replicated import Pair, replicated_mariadb, replicated_postgresql
from tests.secured import wait_for

pytestmark = pytest.mark.anyio

PATIENCE_S = 120
CALLERS = 6


@pytest.fixture(params=["postgresql", "mysql"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two servers for one test: what is done to them can not be undone."""
    with replicated_postgresql() if request.param == "postgresql" else replicated_mariadb() as made:
        yield made


def application(url: str) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.step
    async def double(number: int) -> int:
        return 2 * number

    @app.workflow
    async def quadruple(number: int) -> int:
        return await double(await double(number))

    return app, quadruple


class Load:
    """Callers that run one execution after the other and note what was acknowledged."""

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow
        self.acknowledged: dict[str, int] = {}
        self._next = 0
        self._grown = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call for the block; each caller ends with the call it is in."""
        stopping = asyncio.Event()
        callers = [asyncio.create_task(self._call(stopping)) for _ in range(CALLERS)]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*callers)

    async def _call(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self._next += 1
            id, number = f"x{self._next}", self._next
            while id not in self.acknowledged:
                try:
                    self.acknowledged[id] = await self._workflow.options(id=id)(number)
                except RetryLater:
                    await asyncio.sleep(0.05)
            async with self._grown:
                self._grown.notify_all()

    async def more(self, count: int) -> None:
        """Until so many more were acknowledged."""
        enough = len(self.acknowledged) + count
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.acknowledged) >= enough)


async def make(url: str) -> None:
    store = build_store(config_for(url))
    await store.open(migrate=True)
    await store.close()


async def nothing_is_lost(url: str, load: Load) -> None:
    """Whether the server at `url` has everything that was acknowledged, once each."""
    store = build_store(config_for(url))
    async with store:
        found = {row[0]: row[1] for row in await rows(store, "SELECT id, status FROM {executions}")}
        assert {id for id in load.acknowledged if found.get(id) != ExecutionStatus.COMPLETED} == set()
        results = "FROM {events} WHERE type = 'step.completed'"
        written = await rows(store, f"SELECT execution, path {results}")
        different = await rows(store, f"SELECT DISTINCT execution, path {results}")
        assert len(written) == len(different) >= 2 * len(load.acknowledged)
    assert all(answer == 4 * int(id[1:]) for id, answer in load.acknowledged.items())


def address_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


async def nobody_writes(pair: Pair) -> NoWritableServer:
    store = build_store(config_for(pair.both))
    with pytest.raises(NoWritableServer) as caught:
        await store.open()
    return caught.value


async def test_work_goes_on_where_a_server_was_demoted_and_another_promoted(pair: Pair) -> None:
    """The first stays up and reachable all the time: only its refusal tells that it is to be left."""
    await make(pair.first)
    app, workflow = application(pair.both)
    async with asyncio.timeout(PATIENCE_S), app:
        load = Load(workflow)
        await app.store.hints.wait(0.05)  # from here on it listens, where there is something to hear
        async with load.running():
            await load.more(20)
            await asyncio.to_thread(pair.demote)
            told = await nobody_writes(pair)
            assert [one["server"] for one in told.details["servers"]] == [
                address_of(url) for url in (pair.first, pair.second)
            ]
            assert {one["code"] for one in told.details["servers"]} == {ReadOnlyServer.code}
            assert all(
                one["server"] in told.cause and one["said"] in told.cause for one in told.details["servers"]
            )
            assert str(urlsplit(pair.first).password) not in repr(told.as_problem())
            await asyncio.to_thread(pair.restore)
            await load.more(20)
            await asyncio.to_thread(pair.demote)
            await asyncio.to_thread(pair.promote)
            await load.more(40)
            # Nobody goes on reading, listening or waiting at the one that was left.
            await asyncio.to_thread(wait_for, lambda: pair.clients() == 0, "it is still connected there")
    await nothing_is_lost(pair.second, load)


async def a_standby_alone_may_be_read(pair: Pair) -> None:
    """One host is taken as it is, unless it is to take writes."""
    for target in ("", "?target_session_attrs=any"):
        async with followed(f"{pair.second}{target}") as store:
            assert await store.counts() == {}
            with pytest.raises(ReadOnlyServer):
                async with store.transaction() as transaction:
                    await transaction.fetch("health.write", store.tenant, "nothing")
    with pytest.raises(ReadOnlyServer):
        await build_store(config_for(f"{pair.second}?target_session_attrs=read-write")).open()


@asynccontextmanager
async def followed(url: str) -> AsyncIterator[Store]:
    """The store at a server that follows, once the schema has got there."""
    store = build_store(config_for(url))
    while True:
        try:
            await store.open()
            break
        except (NotFound, Conflict):
            await asyncio.sleep(0.05)
    try:
        yield store
    finally:
        await store.close()


async def test_work_goes_on_when_a_server_dies_and_another_is_promoted(pair: Pair) -> None:
    await make(pair.first)
    app, workflow = application(pair.both)
    async with asyncio.timeout(PATIENCE_S):
        await a_standby_alone_may_be_read(pair)
    async with asyncio.timeout(PATIENCE_S), app:
        load = Load(workflow)
        async with load.running():
            await load.more(20)
            await asyncio.to_thread(pair.kill)
            await asyncio.to_thread(pair.promote)
            await load.more(40)
        # Who comes later passes over the dead one; the order of the hosts makes no difference.
        async with build_store(config_for(pair.both)) as store:
            assert await store.counts()
    await nothing_is_lost(pair.second, load)


@pytest.fixture(params=["made_postgres", "made_mysql"])
def two_names(request: pytest.FixtureRequest) -> str:
    """One store under two addresses, both of which take writes."""
    parts = urlsplit(str(request.getfixturevalue(request.param)))
    if parts.hostname != "127.0.0.1":
        pytest.skip("the server is not reached by the loopback address")
    return parts._replace(netloc=f"{parts.netloc},localhost:{parts.port}").geturl()


async def test_nobody_stays_behind_at_a_server_that_was_left(two_names: str) -> None:
    """Also if it takes writes again: two servers in use at once would be two truths."""
    async with hand(two_names) as store, asyncio.timeout(PATIENCE_S):
        driver: Any = store.driver
        heartbeat, lease = driver.heartbeat(), timedelta(seconds=30)
        try:
            holding = await begin(store)
            await asyncio.to_thread(heartbeat.renew, bytes(16), lease)
            left = driver._hosts.used
            assert heartbeat._connection.options is driver._journal.connection.options is left
            # The first is given up, and somebody who needs a connection finds the second.
            assert driver._hosts.leave(left, ReadOnlyServer("it is a standby"))
            (await driver.connect()).terminate()
            used = driver._hosts.used
            assert used is not left
            await asyncio.sleep(0)  # in which the others are told
            await store.journal.append(result(holding, "one", "x"))
            await asyncio.to_thread(heartbeat.renew, bytes(16), lease)
            assert heartbeat._connection.options is used
            assert driver._journal.connection.options is used
            async with driver._pool.lend() as connection:
                assert connection.options is used
        finally:
            await asyncio.to_thread(heartbeat.close)

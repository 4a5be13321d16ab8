"""Hints: what ends a pause early, inside a process and between processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.store.hints import Hints, HintState
from holdfast.store.store import Store
from tests.conformance.hands import begin, hand, is_sqlite, result, until
from tests.databases import empty_store

pytestmark = pytest.mark.anyio

LONG_S = 20.0
SOON_S = 5.0


async def listening(store: Store) -> None:
    """Have `store` listen, past the wake-up that comes with the beginning."""

    async def ready() -> bool:
        await store.hints.wait(0.01)
        return store.hints.state is HintState.LISTENING

    await until(ready, "the store never listened")
    while await store.hints.wait(0.2):
        pass


class Source:
    """A source that only notes what it is asked."""

    state = HintState.LISTENING

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard: Callable[[], None] = lambda: None

    def listen(self, heard: Callable[[], None]) -> None:
        self.heard = heard
        self.calls.append("listen")

    def rest(self) -> None:
        self.calls.append("rest")

    def tell(self) -> None:
        self.calls.append("tell")

    async def close(self) -> None:
        self.calls.append("close")


async def test_time_passes_without_a_hint() -> None:
    hints = Hints(None)
    assert hints.state is HintState.OFF
    started = time.monotonic()
    assert await hints.wait(0.05) is False
    assert time.monotonic() - started >= 0.049


async def test_a_hint_ends_every_pause() -> None:
    hints = Hints(None)
    waiters = [asyncio.ensure_future(hints.wait(LONG_S)) for _ in range(5)]
    await asyncio.sleep(0)
    hints.ready("q")
    assert await asyncio.wait_for(asyncio.gather(*waiters), SOON_S) == [True] * 5


async def test_a_hint_between_two_pauses_is_not_lost() -> None:
    hints = Hints(None)
    looked: dict[str, list[bool]] = {"a": [], "b": []}
    turn = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def worker(name: str) -> None:
        for timeout_s in (LONG_S, LONG_S, 0.01):
            looked[name].append(await hints.wait(timeout_s))
            await turn[name].wait()  # looks for work; the hint comes meanwhile

    tasks = [asyncio.ensure_future(worker(name)) for name in looked]
    await asyncio.sleep(0)
    hints.message()
    await until(lambda: _so(all(looked.values())), "nobody woke")
    hints.message()
    turn["a"].set()
    await until(lambda: _so(len(looked["a"]) >= 2), "a's hint was lost")
    turn["b"].set()
    await asyncio.wait_for(asyncio.gather(*tasks), SOON_S)
    assert looked == {"a": [True, True, False], "b": [True, True, False]}


async def _so(value: bool) -> bool:
    return value


async def test_a_hint_before_the_first_pause_ends_it() -> None:
    hints = Hints(None)
    hints.ready("q")
    assert await hints.wait(LONG_S) is True
    assert await hints.wait(0) is False
    assert await asyncio.create_task(hints.wait(0)) is False  # another task goes by what was seen


async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    source = Source()
    hints = Hints(source)
    waiter = asyncio.ensure_future(hints.wait(LONG_S))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert source.calls == ["listen", "rest"]
    hints.ready("q")
    assert source.calls == ["listen", "rest", "tell"]


async def test_the_source_listens_while_anybody_waits() -> None:
    source = Source()
    hints = Hints(source)
    one, two = (asyncio.ensure_future(hints.wait(LONG_S)) for _ in range(2))
    await asyncio.sleep(0)
    source.heard()
    assert await one and await two
    await hints.close()
    await hints.close()
    assert source.calls == ["listen", "rest", "close"]


async def test_closing_ends_a_pause() -> None:
    hints = Hints(None)
    waiter = asyncio.ensure_future(hints.wait(LONG_S))
    await asyncio.sleep(0)
    await hints.close()
    await asyncio.wait_for(waiter, SOON_S)


@pytest.fixture(params=["sqlite", "postgresql"])
def heard_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store that tells other processes of what happens; MySQL's has to be looked at."""
    return empty_store(request, tmp_path)


async def test_another_connection_is_heard(heard_url: str) -> None:
    async with hand(heard_url) as mine, hand(heard_url) as theirs, asyncio.timeout(LONG_S):
        await listening(mine)
        started = time.monotonic()
        await begin(theirs)  # on SQLite the commit is the hint
        theirs.hints.ready("default")
        assert await mine.hints.wait(LONG_S)
        assert time.monotonic() - started < 1


async def test_what_i_do_myself_is_no_hint_from_others(heard_url: str) -> None:
    async with hand(heard_url) as mine:
        await listening(mine)
        holding = await begin(mine)
        for number in range(20):
            await mine.journal.append(result(holding, f"s{number}"))
        assert await mine.hints.wait(0.2) is False
        mine.hints.ready("default")
        assert await mine.hints.wait(LONG_S)  # in the process, once
        assert await mine.hints.wait(0.2) is False


async def test_what_happened_between_two_pauses_is_heard(heard_url: str) -> None:
    async with hand(heard_url) as mine, hand(heard_url) as theirs, asyncio.timeout(LONG_S):
        await listening(mine)
        await begin(theirs)
        theirs.hints.ready("default")
        if not is_sqlite(mine):
            await until(lambda: _so(mine.hints._count > 0), "not heard")
        assert await mine.hints.wait(LONG_S)


async def test_hints_switched_off_leave_polling(shared_url: str) -> None:
    async with hand(shared_url) as theirs:
        mine = Store(theirs.driver)
        mine.hints = Hints(None)
        assert mine.hints.state is HintState.OFF
        await begin(theirs)
        theirs.hints.ready("default")
        assert await mine.hints.wait(0.05) is False


async def test_a_memory_store_has_hints_inside_the_process() -> None:
    async with hand("memory://") as store:
        assert store.hints.state is HintState.OFF
        waiter = asyncio.ensure_future(store.hints.wait(LONG_S))
        await asyncio.sleep(0)
        store.hints.message()
        assert await asyncio.wait_for(waiter, SOON_S)


async def test_a_process_that_ends_at_once_has_told(heard_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from tests.conformance.hands import begin, hand\n"
        "async def main():\n"
        "    async with hand(sys.argv[1]) as store:\n"
        "        await begin(store)\n"
        "        store.hints.ready('default')\n"
        "asyncio.run(main())\n"
    )
    async with hand(heard_url) as mine, asyncio.timeout(LONG_S):
        await listening(mine)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, heard_url, stdout=subprocess.DEVNULL
        )
        assert await mine.hints.wait(LONG_S)
        assert await process.wait() == 0


async def test_a_store_that_never_told_closes_at_once(shared_url: str) -> None:
    async with hand(shared_url) as store:
        started = time.monotonic()
    assert time.monotonic() - started < 0.5
    assert store.hints.state is HintState.OFF

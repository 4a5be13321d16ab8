"""Connections that are held for long: each told once, by one timer that runs only while any is out."""

from __future__ import annotations

import asyncio
import json

import pytest

from holdfast.store.holds import Hold, Holds, caller

pytestmark = pytest.mark.anyio
LIMIT_S = 0.05


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [json.loads(each.getMessage())["taken"].partition(":")[0] for each in caplog.records]


def take(holds: Holds, name: str) -> Hold:
    return holds.taken((name, 1, "work"))


async def test_every_one_is_told_once_whenever_it_was_taken(caplog: pytest.LogCaptureFixture) -> None:
    holds = Holds("sqlite", "default", LIMIT_S)
    take(holds, "first")
    await asyncio.sleep(0.6 * LIMIT_S)
    take(holds, "second")
    await asyncio.sleep(2 * LIMIT_S)
    assert told(caplog) == ["first", "second"]
    take(holds, "third")  # starts the timer again, which sees those that were told before
    await asyncio.sleep(2 * LIMIT_S)
    assert told(caplog) == ["first", "second", "third"]
    holds.close()


async def test_what_comes_back_in_time_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    holds = Holds("sqlite", "default", LIMIT_S)
    for number in range(5):
        hold = take(holds, str(number))
        await asyncio.sleep(0.4 * LIMIT_S)
        holds.given_back(hold)
    await asyncio.sleep(2 * LIMIT_S)
    assert told(caplog) == []
    assert holds._timer is None, "nothing is out, and nothing is watched"


async def test_closing_ends_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    holds = Holds("sqlite", "default", LIMIT_S)
    take(holds, "left")
    holds.close()
    await asyncio.sleep(2 * LIMIT_S)
    assert told(caplog) == []


def test_the_caller_is_the_nearest_frame_outside_of_the_store() -> None:
    file, line, function = caller()
    assert (file, function) == (__file__, "test_the_caller_is_the_nearest_frame_outside_of_the_store")
    assert line > 0

"""Progress as plain lines: what is told of many items, when, and in which words."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from holdfast.cli.views import lines
from holdfast.cli.views.board import ITEMS_SHOWN
from holdfast.cli.views.lines import JsonLines, Lines
from holdfast.workflows.progress import Happening, Progress

pytestmark = pytest.mark.anyio


def one_after_the_other(count: int, execution: str = "x") -> Iterator[Progress]:
    """A fan-out with `max_parallel: 1`: between two items nothing of it is at work."""
    for number in range(count):
        for kind in (Happening.STEP_RUNNING, Happening.STEP_COMPLETED):
            yield Progress(kind, execution, f"each[{number}]", duration=timedelta(0))


def told(stream: io.StringIO) -> list[str]:
    return [line.strip() for line in stream.getvalue().splitlines()]


async def test_items_that_run_one_by_one_are_counted_once_at_their_end() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    for happening in one_after_the_other(500):
        view.note(happening)
    assert len(told(stream)) == ITEMS_SHOWN
    view.note(Progress(Happening.STEP_RUNNING, "x", "last"))
    view.note(Progress(Happening.STEP_COMPLETED, "x", "last", duration=timedelta(0)))
    view.end()
    assert told(stream)[ITEMS_SHOWN:] == ["✔ each ×500  500 done", "✔ last  0 ms"]


async def test_counts_are_told_while_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_EVERY_S", 0.001)
    counted = asyncio.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "✔ each ×20  20 done" in text:
                counted.set()
            return super().write(text)

    stream = Stream()
    view = Lines(stream)
    for happening in one_after_the_other(20):
        view.note(happening)
    await asyncio.wait_for(counted.wait(), 10)
    view.end()
    assert len(told(stream)) == ITEMS_SHOWN + 1


async def test_what_is_under_way_at_the_end_is_told() -> None:
    stream = io.StringIO()
    view = Lines(stream, several=True)
    for execution in ("x", "y"):
        for happening in one_after_the_other(20, execution):
            view.note(happening)
        view.note(Progress(Happening.STEP_RUNNING, execution, "each[20]"))
    view.end()
    assert told(stream)[-1] == "y  ▸ each ×21  20 done, 1 running"
    assert "x  ▸ each ×21  20 done, 1 running" in told(stream)


@pytest.mark.parametrize(("count", "said"), [(1, "1 step was"), (2, "2 steps were")])
async def test_saved_steps_are_counted_in_grammatical_words(count: int, said: str) -> None:
    stream = io.StringIO()
    view = Lines(stream)
    for number in range(count):
        view.note(Progress(Happening.STEP_REPLAYED, "x", f"step{number}"))
    view.note(Progress(Happening.STEP_COMPLETED, "x", "last", duration=timedelta(0)))
    assert told(stream)[0] == f"✔ {said} saved before"


async def test_times_in_json_lines() -> None:
    stream = io.StringIO()
    JsonLines(stream).note(Progress(Happening.STEP_COMPLETED, "x", "a", duration=timedelta(seconds=1.5)))
    line = json.loads(stream.getvalue())
    assert line["duration"] == 1.5
    assert datetime.fromisoformat(line["at"]).utcoffset() == timedelta(0)

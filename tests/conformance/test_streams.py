"""Users' streams on every backend: numbering, conditions, and readers that miss nothing."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import InvalidArgument, VersionConflict
from holdfast.events.streams import Streams
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(store_url: str):
    opened = build_store(config_for(store_url), create=True)
    await opened.open(migrate=True)
    yield opened
    await opened.close()


async def test_numbers_run_from_one_without_gaps_under_concurrent_writers(store: Store) -> None:
    streams = Streams(store)
    await asyncio.gather(*[streams.append("s", [("tick", {"n": n})]) for n in range(20)])
    events = await streams.read("s", limit=100)
    assert [event.seq for event in events] == list(range(1, 21))
    assert sorted(event.payload["n"] for event in events) == list(range(20))


async def test_an_append_on_the_wrong_version_changes_nothing_and_names_both(store: Store) -> None:
    streams = Streams(store)
    assert await streams.append("s", [("a", 1), ("b", 2)], expect_version=0) == 2
    with pytest.raises(VersionConflict) as refused:
        await streams.append("s", [("c", 3)], expect_version=1)
    assert refused.value.details == {"actual": 2, "expected": 1}
    assert [event.type for event in await streams.read("s")] == ["a", "b"]


async def test_a_page_goes_on_behind_its_cursor_across_streams(store: Store) -> None:
    streams = Streams(store)
    for n in range(6):
        await streams.append(f"order-{n % 2}", [("paid", n)])
        await streams.append("other_1", [("noise", n)])
    seen: list[int] = []
    cursor = ""
    while len(seen) < 6:  # a page is empty while any transaction of the server could still write below it
        page = await streams.page("order-*", after=cursor, limit=2)
        assert len(page) <= 2
        seen += [event.payload for event in page]
        cursor = page[-1].cursor if page else cursor
    assert seen == list(range(6))


async def test_a_pattern_takes_underscores_literally(store: Store) -> None:
    streams = Streams(store)
    await streams.append("a_b", [("t", 1)])
    await streams.append("axb", [("t", 2)])
    found: list[str] = []
    async for event in streams.tail("a*"):
        found.append(event.stream)
        if len(found) == 2:
            break
    assert sorted(found) == ["a_b", "axb"]
    assert [event.stream for event in await streams.page("a_*")] == ["a_b"]


async def test_tail_delivers_what_is_appended_later(store: Store) -> None:
    streams = Streams(store)
    await streams.append("s", [("a", 1)])
    got: list[int] = []
    async for event in streams.tail("s"):
        got.append(event.payload)
        if len(got) == 1:
            await streams.append("s", [("b", 2)])
        else:
            break
    assert got == [1, 2]


@pytest.mark.parametrize("cursor", ["nonsense", "W10", "eyJhIjoxfQ"])
async def test_a_foreign_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidArgument):
        await Streams(store).page(after=cursor)


async def test_an_append_is_bounded(store: Store) -> None:
    with pytest.raises(InvalidArgument):
        await Streams(store).append("s", [])
    with pytest.raises(InvalidArgument):
        await Streams(store).append("", [("a", 1)])

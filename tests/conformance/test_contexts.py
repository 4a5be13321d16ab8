"""Context snapshots: whatever a model was given to see reads back, and keeping it costs what has changed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from holdfast.domain.contexts import ROW_BYTES
from holdfast.domain.conversations import Conversations
from holdfast.errors import DamagedData, HoldfastError, RecordNotFound, UnsupportedValue
from holdfast.records.conversations import ContextSnapshot, Conversation, Message, MessageRole
from holdfast.store import codec
from holdfast.store.store import Store
from tests.conformance.test_store import opened, table

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as made:
        await Conversations(made).start(Conversation(id="c"))
        yield made


@pytest.fixture
def conversations(store: Store) -> Conversations:
    return Conversations(store)


async def speak(conversations: Conversations, count: int = 1) -> None:
    await conversations.append("c", *(Message(role=MessageRole.USER, content="x") for _ in range(count)))


async def snapshots(store: Store) -> list[ContextSnapshot]:
    return [each async for each in store.repo(ContextSnapshot).stream("conversation:c", sort="number")]


def stored_bytes(snapshot: ContextSnapshot) -> int:
    return len(codec.encode(snapshot.body)) + ROW_BYTES


async def test_the_context_of_any_moment_reads_back(store: Store, conversations: Conversations) -> None:
    with pytest.raises(RecordNotFound, match="no context snapshot"):
        await conversations.context_at("c")
    await conversations.snapshot("c", [])
    await speak(conversations, 2)
    await conversations.snapshot("c", ["a", "b"])
    await conversations.snapshot("c", ["a", "b", "tools"])
    await speak(conversations, 3)
    taken = await conversations.snapshot("c", ["a"])
    assert (taken.number, taken.seq) == (4, 5)
    for seq, expected in ((0, []), (1, []), (2, ["a", "b", "tools"]), (4, ["a", "b", "tools"]), (5, ["a"])):
        assert await conversations.context_at("c", seq) == expected, seq
    assert await conversations.context_at("c", 99) == await conversations.context_at("c") == ["a"]
    with pytest.raises(RecordNotFound, match="at message -1"):
        await conversations.context_at("c", -1)


VALUES = [
    None,
    0,
    "text",
    {},
    {"b": 1, "a": [1, 1.0, True, None, -0.0, 2**70, 1e300]},
    {"a": [1, 1.0, True, None, -0.0, 2**70, 1e300], "b": 1},
    [(1, 2), {3}, Decimal("1.10"), datetime(2026, 1, 1, tzinfo=UTC), b"\0\xff", {"$hf": ["x", "y"]}],
    [(1, 2), {3}, Decimal("1.1"), datetime(2026, 1, 2, tzinfo=UTC), b"\0\xfe", {"$hf": ["x", "z"]}],
    {"nul\0": "a\0b \U0001f600"},
]


async def test_any_sequence_of_values_reads_back_exactly(store: Store, conversations: Conversations) -> None:
    chance = random.Random(7)
    told: list[tuple[int, Any]] = []
    growing: list[Any] = []
    for turn in range(120):
        growing = _next(chance, growing, turn)
        value = chance.choice(VALUES) if chance.random() < 0.15 else growing
        await speak(conversations)
        await conversations.snapshot("c", value)
        told.append((turn + 1, codec.to_json(value)))
    assert any(not each.is_whole for each in await snapshots(store))
    for seq, text in told:
        assert codec.to_json(await conversations.context_at("c", seq)) == text


def _next(chance: random.Random, old: list[Any], turn: int) -> list[Any]:
    new = [*old, {"role": "user", "content": f"turn {turn} " * chance.randrange(1, 30), "n": chance.random()}]
    match chance.randrange(8):
        case 0 if len(new) > 3:
            del new[1:3]
        case 1:
            new[chance.randrange(len(new))] = {"changed": turn, "tags": ["x"] * turn}
        case 2:
            chance.shuffle(new)
        case 3:
            new = new[-5:]
    return new


async def test_five_hundred_turns_take_up_as_much_as_they_add(
    store: Store, conversations: Conversations
) -> None:
    context: list[dict[str, Any]] = [{"role": "system", "content": "policy " * 300}]
    sizes = []
    for turn in range(500):
        # Random letters, which compress badly: what is saved is saved by the deltas.
        words = random.Random(turn).choices("abcdefghijklmnopqrstuvwxyz    ", k=400)
        context.append({"role": "user" if turn % 2 else "assistant", "content": "".join(words)})
        await conversations.snapshot("c", context)
        if turn in (249, 499):
            sizes.append(sum(stored_bytes(each) for each in await snapshots(store)))
    assert await conversations.context_at("c") == context
    added = len(codec.to_json(context))
    assert sizes[1] < 4 * (added + 500 * ROW_BYTES)
    assert sizes[1] < 2.5 * sizes[0], "twice the turns take up about twice the bytes"


async def test_a_window_over_a_long_conversation_stays_cheap(
    store: Store, conversations: Conversations
) -> None:
    turns = [{"n": n, "content": "".join(random.Random(n).choices("abcdefgh ", k=300))} for n in range(200)]
    for last in range(40, 200):
        await conversations.snapshot("c", [{"system": "x" * 1000}, *turns[last - 40 : last]])
    kept = await snapshots(store)
    spent = sum(stored_bytes(each) for each in kept)
    assert spent < 4 * 160 * (350 + ROW_BYTES)
    assert any(not each.is_whole for each in kept)
    # Reading one reads no more than about twice its size.
    for each in kept:
        chain = [one for one in kept if each.base <= one.number <= each.number]
        assert sum(stored_bytes(one) for one in chain[1:]) < stored_bytes(chain[0]) * 1.5


async def test_what_can_not_be_kept_is_refused(store: Store, conversations: Conversations) -> None:
    await conversations.snapshot("c", ["a"])
    for value in (float("nan"), object(), ["\ud800"]):
        with pytest.raises((UnsupportedValue, HoldfastError)):
            await conversations.snapshot("c", value)
    assert len(await snapshots(store)) == 1


async def test_a_context_too_deep_for_a_delta_is_kept_whole(
    store: Store, conversations: Conversations
) -> None:
    def deep(leaf: str) -> Any:
        document: Any = leaf
        for _ in range(97):
            document = [document]
        return document

    for leaf in ("a" * 2000, "b" * 2000):
        await conversations.snapshot("c", deep(leaf))
        assert await conversations.context_at("c") == deep(leaf)


async def test_a_damaged_snapshot_is_told_and_not_given(store: Store, conversations: Conversations) -> None:
    await conversations.snapshot("c", ["a" * 2000, "b"])
    await conversations.snapshot("c", ["a" * 2000, "c"])
    first, second = await snapshots(store)
    assert not second.is_whole
    mark = "$1" if store.driver.dialect == "postgresql" else "?1"
    other = mark[0] + "2"
    for body in (codec.encode(["list", [5]]), codec.encode(["list", [9, ["x"]]]), codec.encode("nonsense")):
        await store.driver.fetch_text(
            f"UPDATE {table(store, 'context_snapshots')} SET body = {mark} WHERE id = {other}",
            body,
            second.id,
        )
        with pytest.raises(DamagedData):
            await conversations.context_at("c")
    assert first.is_whole

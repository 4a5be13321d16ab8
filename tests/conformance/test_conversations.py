"""Conversations on every store: numbers without gaps, exact totals, pages, feedback, redaction, imports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.chat import conversations_of, document_of
from holdfast.domain.conversations import APPEND_MAX, MANY_MAX, Conversations
from holdfast.errors import (
    ConstraintViolated,
    InvalidArgument,
    InvalidData,
    RecordExists,
    RecordNotFound,
    SealedRecord,
    UnsupportedValue,
    WrongStatus,
)
from holdfast.records.conversations import (
    ContextSnapshot,
    Conversation,
    ConversationStatus,
    Message,
    MessageRole,
    micros,
)
from holdfast.records.declare import table_of
from holdfast.store.query import bound_list
from holdfast.store.store import Store
from tests.conformance.test_store import opened
from tests.conformance.transcripts import KINDS, transcripts

pytestmark = pytest.mark.anyio

USER, ASSISTANT, TOOL = MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as made:
        yield made


@pytest.fixture
def conversations(store: Store) -> Conversations:
    return Conversations(store)


def said(*texts: str, **fields: Any) -> list[Message]:
    return [Message(role=USER, content=text, **fields) for text in texts]


async def filled(conversations: Conversations, id: str, *texts: str) -> Conversation:
    made = await conversations.start(Conversation(id=id, title=id))
    await conversations.append(id, *said(*texts))
    return made


async def texts(conversations: Conversations, id: str, **page: Any) -> list[str | None]:
    return [each.content for each in await conversations.messages(id, **page)]


async def totals_are_true(store: Store, id: str) -> Conversation:
    """The conversation, whose totals have been compared with its messages."""
    conversation = await store.repo(Conversation).get(id)
    messages = [each async for each in store.repo(Message).stream(f"conversation:{id}", sort="seq")]
    assert [each.seq for each in messages] == list(range(1, conversation.message_count + 1))
    for name in ("prompt_tokens", "completion_tokens", "cost_micros"):
        assert getattr(conversation, name) == sum(getattr(each, name) for each in messages), name
    last = messages[-1].created_at if messages else None
    assert conversation.last_message_at == last
    assert [each.created_at for each in messages] == sorted(each.created_at for each in messages)
    return conversation


# Appending.


FULL = Message(
    id="m-full",
    role=ASSISTANT,
    content='née 日本 \U0001f600 "so" \\ \' ${x} ?1 $1 %s \n\t -- end',
    tool_calls=({"id": "c1", "function": {"name": "f", "arguments": '{"a": "b\\u0000"}'}}, {"nul": "a\0b"}),
    tool_call_id="c0",
    name="look",
    tool_result={"at": datetime(2026, 1, 1, tzinfo=UTC), "blob": b"\0\xff", "d": Decimal("1.10")},
    model="m-1",
    prompt_tokens=2**40,
    completion_tokens=7,
    cost_micros=micros("0.001234"),
    metadata={"deep": [{"x": None}], "big": 2**70, "text": "a\0b"},
)


async def test_what_is_appended_reads_back_the_same(store: Store, conversations: Conversations) -> None:
    started = await conversations.start(Conversation(title="Trip", tags=("a",), model_settings={"t": 0.5}))
    assert (started.message_count, started.last_message_at, started.cost) == (0, None, Decimal(0))
    made = await conversations.append(started.id, FULL, Message(role=TOOL), *said(""))
    assert [(each.seq, each.conversation_id, each.revision) for each in made] == [
        (number, started.id, 1) for number in (1, 2, 3)
    ]
    assert await conversations.messages(started.id) == made
    assert await store.repo(Message).get("m-full") == made[0]
    given = replace(FULL, conversation_id=started.id, seq=1, revision=1)
    assert replace(made[0], created_at=given.created_at, updated_at=given.updated_at) == given
    assert [each.content for each in made[1:]] == [None, ""]
    found = await totals_are_true(store, started.id)
    assert (found.prompt_tokens, found.completion_tokens, found.cost) == (2**40, 7, Decimal("0.001234"))
    assert found.revision == 2
    assert abs(datetime.now(UTC) - made[0].created_at) < timedelta(minutes=1)


async def test_an_append_is_one_statement_whatever_its_number(
    store: Store, conversations: Conversations
) -> None:
    await conversations.start(Conversation(id="c"))

    def asked() -> dict[str, int]:
        return {each.name: each.count for each in store.figures().statements}

    before = asked()
    await conversations.append("c", *said(*(f"text {n}" for n in range(APPEND_MAX))))
    after = asked()
    assert {
        name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name)
    } == {"conversations.append": 1}
    assert (await totals_are_true(store, "c")).message_count == APPEND_MAX


async def test_a_message_is_recorded_once_under_its_id(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "first")
    one, two, three = said("one", "two", "three", cost_micros=5)
    recorded = await conversations.append("c", one, two)
    assert await conversations.append("c", one, two) == recorded
    assert await conversations.append("c", *recorded) == recorded
    mixed = await conversations.append("c", three, two)
    assert [(each.content, each.seq) for each in mixed] == [("three", 4), ("two", 3)]
    assert (await totals_are_true(store, "c")).cost_micros == 15
    for other in (replace(one, content="other"), replace(one, role=ASSISTANT), replace(one, tool_result=1)):
        with pytest.raises(RecordExists, match="recorded with another"):
            await conversations.append("c", *said("never"), other)
    await conversations.start(Conversation(id="d"))
    with pytest.raises(RecordExists, match="another conversation_id"):
        await conversations.append("d", one)
    assert (await totals_are_true(store, "c")).message_count == 4
    assert (await totals_are_true(store, "d")).message_count == 0


async def test_an_append_that_is_refused_leaves_nothing(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "first")
    before = await totals_are_true(store, "c")
    good = said("good")[0]
    for bad, error in (
        (Message(role="robot"), InvalidArgument),  # type: ignore[arg-type]
        (Message(role=USER, id=""), InvalidArgument),
        (Message(role=USER, id="é" * 128), InvalidArgument),
        (Message(role=USER, cost_micros=-1), InvalidArgument),
        (Message(role=USER, prompt_tokens=-1), InvalidArgument),
        (Message(role=USER, conversation_id="d"), InvalidArgument),
        (good, InvalidArgument),  # twice
        (Message(role=USER, content="a\0b"), InvalidData),
        (Message(role=USER, content="\ud800"), InvalidData),
        (Message(role=USER, model=7), InvalidData),  # type: ignore[arg-type]
    ):
        with pytest.raises(error):
            await conversations.append("c", good, bad)
    with pytest.raises((ConstraintViolated, InvalidData)):
        await conversations.append(
            "c", good, Message(role=USER, cost_micros=2**63 - 1), *said("", cost_micros=1)
        )
    with pytest.raises(InvalidArgument, match="up to"):
        await conversations.append("c", *said(*["x"] * (APPEND_MAX + 1)))
    assert await conversations.append("c") == []
    assert await totals_are_true(store, "c") == before


async def test_a_conversation_that_is_not_there_or_archived_takes_nothing(
    store: Store, conversations: Conversations
) -> None:
    for refused in (
        conversations.append("none", *said("x")),
        conversations.messages("none"),
        conversations.edit("none", title="x"),
        conversations.delete("none"),
        conversations.snapshot("none", []),
        conversations.context_at("none"),
        conversations.feedback("none", 1),
        conversations.redact("none"),
    ):
        with pytest.raises(RecordNotFound):
            await refused
    await filled(conversations, "c", "first")
    recorded = await conversations.messages("c")
    assert (await conversations.archive("c")).status is ConversationStatus.ARCHIVED
    with pytest.raises(WrongStatus, match="archived"):
        await conversations.append("c", *said("x"))
    assert await conversations.append("c", *recorded) == recorded  # it was recorded
    with pytest.raises(WrongStatus, match="archived"):
        await conversations.append("c", *recorded, *said("x"))
    await conversations.reopen("c")
    await conversations.append("c", *said("x"))
    assert (await totals_are_true(store, "c")).message_count == 2


async def test_a_very_long_message_is_kept_whole(store: Store, conversations: Conversations) -> None:
    words = [f"{number:x}z" for number in range(300_000)]
    (long,) = said(" ".join(words))
    await filled(conversations, "c")
    await conversations.append("c", long)
    assert (await conversations.messages("c"))[0].content == long.content
    assert len((await store.repo(Message).search(words[7])).items) == 1


# At once.


async def test_eight_writers_in_two_processes_worth_of_stores_leave_no_gap(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as other:
        await Conversations(one).start(Conversation(id="c"))

        async def write(writer: int) -> list[int]:
            conversations = Conversations(one if writer % 2 else other)
            numbers = []
            for turn in range(50):
                content = f"{writer}: {turn}"
                made = await conversations.append(
                    "c", Message(role=USER, content=content, prompt_tokens=writer, cost_micros=turn)
                )
                numbers.append(made[0].seq)
            return numbers

        given = await asyncio.gather(*(write(writer) for writer in range(8)))
        assert sorted(number for numbers in given for number in numbers) == list(range(1, 401))
        assert all(numbers == sorted(numbers) for numbers in given)
        found = await totals_are_true(one, "c")
        assert (found.message_count, found.prompt_tokens, found.cost_micros) == (400, 50 * 28, 8 * 1225)


async def test_two_who_append_the_same_message_record_it_once(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as other:
        await Conversations(one).start(Conversation(id="c"))
        for turn in range(10):
            batch = said(f"{turn} a", f"{turn} b")
            both = await asyncio.gather(
                *(Conversations(store).append("c", *batch) for store in (one, other, one, other))
            )
            assert all(each == both[0] for each in both)
        assert (await totals_are_true(one, "c")).message_count == 20


async def test_batches_that_overlap_are_recorded_once_each(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as other:
        await Conversations(one).start(Conversation(id="c"))
        for _ in range(15):
            a, b, c, d = said("a", "b", "c", "d")
            await asyncio.gather(
                *(
                    Conversations(store).append("c", *batch)
                    for store in (one, other)
                    for batch in ((a, b), (b, c, d), (c, a), (d, b), (d, a, c))
                )
            )
        assert (await totals_are_true(one, "c")).message_count == 60


async def test_appends_and_other_changes_do_not_undo_each_other(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as other:
        await Conversations(one).start(Conversation(id="c"))

        async def append() -> None:
            for turn in range(20):
                await Conversations(one).append("c", *said(str(turn), cost_micros=1))

        async def rename() -> None:
            for turn in range(20):
                await Conversations(other).edit("c", title=f"title {turn}")
                await Conversations(other).snapshot("c", [turn])

        await asyncio.gather(append(), rename(), rename())
        found = await totals_are_true(one, "c")
        assert (found.message_count, found.cost_micros, found.title) == (20, 20, "title 19")
        assert await Conversations(one).context_at("c") == [19]
        taken = [each.number async for each in one.repo(ContextSnapshot).stream(sort="number")]
        assert taken == list(range(1, 41))


# Reading.


async def test_pages_go_both_ways(conversations: Conversations) -> None:
    await filled(conversations, "c", *(str(n) for n in range(1, 11)))
    assert await texts(conversations, "c", limit=3) == ["1", "2", "3"]
    assert await texts(conversations, "c", after=3, limit=3) == ["4", "5", "6"]
    assert await texts(conversations, "c", after=9) == ["10"]
    assert await texts(conversations, "c", after=10) == []
    assert await texts(conversations, "c", before=4) == ["1", "2", "3"]
    assert await texts(conversations, "c", before=9, limit=2) == ["7", "8"]
    assert await texts(conversations, "c", before=1) == []
    assert await texts(conversations, "c", after=2, before=6, limit=2) == ["3", "4"]
    assert [each.content for each in await conversations.newest_messages("c", 2)] == ["9", "10"]
    for limit in (0, 1001):
        with pytest.raises(InvalidArgument, match="limit"):
            await conversations.messages("c", limit=limit)


async def test_many_conversations_come_with_their_messages_in_two_statements(
    store: Store, conversations: Conversations
) -> None:
    for number in range(5):
        await filled(conversations, f"c{number}", *(str(n) for n in range(number * 2)))
    before = sum(each.count for each in store.figures().statements)
    threads = await conversations.get_with_messages(["c3", "none", "c0", "c1"], limit=4)
    assert sum(each.count for each in store.figures().statements) - before == 2
    assert [(each.conversation.id, [m.content for m in each.messages]) for each in threads] == [
        ("c3", ["2", "3", "4", "5"]),
        ("c0", []),
        ("c1", ["0", "1"]),
    ]
    assert await conversations.get_with_messages([]) == []
    with pytest.raises(InvalidArgument, match="at once"):
        await conversations.get_with_messages(["x"] * (MANY_MAX + 1))


async def test_the_named_statements_read_what_the_record_has(
    store: Store, conversations: Conversations
) -> None:
    """Each names the columns for itself."""
    await filled(conversations, "c")
    await conversations.append("c", FULL)
    by_repository = await store.repo(Message).get("m-full")
    assert await conversations.messages("c", after=0) == [by_repository]
    assert await conversations.messages("c", before=9) == [by_repository]
    (thread,) = await conversations.get_with_messages(["c"])
    assert thread.messages == [by_repository]
    listed = bound_list(store.driver.dialect, ["c"])
    rows = await store.driver.fetch("conversations.newest_messages", store.tenant, listed, 9)
    assert len(rows[0]) == len(table_of(Message).names) - 1


async def test_search_finds_messages_and_conversations(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "Trip to Zürich", "the FLIGHT was late", "a refund, please", "ok")
    await filled(conversations, "Baggage", "flight 7 to Zürich")
    messages = store.repo(Message)

    async def found(text: str) -> list[tuple[str, int]]:
        page = await messages.search(text)
        return [(each.conversation_id, each.seq) for each in page.items]

    assert await found("flight") == [("Baggage", 1), ("Trip to Zürich", 1)]
    assert await found("Flight LATE") == [("Trip to Zürich", 1)]
    assert await found("zürich") == [("Baggage", 1)]
    assert await found("flights") == []
    page = await messages.find('conversation:"Trip to Zürich" refund')
    assert [each.seq for each in page.items] == [2]
    titles = await store.repo(Conversation).search("ZÜRICH trip")
    assert [each.id for each in titles.items] == ["Trip to Zürich"]


async def test_conversations_are_found_by_what_they_have(store: Store, conversations: Conversations) -> None:
    await conversations.start(Conversation(id="a", user_id="ana", tags=("vip",)))
    await conversations.start(Conversation(id="b", user_id="bo", agent_id="x"))
    await conversations.append("b", *said("one", "two", cost_micros=9))
    await conversations.archive("a")
    repo = store.repo(Conversation)
    for query, expected in (
        ("user:ana", ["a"]),
        ("tag:vip status:archived", ["a"]),
        ("agent:x", ["b"]),
        ("messages:>1", ["b"]),
        ("cost_micros:18", ["b"]),
        ("has:last_message", ["b"]),
        ("last_message:<1h", ["b"]),
    ):
        assert [each.id for each in (await repo.find(query)).items] == expected, query


# Changing what was said.


async def test_feedback_is_given_changed_and_taken_back(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "one", "two")
    one, two = await conversations.messages("c")
    rated = await conversations.feedback(one.id, -1, comment="wrong date")
    assert (rated.rating, rated.comment, rated.revision) == (-1, "wrong date", 2)
    assert rated.rated_at is not None
    assert rated.rated_at >= one.created_at
    assert [each.id for each in (await store.repo(Message).find("rating:-1")).items] == [one.id]
    rated = await conversations.feedback(one.id, 1)
    assert (rated.rating, rated.comment) == (1, None)
    rated = await conversations.feedback(one.id, None)
    assert (rated.rating, rated.comment, rated.rated_at) == (None, None, None)
    for rating in (2, -2, 0.5, True, "1"):
        with pytest.raises(InvalidArgument, match="none of"):
            await conversations.feedback(two.id, rating)  # type: ignore[arg-type]
    with pytest.raises(InvalidData):
        await conversations.feedback(two.id, 1, comment="a\0b")
    assert (await store.repo(Message).get(two.id)).revision == 1
    assert (await store.repo(Message).search("two")).items == [two]
    await totals_are_true(store, "c")


async def test_notes_are_made_on_a_message(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "one")
    (message,) = await conversations.messages("c")
    await asyncio.gather(*(conversations.annotate(message.id, **{f"k{n}": n}) for n in range(5)))
    noted = await conversations.annotate(message.id, k0=None, k1={"deep": [1]}, gone=None)
    assert noted.metadata == {"k1": {"deep": [1]}, "k2": 2, "k3": 3, "k4": 4}
    assert (noted.content, noted.revision) == ("one", 7)
    with pytest.raises(UnsupportedValue):
        await conversations.annotate(message.id, bad=object())
    with pytest.raises(RecordNotFound):
        await conversations.annotate("none", a=1)


async def test_what_was_said_can_not_be_changed(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "otter")
    (message,) = await conversations.messages("c")
    repo = store.repo(Message, unsealed=True)
    changed = replace(message, content="beaver", seq=7, role=ASSISTANT, cost_micros=9, metadata={"k": 1})
    await repo.update(changed)
    found = await repo.get(message.id)
    assert (found.content, found.seq, found.role, found.cost_micros) == ("otter", 1, USER, 0)
    assert found.metadata == {"k": 1}
    assert [each.id for each in (await repo.search("otter")).items] == [message.id]
    assert (await repo.search("beaver")).items == []
    for name in ("content", "seq", "conversation_id"):
        with pytest.raises(InvalidArgument, match="can not be set"):
            await repo.update_many("seq:1", **{name: "x"})
    for refused in (
        store.repo(Message).update(message),
        store.repo(Message).delete(message.id),
        store.repo(Message).create(Message(conversation_id="c", seq=2, role=USER)),
    ):
        with pytest.raises(SealedRecord):
            await refused
    for wrong in ({"message_count": 3}, {"cost_micros": 3}, {"id": "x"}, {"nothing": 1}):
        with pytest.raises(InvalidArgument, match="can not be set"):
            await conversations.edit("c", **wrong)


async def test_the_database_refuses_messages_out_of_order(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "one")
    repo = store.repo(Message, unsealed=True)
    for wrong in (
        Message(conversation_id="c", seq=1, role=USER),  # taken
        Message(conversation_id="c", seq=0, role=USER),
        Message(conversation_id="none", seq=1, role=USER),
        Message(conversation_id="c", seq=2, role=USER, rating=2),
        Message(conversation_id="c", seq=2, role="robot"),  # type: ignore[arg-type]
    ):
        with pytest.raises((ConstraintViolated, InvalidData)):
            await repo.create(wrong)


async def test_a_redaction_takes_out_what_was_said(store: Store, conversations: Conversations) -> None:
    await filled(conversations, "c", "hello")
    await conversations.snapshot("c", ["hello"])
    await conversations.append("c", replace(FULL, content="my secret is otter", metadata={"x": "otter"}))
    await conversations.snapshot("c", ["hello", "my secret is otter"])
    await conversations.append("c", *said("fine"))
    await conversations.snapshot("c", ["hello", "my secret is otter", "fine"])
    await conversations.feedback("m-full", -1, comment="why tell of the otter?")
    before = await totals_are_true(store, "c")
    redacted = await conversations.redact("m-full", "[taken out]")
    assert (redacted.content, redacted.tool_calls, redacted.tool_result) == ("[taken out]", (), None)
    assert (redacted.metadata, redacted.comment, redacted.rating) == ({}, None, -1)
    assert redacted.redacted_at is not None
    assert (redacted.seq, redacted.cost_micros, redacted.created_at) == (2, 1234, before.last_message_at) or (
        redacted.seq == 2
    )
    repo = store.repo(Message)
    assert (await repo.search("otter")).items == []
    assert [each.id for each in (await repo.search("taken out")).items] == ["m-full"]
    assert await totals_are_true(store, "c") == before
    # Snapshots may quote it.
    assert await conversations.context_at("c") == ["hello"]
    await conversations.snapshot("c", ["hello", "fine"])
    assert await conversations.context_at("c") == ["hello", "fine"]
    # Sent again by a client that does not know of it.
    again = replace(FULL, content="my secret is otter", metadata={"x": "otter"})
    assert await conversations.append("c", again) == [redacted]
    with pytest.raises(InvalidData):
        await conversations.redact("m-full", "a\0b")
    assert (await conversations.redact("m-full")).content is None
    assert [each.id for each in (await repo.find("has:redacted")).items] == ["m-full"]


async def test_words_of_a_redacted_message_leave_the_file(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'x.db'}") as store:
        conversations = Conversations(store)
        await filled(conversations, "c", "zanzibar", "other")
        (message, _) = await conversations.messages("c")
        index = "SELECT count(*) FROM messages_words_data WHERE instr(block, CAST('anzibar' AS BLOB))"
        assert (await store.driver.fetch_text(index))[0][0] == 1
        await conversations.redact(message.id)
        assert (await store.driver.fetch_text(index))[0][0] == 0


async def test_a_deleted_conversation_leaves_nothing(store: Store, conversations: Conversations) -> None:
    for id in ("c", "kept"):
        await filled(conversations, id, "otter", "beaver")
        await conversations.snapshot(id, ["otter"])
    await conversations.delete("c")
    found = await store.repo(Message).search("otter")
    assert [each.conversation_id for each in found.items] == ["kept"]
    assert (await store.repo(Message).count()).rows == 2
    with pytest.raises(RecordNotFound):
        await conversations.context_at("c")
    await filled(conversations, "c", "again")  # the id is free
    assert (await totals_are_true(store, "c")).message_count == 1


async def test_tenants_do_not_see_each_others_conversations(store_url: str) -> None:
    async with opened(store_url) as ours:
        theirs = Conversations(ours)
        mine = Conversations(ours)
        ours.options = replace(ours.options, tenant="other")
        await filled(theirs, "c", "theirs")
        await theirs.snapshot("c", ["theirs"])
        (foreign,) = await theirs.messages("c")
        ours.options = replace(ours.options, tenant="default")
        for refused in (
            mine.messages("c"),
            mine.append("c", *said("x")),
            mine.feedback(foreign.id, 1),
            mine.redact(foreign.id),
            mine.delete("c"),
            mine.context_at("c"),
        ):
            with pytest.raises(RecordNotFound):
                await refused
        assert await mine.get_with_messages(["c"]) == []
        await filled(mine, "c", "mine")
        await mine.append("c", replace(foreign, conversation_id="c", content="of the same id"))
        assert await texts(mine, "c") == ["mine", "of the same id"]


# Real conversations.


@pytest.mark.parametrize("kind", KINDS)
async def test_conversations_are_imported_paged_and_searched(
    store: Store, conversations: Conversations, kind: str
) -> None:
    runs = transcripts(kind)
    imported = await conversations.import_conversations(runs)
    assert [each.message_count for each in imported] == [len(run["traj"]) for run in runs]
    for run, conversation in zip(runs, imported, strict=True):
        assert conversation.metadata == {name: value for name, value in run.items() if name != "traj"}
        forward: list[Message] = []
        while page := await conversations.messages(conversation.id, after=len(forward), limit=7):
            forward += page
        backward: list[Message] = []
        before = 2**31
        while page := await conversations.messages(conversation.id, before=before, limit=7):
            backward[:0], before = page, page[0].seq
        assert forward == backward
        assert [document_of(each) for each in forward] == run["traj"]
    threads = await conversations.get_with_messages([each.id for each in imported], limit=1000)
    assert [[document_of(each) for each in thread.messages] for thread in threads] == [
        run["traj"] for run in runs
    ]
    for word in ("certificate", "Seattle", "refund"):
        await finds_what_the_texts_have(store, runs, [each.id for each in imported], word)


async def finds_what_the_texts_have(
    store: Store, runs: list[dict[str, Any]], ids: list[str], word: str
) -> None:
    """The search for a word gives the messages whose text has it, as Python sees it."""
    import re

    whole = re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", re.IGNORECASE)
    wanted = {
        (id, seq)
        for id, run in zip(ids, runs, strict=True)
        for seq, message in enumerate(run["traj"], 1)
        if whole.search(message["content"] or "")
    }
    found: list[Message] = []
    cursor = None
    while True:
        page = await store.repo(Message).search(word, limit=100, cursor=cursor)
        found += page.items
        if (cursor := page.cursor) is None:
            break
    assert wanted
    assert {(each.conversation_id, each.seq) for each in found} == wanted
    assert len(found) == len(wanted)


async def test_an_import_that_was_broken_off_is_done_again(
    store: Store, conversations: Conversations
) -> None:
    runs = transcripts("generated")[:4]
    (conversation, messages), *_ = conversations_of(runs[1:2])
    await conversations.start(conversation)
    await conversations.append(conversation.id, *messages[:5])
    for _ in range(2):
        imported = await conversations.import_conversations(runs)
        assert [each.message_count for each in imported] == [len(run["traj"]) for run in runs]
    assert (await store.repo(Conversation).count()).rows == 4
    for each in imported:
        await totals_are_true(store, each.id)


async def test_an_import_with_a_mistake_stores_nothing(store: Store, conversations: Conversations) -> None:
    with pytest.raises(InvalidArgument, match=r"documents\[1\]"):
        await conversations.import_conversations([[{"role": "user", "content": "x"}], [{"role": "robot"}]])
    assert (await store.repo(Conversation).count()).rows == 0
    assert await conversations.import_conversations([]) == []

"""Messages in the shape of chat APIs: what goes in comes out, and mistakes are named with their place."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.chat import conversations_of, document_of, message_of
from holdfast.errors import InvalidArgument
from holdfast.records.conversations import MessageRole, micros

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    "document",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "hi", "name": "ana"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "so", "tool_calls": [CALL, CALL]},
        {"role": "assistant", "content": "so", "tool_calls": None},
        {"role": "assistant", "content": "so", "tool_calls": []},
        {"role": "assistant", "content": None, "refusal": "no", "annotations": [1]},
        {"role": "tool", "tool_call_id": "c1", "content": "{}", "name": "look"},
        {"role": "tool", "tool_call_id": 7, "content": "{}"},
        {"role": "developer", "content": "be kind"},
        {"role": "function", "name": "look", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": []},
        {"role": "user", "content": "hi", "id": "m-7"},
    ],
)
def test_a_document_comes_out_as_it_went_in(document: dict[str, Any]) -> None:
    assert document_of(message_of(document)) == document


def test_what_has_a_field_goes_there() -> None:
    message = message_of({"role": "assistant", "content": None, "tool_calls": [CALL], "name": "bo", "x": 1})
    assert (message.role, message.content, message.tool_calls, message.name) == (
        MessageRole.ASSISTANT, None, (CALL,), "bo",
    )  # fmt: skip
    assert message.metadata == {"chat": {"x": 1}}
    assert message_of({"role": "developer", "content": "x"}).role is MessageRole.SYSTEM
    parts = [{"type": "text", "text": "one"}, {"type": "input_audio"}, {"type": "text", "text": "two"}]
    assert message_of({"role": "user", "content": parts}).content == "one\ntwo"


@pytest.mark.parametrize(
    ("documents", "where", "cause"),
    [
        ("text", "documents", "come as a list"),
        ({}, "documents", "come as a list"),
        ([7], r"documents\[0\]", "come as a list"),
        ([[], {"title": "x"}], r"documents\[1\]", "or has one"),
        ([{"messages": "x"}], r"documents\[0\]\.messages", "come as a list"),
        ([[{"content": "x"}]], r"documents\[0\]\[0\]", "an object with a role"),
        ([[{"role": "user", "content": "x"}, "x"]], r"documents\[0\]\[1\]", "an object with a role"),
        ([{"traj": [{"role": "robot"}]}], r"documents\[0\]\.traj\[0\]", "'robot' is not a role"),
        ([[{"role": "user", "content": 7}]], r"documents\[0\]\[0\]", "a text, a list of parts, or null"),
        ([{"id": "", "messages": []}], r"documents\[0\]\.id", "1 to 220 bytes"),
        ([{"id": "x" * 221, "messages": []}], r"documents\[0\]\.id", "1 to 220 bytes"),
        ([{"id": "a", "messages": []}, {"id": "a", "messages": []}], r"documents\[1\]", "two conversations"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_place(documents: Any, where: str, cause: str) -> None:
    with pytest.raises(InvalidArgument, match=cause) as refused:
        conversations_of(documents)
    assert refused.match(where)


def test_fields_and_the_rest_of_a_document() -> None:
    ((conversation, messages),) = conversations_of(
        [
            {
                "id": "c-1", "title": "Trip", "user": "ana", "tags": ["a", "b"], "metadata": {"k": 1},
                "reward": 0.5, "messages": [{"role": "user", "content": "x"}, {"id": "m", "role": "user"}],
            }
        ]
    )  # fmt: skip
    assert (conversation.id, conversation.title, conversation.user_id) == ("c-1", "Trip", "ana")
    assert conversation.tags == ("a", "b")
    assert conversation.metadata == {"k": 1, "reward": 0.5}
    assert [each.id for each in messages] == ["c-1.1", "m"]


def test_ids_follow_from_what_is_said() -> None:
    document = [{"role": "user", "content": "x"}]
    once, again = (conversations_of([document, document]) for _ in range(2))
    assert [each.id for each, _ in once] == [each.id for each, _ in again]
    assert once[0][0].id != once[1][0].id
    assert conversations_of([[{"role": "user", "content": "y"}]])[0][0].id != once[0][0].id


@pytest.mark.parametrize(
    ("amount", "expected"), [("0.0035", 3500), (2, 2_000_000), ("0.000001", 1), ("0", 0)]
)
def test_money_is_counted_in_millionths(amount: Any, expected: int) -> None:
    assert micros(amount) == expected


@pytest.mark.parametrize("amount", ["0.0000001", "NaN", "Infinity", "x", None])
def test_money_that_does_not_fit_is_refused(amount: Any) -> None:
    with pytest.raises(InvalidArgument):
        micros(amount)

"""Conversations with language models, the messages in them, and what a model was given to see.

Costs are whole millionths of a unit of money (`cost_micros`), so that sums are exact on every database;
`cost` is the same as a `Decimal`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from holdfast.errors import InvalidArgument
from holdfast.records.declare import Record, field, record

_MICRO = Decimal("0.000001")


class ConversationStatus(StrEnum):
    """Whether a conversation goes on."""

    ACTIVE = "active"
    ARCHIVED = "archived"  # kept for reading; takes no more messages


class MessageRole(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"  # the result of a tool call


def micros(amount: Decimal | str | int) -> int:
    """An amount of money as `cost_micros`.

    Raises `InvalidArgument` for what is finer than a millionth: round it where the rounding is meant.
    """
    try:
        exact = Decimal(amount) / _MICRO
    except (InvalidOperation, TypeError, ValueError):
        exact = Decimal("NaN")
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise InvalidArgument(f"the cost {amount!r} is not a whole number of millionths", where="cost")
    return int(exact)


@record(table="conversations")
class Conversation(Record):
    """One conversation. The totals are those of its messages, and only `append` changes them.

    `model_settings` are what the model is called with: its name, temperature, limits.
    """

    title: str = field(default="", search=True, personal=True)
    status: ConversationStatus = ConversationStatus.ACTIVE
    user_id: str | None = field(default=None, filter="user")
    agent_id: str | None = field(default=None, filter="agent")
    model_settings: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = field(default=(), filter="tag")
    metadata: dict[str, Any] = field(default_factory=dict)
    message_count: int = field(default=0, immutable=True, filter="messages")
    prompt_tokens: int = field(default=0, immutable=True)
    completion_tokens: int = field(default=0, immutable=True)
    cost_micros: int = field(default=0, immutable=True)
    last_message_at: datetime | None = field(default=None, immutable=True, filter="last_message")

    @property
    def cost(self) -> Decimal:
        """What the messages cost together."""
        return self.cost_micros * _MICRO


@record(table="messages", owner=("conversations", "conversation_id"), sealed=True)
class Message(Record):
    """One message. `seq` counts from 1 without gaps within its conversation, and is given by `append`.

    `content` is None where nothing is said, as in a message that only calls tools. `tool_calls` are as the
    model gave them. The answer to a call names it in `tool_call_id`, the tool in `name`, and may carry its
    result as a value in `tool_result` besides the text in `content`. What was said never changes; feedback
    and metadata do.
    """

    conversation_id: str = field(default="", immutable=True, filter="conversation")
    seq: int = field(default=0, immutable=True)
    role: MessageRole = field(immutable=True)
    content: str | None = field(default=None, search=True, personal=True, immutable=True, filter=None)
    tool_calls: tuple[dict[str, Any], ...] = field(default=(), personal=True, immutable=True)
    tool_call_id: str | None = field(default=None, immutable=True)
    name: str | None = field(default=None, immutable=True)
    tool_result: Any = field(default=None, personal=True, immutable=True)
    model: str | None = field(default=None, immutable=True)
    prompt_tokens: int = field(default=0, immutable=True)
    completion_tokens: int = field(default=0, immutable=True)
    cost_micros: int = field(default=0, immutable=True)
    rating: int | None = None
    comment: str | None = field(default=None, personal=True, filter=None)
    rated_at: datetime | None = field(default=None, filter="rated")
    redacted_at: datetime | None = field(default=None, immutable=True, filter="redacted")
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> Decimal:
        """What the message cost."""
        return self.cost_micros * _MICRO


@record(table="context_snapshots", owner=("conversations", "conversation_id"), sealed=True)
class ContextSnapshot(Record):
    """What a model was given to see when the conversation had `seq` messages.

    `number` counts the snapshots of a conversation from 1. `body` is the whole context where `base` is the
    snapshot's own number; otherwise it is what has changed since the snapshot before, and `base` is the last
    whole one. `digest` is that of the context.
    """

    conversation_id: str = field(immutable=True, filter="conversation")
    number: int = field(immutable=True)
    seq: int = field(immutable=True)
    base: int = field(immutable=True)
    body: Any = field(default=None, personal=True, immutable=True)
    digest: bytes = field(default=b"", immutable=True)

    @property
    def is_whole(self) -> bool:
        """Whether `body` is the context itself."""
        return self.base == self.number

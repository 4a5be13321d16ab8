"""Conversations: started, appended to, paged through, rated, redacted.

Messages are numbered from 1 without gaps however many write at once: whoever appends holds the conversation's
row from its update to the commit. Totals move in that same update. A message is recorded once under its id,
so whoever does not know whether an append has happened appends the same messages again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from holdfast.domain.chat import conversations_of
from holdfast.domain.contexts import Contexts
from holdfast.errors import ConstraintViolated, InvalidArgument, RecordExists, RecordNotFound, WrongStatus
from holdfast.records.conversations import (
    ContextSnapshot,
    Conversation,
    ConversationStatus,
    Message,
    MessageRole,
)
from holdfast.records.declare import table_of
from holdfast.store.dialects import checked_text, dialect_of
from holdfast.store.drivers.base import Executor
from holdfast.store.mapping import mapping_of
from holdfast.store.query import bound_list
from holdfast.store.store import Store

APPEND_MAX = 1_000
PAGE_MAX = 1_000
MANY_MAX = 500
_BEHIND_ALL = 2**63 - 1
_CONTENT = ("role", "content", "tool_calls", "tool_call_id", "name", "tool_result")
_GIVEN = (
    *_CONTENT, "model", "prompt_tokens", "completion_tokens", "cost_micros", "metadata", "words_first",
    "words_rest",
)  # fmt: skip
_EDITED = frozenset(
    column.name for column in table_of(Conversation).columns if not column.immutable
) - {"revision", "updated_at"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation and its newest messages, oldest first."""

    conversation: Conversation
    messages: list[Message]


class Conversations:
    """The conversations of a store's tenant. Lists and searches: repositories of Conversation and Message."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._messages = mapping_of(Message, dialect_of(store.driver))
        self._contexts = Contexts(store)

    async def start(self, conversation: Conversation | None = None) -> Conversation:
        """Store a new conversation, without messages. Raises `RecordExists`, `InvalidData`."""
        empty = replace(
            conversation or Conversation(),
            message_count=0, prompt_tokens=0, completion_tokens=0, cost_micros=0, last_message_at=None,
        )  # fmt: skip
        return await self._store.repo(Conversation).create(empty)

    async def edit(self, id: str, /, **changes: Any) -> Conversation:
        """Change the named fields, whatever is appended meanwhile; the totals are not among them.

        Raises `RecordNotFound`, `InvalidArgument`.
        """
        for name in changes:
            if name not in _EDITED:
                fix = f"use {', '.join(sorted(_EDITED))}"
                raise InvalidArgument(f"{name!r} of a conversation can not be set", where=name, fix=fix)
        async with self._store.transaction() as transaction:
            repo = self._store.repo(Conversation, within=transaction)
            return await repo.update(replace(await repo.get_locked(id), **changes))

    async def archive(self, id: str) -> Conversation:
        """End a conversation: it can be read, and takes no more messages until it is reopened."""
        return await self.edit(id, status=ConversationStatus.ARCHIVED)

    async def reopen(self, id: str) -> Conversation:
        """Let a conversation take messages again."""
        return await self.edit(id, status=ConversationStatus.ACTIVE)

    async def delete(self, id: str) -> None:
        """Delete a conversation with its messages and context snapshots. Raises `RecordNotFound`."""
        await self._store.repo(Conversation).delete(id)

    # Messages.

    async def append(self, conversation: str, *messages: Message) -> list[Message]:
        """Append messages, all or none, in one transaction; as they were recorded, in the order given.

        One statement, whatever their number, unless one of them was recorded before: that one is not
        recorded again, and comes back as it is. Numbers, times and feedback of what is passed are ignored.
        Raises `RecordNotFound`, `WrongStatus` for an archived conversation, `RecordExists` when an id stands
        for a message that says something else, `InvalidArgument`, `InvalidData`.
        """
        _check(conversation, messages)
        if not messages:
            return []
        made = None
        with suppress(ConstraintViolated):
            made = await self._write(self._store.driver, conversation, messages)
        return await self._append_rest(conversation, messages) if made is None else made

    async def _append_rest(self, conversation: str, messages: Sequence[Message]) -> list[Message]:
        """Append those that were not recorded before, or say why that can not be."""
        async with self._store.transaction() as transaction:
            locked = await self._store.repo(Conversation, within=transaction).get_locked(conversation)
            repo = self._store.repo(Message, within=transaction)
            recorded = {each.id: each for each in await repo.get_many([each.id for each in messages])}
            for each in messages:
                if each.id in recorded:
                    _check_same(recorded[each.id], replace(each, conversation_id=conversation))
            rest = [each for each in messages if each.id not in recorded]
            if rest:
                if locked.status is not ConversationStatus.ACTIVE:
                    raise WrongStatus(
                        f"conversation {conversation!r} is archived and takes no messages",
                        where=conversation,
                        fix="reopen it: `conversations.reopen(id)`",
                    )
                for each in await self._write(transaction, conversation, rest) or ():
                    recorded[each.id] = each
        return [recorded[each.id] for each in messages]

    async def _write(
        self, executor: Executor, conversation: str, messages: Sequence[Message]
    ) -> list[Message] | None:
        """Number and insert messages; None when there is no such conversation that takes any."""
        mapping = self._messages
        rows = await executor.fetch(
            "conversations.append", self._store.tenant, conversation,
            json.dumps([self._given(each) for each in messages], ensure_ascii=False), len(messages),
            sum(each.prompt_tokens for each in messages),
            sum(each.completion_tokens for each in messages),
            sum(each.cost_micros for each in messages),
        )  # fmt: skip
        if not rows:
            return None
        before, at = rows[0]
        return [
            mapping.stored(
                replace(each, conversation_id=conversation, seq=seq, rating=None, comment=None, rated_at=None,
                        redacted_at=None),
                1, at, at,
            )
            for seq, each in enumerate(messages, before + 1)
        ]  # fmt: skip

    def _given(self, message: Message) -> dict[str, Any]:
        """A message as the statement reads it: what its columns hold, bytes in hexadecimal."""
        values = dict(zip(self._messages.written, self._messages.values(message), strict=True))
        given = {name: values[name] for name in _GIVEN}
        if given["tool_result"] is not None:
            given["tool_result"] = given["tool_result"].hex()
        return {"id": checked_text(message.id, "id"), **given}

    async def messages(
        self, conversation: str, *, after: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[Message]:
        """Messages in the order of their numbers: those right behind `after`, or right in front of `before`.

        Both leave out the message of their number. Without `before` the page begins behind `after`, or with
        the first message; so it does with both. Raises `RecordNotFound`, `InvalidArgument`.
        """
        _check_page(limit)
        fetch, tenant = self._store.driver.fetch, self._store.tenant
        if after is None and before is not None:
            rows = await fetch("conversations.messages_before", tenant, conversation, before, limit)
            rows = rows[::-1]
        else:
            last = _BEHIND_ALL if before is None else before
            rows = await fetch("conversations.messages_after", tenant, conversation, after or 0, last, limit)
        if not rows:
            await self._store.repo(Conversation).get(conversation)
        return [self._messages.record(row) for row in rows]

    async def newest_messages(self, conversation: str, limit: int = 50) -> list[Message]:
        """The last messages of a conversation, in the order of their numbers."""
        return await self.messages(conversation, before=_BEHIND_ALL, limit=limit)

    async def get_with_messages(self, ids: Sequence[str], *, limit: int = 50) -> list[Thread]:
        """Conversations in the order of their ids, each with its newest `limit` messages, in two statements.

        Those that are not there are left out. What is appended between the two is not among the messages, or
        is not in the totals. Raises `InvalidArgument` for more than 500 ids.
        """
        _check_page(limit)
        if len(ids) > MANY_MAX:
            raise InvalidArgument(f"{len(ids)} conversations at once; it takes up to {MANY_MAX}", where="ids")
        found = await self._store.repo(Conversation).get_many(ids)
        messages: dict[str, list[Message]] = {each.id: [] for each in found}
        listed = bound_list(self._store.driver.dialect, list(messages))
        rows = await self._store.driver.fetch(
            "conversations.newest_messages", self._store.tenant, listed, limit
        )
        for row in rows:
            message = self._messages.record(row)
            messages[message.conversation_id].append(message)
        return [Thread(each, messages[each.id]) for each in found]

    async def feedback(self, message: str, rating: int | None, *, comment: str | None = None) -> Message:
        """Say how good a message was: 1, 0 or -1, and why. None takes it back. The newest word counts.

        Raises `RecordNotFound`, `InvalidArgument`.
        """
        if rating not in (None, -1, 0, 1) or isinstance(rating, bool):
            raise InvalidArgument(f"the rating {rating!r} is none of -1, 0 and 1", where="rating")
        written = self._messages.dialect.writer(self._messages.table.column("comment"))(comment)
        rows = await self._store.driver.fetch(
            "conversations.rate", self._store.tenant, message, rating, written
        )
        if not rows:
            raise RecordNotFound(f"there is no message {message!r}", id=message)
        return await self._store.repo(Message).get(message)

    async def annotate(self, message: str, /, **metadata: Any) -> Message:
        """Set keys of a message's metadata; None takes one away.

        Raises `RecordNotFound`, `UnsupportedValue`.
        """
        async with self._store.transaction() as transaction:
            repo = self._store.repo(Message, within=transaction, unsealed=True)
            found = await repo.get_locked(message)
            merged = {key: value for key, value in (found.metadata | metadata).items() if value is not None}
            return await repo.update(replace(found, metadata=merged))

    async def redact(self, message: str, replacement: str | None = None) -> Message:
        """Take out what a message said, for good; its number and the totals stay.

        The text becomes `replacement`, and its words are found no more; tool calls, their result, metadata
        and the comment of a rating are gone. So are the conversation's context snapshots from that message
        on, which may quote it. Raises `RecordNotFound`, `InvalidData`.
        """
        found = await self._store.repo(Message).get(message)
        words, _ = self._messages.words(replace(found, content=replacement))
        written = self._messages.dialect.writer(self._messages.table.column("content"))(replacement)
        tenant = self._store.tenant
        async with self._store.transaction() as transaction:
            await self._store.repo(Conversation, within=transaction).get_locked(found.conversation_id)
            await transaction.fetch("conversations.redact", tenant, message, written, words)
            await transaction.fetch("conversations.forget_contexts", tenant, found.conversation_id, found.seq)
            return await self._store.repo(Message, within=transaction).get(message)

    # Contexts.

    async def snapshot(self, conversation: str, context: Any) -> ContextSnapshot:
        """Keep what the model is given to see now: any value a step could return, often a list of messages.

        What is stored is what has changed since the snapshot before, or the whole where that is shorter.
        Raises `RecordNotFound`, `UnsupportedValue`.
        """
        return await self._contexts.take(conversation, context)

    async def context_at(self, conversation: str, seq: int | None = None) -> Any:
        """What the model was given to see when the conversation had `seq` messages; by default, last.

        That is the newest snapshot at that number or before. Raises `RecordNotFound` if there is none,
        `DamagedData` if it does not read back.
        """
        return await self._contexts.read(conversation, seq)

    async def import_conversations(self, documents: Sequence[Any]) -> list[Conversation]:
        """Store conversations in the shape of chat APIs; as they are then, in the order given.

        A document is a list of messages (`{"role": …, "content": …, "tool_calls": …}`), or an object that has
        one in `messages`; its `id`, `title`, `user`, `agent` and `tags` become fields, everything else
        metadata. Nothing is stored before all documents have been read. A conversation that was imported
        before is not stored again, so an import that was broken off is simply done again. Raises
        `InvalidArgument` with the place, and what `append` raises.
        """
        imported = []
        for conversation, messages in conversations_of(documents):
            if await self._store.repo(Conversation).find_by_id(conversation.id) is None:
                await self.start(conversation)
            for first in range(0, len(messages), APPEND_MAX):
                await self.append(conversation.id, *messages[first : first + APPEND_MAX])
            imported.append(conversation.id)
        return await self._store.repo(Conversation).get_many(imported)


def _check(conversation: str, messages: Iterable[Message]) -> None:
    ids: set[str] = set()
    for number, message in enumerate(messages, 1):
        where = f"message {number}"
        if number > APPEND_MAX:
            raise InvalidArgument(f"an append takes up to {APPEND_MAX} messages", where=where)
        if message.id in ids:
            raise InvalidArgument(f"the id {message.id!r} is given twice", where=where)
        if not 1 <= len(message.id.encode(errors="replace")) <= 255:
            raise InvalidArgument(f"the id {message.id[:40]!r} does not have 1 to 255 bytes", where=where)
        if message.role not in list(MessageRole):
            raise InvalidArgument(f"{message.role!r} is not a role", where=where)
        if message.conversation_id not in ("", conversation):
            raise InvalidArgument(f"it belongs to conversation {message.conversation_id!r}", where=where)
        if min(message.prompt_tokens, message.completion_tokens, message.cost_micros) < 0:
            raise InvalidArgument("tokens and costs are not negative", where=where)
        ids.add(message.id)


def _check_page(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidArgument(f"the limit {limit} is outside 1 to {PAGE_MAX}", where="limit")


def _check_same(recorded: Message, offered: Message) -> None:
    """Refuse an id that stands for another message; what was redacted can not be compared any more."""
    compared = ("conversation_id", *(() if recorded.redacted_at is not None else _CONTENT))
    for name in compared:
        if getattr(recorded, name) != getattr(offered, name):
            raise RecordExists(f"message {recorded.id!r} is recorded with another {name}", id=recorded.id)

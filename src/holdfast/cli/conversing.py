"""Conversations as people read them, and their import."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from holdfast.cli.output import counted, one_line
from holdfast.cli.reading import with_store
from holdfast.cli.record_values import printed
from holdfast.domain.chat import conversations_of
from holdfast.domain.conversations import Conversations, Thread
from holdfast.errors import InvalidUsage
from holdfast.records.conversations import Conversation, Message
from holdfast.store.lookup import look_up
from holdfast.store.pages import Page
from holdfast.store.words import words_of

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

SHOWN_MAX = 2_000
_EXCERPT = 100
_COLUMNS = ("seq", "role", "content", "tool_calls", "created_at")


def show_conversation(invocation: Invocation, id_: str, *, limit: int, full: bool) -> None:
    """Print a conversation and its newest messages."""

    async def read(store: Store) -> Thread:
        found = await look_up(store.repo(Conversation), id_)
        (thread,) = await Conversations(store).get_with_messages([found.id], limit=limit)
        return thread

    thread = with_store(invocation, read)
    if invocation.output.is_table:
        invocation.output.text(told(thread, full=full))
    else:
        messages = [printed(each) for each in thread.messages]
        invocation.output.record({**printed(thread.conversation), "messages": messages})


def told(thread: Thread, *, full: bool) -> str:
    """A conversation as prose: a heading, then each message under its number and role."""
    lines = [*_heading(thread.conversation)]
    first = thread.messages[0].seq if thread.messages else 1
    if first > 1:
        earlier = counted(first - 1, "earlier message", "earlier messages")
        lines += [
            "",
            f"… {earlier}: holdfast conversations messages {thread.conversation.id} --before {first}",
        ]
    width = len(str(thread.messages[-1].seq)) if thread.messages else 1
    for message in thread.messages:
        lines += ["", *_message(message, width, full=full)]
    return "\n".join(lines)


def _heading(conversation: Conversation) -> list[str]:
    title = one_line(conversation.title) or "(no title)"
    facts = [str(conversation.status), counted(conversation.message_count, "message", "messages")]
    if conversation.prompt_tokens or conversation.completion_tokens:
        facts.append(f"{conversation.prompt_tokens:,} + {conversation.completion_tokens:,} tokens")
    if conversation.cost_micros:
        facts.append(f"cost {conversation.cost:f}")
    named = (("user", conversation.user_id), ("agent", conversation.agent_id))
    facts += [f"{name} {one_line(value)}" for name, value in named if value]
    facts += [f"tags {', '.join(one_line(tag) for tag in conversation.tags)}"] if conversation.tags else []
    return [f"{title}  {conversation.id}", ", ".join(facts)]


def _message(message: Message, width: int, *, full: bool) -> list[str]:
    notes = [str(message.role)]
    if message.name is not None:
        notes.append(one_line(message.name))
    if message.rating is not None:
        notes.append(
            f"rated {message.rating:+d}" + (f": {one_line(message.comment)}" if message.comment else "")
        )
    if message.redacted_at is not None:
        notes.append("redacted")
    body = _text(message.content or "", full=full)
    body += [f"→ {_call(call, full=full)}" for call in message.tool_calls]
    indent = " " * (width + 2)
    return [f"{message.seq:>{width}}  {'  '.join(notes)}", *(f"{indent}{line}".rstrip() for line in body)]


def _text(text: str, *, full: bool) -> list[str]:
    """The lines of a text, without what would steer the terminal."""
    left_out = 0 if full else max(0, len(text) - SHOWN_MAX)
    lines = [_clean(line) for line in text[: len(text) - left_out].splitlines()]
    return [*lines, f"… {left_out:,} more characters: --full"] if left_out else lines


def _clean(line: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line.expandtabs(4))


def _call(call: dict[str, Any], *, full: bool) -> str:
    """A tool call in the usual shape as `name(arguments)`; any other as JSON."""
    function = call.get("function")
    most = 10**9 if full else SHOWN_MAX
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        arguments = function.get("arguments", "")
        given = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return one_line(f"{function['name']}({given})", most)
    return one_line(json.dumps(call, ensure_ascii=False, default=str), most)


def list_messages(
    invocation: Invocation, id_: str, *, after: int | None, before: int | None, limit: int
) -> None:
    """Print a page of messages."""

    async def read(store: Store) -> tuple[Conversation, list[Message]]:
        found = await look_up(store.repo(Conversation), id_)
        page = await Conversations(store).messages(found.id, after=after, before=before, limit=limit)
        return found, page

    conversation, page = with_store(invocation, read)
    invocation.output.records([_row(each, invocation) for each in page], _COLUMNS)
    if page and invocation.output.is_table:
        if page[0].seq > 1:
            invocation.say(f"before: --before {page[0].seq}")
        if page[-1].seq < conversation.message_count:
            invocation.say(f"more: --after {page[-1].seq}")


def _row(message: Message, invocation: Invocation) -> dict[str, Any]:
    """A message for a list: in a table on one line, everywhere else as it is."""
    row = printed(message)
    if invocation.output.is_table:
        row["content"] = one_line(message.content or "", _EXCERPT)
        row["tool_calls"] = ", ".join(
            one_line(_call(call, full=False), _EXCERPT) for call in message.tool_calls
        )
    return row


def search_messages(invocation: Invocation, text: str, *, limit: int, cursor: str | None) -> None:
    """Print the messages that have all words of a text."""

    async def read(store: Store) -> Page[Message]:
        return await store.repo(Message).search(text, limit=limit, cursor=cursor)

    page = with_store(invocation, read)
    rows = [printed(each) for each in page.items]
    if invocation.output.is_table:
        wanted = set(words_of(text))
        for row, message in zip(rows, page.items, strict=True):
            row["content"] = _excerpt(message.content or "", wanted)
    columns = ("conversation_id", "seq", "role", "content")
    invocation.output.records(rows, columns, next_cursor=page.cursor)
    if page.cursor and invocation.output.is_table:
        invocation.say(f"more: --cursor {page.cursor}")


def _excerpt(text: str, wanted: set[str]) -> str:
    """A line of a text that begins a little before the first of the words."""
    flat = one_line(text, len(text) + 1)
    words = flat.split(" ")
    found = (place for place, word in enumerate(words) if wanted & set(words_of(word)))
    start = max(0, next(found, 0) - 5)
    return one_line(("…" if start else "") + " ".join(words[start:]), _EXCERPT)


def import_file(invocation: Invocation, file: TextIO) -> None:
    """Store the conversations in a file, and tell how many there are."""
    documents = _documents(file.read(), getattr(file, "name", "stdin"))

    async def work(store: Store) -> list[Conversation]:
        return await Conversations(store).import_conversations(documents)

    if invocation.flags.dry_run:
        found = conversations_of(documents)
        messages = sum(len(each) for _, each in found)
        invocation.say(f"would import {_counts(len(found), messages)}")
        return
    imported = with_store(invocation, work)
    if invocation.output.is_table:
        invocation.say(f"imported {_counts(len(imported), sum(each.message_count for each in imported))}")
    else:
        invocation.output.records([printed(each) for each in imported], ("id", "title", "message_count"))


def _counts(conversations: int, messages: int) -> str:
    one, many = "conversation", "conversations"
    return f"{counted(conversations, one, many)} with {counted(messages, 'message', 'messages')}"


def _documents(text: str, name: str) -> list[Any]:
    """The conversations in a file: one JSON list of them, or one JSON document a line."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if whole is not None:
        # A list of messages alone is one conversation.
        single = not isinstance(whole, list) or (
            len(whole) > 0 and all(isinstance(each, dict) and "role" in each for each in whole)
        )
        return [whole] if single else whole
    documents = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                documents.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                place = f"{name}, line {number}"
                raise InvalidUsage(
                    f"this is not JSON: {error}", where=place, fix="correct the file"
                ) from error
    return documents


def redact_message(invocation: Invocation, message: str, replacement: str | None) -> None:
    """Ask, then take out what a message said."""

    async def read(store: Store) -> Message:
        return await store.repo(Message).get(message)

    async def work(store: Store) -> Message:
        return await Conversations(store).redact(message, replacement)

    found = with_store(invocation, read)
    place = f"message {found.seq} of {found.conversation_id}"
    if invocation.flags.dry_run:
        invocation.say(f"would redact {place}")
        return
    if not invocation.confirm(f"Take out for good what {place} said?"):
        invocation.say("nothing was done")
        return
    redacted = with_store(invocation, work)
    if invocation.output.is_table:
        invocation.say(f"{place} is redacted")
    else:
        invocation.output.record(printed(redacted))

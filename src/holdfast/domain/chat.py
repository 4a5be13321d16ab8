"""Messages in the shape that chat APIs have: `{"role": "user", "content": "…"}`.

What a message has beyond the fields of a `Message` is kept under `chat` in its metadata, so that the document
made from a message is the one that the message was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from holdfast.errors import InvalidArgument
from holdfast.records.conversations import Conversation, Message, MessageRole
from holdfast.store import codec

CHAT = "chat"
"""The key in a message's metadata for what only the chat shape knows."""
_OTHER_ROLES = {"developer": MessageRole.SYSTEM, "function": MessageRole.TOOL}
_MESSAGE_KEYS = ("messages", "traj")
_NAMED = {
    "title": "title",
    "user": "user_id",
    "user_id": "user_id",
    "agent": "agent_id",
    "agent_id": "agent_id",
}
_ID_BYTES_MAX = 220  # room for the number of a message behind it


def message_of(document: Mapping[str, Any], *, where: str = "message") -> Message:
    """The message that a chat document says. Raises `InvalidArgument`, with the place in `where`."""
    if not isinstance(document, Mapping) or not isinstance(document.get("role"), str):
        raise InvalidArgument("a chat message is an object with a role", where=where)
    rest = dict(document)
    given: dict[str, Any] = {"role": _role(rest, where), "content": _content(rest, where)}
    calls = rest.get("tool_calls")
    if isinstance(calls, list) and calls and all(isinstance(call, dict) for call in calls):
        given["tool_calls"] = tuple(rest.pop("tool_calls"))
    for key in ("tool_call_id", "name"):
        if isinstance(rest.get(key), str):
            given[key] = rest.pop(key)
    if isinstance(rest.get("id"), str):
        given["id"] = rest["id"]
    return Message(**given, metadata={CHAT: rest} if rest else {})


def document_of(message: Message) -> dict[str, Any]:
    """The chat document of a message; the one it was made from, if `message_of` made it."""
    document: dict[str, Any] = {"role": str(message.role), "content": message.content}
    if message.tool_calls:
        document["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        document["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        document["name"] = message.name
    rest: dict[str, Any] = message.metadata.get(CHAT, {})
    return document | rest


def _role(rest: dict[str, Any], where: str) -> MessageRole:
    said = rest["role"]
    if said in _OTHER_ROLES:
        return _OTHER_ROLES[said]  # the word itself stays in the rest
    if said not in list(MessageRole):
        known = ", ".join([*MessageRole, *_OTHER_ROLES])
        raise InvalidArgument(f"{said!r} is not a role", where=where, fix=f"use {known}")
    return MessageRole(rest.pop("role"))


def _content(rest: dict[str, Any], where: str) -> str | None:
    """The text; content in parts stays in the rest as well, since only its texts are searched."""
    content = rest.get("content")
    if content is None or isinstance(content, str):
        rest.pop("content", None)
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
        return "\n".join(texts) if texts else None
    raise InvalidArgument("the content of a message is a text, a list of parts, or null", where=where)


# Whole conversations.


def conversations_of(documents: Sequence[Any]) -> list[tuple[Conversation, list[Message]]]:
    """The conversations in a list of documents; see `Conversations.import_conversations`.

    Ids follow from what the documents say, so that the same documents always mean the same records.
    """
    if not isinstance(documents, Sequence) or isinstance(documents, str | bytes):
        raise InvalidArgument("conversations come as a list", where="documents")
    seen: dict[str, int] = {}
    found = []
    for number, document in enumerate(documents):
        where = f"documents[{number}]"
        conversation, messages = _conversation_of(document, where)
        twin = seen[conversation.id] = seen.get(conversation.id, 0) + 1
        if twin > 1:  # the same again in one list is meant as another conversation
            if isinstance(document, Mapping) and isinstance(document.get("id"), str):
                raise InvalidArgument(f"two conversations have the id {conversation.id!r}", where=where)
            conversation, messages = _conversation_of(document, where, twin)
        found.append((conversation, messages))
    return found


def _conversation_of(document: Any, where: str, twin: int = 1) -> tuple[Conversation, list[Message]]:
    if isinstance(document, Mapping):
        key = next((key for key in _MESSAGE_KEYS if key in document), None)
        if key is None:
            raise InvalidArgument(
                "a conversation is a list of messages, or has one in `messages`", where=where
            )
        said, rest = document[key], {name: value for name, value in document.items() if name != key}
    else:
        key, said, rest = "", document, {}
    if not isinstance(said, list):
        place = f"{where}.{key}" if key else where
        raise InvalidArgument("the messages of a conversation come as a list", where=place)
    fields = _fields(rest, where)
    id = fields.pop("id", None) or _digest_id(document, twin)
    messages = [
        message_of(each, where=f"{where}[{number}]" if not key else f"{where}.{key}[{number}]")
        for number, each in enumerate(said)
    ]
    return Conversation(id=id, **fields), [_numbered(each, id, n) for n, each in enumerate(messages, 1)]


def _fields(rest: dict[str, Any], where: str) -> dict[str, Any]:
    """What a document says of its conversation; what has no field goes into the metadata."""
    fields: dict[str, Any] = {}
    for key, name in _NAMED.items():
        if isinstance(rest.get(key), str) and name not in fields:
            fields[name] = rest.pop(key)
    if isinstance(rest.get("id"), str):
        fields["id"] = rest.pop("id")
        if not 1 <= len(fields["id"].encode()) <= _ID_BYTES_MAX:
            raise InvalidArgument(f"an id has 1 to {_ID_BYTES_MAX} bytes", where=f"{where}.id")
    tags = rest.get("tags")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        fields["tags"] = tuple(rest.pop("tags"))
    metadata = rest.pop("metadata", None)
    if isinstance(metadata, dict):
        rest = metadata | rest
    elif metadata is not None:
        rest["metadata"] = metadata
    return {**fields, "metadata": rest}


def _numbered(message: Message, conversation: str, number: int) -> Message:
    """The message under its own id if it has one, else under one that its place gives."""
    has_own = message.metadata.get(CHAT, {}).get("id") == message.id
    return message if has_own else replace(message, id=f"{conversation}.{number}")


def _digest_id(document: Any, twin: int) -> str:
    """An id that follows from what a document says; `twin` tells it from others that say the same."""
    return str(UUID(bytes=codec.digest(codec.encode({"twin": twin, "document": document}, what="document"))))

"""What models were given to see, kept as changes: a conversation of n messages takes up O(n) bytes.

A snapshot is whole, or what has changed since the one before it. A whole one is written as soon as the
changes since the last would together be larger than it: so all snapshots take up at most twice what all
changes do, and reading one never reads much more than twice its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from holdfast.domain.context_deltas import applied, changes
from holdfast.errors import DamagedData, RecordNotFound, UnsupportedValue
from holdfast.records.conversations import ContextSnapshot, Conversation
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.store import Store

ROW_BYTES = 200
"""What a snapshot takes up besides its body, roughly."""
_ANY_SEQ = 2**63 - 1

_parse = msgspec.json.decode
_dump = msgspec.json.encode


class Contexts:
    """The context snapshots of a store's conversations."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, conversation: str, context: Any) -> ContextSnapshot:
        """Keep what the model is given to see now; see `Conversations.snapshot`."""
        node = _node(context)
        async with self._store.transaction() as transaction:
            # Under this lock no message is appended and no other snapshot taken.
            locked = await self._store.repo(Conversation, within=transaction).get_locked(conversation)
            chain = await transaction.fetch(
                "conversations.context_chain", self._store.tenant, conversation, _ANY_SEQ
            )
            number = chain[-1][0] + 1 if chain else 1
            base, body = _shortest(chain, number, node, context)
            snapshot = ContextSnapshot(
                conversation_id=conversation, number=number, seq=locked.message_count,
                base=base, body=body, digest=codec.digest(_dump(node)),
            )  # fmt: skip
            return await self._store.repo(ContextSnapshot, within=transaction, unsealed=True).create(snapshot)

    async def read(self, conversation: str, seq: int | None) -> Any:
        """The context of a moment; see `Conversations.context_at`."""
        chain = await self._store.driver.fetch(
            "conversations.context_chain", self._store.tenant, conversation,
            _ANY_SEQ if seq is None else seq,
        )  # fmt: skip
        if not chain:
            at = "" if seq is None else f" at message {seq} or before"
            raise RecordNotFound(
                f"conversation {conversation!r} has no context snapshot{at}", id=conversation
            )
        node = _rebuilt(chain)
        if codec.digest(_dump(node)) != bytes(chain[-1][4]):
            raise DamagedData(f"context snapshot {chain[-1][0]} does not read back", where=conversation)
        return codec.from_json(_dump(node).decode(), what="context")


def _node(context: Any) -> Any:
    """A context as plain JSON, in which values of other types are tagged."""
    return _parse(codec.to_json(context, what="context"))


def _rebuilt(chain: Sequence[Row]) -> Any:
    """The newest context of a chain that begins with a whole one."""
    node = _node(_body(chain[0]))
    for row in chain[1:]:
        try:
            node = applied(node, _body(row))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DamagedData(f"context snapshot {row[0]} does not fit the one before") from error
    return node


def _body(row: Row) -> Any:
    return None if row[3] is None else codec.decode(bytes(row[3]), what="context")


def _shortest(chain: Sequence[Row], number: int, node: Any, context: Any) -> tuple[int, Any]:
    """The base and the body of the next snapshot."""
    if chain:
        with suppress(UnsupportedValue):  # a delta can be nested deeper than what it makes
            delta = changes(_rebuilt(chain), node)
            spent = sum(len(row[3]) + ROW_BYTES for row in chain[1:])
            spent += len(codec.encode(delta)) + ROW_BYTES
            if spent < len(codec.encode(context)) + ROW_BYTES:
                return chain[0][0], delta
    return number, context

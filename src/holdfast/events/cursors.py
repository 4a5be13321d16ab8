"""Positions in a log: opaque text that a reader keeps and passes back to go on behind it.

On SQLite a position is a number in the order of commits. On PostgreSQL it is a transaction, then a place
within it, and readers stay below the oldest transaction that is still running; so no event ever appears
behind a position that a reader was given.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from holdfast.errors import InvalidArgument
from holdfast.store.drivers.base import Row

BEGINNING = ""
"""The cursor before the first event."""


def encode_cursor(parts: list[Any]) -> str:
    """The text of a position."""
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(text: str, kinds: tuple[type, ...]) -> list[Any]:
    """The parts of a position, or the least of each kind for the beginning; `InvalidArgument` otherwise."""
    if text == BEGINNING:
        return [kind() for kind in kinds]
    try:
        parts = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise InvalidArgument(
            f"{text[:40]!r} is not a cursor of this store", fix="pass one that an earlier call gave"
        )
    return parts


def stream_position(dialect: str, row: Row) -> str:
    """The cursor behind a row of `streams.read` or `streams.follow`."""
    return encode_cursor([row[5]] if dialect == "sqlite" else [row[5], row[0], row[1]])


def stream_arguments(dialect: str, cursor: str) -> list[Any]:
    """A cursor as arguments of `streams.follow`."""
    if dialect == "sqlite":
        return decode_cursor(cursor, (int,))
    transaction, stream, seq = decode_cursor(cursor, (str, str, int))
    return [transaction or "0", stream, seq]

"""Positions in a log: opaque text that a reader keeps and passes back to go on behind it.

On SQLite a position is a number in the order of commits. On PostgreSQL it is a transaction, then a place
within it, and readers stay below the oldest transaction that is still running. On MySQL and MariaDB, which do
not tell that, it is a number in the order of insertion, and readers stay below what somebody may still write
(see `eras`). So no event ever appears behind a position that a reader was given.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import InvalidArgument
from holdfast.store.drivers.base import Row
from holdfast.store.query import encode_position, read_position

BEGINNING = ""
"""The cursor before the first event."""


def decode_cursor(text: str, kinds: tuple[type, ...]) -> list[Any]:
    """The parts of a position, or the least of each kind for the beginning; `InvalidArgument` otherwise."""
    if text == BEGINNING:
        return [kind() for kind in kinds]
    parts = read_position(text)
    if parts is None or [type(part) for part in parts] != list(kinds):
        raise InvalidArgument(
            f"{text[:40]!r} is not a cursor of this store", fix="pass one that an earlier call gave"
        )
    return parts


def stream_position(dialect: str, row: Row) -> str:
    """The cursor behind a row of `streams.read` or `streams.follow`."""
    return encode_position([row[5], row[0], row[1]] if dialect == "postgresql" else [row[5]])


def stream_arguments(dialect: str, cursor: str) -> list[Any]:
    """A cursor as arguments of `streams.follow`."""
    if dialect != "postgresql":
        return decode_cursor(cursor, (int,))
    transaction, stream, seq = decode_cursor(cursor, (str, str, int))
    return [transaction or "0", stream, seq]

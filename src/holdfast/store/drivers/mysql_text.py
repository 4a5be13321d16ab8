"""Statements for MySQL and MariaDB as the bytes that are sent: values are written into the text by us.

The protocol's own way of binding values takes a round trip for each new statement and can not send several
statements at once, which is what a script needs. So values become literals here, by type and never by guess.
A backslash and a quote are all that can end a literal: the session's SQL mode leaves backslash escapes on,
and in UTF-8 no byte of a longer character is either of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from asyncmy.constants import FIELD_TYPE
from asyncmy.converters import conversions

from holdfast.errors import InvalidArgument, InvalidData
from holdfast.store.sql import Statements, steps

_STATEMENT_BYTES = 512 * 1024
_STATEMENT_ROWS = 500
_INTEGERS = range(-(2**63), 2**63)
# What must not be searched for placeholders comes first. `--` opens a comment only before a blank.
_LEXEMES = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `[^`]*` | /\*.*?\*/ | (--(?=\s|\Z)[^\n]*) | \?(\d*)""",
    re.VERBOSE | re.DOTALL,
)


class Step(NamedTuple):
    """One SQL statement: pieces of text, and between them the indexes of values."""

    pieces: tuple[bytes | int, ...]

    def render(self, args: Sequence[Any]) -> bytes:
        """The statement with `args` in it. Raises `InvalidData` for a value that no column could hold."""
        return b"".join([piece if type(piece) is bytes else literal(args[piece]) for piece in self.pieces])  # type: ignore[index]


class Script(NamedTuple):
    """A statement or script that was taken apart."""

    steps: tuple[Step, ...]

    def render(self, args: Sequence[Any]) -> list[bytes]:
        """Its SQL statements with `args` in them."""
        try:
            return [step.render(args) for step in self.steps]
        except IndexError:
            raise InvalidArgument(f"{len(args)} values are too few for the statement") from None


class Scripts:
    """The named statements as scripts, and generated ones; each is taken apart once."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._known: dict[tuple[str, str], Script] = {}

    def named(self, name: str, binary: str) -> Script:
        """The statement `name` for a server whose byte-wise collation is `binary`."""
        return self.of(self._statements[name], binary)

    def of(self, text: str, binary: str) -> Script:
        """The same for a text."""
        found = self._known.get((text, binary))
        if found is None:
            found = self._known[text, binary] = compiled(text.replace("{binary}", binary))
        return found


def compiled(text: str) -> Script:
    """Take a statement or script apart; placeholders are `?1`, `?2` and so on."""
    return Script(tuple(_step(part) for part in steps(text)))


def _step(text: str) -> Step:
    pieces: list[bytes | int] = []
    said, position = "", 0
    for match in _LEXEMES.finditer(text):
        comment, number = match.groups()
        if comment is None and number is None:
            continue
        said += text[position : match.start()]
        position = match.end()
        if number is not None:
            if not number:
                raise InvalidArgument("a placeholder has no number", where=text[:60], fix="write ?1, ?2, …")
            pieces += [said.encode(), int(number) - 1]
            said = ""
    pieces.append((said + text[position:]).encode())
    return Step(tuple(pieces))


def literal(value: Any) -> bytes:
    """A value as SQL; a tuple as the inside of a list. Times need a zone. Raises `InvalidData`."""
    if value is None:
        return b"NULL"
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidData("a text holds a NUL character, which no text column takes", where="statement")
        try:
            return b"'" + _escaped(value.encode()) + b"'"
        except UnicodeEncodeError:
            raise InvalidData("a text holds half of a surrogate pair", where="statement") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return b"_binary'" + _escaped(bytes(value)) + b"'"
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise InvalidData("an integer does not fit into 64 bits", where="statement")
        return b"%d" % value
    if isinstance(value, float) and math.isfinite(value):
        return repr(value).encode() if "e" in repr(value) else repr(value).encode() + b"e0"
    if isinstance(value, datetime) and value.tzinfo is not None:
        moment = value.astimezone(UTC).replace(tzinfo=None)
        return f"'{moment.isoformat(' ', 'microseconds')}'".encode()
    if isinstance(value, tuple):
        return b",".join([literal(each) for each in value])
    raise InvalidData(f"a value of type {type(value).__name__} does not fit any column", where="statement")


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\\", b"\\\\").replace(b"'", b"\\'")


def rows_of(values: Sequence[bytes]) -> Iterator[bytes]:
    """Rows for `VALUES`, in as few runs as keep each statement at an easy size."""
    part, size = list[bytes](), 0
    for value in values:
        if part and (size + len(value) > _STATEMENT_BYTES or len(part) >= _STATEMENT_ROWS):
            yield b",".join(part)
            part, size = [], 0
        part.append(b"(%b)" % value)
        size += len(value) + 3
    if part:
        yield b",".join(part)


def moment_of(text: str) -> datetime:
    """A stored time, which is UTC."""
    return datetime.fromisoformat(text + "+00:00")


def number_of(text: str) -> int | float:
    """A decimal as the server computes it for sums and quotients: whole ones as integers."""
    return float(text) if "." in text else int(text)


def conversion() -> Mapping[Any, Any]:
    """What asyncmy makes of columns: as it does by itself, apart from times and decimals."""
    return {
        **conversions,
        FIELD_TYPE.DATETIME: moment_of,
        FIELD_TYPE.TIMESTAMP: moment_of,
        FIELD_TYPE.DECIMAL: number_of,
        FIELD_TYPE.NEWDECIMAL: number_of,
    }

"""Cuts SQL text into single statements without understanding SQL.

Only the lexical rules matter, and they differ by dialect: what opens a string, an identifier or a
comment and what closes it. A semicolon ends a statement unless it stands inside one of these, inside
parentheses (PostgreSQL: `CREATE RULE … DO (a; b)`), or inside a body that has semicolons of its own:

    SQLite       CREATE TRIGGER … BEGIN a; b; END;     ends at a semicolon after `; END`, as SQLite's own
                                                       completeness test has it
    PostgreSQL   CREATE FUNCTION … BEGIN ATOMIC … END  CASE … END inside counts as a level
                 $tag$ … $tag$                         one string; nothing inside is looked at
    MySQL        CREATE TRIGGER … BEGIN a; b; END      never ends by itself: only the markers of the grammar
                                                       (`parser`) say where; DELIMITER is the client's word
                 /*! … */                              code, not a comment; nothing inside is looked at

The pieces of a text, joined, are the text again: nothing is dropped, added or rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["sqlite", "postgresql", "mysql"]
Kind = Literal["blank", "comment", "string", "name", "word", "sign"]

NAME_PART = r'(?:"(?:[^"]|"")+"|`[^`]+`|\[[^]]+\]|\w[\w$]*)'
"""The pattern of a name in any dialect."""
NAME = rf"{NAME_PART}(?:\s*\.\s*{NAME_PART})*"
"""The same, with or without a schema before it."""
_BLANK = r"(?P<blank>[ \t\n\r\f\v]+)"
_SHARED = _BLANK + r"|(?P<line>--[^\n]*)|(?P<block>/\*)|(?P<quote>')|(?P<double>\")"
# Identifiers may hold a dollar sign, so `a$b$c` is a word and never opens a dollar quote.
_WORD = r"|(?P<word>\w[\w$]*)|(?P<sign>.)"
# In MySQL `--` opens a comment only before a blank, `"` a string, and a backslash escapes in all strings.
_MYSQL = (
    _BLANK
    + r"|(?P<line>(?:--(?=\s|\Z)|\#)[^\n]*)|(?P<executable>/\*M?!)|(?P<block>/\*)"
    + r"|(?P<escape>')|(?P<escaped_double>\")|(?P<backtick>`)"
    + _WORD
)
_OPENERS = {
    "sqlite": re.compile(_SHARED + r"|(?P<backtick>`)|(?P<bracket>\[)" + _WORD, re.DOTALL),
    "postgresql": re.compile(
        r"(?P<escape>[eE]')|" + _SHARED + r"|(?P<dollar>\$(?:[^\W\d]\w*)?\$)" + _WORD, re.DOTALL
    ),
    "mysql": re.compile(_MYSQL, re.DOTALL),
}
# Possessive, so an unclosed string costs one pass and never matches a shorter one.
_CLOSERS = {
    "quote": re.compile(r"(?:[^']++|'')*+'"),
    "escape": re.compile(r"(?:[^'\\]++|\\.|'')*+'", re.DOTALL),
    "double": re.compile(r'(?:[^"]++|"")*+"'),
    "escaped_double": re.compile(r'(?:[^"\\]++|\\.|"")*+"', re.DOTALL),
    "executable": re.compile(r".*?\*/", re.DOTALL),
    "backtick": re.compile(r"(?:[^`]++|``)*+`"),
    "bracket": re.compile(r"[^]]*+\]"),
}
_KINDS: dict[str, Kind] = {
    "blank": "blank", "line": "comment", "block": "comment", "quote": "string", "escape": "string",
    "dollar": "string", "double": "name", "backtick": "name", "bracket": "name", "word": "word",
    "sign": "sign", "escaped_double": "string", "executable": "sign",
}  # fmt: skip
_NAMES = {
    "block": "comment /*", "quote": "string '", "escape": "string '", "double": 'quoted name "',
    "backtick": "quoted name `", "bracket": "quoted name [", "escaped_double": 'string "',
    "executable": "comment /*!",
}  # fmt: skip
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_TRIGGER = re.compile(r"CREATE (TEMP |TEMPORARY )?TRIGGER\b")
_ROUTINE = re.compile(r"CREATE (OR REPLACE )?(FUNCTION|PROCEDURE)\b")
_MYSQL_BODY = re.compile(r"CREATE .*\b(TRIGGER|FUNCTION|PROCEDURE|EVENT)\b")
_HEAD_WORDS = 8


class SplitError(ValueError):
    """Something is opened and never closed; `line` counts from 1 within the text."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


@dataclass(frozen=True, slots=True)
class Token:
    """A lexical unit: `text[start:end]`. Dollar-quoted text is a string."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that ends after a statement's semicolon, or at the end of the text.

    `head` is where the statement starts after blanks and comments, None when there is no statement.
    `words` are its leading keywords in capitals. `closed` is False when the semicolon is missing.
    `open_body` names what kept the semicolons inside it from ending it, for the error message.
    """

    start: int
    end: int
    head: int | None
    words: tuple[str, ...]
    closed: bool
    open_body: str | None = None


def tokens(text: str, dialect: Dialect) -> Iterator[Token]:
    """Every token of `text`, gapless and in order; `SplitError` on an unclosed string, name or comment."""
    position, opener = 0, _OPENERS[dialect]
    while position < len(text):
        match = opener.match(text, position)
        assert match is not None and match.lastgroup is not None  # `sign` matches any character
        group = match.lastgroup
        end = match.end() if group in ("blank", "line", "word", "sign") else _close(text, match, dialect)
        yield Token(_KINDS[group], position, end)
        position = end


def _close(text: str, opened: re.Match[str], dialect: Dialect) -> int:
    group = opened.lastgroup
    assert group is not None
    if group == "dollar":
        found = text.find(opened[0], opened.end())
        end = None if found < 0 else found + len(opened[0])
    elif group == "block":
        end = _close_comment(text, opened.end(), nested=dialect == "postgresql")
    else:
        closer = _CLOSERS[group].match(text, opened.end())
        end = None if closer is None else closer.end()
    if end is None:
        name = _NAMES.get(group, f"string {opened[0]}")
        raise SplitError(f"the {name} is never closed", line_of(text, opened.start()))
    return end


def _close_comment(text: str, position: int, *, nested: bool) -> int | None:
    depth = 1
    while edge := _COMMENT_EDGE.search(text, position):
        position = edge.end()
        if edge[0] == "*/":
            depth -= 1
        elif nested:
            depth += 1
        else:
            # `/*/` inside a comment that does not nest: the `*/` may start at its second character.
            position = edge.start() + 1
        if depth == 0:
            return position
    return None


@dataclass(slots=True)
class _Statement:
    """What has been seen of the statement that is being read."""

    dialect: Dialect
    head: int | None = None
    words: list[str] = field(default_factory=list)
    parentheses: int = 0
    levels: int = 0  # of BEGIN ATOMIC and CASE in a PostgreSQL routine; of BEGIN in one of MySQL
    last: str = ""
    before_last: str = ""

    def see(self, token: Token, text: str) -> None:
        """Take in a significant token."""
        seen = text[token.start : token.end].upper() if token.kind in ("word", "sign") else token.kind
        if self.head is None:
            self.head = token.start
        if token.kind == "word":
            if len(self.words) < _HEAD_WORDS:
                self.words.append(seen)
            self._nest(seen)
        elif seen == "(":
            self.parentheses += 1
        elif seen == ")":
            self.parentheses = max(0, self.parentheses - 1)
        self.before_last, self.last = self.last, seen

    def _nest(self, word: str) -> None:
        head = " ".join(self.words)
        if self.dialect == "mysql":
            self.levels += word == "BEGIN" and _MYSQL_BODY.match(head) is not None
        if self.dialect != "postgresql" or not _ROUTINE.match(head):
            return
        if (word == "ATOMIC" and self.last == "BEGIN") or (word == "CASE" and self.levels):
            self.levels += 1
        elif word == "END" and self.levels:
            self.levels -= 1

    def open_body(self) -> str | None:
        """Why a semicolon does not end the statement here; None when it does."""
        if self.dialect == "sqlite":
            trigger = _TRIGGER.match(" ".join(self.words).removeprefix("EXPLAIN "))
            return "CREATE TRIGGER has no `END;`" if trigger and not self._after_end() else None
        if self.levels:
            return "a body of BEGIN … END" if self.dialect == "mysql" else "BEGIN ATOMIC has no END"
        return "a parenthesis is never closed" if self.parentheses else None

    def _after_end(self) -> bool:
        return self.last == "END" and self.before_last == ";"


def pieces(text: str, dialect: Dialect) -> Iterator[Piece]:
    """The pieces of `text` in order; joined they are `text`. `SplitError` as in `tokens`."""
    start, current = 0, _Statement(dialect)
    for token in tokens(text, dialect):
        if token.kind in ("blank", "comment"):
            continue
        ends = text[token.start : token.end] == ";" and not (current.head is not None and current.open_body())
        if not ends:
            current.see(token, text)
        else:
            yield Piece(start, token.end, current.head, tuple(current.words), closed=True)
            start, current = token.end, _Statement(dialect)
    if start < len(text):
        # Asked as if a semicolon came here, to tell an open body from a forgotten semicolon.
        reason = current.open_body() if current.head is not None else None
        yield Piece(start, len(text), current.head, tuple(current.words), closed=False, open_body=reason)


def code(text: str, dialect: Dialect) -> str:
    """`text` with comments and plain strings blanked; quoted names and dollar-quoted bodies stay."""
    kept = []
    for token in tokens(text, dialect):
        part = text[token.start : token.end]
        hidden = token.kind == "comment" or (token.kind == "string" and not part.startswith("$"))
        kept.append(" " if hidden else part)
    return "".join(kept)


def is_routine(statement: str) -> bool:
    """Whether it makes what has a body on MySQL: a trigger, procedure, function or event."""
    first = next(pieces(statement, "mysql"), None)
    return first is not None and _MYSQL_BODY.match(" ".join(first.words)) is not None


def line_of(text: str, offset: int) -> int:
    """The line of `offset`, counted from 1."""
    return text.count("\n", 0, offset) + 1

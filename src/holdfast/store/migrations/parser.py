"""The grammar of a migration file.

    -- +migrate Up [notransaction]        starts the section that changes the schema; needed
    -- +migrate Down [notransaction]      starts the section that takes it back; optional
    -- +migrate StatementBegin            from here to StatementEnd is one statement, semicolons included
    -- +migrate StatementEnd

A marker is a line of its own. Before the first marker only comments are allowed. Every statement ends
with a semicolon; a file cut short by a bad copy is therefore noticed. BEGIN, COMMIT and ROLLBACK are
refused: the runner makes the transaction, and a COMMIT in the middle would leave half a migration behind.
On MySQL, where a migration may be continued by another session, so is what ends with its session: temporary
tables, USE and LOCK TABLES. A Down section without a statement is the same as none: the migration cannot be
undone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from holdfast.errors import InvalidMigration
from holdfast.store.migrations.splitter import Dialect, SplitError, is_routine, line_of, pieces

_MARKER = re.compile(r"[ \t]*--[ \t]*\+migrate\b(.*)", re.ASCII)
_MARKERS = ("Up", "Down", "StatementBegin", "StatementEnd")
_OPTIONS = ("notransaction",)
_TRANSACTION_WORDS = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"})
_NOT_ON_MYSQL = {
    "DELIMITER": "put the statement between `-- +migrate StatementBegin` and `-- +migrate StatementEnd`",
    "USE": "name the database in the statements, or leave it out for the store's own",
    "LOCK": "remove it: one process migrates at a time",
    "UNLOCK": "remove it: one process migrates at a time",
    "XA": "remove it: every statement is its own transaction",
}
_TEMPORARY = re.compile(r"(CREATE|DROP) (OR REPLACE )?TEMPORARY\b")
_SUMMARY_CHARS = 120


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as written in the file, with its semicolon; `line` is where it starts."""

    text: str
    line: int

    @property
    def summary(self) -> str:
        """The first line, shortened for messages."""
        first = self.text.split("\n", 1)[0].strip()
        return first if len(first) <= _SUMMARY_CHARS else first[: _SUMMARY_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Section:
    """The statements of one direction, and whether they run in one transaction."""

    statements: tuple[Statement, ...]
    transactional: bool = True


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed migration file; `down` is None when it cannot be undone."""

    up: Section
    down: Section | None


def parse(text: str, *, dialect: Dialect, source: str) -> Script:
    """Read a migration file's text, whose line ends are LF already.

    `source` names the file in errors. Raises `InvalidMigration` with `source:line` on the first mistake.
    """
    reader = _Reader(dialect, source)
    for number, line in enumerate(text.split("\n"), start=1):
        marker = _MARKER.fullmatch(line)
        if marker is None:
            reader.take_line(line, number)
        else:
            reader.take_marker(marker[1].split(), number)
    return reader.finish()


@dataclass(slots=True)
class _Open:
    """A section that is being read."""

    name: str
    line: int
    transactional: bool
    statements: list[Statement] = field(default_factory=list)


class _Reader:
    def __init__(self, dialect: Dialect, source: str) -> None:
        self._dialect = dialect
        self._source = source
        self._sections: dict[str, _Open] = {}
        self._section: _Open | None = None
        self._block_line: int | None = None
        self._lines: list[str] = []
        self._first_line = 1

    def take_line(self, line: str, number: int) -> None:
        if not self._lines:
            self._first_line = number
        self._lines.append(line)

    def take_marker(self, words: list[str], number: int) -> None:
        if not words or words[0] not in _MARKERS:
            self._refuse_unknown("marker", words[0] if words else "", _MARKERS, number)
        name, options = words[0], words[1:]
        allowed = _OPTIONS if name in ("Up", "Down") else ()
        for option in options:
            if option not in allowed:
                self._refuse_unknown(f"option of {name}", option, allowed, number)
        if name in ("Up", "Down"):
            self._start_section(name, options, number)
        elif name == "StatementBegin":
            self._begin_block(number)
        else:
            self._end_block(number)

    def finish(self) -> Script:
        self._leave_block_check("the end of the file")
        self._flush()
        up, down = self._sections.get("Up"), self._sections.get("Down")
        if up is None:
            self._refuse("there is no `-- +migrate Up` marker", 1, "write it above the first statement")
        if not up.statements:
            self._refuse(
                "the Up section has no statement", up.line, "write the statements, or remove the file"
            )
        undone = down if down is not None and down.statements else None
        return Script(
            up=Section(tuple(up.statements), up.transactional),
            down=Section(tuple(undone.statements), undone.transactional) if undone else None,
        )

    def _start_section(self, name: str, options: list[str], number: int) -> None:
        self._leave_block_check(f"`-- +migrate {name}` in line {number}")
        self._flush()
        if (other := self._sections.get(name)) is not None:
            self._refuse(
                f"a second `-- +migrate {name}`; the first is in line {other.line}", number,
                "keep one section for each direction, or make two files",
            )  # fmt: skip
        self._section = _Open(name, number, transactional="notransaction" not in options)
        self._sections[name] = self._section

    def _begin_block(self, number: int) -> None:
        if self._section is None:
            self._refuse("StatementBegin before `-- +migrate Up`", number, "move it below the marker")
        if self._block_line is not None:
            self._refuse(
                f"StatementBegin inside the block opened in line {self._block_line}", number,
                "end that block first with `-- +migrate StatementEnd`",
            )  # fmt: skip
        self._flush()
        self._block_line = number

    def _end_block(self, number: int) -> None:
        if self._block_line is None:
            self._refuse("StatementEnd without StatementBegin", number, "remove it, or open the block above")
        opened, text, first_line = self._block_line, "\n".join(self._lines), self._first_line
        self._lines, self._block_line = [], None
        heads = self._statements(text, first_line, split=False)
        if not heads:
            self._refuse("the block has no statement", opened, "remove the two markers")
        whole = text[heads[0][0] :].rstrip()
        self._add(Statement(whole, heads[0][1].line))

    def _leave_block_check(self, at: str) -> None:
        if self._block_line is not None:
            self._refuse(
                f"StatementBegin is not ended before {at}", self._block_line,
                "write `-- +migrate StatementEnd` below the statement",
            )  # fmt: skip

    def _flush(self) -> None:
        """Split the lines read since the last marker into statements of the open section."""
        text, first_line = "\n".join(self._lines), self._first_line
        self._lines = []
        for _, statement in self._statements(text, first_line, split=True):
            if self._section is None:
                self._refuse(
                    "there is text before the first `-- +migrate` marker", statement.line,
                    "write `-- +migrate Up` above it; only comments may stand before it",
                )  # fmt: skip
            self._add(statement)

    def _add(self, statement: Statement) -> None:
        assert self._section is not None
        self._section.statements.append(statement)

    def _statements(self, text: str, first_line: int, *, split: bool) -> list[tuple[int, Statement]]:
        """Every statement of `text` with its offset, checked; `split` demands that each is ended."""
        found: list[tuple[int, Statement]] = []
        try:
            for piece in pieces(text, self._dialect):
                if piece.head is None:
                    continue
                line = first_line + line_of(text, piece.head) - 1
                if split and self._section is not None and not piece.closed:
                    self._refuse_unfinished(piece.open_body, line)
                if found and not split and self._dialect == "mysql":
                    # A block is one statement: what follows its first semicolon is of its body.
                    if not is_routine(found[0][1].text):
                        self._refuse(
                            "a block holds one statement on MySQL", line, "give it a block of its own"
                        )
                    break
                self._refuse_words(piece.words, line)
                found.append((piece.head, Statement(text[piece.head : piece.end].rstrip(), line)))
        except SplitError as error:
            self._refuse(error.problem, first_line + error.line - 1, "close it")
        return found

    def _refuse_words(self, words: tuple[str, ...], line: int) -> None:
        first = words[0] if words else ""
        if first in _TRANSACTION_WORDS:
            self._refuse(
                f"{first} is not allowed in a migration", line,
                "remove it: a migration is one transaction, or none with the option `notransaction`",
            )  # fmt: skip
        if self._dialect != "mysql":
            return
        if first in _NOT_ON_MYSQL:
            self._refuse(f"{first} is not allowed in a migration", line, _NOT_ON_MYSQL[first])
        if _TEMPORARY.match(" ".join(words)):
            self._refuse(
                "a temporary table ends with its session, and another one may continue the migration", line,
                "use an ordinary table and drop it at the end",
            )  # fmt: skip

    def _refuse_unfinished(self, reason: str | None, line: int) -> NoReturn:
        self._refuse(
            f"the statement is not finished: {reason or 'its semicolon is missing'}", line,
            "finish it; put a statement with semicolons inside between "
            "`-- +migrate StatementBegin` and `-- +migrate StatementEnd`",
        )  # fmt: skip

    def _refuse_unknown(self, kind: str, found: str, known: tuple[str, ...], line: int) -> NoReturn:
        from difflib import get_close_matches

        folded = {name.lower(): name for name in known}
        near = get_close_matches(found.lower(), folded, n=1, cutoff=0.5)
        fix = f"did you mean {folded[near[0]]}?" if near else f"known: {', '.join(known) or 'none'}"
        self._refuse(f"{found!r} is not a known {kind}", line, fix)

    def _refuse(self, problem: str, line: int, fix: str) -> NoReturn:
        raise InvalidMigration(problem, where=f"{self._source}:{line}", fix=fix)

"""Reads a MySQL statement word by word, for what has to know what a statement is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from holdfast.store.migrations.splitter import tokens


class NotUnderstood(Exception):
    """The statement does not go on as expected."""


class Name(NamedTuple):
    """A name, and the database before it if one is given."""

    schema: str | None
    name: str


class Reader:
    """Reads the significant tokens of a statement from left to right."""

    def __init__(self, statement: str) -> None:
        self._tokens = [
            statement[token.start : token.end]
            for token in tokens(statement, "mysql")
            if token.kind not in ("blank", "comment")
        ]
        self._place = 0

    def peek(self) -> str:
        """The next token in capitals; empty at the end."""
        return self._tokens[self._place].upper() if self._place < len(self._tokens) else ""

    def word(self) -> str:
        """Take the next token, in capitals."""
        found = self.peek()
        self._place += 1
        return found

    def takes(self, *words: str) -> bool:
        """Take these words if all of them come next."""
        end = self._place + len(words)
        if [token.upper() for token in self._tokens[self._place : end]] != list(words):
            return False
        self._place = end
        return True

    def takes_one(self, *words: str) -> bool:
        """Take one of these words if it comes next."""
        return any(self.takes(word) for word in words)

    def skip_to(self, *words: str) -> str:
        """Take tokens up to and with one of these words, outside parentheses; which one it was."""
        while (found := self.word()) not in words:
            if found == "(":
                self.skip_parentheses()
            if not found:
                raise NotUnderstood
        return found

    def skip_parentheses(self) -> None:
        """Take what is left of an opened parenthesis."""
        depth = 1
        while depth:
            found = self.word()
            if not found:
                raise NotUnderstood
            depth += (found == "(") - (found == ")")

    def skip_clause(self) -> None:
        """Take the rest of a clause, without the comma or the end after it."""
        while self.peek() not in (",", ";", ")", ""):
            if self.word() == "(":
                self.skip_parentheses()

    def plain_name(self) -> str:
        """Take one identifier."""
        if self._place >= len(self._tokens):
            raise NotUnderstood
        token = self._tokens[self._place]
        self._place += 1
        if token[0] == "`":
            return token[1:-1].replace("``", "`")
        if not (token[0].isalnum() or token[0] in "_$"):
            raise NotUnderstood
        return token

    def name(self) -> Name:
        """Take an identifier with or without the database before it."""
        first = self.plain_name()
        return Name(first, self.plain_name()) if self.takes(".") else Name(None, first)

    def names(self) -> Iterator[Name]:
        """Take a list of them."""
        yield self.name()
        while self.takes(","):
            yield self.name()

    def if_exists(self) -> None:
        """Take IF EXISTS or IF NOT EXISTS."""
        _ = self.takes("IF", "EXISTS") or self.takes("IF", "NOT", "EXISTS")

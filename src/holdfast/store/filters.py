"""The query language: `status:failed started:>2h tag:vip -queue:slow`, parsed once for every face.

A word is `name:value`; what a name means follows from the kind of its column. Texts are compared whole,
numbers and durations also by `<` and `>`, times by age (`<2h`: less than two hours ago) or by date, lists by
what they hold, truth by `true` and `false`. `-` turns a word round; `has:name` asks for a value at all.
Words without a name search the text of records that are searched.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from holdfast.durations import parse_duration
from holdfast.errors import HoldfastError, InvalidArgument
from holdfast.records.tables import Column, Kind

_WORD = re.compile(r'(-?)([A-Za-z_][\w.]*):("[^"]*"|\S+)|("[^"]*"|\S+)')
_HAS = "has"
_COMPARED = (Kind.INTEGER, Kind.REAL, Kind.DURATION)


@dataclass(frozen=True, slots=True)
class Condition:
    """`column op value`.

    Operators: `=` `<>` `<` `>` `<=` `>=`, `contains`, `lacks`, `set`, `unset`, `among`.
    """

    column: Column
    op: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Query:
    """What a query asks for: conditions that all hold, and words that all occur."""

    conditions: tuple[Condition, ...] = ()
    words: str = ""

    def __bool__(self) -> bool:
        return bool(self.conditions or self.words)


def parse(text: str | Sequence[str], columns: Sequence[Column]) -> Query:
    """The query that a person wrote.

    Raises `InvalidArgument` that names the word and the nearest right one.
    """
    source = text if isinstance(text, str) else " ".join(text)
    known = {column.filter: column for column in columns if column.filter is not None}
    searched = any(column.search for column in columns)
    conditions, words = [], []
    for match in _WORD.finditer(source):
        negated, name, value, bare = match.groups()
        if bare is None:
            conditions.append(_condition(known, name, value.strip('"'), negated == "-"))
        elif searched:
            words.append(bare.strip('"'))
        else:
            raise InvalidArgument(
                f"{bare[:80]!r} is not a filter",
                where="query",
                fix=f"write it as NAME:VALUE, such as {_example(known)}",
            )
    return Query(tuple(conditions), " ".join(words))


def _example(known: dict[str, Column]) -> str:
    return "status:failed" if "status" in known else f"{next(iter(known), 'id')}:VALUE"


def _condition(known: dict[str, Column], name: str, value: str, negated: bool) -> Condition:
    if name == _HAS:
        return Condition(_column(known, value), "unset" if negated else "set")
    column = _column(known, name)
    if column.kind is Kind.MOMENT:
        return _moment(column, name, value, negated)
    if column.kind in _COMPARED:
        return _compared(column, name, value, negated)
    if column.kind is Kind.TEXTS:
        return Condition(column, "lacks" if negated else "contains", value)
    if column.kind is Kind.BOOLEAN:
        return Condition(column, "=", _truth(name, value) != negated)
    return Condition(column, "<>" if negated else "=", _text(column, name, value))


def _column(known: dict[str, Column], name: str) -> Column:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}: ?" if near else f"use one of {', '.join(known)}"
    raise InvalidArgument(f"there is no filter {name!r}", where="query", fix=hint)


def _text(column: Column, name: str, value: str) -> str:
    if column.type is not None and value not in list(column.type):
        near = difflib.get_close_matches(value, [str(each) for each in column.type], 1)
        hint = near[0] if near else ", ".join(column.type)
        raise InvalidArgument(f"there is no {name} {value!r}", where="query", fix=f"use {hint}")
    return value


def _truth(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidArgument(
            f"{name}:{value} is neither true nor false", where="query", fix=f"write {name}:true"
        )
    return value == "true"


def _split(value: str) -> tuple[str, str]:
    """The comparison before a value, and the value."""
    for op in (">=", "<=", ">", "<"):
        if value.startswith(op):
            return op, value[len(op) :]
    return "=", value


def _compared(column: Column, name: str, value: str, negated: bool) -> Condition:
    op, rest = _split(value)
    if negated and op != "=":
        raise InvalidArgument(
            f"-{name}:{value} is turned round twice", where="query", fix="turn the sign round"
        )
    try:
        number: Any = parse_duration(rest) if column.kind is Kind.DURATION else _number(column, rest)
    except (ValueError, HoldfastError) as error:
        wanted = "a duration such as 30s" if column.kind is Kind.DURATION else "a number"
        raise InvalidArgument(f"{rest[:40]!r} is not {wanted}", where=f"query, {name}:") from error
    return Condition(column, "<>" if negated else op, number)


def _number(column: Column, text: str) -> int | float:
    return int(text) if column.kind is Kind.INTEGER else float(text)


def _moment(column: Column, name: str, value: str, negated: bool) -> Condition:
    op, rest = _split(value)
    if negated or op == "=":
        raise InvalidArgument(
            f"{name}:{value} needs < or >", where="query", fix=f"write {name}:<2h or {name}:>2026-01-31"
        )
    try:
        boundary = datetime.fromisoformat(rest)
        boundary = boundary if boundary.tzinfo else boundary.replace(tzinfo=UTC)
    except ValueError:
        try:
            boundary = datetime.now(UTC) - parse_duration(rest)
        except HoldfastError as error:
            raise InvalidArgument(
                f"{rest[:40]!r} is neither a duration nor a date", where=f"query, {name}:"
            ) from error
        op = op.translate(_MIRRORED)  # less than 2 h ago lies after that moment
    return Condition(column, op, boundary)


_MIRRORED = str.maketrans("<>", "><")

"""A column of many records at once: the values that `Dialect.writer` makes one by one, several times faster.

Records of a kind are much alike, so a column is looked at as a whole: when all its values are of the usual
types and fit, they are bound as they are or converted together. Any other column goes value by value, and so
does one with a culprit in it, which is then refused as a single value is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from math import isfinite
from operator import contains
from typing import Any, NamedTuple

import msgspec

from holdfast.records.tables import Column, Kind
from holdfast.store.dialects import INT_MAX, Dialect
from holdfast.store.rows import microseconds

Values = Sequence[Any]
WriteAll = Callable[[Values], Values]

_dump = msgspec.json.Encoder().encode


class _Usual(NamedTuple):
    """The types that most values of a kind have, and whether all values of these types fit their column.

    `bind` makes what is bound of those that fit, by dialect, where that is something else.
    """

    types: frozenset[type]
    fit: Callable[[Values], bool]
    bind: dict[str, WriteAll]


def column_writer(dialect: Dialect, column: Column) -> WriteAll:
    """From a field's values, at least one, to what is bound for them. The converter raises `InvalidData`."""
    write = dialect.writer(column)
    usual = _USUAL.get(column.kind)
    if usual is None:
        return lambda values: [write(value) for value in values]
    types, bind = usual.types, usual.bind.get(dialect.name)
    if column.type is not None:
        types, bind = frozenset({column.type}), _as_strings  # a plain text may be none of them

    def write_all(values: Values) -> Values:
        found = set(map(type, values))
        if column.nullable and type(None) in found:
            if len(found) == 1:
                return values
            written = iter(write_all([value for value in values if value is not None]))
            return [None if value is None else next(written) for value in values]
        if not found <= types or not usual.fit(values):
            return [write(value) for value in values]
        return values if bind is None else bind(values)

    return write_all


def _are_texts(values: Values) -> bool:
    if any(map(contains, values, repeat("\0"))):
        return False
    if not all(map(str.isascii, values)):
        try:
            deque(map(str.encode, values), maxlen=0)
        except UnicodeEncodeError:
            return False
    return True


def _are_integers(values: Values) -> bool:
    return bool(min(values) >= -INT_MAX - 1 and max(values) <= INT_MAX)


def _are_in_utc(values: Values) -> bool:
    return all(value.tzinfo is UTC for value in values)


def _are_lists_of_texts(values: Values) -> bool:
    texts = list(chain.from_iterable(values))
    return set(map(type, texts)) <= {str} and _are_texts(texts)


def _as_strings(values: Values) -> Values:
    return list(map(str, values))


def _as_json(values: Values) -> Values:
    return [_dump(value).decode() for value in values]


_USUAL: dict[Kind, _Usual] = {
    Kind.TEXT: _Usual(frozenset({str}), _are_texts, {}),
    Kind.INTEGER: _Usual(frozenset({int}), _are_integers, {}),
    Kind.REAL: _Usual(frozenset({float}), lambda values: all(map(isfinite, values)), {}),
    Kind.BOOLEAN: _Usual(
        frozenset({bool}), lambda values: True, {"sqlite": lambda values: list(map(int, values))}
    ),
    Kind.MOMENT: _Usual(
        frozenset({datetime}), _are_in_utc, {"sqlite": lambda values: list(map(microseconds, values))}
    ),
    Kind.TEXTS: _Usual(
        frozenset({tuple, list}),
        _are_lists_of_texts,
        {"postgresql": lambda values: list(map(list, values)), "sqlite": _as_json, "mysql": _as_json},
    ),
}

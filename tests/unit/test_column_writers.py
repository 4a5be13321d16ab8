"""Columns of many values: what is bound, and what is refused, is what it is for each of them alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import HoldfastError
from holdfast.records.tables import Column, Kind
from holdfast.store.column_writers import column_writer
from holdfast.store.dialects import Dialect

DIALECTS = [Dialect("sqlite", "?"), Dialect("postgresql", "$"), Dialect("mysql", "?")]


class Mood(StrEnum):
    CALM = "calm"
    CROSS = "cross"


class Named(str):
    __slots__ = ()


TEXTS = st.sampled_from(
    ["", "plain", "ß", "a\0b", "\ud800", Named("odd"), Mood.CROSS, '"\\\x7f\x01\n', 7, b"x"]
)
MOMENTS = [
    datetime(2026, 1, 1, 2, 3, 4, 5, tzinfo=UTC),
    datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    datetime(2026, 1, 1),
    "2026-01-01",
]
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.INTEGER: st.sampled_from([0, -(2**63), 2**63 - 1, 2**63, -(2**63) - 1, True, 1.0, "1"]),
    Kind.REAL: st.sampled_from([0.5, -0.0, 3, math.nan, math.inf, 10**400, True, "1"]),
    Kind.BOOLEAN: st.sampled_from([True, False, 1, "yes"]),
    Kind.MOMENT: st.sampled_from(MOMENTS),
    Kind.DURATION: st.sampled_from([timedelta(1), 3]),
    Kind.BYTES: st.sampled_from([b"", bytearray(b"x"), "text"]),
    Kind.TEXTS: st.lists(TEXTS, max_size=3) | st.tuples(TEXTS) | st.sampled_from([(), "text", {"a": 1}, 3]),
    Kind.JSON: st.sampled_from([{}, {"a": [1, None]}, ({"b": 1},), math.nan]),
    Kind.PAYLOAD: st.sampled_from([1, "x", object()]),
}


@pytest.mark.parametrize("kind", list(Kind))
@settings(deadline=None)
@given(data=st.data(), dialect=st.sampled_from(DIALECTS), nullable=st.booleans(), is_closed=st.booleans())
def test_a_column_is_written_like_its_values(
    kind: Kind, data: st.DataObject, dialect: Dialect, nullable: bool, is_closed: bool
) -> None:
    closed = Mood if is_closed and kind is Kind.TEXT else None
    column = Column(name="it", kind=kind, nullable=nullable, type=closed)
    usual = data.draw(VALUES[kind])
    values = data.draw(st.lists(st.sampled_from([usual, None]) | VALUES[kind], min_size=1, max_size=6))
    write, write_all = dialect.writer(column), column_writer(dialect, column)
    assert outcome(lambda: list(write_all(values))) == outcome(lambda: [write(each) for each in values])


def outcome(written: Callable[[], list[Any]]) -> Any:
    """Values with their types all the way down, or the refusal."""
    try:
        return typed(written())
    except HoldfastError as error:
        return type(error), error.where, str(error)


def typed(value: Any) -> Any:
    return (type(value), [typed(each) for each in value]) if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_lists_of_texts_are_spelled_alike_with_every_character(dialect: Dialect) -> None:
    column = Column(name="it", kind=Kind.TEXTS)
    values = [(chr(code),) for code in [*range(1, 0xD800), *range(0xE000, 0x11000)]]
    write = dialect.writer(column)
    assert list(column_writer(dialect, column)(values)) == [write(value) for value in values]

"""Values that have broken other programs: own ones that are always there, and the Big List where it is.

The list is not part of the project: it lies beside the checkout in `shared/data`. A test that reads it is
named in the summary where it is missing.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

LIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "blns.json"

UNSTORABLE = ("\0", "a\0b", "\ud800", "a\udfff")
"""No text column of all databases takes these."""
LONG = ("x" * 256, "ä" * 128, "x" * 70_000)
OWN = (
    *UNSTORABLE, *LONG, "x" * 255, "ä" * 127, "😀" * 63, "", " ", "a", "A", "a ", " a", "ä", "a\u0308", "ß",
    "ss", "İ", "ﬃ", "'; DROP TABLE notes; --", '"', "\\", "%", "a_b", "a*[b]?", "\n", "a\tb", "\x01", "\x0b",
    "\x1b[31m", "\x7f", "\u2028", "\ufeff", "\u202e", "\uffff", "\U0010ffff", "NULL", "nan", "1e999",
    "9" * 30, "../../etc/passwd", "..", "con", "@last", "$hf", "?1", "$1", "{binary}", "\n-- then\n",
    "--help", "[1",
    "{{ x }}", "a,b", "日本語", "id:a", "9999-12-31T23:59:59-14:00",
)  # fmt: skip
"""Halves of pairs, lengths around the limits, pairs that some order or folding makes equal, and what means
something to a shell, a file system, a template, a query or a parser."""


def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings, line by line."""
    if not LIST.exists():
        pytest.skip(f"the list of naughty strings is not there: {LIST}")
    lines: list[str] = json.loads(LIST.read_text("utf-8"))
    return lines


class Odd:
    """A value of a type that nothing knows."""

    def __repr__(self) -> str:
        return "Odd()"


_BERLIN = ZoneInfo("Europe/Berlin")
_DEEP: Any = None
for _ in range(200):
    _DEEP = [_DEEP]
_JSON = [
    {"x": value} for value in (
        math.nan, math.inf, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 1e20, -0.0, 5e-324, 1e308, 0.1, True,
        None, Odd(), Decimal("1.10"), b"\0", (1,), datetime(2026, 1, 1, tzinfo=UTC), "\0", "\ud800", _DEEP,
    )
]  # fmt: skip
_JSON += [{key: 1} for key in ("", "\0", "\ud800", "$hf", "$$hf", "ä", "a", "A")]  # type: ignore[list-item]

FIELDS: dict[str, list[Any]] = {
    "title": [None, 7, b"x"],
    "mood": ["calm", "blue", "CALM", None, 7],
    "priority": [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**400, True, 1.0, None, "1"],
    "weight": [math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.1 + 0.2, 2**53, 10**400, True, "1"],
    "done": [True, 0, None, "true"],
    "due_at": [
        None, datetime(2026, 1, 1), date(2026, 1, 1), datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(1000, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=14))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(2026, 10, 25, 2, 30, tzinfo=_BERLIN), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=_BERLIN),
        datetime(2026, 3, 29, 2, 30, tzinfo=_BERLIN),
    ],
    "takes": [timedelta.max, timedelta.min, timedelta(microseconds=1), timedelta(microseconds=-1), 5, None],
    "tags": [("a", "a"), ("",), ("\x1b", '"', "\\", "ä"), ["a", "A"], (1,), ("a\0",), "text", None],
    "blob": [b"", bytes(range(256)), bytearray(b"x"), "text", None],
    "facts": [*_JSON, [], None, "text"],
    "anything": [*_JSON, None, "", 10**18, [1, "two", None]],
}  # fmt: skip
"""Values of every kind of field, good and bad."""

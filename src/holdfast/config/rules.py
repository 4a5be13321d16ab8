"""How one setting is declared: its kind, its words and its limits, beside the field that holds its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Kind = Literal[
    "text",
    "integer",
    "number",
    "boolean",
    "duration",
    "size",
    "path",
    "choice",
    "secret",
    "secrets",
    "url",
    "mode",
    "names",
    "hosts",
    "zone",
    "cron",
]

LISTS: frozenset[Kind] = frozenset({"names", "hosts", "secrets"})
"""Kinds whose value is several texts: a list in a file, one text with commas elsewhere."""
SECRETS: frozenset[Kind] = frozenset({"secret", "secrets", "url"})
"""Kinds that may carry a password."""

_MOMENT = timedelta(milliseconds=1)


class Rule(NamedTuple):
    """How one setting is read.

    `low` and `high` are inclusive; of a list, `low` 0 says that it may be empty. `later` are choices that
    are not available yet.
    """

    kind: Kind
    doc: str
    choices: tuple[str, ...] = ()
    spellings: Mapping[str, str] = MappingProxyType({})
    later: tuple[str, ...] = ()
    low: Any = None
    high: Any = None


class Setting(NamedTuple):
    """A setting by its dotted path; `default` is the value, not its text."""

    path: str
    rule: Rule
    default: Any


def setting(default: Any, kind: Kind, doc: str, **limits: Any) -> Any:
    """The field of a section for one setting."""
    return field(default=default, metadata={"rule": Rule(kind=kind, doc=doc, **limits)})


def duration(default: timedelta, doc: str, low: timedelta = _MOMENT) -> Any:
    """The field of a section for a duration."""
    return setting(default, "duration", doc, low=low)

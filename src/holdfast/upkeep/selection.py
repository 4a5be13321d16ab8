"""Which tables, and which of their rows, a copy is about."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.errors import InvalidArgument
from holdfast.records.catalogue import all_tables
from holdfast.records.tables import Column, Kind, Table
from holdfast.store.rows import microseconds

_ENGINE_GROUPS = {
    "executions": (
        "definitions", "executions", "execution_details", "payloads", "events", "inbox", "waits", "approvals",
        "mailboxes", "signals", "workers",
    ),
    "workflows": ("definitions", "workflows"),
    "queues": ("queues", "slots"),
    "streams": ("streams", "stream_events"),
}  # fmt: skip
"""Names for tables that mean little one without the other. Every other table is a group of its own."""
_KEY_BITS = 80  # below the 48 bits of milliseconds that a key begins with
_TIMES = ("updated_at", "at", "created_at")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is copied: the groups named (all if none), and of what has a time the rows since then.

    Of executions those count that were started since, with everything that belongs to them.
    """

    only: tuple[str, ...] = ()
    since: datetime | None = None

    def tables(self) -> list[Table]:
        """The tables, in the order in which they can be filled. Raises `InvalidArgument`."""
        every = all_tables()
        if not self.only:
            return list(every)
        wanted: set[str] = set()
        for name in self.only:
            wanted.update(_group(name, every))
        return [table for table in every if table.name in wanted]

    def beginning(self, table: Table) -> tuple[Column, int | bytes] | None:
        """The column and the least plain value of the rows that count; None where all do."""
        if self.since is None:
            return None
        owned = table.owner is not None and table.owner[0] == "executions"
        for name in ("key", "execution") if table.name == "executions" or owned else ():
            if name in table.names:
                return table.column(name), first_key(self.since)
        for name in _TIMES:
            if name in table.names and table.column(name).kind is Kind.MOMENT:
                return table.column(name), microseconds(self.since)
        return None


def first_key(moment: datetime) -> bytes:
    """The least key that an execution started at `moment` can have."""
    return (microseconds(moment) // 1000 << _KEY_BITS).to_bytes(16, "big")


def _group(name: str, every: Sequence[Table]) -> Sequence[str]:
    names = [table.name for table in every]
    if name in _ENGINE_GROUPS:
        return _ENGINE_GROUPS[name]
    grouped = {table for group in _ENGINE_GROUPS.values() for table in group}
    free = [table for table in names if table not in grouped]
    if name in free:
        return (name, *(table.name for table in every if table.owner is not None and table.owner[0] == name))
    known = [*_ENGINE_GROUPS, *free]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"
    raise InvalidArgument(f"there is nothing called {name!r} to copy", where="only", fix=hint)

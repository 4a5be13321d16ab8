"""Which rows make one document: a root row, and the rows of other tables that live and end with it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from holdfast.records.catalogue import all_tables
from holdfast.records.tables import Table

_NOT_MIRRORED = frozenset({"workers", "copies"})
"""What only means something to processes that run now."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One kind of document: its root, and what it holds of other tables."""

    root: Table
    parts: tuple[Table, ...]

    @property
    def name(self) -> str:
        """The folder of its documents."""
        return self.root.name

    @property
    def tables(self) -> tuple[Table, ...]:
        """The root, then the parts, in an order in which they can be filled."""
        return (self.root, *self.parts)


@functools.cache
def aggregates() -> dict[str, Aggregate]:
    """Every kind of document by its name, in an order in which they can be filled.

    What belongs to a row that itself belongs to another is a document of its own.
    """
    tables = [table for table in all_tables() if table.name not in _NOT_MIRRORED]
    owners = {table.name: table.owner[0] for table in tables if table.owner is not None}
    roots = [table for table in tables if owners.get(table.name) is None or owners[table.name] in owners]
    return {
        root.name: Aggregate(root, tuple(each for each in tables if owners.get(each.name) == root.name))
        for root in roots
    }


def root_columns(table: Table) -> tuple[str, ...]:
    """The columns of a part that name its root, in the order of the root's key."""
    known = aggregates()
    return table.key if table.owner is None or table.name in known else table.owner[1]

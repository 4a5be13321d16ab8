"""The editions of a runbook: which one runs, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import NoEdition, RecordNotFound
from holdfast.records.runbooks import RunbookEdition
from holdfast.store.drivers.base import Transaction
from holdfast.store.filters import Condition, Query
from holdfast.store.store import Store

if TYPE_CHECKING:
    from holdfast.workflows.definition import Definition


def parsed(definition: str, name: str) -> Definition:
    """The definition in the text of an edition; a runbook has no folder. Raises `InvalidDefinition`."""
    from holdfast.workflows.definition import parse

    return parse(definition, source=f"runbook {name}", folder=Path("/"))


async def locked(store: Store, transaction: Transaction, id: str, name: str) -> int:
    """The number of the edition that runs (0: none), with the row locked. Raises `RecordNotFound`."""
    rows = await transaction.fetch("runbooks.lock", store.tenant, id)
    if not rows or rows[0][2]:
        raise RecordNotFound(f"there is no runbook {name!r}", id=name)
    return int(rows[0][1])


async def edition_of(
    store: Store, runbook: str, name: str, number: int, *, within: Transaction | None = None
) -> RunbookEdition:
    """One edition of a runbook, by the runbook's id. Raises `RecordNotFound`."""
    editions = store.repo(RunbookEdition, within=within)
    column = editions.mapping.table.column
    asked = Query((Condition(column("runbook"), "=", runbook), Condition(column("edition"), "=", number)))
    page = await editions.find(asked, sort="edition", limit=1)
    if not page.items:
        raise RecordNotFound(f"runbook {name!r} has no edition {number}", id=name, edition=number)
    return page.items[0]


def unpublished(name: str) -> NoEdition:
    """The error for a runbook that has nothing to run."""
    return NoEdition(f"runbook {name!r} has no published edition", where=name, id=name)

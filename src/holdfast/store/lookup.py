"""A record by what a person types for it: its id, a unique beginning of its id, or `@last`."""

from __future__ import annotations

from typing import TypeVar

from holdfast.errors import RecordNotFound
from holdfast.records.declare import Record, noun_of
from holdfast.store.filters import Condition, Query
from holdfast.store.repository import Repository

R = TypeVar("R", bound=Record)
LAST = "@last"
BEHIND_ALL = "\U0010ffff"
"""Behind every character in the order of ids, which is that of code points on every database."""


async def look_up(records: Repository[R], id: str) -> R:
    """The record with this id, with this unique beginning of an id, or the newest for `@last`.

    An id that is typed whole wins over longer ones. Raises `RecordNotFound`, also when several begin so.
    """
    kind = noun_of(records.mapping.cls)
    if id == LAST:
        newest = (await records.find(limit=1)).items
        if not newest:
            raise RecordNotFound(f"there is no {kind} yet", where=LAST)
        return newest[0]
    exact = await records.find_by_id(id)
    if exact is not None:
        return exact
    column = records.mapping.table.column("id")
    bounds = (Condition(column, ">=", id), Condition(column, "<", id + BEHIND_ALL))
    found = (await records.find(Query(bounds), sort="id", limit=2)).items if id else []
    if len(found) == 1:
        return found[0]
    many = f"several {kind} records begin" if found else f"no {kind} begins"
    raise RecordNotFound(f"{many} with {id!r}", id=id)

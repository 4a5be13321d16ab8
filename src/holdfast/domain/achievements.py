"""Achievements: progress that only grows, and a moment at which a thing is earned, once."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.errors import InvalidArgument
from holdfast.records.declare import table_of
from holdfast.records.identity import Achievement
from holdfast.records.keys import new_id
from holdfast.store.drivers.base import Row
from holdfast.store.filters import Condition, Query
from holdfast.store.pages import Page
from holdfast.store.store import Store


@dataclass(frozen=True, slots=True)
class Progressed:
    """An achievement after a call of `progress`; `earned_now` is true for one caller ever."""

    achievement: Achievement
    earned_now: bool


class Achievements:
    """The achievements of a store's tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def progress(
        self,
        holder: str,
        key: str,
        *,
        to: float | None = None,
        by: float | None = None,
        title: str | None = None,
    ) -> Progressed:
        """Raise what a holder has of a thing `to` a value, or `by` so much; at 1 it is earned.

        Makes the achievement if there is none, titled by its key if no `title` is given. It never falls, and
        does not change any more once it is earned. One statement: of many callers at once every one counts,
        and exactly one earns it. Progress is kept to nine decimals. Raises `InvalidArgument`.
        """
        floor, step = _amounts(to, by)
        rows = await self._store.driver.fetch(
            "achievements.progress", self._store.tenant, new_id(), *_named(holder, key), title, floor, step
        )
        if rows:
            changed = self._record(rows[0])
            return Progressed(changed, changed.earned_at is not None)
        rows = await self._store.driver.fetch("achievements.get", self._store.tenant, holder, key)
        return Progressed(self._record(rows[0]), False)

    async def get(self, holder: str, key: str) -> Achievement | None:
        """What a holder has of a thing; None if nothing yet. Raises `InvalidArgument`."""
        rows = await self._store.driver.fetch("achievements.get", self._store.tenant, *_named(holder, key))
        return self._record(rows[0]) if rows else None

    async def of(
        self, holder: str, *, earned: bool | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Achievement]:
        """What a holder has, by key; with `earned` true or false only what is earned or not yet."""
        column = table_of(Achievement).column
        conditions = [Condition(column("holder"), "=", holder)]
        if earned is not None:
            conditions.append(Condition(column("earned_at"), "set" if earned else "unset"))
        achievements = self._store.repo(Achievement)
        return await achievements.find(Query(tuple(conditions)), sort="key", limit=limit, cursor=cursor)

    def _record(self, row: Row) -> Achievement:
        return self._store.repo(Achievement).mapping.record(row)


def _named(holder: str, key: str) -> tuple[str, str]:
    """Names that every database takes and compares alike."""
    column = table_of(Achievement).column
    for name, value in (("holder", holder), ("key", key)):
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            size = 0
        if "\0" in value or not 1 <= size <= 255:
            raise InvalidArgument(f"{column(name).name} has to be a text of 1 to 255 bytes", where=name)
    return holder, key


def _amounts(to: float | None, by: float | None) -> tuple[float, float]:
    """The value that progress is raised to at least, and what is added."""
    if (to is None) == (by is None):
        raise InvalidArgument("progress is raised either to a value or by one", where="progress")
    amount = float(to if to is not None else by or 0.0)
    if not 0.0 <= amount <= 1.0:
        raise InvalidArgument(f"progress {amount} is outside 0 to 1", where="progress")
    return (amount, 0.0) if to is not None else (0.0, amount)

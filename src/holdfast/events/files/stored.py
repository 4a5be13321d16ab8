"""Events as a store has them, in the form that lines are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from holdfast.events.files.lines import (
    About,
    LoggedEvent,
    about_queries,
    definition_key,
    definition_query,
    event_of,
    plain_rows,
    spell,
)
from holdfast.records.engine_tables import DEFINITIONS, EXECUTION_DETAILS, EXECUTIONS
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store
from holdfast.store.table_rows import Plain, pages, table_rows

PAGE = 500
_DEFINITIONS_KEPT = 1_000


class Abouts:
    """What the first lines of executions say of them; definitions are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dialect = dialect_of(store.driver)
        self._definitions: dict[tuple[str, bytes], Plain | None] = {}

    async def of(self, keys: Sequence[bytes]) -> dict[bytes, About]:
        """By key; those that are not there are left out."""
        if not keys:
            return {}
        fetch_text = self._store.driver.fetch_text
        executions_text, details_text = about_queries(self._dialect, len(keys))
        executions = plain_rows(EXECUTIONS, self._dialect, await fetch_text(executions_text, *keys))
        details = plain_rows(EXECUTION_DETAILS, self._dialect, await fetch_text(details_text, *keys))
        return {
            key: About(row, details.get(key), await self._definition(row)) for key, row in executions.items()
        }

    async def _definition(self, execution: Plain) -> Plain | None:
        tenant, hash = definition_key(execution)
        if (tenant, hash) not in self._definitions:
            if len(self._definitions) >= _DEFINITIONS_KEPT:
                self._definitions.clear()
            text = definition_query(self._dialect)
            rows = await self._store.driver.fetch_text(text, tenant, hash)
            into = table_rows(DEFINITIONS, self._dialect)
            self._definitions[tenant, hash] = into.plain(rows[0]) if rows else None
        return self._definitions[tenant, hash]


async def execution_keys(store: Store) -> AsyncIterator[list[tuple[bytes, str, str]]]:
    """Key, id and tenant of every execution of a store, oldest first, a page at a time."""
    names = EXECUTIONS.names
    places = [names.index(name) for name in ("key", "id", "tenant_id")]
    async for rows in pages(store.driver, table_rows(EXECUTIONS, dialect_of(store.driver))):
        yield [(row[places[0]], row[places[1]], row[places[2]]) for row in rows]


async def stored_events(store: Store, key: bytes, *, after: int = 0) -> AsyncIterator[LoggedEvent]:
    """The events of one execution behind a number, in order."""
    dialect = dialect_of(store.driver)
    while rows := await store.driver.fetch("events.whole_page", key, after, PAGE):
        for row in rows:
            event = event_of(row, dialect)
            after = event.seq
            yield event


async def exported(store: Store, keys: Sequence[bytes]) -> AsyncIterator[bytes]:
    """The lines of executions, one execution after the other."""
    abouts = Abouts(store)
    for begin in range(0, len(keys), PAGE):
        part = keys[begin : begin + PAGE]
        known = await abouts.of(part)
        for key in part:
            async for event in stored_events(store, key):
                yield spell(event, known.get(key) if event.seq == 1 else None)

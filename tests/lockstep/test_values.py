"""Values at the edges come back the same from every kind of store, or meet the same error on every one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conformance.notebooks import Note, write_migrations
from tests.lockstep import domain_operations as domain
from tests.lockstep import operations
from tests.lockstep.naughty import FIELDS, OWN, UNSTORABLE, naughty_strings
from tests.lockstep.worlds import Operation, World, compared, open_worlds, same

pytestmark = pytest.mark.anyio

GROUPS: dict[str, Sequence[Operation]] = {
    "records": operations.RECORDS,
    "executions": operations.EXECUTIONS,
    "people": domain.PEOPLE,
    "conversations": domain.CONVERSATIONS,
    "incidents": domain.INCIDENTS,
    "work": domain.WORK,
}
LISTED: Sequence[Operation] = (
    operations.note_id, operations.note_texts, operations.note_json, operations.note_search,
    operations.note_query, operations.execution_input, operations.execution_filing, operations.stream_events,
    domain.conversation_texts,
)  # fmt: skip
"""What every line of the Big List is tried as."""


@pytest.fixture(scope="module")
async def worlds(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory, postgres_url: str, mysql_url: str
) -> AsyncIterator[dict[str, World]]:
    folder = tmp_path_factory.mktemp("values")
    urls = {
        "memory": "memory://", "sqlite": f"sqlite:///{folder / 'holdfast.db'}",
        "file": f"file:///{folder / 'documents'}", "postgresql": postgres_url, "mysql": mysql_url,
    }  # fmt: skip
    async with open_worlds(urls, write_migrations(folder / "own")) as worlds:
        yield worlds


@pytest.mark.parametrize("group", GROUPS)
async def test_texts_at_the_edges(worlds: dict[str, World], group: str) -> None:
    for operation in GROUPS[group]:
        kinds = Counter[str]()
        for number, value in enumerate(OWN):
            kind, _ = await compared(worlds, operation, value, f"{operation.__name__}-{number}")
            kinds[kind] += 1
        assert sum(kinds.values()) == len(OWN)


@pytest.mark.parametrize("operation", LISTED, ids=lambda each: each.__name__)
async def test_every_line_of_the_big_list(worlds: dict[str, World], operation: Operation) -> None:
    for number, value in enumerate(naughty_strings()):
        await compared(worlds, operation, value, f"listed-{operation.__name__}-{number}")


@pytest.mark.parametrize("field", FIELDS)
async def test_values_of_every_kind(worlds: dict[str, World], field: str) -> None:
    async def written(world: World, value: Any, new: str) -> Any:
        note = replace(Note(id=new, title="x"), **{field: value})
        await world.notes.create(note)
        read = await world.notes.get(new)
        await world.notes.create_many([replace(note, id=f"{new}-bulk")])
        again = await world.notes.get(f"{new}-bulk")
        assert repr(getattr(read, field)) == repr(getattr(again, field))
        expected = value.astimezone(UTC) if isinstance(value, datetime) else value
        assert getattr(read, field) == expected or field in ("tags", "blob", "facts")
        return getattr(read, field)

    for number, value in enumerate(FIELDS[field]):
        await compared(worlds, written, value, f"{field}-{number}")


async def test_what_no_database_takes_is_refused(worlds: dict[str, World]) -> None:
    for number, value in enumerate(UNSTORABLE):
        for operation in (operations.note_id, operations.note_texts, operations.note_by_id):
            told = await compared(worlds, operation, value, f"refused-{operation.__name__}-{number}")
            assert told == ("error", "InvalidData")


async def test_the_documents_are_written(worlds: dict[str, World]) -> None:
    """Nothing that the other tests have left behind keeps the file store from writing documents."""
    driver = worlds["file"].store.driver
    asked = "SELECT 1 FROM mirror_pending LIMIT 1"
    async with asyncio.timeout(60):
        while await driver.fetch_text(asked):  # noqa: ASYNC110 - nothing tells that the last one is written
            await asyncio.sleep(0.05)


async def test_a_difference_is_found(worlds: dict[str, World]) -> None:
    async def differing(world: World, value: str, new: str) -> Any:
        return world.store.driver.dialect

    async def lossy(world: World, value: str, new: str) -> Any:
        same("a ", value.strip())

    for operation, words in ((differing, "mysql"), (lossy, "lossy")):
        with pytest.raises(AssertionError, match=words):
            await compared(worlds, operation, "a ", "x")

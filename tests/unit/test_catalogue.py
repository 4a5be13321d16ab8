"""What the code declares and what the tables say are the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import apsw
import pytest

from holdfast.records.events import RESULTS, EventType
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.store import migrations
from holdfast.store.drivers.base import EventRow, NewExecution
from holdfast.stores import build_store, config_for

pytestmark = pytest.mark.anyio

RENAMED = {"tenant_id": "tenant"}
INTERNAL = {
    "blocked_on", "class", "dedupe_key", "detached", "limit_key", "parent_path", "schedule",
}  # fmt: skip
"""Columns of `executions` that no record shows yet."""


async def columns(url: str) -> dict[str, list[str]]:
    """Columns by table, as the catalogue of the database at `url` lists them."""
    store = build_store(config_for(url), create=True)
    await store.open(migrate=True)
    if store.driver.dialect == "postgresql":
        text = (
            "SELECT table_name::text, column_name::text FROM information_schema.columns "
            "WHERE table_schema = 'holdfast' ORDER BY table_name, ordinal_position"
        )
    else:
        text = (
            "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c "
            "WHERE m.type IN ('table', 'view') ORDER BY m.name, c.cid"
        )
    found: dict[str, list[str]] = {}
    for table, column in await store.driver.fetch_text(text):
        found.setdefault(table, []).append(column)
    await store.close()
    return found


async def test_an_execution_has_the_columns_of_its_record(store_url: str) -> None:
    table = (await columns(store_url))["executions"]
    record = {field.name for field in dataclasses.fields(Execution)}
    assert {RENAMED.get(column, column) for column in table} - INTERNAL == record
    created = {*NewExecution._fields} - {"class_", "due_in_us", "tags", "trigger_source", "started_by"}
    assert created <= set(table)


async def test_an_event_has_the_columns_its_writer_gives(store_url: str) -> None:
    table = set((await columns(store_url))["events"])
    assert set(EventRow._fields) <= table
    assert table - set(EventRow._fields) <= {"tenant_id", "at", "position", "xid"}


async def test_both_databases_have_the_same_tables(tmp_path: Path, fresh_postgres: str) -> None:
    here = await columns(f"sqlite:///{tmp_path}/x.db")
    there = await columns(fresh_postgres)
    own = {"position", "xid"}  # the order of commits, which each tells in its own way
    for table, names in here.items():
        assert set(names) - own == set(there[table]) - own, table
    partition = re.compile(r"_(default|\d{4}_\d{2})$")
    assert {table for table in there if not partition.search(table)} == set(here)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_checks_list_what_the_code_knows(dialect: str) -> None:
    folder = Path(migrations.__file__).parent / dialect
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.sql")))
    statuses = re.search(r"CHECK \(status IN \(([^)]*)\)\)", text)
    types = re.search(r"CHECK \(type IN \(([^)]*)\)\)", text)
    assert statuses is not None
    assert types is not None
    assert set(re.findall(r"'([^']+)'", statuses[1])) == {*ExecutionStatus}
    assert set(re.findall(r"'([^']+)'", types[1])) == {*EventType}


def test_results_are_events_and_ends_are_not_results() -> None:
    assert set(EventType) >= RESULTS
    assert not any(kind.startswith("execution.") for kind in RESULTS)


def test_the_library_is_new_enough_for_shared_files() -> None:
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)

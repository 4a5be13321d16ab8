"""What the code declares and what the tables say are the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import apsw
import pytest

from holdfast.records.catalogue import RECORDS
from holdfast.records.declare import table_of
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
FOR_SEARCHES = {"position", "search", "words_first", "words_rest"}
ORDER = {"position", "xid"}
"""The order of commits, which each database tells in its own way."""
MONITORING = {"connection_stats", "index_usage_stats", "table_bloat", "table_scans", "table_sizes"}
"""Views of what PostgreSQL counts; the other databases count no such thing."""


async def columns(url: str) -> dict[str, list[str]]:
    """Columns by table, as the catalogue of the database at `url` lists them."""
    store = build_store(config_for(url), create=True)
    await store.open(migrate=True)
    if store.driver.dialect == "postgresql":
        text = (
            "SELECT c.relname::text, a.attname::text FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') "
            "ORDER BY c.relname, a.attnum"
        )
    elif store.driver.dialect == "mysql":
        # Without the stored columns that stand for partial indexes.
        text = (
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND coalesce(generation_expression, '') = '' "
            "ORDER BY table_name, ordinal_position"
        )
    else:
        text = (
            "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c "
            "WHERE m.type IN ('table', 'view') AND m.name NOT LIKE '%!_words%' ESCAPE '!' "
            "ORDER BY m.name, c.cid"
        )
    found: dict[str, list[str]] = {}
    for table, column in await store.driver.fetch_text(text):
        found.setdefault(table, []).append(column)
    await store.close()
    return found


async def test_records_have_the_columns_of_their_tables(store_url: str) -> None:
    found = await columns(store_url)
    for cls in RECORDS:
        table = table_of(cls)
        assert set(table.names) <= set(found[table.name]), table.name
        assert set(found[table.name]) - set(table.names) <= FOR_SEARCHES, table.name


async def test_an_execution_has_the_columns_of_its_record(store_url: str) -> None:
    table = (await columns(store_url))["executions"]
    record = {field.name for field in dataclasses.fields(Execution)}
    assert {RENAMED.get(column, column) for column in table} - INTERNAL == record
    details = {"tags", "trigger_source", "started_by", "metadata", "context"}
    created = {*NewExecution._fields} - {"class_", "due_in_us", *details}
    assert created <= set(table)


async def test_an_event_has_the_columns_its_writer_gives(store_url: str) -> None:
    table = set((await columns(store_url))["events"])
    assert set(EventRow._fields) <= table
    assert table - set(EventRow._fields) <= {"tenant_id", "at", *ORDER}


async def test_both_databases_have_the_same_tables(tmp_path: Path, fresh_postgres: str) -> None:
    here = await columns(f"sqlite:///{tmp_path}/x.db")
    there = await columns(fresh_postgres)
    for table, names in here.items():
        assert set(names) - ORDER == set(there[table]) - ORDER - {"search"}, table
    partition = re.compile(r"_(default|\d{4}_\d{2})$")
    assert {table for table in there if not partition.search(table)} - MONITORING == set(here)
    assert set(there) >= MONITORING


async def test_mysql_has_the_same_tables(tmp_path: Path, fresh_mysql: str) -> None:
    here = await columns(f"sqlite:///{tmp_path}/x.db")
    there = await columns(fresh_mysql)
    digest = {"path_digest"}  # what an index can not take in whole
    for table, names in here.items():
        assert set(names) - ORDER == set(there[table]) - ORDER - digest, table
    assert set(there) - {"log_eras", "schema_migration_steps"} == set(here)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
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

"""How hot statements find their rows: by an index, and without reading what is not theirs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from holdfast.store.sql import Statements
from holdfast.stores import build_store, config_for

pytestmark = pytest.mark.anyio

EXECUTIONS = 3_000
KEY = bytes(15) + b"\x07"

_EXECUTION = """
INSERT INTO {schema}executions (key, tenant_id, id, workflow, version, definition, fingerprint, status,
    queue, epoch, parent, parent_path, created_at, finished_at)
"""


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[apsw.Connection]:
    store = build_store(config_for(f"sqlite:///{tmp_path}/x.db"), create=True)
    await store.open(migrate=True)
    await store.close()
    connection = apsw.Connection(str(tmp_path / "x.db"))
    connection.create_scalar_function("hf_now", lambda: 0, 0)
    connection.execute(
        f"""
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {EXECUTIONS})
        {_EXECUTION.format(schema="")}
        SELECT unhex(printf('%032x', i)), 'default', 'id-' || i, 'w', '1', x'00',
               unhex(printf('%08x', i % 50)),
               CASE WHEN i % 10 THEN 'completed' ELSE 'ready' END, 'q', 1, NULL, NULL, i,
               CASE WHEN i % 10 THEN i END FROM n;
        INSERT INTO events (execution, seq, tenant_id, epoch, type, path, result, at)
        SELECT key, s.value, 'default', 1, 'step.completed', 'p' || s.value, 1, 0
        FROM executions, (SELECT value FROM json_each('[1,2,3,4,5]')) s;
        ANALYZE;
        """
    )
    yield connection
    connection.close()


PLANS = [
    ("events.history", (KEY,), "SEARCH e USING INDEX sqlite_autoindex_events_1 (execution=?)"),
    ("events.page", (KEY, 0, 10), "(execution=? AND seq>?)"),
    ("events.input", (KEY, "p", 0), "SEARCH events USING INDEX sqlite_autoindex_events_1 (execution=?)"),
    ("journal.recorded", (KEY, 1, "p", 0, 1), "events"),
    ("journal.stands", (KEY, 1, 1), "(execution=? AND seq=?)"),
    ("journal.fence", (KEY,), "executions USING INDEX sqlite_autoindex_executions_1 (key=?)"),
    ("journal.transition", ("ready", None, None, KEY), "(key=?)"),
    ("executions.get", ("default", "id-7"), "(tenant_id=? AND id=?)"),
    ("executions.by_prefix", ("default", "id-7"), "(tenant_id=? AND id>? AND id<?)"),
    ("executions.unfinished_twins", ("default", b"\0"), "executions_unfinished (tenant_id=? AND"),
    ("control.unfinished_children", (KEY,), "INDEX executions_children (parent=?)"),
    ("executions.wakes", ("[]",), "(key=?)"),
    ("inbox.read", (KEY,), "(execution=?)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "how"), PLANS, ids=[plan[0] for plan in PLANS])
async def test_sqlite_searches_by_an_index(
    sqlite: apsw.Connection, name: str, values: tuple[Any, ...], how: str
) -> None:
    text = Statements("sqlite", now="hf_now()")[name]
    plan = [row[3] for row in sqlite.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert any(how in line for line in plan), plan
    scans = [line for line in plan if line.startswith("SCAN") and "json_each" not in line]
    assert not scans, plan


@pytest.fixture
async def postgresql(fresh_postgres: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    store = build_store(config_for(fresh_postgres), create=True)
    await store.open(migrate=True)
    await store.close()
    connection = await asyncpg.connect(fresh_postgres)
    # Keys of this month and of the two after it, so that they lie in three partitions.
    await connection.execute(
        f"""
        {_EXECUTION.format(schema="holdfast.")}
        SELECT substring(holdfast.key_at(now() + make_interval(months => i % 3)) FROM 1 FOR 6)
               || decode(lpad(to_hex(i), 20, '0'), 'hex'),
               'default', 'id-' || i, 'w', '1', '\\x00', int4send(i % 50),
               CASE WHEN i % 10 > 0 THEN 'completed' ELSE 'ready' END, 'q', 1, NULL, NULL, now(),
               CASE WHEN i % 10 > 0 THEN now() END
        FROM generate_series(0, {EXECUTIONS}) i;
        INSERT INTO holdfast.events (execution, seq, tenant_id, epoch, type, path, result, at)
        SELECT key, s, 'default', 1, 'step.completed', 'p' || s, true, now()
        FROM holdfast.executions, generate_series(1, 5) s;
        ANALYZE holdfast.executions; ANALYZE holdfast.events;
        """
    )
    yield connection
    await connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explained(
    connection: asyncpg.Connection[Any], text: str, *values: Any, analyze: bool = False
) -> list[dict[str, Any]]:
    options = "FORMAT JSON, ANALYZE" if analyze else "FORMAT JSON"
    (row,) = await connection.fetch(f"EXPLAIN ({options}) {text}", *values)
    return list(nodes(json.loads(row[0])[0]["Plan"]))


def tables(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in plan if "Relation Name" in node}


async def test_postgresql_searches_by_an_index_in_one_partition(
    postgresql: asyncpg.Connection[Any],
) -> None:
    statements = Statements("postgresql", schema='"holdfast"', now="now()")
    key = await postgresql.fetchval("SELECT key FROM holdfast.executions WHERE id = 'id-7'")
    plan = await explained(postgresql, statements["events.history"], key)
    assert not [
        node for node in plan if node["Node Type"] == "Seq Scan" and "events" in node["Relation Name"]
    ]
    assert len({table for table in tables(plan) if table.startswith("events")}) == 1
    assert len({table for table in tables(plan) if table.startswith("payloads")}) == 1

    for name, values, index in (
        ("executions.get", ("default", "id-7"), "executions_tenant_id_id_key"),
        ("executions.unfinished_twins", ("default", b"\0\0\0\x0a"), "executions_unfinished"),
        ("control.unfinished_children", (key,), "executions_children"),
        ("executions.by_key", (key,), "executions_pkey"),
        ("executions.wakes", ([key],), "executions_pkey"),
    ):
        plan = await explained(postgresql, statements[name], *values)
        used = {node.get("Index Name") for node in plan}
        assert index in used, (name, plan)


async def test_a_flush_on_postgresql_touches_its_own_rows_alone(
    postgresql: asyncpg.Connection[Any],
) -> None:
    """The fence and the insert of one entry, as they run: nothing reads a table."""
    text = Statements("postgresql", schema='"holdfast"', now="now()")["journal.append"]
    key = await postgresql.fetchval("SELECT key FROM holdfast.executions WHERE id = 'id-10'")
    event = (key, 6, 1, "step.completed", "p6", 0, None, 1, True, None, None, None, b"1", None)
    # The driver plans its statements once, without the table scans that a plan for few rows can have.
    await postgresql.execute("SET enable_seqscan = off")
    plan = await explained(postgresql, text, [key], [1], [event], analyze=True)
    assert "executions_pkey" in {node.get("Index Name") for node in plan}
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"]
    inserted = [node for node in plan if node["Node Type"] == "ModifyTable"]
    assert [node["Actual Rows"] for node in inserted] == [1]

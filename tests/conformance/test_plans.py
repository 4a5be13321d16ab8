"""How hot statements find their rows: by an index, and without reading what is not theirs."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import apsw
import asyncmy
import asyncpg
import pytest

from holdfast.config.loader import load
from holdfast.store.drivers import postgresql_connection
from holdfast.store.drivers.mysql_server import server_of
from holdfast.store.drivers.mysql_text import compiled
from holdfast.store.drivers.postgresql import _JOURNAL_SETTINGS
from holdfast.store.sql import Statements
from holdfast.stores import build_store, config_for, open_store

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
    ("events.whole_page", (KEY, 0, 10), "(execution=? AND seq>?)"),
    ("events.whole", (0, 10), "INTEGER PRIMARY KEY (rowid>?)"),
    ("events.input", (KEY, "p", 0), "SEARCH events USING INDEX sqlite_autoindex_events_1 (execution=?)"),
    ("journal.recorded", (KEY, 1, "p", 0, 1), "events"),
    ("journal.stands", (KEY, 1, 1), "(execution=? AND seq=?)"),
    ("journal.fence", (KEY,), "executions USING INDEX sqlite_autoindex_executions_1 (key=?)"),
    ("journal.transition", ("ready", None, None, KEY), "(key=?)"),
    ("executions.get", ("default", "id-7"), "(tenant_id=? AND id=?)"),
    ("executions.by_prefix", ("default", "id-7"), "(tenant_id=? AND id>? AND id<?)"),
    ("executions.unfinished_twins", ("default", b"\0"), "executions_unfinished (tenant_id=? AND"),
    ("control.unfinished_children", (KEY,), "INDEX executions_open_children (parent=?)"),
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
        ("control.unfinished_children", (key,), "executions_open_children"),
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


BOOT = bytes(15) + b"\x01"
PAGE = 20
_BACKLOG = """
INSERT INTO holdfast.executions (key, tenant_id, id, workflow, version, definition, fingerprint, status,
                                 queue, epoch, created_at, finished_at)
SELECT substring(holdfast.key_at(now()) FROM 1 FOR 6) || decode(lpad(to_hex(100000 + i), 20, '0'), 'hex'),
       'default', 'more-' || i, 'w', '1', '\\x00', int4send(i),
       CASE WHEN i < 2000 THEN 'completed' ELSE 'ready' END, 'q', 0, now(),
       CASE WHEN i < 2000 THEN now() END
FROM generate_series(0, 24000) i;
INSERT INTO holdfast.workers (boot_id, program, host, pid, started_at, lease_until)
VALUES ('\\x00000000000000000000000000000001', 'worker', 'h', 1, now(), now() + interval '1 hour');
"""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fleet.claim", ("q", "io", "default", BOOT, PAGE, [], 99)),
        ("fleet.claim_oldest", ("q", "io", "default", BOOT, PAGE, [], 99)),
        ("queues.candidates", ("q", "io", "default", PAGE, [])),
        ("queues.candidates_by_age", ("q", "io", "default", PAGE, [])),
        ("fleet.peek", (["q"], ["io", "cpu"], "", [], 256)),
    ],
)
async def test_a_claim_from_a_deep_queue_passes_by_what_has_ended(
    postgresql: asyncpg.Connection[Any], name: str, values: tuple[Any, ...]
) -> None:
    """Much waits behind much that has ended: it is found in the order of the queue, not in that of keys."""
    await postgresql.execute(_BACKLOG)
    await postgresql.execute("VACUUM ANALYZE holdfast.executions")
    text = Statements("postgresql", schema='"holdfast"', now="now()")[name]
    plan = await explained(postgresql, text, *values, analyze=True)
    read = [node for node in plan if node.get("Relation Name") == "executions"]
    assert not [node for node in read if node["Node Type"] == "Seq Scan"]
    assert "executions_ready" in {node.get("Index Name") for node in read}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 4 * PAGE
    assert sum(node.get("Rows Removed by Filter", 0) for node in read) <= 2


_GROWN = """
INSERT INTO holdfast.executions (key, tenant_id, id, workflow, version, definition, fingerprint, status,
                                 queue, epoch, created_at, finished_at)
SELECT substring(holdfast.key_at(now()) FROM 1 FOR 6) || decode(lpad(to_hex(i), 20, '0'), 'hex'),
       'default', 'id-' || i, 'w', '1', '\\x00', int4send(i),
       CASE WHEN i % 4 = 0 THEN 'ready' ELSE 'completed' END, 'q', 1, now(),
       CASE WHEN i % 4 > 0 THEN now() END
FROM generate_series({first}, {last}) i;
INSERT INTO holdfast.events (execution, seq, tenant_id, epoch, type, path, result, at)
SELECT key, n, 'default', 1, 'step.completed', 'p' || n, true, now()
FROM holdfast.executions, generate_series(1, 2) n ON CONFLICT DO NOTHING;
INSERT INTO holdfast.inbox (execution, message, tenant_id, kind, created_at)
SELECT key, key, 'default', 'signal', now() FROM holdfast.executions ON CONFLICT DO NOTHING;
INSERT INTO holdfast.payloads (execution, digest, tenant_id, body)
SELECT key, sha256(key), 'default', 'x' FROM holdfast.executions ON CONFLICT DO NOTHING;
"""


async def test_the_journal_s_plans_search_whatever_size_they_were_made_for(fresh_postgres: str) -> None:
    """Made for good while little was there, they must not read whole what grows."""
    store = build_store(config_for(fresh_postgres), create=True)
    await store.open(migrate=True)
    await store.close()
    connection = await asyncpg.connect(fresh_postgres)
    statements = Statements("postgresql", schema='"holdfast"', now="now()")
    for setting, value in _JOURNAL_SETTINGS.items():
        await connection.execute(f"SET {setting} = {value}")
    before = 0
    for size in (0, 1, 5, 20, 100, 300, 2000):
        if size:
            await connection.execute(_GROWN.format(first=before, last=size - 1))
            await connection.execute("ANALYZE holdfast.executions, holdfast.events, holdfast.inbox")
            before = size
        for name in ("journal.append", "journal.flush", "journal.examine"):
            text = statements[name]
            count = max(int(number) for number in re.findall(r"\$(\d+)", text))
            values = ", ".join(["NULL"] * count)
            await connection.execute(f"PREPARE looked_at AS {text}")
            (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE looked_at({values})")
            await connection.execute("DEALLOCATE looked_at")
            plan = [*nodes(json.loads(row[0])[0]["Plan"])]
            whole = [
                (node["Relation Name"], node.get("Index Name"))
                for node in plan
                if "Scan" in node["Node Type"]
                and node.get("Relation Name", "slots") != "slots"  # as long as the limits of queues are high
                and "Index Cond" not in node
                and "Recheck Cond" not in node
            ]
            assert not whole, (name, size, whole)
            leading = [node for node in plan if node.get("Index Name") == "executions_unfinished"]
            assert not leading, (name, size)
    await connection.close()


@pytest.mark.parametrize("anew", [True, False])
async def test_a_plan_that_was_made_for_an_empty_table_is_not_kept(
    fresh_postgres: str, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """Nobody analyses the tables here. Without new plans, all of a table is read for a few of its keys."""
    monkeypatch.setattr(postgresql_connection, "PLANNED_FOR_S", 0.0 if anew else 1e9)
    pool = {"storage.postgresql.pool.min": "1", "storage.postgresql.pool.max": "1"}
    config = load(environ={}, cwd=Path.cwd(), flags={"storage.url": fresh_postgres, **pool}).config
    async with open_store(config, migrate=True) as store:
        await store.driver.fetch_text("ALTER TABLE holdfast.executions SET (autovacuum_enabled = off)")
        for _ in range(20):
            await store.driver.fetch("executions.wakes", [KEY])
        other = await asyncpg.connect(fresh_postgres)
        await other.execute(_GROWN.format(first=0, last=5_000))
        await other.close()
        for _ in range(postgresql_connection.PLANNED_FOR_READS + 1):
            await store.driver.fetch("executions.wakes", [KEY])
        ((name,),) = await store.driver.fetch_text(
            "SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT key, epoch, wakes%'"
        )
        ((found,),) = await store.driver.fetch_text(f"EXPLAIN (FORMAT JSON) EXECUTE {name}('{{}}')")
    kinds = {node["Node Type"] for node in nodes(json.loads(found)[0]["Plan"])}
    assert ("Seq Scan" in kinds) is not anew, kinds


_REFERENCES = """
INSERT INTO {waits} (execution, path, tenant_id, name, created_at)
    SELECT key, 'w', 'default', 'go', created_at FROM {executions};
INSERT INTO {approvals} (tenant_id, id, execution, path, title, status, decided_at, created_at)
    SELECT 'default', id, key, 'a', '?', CASE WHEN finished_at IS NULL THEN 'pending' ELSE 'approved' END,
           finished_at, created_at FROM {executions};
INSERT INTO {tasks} (tenant_id, id, execution, path, capability, priority, status, max_attempts, lease,
                     created_at, updated_at)
    SELECT 'default', id, key, 't', 'c', 0, CASE WHEN finished_at IS NULL THEN 'pending' ELSE 'completed' END,
           3, 1, created_at, created_at FROM {executions};
INSERT INTO {inbox} (execution, message, tenant_id, kind, name, created_at)
    SELECT key, key, 'default', 'signal', 'w' || {separator} || 'go', created_at FROM {executions};
UPDATE {executions} SET parent = key, parent_path = 'c';
"""
_TABLES = ("waits", "approvals", "tasks", "inbox", "executions")


async def test_a_round_on_postgresql_reads_a_page_of_each_index(postgresql: asyncpg.Connection[Any]) -> None:
    names = {table: f"holdfast.{table}" for table in _TABLES}
    await postgresql.execute(_REFERENCES.format(**names, separator="chr(31)"))
    await postgresql.execute("VACUUM ANALYZE holdfast.executions")
    for table in _TABLES[:-1]:
        await postgresql.execute(f"VACUUM ANALYZE holdfast.{table}")
    text = Statements("postgresql", schema='"holdfast"', now="now()")["leaving.page"]
    plan = await explained(postgresql, text, b"\xff" * 16, 20, analyze=True)
    read = [node for node in plan if "Relation Name" in node]
    assert {node["Relation Name"] for node in read} == set(_TABLES)
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 5 * 20
    removed = [node.get("Rows Removed by Filter", 0) for node in read]
    assert max(removed) == 0


async def test_a_round_on_sqlite_reads_a_page_of_each_index(sqlite: apsw.Connection) -> None:
    sqlite.execute(_REFERENCES.format(**{table: table for table in _TABLES}, separator="char(31)"))
    sqlite.execute("ANALYZE")
    text = Statements("sqlite", now="hf_now()")["leaving.page"]
    plan = [row[3] for row in sqlite.execute(f"EXPLAIN QUERY PLAN {text}", (b"\xff" * 16, 20))]
    searched = [line for line in plan if line.startswith("SEARCH")]
    for index in (
        "waits USING PRIMARY KEY (execution<?)",
        "approvals_open (execution<?)",
        "tasks_open (execution",
        "executions_open_children (parent",
        "sqlite_autoindex_inbox_1 (execution<?)",
    ):
        assert [line for line in searched if index in line], (index, searched)
    assert not [line for line in plan if line.startswith("SCAN") and "subquery" not in line], plan


# MySQL and MariaDB.

_MYSQL_FILL = """
INSERT INTO executions (`key`, tenant_id, id, workflow, version, definition, fingerprint, status, queue,
                        priority, epoch, owner, due_at, blocked_on, limit_key, parent, parent_path,
                        created_at, finished_at)
SELECT UNHEX(LPAD(HEX(n), 32, '0')), 'default', CONCAT('id-', n), 'w', '1', X'00',
       UNHEX(LPAD(HEX(n % 50), 8, '0')),
       CASE n % 10 WHEN 0 THEN 'ready' WHEN 1 THEN 'waiting' WHEN 2 THEN 'running' WHEN 3 THEN 'failed'
            ELSE 'completed' END,
       CONCAT('q', n % 7), n % 3, 1, CASE WHEN n % 10 = 2 THEN UNHEX(LPAD(HEX(n % 5), 32, '0')) END,
       CASE WHEN n % 20 = 1 THEN '2026-01-01' END,
       CASE WHEN n % 20 = 11 THEN CONCAT('slot:q1:key:', n % 4) END, 'k',
       CASE WHEN n % 10 = 0 THEN UNHEX(LPAD(HEX(n), 32, '0')) END, CASE WHEN n % 10 = 0 THEN 'c' END,
       '2026-01-01', CASE WHEN n % 10 > 2 THEN '2026-01-02' END
FROM JSON_TABLE(%s, '$[*]' COLUMNS (n INT PATH '$')) numbers;
INSERT INTO events (execution, seq, tenant_id, epoch, type, path, result, at)
SELECT `key`, n, 'default', 1, 'step.completed', CONCAT('p', n), 1, '2026-01-01'
FROM executions, JSON_TABLE('[1, 2, 3, 4, 5]', '$[*]' COLUMNS (n INT PATH '$')) numbers;
INSERT INTO waits (execution, path, path_digest, tenant_id, name, created_at)
SELECT `key`, 'w', UNHEX(SHA2('w', 256)), 'default', 'go', created_at FROM executions;
INSERT INTO approvals (tenant_id, id, execution, path, title, status, decided_at, created_at)
SELECT 'default', id, `key`, 'a', '?', CASE WHEN finished_at IS NULL THEN 'pending' ELSE 'approved' END,
       finished_at, created_at FROM executions;
INSERT INTO tasks (tenant_id, id, execution, path, capability, priority, status, agent, lease_until, lease,
                   created_at, updated_at)
SELECT 'default', id, `key`, 't', 'c', 0,
       CASE status WHEN 'ready' THEN 'pending' WHEN 'running' THEN 'claimed' ELSE 'completed' END,
       CASE WHEN status = 'running' THEN 'a' END, CASE WHEN status = 'running' THEN '2026-01-01' END, 1,
       created_at, created_at FROM executions;
INSERT INTO inbox (execution, message, tenant_id, kind, name, created_at)
SELECT `key`, `key`, 'default', 'signal', CONCAT('w', CHAR(31 USING utf8mb4), 'go'), created_at
FROM executions;
INSERT INTO workers (boot_id, program, host, pid, started_at, lease_until)
VALUES (UNHEX(LPAD('1', 32, '0')), 'worker', 'h', 1, '2026-01-01', '2126-01-01');
UPDATE log_eras SET events_before = 1000000;
ANALYZE TABLE executions, events, waits, approvals, tasks, inbox
"""


@pytest.fixture
async def mysql(made_mysql: str) -> AsyncIterator[tuple[Any, str]]:
    """A connection to a store that is full of everything, and the collation its server compares bytes by."""
    place = urlsplit(made_mysql)
    raw = await asyncmy.connect(
        host=place.hostname, port=place.port or 3306, user=unquote(place.username or ""),
        password=unquote(place.password or ""), database=place.path[1:], charset="utf8mb4", autocommit=True,
    )  # fmt: skip
    async with raw.cursor() as cursor:
        await cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        for text in _MYSQL_FILL.split(";\n"):
            await cursor.execute(text.replace("%s", f"'{json.dumps(list(range(EXECUTIONS)))}'"))
        yield cursor, server_of(raw.get_server_info(), "test").binary
    await raw.ensure_closed()


NONE = "[]"
MYSQL_PLANS = [
    # The statement, its values, the index that one of its steps goes by, and how many rows it may read.
    ("fleet.claim", ("q0", "io", "default", BOOT, PAGE, NONE, 99), "executions_ready", 8 * PAGE),
    ("fleet.claim_oldest", ("q0", "io", "default", BOOT, PAGE, NONE, 99), "executions_ready", 8 * PAGE),
    ("fleet.peek", ('["q0", "q1"]', '["io"]', "", NONE, 256), "executions_ready", 100),
    ("fleet.wake_due", (PAGE,), "executions_due", 8 * PAGE),
    ("fleet.unblock", ("slot:q1:key:3", PAGE), "executions_blocked", 8 * PAGE),
    ("fleet.recover", (BOOT, PAGE), "executions_owned", 16 * PAGE),
    ("queues.candidates", ("q0", "io", "default", PAGE, NONE), "executions_ready", 2 * PAGE),
    ("queues.candidates_by_age", ("q0", "io", "default", PAGE, NONE), "executions_ready", 2 * PAGE),
    ("queues.promote", ("slot:q1:key:3", PAGE), "executions_blocked", 8 * PAGE),
    ("queues.unfinished", (PAGE,), "executions_unfinished", 4 * PAGE),
    ("queues.running", (PAGE,), "executions_owned", 4 * PAGE),
    ("tasks.claim", ("default", "c", "a"), "tasks_pending", 10),
    ("tasks.lapsed", (PAGE,), "tasks_claimed", 2 * PAGE),
    ("signals.first_wait", ("default", "go", None), "waits_by_name", 5),
    ("leaving.page", (b"\xff" * 16, PAGE), "tasks_open", 24 * PAGE),
    ("events.history", (KEY,), "PRIMARY", 20),
    ("events.follow", (0, PAGE, "default"), "events_log_order", 8 * PAGE),
    ("events.whole", (0, PAGE, False), "events_log_order", 8 * PAGE),
    ("events.whole", (0, PAGE, True), "events_log_order", 8 * PAGE),
    ("events.whole_page", (KEY, 0, 10), "PRIMARY", 20),
    ("executions.get", ("default", "id-7"), "executions_by_id", 5),
    ("executions.by_prefix", ("default", "id-77"), "executions_by_id", 5),
    ("executions.unfinished_twins", ("default", bytes(4)), "executions_unfinished", 70),
    ("control.unfinished_children", (KEY,), "executions_open_children", 5),
    ("executions.wakes", (json.dumps([KEY.hex()]),), "PRIMARY", 5),
    ("fleet.put_back", (KEY, BOOT, 1, None), "PRIMARY", 5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "index", "most"), MYSQL_PLANS, ids=[plan[0] for plan in MYSQL_PLANS]
)
async def test_mysql_goes_by_an_index_and_reads_no_more_than_it_takes(
    mysql: tuple[Any, str], name: str, values: tuple[Any, ...], index: str, most: int
) -> None:
    cursor, binary = mysql
    text = Statements("mysql", now="UTC_TIMESTAMP(6)")[name].replace("{binary}", binary)
    plans, read = await mysql_run(cursor, compiled(text).render(values))
    assert index in {row[5] for row in plans}, plans
    scanned = [row for row in plans if row[3] in ("ALL", "index") and row[2] in MYSQL_TABLES]
    assert not scanned, plans
    sorted_ = [row for row in plans if row[2] in MYSQL_TABLES and "filesort" in (row[9] or "")]
    assert not sorted_, plans
    assert read <= most


MYSQL_TABLES = {"executions", "e", "events", "waits", "approvals", "tasks", "inbox"}


async def mysql_run(cursor: Any, steps: list[bytes]) -> tuple[list[Any], int]:
    """The plans of a script's steps, and how many rows they have read by keys and scans."""
    plans: list[Any] = []
    read = 0
    await cursor.execute("START TRANSACTION")
    try:
        for step in steps:
            if not step.startswith(b"SET"):
                await cursor.execute(b"EXPLAIN " + re.sub(rb" INTO @\w+(, @\w+)*", b"", step))
                plans += await cursor.fetchall()
            read -= await _rows_read(cursor)
            await cursor.execute(step)
            await cursor.fetchall()
            read += await _rows_read(cursor)
    finally:
        await cursor.execute("ROLLBACK")
    return plans, read


async def _rows_read(cursor: Any) -> int:
    names = "'Handler_read_key', 'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd_next'"
    await cursor.execute(f"SHOW STATUS WHERE variable_name IN ({names})")
    return sum(int(row[1]) for row in await cursor.fetchall())

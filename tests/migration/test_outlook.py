"""What `plan` says of a migration: the rules about locks beside what the servers do, and rows and times."""

from __future__ import annotations

import pytest

from holdfast.errors import HoldfastError, MigrationChanged, MigrationFailed, MigrationInterrupted
from holdfast.store.migrations import MigrationSession, forecast, forecast_empty, up
from holdfast.store.migrations.locks import Blocks, Work, impact_of
from holdfast.store.migrations.outlook import ROWS_PER_S, tables_of
from holdfast.store.migrations.splitter import Dialect
from tests.migration.sessions import describe, dialect_of, migrations, opened

pytestmark = pytest.mark.anyio

POSTGRESQL = [
    ("CREATE INDEX i ON t (a);", "SHARE", Blocks.WRITERS, Work.INDEX),
    ("DROP INDEX t_b;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("ALTER TABLE t ADD c int NOT NULL DEFAULT 3;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("ALTER TABLE t ADD c float DEFAULT random();", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.REWRITE),
    ("ALTER TABLE t ADD c bigserial;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.REWRITE),
    ("ALTER TABLE t DROP COLUMN b;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("ALTER TABLE t ALTER COLUMN b TYPE bigint;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.REWRITE),
    ("ALTER TABLE t ALTER b SET NOT NULL;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.SCAN),
    ("ALTER TABLE t ADD CHECK (a > 0);", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.SCAN),
    ("ALTER TABLE t ADD CHECK (a > 0) NOT VALID;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("ALTER TABLE t VALIDATE CONSTRAINT later;", "SHARE UPDATE EXCLUSIVE", Blocks.NOBODY, Work.SCAN),
    ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES p (a);", "SHARE ROW EXCLUSIVE", Blocks.WRITERS, Work.SCAN),
    ("ALTER TABLE t ADD UNIQUE (a, b);", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.INDEX),
    ("ALTER TABLE t SET (fillfactor = 80);", "SHARE UPDATE EXCLUSIVE", Blocks.NOBODY, Work.NOTHING),
    ("ALTER TABLE t DISABLE TRIGGER USER;", "SHARE ROW EXCLUSIVE", Blocks.WRITERS, Work.NOTHING),
    ("ALTER TABLE t SET (fillfactor = 80), ADD c int;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("UPDATE t SET b = 1;", "ROW EXCLUSIVE", Blocks.SAME_ROWS, Work.ROWS),
    ("INSERT INTO t VALUES (7, 7);", "ROW EXCLUSIVE", Blocks.NOBODY, Work.NOTHING),
    ("INSERT INTO t SELECT a + 10, b FROM t;", "ROW EXCLUSIVE", Blocks.SAME_ROWS, Work.ROWS),
    ("CREATE TRIGGER r BEFORE UPDATE ON t EXECUTE FUNCTION suppress_redundant_updates_trigger();",
     "SHARE ROW EXCLUSIVE", Blocks.WRITERS, Work.NOTHING),
    ("CREATE POLICY p ON t USING (true);", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("COMMENT ON TABLE t IS 'x';", "SHARE UPDATE EXCLUSIVE", Blocks.NOBODY, Work.NOTHING),
    ("TRUNCATE t;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("DROP TABLE t;", "ACCESS EXCLUSIVE", Blocks.EVERYBODY, Work.NOTHING),
    ("CREATE TABLE u (a int);", "none", Blocks.NOBODY, Work.NOTHING),
    ("CREATE VIEW v AS SELECT 1 AS one;", "none", Blocks.NOBODY, Work.NOTHING),
    ("CREATE MATERIALIZED VIEW v AS SELECT a FROM t;", "ACCESS SHARE", Blocks.NOBODY, Work.SCAN),
]  # fmt: skip
_MADE_FOR_POSTGRESQL = (
    "CREATE SCHEMA looked",
    "SET search_path TO looked",
    "CREATE TABLE p (a int PRIMARY KEY)",
    "CREATE TABLE t (a int PRIMARY KEY, b int)",
    "CREATE INDEX t_b ON t (b)",
    "ALTER TABLE t ADD CONSTRAINT later CHECK (b > 0) NOT VALID",
    "INSERT INTO p VALUES (1)",
    "INSERT INTO t VALUES (1, 1)",
)


@pytest.mark.parametrize(
    ("statement", "lock", "blocks", "work"), POSTGRESQL, ids=lambda value: str(value)[:40]
)
async def test_postgresql_takes_the_lock_that_is_told(
    postgres_url: str, statement: str, lock: str, blocks: Blocks, work: Work
) -> None:
    assert impact_of(statement, "postgresql") == (lock, blocks, work)
    async with opened(postgres_url) as session:
        for made in _MADE_FOR_POSTGRESQL:
            await session.execute(made)
        try:
            modes, was_rewritten = await _locks_of(session, statement)
        finally:
            await session.execute("DROP SCHEMA looked CASCADE")
    told = lock.title().replace(" ", "") + "Lock"
    assert modes & _STRONG == ({told} & _STRONG), f"it took {modes}"
    assert was_rewritten is (work is Work.REWRITE)


_STRONG = {
    "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock",
    "AccessExclusiveLock",
}  # fmt: skip
_ORDER = (
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "AccessExclusiveLock",
)


async def _locks_of(session: MigrationSession, statement: str) -> tuple[set[str], bool]:
    """The strongest lock on `t` that a statement takes, and whether the table is stored anew."""
    found: set[str] = set()
    was_rewritten = False
    place = "SELECT 't'::regclass::oid::bigint, pg_relation_filenode('t'::regclass)::bigint"

    async def run() -> None:
        nonlocal was_rewritten
        async with session.transaction():
            oid, file = (await session.fetch(place))[0]
            await session.execute(statement)
            asked = "SELECT mode FROM pg_locks WHERE relation = $1::bigint::oid AND pid = pg_backend_pid()"
            modes = {row[0] for row in await session.fetch(asked, oid)} & _STRONG
            found.update(max(({mode} for mode in modes), key=lambda one: _ORDER.index(*one), default=set()))
            after = await session.fetch("SELECT pg_relation_filenode(to_regclass('t'))::bigint")
            # TRUNCATE gives an empty file too, and a dropped table has none.
            was_rewritten = after[0][0] not in (file, None) and not statement.startswith("TRUNCATE")
            raise _Undone

    with pytest.raises(_Undone):
        await run()
    return found, was_rewritten


class _Undone(Exception):
    """Nothing of it is to stay."""


MYSQL = [
    ("CREATE INDEX i ON t (a)", Blocks.NOBODY, Work.INDEX),
    ("CREATE FULLTEXT INDEX i ON t (c)", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t DROP INDEX t_b", Blocks.NOBODY, Work.NOTHING),
    ("ALTER TABLE t ADD COLUMN d INT NOT NULL DEFAULT 3", Blocks.NOBODY, Work.NOTHING),
    ("ALTER TABLE t ADD COLUMN d INT AS (a + 1) VIRTUAL", Blocks.NOBODY, Work.NOTHING),
    ("ALTER TABLE t ADD COLUMN d INT AS (a + 1) STORED", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t MODIFY COLUMN b BIGINT", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t ADD INDEX i (a), ADD INDEX j (c)", Blocks.NOBODY, Work.INDEX),
    ("ALTER TABLE t ADD INDEX i (a), ADD COLUMN d INT", Blocks.NOBODY, Work.REWRITE),
    ("ALTER TABLE t ADD UNIQUE u (a)", Blocks.NOBODY, Work.INDEX),
    ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p (a)", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE t DROP PRIMARY KEY", Blocks.WRITERS, Work.REWRITE),
    ("ALTER TABLE p ADD PRIMARY KEY (a)", Blocks.NOBODY, Work.REWRITE),
    ("ALTER TABLE t ROW_FORMAT=COMPACT", Blocks.NOBODY, Work.REWRITE),
    ("ALTER TABLE t RENAME COLUMN b TO e", Blocks.NOBODY, Work.NOTHING),
    ("ALTER TABLE t ALTER COLUMN b SET DEFAULT 3", Blocks.NOBODY, Work.NOTHING),
]  # fmt: skip
_MADE_FOR_MYSQL = (
    "CREATE TABLE p (a INT NOT NULL, KEY (a)) ENGINE=InnoDB",
    "CREATE TABLE t (a INT NOT NULL PRIMARY KEY, b INT, c VARCHAR(9), KEY t_b (b))"
    " ENGINE=InnoDB CHARSET=latin1",
)


@pytest.mark.parametrize(("statement", "blocks", "work"), MYSQL, ids=lambda value: str(value)[:50])
async def test_mysql_needs_the_lock_that_is_told(
    fresh_mysql: str, statement: str, blocks: Blocks, work: Work
) -> None:
    """The server refuses a statement that asks for less than it needs."""
    impact = impact_of(f"{statement};", "mysql")
    assert (impact.blocks, impact.work) == (blocks, work)
    async with opened(fresh_mysql) as session:
        assert await _accepts(session, statement, "LOCK=NONE") is (blocks is Blocks.NOBODY)
        assert await _accepts(session, statement, "LOCK=SHARED")
        if "DROP INDEX" not in statement:  # it does next to nothing, but not in the way of that name
            assert await _accepts(session, statement, "ALGORITHM=INSTANT") is (work is Work.NOTHING)
        assert await _accepts(session, statement, "ALGORITHM=NOCOPY") is (work is not Work.REWRITE)


async def _accepts(session: MigrationSession, statement: str, wish: str) -> bool:
    for made in ("DROP TABLE IF EXISTS t, p", *_MADE_FOR_MYSQL):
        await session.execute(made)
    try:
        await session.execute(f"{statement}{',' if statement.startswith('ALTER') else ''} {wish}")
    except HoldfastError as error:
        assert "184" in error.cause, error  # 1845 and 1846: not supported this way
        return False
    return True


@pytest.mark.parametrize(
    ("dialect", "statement", "lock", "blocks", "work"),
    [
        ("mysql", "ALTER TABLE t DROP COLUMN b;", "LOCK=NONE", Blocks.NOBODY, Work.REWRITE),
        ("mysql", "ALTER TABLE t ADD (a INT, b INT);", "LOCK=NONE", Blocks.NOBODY, Work.NOTHING),
        ("mysql", "DROP TABLE t;", "metadata lock, exclusive", Blocks.EVERYBODY, Work.NOTHING),
        ("mysql", "DELETE FROM t;", "row locks", Blocks.SAME_ROWS, Work.ROWS),
        ("mysql", "ALTER TABLE t DROP PARTITION p;", "unknown", Blocks.UNKNOWN, Work.NOTHING),
        ("mysql", "CALL p();", "unknown", Blocks.UNKNOWN, Work.NOTHING),
        ("postgresql", "DO $$ BEGIN END $$;", "unknown", Blocks.UNKNOWN, Work.NOTHING),
        ("postgresql", "CREATE INDEX CONCURRENTLY i ON t (a);", "SHARE UPDATE EXCLUSIVE",
         Blocks.NOBODY, Work.INDEX),
        ("postgresql", "alter table only \"a b\".t add c int", "ACCESS EXCLUSIVE",
         Blocks.EVERYBODY, Work.NOTHING),
        ("sqlite", "CREATE INDEX i ON t (a);", "the write lock", Blocks.WRITERS, Work.INDEX),
        ("sqlite", "ALTER TABLE t ADD COLUMN b;", "the write lock", Blocks.WRITERS, Work.NOTHING),
        ("sqlite", "ALTER TABLE t DROP COLUMN b;", "the write lock", Blocks.WRITERS, Work.REWRITE),
        ("sqlite", "ALTER TABLE t RENAME TO u;", "the write lock", Blocks.WRITERS, Work.NOTHING),
        ("sqlite", "SELECT 1;", "none", Blocks.NOBODY, Work.NOTHING),
    ],
)  # fmt: skip
def test_what_is_told(dialect: Dialect, statement: str, lock: str, blocks: Blocks, work: Work) -> None:
    assert impact_of(statement, dialect) == (lock, blocks, work)


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("CREATE UNIQUE INDEX i ON a.b (c);", ["a.b"]),
        ("INSERT INTO a SELECT b FROM c JOIN d ON c.x = d.x;", ["a", "c", "d", "c.x"]),
        ("UPDATE a SET b = 1;", ["a"]),
        ("CREATE TRIGGER r AFTER INSERT OR UPDATE OF x ON t EXECUTE FUNCTION f();", ["t"]),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT a FROM b $$;", []),
        ("TRUNCATE TABLE IF EXISTS a;", ["a"]),
        ("SET x = 'FROM a';", []),
    ],
)
def test_the_tables_of_a_statement(statement: str, tables: list[str]) -> None:
    assert tables_of(statement, "postgresql") == tables


ONE = "-- +migrate Up\nCREATE TABLE one (a integer);\n"
FILL = (
    "-- +migrate Up\nINSERT INTO one WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n"
    " WHERE i < 900) SELECT i FROM n;\nINSERT INTO one SELECT a FROM one;\n"
)
NEXT = (
    "-- +migrate Up\nCREATE TABLE two (b integer);\nINSERT INTO two SELECT a FROM one;\n"
    "CREATE INDEX one_a ON one (a);\n"
)


async def test_the_plan_has_rows_and_times_and_changes_nothing(url: str) -> None:
    dialect = dialect_of(url)
    texts = {"0001_one.sql": ONE, "0002_fill.sql": FILL}
    known = migrations(dialect, {**texts, "0003_next.sql": NEXT})
    async with opened(url) as session:
        await up(session, migrations(dialect, texts))
        table = "one" if session.schema is None else f'"{session.schema}".one'
        await session.execute(f"ANALYZE TABLE {table}" if dialect == "mysql" else f"ANALYZE {table}")
        before = await describe(session)
        found = await forecast(session, known)
        assert await describe(session) == before
    assert [(each.version, each.line, each.table) for each in found] == [
        (3, 2, "two"),
        (3, 3, "two"),
        (3, 4, "one"),
    ]
    assert found[0].rows == 0 and found[0].blocks in (Blocks.NOBODY, Blocks.WRITERS)
    assert all(1700 <= each.rows <= 1900 for each in found[1:])
    assert found[1].work is Work.ROWS and found[2].work is Work.INDEX
    assert found[1].estimate_ms >= 1800 * 1000 // ROWS_PER_S[dialect][Work.ROWS]
    assert found[2].statement == "CREATE INDEX one_a ON one (a);"


def test_a_database_that_is_not_there_has_no_rows() -> None:
    found = forecast_empty(migrations("postgresql", {"0001_one.sql": ONE, "0003_next.sql": NEXT}))
    assert [each.rows for each in found] == [0] * 4


async def test_the_plan_refuses_what_up_refuses(url: str) -> None:
    dialect = dialect_of(url)
    async with opened(url) as session:
        await up(session, migrations(dialect, {"0001_one.sql": ONE}))
        with pytest.raises(MigrationChanged):
            await forecast(session, migrations(dialect, {"0001_one.sql": ONE + "-- edited\n"}))


async def test_what_was_done_already_is_not_planned_again(fresh_mysql: str) -> None:
    texts = {"0001_one.sql": ONE + "CREATE INDEX i ON nowhere (a);\nSELECT 1;\n"}
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationFailed):
            await up(session, migrations("mysql", texts))
        assert [each.line for each in await forecast(session, migrations("mysql", texts))] == [3, 4]
        with pytest.raises(MigrationInterrupted):
            await forecast(session, migrations("mysql", {}))

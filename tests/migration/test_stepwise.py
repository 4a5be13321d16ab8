"""MySQL: a migration that stops anywhere, on its way up or down, is finished by the next start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from holdfast.errors import (
    ConstraintViolated,
    DowngradeRefused,
    InvalidArgument,
    MigrationChanged,
    MigrationFailed,
    MigrationInterrupted,
    MigrationLocked,
    MigrationsPending,
    MigrationUnclear,
    TransactionConflict,
)
from holdfast.store.migrations import (
    Direction,
    MigrationSession,
    MigrationSet,
    Standing,
    Verdict,
    down,
    pending,
    require_current,
    resolve,
    sql,
    status,
    to,
    up,
)
from tests.migration.sessions import LONG, Watched, describe, migrations, opened, run_text, sever

pytestmark = pytest.mark.anyio

ONE = """\
-- +migrate Up
SET @first = 10;
CREATE TABLE one (id BIGINT NOT NULL PRIMARY KEY, a INT, `b c` VARCHAR(9)) ENGINE=InnoDB;
INSERT INTO one VALUES (@first, 1, 'x;'), (@first + 1, 2, "y'");
CREATE UNIQUE INDEX one_a ON one (a DESC);
ALTER TABLE one ADD COLUMN d INT NOT NULL DEFAULT 7, ADD CONSTRAINT positive CHECK (d > 0);
UPDATE one SET d = d + 1;
ALTER TABLE one MODIFY `b c` VARCHAR(99);
CREATE OR REPLACE VIEW seen AS SELECT id, d FROM one;
-- +migrate StatementBegin
CREATE TRIGGER upper_b BEFORE INSERT ON one FOR EACH ROW
BEGIN
    SET NEW.d = NEW.d + 1;
    SET NEW.`b c` = upper(NEW.`b c`);
END;
-- +migrate StatementEnd
INSERT INTO one (id, a, `b c`) VALUES (1, 3, 'z');
RENAME TABLE one TO 1st;
-- +migrate Down
RENAME TABLE 1st TO one;
DROP TRIGGER upper_b;
DROP VIEW seen;
UPDATE one SET d = d - 1;
DELETE FROM one;
ALTER TABLE one DROP CONSTRAINT positive, DROP COLUMN d;
DROP INDEX one_a ON one;
DROP TABLE one;
"""
TWO = """\
-- +migrate Up
CREATE TABLE two (b INT);
INSERT INTO two VALUES (1);
-- +migrate Down
DROP TABLE two;
"""
TEXTS = {"0001_one.sql": ONE, "0002_two.sql": TWO}


class Dead(BaseException):
    """The process ended here."""


async def _at(url: str, point: int, change: Callable[[Any], Any]) -> bool:
    """Run `change` and lose the connection at the given point, counted from 1; whether it came that far."""
    passed = 0

    async with opened(url) as session:

        def die() -> None:
            nonlocal passed
            passed += 1
            if passed == point:
                sever(session)
                raise Dead

        try:
            await change(Watched(session, die))
        except Dead:
            return True
    return False


async def _forth(session: Any) -> Any:
    return await up(session, migrations("mysql", TEXTS), lock_timeout=LONG)


async def _back(session: Any) -> Any:
    return await to(session, migrations("mysql", TEXTS), 0, allow_data_loss=True, lock_timeout=LONG)


async def _state(session: Any) -> list[Any]:
    found: list[Any] = list(await describe(session))
    found += await session.fetch("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
    found += await session.fetch("SELECT * FROM schema_migration_steps")
    for name in ("1st", "two"):
        if await session.fetch(
            "SELECT 1 FROM information_schema.tables WHERE table_name = ?1 AND table_schema = database()",
            name,
        ):
            found += await session.fetch(f"SELECT * FROM `{name}` ORDER BY 1")
    return found


@pytest.mark.crash
async def test_a_death_at_any_point_forth_and_back(fresh_mysql: str, crash_scope: str) -> None:
    """Each death is followed by a start that finishes; the next one is a later point."""
    stride = 1 if crash_scope == "all" else 4
    async with opened(fresh_mysql) as session:
        await _forth(session)
        whole = await _state(session)
        await _back(session)
        nothing = await _state(session)
    for change, other, expected in ((_forth, _back, whole), (_back, _forth, nothing)):
        point = 1 + date.today().toordinal() % stride
        while await _at(fresh_mysql, point, change):
            async with opened(fresh_mysql) as session:
                await change(session)
                assert await _state(session) == expected, f"differs after a death at point {point}"
                await other(session)
            point += stride
        assert point > 25


async def test_what_is_half_done_is_told_and_not_taken_for_done(fresh_mysql: str) -> None:
    known = migrations("mysql", TEXTS)
    assert await _at(fresh_mysql, 12, _forth)
    async with opened(fresh_mysql) as session:
        found = await status(session, known)
        assert [state.standing for state in found] == [Standing.INTERRUPTED, Standing.PENDING]
        assert not found[0].is_applied
        assert [m.version for m in await pending(session, known)] == [1, 2]
        with pytest.raises(MigrationsPending):
            await require_current(session, known)
        with pytest.raises(MigrationInterrupted, match=r"migration 1 \(one\) stopped half-way up") as caught:
            await down(session, known)
        assert caught.value.fix.endswith("storage migrate up")
        with pytest.raises(MigrationInterrupted):
            await to(session, known, 0)
        await up(session, known)
    assert await _at(fresh_mysql, 12, _back)
    async with opened(fresh_mysql) as session:
        found = await status(session, known)
        halfway = [state for state in found if state.standing is Standing.INTERRUPTED]
        assert [state.version for state in halfway] == [1] and halfway[0].is_applied
        for refused in (up(session, known), require_current(session, known), to(session, known, 2)):
            with pytest.raises(MigrationInterrupted, match="half-way down"):
                await refused
        await down(session, known, allow_data_loss=True)
        assert [state.standing for state in await status(session, known)] == [Standing.PENDING] * 2


async def test_a_failing_statement_stays_where_it_failed_and_may_be_corrected(
    fresh_mysql: str, caplog: pytest.LogCaptureFixture
) -> None:
    begin = "-- +migrate Up\nCREATE TABLE a (x INT);\nINSERT INTO a VALUES (1);\n"
    async with opened(fresh_mysql) as session:
        for wrong in ("INSERT INTO nowhere VALUES (1);\n", "CREATE INDEX i ON nowhere (x);\n"):
            with pytest.raises(MigrationFailed, match="nowhere") as caught:
                await up(session, migrations("mysql", {"0001_a.sql": begin + wrong}))
            assert caught.value.where == "dir/0001_a.sql:4"
            assert "stays and is not done again" in caught.value.fix
        assert await session.fetch("SELECT x FROM a") == [(1,)]
        with caplog.at_level(logging.INFO, "holdfast.migrations"):
            await up(session, migrations("mysql", {"0001_a.sql": begin + "CREATE INDEX i ON a (x);\n"}))
        assert await session.fetch("SELECT x FROM a") == [(1,)]
        assert await session.fetch("SELECT * FROM schema_migration_steps") == []
    assert caplog.records[0].getMessage() == "migration 1 (a) goes on"


async def test_of_statements_that_share_their_notes_those_before_the_failing_one_stay(
    fresh_mysql: str,
) -> None:
    begin = "-- +migrate Up\nCREATE TABLE a (x INT);\nCREATE INDEX i ON a (x);\n"
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationFailed, match="nowhere"):
            wrong = begin + "CREATE INDEX j ON nowhere (x);\nCREATE TABLE c (x INT);\n"
            await up(session, migrations("mysql", {"0001_a.sql": wrong}))
        noted = "SELECT step, state FROM schema_migration_steps ORDER BY step"
        assert await session.fetch(noted) == [(1, "done"), (2, "done")]
        await up(session, migrations("mysql", {"0001_a.sql": begin + "CREATE TABLE c (x INT);\n"}))
        assert await session.fetch(noted) == []


async def test_the_first_statement_that_fails_changed_nothing(fresh_mysql: str) -> None:
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationFailed) as caught:
            await up(session, migrations("mysql", {"0001_a.sql": "-- +migrate Up\nDROP TABLE nowhere;\n"}))
        assert caught.value.fix.startswith("nothing was changed")
        assert await session.fetch("SELECT * FROM schema_migration_steps") == []


async def test_what_was_run_must_not_be_edited_half_way(fresh_mysql: str) -> None:
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationFailed):
            await up(
                session,
                migrations("mysql", {"0001_a.sql": "-- +migrate Up\nCREATE TABLE a (x INT);\nBAD;\n"}),
            )
        for edited in ("CREATE TABLE a (x BIGINT);\nSELECT 1;\n", "SELECT 1;\n"):
            with pytest.raises(
                MigrationChanged, match="statement 1, which was run, has been edited"
            ) as caught:
                await up(session, migrations("mysql", {"0001_a.sql": "-- +migrate Up\n" + edited}))
            assert caught.value.where == "dir/0001_a.sql:2"
            assert "restore the first 1 statements" in caught.value.fix
        good = "-- +migrate Up\nCREATE TABLE a (x INT);\nSELECT 1;\nSELECT 2;\n"
        await up(session, migrations("mysql", {"0001_a.sql": good}))


BLIND = "-- +migrate Up\nCREATE TABLE a (x INT);\nINSERT INTO a VALUES (1);\nTRUNCATE TABLE a;\n"


@pytest.mark.parametrize(("verdict", "left"), [(Verdict.RAN, [(1,)]), (Verdict.DID_NOT_RUN, [])])
async def test_a_statement_that_leaves_no_mark_needs_a_person(
    fresh_mysql: str, verdict: Verdict, left: list[tuple[int]]
) -> None:
    known = migrations("mysql", {"0001_a.sql": BLIND})
    assert await _at_statement(fresh_mysql, "TRUNCATE", known)
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationUnclear, match="stopped at `TRUNCATE TABLE a;`") as caught:
            await up(session, known, lock_timeout=LONG)
        assert "resolve 1 --ran" in caught.value.fix
        looked = await resolve(session, known, 1, verdict, lock_timeout=LONG, dry_run=True)
        assert (looked.before, looked.after, looked.statement) == (
            Standing.INTERRUPTED,
            Standing.INTERRUPTED,
            "TRUNCATE TABLE a;",
        )
        with pytest.raises(MigrationUnclear):
            await up(session, known, lock_timeout=LONG)
        await resolve(session, known, 1, verdict, lock_timeout=LONG)
        assert [done.version for done in await up(session, known)] == [1]
        assert await session.fetch("SELECT x FROM a") == left
        with pytest.raises(InvalidArgument):
            await resolve(session, known, 1, verdict, lock_timeout=LONG)


async def _at_statement(url: str, beginning: str, known: MigrationSet) -> bool:
    """Lose the connection directly before a statement; whether it came that far."""

    class Doomed(Watched):
        async def execute(self, statement: str, *args: object) -> None:
            if statement.startswith(beginning):
                sever(self._session)
                raise Dead
            await super().execute(statement, *args)

    async with opened(url) as session:
        try:
            await up(Doomed(session, lambda: None), known, lock_timeout=LONG)
        except Dead:
            return True
    return False


async def test_what_stopped_half_way_is_settled_as_a_whole(fresh_mysql: str) -> None:
    known = migrations("mysql", TEXTS)
    for verdict, standing in ((Verdict.PENDING, Standing.PENDING), (Verdict.APPLIED, Standing.APPLIED)):
        assert await _at_statement(fresh_mysql, "ALTER TABLE one MODIFY", known)
        async with opened(fresh_mysql) as session:
            done = await resolve(session, known, 1, verdict, lock_timeout=LONG)
            assert (done.before, done.after) == (Standing.INTERRUPTED, standing)
            assert await session.fetch("SELECT * FROM schema_migration_steps") == []
            assert (await status(session, known))[0].standing is standing
            await session.execute("DROP TABLE one")
            await session.execute("DELETE FROM schema_migrations WHERE version = 1")


async def test_printed_sql_has_bodies_that_the_client_understands(fresh_mysql: str) -> None:
    known = migrations("mysql", TEXTS)
    async with opened(fresh_mysql) as session:
        await up(session, known)
        whole = await describe(session)
        rows = await session.fetch("SELECT * FROM `1st` ORDER BY 1")
        text = sql(known, 0, 0, Direction.DOWN)
        await run_text(session, fresh_mysql, text)
        assert await session.fetch("SELECT * FROM schema_migrations") == []
        await run_text(session, fresh_mysql, sql(known))
        assert await describe(session) == whole
        assert await session.fetch("SELECT * FROM `1st` ORDER BY 1") == rows
        assert await up(session, known) == []


async def test_marks_that_were_there_before_tell_nothing(fresh_mysql: str) -> None:
    """The table is somebody else's: the statement fails, and the death comes before that is noted."""
    known = migrations("mysql", {"0001_a.sql": "-- +migrate Up\nCREATE TABLE a (x INT);\n"})
    async with opened(fresh_mysql) as session:
        await up(session, migrations("mysql", {"0009_z.sql": "-- +migrate Up\nCREATE TABLE z (x INT);\n"}))
        await session.execute("DELETE FROM schema_migrations")
        await session.execute("CREATE TABLE a (other INT)")
    noted = 0
    for point in range(1, 12):
        await _at(fresh_mysql, point, lambda session: _refused(session, known))
        async with opened(fresh_mysql) as session:
            noted += len(await session.fetch("SELECT * FROM schema_migration_steps"))
            with pytest.raises(MigrationFailed, match="CREATE TABLE a"):
                await up(session, known, lock_timeout=LONG)
            assert await session.fetch("SELECT * FROM schema_migration_steps") == []
    assert noted > 0, "no death came while the statement was begun"


async def _refused(session: Any, known: Any) -> None:
    with pytest.raises(MigrationFailed):
        await up(session, known, lock_timeout=LONG)


async def test_a_second_migrating_process_stops_at_the_notes(fresh_mysql: str) -> None:
    """Two servers of a cluster do not see each other's locks; the notes they do see."""
    known = migrations(
        "mysql", {"0001_a.sql": "-- +migrate Up\nCREATE TABLE a (x INT);\nCREATE TABLE b (x INT);\n"}
    )

    class Overtaken(Watched):
        async def execute(self, statement: str, *args: object) -> None:
            if "TABLE a" in statement:
                async with opened(fresh_mysql) as other:
                    await other.execute(
                        "INSERT INTO schema_migration_steps (version, step, direction, checksum, state,"
                        " seen_before) VALUES (1, 2, 'up', '', 'begun', FALSE)"
                    )
            await super().execute(statement, *args)

    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationFailed) as caught:
            await up(Overtaken(session, lambda: None), known)
    assert isinstance(caught.value.__cause__, ConstraintViolated)


class Raced(Watched):
    """Somebody writes a row directly before the statement that begins with `last`."""

    def __init__(self, session: MigrationSession, writer: MigrationSession, last: str) -> None:
        super().__init__(session, lambda: None)
        self._writer = writer
        self._last = last
        self.slipped: bool | None = None

    async def execute(self, statement: str, *args: object) -> None:
        if statement.startswith(self._last):
            try:
                await self._writer.execute("INSERT INTO t VALUES (1, 2)")
                self.slipped = True
            except TransactionConflict:
                self.slipped = False
        await super().execute(statement, *args)


@pytest.mark.parametrize("last", ["DROP TABLE t", "ALTER TABLE t DROP COLUMN b", "DELETE t FROM t JOIN u"])
async def test_rows_that_slip_in_are_not_lost(fresh_mysql: str, last: str) -> None:
    """Between the look at the table and the statement nobody gets in; a DELETE counts what it removed."""
    text = (
        "-- +migrate Up\nCREATE TABLE t (a INT, b INT);\nCREATE TABLE u (a INT);\n"
        f"-- +migrate Down\n{last};\n"
    )
    known = migrations("mysql", {"0001_t.sql": text})
    async with opened(fresh_mysql) as session, opened(fresh_mysql) as writer:
        await up(session, known)
        await writer.execute("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
        await writer.execute("INSERT INTO u VALUES (1)")
        raced = Raced(session, writer, last)
        if last.startswith("DELETE"):
            with pytest.raises(DowngradeRefused, match="DELETE of rows"):
                await down(raced, known)
            assert await session.fetch("SELECT * FROM t") == [(1, 2)]
            await down(session, known, allow_data_loss=True)
            assert await session.fetch("SELECT * FROM t") == []
        else:
            await down(raced, known)
        assert raced.slipped is last.startswith("DELETE")


async def test_a_statement_that_is_still_running_keeps_others_out(fresh_mysql: str) -> None:
    """The process is gone, its statement is not: the lock stays until the server has finished with it."""
    known = migrations(
        "mysql", {"0001_a.sql": "-- +migrate Up\nCREATE TABLE a AS SELECT sleep(2) AS x;\nSELECT 1;\n"}
    )
    async with opened(fresh_mysql) as session:
        await _start_and_leave(session, known, fresh_mysql)
    async with opened(fresh_mysql) as session:
        with pytest.raises(MigrationLocked):
            await up(session, known, lock_timeout=timedelta(0))
        assert [done.version for done in await up(session, known, lock_timeout=LONG)] == [1]
        assert await session.fetch("SELECT x FROM a") == [(0,)]


async def _start_and_leave(session: Any, known: Any, url: str) -> None:
    asleep = "SELECT 1 FROM information_schema.processlist WHERE state = 'User sleep' AND db = database()"
    task = asyncio.create_task(up(session, known))
    async with opened(url) as other:
        while not await other.fetch(asleep):  # noqa: ASYNC110 - the server tells by nothing else
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

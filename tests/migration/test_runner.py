"""What `up`, `down`, `to`, `status` and `sql` do to a database."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.errors import (
    ConstraintViolated,
    DowngradeRefused,
    InvalidArgument,
    MigrationChanged,
    MigrationFailed,
    MigrationLocked,
    MigrationNotFound,
    MigrationsPending,
    SchemaTooNew,
    StoreUnavailable,
)
from holdfast.store.migrations import (
    Direction,
    Migration,
    MigrationSession,
    Standing,
    down,
    load,
    pending,
    require_current,
    sql,
    status,
    to,
    up,
)
from tests.migration.sessions import DIALECTS, Wrapped, describe, dialect_of, migrations, opened, run_text

pytestmark = pytest.mark.anyio

ONE = "-- +migrate Up\nCREATE TABLE one (a integer);\n-- +migrate Down\nDROP TABLE one;\n"
TWO = (
    "-- +migrate Up\nCREATE TABLE two (b integer);\nCREATE INDEX two_b ON two (b);\n"
    "-- +migrate Down\nDROP TABLE two;\n"
)
THREE = (
    "-- +migrate Up\nALTER TABLE one ADD COLUMN c integer;\n"
    "-- +migrate Down\nALTER TABLE one DROP COLUMN c;\n"
)
ALL = {"0001_one.sql": ONE, "0002_two.sql": TWO, "20240115_three.sql": THREE}
VERSIONS = [1, 2, 20240115]


def ledger(session: MigrationSession) -> str:
    return "schema_migrations" if session.schema is None else f'"{session.schema}".schema_migrations'


def table(session: MigrationSession, name: str) -> str:
    return name if session.schema is None else f'"{session.schema}".{name}'


async def applied_versions(session: MigrationSession) -> list[int]:
    return [row[0] for row in await session.fetch(f"SELECT version FROM {ledger(session)} ORDER BY version")]


async def test_up_applies_in_order_and_records(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    seen: list[tuple[int, int, int]] = []

    def progress(migration: Migration, place: int, total: int) -> None:
        seen.append((migration.version, place, total))

    async with opened(url) as session:
        done = await up(session, known, progress=progress)
        found = await status(session, known)
        again = await up(session, known)
    assert [(a.version, a.name, a.direction) for a in done] == [
        (1, "one", Direction.UP),
        (2, "two", Direction.UP),
        (20240115, "three", Direction.UP),
    ]
    assert seen == [(1, 1, 3), (2, 2, 3), (20240115, 3, 3)]
    assert [state.standing for state in found] == [Standing.APPLIED] * 3
    assert [state.checksum for state in found] == [m.checksum for m in known.migrations]
    assert all(state.applied_at is not None and state.applied_at.tzinfo for state in found)
    assert all(state.applied_by and state.duration_ms is not None for state in found)
    assert again == []


async def test_each_migration_is_one_line_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    known = migrations(dialect_of(url), ALL)
    with caplog.at_level(logging.INFO, "holdfast.migrations"):
        async with opened(url) as session:
            await up(session, known, to=2)
            await down(session, known)
    lines = [record.getMessage() for record in caplog.records if record.name == "holdfast.migrations"]
    assert [line.partition(" in ")[0] for line in lines] == [
        "applied migration 1 (one)",
        "applied migration 2 (two)",
        "took back migration 2 (two)",
    ]


async def test_up_down_up_is_the_fresh_schema(url: str) -> None:
    """Holdfast's own migrations, taken back one by one and applied again."""
    known = load(dialect_of(url))
    async with opened(url) as session:
        await up(session, known)
        fresh = await describe(session)
        await down(session, known, steps=len(known.migrations))
        nothing = await describe(session)
        await up(session, known)
        assert await describe(session) == fresh
        await to(session, known, 0)
        assert await describe(session) == nothing
    assert len(fresh) > len(nothing)


async def test_names_without_a_schema_mean_ours(url: str) -> None:
    async with opened(url) as session:
        await up(session, migrations(dialect_of(url), {"0001_one.sql": ONE}))
        await session.execute(f"INSERT INTO {table(session, 'one')} VALUES (1)")
        assert await session.fetch(f"SELECT a FROM {table(session, 'one')}") == [(1,)]


async def test_status_and_pending_write_nothing(url: str, tmp_path: Path) -> None:
    known = migrations(dialect_of(url), ALL)

    async def content() -> object:
        if dialect_of(url) == "sqlite":
            files = sorted(path for path in tmp_path.iterdir() if not path.name.endswith("-shm"))
            return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
        return await describe(session)

    async with opened(url) as session:
        before = await content()
        found = await status(session, known)
        assert [m.version for m in await pending(session, known)] == VERSIONS
        with pytest.raises(MigrationsPending) as caught:
            await require_current(session, known)
        assert await content() == before
    assert [(state.version, state.standing) for state in found] == [(v, Standing.PENDING) for v in VERSIONS]
    assert all(state.reversible and state.applied_at is None for state in found)
    assert caught.value.details["versions"] == VERSIONS


async def test_an_older_number_that_arrives_late_is_applied(url: str) -> None:
    dialect = dialect_of(url)
    async with opened(url) as session:
        await up(session, migrations(dialect, {"0001_one.sql": ONE, "20240115_three.sql": THREE}))
        done = await up(session, migrations(dialect, ALL))
    assert [a.version for a in done] == [2]


# Failures.

FAILING = (
    "-- +migrate Up\nCREATE TABLE two (b integer);\nINSERT INTO one VALUES (1);\n\nINSERT INTO nowhere\n"
    "  VALUES (1);\n"
)


async def test_a_failing_statement_leaves_the_database_as_it_was(undoing_url: str) -> None:
    dialect = dialect_of(undoing_url)
    async with opened(undoing_url) as session:
        await up(session, migrations(dialect, {"0001_one.sql": ONE}))
        before = await describe(session)
        with pytest.raises(MigrationFailed) as caught:
            await up(session, migrations(dialect, {"0001_one.sql": ONE, "0002_two.sql": FAILING}))
        assert await describe(session) == before
        assert await session.fetch(f"SELECT * FROM {table(session, 'one')}") == []
        assert await applied_versions(session) == [1]
        done = await up(session, migrations(dialect, ALL))
    error = caught.value
    assert [a.version for a in done] == [2, 20240115]
    assert "migration 2 (two) failed at `INSERT INTO nowhere`" in error.cause
    assert error.where == "dir/0002_two.sql:5"
    assert error.cause.count("nowhere") >= 2, "the database's own words are missing"
    assert "as it was before" in error.fix
    assert error.details["version"] == 2
    assert error.details["statement"] == "INSERT INTO nowhere\n  VALUES (1);"


async def test_a_failing_first_migration_leaves_nothing_at_all(undoing_url: str) -> None:
    async with opened(undoing_url) as session:
        before = await describe(session)
        with pytest.raises(MigrationFailed):
            await up(
                session,
                migrations(dialect_of(undoing_url), {"0001_a.sql": "-- +migrate Up\nSELECT * FROM no;"}),
            )
        assert await describe(session) == before


async def test_a_refused_commit_is_a_failed_migration(undoing_url: str) -> None:
    text = (
        "-- +migrate Up\nCREATE TABLE parent (a integer PRIMARY KEY);\n"
        "CREATE TABLE child (a integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);\n"
        "INSERT INTO child VALUES (7);\n"
    )
    async with opened(undoing_url) as session:
        before = await describe(session)
        with pytest.raises(MigrationFailed, match="outside its statements") as caught:
            await up(session, migrations(dialect_of(undoing_url), {"0001_a.sql": text}))
        assert await describe(session) == before
    assert isinstance(caught.value.__cause__, ConstraintViolated)
    assert caught.value.where == "dir/0001_a.sql"


async def test_a_lost_connection_is_told_apart_from_a_bad_statement(fresh_postgres: str) -> None:
    text = "-- +migrate Up\nCREATE TABLE two ();\nSELECT pg_terminate_backend(pg_backend_pid());\n"
    async with opened(fresh_postgres) as session:
        with pytest.raises(StoreUnavailable):
            await up(session, migrations("postgresql", {"0002_two.sql": text}))
    async with opened(fresh_postgres) as session:
        assert [a.version for a in await up(session, migrations("postgresql", ALL))] == VERSIONS


async def test_a_cancelled_migration_is_rolled_back(url: str) -> None:
    reached = asyncio.Event()

    class Hanging(Wrapped):
        async def execute(self, statement: str, *args: object) -> None:
            await super().execute(statement, *args)
            if "two_b" in statement:
                reached.set()
                await asyncio.Event().wait()

    known = migrations(dialect_of(url), ALL)
    async with opened(url) as session:
        task = asyncio.create_task(up(Hanging(session), known))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await applied_versions(session) == [1]
        assert [a.version for a in await up(session, known)] == [2, 20240115]


# Ledger and files that do not belong together.


async def test_an_edited_file_is_refused(url: str) -> None:
    dialect = dialect_of(url)
    edited = migrations(dialect, {**ALL, "0002_two.sql": TWO + "-- a word\n"})
    async with opened(url) as session:
        await up(session, migrations(dialect, ALL))
        with pytest.raises(MigrationChanged, match=r"migration 2 \(two\)") as caught:
            await up(session, edited)
        with pytest.raises(MigrationChanged):
            await down(session, edited)
        found = await status(session, edited)
    assert caught.value.where == "dir/0002_two.sql"
    assert [state.standing for state in found] == [Standing.APPLIED, Standing.CHANGED, Standing.APPLIED]


async def test_line_ends_are_not_an_edit(url: str) -> None:
    dialect = dialect_of(url)
    async with opened(url) as session:
        await up(session, migrations(dialect, ALL))
        windows = {name: text.replace("\n", "\r\n") for name, text in ALL.items()}
        assert await up(session, migrations(dialect, windows)) == []


@pytest.mark.parametrize("written", ["'2'", "2", "'0002'"])
async def test_a_row_made_by_hand_counts_as_applied(url: str, written: str) -> None:
    dialect = dialect_of(url)
    async with opened(url) as session:
        await up(session, migrations(dialect, {"0001_one.sql": ONE}))
        await session.execute(f"INSERT INTO {ledger(session)} (version) VALUES ({written})")
        done = await up(session, migrations(dialect, ALL))
        found = await status(session, migrations(dialect, {**ALL, "0002_two.sql": TWO + "-- edited"}))
    assert [a.version for a in done] == [20240115]
    assert [state.standing for state in found] == [Standing.APPLIED] * 3
    assert (found[1].checksum, found[1].name, found[1].applied_by) == (None, "two", "")
    assert found[1].applied_at is not None


async def test_a_version_is_a_positive_number(url: str) -> None:
    async with opened(url) as session:
        await up(session, migrations(dialect_of(url), {"0001_one.sql": ONE}))
        for written in ("NULL", "0"):
            with pytest.raises(ConstraintViolated):
                await session.execute(f"INSERT INTO {ledger(session)} (version) VALUES ({written})")


@pytest.mark.parametrize(
    ("missing", "fix"), [("0002_two.sql", "upgrade holdfast"), ("20240115_three.sql", "folder of migrations")]
)
async def test_a_newer_database_is_refused(url: str, missing: str, fix: str) -> None:
    dialect = dialect_of(url)
    older = migrations(dialect, {name: text for name, text in ALL.items() if name != missing})
    async with opened(url) as session:
        await up(session, migrations(dialect, ALL))
        for refused in (up(session, older), down(session, older), to(session, older, 1)):
            with pytest.raises(SchemaTooNew) as caught:
                await refused
            assert fix in caught.value.fix
        found = await status(session, older)
        assert await applied_versions(session) == VERSIONS
    assert Standing.UNKNOWN in [state.standing for state in found]


async def test_a_lost_file_of_an_older_version_stops_only_the_way_back(url: str) -> None:
    dialect = dialect_of(url)
    without = migrations(dialect, {"0002_two.sql": TWO, "20240115_three.sql": THREE})
    async with opened(url) as session:
        await up(session, migrations(dialect, ALL))
        assert await up(session, without) == []
        with pytest.raises(DowngradeRefused, match="has no file here"):
            await down(session, without, steps=3)
        assert await applied_versions(session) == VERSIONS


async def test_the_dialects_have_to_agree(url: str) -> None:
    async with opened(url) as session:
        for dialect in DIALECTS:
            if dialect != session.dialect:
                with pytest.raises(InvalidArgument):
                    await status(session, migrations(dialect, ALL))


# The way back.


async def test_down_takes_back_the_newest_first(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as session:
        await up(session, known)
        one = await down(session, known)
        rest = await down(session, known, steps=5)
        assert await down(session, known) == []
        assert await applied_versions(session) == []
    assert [(a.version, a.direction) for a in one] == [(20240115, Direction.DOWN)]
    assert [a.version for a in rest] == [2, 1]


async def test_down_needs_a_positive_number_of_steps(url: str) -> None:
    async with opened(url) as session:
        with pytest.raises(InvalidArgument):
            await down(session, migrations(dialect_of(url), ALL), steps=0)


async def test_what_cannot_be_taken_back_is_refused_before_anything_is(url: str) -> None:
    dialect = dialect_of(url)
    known = migrations(dialect, {**ALL, "0002_two.sql": TWO.partition("-- +migrate Down")[0]})
    async with opened(url) as session:
        await up(session, known)
        with pytest.raises(DowngradeRefused, match="no Down section") as caught:
            await down(session, known, steps=2)
        assert await applied_versions(session) == VERSIONS
    assert caught.value.where == "dir/0002_two.sql"


async def test_a_failing_down_leaves_the_database_as_it_was(undoing_url: str) -> None:
    text = ONE + "DROP TABLE nowhere;\n"
    known = migrations(dialect_of(undoing_url), {"0001_one.sql": text})
    async with opened(undoing_url) as session:
        await up(session, known)
        before = await describe(session)
        with pytest.raises(MigrationFailed, match="DROP TABLE nowhere"):
            await down(session, known)
        assert await describe(session) == before
        assert await applied_versions(session) == [1]


async def test_rows_are_lost_only_when_that_is_allowed(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as session:
        await up(session, known)
        await session.execute(f"INSERT INTO {table(session, 'two')} VALUES (1)")
        before = await describe(session)
        with pytest.raises(DowngradeRefused, match="would lose data: DROP TABLE two") as caught:
            await down(session, known, steps=2)
        assert await describe(session) == before
        assert await applied_versions(session) == VERSIONS
        done = await down(session, known, steps=2, allow_data_loss=True)
    assert caught.value.where == "dir/0002_two.sql:5"
    assert "--allow-data-loss" in caught.value.fix
    assert [a.version for a in done] == [20240115, 2]


async def test_a_column_with_rows_is_data(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as session:
        await up(session, known)
        await session.execute(f"INSERT INTO {table(session, 'one')} (a, c) VALUES (1, 2)")
        with pytest.raises(DowngradeRefused, match="DROP COLUMN of one"):
            await to(session, known, 2)
        assert await session.fetch(f"SELECT a, c FROM {table(session, 'one')}") == [(1, 2)]


async def test_a_table_under_another_name_is_seen_when_its_turn_comes(url: str) -> None:
    """The table to be dropped does not exist yet when the whole way back is looked at."""
    text = (
        "-- +migrate Up\nCREATE TABLE one (a integer);\n"
        "-- +migrate Down\nALTER TABLE one RENAME TO old;\nDROP TABLE old;\n"
    )
    known = migrations(dialect_of(url), {"0001_one.sql": text})
    async with opened(url) as session:
        await up(session, known)
        await session.execute(f"INSERT INTO {table(session, 'one')} VALUES (1)")
        with pytest.raises(DowngradeRefused, match="DROP TABLE old"):
            await down(session, known)
        now = table(session, "one" if session.undoes_ddl else "old")
        assert await session.fetch(f"SELECT a FROM {now}") == [(1,)]


async def test_to_goes_both_ways(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as session:
        assert [a.version for a in await to(session, known, 2)] == [1, 2]
        assert [a.version for a in await to(session, known, 20240115)] == [20240115]
        assert [a.version for a in await to(session, known, 1)] == [20240115, 2]
        assert [a.version for a in await to(session, known, 0)] == [1]
        for unknown in (3, -1):
            with pytest.raises(MigrationNotFound):
                await to(session, known, unknown)
            with pytest.raises(MigrationNotFound):
                await up(session, known, to=unknown)


# Without a transaction.

OUTSIDE = {"sqlite": "VACUUM;", "postgresql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a);"}


async def test_notransaction_runs_what_a_transaction_can_not(undoing_url: str) -> None:
    dialect = dialect_of(undoing_url)
    inside = f"-- +migrate Up\n{OUTSIDE[dialect]}\n"
    outside = f"-- +migrate Up notransaction\n{OUTSIDE[dialect]}\n-- +migrate Down notransaction\nSELECT 1;\n"
    async with opened(undoing_url) as session:
        with pytest.raises(MigrationFailed):
            await up(session, migrations(dialect, {"0001_one.sql": ONE, "0002_i.sql": inside}))
        known = migrations(dialect, {"0001_one.sql": ONE, "0002_i.sql": outside})
        assert [a.version for a in await up(session, known)] == [2]
        assert [a.version for a in await down(session, known)] == [2]
        assert await applied_versions(session) == [1]


async def test_notransaction_keeps_what_was_done_and_can_be_repeated(url: str) -> None:
    dialect = dialect_of(url)
    start = "-- +migrate Up notransaction\nCREATE TABLE IF NOT EXISTS one (a integer);\n"
    async with opened(url) as session:
        broken = migrations(dialect, {"0001_one.sql": start + "INSERT INTO nowhere VALUES (1);\n"})
        with pytest.raises(MigrationFailed, match="nowhere") as caught:
            await up(session, broken)
        assert await applied_versions(session) == []
        assert await session.fetch(f"SELECT * FROM {table(session, 'one')}") == []
        whole = migrations(dialect, {"0001_one.sql": start + "INSERT INTO one VALUES (1);\n"})
        assert [a.version for a in await up(session, whole)] == [1]
        assert await applied_versions(session) == [1]
    assert "stays" in caught.value.fix
    assert caught.value.where == "dir/0001_one.sql:3"


# The lock.


async def test_a_held_lock_is_waited_for_and_then_reported(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as holder, opened(url) as other:
        async with holder.exclusive(timedelta(0)):
            before = await describe(other)
            with pytest.raises(MigrationLocked):
                await up(other, known, lock_timeout=timedelta(milliseconds=1))
            assert await describe(other) == before
        assert [a.version for a in await up(other, known)] == VERSIONS


async def test_with_nothing_to_do_nobody_waits_for_the_lock(url: str) -> None:
    known = migrations(dialect_of(url), ALL)
    async with opened(url) as holder, opened(url) as other:
        await up(holder, known)
        async with holder.exclusive(timedelta(0)):
            assert await up(other, known, lock_timeout=timedelta(0)) == []
            await require_current(other, known)


async def test_a_process_that_came_past_the_lock_stops_at_the_ledger(url: str) -> None:
    known = migrations(dialect_of(url), {"0001_one.sql": ONE})

    class PastTheLock(Wrapped):
        """Believes to be alone, and is overtaken between its look at the ledger and its transaction."""

        is_overtaken = False

        def exclusive(self, timeout: timedelta) -> AbstractAsyncContextManager[None]:
            return nullcontext()

        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[None]:
            if not self.is_overtaken:
                self.is_overtaken = True
                async with opened(url) as other:
                    await up(other, known)
            async with super().transaction():
                yield

    async with opened(url) as session:
        with pytest.raises(MigrationFailed) as caught:
            await up(PastTheLock(session), known)
        assert await applied_versions(session) == [1]
        # Where a rollback undoes DDL the ledger row comes first; elsewhere the table is there already.
        stopped = isinstance(caught.value.__cause__, ConstraintViolated)
        assert stopped if session.undoes_ddl else "CREATE TABLE one" in caught.value.cause


# Printed SQL.


async def test_the_printed_text_does_what_up_does(url: str, tmp_path: Path) -> None:
    dialect = dialect_of(url)
    block = "-- +migrate Up\n-- +migrate StatementBegin\nCREATE TABLE four (a int) -- no semicolon;\n"
    known = migrations(dialect, {**ALL, "20240116_four.sql": block + "-- +migrate StatementEnd\n"})
    async with opened(url) as session:
        text = sql(known, schema=session.schema)
        await run_text(session, url, text)
        printed = await describe(session)
        assert await up(session, known) == []
        await require_current(session, known)
        back = sql(known, 20240115, 0, Direction.DOWN, schema=session.schema)
        await session.execute(f"DELETE FROM {ledger(session)} WHERE version = 20240116")
        await session.execute(f"DROP TABLE {table(session, 'four')}")
        await run_text(session, url, back)
        assert await applied_versions(session) == []
        await up(session, known)
        assert await describe(session) == printed


def test_printed_parts() -> None:
    known = migrations("sqlite", ALL)
    assert "CREATE TABLE two" not in sql(known, 0, 1)
    assert "schema_migrations (" in sql(known, 0, 1)
    part = sql(known, 1, 2)
    assert "CREATE TABLE two" in part and "CREATE TABLE one" not in part and "IF NOT EXISTS" not in part
    assert sql(known, 20240115) == ""
    with pytest.raises(MigrationNotFound):
        sql(known, 0, 3)
    with pytest.raises(InvalidArgument):
        sql(migrations("postgresql", ALL))
    one_way = migrations("sqlite", {"0001_a.sql": "-- +migrate Up\nSELECT 1;"})
    with pytest.raises(DowngradeRefused):
        sql(one_way, direction=Direction.DOWN)

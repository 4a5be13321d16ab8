"""The store's front door on every database: reading, queries, transactions, errors, places."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from holdfast.config.loader import load
from holdfast.config.schema import Config
from holdfast.errors import (
    AccessDenied,
    ConstraintViolated,
    DamagedData,
    ExecutionNotFound,
    InvalidArgument,
    InvalidData,
    MigrationsPending,
    NoStore,
    PoolTimeout,
    SchemaTooNew,
    StatementTimeout,
    StoreUnavailable,
    TransactionConflict,
    UnknownOutcome,
    UnsupportedStorage,
    VersionTaken,
)
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionDetails, ExecutionKey, ExecutionStatus
from holdfast.records.workflows import StoredDefinition
from holdfast.store.drivers import sqlite_place
from holdfast.store.drivers.base import Isolation, NewExecution, Transaction, Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for

pytestmark = pytest.mark.anyio


def configured(url: str, **settings: Any) -> Config:
    flags = {"storage.url": url, **{name.replace("__", "."): value for name, value in settings.items()}}
    return load(environ={}, cwd=Path("/"), flags=flags).config


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Store]:
    store = build_store(configured(url, **settings), create=True)
    await store.open(migrate=True)
    try:
        yield store
    finally:
        await store.close()


async def put(store: Store, id: str, **fields: Any) -> ExecutionKey:
    """An execution with one event; `status` other than running ends or suspends it."""
    status = fields.pop("status", "running")
    parent = fields.pop("parent", None)
    key = new_key()
    holding = Holding(key, id, store.tenant, epoch=1)
    new = NewExecution(
        key, store.tenant, id, fields.pop("workflow", "report"), "1", b"d" * 16,
        fields.pop("mark", b"f" * 16), "running", fields.pop("queue", "local"), "io", 0, None, b"o" * 16, 1,
        parent=parent, parent_path="step" if parent else None,
        tags=fields.pop("tags", ()), trigger_source="cli", started_by=fields.pop("started_by", None),
    )  # fmt: skip
    await store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, create=new))
    if status != "running":
        final = ExecutionStatus(status).is_final
        kind = EventType(f"execution.{status}") if final else EventType.EXECUTION_SUSPENDED
        moved = Transition(status, final=final, due_in=fields.pop("due_in", None))
        await store.journal.append(Entry(holding, kind, transition=moved))
    return key


def definition(name: str, version: str = "1", hash: bytes = b"h" * 16) -> StoredDefinition:
    return StoredDefinition(
        hash=hash, name=name, version=version, kind="yaml", document={"steps": [1, None, "é\0"]},
        created_at=datetime.now(UTC),
    )  # fmt: skip


async def ids(store: Store, query: str, **options: Any) -> list[str]:
    return [execution.id for execution in await store.list_executions(query, **options)]


def table(store: Store, name: str) -> str:
    return f"{store.driver.schema}.{name}" if store.driver.schema else name


async def insert(store: Store, to: Store | Transaction, boot: bytes) -> None:
    lease: Any = timedelta(hours=1) if store.driver.dialect == "postgresql" else 3_600_000_000
    executor = to.driver if isinstance(to, Store) else to
    await executor.fetch("workers.register", boot, "test", "host", 1, lease)


def workers_of(store: Store) -> str:
    return f"SELECT boot_id FROM {table(store, 'workers')} ORDER BY started_at"


async def workers(store: Store) -> list[bytes]:
    return [bytes(row[0]) for row in await store.driver.fetch_text(workers_of(store))]


# Reading.


async def test_executions_are_found_by_id_key_prefix_and_last(store_url: str) -> None:
    async with opened(store_url) as store:
        with pytest.raises(ExecutionNotFound, match="no execution yet"):
            await store.get_execution("@last")
        first = await put(store, "alpha-1")
        parent = await put(store, "alpha-2", tags=("a", "é"), started_by="me")
        await put(store, "beta", parent=parent)
        assert (await store.get_execution("alpha-1")).key == first
        assert (await store.get_execution("be")).id == "beta"
        assert (await store.get_execution("@last")).id == "alpha-2"
        found = await store.execution_by_key(parent)
        assert found is not None
        assert (found.id, found.status, found.epoch, found.parent) == ("alpha-2", "running", 1, None)
        assert found.created_at.tzinfo is not None
        assert found.duration is None
        assert await store.find_execution("alpha") is None
        assert await store.execution_by_key(new_key()) is None
        told = await store.execution_details(parent)
        assert told == ExecutionDetails(tags=("a", "é"), trigger="cli", started_by="me")
        assert await store.execution_details(first) == ExecutionDetails()
        for id, words in (
            ("alpha-", "several"),
            ("gamma", "no execution"),
            ("", "no execution"),
            ("%", "no"),
        ):
            with pytest.raises(ExecutionNotFound, match=words):
                await store.get_execution(id)


async def test_an_id_is_found_whole_though_others_begin_with_it(store_url: str) -> None:
    async with opened(store_url) as store:
        await put(store, "run")
        await put(store, "run-2")
        assert (await store.get_execution("run")).id == "run"
        assert (await store.get_execution("run-")).id == "run-2"


async def test_unfinished_twins_interrupted_counts_and_inbox(store_url: str) -> None:
    async with opened(store_url) as store:
        older, newer = await put(store, "older"), await put(store, "newer", status="ready")
        await put(store, "done", status="completed")
        await put(store, "other", mark=b"g" * 16)
        await put(store, "child", parent=older)
        assert [twin.key for twin in await store.unfinished_twins(b"f" * 16)] == [newer, older]
        assert [each.id for each in await store.interrupted()] == ["older", "newer", "other"]
        assert await store.counts() == {"completed": 1, "ready": 1, "running": 3}
        assert await store.inbox(older) == []
        names = [name for name, rows, size in await store.sizes() if rows >= 0 and size >= 0]
        assert {"executions", "events", "payloads", "inbox", "workers"} <= set(names)


async def test_a_wait_whose_timer_is_due_is_interrupted(store_url: str) -> None:
    async with opened(store_url) as store:
        for id, due in (("due", timedelta(seconds=-1)), ("later", timedelta(hours=1)), ("message", None)):
            await put(store, id, status="waiting", due_in=due)
        assert [each.id for each in await store.interrupted()] == ["due"]


async def test_definitions_and_versions(store_url: str) -> None:
    async with opened(store_url) as store:
        assert await store.get_definition(b"h" * 16) is None
        assert await store.newest_definition("report") is None
        assert await store.register_workflow(
            definition("report"), description="d", author="a", tags=["t", "é"]
        )
        assert not await store.register_workflow(definition("report"))
        with pytest.raises(VersionTaken):
            await store.register_workflow(definition("report", hash=b"j" * 16))
        assert await store.register_workflow(definition("report", "2", b"i" * 16))
        assert [each.version for each in await store.workflow_versions("report")] == ["2", "1"]
        known = await store.workflow_version("report", "1")
        assert known is not None
        assert (known.tags, known.description, known.author) == (("t", "é"), "d", "a")
        kept = await store.get_definition(b"h" * 16)
        assert kept is not None
        assert kept.document == {"steps": [1, None, "é\0"]}
        newest = await store.newest_definition("report")
        assert newest is not None
        assert newest.version == "2"
        await put(store, "one")
        (row,) = await store.list_workflows()
        assert (row["name"], row["version"], row["registered_versions"], row["executions"]) == (
            "report", "2", 2, 1,
        )  # fmt: skip
        assert isinstance(row["updated_at"], datetime)


# Queries.


async def test_a_query_filters_and_pages(store_url: str) -> None:
    async with opened(store_url) as store:
        for number in range(5):
            await put(store, f"r{number}", status="completed" if number % 2 else "running")
        await put(store, "two words", workflow="other", queue="slow", status="failed")
        assert await ids(store, "status:completed") == ["r3", "r1"]
        assert await ids(store, "workflow:report -status:completed") == ["r4", "r2", "r0"]
        assert await ids(store, 'id:"two words"') == ["two words"]
        assert await ids(store, "queue:slow version:1") == ["two words"]
        assert await ids(store, "started:<1h", limit=2) == ["two words", "r4"]
        assert await ids(store, "started:>1h") == []
        assert await ids(store, "started:>2020-01-01 finished:<1h") == ["two words", "r3", "r1"]
        assert await ids(store, "id:'; DROP TABLE executions; --".replace(" ", "")) == []
        page = await store.list_executions(limit=3)
        rest = await store.list_executions(before=page[-1].key, limit=10)
        assert [each.id for each in (*page, *rest)] == ["two words", "r4", "r3", "r2", "r1", "r0"]


@pytest.mark.parametrize(
    ("query", "words", "fix"),
    [
        ("failed", "not a filter", "status:failed"),
        ("statsu:failed", "no filter 'statsu'", "did you mean status"),
        ("zzz:1", "no filter 'zzz'", "use one of"),
        ("status:faild", "no status 'faild'", "failed"),
        ("started:2h", "needs < or >", "started:<2h"),
        ("-started:<2h", "needs < or >", "started:"),
        ("started:<soon", "neither a duration nor a date", ""),
        ("workflow:", "not a filter", ""),
    ],
)
async def test_a_bad_query_says_what_is_meant(query: str, words: str, fix: str) -> None:
    async with opened("memory://") as store:
        with pytest.raises(InvalidArgument) as refused:
            await store.list_executions(query)
        assert words in refused.value.cause
        assert fix in refused.value.fix
        for limit in (0, -1, 1001):
            with pytest.raises(InvalidArgument, match="outside 1 to 1000"):
                await store.list_executions(limit=limit)


async def test_text_that_no_database_keeps_is_refused_as_data(store_url: str) -> None:
    async with opened(store_url) as store:
        with pytest.raises(InvalidData):
            await store.find_execution("\ud800")
        assert await store.find_execution("fine") is None


# Transactions.


async def test_a_transaction_commits_at_its_end_or_not_at_all(store_url: str) -> None:
    async with opened(store_url) as store:
        async with store.transaction() as transaction:
            await insert(store, transaction, b"1" * 16)
        with pytest.raises(RuntimeError):
            async with store.transaction() as transaction:
                await insert(store, transaction, b"2" * 16)
                raise RuntimeError("no")
        assert await workers(store) == [b"1" * 16]


async def test_a_savepoint_undoes_its_part_alone(store_url: str) -> None:
    async with opened(store_url) as store:
        async with store.transaction() as transaction:
            await insert(store, transaction, b"1" * 16)
            async with transaction.savepoint():
                await insert(store, transaction, b"2" * 16)
                with pytest.raises(ConstraintViolated):
                    async with transaction.savepoint():
                        await insert(store, transaction, b"3" * 16)
                        await insert(store, transaction, b"1" * 16)
            await insert(store, transaction, b"4" * 16)
        assert sorted(await workers(store)) == [b"1" * 16, b"2" * 16, b"4" * 16]


@pytest.mark.parametrize("moment", ["begin", "body", "commit"])
async def test_a_cancelled_transaction_leaves_nothing_open(store_url: str, moment: str) -> None:
    inside = asyncio.Event()

    async def work(store: Store) -> None:
        async with store.transaction() as transaction:
            inside.set()
            await insert(store, transaction, b"1" * 16)
            if moment == "body":
                await asyncio.Event().wait()

    async with opened(store_url) as store:
        task = asyncio.create_task(work(store))
        if moment == "begin":
            await asyncio.sleep(0)  # one turn: it asked for BEGIN and has no answer
        else:
            await inside.wait()
        if moment == "commit":
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(5):
            async with store.transaction() as transaction:
                await insert(store, transaction, b"2" * 16)
            key = await put(store, "after")
        assert b"2" * 16 in await workers(store)
        if task.cancelled() and moment != "commit":
            assert b"1" * 16 not in await workers(store)
        assert await store.execution_by_key(key) is not None


async def test_a_function_in_a_transaction_is_tried_again_after_a_conflict(store_url: str) -> None:
    tries: list[int] = []
    async with opened(store_url) as store:

        @store.transactional(retries=2)
        async def work(transaction: Transaction, boot: bytes) -> str:
            tries.append(len(tries) + 1)
            await insert(store, transaction, boot)
            if len(tries) < 3:
                raise TransactionConflict("planted")
            return "done"

        assert await work(b"1" * 16) == "done"
        assert tries == [1, 2, 3]
        assert await workers(store) == [b"1" * 16]
        tries.clear()

        @store.transactional(retries=1)
        async def never(transaction: Transaction) -> None:
            tries.append(1)
            raise TransactionConflict("planted")

        with pytest.raises(TransactionConflict):
            await never()
        assert len(tries) == 2

        @store.transactional()
        async def unknown(transaction: Transaction) -> None:
            tries.append(1)
            raise UnknownOutcome("planted")

        tries.clear()
        with pytest.raises(UnknownOutcome):
            await unknown()
        assert len(tries) == 1


async def test_write_skew_is_a_conflict_that_is_repaired(fresh_postgres: str) -> None:
    """Two serializable functions that each read what the other writes."""
    async with opened(fresh_postgres) as store:
        both = [asyncio.Event(), asyncio.Event()]
        tries: list[int] = []

        @store.transactional(isolation=Isolation.SERIALIZABLE)
        async def work(transaction: Transaction, me: int) -> int:
            tries.append(me)
            seen = len(await transaction.fetch_text(workers_of(store)))
            both[me].set()
            await both[1 - me].wait()
            await insert(store, transaction, bytes([me]) * 16)
            return seen

        assert sorted(await asyncio.gather(work(0), work(1))) == [0, 1]
        assert len(tries) == 3


async def test_isolation_decides_what_a_second_look_sees(fresh_postgres: str) -> None:
    async with opened(fresh_postgres) as store:
        for isolation, seen in ((Isolation.READ_COMMITTED, 1), (Isolation.REPEATABLE_READ, 1)):
            async with store.transaction(isolation=isolation) as transaction:
                before = len(await transaction.fetch_text(workers_of(store)))
                await insert(store, store, new_key())
                after = len(await transaction.fetch_text(workers_of(store)))
            assert after - before == (seen if isolation is Isolation.READ_COMMITTED else 0)


async def test_a_connection_lost_at_commit_is_an_unknown_outcome(fresh_postgres: str) -> None:
    async with opened(fresh_postgres) as store, opened(fresh_postgres) as other:
        with pytest.raises(UnknownOutcome) as unknown:
            async with store.transaction() as transaction:
                ((pid,),) = await transaction.fetch_text("SELECT pg_backend_pid()")
                await insert(store, transaction, b"1" * 16)
                await other.driver.fetch_text("SELECT pg_terminate_backend($1, 5000)", pid)
        assert "COMMIT" in unknown.value.cause
        assert await workers(store) == []  # and the pool has replaced the connection


# Limits and errors.


async def test_a_full_pool_says_so(fresh_postgres: str) -> None:
    limits = {
        "storage__postgresql__pool__min": "1",
        "storage__postgresql__pool__max": "1",
        "storage__postgresql__pool__acquire_timeout": "50ms",
    }
    async with opened(fresh_postgres, **limits) as store:
        async with store.transaction():
            with pytest.raises(PoolTimeout, match="pool of 1"):
                await store.counts()
        assert await store.counts() == {}


ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'"


async def test_a_cancelled_reader_gives_its_connection_back(fresh_postgres: str) -> None:
    limits = {"storage__postgresql__pool__min": "1", "storage__postgresql__pool__max": "1"}
    async with opened(fresh_postgres, **limits) as store, opened(fresh_postgres) as other:
        for _ in range(3):
            task = asyncio.create_task(store.driver.fetch_text("SELECT pg_sleep(60)::text"))
            async with asyncio.timeout(5):
                while not await other.driver.fetch_text(ASLEEP):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.wait([task])
        async with asyncio.timeout(5):
            assert await store.counts() == {}


async def test_a_statement_has_a_time_limit(shared_url: str) -> None:
    endless = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "postgresql": "SELECT pg_sleep(60)::text",
        "mysql": "SELECT sleep(60)",
    }
    async with opened(shared_url, storage__statement_timeout="100ms") as store:
        with pytest.raises(StatementTimeout):
            await store.driver.fetch_text(endless[store.driver.dialect])
        assert await store.counts() == {}


async def test_a_broken_constraint_is_named(store_url: str) -> None:
    async with opened(store_url) as store:
        await insert(store, store, b"1" * 16)
        with pytest.raises(ConstraintViolated) as broken:
            await insert(store, store, b"1" * 16)
        assert broken.value.details["constraint"]


async def test_places_that_are_no_store(tmp_path: Path, fresh_postgres: str) -> None:
    for url, error in (
        (f"sqlite:///{tmp_path}/none.db", NoStore),
        (f"sqlite:///{tmp_path}", UnsupportedStorage),
        (fresh_postgres, NoStore),
        (f"{fresh_postgres}_gone", NoStore),
        ("postgresql://root@127.0.0.1:1/none", StoreUnavailable),
    ):
        store = build_store(configured(url))
        with pytest.raises(error):
            await store.open()
        await store.close()
        await store.close()
    assert not (tmp_path / "none.db").exists()


async def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("These are my notes, and they are longer than a header of SQLite." * 20, "utf-8")
    store = build_store(configured(f"sqlite:///{path}"), create=True)
    with pytest.raises(DamagedData):
        await store.open(migrate=True)
    assert path.read_text("utf-8").startswith("These are my notes")


async def test_a_schema_of_another_age_is_refused(shared_url: str) -> None:
    async with opened(shared_url) as store:
        text = f"DELETE FROM {table(store, 'schema_migrations')}"
        newer = f"INSERT INTO {table(store, 'schema_migrations')} (version) VALUES (9999)"
        await store.driver.fetch_text(newer)
        with pytest.raises(SchemaTooNew):
            await _reopen(shared_url)
        await store.driver.fetch_text(text)
        with pytest.raises((MigrationsPending, NoStore)):
            await _reopen(shared_url)


async def _reopen(url: str) -> None:
    store = build_store(configured(url))
    try:
        await store.open()
    finally:
        await store.close()


async def test_a_closed_store_refuses(store_url: str) -> None:
    async with opened(store_url) as store:
        pass
    with pytest.raises(StoreUnavailable):
        await store.counts()
    with pytest.raises(StoreUnavailable):
        await put(store, "late")
    await store.close()


async def test_a_wrong_user_is_denied(fresh_postgres: str) -> None:
    parts = urlsplit(fresh_postgres)
    stranger = parts._replace(netloc=f"nobody_here:wrong@{parts.netloc.rpartition('@')[2]}")
    store = build_store(configured(urlunsplit(stranger)))
    with pytest.raises(AccessDenied):
        await store.open()


# SQLite's files.


async def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(f"sqlite:///{tmp_path}/deep/er/x.db") as store:
            await put(store, "one")
            for name in ("x.db", "x.db-wal", "x.db-shm"):
                mode = stat.S_IMODE((tmp_path / "deep" / "er" / name).stat().st_mode)
                assert mode == 0o600, name
    finally:
        os.umask(before)
    assert sorted(path.name for path in (tmp_path / "deep" / "er").glob("x.db*")) == [
        "x.db",
        "x.db.migrate-lock",
    ]


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw - nfs4 server:/export rw
31 22 0:41 / /mnt/with\\040space rw - cifs //server/share rw
32 30 8:2 / /mnt/share/local rw - xfs /dev/sdb1 rw
33 22 0:42 / /mnt/twice rw - ext4 /dev/sdc rw
34 22 0:43 / /mnt/twice rw - fuse.sshfs host: rw
a broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/x.db", "ext4"),
        ("/mnt/share/x.db", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared/x.db", "ext4"),
        ("/mnt/with space/x.db", "cifs"),
        ("/mnt/share/local/x.db", "xfs"),
        ("/mnt/twice/x.db", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, "utf-8")
    assert sqlite_place.filesystem_type(Path(path), mounts) == kind
    assert sqlite_place.filesystem_type(Path(path), tmp_path / "none") is None


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_place, "filesystem_type", lambda path: "nfs4")
    store = build_store(configured(f"sqlite:///{tmp_path}/x.db"), create=True)
    with pytest.raises(UnsupportedStorage, match="network file system"):
        await store.open(migrate=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_locked_file_is_waited_for_no_longer_than_the_busy_timeout(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    async with (
        opened(url) as holder,
        opened(url, storage__sqlite__busy_timeout="50ms") as hasty,
        opened(url, storage__sqlite__busy_timeout="10s") as patient,
    ):
        async with holder.transaction() as transaction:
            await insert(holder, transaction, b"1" * 16)
            with pytest.raises(StoreUnavailable, match="locked"):
                async with hasty.transaction():
                    pass
            waiting = asyncio.create_task(insert(patient, patient, b"2" * 16))
        await waiting
        assert sorted(await workers(hasty)) == [b"1" * 16, b"2" * 16]


WRITER = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from tests.conformance.test_store import opened, put
async def main():
    async with opened(sys.argv[1]) as store:
        for number in range(20):
            await put(store, f"{sys.argv[2]}-{number}")
asyncio.run(main())
"""


async def test_processes_share_one_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    root = str(Path(__file__).parents[2])
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name, root], stderr=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    for process in processes:
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, errors
    async with opened(url) as store:
        assert await store.counts() == {"running": 60}


def test_a_url_is_enough_to_configure() -> None:
    assert config_for("memory://").storage.type == "memory"

"""The MySQL and MariaDB driver: what its server makes different from the others, on tables of its own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from holdfast.errors import (
    AccessDenied,
    ConstraintViolated,
    HoldfastError,
    InvalidConfiguration,
    InvalidData,
    NoStore,
    PoolTimeout,
    StatementTimeout,
    StoreUnavailable,
    TransactionConflict,
    UnknownOutcome,
    UnsupportedStorage,
)
from holdfast.store.drivers.base import Isolation
from holdfast.store.drivers.mysql import MysqlDriver, MysqlOptions
from holdfast.store.drivers.mysql_server import check_durability, server_of
from holdfast.store.drivers.tls import TlsMode, TlsOptions
from scripts import mariadb, private_servers

pytestmark = pytest.mark.anyio

TABLE = """
CREATE TABLE items (
    `key` VARBINARY(16) NOT NULL PRIMARY KEY,
    name VARCHAR(255),
    at DATETIME(6),
    number BIGINT,
    real_number DOUBLE,
    flag BOOLEAN,
    body LONGBLOB,
    CONSTRAINT items_positive CHECK (number <> 13)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary}
"""
INSERT = "INSERT INTO items (`key`, name) VALUES (?1, ?2)"
BRIEF = timedelta(milliseconds=500)


def options_for(url: str, **changes: Any) -> MysqlOptions:
    parts = urlsplit(url)
    options = MysqlOptions(
        host=parts.hostname or "",
        port=parts.port or 3306,
        database=parts.path[1:],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or "") or None,
    )
    return replace(options, **changes)


@asynccontextmanager
async def driver_for(
    url: str, *, shift: timedelta = timedelta(0), **changes: Any
) -> AsyncIterator[MysqlDriver]:
    driver = MysqlDriver(options_for(url, **changes), clock_shift=shift)
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


@pytest.fixture
async def driver(fresh_mysql: str) -> AsyncIterator[MysqlDriver]:
    async with driver_for(fresh_mysql) as found:
        await found.fetch_text(TABLE)
        yield found


async def sessions_of(driver: MysqlDriver) -> list[int]:
    """The server's numbers of all sessions in the database of `driver` that run a statement, but this one."""
    rows = await driver.fetch_text(
        "SELECT id FROM information_schema.processlist "
        "WHERE db = database() AND command = 'Query' AND id <> connection_id()"
    )
    return [row[0] for row in rows]


async def until_running(driver: MysqlDriver) -> int:
    async with asyncio.timeout(10):
        while True:
            if found := await sessions_of(driver):
                return found[0]


async def until_none_runs(driver: MysqlDriver) -> None:
    async with asyncio.timeout(10):
        while True:
            if not await sessions_of(driver):
                return


# Values.

TEXTS = [
    "", " ", "a", "a ", "A", "ä", "Ä", "ß", "ss", "😀", "𝔘nicode", "'", "\\", "\\'",
    "\\\\'; DROP TABLE items; --", "?1 %s {binary}",
    "line\r\nbreak\x1a", "\ud7ff\ue000\uffff", "e\u0301", "é",
]  # fmt: skip


async def test_texts_come_back_and_are_all_different(driver: MysqlDriver) -> None:
    for number, text in enumerate(TEXTS):
        await driver.fetch_text(INSERT, b"%d" % number, text)
    rows = await driver.fetch_text("SELECT name FROM items ORDER BY length(`key`), `key`")
    assert [row[0] for row in rows] == TEXTS
    for number, text in enumerate(TEXTS):
        found = await driver.fetch_text("SELECT `key` FROM items WHERE name = ?1", text)
        assert [row[0] for row in found] == [b"%d" % number], text
    assert (await driver.fetch_text("SELECT count(DISTINCT name) FROM items"))[0][0] == len(TEXTS)
    in_order = [row[0] for row in await driver.fetch_text("SELECT name FROM items ORDER BY name")]
    assert in_order == sorted(TEXTS, key=str.encode)


async def test_a_user_variable_and_a_json_list_compare_byte_by_byte_too(driver: MysqlDriver) -> None:
    await driver.fetch_text(INSERT, b"1", "a ")
    script = "SET @hf_name = ?1\n-- then\nSELECT count(*) FROM items WHERE name = @hf_name"
    assert [await driver.fetch_text(script, text) for text in ("a", "A ", "a ")] == [[(0,)], [(0,)], [(1,)]]
    listed = (
        "SELECT count(*) FROM items WHERE name IN "
        "(SELECT v COLLATE {binary} FROM "
        "JSON_TABLE(?1, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 PATH '$')) t)"
    )
    assert await driver.fetch_text(listed, '["a", "A "]') == [(0,)]
    assert await driver.fetch_text(listed, '["x", "a "]') == [(1,)]


async def test_bytes_numbers_and_times_come_back(driver: MysqlDriver) -> None:
    every_byte = bytes(range(256)) * 3
    at = datetime(2031, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    await driver.fetch_text(
        "INSERT INTO items VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        b"\0'\\\xff", None, at, -(2**63), 0.1 + 0.2, True, memoryview(every_byte),
    )  # fmt: skip
    (row,) = await driver.fetch_text("SELECT * FROM items WHERE at = ?1 AND number < ?2", at, 2**63 - 1)
    assert row == (b"\0'\\\xff", None, at, -(2**63), 0.1 + 0.2, 1, every_byte)
    assert row[2].tzinfo is UTC
    rows = await driver.fetch_text("SELECT sum(number), count(*), max(at), 1.5e300 FROM items")
    assert rows == [(-(2**63), 1, at, 1.5e300)]


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, float("nan"), float("inf"), "half \ud800", datetime(2031, 1, 1), object(), [1]],
    ids=lambda value: type(value).__name__,
)
async def test_values_that_no_column_holds_are_refused_before_they_are_sent(
    driver: MysqlDriver, value: object
) -> None:
    async with driver.transaction() as transaction:
        await transaction.fetch_text(INSERT, b"1", "before")
        with pytest.raises(InvalidData):
            await transaction.fetch_text("SELECT ?1", value)
        await transaction.fetch_text(INSERT, b"2", "after")
    assert (await driver.fetch_text("SELECT count(*) FROM items"))[0][0] == 2


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("name", "x" * 256, ConstraintViolated),
        ("number", "not a number", InvalidData),
        ("at", "2031-02-30 00:00:00", InvalidData),
        ("number", 13, ConstraintViolated),
        ("`key`", None, ConstraintViolated),
        ("`key`", b"there", ConstraintViolated),
    ],
)
async def test_values_that_the_server_refuses(
    driver: MysqlDriver, column: str, value: object, error: type[HoldfastError]
) -> None:
    await driver.fetch_text(INSERT, b"there", "x")
    insert = "INSERT INTO items (`key`) VALUES (?1)"
    if column != "`key`":
        insert = f"INSERT INTO items (`key`, {column}) VALUES (_binary'new', ?1)"
    with pytest.raises(error):
        await driver.fetch_text(insert, value)


async def test_large_bodies_up_to_what_the_server_takes(driver: MysqlDriver) -> None:
    (most,) = (await driver.fetch_text("SELECT @@max_allowed_packet"))[0]
    text = "INSERT INTO items (`key`, body) VALUES (?1, ?2)"
    for key, size in ((b"1", 3 << 20), (b"2", most - 200)):
        await driver.fetch_text(text, key, b"\xe4" * size)
        (row,) = await driver.fetch_text(
            "SELECT length(body), sha2(body, 256) FROM items WHERE `key` = ?1", key
        )
        assert row[0] == size
    with pytest.raises(InvalidData, match="the server takes fewer"):
        await driver.fetch_text(text, b"3", b"'" * (most // 2))  # every quote takes two bytes
    assert (await driver.fetch_text("SELECT count(*) FROM items"))[0][0] == 2


# Scripts.


async def test_a_script_happens_whole_or_not_at_all(driver: MysqlDriver) -> None:
    both = f"{INSERT}\n-- then\nSET @hf_n = row_count()\n-- then\n{INSERT.replace('?1', '?3')}"
    script = f"{both}\n-- then\nSELECT @hf_n"
    assert await driver.fetch_text(script, b"1", "one", b"2") == [(1,)]
    with pytest.raises(ConstraintViolated):
        await driver.fetch_text(script, b"3", "three", b"1")
    rows = await driver.fetch_text("SELECT `key` FROM items ORDER BY 1")
    assert [row[0] for row in rows] == [b"1", b"2"]
    # Not even for the session that ran it, and its next transaction does not carry it along.
    await driver.fetch_text(script, b"4", "four", b"5")
    assert (await driver.fetch_text("SELECT count(*) FROM items"))[0][0] == 4
    assert driver.pool_figures().size == 1


async def test_a_script_is_part_of_an_open_transaction(driver: MysqlDriver) -> None:
    script = f"{INSERT}\n-- then\nSELECT count(*) FROM items"
    with pytest.raises(RuntimeError):
        async with driver.transaction() as transaction:
            assert await transaction.fetch_text(script, b"1", "one") == [(1,)]
            raise RuntimeError
    assert await driver.fetch_text("SELECT count(*) FROM items") == [(0,)]


async def test_a_transaction_ends_with_its_first_error(driver: MysqlDriver) -> None:
    """Otherwise a half of a script, or what came before a deadlock, could be committed."""
    await driver.fetch_text(INSERT, b"there", "x")
    with pytest.raises(TransactionConflict):
        async with driver.transaction() as transaction:
            with pytest.raises(ConstraintViolated):
                await transaction.fetch_text(
                    f"{INSERT}\n-- then\n{INSERT.replace('?1', '?3')}", b"1", "", b"there"
                )
            with pytest.raises(TransactionConflict):
                await transaction.fetch_text(INSERT, b"2", "two")
    async with driver.transaction() as transaction:
        with suppress(ConstraintViolated):
            async with transaction.savepoint():
                await transaction.fetch_text(
                    f"{INSERT}\n-- then\n{INSERT.replace('?1', '?3')}", b"1", "", b"there"
                )
        async with transaction.savepoint():
            await transaction.fetch_text(INSERT, b"2", "two")
    rows = await driver.fetch_text("SELECT `key` FROM items ORDER BY 1")
    assert [row[0] for row in rows] == [b"2", b"there"]


async def test_many_rows_are_loaded_or_none(driver: MysqlDriver) -> None:
    rows = [(b"%d" % number, "x" * 200, number) for number in range(3_000) if number != 13]
    async with driver.transaction() as transaction:
        await transaction.load("items", ["key", "name", "number"], rows)
    assert await driver.fetch_text("SELECT count(*), max(number) FROM items") == [(2_999, 2_999)]
    with pytest.raises(ConstraintViolated):
        async with driver.transaction() as transaction:
            await transaction.load("items", ["key", "number"], [(b"a", 1), (b"b", 13)])
    assert await driver.fetch_text("SELECT count(*) FROM items") == [(2_999,)]


# Sessions.


async def test_how_a_session_is_set_up(driver: MysqlDriver, fresh_mysql: str) -> None:
    asked = "SELECT @@session.{}, @@time_zone, @@autocommit, @@character_set_client, @@sql_mode"
    (row,) = await driver.fetch_text(
        asked.format("tx_isolation" if await _is_mariadb(driver) else "transaction_isolation")
    )
    assert row[:4] == ("READ-COMMITTED", "+00:00", 1, "utf8mb4")
    assert "STRICT_TRANS_TABLES" in row[4] and "NO_BACKSLASH_ESCAPES" not in row[4]
    now = "SELECT " + driver.now
    (here,) = (await driver.fetch_text(now))[0]
    assert abs(here - datetime.now(UTC)) < timedelta(minutes=1)
    async with driver_for(fresh_mysql, shift=timedelta(hours=-3)) as shifted:
        (there,) = (await shifted.fetch_text("SELECT " + shifted.now))[0]
    assert timedelta(hours=2.9) < here - there < timedelta(hours=3.1)


async def _is_mariadb(driver: MysqlDriver) -> bool:
    return "MariaDB" in (await driver.fetch_text("SELECT version()"))[0][0]


async def test_levels_of_isolation(driver: MysqlDriver) -> None:
    count = "SELECT count(*) FROM items"
    for level, seen in ((Isolation.READ_COMMITTED, 1), (Isolation.REPEATABLE_READ, 0)):
        await driver.fetch_text("DELETE FROM items")
        async with driver.transaction(isolation=level) as transaction:
            assert await transaction.fetch_text(count) == [(0,)]
            await driver.fetch_text(INSERT, b"1", "one")
            assert await transaction.fetch_text(count) == [(seen,)]
    # The level ends with its transaction.
    async with driver.transaction() as transaction:
        await transaction.fetch_text(count)
        await driver.fetch_text(INSERT, b"2", "two")
        assert await transaction.fetch_text(count) == [(2,)]


async def test_no_gap_is_locked(driver: MysqlDriver) -> None:
    async with driver.transaction() as transaction:
        await transaction.fetch_text("SELECT * FROM items WHERE `key` > ?1 FOR UPDATE", b"0")
        async with asyncio.timeout(5):
            await driver.fetch_text(INSERT, b"1", "one")


# What is given up, and what is lost.


async def test_a_cancelled_statement_is_killed_and_its_connection_never_used_again(
    driver: MysqlDriver,
) -> None:
    await driver.fetch_text(INSERT, b"1", "one")
    asked = asyncio.create_task(driver.fetch_text("SELECT sleep(20), 'of the cancelled'"))
    await until_running(driver)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    answers = await asyncio.gather(*(driver.fetch_text("SELECT ?1", number) for number in range(30)))
    assert answers == [[(number,)] for number in range(30)]
    await until_none_runs(driver)


async def test_a_cancelled_script_that_waits_for_a_lock_lets_go_of_its_own(driver: MysqlDriver) -> None:
    """The server does not notice that nobody waits for its answer, and would hold on for seconds."""
    for key in (b"1", b"2"):
        await driver.fetch_text(INSERT, key, "")
    touch = "UPDATE items SET number = 1 WHERE `key` = ?1"
    async with driver.transaction() as transaction:
        await transaction.fetch_text(touch, b"1")
        both = asyncio.create_task(
            driver.fetch_text(f"{touch}\n-- then\n{touch.replace('?1', '?2')}", b"2", b"1")
        )
        await until_running(driver)
        both.cancel()
        async with asyncio.timeout(5):
            await driver.fetch_text("SELECT * FROM items WHERE `key` = ?1 FOR UPDATE", b"2")
    assert await driver.fetch_text("SELECT count(*) FROM items WHERE number = 1") == [(1,)]


async def test_a_cancelled_transaction_lets_go_of_its_locks(driver: MysqlDriver) -> None:
    await driver.fetch_text(INSERT, b"1", "one")

    async def hold(statement: str) -> None:
        async with driver.transaction() as transaction:
            await transaction.fetch_text("UPDATE items SET name = 'lost' WHERE `key` = ?1", b"1")
            await transaction.fetch_text(statement)
            locked.set()
            await asyncio.sleep(20)

    for statement in ("SELECT 1", "SELECT sleep(20)"):
        locked = asyncio.Event()
        holder = asyncio.create_task(hold(statement))
        if statement == "SELECT 1":
            await locked.wait()
        else:
            await until_running(driver)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        async with asyncio.timeout(5):
            rows = await driver.fetch_text("SELECT name FROM items WHERE `key` = ?1 FOR UPDATE", b"1")
        assert rows == [("one",)]


async def test_a_statement_that_takes_too_long(fresh_mysql: str) -> None:
    async with driver_for(fresh_mysql, statement_timeout=BRIEF) as driver:
        began = time.monotonic()
        with pytest.raises(StatementTimeout):
            # Not a SELECT alone, which is all that one of the servers bounds by itself.
            await driver.fetch_text("SET @hf_x = (SELECT sleep(20))")
        assert time.monotonic() - began < 10
        await until_none_runs(driver)
        assert await driver.fetch_text("SELECT 1") == [(1,)]


async def test_a_server_that_does_not_answer(fresh_mysql: str) -> None:
    async with relayed(fresh_mysql) as relay, driver_for(relay.url, statement_timeout=BRIEF) as driver:
        assert await driver.fetch_text("SELECT 1") == [(1,)]
        relay.deaf = True
        with pytest.raises(StatementTimeout):
            await driver.fetch_text("SELECT 2")
        relay.deaf = False
        assert await driver.fetch_text("SELECT 3") == [(3,)]


async def test_a_lock_that_is_held_elsewhere(driver: MysqlDriver, fresh_mysql: str) -> None:
    await driver.fetch_text(INSERT, b"1", "one")
    async with driver_for(fresh_mysql, statement_timeout=timedelta(seconds=5)) as other:
        await other.fetch_text("SELECT 1")
        async with driver.transaction() as transaction:
            await transaction.fetch_text("SELECT * FROM items FOR UPDATE")
            with pytest.raises((TransactionConflict, StatementTimeout)):
                await other.fetch_text(
                    f"{INSERT}\n-- then\nUPDATE items SET name = 'x' WHERE `key` = ?3", b"2", "two", b"1"
                )
    rows = await driver.fetch_text("SELECT `key`, name FROM items")
    assert rows == [(b"1", "one")], "half of a script stayed after a lock wait that timed out"


async def test_a_deadlock_is_a_conflict_in_a_transaction_and_nothing_to_a_statement(
    driver: MysqlDriver,
) -> None:
    for key in (b"1", b"2"):
        await driver.fetch_text(INSERT, key, "")
    touch = "UPDATE items SET number = coalesce(number, 0) + 1 WHERE `key` = ?1"
    both = f"{touch}\n-- then\nDO sleep(0.02)\n-- then\n{touch.replace('?1', '?2')}"
    async with asyncio.timeout(60):
        await asyncio.gather(*(driver.fetch_text(both, *pair) for pair in [(b"1", b"2"), (b"2", b"1")] * 3))
    assert await driver.fetch_text("SELECT number FROM items") == [(6,), (6,)]
    ready = [asyncio.Event(), asyncio.Event()]

    async def cross(mine: int, first: bytes, second: bytes) -> None:
        async with driver.transaction() as transaction:
            await transaction.fetch_text(touch, first)
            ready[mine].set()
            await ready[1 - mine].wait()
            await transaction.fetch_text(touch, second)

    outcomes = await asyncio.gather(cross(0, b"1", b"2"), cross(1, b"2", b"1"), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if outcome) == [TransactionConflict]
    assert await driver.fetch_text("SELECT number FROM items") == [(7,), (7,)]


async def test_a_killed_session(driver: MysqlDriver) -> None:
    (idle,) = (await driver.fetch_text("SELECT connection_id()"))[0]
    async with driver.transaction() as transaction:  # on the idle one; the killer comes on another
        assert await transaction.fetch_text("SELECT connection_id()") == [(idle,)]
        await driver.fetch_text("SELECT 1")
    async with driver.transaction() as first:
        await first.fetch_text("SELECT 1")
        (killed,) = (await driver.fetch_text("SELECT connection_id()"))[0]
        await first.fetch_text("DO 0")
        with suppress(HoldfastError):
            await first.fetch_text(f"KILL {killed}")
    # The pool finds out by itself, and lends another one.
    for number in range(10):
        assert await driver.fetch_text("SELECT ?1", number) == [(number,)]

    running = asyncio.create_task(driver.fetch_text("SELECT sleep(20)"))
    session = await until_running(driver)
    await driver.fetch_text(f"KILL {session}")
    with pytest.raises(StoreUnavailable):
        await running


async def test_a_transaction_whose_session_was_killed(driver: MysqlDriver) -> None:
    with pytest.raises((StoreUnavailable, UnknownOutcome)):
        async with driver.transaction() as transaction:
            (session,) = (
                await transaction.fetch_text(f"{INSERT}\n-- then\nSELECT connection_id()", b"1", "")
            )[0]
            await driver.fetch_text(f"KILL {session}")
            await transaction.fetch_text(INSERT, b"2", "")
    assert await driver.fetch_text("SELECT count(*) FROM items") == [(0,)]


@pytest.mark.parametrize(("place", "happened"), [("before", False), ("replied", True)])
async def test_a_connection_that_is_lost_at_commit(fresh_mysql: str, place: str, happened: bool) -> None:
    async with (
        driver_for(fresh_mysql) as straight,
        relayed(fresh_mysql) as relay,
        driver_for(relay.url) as driver,
    ):
        await straight.fetch_text(TABLE)
        with pytest.raises(UnknownOutcome):
            async with driver.transaction() as transaction:
                await transaction.fetch_text(INSERT, b"1", "one")
                relay.cut_at = (b"COMMIT", place)
        assert relay.cuts == 1
        await until_none_runs(straight)
        assert await straight.fetch_text("SELECT count(*) FROM items") == [(int(happened),)]
        assert await driver.fetch_text("SELECT 1") == [(1,)]


# Connecting.


async def test_addresses_that_lead_nowhere(fresh_mysql: str) -> None:
    wrong: list[tuple[dict[str, Any], type[HoldfastError]]] = [
        ({"database": "holdfast_test_not_there"}, NoStore),
        ({"user": "holdfast_nobody", "password": "wrong"}, AccessDenied),
        ({"port": 1}, StoreUnavailable),
        ({"host": "/nowhere/mysqld.sock"}, StoreUnavailable),
    ]
    for changes, error in wrong:
        with pytest.raises(error) as caught:
            async with driver_for(fresh_mysql, **changes):
                pass
        assert "wrong" not in str(caught.value)
    closed = MysqlDriver(options_for(fresh_mysql))
    with pytest.raises(StoreUnavailable):
        await closed.fetch_text("SELECT 1")


async def test_a_pool_that_has_nothing_left(fresh_mysql: str) -> None:
    async with driver_for(fresh_mysql, pool_max=1, acquire_timeout=timedelta(milliseconds=50)) as driver:
        async with driver.transaction() as transaction:
            await transaction.fetch_text("SELECT 1")
            with pytest.raises(PoolTimeout):
                await driver.fetch_text("SELECT 1")
        assert await driver.fetch_text("SELECT 1") == [(1,)]
        figures = driver.pool_figures()
    assert (figures.timeouts, figures.most, figures.size, figures.idle) == (1, 1, 1, 1)


async def test_an_old_or_unused_connection_is_replaced(fresh_mysql: str) -> None:
    async with driver_for(fresh_mysql, max_lifetime=timedelta(milliseconds=20)) as driver:
        (first,) = (await driver.fetch_text("SELECT connection_id()"))[0]
        await asyncio.sleep(0.03)
        assert (await driver.fetch_text("SELECT connection_id()"))[0][0] != first
    async with driver_for(fresh_mysql, pool_min=1, idle_timeout=timedelta(milliseconds=10)) as driver:
        await asyncio.gather(*(driver.fetch_text("SELECT sleep(0.05)") for _ in range(4)))
        assert driver.pool_figures().size == 4
        for _ in range(200):
            if driver.pool_figures().size == 1:
                break
            await asyncio.sleep(0.05)
        assert driver.pool_figures().idle == 1


def test_which_servers_are_refused() -> None:
    for greeting in ("10.11.19-MariaDB-0+deb12u1", "5.5.5-11.4.2-MariaDB", "8.0.19", "8.4.3-commercial"):
        assert server_of(greeting, "here").is_mariadb is ("MariaDB" in greeting)
    for greeting in ("10.5.9-MariaDB", "5.7.44", "8.0.18", "nonsense"):
        with pytest.raises(UnsupportedStorage):
            server_of(greeting, "here")
    check_durability((1, 0, 0), "here")
    check_durability((1, 1, 1), "here")
    for row in ((2, 0, 0), (0, 1, 1), (1, 1, 0), (1, 1, 100)):
        with pytest.raises(UnsupportedStorage):
            check_durability(row, "here")


@pytest.fixture(scope="module")
def private_server() -> Iterator[mariadb.Instance]:
    """A server whose settings may be changed: those of the other one are everybody's."""
    program = mariadb.programs()
    if program is None:
        pytest.skip("mariadbd is not installed here")
    server, record = mariadb.start_private(program, keep=False)
    yield server
    mariadb.release(server, record)


async def test_a_server_that_may_lose_commits_is_refused(private_server: mariadb.Instance) -> None:
    async with driver_for(private_server.url) as driver:
        await driver.fetch_text("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        # Also by a connection that is made later.
        async with driver.transaction() as transaction:
            await transaction.fetch_text("SELECT 1")
            with pytest.raises(UnsupportedStorage) as caught:
                await driver.fetch_text("SELECT 1")
        assert "innodb_flush_log_at_trx_commit" in str(caught.value.fix)
        with pytest.raises(UnsupportedStorage):
            async with driver_for(private_server.url):
                pass
        # The session that is open already puts it right for those that follow.
        await driver.fetch_text("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


def certified(server: mariadb.Instance, folder: Path) -> None:
    """Give a server a certificate for 127.0.0.1, signed by `ca.pem` in `folder` and not by `other.pem`."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -subj /CN=other -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server",
        "x509 -req -in server.csr -out server.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    place = Path(server.directory)
    for name in ("ca.pem", "server.pem", "server.key"):
        private_servers.write_private(place / name, (folder / name).read_text(), server.account)
    settings = place / "my.cnf"
    settings.write_text(
        f"{settings.read_text()}ssl-ca = {place}/ca.pem\nssl-cert = {place}/server.pem\n"
        f"ssl-key = {place}/server.key\n"
    )


async def cipher_of(server: mariadb.Instance, host: str, mode: TlsMode, ca: Path | None) -> str:
    async with driver_for(server.url, host=host, tls=TlsOptions(mode=mode, ca=ca)) as driver:
        rows = await driver.fetch_text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    return str(rows[0][1])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
async def test_encryption_holds_or_the_connection_is_refused(
    private_server: mariadb.Instance, tmp_path: Path
) -> None:
    here, ca, other = "127.0.0.1", tmp_path / "ca.pem", tmp_path / "other.pem"
    with pytest.raises(StoreUnavailable):  # never in the clear instead
        await cipher_of(private_server, here, TlsMode.REQUIRE, None)
    certified(private_server, tmp_path)
    await asyncio.to_thread(private_server.restart, "fast")
    assert await cipher_of(private_server, here, TlsMode.AUTO, None) == ""
    for host, mode, signer in (
        (here, TlsMode.VERIFY_FULL, ca), ("localhost", TlsMode.VERIFY_CA, ca), (here, TlsMode.REQUIRE, None),
    ):  # fmt: skip
        assert await cipher_of(private_server, host, mode, signer), mode
    for host, mode, signer in (
        ("localhost", TlsMode.VERIFY_FULL, ca), (here, TlsMode.VERIFY_FULL, other),
        (here, TlsMode.VERIFY_CA, other), (here, TlsMode.VERIFY_FULL, None),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable):
            await cipher_of(private_server, host, mode, signer)
    with pytest.raises(InvalidConfiguration):
        await cipher_of(private_server, here, TlsMode.VERIFY_FULL, tmp_path / "nothing.pem")


# A relay that breaks things on purpose.


class Relay:
    """One address in front of the server. `cut_at` is a word of a client's packet, and when to cut there."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.url = ""
        self.deaf = False
        self.cut_at = (b"", "")
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(self._target.hostname, self._target.port)
        dropping = asyncio.Event()
        up = asyncio.create_task(self._up(reader, writer, server[1], dropping))
        down = asyncio.create_task(self._down(server[0], writer, dropping))
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        for end in (writer, server[1]):
            end.transport.abort()
        await asyncio.gather(up, down, return_exceptions=True)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        dropping: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            if self.deaf:
                continue
            word, place = self.cut_at
            if word and word in data:
                self.cut_at, self.cuts = (b"", ""), self.cuts + 1
                if place == "before":
                    return
                dropping.set()
            server.write(data)
            await server.drain()

    async def _down(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, dropping: asyncio.Event
    ) -> None:
        while data := await server.read(65_536):
            if dropping.is_set():
                return
            client.write(data)
            await client.drain()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[Relay]:
    relay = Relay(url)
    serving = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    user = f"{parts.username}:{parts.password}" if parts.password else parts.username
    relay.url = parts._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
    try:
        yield relay
    finally:
        serving.close()

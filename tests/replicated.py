"""Two private servers of a kind, the second of which follows the first, and how it takes over."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import pytest

from scripts import mariadb, postgres
from tests.secured import beside, wait_for

DATABASE = "replicated"


class Pair(Protocol):
    """A server that takes writes, and one that follows it and refuses them."""

    first: str
    second: str

    @property
    def both(self) -> str:
        """The store at either, the first one first."""
        ...

    def demote(self) -> None:
        """Have the first refuse writes too; its connections stay."""
        ...

    def restore(self) -> None:
        """Have the first take writes again."""
        ...

    def kill(self) -> None:
        """End the first as a power cut does."""
        ...

    def clients(self) -> int:
        """How many connections of a store the first has."""
        ...

    def promote(self) -> None:
        """Have the second take writes, once it has everything of the first that was acknowledged."""
        ...


def _both(first: str, second: str) -> str:
    one, two = urlsplit(first), urlsplit(second)
    return one._replace(netloc=f"{one.netloc},{two.hostname}:{two.port}").geturl()


@dataclass
class PostgresqlPair:
    """See `Pair`. Replication is synchronous: what is acknowledged is on both."""

    primary: postgres.Cluster
    standby: postgres.Cluster
    first: str
    second: str

    @property
    def both(self) -> str:
        return _both(self.first, self.second)

    def demote(self) -> None:
        _run(self.primary.url, "ALTER SYSTEM SET default_transaction_read_only = on")
        self.primary.control("reload")
        wait_for(lambda: _ask(self.primary.url, "SHOW transaction_read_only") == "on", "it takes writes")

    def restore(self) -> None:
        _run(
            self.primary.url,
            "SET transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
        )
        self.primary.control("reload")
        wait_for(lambda: _ask(self.primary.url, "SHOW transaction_read_only") == "off", "it takes no writes")

    def kill(self) -> None:
        self.primary.control("stop", "-m", "immediate")

    def clients(self) -> int:
        theirs = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"
        return int(_ask(self.primary.url, theirs))

    def promote(self) -> None:
        self.standby.control("promote")


def _run(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    beside(run)


def _ask(url: str, question: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return beside(run)


@contextmanager
def replicated_postgresql() -> Iterator[PostgresqlPair]:
    """Two servers by streaming replication."""
    programs = postgres.programs()
    if programs is None or not (programs / "pg_basebackup").exists():
        pytest.fail("no initdb, pg_ctl and pg_basebackup here; apt-get install postgresql", pytrace=False)
    with ExitStack() as stack:
        primary, record = postgres.start_private(programs, keep=False)
        stack.callback(postgres.release, primary, record)
        standby, record = postgres.start_standby(programs, primary)
        stack.callback(postgres.release, standby, record)
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_for(lambda: _ask(primary.url, streams) == 1, "the standby does not follow")
        _run(primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.control("reload")
        is_sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for(lambda: _ask(primary.url, is_sync) == 1, "replication is not synchronous")
        _run(primary.url, f"CREATE DATABASE {DATABASE}")
        urls = [urlsplit(one.url)._replace(path=f"/{DATABASE}").geturl() for one in (primary, standby)]
        yield PostgresqlPair(primary, standby, *urls)


_MARIADB = """
log-bin = {{directory}}/binlog
binlog-format = ROW
sync-binlog = 1
log-bin-trust-function-creators = 1
server-id = {number}
rpl-semi-sync-slave-enabled = ON
rpl-semi-sync-master-wait-point = AFTER_SYNC
rpl-semi-sync-master-timeout = 60000
"""
_GRANTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, TRIGGER, CREATE VIEW, PROCESS,"
    " REPLICATION SLAVE"
)


@dataclass
class MariadbPair:
    """See `Pair`. Replication is half synchronous: what is acknowledged is at least in the other's log."""

    primary: mariadb.Instance
    replica: mariadb.Instance
    first: str
    second: str

    @property
    def both(self) -> str:
        return _both(self.first, self.second)

    def demote(self) -> None:
        _tell(self.primary.url, "SET GLOBAL read_only = 1")

    def restore(self) -> None:
        _tell(self.primary.url, "SET GLOBAL read_only = 0")

    def kill(self) -> None:
        self.primary._end("immediate")

    def clients(self) -> int:
        theirs = f"SELECT 1 FROM information_schema.processlist WHERE db = '{DATABASE}'"
        return len(_tell(self.primary.url, theirs))

    def promote(self) -> None:
        _tell(self.replica.url, "STOP SLAVE IO_THREAD")
        wait_for(lambda: _has_applied(self.replica.url), "the replica does not catch up")
        _tell(self.replica.url, "STOP SLAVE", "SET GLOBAL read_only = 0")


def _tell(url: str, *statements: str) -> list[dict[str, Any]]:
    async def run(cursor: Any) -> list[dict[str, Any]]:
        for statement in statements:
            await cursor.execute(statement)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    return beside(lambda: mariadb.asking(url, run))


def _is_followed(url: str) -> bool:
    return bool(_tell(url, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")[0]["Value"] == "1")


def _has_applied(url: str) -> bool:
    status = _tell(url, "SHOW SLAVE STATUS")[0]
    assert not status["Last_SQL_Error"], status["Last_SQL_Error"]
    places = ("Relay_Master_Log_File", "Exec_Master_Log_Pos"), ("Master_Log_File", "Read_Master_Log_Pos")
    executed, read = ([status[name] for name in place] for place in places)
    return bool(executed == read)


@contextmanager
def replicated_mariadb() -> Iterator[MariadbPair]:
    """Two servers by replication of their binary log."""
    program = mariadb.programs()
    if program is None:
        pytest.fail("no mariadbd here; apt-get install mariadb-server", pytrace=False)
    password = secrets.token_urlsafe(18)
    account = (
        f"CREATE USER store@'127.0.0.1' IDENTIFIED BY '{password}'",
        f"GRANT {_GRANTS} ON *.* TO store@'127.0.0.1'",
        "RESET MASTER",
    )
    with ExitStack() as stack:
        servers = []
        for number in (1, 2):
            more = _MARIADB.format(number=number)
            server, record = mariadb.start_private(program, keep=False, more=more)
            stack.callback(mariadb.release, server, record)
            _tell(server.url, *account)
            servers.append(server)
        primary, replica = servers
        port = urlsplit(primary.url).port
        _tell(
            replica.url,
            "SET GLOBAL read_only = 1",
            f"CHANGE MASTER TO master_host = '127.0.0.1', master_port = {port}, master_user = 'store', "
            f"master_password = '{password}', master_use_gtid = slave_pos, master_connect_retry = 1",
            "START SLAVE",
        )
        _tell(primary.url, "SET GLOBAL rpl_semi_sync_master_enabled = 1")
        wait_for(lambda: _is_followed(primary.url), "the replica does not follow")
        _tell(primary.url, f"CREATE DATABASE {DATABASE}")
        urls = []
        for one in servers:
            netloc = f"store:{password}@127.0.0.1:{urlsplit(one.url).port}"
            urls.append(f"mysql://{netloc}/{DATABASE}")
        yield MariadbPair(primary, replica, *urls)

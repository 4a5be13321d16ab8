"""What a MySQL or MariaDB server is, how a session with it is set up, and whether it keeps its word.

An acknowledged commit has to be on disk. A server that flushes its log once a second loses the last second
with the machine, and one that does not sync its binary log loses transactions when it recovers by that; both
are refused, since nobody could see the loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from holdfast.errors import UnsupportedStorage

_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")
_OLDEST_MARIADB = (10, 11, 0)
_OLDEST_MYSQL = (8, 0, 19)

SILENCE_S = 30
"""How long a transaction may stand still before the server ends it: its rows are locked meanwhile."""

_LOCK_WAIT_S = 10
_SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"


class Server(NamedTuple):
    """A server by what it says of itself."""

    is_mariadb: bool
    version: tuple[int, ...]

    @property
    def binary(self) -> str:
        """Its collation that compares byte by byte and does not overlook trailing blanks."""
        return "utf8mb4_nopad_bin" if self.is_mariadb else "utf8mb4_0900_bin"

    @property
    def closes_silent(self) -> bool:
        """Whether it ends a session that is idle, because it can not tell one inside a transaction."""
        return not self.is_mariadb

    def session(self, statement_timeout: timedelta | None) -> list[str]:
        """The statements that set up a session; `statement_timeout` None is for migrations.

        No FOUND_ROWS: `ROW_COUNT()` counts the rows that changed. MySQL's own timeout is for SELECT alone,
        and its sessions end when they are silent, inside a transaction or not; the pool knows that.
        """
        timeout_s = 0.0 if statement_timeout is None else statement_timeout.total_seconds()
        wait_s = max(1, min(_LOCK_WAIT_S, int(timeout_s) or _LOCK_WAIT_S))
        settings = [
            "autocommit = 1",
            "time_zone = '+00:00'",
            f"sql_mode = '{_SQL_MODE}'",
            "group_concat_max_len = 1073741824",
            f"innodb_lock_wait_timeout = {wait_s}",
            f"lock_wait_timeout = {wait_s}",
        ]
        if self.is_mariadb:
            settings += [f"max_statement_time = {timeout_s:.3f}", f"idle_transaction_timeout = {SILENCE_S}"]
        else:
            settings.append(f"max_execution_time = {round(timeout_s * 1000)}")
            if statement_timeout is not None:
                settings.append(f"wait_timeout = {SILENCE_S}")
        return [
            f"SET NAMES utf8mb4 COLLATE {self.binary}",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET " + ", ".join(f"SESSION {setting}" for setting in settings),
            "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog, "
            "@@SESSION.max_allowed_packet, @@GLOBAL.read_only",
        ]


def server_of(greeting: str, where: str) -> Server:
    """The server behind a version text. Raises `UnsupportedStorage` for one that is too old."""
    match = _VERSION.match(greeting)
    version = tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
    server = Server("MariaDB" in greeting, version)
    oldest = _OLDEST_MARIADB if server.is_mariadb else _OLDEST_MYSQL
    if version < oldest:
        name = "MariaDB" if server.is_mariadb else "MySQL"
        raise UnsupportedStorage(
            f"the server is {name} {greeting[:40]}, which lacks what a store needs",
            where=where,
            fix=f"use {name} {'.'.join(map(str, oldest))} or newer",
        )
    return server


def check_durability(row: Sequence[Any], where: str) -> None:
    """Raise `UnsupportedStorage` unless a commit is on disk when this server acknowledges it."""
    flush, binlog, sync = int(row[0]), bool(row[1]), int(row[2])
    if flush != 1:
        raise UnsupportedStorage(
            f"the server does not write every commit to disk (innodb_flush_log_at_trx_commit = {flush})",
            where=where,
            fix="SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in the server's configuration file",
        )
    if binlog and sync != 1:
        raise UnsupportedStorage(
            f"the server does not write its binary log to disk with every commit (sync_binlog = {sync})",
            where=where,
            fix="SET GLOBAL sync_binlog = 1, and in the server's configuration file",
        )

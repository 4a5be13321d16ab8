"""One connection to a PostgreSQL server: where it leads, how it is encrypted, and why it was refused."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg

from holdfast.errors import AccessDenied, HoldfastError, ReadOnlyServer
from holdfast.store.drivers.postgresql_errors import FAILURES, translate, translated
from holdfast.store.drivers.postgresql_hints import keep_alive
from holdfast.store.drivers.postgresql_pooler import transaction_of
from holdfast.store.drivers.server_options import ServerOptions
from holdfast.store.drivers.tls import (
    Encryption,
    cut_off,
    encryption_of,
    no_tls,
    tls_context,
    tls_failure,
)

TLS_SETTINGS = "storage.postgresql.ssl"
_REFUSED_ENTRY = "28000"
_ASKS_FOR_TLS = struct.pack("!II", 8, 80877103)
_DIAGNOSIS_S = 5.0
PLANNED_FOR_READS, PLANNED_FOR_S = 50, 2.0
"""Plans are used for so many reads at least, and for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlOptions(ServerOptions):
    """Where a PostgreSQL server is and how its connections are used."""

    scheme: ClassVar[str] = "postgresql"
    port: int = 5432
    schema: str = "holdfast"
    direct: PostgresqlOptions | None = None
    """The server itself, when the address above is a pooler in transaction mode."""


class Connection(asyncpg.Connection):
    """A connection that needs no reset when it returns to the pool, and knows its age and its server."""

    __slots__ = ("born", "options", "planned", "reads")
    options: PostgresqlOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.born = self.planned = time.monotonic()
        self.reads = 0

    async def plan_anew(self, timeout_s: float) -> None:
        """Have the server forget its plans, if they have been in use for a while.

        It keeps the plan of a statement that is sent often until somebody analyses the tables. One that was
        made while a table was all but empty reads the whole of it, and would go on to do so with millions
        of rows.
        """
        self.reads += 1
        if self.reads < PLANNED_FOR_READS or time.monotonic() - self.planned < PLANNED_FOR_S:
            return
        await self.execute("DISCARD PLANS", timeout=timeout_s)
        self.planned, self.reads = time.monotonic(), 0

    def get_reset_query(self) -> str:
        """Nothing: every setting of ours ends with its transaction, and a reset costs a round trip."""
        return ""


async def connect(options: PostgresqlOptions, patience_s: float, arguments: Mapping[str, Any]) -> Connection:
    """A new connection to the first server of `options`, watched over by the system.

    Raises `TlsFailed`, `AccessDenied`, `NoStore`, `StoreUnavailable`, and with `options.writable`
    `ReadOnlyServer`.
    """
    context = tls_context(options.tls, options.host, TLS_SETTINGS)
    try:
        connection: Connection = await asyncpg.connect(
            host=options.host,
            port=options.port,
            database=options.database,
            user=options.user,
            password=options.password,
            ssl=context or False,
            connection_class=Connection,
            timeout=patience_s,
            **arguments,
        )
    except FAILURES as error:
        raise await _refusal(error, options, asked=context is not None) from error
    connection.options = options
    keep_alive(connection)
    if options.writable:
        try:
            await _require_writable(connection, options, patience_s)
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _refusal(error: BaseException, options: PostgresqlOptions, *, asked: bool) -> HoldfastError:
    known = (options.tls, options.host, options.place, TLS_SETTINGS)
    failed = tls_failure(error, *known)
    if failed is None and isinstance(error, asyncpg.ConnectionDoesNotExistError | ConnectionResetError):
        failed = cut_off(*known)
    if failed is not None:
        return failed
    # The client has one bare error for everything that can come of asking for TLS.
    if asked and type(error) is ConnectionError and await _speaks_no_tls(options):
        return no_tls(*known)
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _REFUSED_ENTRY:
        return AccessDenied(
            f"the server lets nobody in this way ({_REFUSED_ENTRY})",
            where=options.place,
            fix=f"check the user and the server's pg_hba.conf: it may want TLS ({TLS_SETTINGS}.mode) or a "
            f"certificate of this client ({TLS_SETTINGS}.cert and .key)",
        )
    return translate(error, options.place)


async def _speaks_no_tls(options: PostgresqlOptions) -> bool:
    """Ask for TLS once more, and for nothing else."""
    try:
        async with asyncio.timeout(_DIAGNOSIS_S):
            reader, writer = await asyncio.open_connection(options.host, options.port)
            try:
                writer.write(_ASKS_FOR_TLS)
                return await reader.read(1) == b"N"
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False


async def _require_writable(connection: Any, options: PostgresqlOptions, timeout_s: float) -> None:
    settings = connection.get_settings()
    is_standby = getattr(settings, "in_hot_standby", None)
    is_read_only = getattr(settings, "default_transaction_read_only", None)
    if is_standby is None or is_read_only is None:  # a pooler does not pass them on
        with translated(options.place):
            async with transaction_of(connection, timeout_s):
                row = await connection.fetchrow(_STATE, timeout=timeout_s)
        is_standby, is_read_only = row[0], row[1]
    if is_standby == "on":
        raise ReadOnlyServer("it is a standby", where=options.place)
    if is_read_only == "on":
        raise ReadOnlyServer("it is read-only (default_transaction_read_only)", where=options.place)


_STATE = """SELECT CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END,
       current_setting('default_transaction_read_only')"""


def encryption(connection: Any) -> Encryption:
    """How a connection is protected."""
    options = connection.options
    transport = getattr(connection, "_transport", None)
    return encryption_of(transport, options.server, options.tls, options.host)


def end_if_silent(connection: Any, error: BaseException | None) -> None:
    """Of no more use, and the pool does not see that: it would wait long for a silent one to come to rest."""
    if isinstance(error, asyncpg.InternalClientError | TimeoutError):
        with suppress(*FAILURES):  # it may have left the pool by itself
            connection.terminate()


async def close_quietly(connection: Any) -> None:
    """Take leave of a connection, or drop it."""
    try:
        await connection.close(timeout=2)
    except FAILURES:
        connection.terminate()

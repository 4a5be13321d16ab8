"""One connection to a MySQL or MariaDB server: set up, checked, and never used again once it is in doubt.

Statements travel together: the server runs what stands in one packet one after the other and stops at the
first error, so a packet that ends with COMMIT is one round trip and all or nothing, as long as an error is
followed by a ROLLBACK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import asyncmy
from asyncmy.cursors import Cursor
from asyncmy.errors import MySQLError

from holdfast.errors import AccessDenied, HoldfastError, InvalidData, ReadOnlyServer
from holdfast.store.drivers.base import Row
from holdfast.store.drivers.mysql_errors import FAILURES, number_of, translate
from holdfast.store.drivers.mysql_server import SILENCE_S, check_durability, server_of
from holdfast.store.drivers.mysql_text import Script, conversion
from holdfast.store.drivers.server_options import ServerOptions
from holdfast.store.drivers.sockets import watch_over
from holdfast.store.drivers.tls import (
    HANDSHAKE,
    Encryption,
    TlsMode,
    cut_off,
    encryption_of,
    is_socket,
    no_tls,
    tls_context,
    tls_failure,
)

_NAME = "holdfast"
TLS_SETTINGS = "storage.mysql.ssl"
_LOST_IN_BETWEEN = 2013
_LOST_CONNECTING = (2003, 2013)
_DIAGNOSIS_S = 5.0
_PROTOCOL = 10
_CAN_TLS = 0x0800
_GRACE_S = 1.0
_ROLLBACK_S = 5.0
_CONVERSION = conversion()
START = b"START TRANSACTION"
COMMIT = b"COMMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlOptions(ServerOptions):
    """Where a MySQL or MariaDB server is and how its connections are used."""

    scheme: ClassVar[str] = "mysql"
    port: int = 3306


class _Cursor(Cursor):
    """A cursor that does not ask for the texts of warnings: a round trip that nobody reads."""

    async def _show_warnings(self, connection: Any) -> None:
        del connection


class MysqlConnection:
    """A connection with our session settings. `abandoned` hears of a session that is left in mid-statement.

    The server goes on with such a statement until it ends, holding its locks, unless somebody kills it.
    """

    def __init__(
        self, raw: Any, options: MysqlOptions, abandoned: Callable[[int, MysqlOptions], None] | None
    ) -> None:
        self._raw = raw
        self._place = options.place
        self._abandoned = abandoned
        self.options = options
        self.server = server_of(raw.get_server_info(), options.place)
        self.born = self.last_used = time.monotonic()
        self._packet_max = 1 << 20

    @property
    def is_broken(self) -> bool:
        """Whether it is closed, by us or, as far as is known, by the other end."""
        return not self._raw.connected or bool(self._raw._stream_broken)

    @property
    def is_stale(self) -> bool:
        """Whether the server may be about to end it because it was silent."""
        return self.server.closes_silent and time.monotonic() - self.last_used > SILENCE_S / 2

    @property
    def in_transaction(self) -> bool:
        """Whether the server said so last; unknown after an error."""
        return bool(self._raw.get_transaction_status())

    @property
    def session_id(self) -> int:
        """The server's number for the session."""
        return int(self._raw.thread_id())

    async def set_up(self, statement_timeout: timedelta | None, patience_s: float) -> None:
        """Bring the session into the state that everything here relies on. Raises `UnsupportedStorage`."""
        texts = [text.encode() for text in self.server.session(statement_timeout)]
        results = await self.run(texts, patience_s)
        check_durability(results[-1][0], self._place)
        self._packet_max = int(results[-1][0][3])
        if self.options.writable and results[-1][0][4]:
            raise ReadOnlyServer("it is read-only (read_only)", where=self._place)

    async def run(self, statements: Sequence[bytes], timeout_s: float | None) -> list[list[Row]]:
        """Send SQL statements together; the rows of each. Raises asyncmy's errors untranslated.

        A caller that is cancelled, or whose time is up, leaves the connection closed.
        """
        packet = b";\n".join(statements)
        if len(packet) >= self._packet_max:
            raise InvalidData(
                f"a statement of {len(packet):,} bytes; the server takes fewer than {self._packet_max:,}",
                where=self._place,
                fix="raise max_allowed_packet on the server, or store a smaller value",
            )
        # The server's own timeout comes first where it has one; this one ends what it does not.
        try:
            async with asyncio.timeout(None if timeout_s is None else timeout_s + _GRACE_S):
                return await self._results(packet)
        except (asyncio.CancelledError, TimeoutError):
            self.abandon()
            raise
        finally:
            self.last_used = time.monotonic()

    async def _results(self, packet: bytes) -> list[list[Row]]:
        cursor = self._raw.cursor(_Cursor)
        await cursor.execute(packet)
        results: list[list[Row]] = [list(await cursor.fetchall())]
        while await cursor.nextset():
            results.append(list(await cursor.fetchall()))
        return results

    async def fetch(self, script: Script, args: Sequence[Any], timeout_s: float) -> list[Row]:
        """Run a script in a transaction of its own, or a plain statement; the rows of the last statement.

        Raises asyncmy's errors untranslated; nothing happened then unless the connection was lost.
        """
        statements = script.render(args)
        if len(statements) == 1:
            return (await self.run(statements, timeout_s))[0]
        try:
            results = await self.run([START, *statements, COMMIT], timeout_s)
        except FAILURES:
            await self.roll_back()
            raise
        return results[-2]

    async def roll_back(self) -> None:
        """End a transaction without effect. Closes the connection where that fails; never raises `FAILURES`.

        After an error always: a lock wait that timed out has undone its own statement and nothing else.
        """
        if self.is_broken:
            self.terminate()
            return
        try:
            await self.run([b"ROLLBACK"], _ROLLBACK_S)
        except FAILURES:
            self.terminate()

    @property
    def encryption(self) -> Encryption:
        """How it is protected."""
        options = self.options
        return encryption_of(self._raw._transport, options.server, options.tls, options.host)

    async def is_alive(self) -> bool:
        """Ask the server for a sign of life."""
        try:
            async with asyncio.timeout(_ROLLBACK_S):
                await self._raw.ping(reconnect=False)
        except FAILURES:
            self.terminate()
            return False
        self.last_used = time.monotonic()
        return True

    def abandon(self) -> None:
        """Close the connection in the middle of a statement."""
        self.terminate()
        if self._abandoned is not None:
            self._abandoned(self.session_id, self.options)
            self._abandoned = None

    def terminate(self) -> None:
        """Close the connection without a word; its socket is closed in the loop's next round."""
        _abort(self._raw)

    async def close(self) -> None:
        """Take leave and close the connection."""
        with suppress(*FAILURES):
            async with asyncio.timeout(2):
                await self._raw.ensure_closed()
        self.terminate()


async def connect(
    options: MysqlOptions,
    patience_s: float,
    *,
    limited: bool = True,
    abandoned: Callable[[int, MysqlOptions], None] | None = None,
) -> MysqlConnection:
    """A new connection to the first server of `options`; without `limited` its statements may take long.

    Raises `TlsFailed`, `StoreUnavailable`, `NoStore`, `AccessDenied`, `UnsupportedStorage`, and with
    `options.writable` `ReadOnlyServer`.
    """
    try:
        async with asyncio.timeout(patience_s):
            raw = await _greeted(options, patience_s)
            try:
                transport = raw._transport
                watch_over(None if transport is None else transport.get_extra_info("socket"))
                connection = MysqlConnection(raw, options, abandoned)
                await connection.set_up(options.statement_timeout if limited else None, patience_s)
            except BaseException:
                _abort(raw)
                await asyncio.sleep(0)  # in which the socket is closed
                raise
    except FAILURES as error:
        raise await _refusal(error, options) from error
    return connection


async def _refusal(error: BaseException, options: MysqlOptions) -> HoldfastError:
    known = (options.tls, options.host, options.place, TLS_SETTINGS)
    failed = tls_failure(error, *known)
    is_lost = not isinstance(error, MySQLError) or number_of(error) in _LOST_CONNECTING
    asked = options.tls.mode_for(options.host) is not TlsMode.DISABLE
    # The client asks for TLS without looking whether there is any, and then makes nothing of the answer.
    if (
        asked
        and is_lost
        and (failed is None or failed.details["reason"] == HANDSHAKE)
        and await _speaks_no_tls(options)
    ):
        failed = no_tls(*known)
    if failed is None and number_of(error) == _LOST_IN_BETWEEN:
        failed = cut_off(*known)
    if failed is not None:
        return failed
    refused = translate(error, options.place)
    if isinstance(refused, AccessDenied):
        refused.fix += (
            f"; the user may have to use TLS ({TLS_SETTINGS}.mode) or a certificate of this client "
            f"({TLS_SETTINGS}.cert and .key)"
        )
    return refused


async def _speaks_no_tls(options: MysqlOptions) -> bool:
    """Have the server greet once more, and look at what it says it can."""
    if is_socket(options.host):
        return False
    try:
        async with asyncio.timeout(_DIAGNOSIS_S):
            reader, writer = await asyncio.open_connection(options.host, options.port)
            try:
                length = int.from_bytes((await reader.readexactly(4))[:3], "little")
                greeting = await reader.readexactly(length)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    version_end = greeting.find(b"\0", 1)
    capabilities = greeting[version_end + 14 : version_end + 16]  # behind the session's number and the salt
    return greeting[0] == _PROTOCOL and not int.from_bytes(capabilities, "little") & _CAN_TLS


def _abort(raw: Any) -> None:
    transport = raw._transport
    raw.close()
    if transport is not None:
        transport.abort()  # what is still to be sent is of no use


async def _greeted(options: MysqlOptions, patience_s: float) -> Any:
    place: dict[str, Any] = {"host": options.host, "port": options.port}
    if is_socket(options.host):
        place = {"unix_socket": options.host}
    try:
        return await asyncmy.connect(
            **place,
            user=options.user,
            password=(options.password or "").encode(),
            database=options.database,
            charset="utf8mb4",
            autocommit=None,
            conv=_CONVERSION,
            connect_timeout=patience_s,
            program_name=_NAME,
            ssl=tls_context(options.tls, options.host, TLS_SETTINGS),
        )
    except RuntimeError as error:  # a way to log in that needs a package which is not there
        raise AccessDenied(
            "the server asks for a way to log in that is not available here",
            where=options.place,
            fix="pip install cryptography, or use TLS: with it this way to log in needs nothing more",
        ) from error

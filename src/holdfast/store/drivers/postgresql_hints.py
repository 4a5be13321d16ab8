"""Hints on PostgreSQL: LISTEN and NOTIFY on a direct connection of their own.

NOTIFY takes a lock of the whole database while its transaction commits, so it is never part of one that does
anything else, and goes out at most twenty times a second however much is committed. A connection is trusted
only while it answers: a pooler in transaction mode accepts LISTEN and drops it, and a network that went away
says nothing at all. So every connection is asked who its server is, tested with a notification from another
session, and asked for a sign of life from time to time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from holdfast.errors import HoldfastError
from holdfast.store.backoff import Backoff
from holdfast.store.drivers.sockets import watch_over
from holdfast.store.hints import HintState

_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, HoldfastError)
_TEST = "?"
_logger = logging.getLogger("holdfast.hints")


@dataclass(frozen=True, slots=True, kw_only=True)
class HintTiming:
    """Every interval of a source, in seconds."""

    between_notifications: float = 0.05
    heartbeat: float = 7.0
    answer: float = 5.0
    """With the heartbeat the time within which a connection that went silent is given up."""
    connect: float = 10.0
    retest: float = 60.0
    least_pause: float = 0.1
    first_pause: float = 2.0
    most_pause: float = 5.0
    """A reconnection waits a random time up to `first_pause`, doubled with every failure up to `most_pause`:
    many clients that lost one server come back spread out."""
    farewell: float = 1.0


class PostgresqlHints:
    """See `HintSource`. Connects when somebody first waits or has something to tell."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        send_elsewhere: Callable[[str, str], Awaitable[Any]],
        schema: str,
        timing: HintTiming | None = None,
    ) -> None:
        """`send_elsewhere(channel, payload)` notifies from another session than that of `connect`."""
        self._connect = connect
        self._send_elsewhere = send_elsewhere
        self._timing = timing or HintTiming()
        self.channel = channel_of(schema)
        self._me = secrets.token_hex(8)
        self._heard: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._told_at = -self._timing.between_notifications
        self._connection: asyncpg.Connection[Any] | None = None
        self._test_due = 0.0
        self._tests: dict[str, asyncio.Event] = {}
        self._testing: asyncio.Task[None] | None = None
        self._has_warned = self._closed = False
        self.state = HintState.IDLE

    # The face towards `Hints`.

    def listen(self, heard: Callable[[], None]) -> None:
        """See `HintSource.listen`."""
        if self._heard is None:
            self._heard = heard
            self._stir()

    def rest(self) -> None:
        """See `HintSource.rest`. Listening costs nothing while nothing is heard, so it goes on."""

    def tell(self) -> None:
        """See `HintSource.tell`."""
        if self._all_told.is_set():
            self._all_told.clear()
            self._stir()

    async def close(self) -> None:
        """See `HintSource.close`."""
        task, self._task = self._task, None
        self._closed = True
        if task is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_told.wait(), self._timing.farewell)
        ending = [task, self._testing] if self._testing is not None else [task]
        for one in ending:
            one.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self.state = HintState.IDLE

    def _stir(self) -> None:
        self._stirred.set()
        if self._task is None and not self._closed:
            self.state = HintState.CONNECTING
            self._task = asyncio.get_running_loop().create_task(self._run(), name="holdfast hints")

    # The connection.

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._timing.connect):
                    self._connection = await self._connect()
                failures = 0
                await self._serve(self._connection)
            except _BROKEN as error:
                _logger.debug("hints: %s: %s", type(error).__name__, error)
            finally:
                self._let_go()
            await asyncio.sleep(self._pause(failures))
            failures += 1

    def _pause(self, failures: int) -> float:
        timing = self._timing
        backoff = Backoff(first_s=timing.first_pause, most_s=timing.most_pause, least_s=timing.least_pause)
        return backoff.rest_s(failures + 1)

    def _let_go(self) -> None:
        self.state = HintState.CONNECTING
        connection, self._connection = self._connection, None
        testing, self._testing = self._testing, None
        if testing is not None:
            testing.cancel()
        if connection is not None:
            connection.terminate()

    async def _serve(self, connection: asyncpg.Connection[Any]) -> None:
        """Listen, tell and check until the connection breaks, which is an exception."""
        keep_alive(connection)
        connection.add_termination_listener(lambda _: self._stirred.set())
        self._test_due = 0.0
        while True:
            self._stirred.clear()
            if self._heard is not None and time.monotonic() >= self._test_due:
                await self._put_ear(connection, self._heard)
            if not self._all_told.is_set():
                await self._tell(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.heartbeat):
                    await self._stirred.wait()
            if not self._stirred.is_set() or connection.is_closed():
                await connection.execute("SELECT 1", timeout=self._timing.answer)

    async def _tell(self, connection: asyncpg.Connection[Any]) -> None:
        timing = self._timing
        await asyncio.sleep(max(0.0, self._told_at + timing.between_notifications - time.monotonic()))
        self._told_at = time.monotonic()
        self._all_told.set()  # what is committed from here on is for the next one
        try:
            await connection.execute(f"NOTIFY {self.channel}, '{self._me}'", timeout=timing.answer)
        except BaseException:
            self._all_told.clear()
            raise

    # The ear.

    async def _put_ear(self, connection: asyncpg.Connection[Any], heard: Callable[[], None]) -> None:
        """Listen; whatever came while nobody listened counts as heard. Then see whether anything arrives."""
        self._test_due = time.monotonic() + self._timing.retest
        if await is_pooled(connection, self._timing.answer):
            # Not even tried: it would leave the LISTEN in a session that others use.
            self._test_due = float("inf")
            self._is_deaf()
            return
        async with asyncio.timeout(self._timing.answer):
            await connection.add_listener(self.channel, self._notified)
        heard()
        self._testing = asyncio.get_running_loop().create_task(self._test(), name="holdfast hints test")

    async def _test(self) -> None:
        if await self._hears():
            self.state = HintState.LISTENING
            self._test_due = float("inf")
        else:
            self._is_deaf()

    def _is_deaf(self) -> None:
        self.state = HintState.DEAF
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "notifications of PostgreSQL do not arrive, so work is noticed by polling alone; behind a "
                "pooler in transaction mode set storage.postgresql.direct_url to the server itself"
            )

    async def _hears(self) -> bool:
        """Whether a notification of another session arrives.

        Of another session, so that it proves what a notification has to do. A test that could not be sent
        proves nothing, and does not count against the connection.
        """
        nonce = _TEST + secrets.token_hex(8)
        arrived = self._tests[nonce] = asyncio.Event()
        try:
            if await self._can_send(nonce):
                async with asyncio.timeout(self._timing.answer):
                    await arrived.wait()
        except TimeoutError:
            return False
        finally:
            del self._tests[nonce]
        return True

    async def _can_send(self, nonce: str) -> bool:
        try:
            async with asyncio.timeout(self._timing.answer):
                await self._send_elsewhere(self.channel, nonce)
        except _BROKEN:
            return False
        return True

    def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        del connection, pid, channel
        text = str(payload)
        if (test := self._tests.get(text)) is not None:
            test.set()
        elif text != self._me and not text.startswith(_TEST) and self._heard is not None:
            self._heard()


def channel_of(schema: str) -> str:
    """The channel of a schema: a plain identifier whatever the schema's name holds."""
    return "holdfast_" + hashlib.blake2b(schema.encode(), digest_size=8).hexdigest()


async def is_pooled(connection: asyncpg.Connection[Any], timeout_s: float) -> bool:
    """Whether something stands between us and the server that lends its sessions, as PgBouncer does.

    Such a thing makes up the process id that a client is greeted with.
    """
    async with connection.transaction():
        pid = await connection.fetchval("SELECT pg_backend_pid()", timeout=timeout_s)
    return bool(pid != connection.get_server_pid())


def keep_alive(connection: asyncpg.Connection[Any]) -> None:
    """Have the system watch over a TCP connection too; see `watch_over`."""
    transport = getattr(connection, "_transport", None)
    watch_over(None if transport is None else transport.get_extra_info("socket"))

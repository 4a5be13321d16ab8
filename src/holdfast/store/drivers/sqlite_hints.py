"""Hints on SQLite: a thread that asks the file whether anybody else has committed.

`PRAGMA data_version` on a connection changes with every commit of any other connection; asking costs a look
into shared memory. The watching connection sees this process's own commits as well, so before a change counts
the writer's connection is asked the same: its number changes only with what others commit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import apsw

from holdfast.errors import HoldfastError
from holdfast.store.hints import HintState


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTiming:
    """How often the file is looked at, in seconds: `busy` for `busy_for` after a change, then `idle`."""

    busy: float = 0.005
    idle: float = 0.05
    busy_for: float = 10.0


class SqliteHints:
    """See `HintSource`. The thread starts when somebody first waits, and stands still while nobody does."""

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        writer_version: Callable[[], Awaitable[int]],
        timing: WatchTiming | None = None,
    ) -> None:
        self._connect = connect
        self._writer_version = writer_version
        self._timing = timing or WatchTiming()
        self._heard: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._asking: asyncio.Task[None] | None = None
        self._changed_again = False
        self._last_version: int | None = None

    @property
    def state(self) -> HintState:
        """See `HintSource.state`."""
        return HintState.IDLE if self._thread is None else HintState.LISTENING

    def listen(self, heard: Callable[[], None]) -> None:
        """See `HintSource.listen`."""
        self._heard = heard
        if self._thread is None and not self._closing.is_set():
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._watch, name="holdfast-sqlite-hints", daemon=True)
            self._thread.start()
        self._wanted.set()

    def rest(self) -> None:
        """See `HintSource.rest`."""
        self._wanted.clear()

    def tell(self) -> None:
        """Nothing to do: the commit itself is what others see."""

    async def close(self) -> None:
        """See `HintSource.close`."""
        self._closing.set()
        self._wanted.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    # In the thread.

    def _watch(self) -> None:
        connection: apsw.Connection | None = None
        seen: int | None = None
        busy_until = 0.0
        while self._wanted.wait() and not self._closing.is_set():
            try:
                connection = connection or self._connect()
                version = data_version(connection)
            except (apsw.Error, HoldfastError):
                # Locked for a moment, or out of order: that is for those to report who need the answer.
                _close(connection)
                connection = version = None
            now = time.monotonic()
            if version is not None and version != seen:
                seen, busy_until = version, now + self._timing.busy_for
                self._report()
            self._closing.wait(self._timing.busy if now < busy_until else self._timing.idle)
        _close(connection)

    def _report(self) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody is left to hear
            self._loop.call_soon_threadsafe(self._changed)

    # On the loop.

    def _changed(self) -> None:
        if self._closing.is_set():
            return
        self._changed_again = True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="holdfast hints")

    async def _ask(self) -> None:
        while self._changed_again:
            self._changed_again = False
            try:
                version = await self._writer_version()
            except HoldfastError:
                return  # closed meanwhile
            if version != self._last_version:
                self._last_version = version
                if self._heard is not None:
                    self._heard()


def data_version(connection: apsw.Connection) -> int:
    """A number that is another one after every commit of other connections."""
    return int(next(connection.execute("PRAGMA data_version"))[0])


def _close(connection: apsw.Connection | None) -> None:
    if connection is not None:
        with suppress(apsw.Error):
            connection.close(True)

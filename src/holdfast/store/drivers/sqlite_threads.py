"""One SQLite connection that lives in one thread, driven from an event loop.

SQLite calls block, so each connection gets a thread that takes calls from a queue. The answer returns with
one wake-up of the loop; a caller that is cancelled meanwhile leaves the call to finish by itself, so a
transaction is never abandoned half way.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

import apsw

from holdfast.errors import StoreUnavailable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Call = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class ConnectionThread:
    """A thread that owns what `connect` returns and runs functions on it, one at a time, in order."""

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._pid = os.getpid()
        self._closed = False
        self._asked = self._done = 0  # each is written by one thread
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[apsw.Connection, *Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Queue `function(connection, *args)`; the future belongs to the running loop.

        Raises `StoreUnavailable` after `close` and in a forked child, whose copy of the connection would
        break the parent's locks.
        """
        if self._closed or os.getpid() != self._pid:
            raise StoreUnavailable(
                "the connection is closed" if self._closed else "the store was opened before a fork",
                fix="open the store in this process",
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._asked += 1
        self._calls.put((function, args, future, loop))
        return future

    @property
    def pending(self) -> int:
        """How many functions run or wait for their turn."""
        return self._asked - self._done

    def close(self) -> None:
        """Finish what is queued, close the connection, end the thread. Safe twice."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        if os.getpid() == self._pid:
            self._thread.join()

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        while (call := self._calls.get()) is not None:
            function, args, future, loop = call
            try:
                if connection is None:
                    connection = self._connect()
                result = function(connection, *args)
            except ConnectionDead as dead:
                # After a failed sync nothing in this handle can be trusted; the next call opens a new one.
                _close_quietly(connection)
                connection = None
                self._done += 1
                _deliver(loop, future, None, dead.cause)
            except BaseException as error:
                self._done += 1
                _deliver(loop, future, None, error)
            else:
                self._done += 1
                _deliver(loop, future, result, None)
        _close_quietly(connection)


class ConnectionDead(Exception):
    """Raised by a function to have its connection closed; `cause` is what the caller sees."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _close_quietly(connection: apsw.Connection | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except apsw.Error:
            connection.close(True)


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, future, result, error)
    except RuntimeError:
        return  # the loop is closed: nobody is left to hear the answer


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

"""Processes for the bodies of CPU steps: they do not hold up the event loop, and they can be stopped.

Each child runs one body at a time and is used again. A body that takes too long or is cancelled is ended by
killing its child, with everything the child started; a thread could not be stopped. A child that dies fails
the attempt it ran and nothing else: the next call gets another one. The library's own executor for processes
can not kill one child, and pickles what it is given; see `process_child` for what crosses instead.

Children start when they are needed, at most one for each processor that this process may use, and stay while
an app or a worker holds the pool. They have a session of their own: Ctrl-C reaches only their starter.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from holdfast.errors import HoldfastError, StepRaised, UnsupportedValue, WorkerProcessDied
from holdfast.store import codec
from holdfast.workflows.process_child import LENGTH, RESULT, pack

_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); number = int(sys.argv[1]); del sys.argv[1:]; "
    "from holdfast.workflows.process_child import serve; serve(number)"
)
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, ProcessPool] = WeakKeyDictionary()


def pool() -> ProcessPool:
    """The pool of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _pools.get(loop)
    if found is None:
        found = _pools[loop] = ProcessPool(most=max(1, len(os.sched_getaffinity(0))))
    return found


class ProcessPool:
    """At most `most` children. Calls beyond that wait for one to be free."""

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)
        self._idle: list[_Child] = []
        self._holders = 0

    def hold(self) -> None:
        """Keep idle children until `release` is called as often."""
        self._holders += 1

    async def release(self) -> None:
        """Stop holding; the last one ends the idle children."""
        self._holders -= 1
        if self._holders <= 0:
            idle, self._idle = self._idle, []
            for child in idle:
                child.kill()
            for child in idle:
                await child.gone()

    async def call(self, step: str, function: Callable[..., Any], arguments: bytes) -> bytes:
        """Run a step's function in a child and give its encoded result. Cancelling this kills the child.

        Raises `StepRaised` with the error of the function, `UnsupportedValue` for a result that can not be
        stored, and `WorkerProcessDied`.
        """
        request = pack(_header(step, function), arguments)
        async with self._places:
            child = self._take() or await _start()
            try:
                kind, body = await child.ask(request)
            except (OSError, EOFError) as error:
                child.kill()
                raise _died(step, await child.gone()) from error
            except BaseException:
                child.kill()
                await child.gone()
                raise
            if self._holders > 0:
                self._idle.append(child)
            else:
                child.kill()
                await child.gone()
        if kind == RESULT:
            return body
        raise _raised(step, codec.decode(body, what=step))

    def _take(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            child.kill()
        return None


class _Child:
    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        self._writer.write(request)
        await self._writer.drain()
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        answer = await self._reader.readexactly(length)
        return answer[:1], answer[1:]

    def kill(self) -> None:
        """End it and what it started, now; safe at any time."""
        self._writer.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """Wait until it is reaped; its exit code. It is reaped also when the caller is cancelled."""
        return await asyncio.shield(self._process.wait())


def _header(step: str, function: Callable[..., Any]) -> dict[str, Any]:
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    place = str(Path(file).resolve()) if file else None
    return {"step": step, "module": function.__module__, "file": place, "name": function.__qualname__}


def _paths() -> list[str]:
    return [str(Path.cwd()) if path == "" else path for path in sys.path]


async def _start() -> _Child:
    """Start a child; a caller that is cancelled meanwhile leaves none behind."""
    starting = asyncio.ensure_future(_spawn())
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_discard)
        raise


def _discard(started: asyncio.Future[_Child]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().kill()


async def _spawn() -> _Child:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _BEGIN, str(theirs.fileno()), json.dumps(_paths()),
            stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
        )  # fmt: skip
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    return _Child(process, reader, writer)


def _died(step: str, code: int) -> WorkerProcessDied:
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    return WorkerProcessDied(f"the process that ran the step {how}", where=f"step {step}", exit_code=code)


def _raised(step: str, described: dict[str, Any]) -> HoldfastError:
    where, fix = described.pop("where", None), described.pop("fix", None)
    if described.get("code") == UnsupportedValue.code:
        return UnsupportedValue(str(described["message"]), where=where, fix=fix)
    return StepRaised(
        f"{described.get('type')}: {described.get('message')}",
        where=where or f"step {step}",
        fix=fix,
        error=described,
    )

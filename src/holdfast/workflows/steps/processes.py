"""One command with its children: started in a group of its own, read to a bound, ended as a group.

The group is the unit because a command that is killed alone leaves its children behind, still writing and
still holding our pipes. Standard input is empty. Output beyond the bound is read and thrown away, so a
chatty command neither blocks nor fills the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_MAX = 1024 * 1024
"""Bytes kept of each of stdout and stderr."""
GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""
LINGER_S = 0.2
"""How long children may hold the pipes after the command itself has ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended. A negative `exit_code` is the number of the signal that killed it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_cut: bool
    stderr_cut: bool


class _Capture(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()  # exited, and nobody holds the pipes
        self.kept = {1: bytearray(), 2: bytearray()}
        self.cut = {1: False, 2: False}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.kept[fd]
        room = OUTPUT_MAX - len(kept)
        kept += data[:room]
        self.cut[fd] = self.cut[fd] or len(data) > room

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.process_exited()
        if not self.closed.done():
            self.closed.set_result(None)


async def run(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Finished:
    """Run `argv` to its end. Whatever happens here, cancellation included, the group is gone afterwards.

    A child that left the group (a daemon) survives; a child that stays in it and closed our pipes may
    go on after a normal end. Raises `OSError` or `ValueError` when the command can not be started.
    """
    transport, capture = await _spawn(argv, env, cwd)
    group = transport.get_pid()
    try:
        await asyncio.shield(capture.exited)
        # The last bytes and the end of the pipes arrive behind the exit, unless a child holds them.
        await asyncio.wait({capture.closed}, timeout=LINGER_S)
        exit_code = transport.get_returncode()
        if exit_code is None:
            raise ChildProcessError("the command ended and its exit code is lost")
    finally:
        try:
            if not capture.closed.done():
                await _end(group, capture.closed)
                await asyncio.wait({capture.exited}, timeout=GRACE_S)  # reaped, not only killed
        finally:
            transport.close()
    return Finished(
        exit_code=exit_code,
        stdout=bytes(capture.kept[1]),
        stderr=bytes(capture.kept[2]),
        stdout_cut=capture.cut[1],
        stderr_cut=capture.cut[2],
    )


async def _spawn(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path
) -> tuple[asyncio.SubprocessTransport, _Capture]:
    """Start the command.

    Cancelled meanwhile, asyncio would kill it alone and wait for whoever holds its pipes; so it is started in
    any case, and then ended with its group.
    """
    spawning = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Capture,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        spawning.add_done_callback(_discard)
        await asyncio.wait({spawning})
        if not spawning.cancelled() and spawning.exception() is None:
            await asyncio.wait({spawning.result()[1].exited}, timeout=GRACE_S)  # reaped, not only killed
        raise


def _discard(spawned: asyncio.Future[tuple[asyncio.SubprocessTransport, _Capture]]) -> None:
    """End a command that nobody waits for any more."""
    if not spawned.cancelled() and spawned.exception() is None:
        transport, _ = spawned.result()
        _signal(transport.get_pid(), signal.SIGKILL)
        transport.close()


async def _end(group: int, closed: asyncio.Future[None]) -> None:
    """SIGTERM, a grace until nobody holds the pipes, SIGKILL for whoever is left.

    A second cancellation skips the rest of the grace, never the SIGKILL. The members of the group are not
    counted instead: an orphan that no init process reaps stays in it as a zombie for ever.
    """
    try:
        if _signal(group, signal.SIGTERM):
            await asyncio.wait({closed}, timeout=GRACE_S)
    finally:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether the group still had a member to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False

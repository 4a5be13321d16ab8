"""A process that has everything imported and forks workers: a new one is at work within milliseconds.

It takes orders as JSON lines on a socket and tells of every worker that ended. It is the workers' parent, so
a process id stays theirs until it has told; when the socket closes it kills what is left and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.crash.harness import ROOT, environment

ENTRY = "from tests.chaos.nursery import main; main()"


def main() -> None:
    """The nursery itself: file descriptor 0 is its socket."""
    from tests.chaos.worker import work

    control = socket.socket(fileno=os.dup(0))
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive: set[int] = set()
    rest = b""
    try:
        while True:
            ready, _, _ = select.select([control, woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                _reap(control, alive)
            if control in ready:
                data = control.recv(65_536)
                if not data:
                    return
                *orders, rest = (rest + data).split(b"\n")
                for order in orders:
                    _obey(json.loads(order), control, alive, work)
    finally:
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _reap(control: socket.socket, alive: set[int]) -> None:
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        alive.discard(pid)
        _tell(control, ended=pid, status=os.waitstatus_to_exitcode(status))


def _obey(
    order: dict[str, Any], control: socket.socket, alive: set[int], work: Callable[[dict[str, Any]], None]
) -> None:
    if (pid := order.get("signal_to")) is not None:
        if pid in alive:  # not told of its end yet, so the number is still its own
            os.kill(pid, order["signal"])
        return
    pid = os.fork()
    if pid:
        alive.add(pid)
        _tell(control, born=pid)
        return
    status = 1
    try:
        control.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        errors = os.open(order["errors"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.environ.update(order["environment"])
        work(order["settings"])
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _tell(control: socket.socket, **what: int) -> None:
    with suppress(BrokenPipeError):
        control.sendall((json.dumps(what) + "\n").encode())


class NurseryClosed(Exception):
    """Nothing is born any more."""


class Nursery:
    """The nursery as the tests see it."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        self._folder = folder
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._births: list[asyncio.Future[int]] = []
        self.ends: dict[int, asyncio.Future[int]] = {}

    async def __aenter__(self) -> Nursery:
        here, there = socket.socketpair()
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, "-c", ENTRY],
            cwd=ROOT, env=environment(), stdin=there, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        there.close()
        reader, self._writer = await asyncio.open_connection(sock=here)
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None and self._writer is not None and self._listening is not None
        self._writer.close()
        await self._listening
        await asyncio.to_thread(self._process.wait, 30)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                told = json.loads(line)
                if "born" in told:
                    self.ends[told["born"]] = asyncio.get_running_loop().create_future()
                    birth = self._births.pop(0)
                    if not birth.done():
                        birth.set_result(told["born"])
                else:
                    self.ends[told["ended"]].set_result(told["status"])
        for birth in self._births:
            if not birth.done():
                birth.set_exception(NurseryClosed())

    def _order(self, **what: Any) -> None:
        assert self._writer is not None
        self._writer.write((json.dumps(what) + "\n").encode())

    async def spawn(self, name: str, settings: dict[str, Any], **environment: str) -> int:
        """Fork a worker; its process id. What it prints goes to a file named after it."""
        birth: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._births.append(birth)
        errors = str(self._folder / f"{name}.log")
        self._order(settings=settings, errors=errors, environment=environment)
        return await birth

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a worker that has not ended, as far as is known here."""
        if self.ends[pid].done():
            return False
        self._order(signal_to=pid, signal=number)
        return True

    def complaints(self) -> str:
        """What the workers printed, the last of it."""
        texts = [path.read_text(errors="replace")[-1500:] for path in sorted(self._folder.glob("*.log"))]
        return "\n".join(text for text in texts if text.strip())[-6000:]

"""What private servers have in common: an account, a directory, a port, and a record that outlives a kill.

Database servers refuse to run as root, so root hands them to an account of their own, else `nobody`, and
puts their directory where that account can get to.

Every private server has a record under `.services/`. The process that owns it holds a lock on the record; a
record nobody holds belongs to a run that was killed, and `sweep` removes what it left. A server started by
`make services` is marked as kept and stays until it is stopped by command.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from dataclasses import Field

RECORDS = Path(__file__).resolve().parent.parent / ".services"
# A child that has ended stays in the process table until it is asked for, and a Popen must not be dropped
# before that.
_children: list[subprocess.Popen[bytes]] = []


class NoService(Exception):
    """Something the tests need is not there; the text is one line that names the remedy."""


class Server(Protocol):
    """A dataclass that says where a private server is, how to reach it and whether `stop` is to end it."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def directory(self) -> str:
        """Where its files are."""
        ...

    @property
    def url(self) -> str:
        """How to reach it."""
        ...

    @property
    def keep(self) -> bool:
        """Whether it stays until `make services` is undone by command."""
        ...

    def stop(self) -> None:
        """Stop it and remove its files; one that is gone already is no error."""
        ...


S = TypeVar("S", bound=Server)


def record(server: Server) -> IO[str]:
    """Note a server; hold on to the returned file, its lock says that the owner lives."""
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{Path(server.directory).name}.json"
    written = path.open("x")
    path.chmod(0o600)
    fcntl.flock(written, fcntl.LOCK_EX)
    json.dump(asdict(server), written)
    written.flush()
    return written


def recorded(kind: type[S], prefix: str) -> Iterator[tuple[Path, S]]:
    """Every record of a kind of server, whose directories begin with `prefix`."""
    for path in sorted(RECORDS.glob(f"{prefix}*.json")):
        try:
            yield path, kind(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue  # written this very moment by another run, or removed by it


def sweep(kind: type[S], prefix: str, *, kept: bool) -> int:
    """Remove the servers nobody owns any more, with `kept` also those of `make services`."""
    removed = 0
    for path, server in recorded(kind, prefix):
        if server.keep and not kept:
            continue
        with path.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            server.stop()
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def release(server: Server, record: IO[str]) -> None:
    """Stop a server that this process owns and forget it."""
    server.stop()
    Path(record.name).unlink(missing_ok=True)
    record.close()


def unprivileged(*names: str) -> str | None:
    """Whom to run a server as: `None` is the present user, else the first account of `names` or `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoService(f"it does not run as root and there is no account {' or '.join((*names, 'nobody'))}")


_MEMORY = Path("/dev/shm")
_MEMORY_MIN_BYTES = 2 * 1024**3


def directory_for(account: str | None, prefix: str, *, in_memory: bool = False) -> Path:
    """A new directory that `account` can work in; with `in_memory` on a disk in memory, if there is room."""
    memory = [_MEMORY] if in_memory and has_memory() else []
    for base in (*memory, RECORDS, Path("/var/tmp"), Path("/tmp")):
        base.mkdir(exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        if account is not None:
            shutil.chown(directory, account)
        if can(account, "-w", directory):
            return directory
        directory.rmdir()
    raise NoService("no directory for a private server: make /var/tmp writable for everybody")


def has_memory() -> bool:
    """Whether a server's files can lie in memory: there a database for each test is made much faster."""
    return _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_MIN_BYTES


def write_private(path: Path, text: str, account: str | None) -> None:
    """A file that `account` alone can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    if account is not None:
        shutil.chown(path, account)


def free_port() -> int:
    """A loopback port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(address: tuple[str, int]) -> bool:
    """Whether anybody takes connections there."""
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def can(account: str | None, test: str, path: Path) -> bool:
    """Whether `account` passes a test of /usr/bin/test on a path: -w, -x …."""
    return run_as(account, ["/bin/sh", "-c", 'test "$0" "$1"', test, str(path)]).returncode == 0


def checked(account: str | None, command: list[str]) -> None:
    """Run a command to its end; `NoService` with its last line when it fails."""
    done = run_as(account, command)
    if done.returncode != 0:
        lines = (done.stdout or "").strip().splitlines() or ["no output"]
        raise NoService(f"{Path(command[0]).name} failed: {lines[-1]}")


def run_as(account: str | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as another account if one is named; its output and exit status."""
    # The output goes to a file, not a pipe: the server inherits it and would keep a pipe open for good.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, **identity(account)
        )
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read())


def start_as(account: str | None, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a server that stays in the foreground of its own session, and go on."""
    child = subprocess.Popen(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the command it serves, which ends first
        **identity(account),
    )
    _children.append(child)
    return child


def end(pid: int, directory: str, sign: signal.Signals, *, patience_s: float) -> None:
    """End process `pid`, if it is still the server of `directory`: with `sign`, in the end with SIGKILL."""
    deadline = time.monotonic() + patience_s
    while _is_running(pid, directory):
        os.kill(pid, sign if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.02)


def _is_running(pid: int, directory: str) -> bool:
    _children[:] = [child for child in _children if child.poll() is None]
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return False
    return directory in command


def last_line(log: Path) -> str:
    """The last line of a server's log, for a message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it left no log"


def identity(account: str | None) -> dict[str, Any]:
    """What makes a subprocess run as `account`; nothing for the present user."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {
        "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "env": os.environ | {"HOME": "/"},
    }  # fmt: skip

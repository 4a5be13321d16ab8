"""A private PgBouncer for the tests, in transaction mode, in front of the PostgreSQL they use.

It listens on a free loopback port, asks for the same password as the server where that has one, and keeps
four server connections for each database and user. It refuses to run as root, so root runs it as the account
that a private PostgreSQL would get. Its directory and its process are found again by a record below
`.services/`, as those of a private PostgreSQL are.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from scripts import postgres

PREFIX = "holdfast-pgbouncer-"
SERVER_CONNECTIONS = 4
_START_S = 10.0
_STOP_S = 5.0


class NoPgBouncer(Exception):
    """No PgBouncer to test with; the text is one line that names the remedy."""


@dataclass(frozen=True, slots=True)
class Pooler:
    """A private PgBouncer: where its files are, its process, how to reach it, whether `stop` ends it."""

    directory: str
    pid: int
    url: str
    keep: bool

    def stop(self) -> None:
        """End the process, if it is still ours, and remove its files."""
        deadline = time.monotonic() + _STOP_S
        sign = signal.SIGINT
        while self._is_running():
            os.kill(self.pid, sign)
            time.sleep(0.02)
            if time.monotonic() > deadline:
                sign = signal.SIGKILL
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_running(self) -> bool:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # ours: a child that has ended stays until it is asked for
        try:
            command = Path(f"/proc/{self.pid}/cmdline").read_text(errors="replace")
        except OSError:
            return False
        return self.directory in command


def program() -> str | None:
    """The path of pgbouncer: on PATH, or where Debian puts it."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def start_private(executable: str, server_url: str, *, keep: bool) -> tuple[Pooler, IO[str]]:
    """Start one in front of the server at `server_url`; hold on to the returned file.

    Raises NoPgBouncer with the last line of its log.
    """
    try:
        account = postgres.unprivileged()
        directory = postgres.directory_for(account, PREFIX)
    except postgres.NoPostgres as problem:
        raise NoPgBouncer(str(problem)) from problem
    try:
        pooler = _start(executable, directory, account, server_url, keep)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return pooler, _record(pooler)


def _start(executable: str, directory: Path, account: str | None, server_url: str, keep: bool) -> Pooler:
    # Between asking for a free port and using it somebody else may take it: then try another.
    for _ in range(3):
        port = postgres.free_port()
        _configure(directory, account, server_url, port)
        process = _run(executable, directory, account)
        url = _url(server_url, port)
        if _comes_up(process, url):
            return Pooler(str(directory), process.pid, url, keep)
        process.kill()
        process.wait()
    log = directory / "log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise NoPgBouncer(f"a private one does not start: {lines[-1] if lines else 'it left no log'}")


def serves(url: str) -> bool:
    """Whether a pooler answers at `url` and lets us in."""
    return asyncio.run(_answers(url))


def _comes_up(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if serves(url):
            return True
        time.sleep(0.05)
    return False


async def _answers(url: str) -> bool:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=5, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    await connection.close(timeout=5)
    return True


def _configure(directory: Path, account: str | None, server_url: str, port: int) -> None:
    parts = urlsplit(server_url)
    host = dict(parse_qsl(parts.query)).get("host") or parts.hostname or "127.0.0.1"
    password = unquote(parts.password or "")
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256" if password else "trust",
        "auth_file": directory / "users",
        "pool_mode": "transaction",
        "default_pool_size": SERVER_CONNECTIONS,
        "max_client_conn": 1000,
        "server_idle_timeout": 5,  # the tests' databases come and go
        "autodb_idle_timeout": 5,
        "logfile": directory / "log",
        "log_connections": 0,
        "log_disconnections": 0,
    }
    lines = ["[databases]", f"* = host={host} port={parts.port or 5432}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    quoted = [part.replace('"', '""') for part in (unquote(parts.username or ""), password)]
    _write(directory / "pgbouncer.ini", "\n".join(lines) + "\n", account)
    _write(directory / "users", '"{}" "{}"\n'.format(*quoted), account)


def _write(path: Path, text: str, account: str | None) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
    if account is not None:
        shutil.chown(path, account)


def _run(executable: str, directory: Path, account: str | None) -> subprocess.Popen[bytes]:
    user: dict[str, Any] = {} if account is None else postgres.identity(account)
    return subprocess.Popen(
        [executable, "-q", str(directory / "pgbouncer.ini")],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the command it serves, which ends first
        **user,
    )


def _url(server_url: str, port: int) -> str:
    parts = urlsplit(server_url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{port}", query="").geturl()


def _record(pooler: Pooler) -> IO[str]:
    postgres.RECORDS.mkdir(exist_ok=True)
    path = postgres.RECORDS / f"{Path(pooler.directory).name}.json"
    record = path.open("x")
    path.chmod(0o600)
    fcntl.flock(record, fcntl.LOCK_EX)
    json.dump(asdict(pooler), record)
    record.flush()
    return record


def _records() -> Iterator[tuple[Path, Pooler]]:
    for path in sorted(postgres.RECORDS.glob(f"{PREFIX}*.json")):
        try:
            yield path, Pooler(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue  # written this very moment by another run, or removed by it


def sweep(*, kept: bool) -> int:
    """Stop what nobody owns any more, with `kept` also what `make services` left."""
    removed = 0
    for path, pooler in _records():
        if pooler.keep and not kept:
            continue
        with path.open() as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            pooler.stop()
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def release(pooler: Pooler, record: IO[str]) -> None:
    """Stop one that this process owns and forget it."""
    pooler.stop()
    Path(record.name).unlink(missing_ok=True)
    record.close()

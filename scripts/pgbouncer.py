"""A private PgBouncer for the tests, in transaction mode, in front of the PostgreSQL they use.

It listens on a free loopback port, asks for the same password as the server where that has one, and keeps
four server connections for each database and user. It refuses to run as root, so root runs it as the account
that a private PostgreSQL would get. How its directory and its process are found again is told in
`private_servers`.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, unquote, urlsplit

from scripts import private_servers
from scripts.private_servers import NoService

PREFIX = "holdfast-pgbouncer-"
SERVER_CONNECTIONS = 4
_START_S = 10.0
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Pooler:
    """A private PgBouncer: where its files are, its process, how to reach it, whether `stop` ends it."""

    directory: str
    pid: int
    url: str
    keep: bool

    def stop(self) -> None:
        """End the process, if it is still ours, and remove its files."""
        private_servers.end(self.pid, self.directory, signal.SIGINT, patience_s=_STOP_S)
        shutil.rmtree(self.directory, ignore_errors=True)


def program() -> str | None:
    """The path of pgbouncer: on PATH, or where Debian puts it."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def start_private(executable: str, server_url: str, *, keep: bool) -> tuple[Pooler, IO[str]]:
    """Start one in front of the server at `server_url`; hold on to the returned file.

    Raises NoService with the last line of its log.
    """
    account = private_servers.unprivileged("postgres")
    directory = private_servers.directory_for(account, PREFIX)
    try:
        pooler = _start(executable, directory, account, server_url, keep)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return pooler, private_servers.record(pooler)


def _start(executable: str, directory: Path, account: str | None, server_url: str, keep: bool) -> Pooler:
    # Between asking for a free port and using it somebody else may take it: then try another.
    for _ in range(3):
        port = private_servers.free_port()
        _configure(directory, account, server_url, port)
        process = private_servers.start_as(account, [executable, "-q", str(directory / "pgbouncer.ini")])
        url = _url(server_url, port)
        if _comes_up(process, url):
            return Pooler(str(directory), process.pid, url, keep)
        process.kill()
        process.wait()
    raise NoService(f"a private one does not start: {private_servers.last_line(directory / 'log')}")


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
    private_servers.write_private(directory / "pgbouncer.ini", "\n".join(lines) + "\n", account)
    private_servers.write_private(directory / "users", '"{}" "{}"\n'.format(*quoted), account)


def _url(server_url: str, port: int) -> str:
    parts = urlsplit(server_url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{port}", query="").geturl()


def sweep(*, kept: bool) -> int:
    """Stop what nobody owns any more, with `kept` also what `make services` left."""
    return private_servers.sweep(Pooler, PREFIX, kept=kept)


def release(pooler: Pooler, record: IO[str]) -> None:
    """Stop one that this process owns and forget it."""
    private_servers.release(pooler, record)

"""MariaDB (or MySQL) for the tests: one that answers, or a private one.

`discover` asks where a server usually is, as root without a password; `start_private` makes one of our own: a
fresh directory, a free loopback port, a random password, every commit on disk as in production, no binary
log, a small buffer pool. What it has in common with other private servers, and how one that a killed run left
is found again, is told in `private_servers`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

from scripts import private_servers
from scripts.private_servers import NoService, can, free_port

NAME = "mysql"
TITLE = "MariaDB"
PACKAGE = "mariadb-server"
PROGRAMS = "mariadbd"
PREFIX = "holdfast-mariadb-"
OLDEST = {"MariaDB": (10, 11), "MySQL": (8, 0, 19)}
_PORT = 3306
_START_S = 60.0
_STOP_S = {"fast": 30.0, "immediate": 0.0}
# A server that starts removes all temporary tables from their folder: from a common one also those of others.
_SETTINGS = """\
[mariadbd]
datadir = {directory}/data
tmpdir = {directory}
socket = mysqld.sock
pid-file = {directory}/pid
log-error = {directory}/log
bind-address = {address}
skip-name-resolve
skip-log-bin
max-connections = 300
innodb-buffer-pool-size = 64M
innodb-log-file-size = 64M
innodb-flush-log-at-trx-commit = 1
innodb-doublewrite = ON
performance-schema = OFF
"""
_ACCOUNT = """\
CREATE USER holdfast@'{clients}' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO holdfast@'{clients}' WITH GRANT OPTION;
"""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Instance:
    """A private server: where it is, how to reach it, as whom and with what it is started."""

    directory: str
    account: str | None
    program: str
    url: str
    keep: bool

    def restart(self, mode: str) -> None:
        """End the server in `mode` (fast, immediate) and start it again on its port, data as they are."""
        self._end(mode)
        process = _launch(Path(self.program), Path(self.directory), self.account, urlsplit(self.url).port)
        if not _comes_up(process, self.url):
            raise NoService(
                f"it does not come back: {private_servers.last_line(Path(self.directory, 'log'))}"
            )

    def stop(self) -> None:
        """Stop the server and remove its files; a server that is gone already is no error."""
        self._end("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, mode: str) -> None:
        # The file stays after a crash; whether the process is still this server is looked up.
        with suppress(OSError, ValueError):
            pid = int(Path(self.directory, "pid").read_text())
            private_servers.end(pid, self.directory, signal.SIGTERM, patience_s=_STOP_S[mode])


def problem_with(url: str) -> str | None:
    """Connect to `url` as the tests will; `None` when it serves, else why it does not."""
    try:
        return asyncio.run(asking(url, _suitable))
    except Exception as error:
        text = str(error).strip().splitlines()
        return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


async def asking(url: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """What `work` finds with a cursor on the server at `url`."""
    import asyncmy

    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or _PORT,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path[1:] or None,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=10,
    )
    try:
        async with connection.cursor() as cursor:
            return await work(cursor)
    finally:
        with suppress(OSError):
            await connection.ensure_closed()


async def _suitable(cursor: Any) -> str | None:
    await cursor.execute("SELECT version(), @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog")
    version, flush, has_binlog, sync_binlog = (await cursor.fetchall())[0]
    brand = "MariaDB" if "MariaDB" in version else "MySQL"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST[brand]:
        return f"it is {brand} {version}, {'.'.join(map(str, OLDEST[brand]))} or newer is needed"
    if flush != 1 or (has_binlog and sync_binlog != 1):
        return "it acknowledges commits that are not on disk"
    await cursor.execute(
        "SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type IN ('CREATE', 'DROP')"
        " AND grantee = concat('''', replace(current_user(), '@', '''@'''), '''')"
    )
    return None if (await cursor.fetchall())[0][0] == 2 else "its user may not create databases"


def discover() -> str | None:
    """The URL of a server that answers where one usually is, or `None`."""
    urls = [server.url for _, server in private_servers.recorded(Instance, PREFIX) if server.keep]
    if private_servers.listens(("127.0.0.1", _PORT)):
        urls.append(f"mysql://root@127.0.0.1:{_PORT}/mysql")
    return next((url for url in urls if problem_with(url) is None), None)


def programs() -> Path | None:
    """The path of mariadbd: on PATH, or where packages put it."""
    account = private_servers.unprivileged("mysql")
    names = ("/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd", shutil.which("mariadbd"))
    found = (Path(name).resolve() for name in names if name)
    return next((path for path in found if can(account, "-x", path)), None)


def start_private(
    program: Path,
    *,
    keep: bool,
    in_memory: bool = True,
    address: str = "127.0.0.1",
    network: str | None = None,
    more: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Instance, IO[str]]:
    """Make and start a server; hold on to the returned file, its lock says that the owner lives.

    It listens on `address` alone; clients of `network`, which `address` belongs to, are let in beside it.
    `more` are further lines of its settings file, with `{directory}` for where `files` lie for it alone.
    Raises NoService with the last line of the server's log.
    """
    account = private_servers.unprivileged("mysql")
    # Each test makes a database, and each table is several synced files: on a disk that takes seconds.
    directory = private_servers.directory_for(account, PREFIX, in_memory=in_memory)
    try:
        for name, text in files.items():
            private_servers.write_private(directory / name, text, account)
        settings = f"{_SETTINGS}{more}\n".format(directory=directory, address=address)
        private_servers.write_private(directory / "my.cnf", settings, account)
        url = _start(program, directory, account, address, network)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    server = Instance(str(directory), account, str(program), url, keep)
    return server, private_servers.record(server)


def _start(program: Path, directory: Path, account: str | None, address: str, network: str | None) -> str:
    password = secrets.token_urlsafe(18)
    settings, first = directory / "my.cnf", directory / "account.sql"
    # As the server writes a network: 10.0.0.0/255.255.255.0.
    clients = ipaddress.ip_network(network).with_netmask if network else address
    private_servers.write_private(first, _ACCOUNT.format(password=password, clients=clients), account)
    _initialise(settings, account)
    # Between asking for a free port and using it somebody else may take it: then try another.
    for _ in range(3):
        port = free_port()
        url = f"mysql://holdfast:{password}@{address}:{port}/mysql"
        process = _launch(program, directory, account, port, f"--init-file={first}")
        if _comes_up(process, url):
            first.unlink()
            return url
        process.kill()
        process.wait()
    raise NoService(f"a private MariaDB does not start: {private_servers.last_line(directory / 'log')}")


def _initialise(settings: Path, account: str | None) -> None:
    installer = shutil.which("mariadb-install-db") or shutil.which("mysql_install_db")
    if installer is None:
        raise NoService("mariadb-install-db is not on PATH; apt-get install mariadb-server")
    private_servers.checked(
        account,
        [
            installer,
            f"--defaults-file={settings}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
        ],
    )


def _launch(
    program: Path, directory: Path, account: str | None, port: int | None, *more: str
) -> subprocess.Popen[bytes]:
    command = [str(program), f"--defaults-file={directory / 'my.cnf'}", f"--port={port}", *more]
    return private_servers.start_as(account, command)


def _comes_up(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if problem_with(url) is None:
            return True
        time.sleep(0.05)
    return False


def sweep(*, kept: bool) -> int:
    """Remove the servers nobody owns any more, with `kept` also those of `make services`."""
    return private_servers.sweep(Instance, PREFIX, kept=kept)


def release(server: Instance, record: IO[str]) -> None:
    """Stop a server that this process owns and forget it."""
    private_servers.release(server, record)

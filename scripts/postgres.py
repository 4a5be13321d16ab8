"""PostgreSQL for the tests: one that answers, or a private one.

`discover` asks the places where a server usually is; `start_private` makes a cluster of our own: a
fresh directory, a free loopback port, a random password (any account of the machine can reach a
loopback port), fsync on as in production. What it has in common with other private servers, and how one that
a killed run left is found again, is told in `private_servers`.
"""

from __future__ import annotations

import asyncio
import getpass
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import urlsplit

from scripts import private_servers
from scripts.private_servers import NoService, can, checked, free_port, run_as

NAME = "postgresql"
TITLE = "PostgreSQL"
PACKAGE = "postgresql"
PROGRAMS = "initdb and pg_ctl"
OLDEST = 15
PREFIX = "holdfast-postgres-"
SOCKETS = Path("/var/run/postgresql")
_SETTINGS = "unix_socket_directories = ''\nlisten_addresses = '{address}'\nmax_connections = 300\n"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A private cluster: where it is, how to reach it, as whom and with what it is stopped."""

    directory: str
    account: str | None
    pg_ctl: str
    url: str
    keep: bool

    def restart(self, mode: str) -> None:
        """Stop the server in `mode` (fast, immediate) and start it again on its port, data as they are."""
        data = str(Path(self.directory, "data"))
        log = str(Path(self.directory, "log"))
        checked(self.account, [self.pg_ctl, "-D", data, "-l", log, "-w", "-t", "60", "-m", mode, "restart"])

    def control(self, *verb: str) -> None:
        """Have pg_ctl do something with the server: reload, promote, `stop -m immediate`, start."""
        data, log = str(Path(self.directory, "data")), str(Path(self.directory, "log"))
        checked(self.account, [self.pg_ctl, "-D", data, "-l", log, "-w", "-t", "60", *verb])

    def stop(self) -> None:
        """Stop the server and remove its files; a server that is gone already is no error."""
        data = Path(self.directory, "data")
        command = [self.pg_ctl, "-D", str(data), "-w", "-t", "30", "-m", "immediate", "stop"]
        if (data / "postmaster.pid").exists():
            run_as(self.account, command)
        shutil.rmtree(self.directory, ignore_errors=True)


def problem_with(url: str) -> str | None:
    """Connect to `url` as the tests will; `None` when it serves, else why it does not."""
    try:
        return asyncio.run(_ask(url))
    except Exception as error:
        text = str(error).strip().splitlines()
        return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


async def _ask(url: str) -> str | None:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=5)
    try:
        version = connection.get_server_version()
        if version.major < OLDEST:
            return f"it is PostgreSQL {version.major}, {OLDEST} or newer is needed"
        may = await connection.fetchval(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        return None if may else "its user may not create databases"
    finally:
        await connection.close(timeout=5)


def discover() -> str | None:
    """The URL of a server that answers where one usually is, or `None`."""
    kept = (cluster.url for _, cluster in private_servers.recorded(Cluster, PREFIX) if cluster.keep)
    return next((url for url in (*kept, *_usual_places()) if problem_with(url) is None), None)


def _usual_places() -> Iterator[str]:
    users = dict.fromkeys((getpass.getuser(), "postgres"))
    if private_servers.listens(("127.0.0.1", 5432)):
        yield from (f"postgresql://{user}@127.0.0.1:5432/postgres" for user in users)
    if (SOCKETS / ".s.PGSQL.5432").exists():
        yield from (f"postgresql://{user}@/postgres?host={SOCKETS}" for user in users)


def programs() -> Path | None:
    """The directory with initdb and pg_ctl: Debian's newest, else the one on PATH."""
    versioned = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest_first = sorted(versioned, key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    # Links are followed: a link in a private directory may lead to programs any account can run.
    candidates = [*newest_first, *([Path(on_path).resolve().parent] if on_path else [])]
    account = private_servers.unprivileged("postgres")
    return next((path for path in candidates if can(account, "-x", path / "pg_ctl")), None)


def start_private(
    bin_directory: Path,
    *,
    keep: bool,
    address: str = "127.0.0.1",
    network: str | None = None,
    in_memory: bool = True,
    more: str = "",
    rules: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Cluster, IO[str]]:
    """Make and start a cluster; hold on to the returned file, its lock says that the owner lives.

    It listens on `address` alone; clients of `network` are let in beside those of this host. `more` are
    further lines of postgresql.conf, `rules` come first in pg_hba.conf, and `files` lie beside them for the
    server alone. Raises NoService with the last line of the server's log.
    """
    account = private_servers.unprivileged("postgres")
    directory = private_servers.directory_for(account, PREFIX, in_memory=in_memory)
    password = secrets.token_urlsafe(18)
    try:
        _initialise(bin_directory, directory, account, password)
        entrance = directory / "data" / "pg_hba.conf"
        last = f"host all all {network} scram-sha-256\n" if network is not None else ""
        entrance.write_text(f"{rules}\n{entrance.read_text()}{last}")
        for name, text in files.items():
            private_servers.write_private(directory / "data" / name, text, account)
        with (directory / "data" / "postgresql.conf").open("a") as written:
            written.write(f"{_SETTINGS.format(address=address)}{more}\n")
        url = _start(bin_directory, directory, account, password, address)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    cluster = Cluster(str(directory), account, str(bin_directory / "pg_ctl"), url, keep)
    return cluster, private_servers.record(cluster)


def start_standby(bin_directory: Path, primary: Cluster) -> tuple[Cluster, IO[str]]:
    """A copy of `primary` that follows it and takes no writes until `control("promote")`.

    Raises NoService.
    """
    directory = private_servers.directory_for(primary.account, PREFIX, in_memory=True)
    try:
        copy = [str(bin_directory / "pg_basebackup"), "-D", str(directory / "data"), "-c", "fast", "-R"]
        checked(primary.account, [*copy, "-d", primary.url])
        parts = urlsplit(primary.url)
        url = _start(
            bin_directory, directory, primary.account, str(parts.password), parts.hostname or "127.0.0.1"
        )
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    cluster = Cluster(str(directory), primary.account, primary.pg_ctl, url, keep=False)
    return cluster, private_servers.record(cluster)


def _initialise(bin_directory: Path, directory: Path, account: str | None, password: str) -> None:
    secret = directory / "password"
    private_servers.write_private(secret, password, account)
    checked(
        account,
        [
            str(bin_directory / "initdb"), "-D", str(directory / "data"), "-U", "holdfast", "-E", "UTF8",
            "--no-locale", "--auth=scram-sha-256", f"--pwfile={secret}",
        ],
    )  # fmt: skip
    secret.unlink()


def _start(bin_directory: Path, directory: Path, account: str | None, password: str, address: str) -> str:
    log, data = directory / "log", directory / "data"
    # Between asking for a free port and using it somebody else may take it: then try another.
    for attempt in range(3):
        port = free_port()
        server = [str(bin_directory / "pg_ctl"), "-D", str(data), "-l", str(log), "-o", f"-p {port}"]
        command = [*server, "-w", "-t", "60", "start"]
        if run_as(account, command).returncode == 0:
            return f"postgresql://holdfast:{password}@{address}:{port}/postgres"
        if attempt < 2:
            log.rename(directory / f"log.{attempt}")
    raise NoService(f"a private PostgreSQL does not start: {private_servers.last_line(log)}")


def sweep(*, kept: bool) -> int:
    """Remove the clusters nobody owns any more, with `kept` also those of `make services`."""
    return private_servers.sweep(Cluster, PREFIX, kept=kept)


def release(cluster: Cluster, record: IO[str]) -> None:
    """Stop a cluster that this process owns and forget it."""
    private_servers.release(cluster, record)

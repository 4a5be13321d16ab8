"""PostgreSQL for the tests: one that answers, or a private one.

`discover` asks the places where a server usually is; `start_private` makes a cluster of our own: a
fresh directory, a free loopback port, a random password (any account of the machine can reach a
loopback port), fsync on as in production. PostgreSQL refuses to run as root, so root hands it to the
`postgres` account, else `nobody`, and puts the directory where that account can get to.

Every private cluster has a record under `.services/`. The process that owns it holds a lock on the
record; a record nobody holds belongs to a run that was killed, and `sweep` removes what it left. A
cluster started by `make services` is marked as kept and stays until it is stopped by command.
"""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

OLDEST = 15
RECORDS = Path(__file__).resolve().parent.parent / ".services"
SOCKETS = Path("/var/run/postgresql")
_SETTINGS = "unix_socket_directories = ''\nlisten_addresses = '{address}'\nmax_connections = 300\n"


class NoPostgres(Exception):
    """No server to test with; the text is one line that names the remedy."""


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
        _checked(self.account, [self.pg_ctl, "-D", data, "-l", log, "-w", "-t", "60", "-m", mode, "restart"])

    def stop(self) -> None:
        """Stop the server and remove its files; a server that is gone already is no error."""
        data = Path(self.directory, "data")
        command = [self.pg_ctl, "-D", str(data), "-w", "-t", "30", "-m", "immediate", "stop"]
        if (data / "postmaster.pid").exists():
            _run_as(self.account, command)
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
    kept = (cluster.url for _, cluster in _records() if cluster.keep)
    return next((url for url in (*kept, *_usual_places()) if problem_with(url) is None), None)


def _usual_places() -> Iterator[str]:
    users = dict.fromkeys((getpass.getuser(), "postgres"))
    if _listens(("127.0.0.1", 5432)):
        yield from (f"postgresql://{user}@127.0.0.1:5432/postgres" for user in users)
    if (SOCKETS / ".s.PGSQL.5432").exists():
        yield from (f"postgresql://{user}@/postgres?host={SOCKETS}" for user in users)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def programs() -> Path | None:
    """The directory with initdb and pg_ctl: Debian's newest, else the one on PATH."""
    versioned = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest_first = sorted(versioned, key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    # Links are followed: a link in a private directory may lead to programs any account can run.
    candidates = [*newest_first, *([Path(on_path).resolve().parent] if on_path else [])]
    account = unprivileged()
    return next((path for path in candidates if _can(account, "-x", path / "pg_ctl")), None)


def start_private(
    bin_directory: Path, *, keep: bool, address: str = "127.0.0.1", network: str | None = None
) -> tuple[Cluster, IO[str]]:
    """Make and start a cluster; hold on to the returned file, its lock says that the owner lives.

    It listens on `address` alone; clients of `network` are let in beside those of this host. Raises
    NoPostgres with the last line of the server's log.
    """
    account = unprivileged()
    directory = directory_for(account, "holdfast-postgres-")
    password = secrets.token_urlsafe(18)
    try:
        _initialise(bin_directory, directory, account, password)
        if network is not None:
            with (directory / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {network} scram-sha-256\n")
        url = _start(bin_directory, directory, account, password, address)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    cluster = Cluster(str(directory), account, str(bin_directory / "pg_ctl"), url, keep)
    return cluster, _record(cluster)


def unprivileged() -> str | None:
    """Whom to run the server as: `None` is the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoPostgres("it does not run as root and there is no account `postgres` or `nobody`")


def directory_for(account: str | None, prefix: str) -> Path:
    """A new directory that `account` can work in."""
    for base in (RECORDS, Path("/var/tmp"), Path("/tmp")):
        base.mkdir(exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        if account is not None:
            shutil.chown(directory, account)
        if _can(account, "-w", directory):
            return directory
        directory.rmdir()
    raise NoPostgres("no directory for a private server: make /var/tmp writable for everybody")


def _initialise(bin_directory: Path, directory: Path, account: str | None, password: str) -> None:
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if account is not None:
        shutil.chown(secret, account)
    _checked(
        account,
        [
            str(bin_directory / "initdb"), "-D", str(directory / "data"), "-U", "holdfast", "-E", "UTF8",
            "--no-locale", "--auth=scram-sha-256", f"--pwfile={secret}",
        ],
    )  # fmt: skip
    secret.unlink()


def _start(bin_directory: Path, directory: Path, account: str | None, password: str, address: str) -> str:
    log, data = directory / "log", directory / "data"
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS.format(address=address))
    # Between asking for a free port and using it somebody else may take it: then try another.
    for attempt in range(3):
        port = free_port()
        server = [str(bin_directory / "pg_ctl"), "-D", str(data), "-l", str(log), "-o", f"-p {port}"]
        command = [*server, "-w", "-t", "60", "start"]
        if _run_as(account, command).returncode == 0:
            return f"postgresql://holdfast:{password}@{address}:{port}/postgres"
        if attempt < 2:
            log.rename(directory / f"log.{attempt}")
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise NoPostgres(f"a private PostgreSQL does not start: {lines[-1] if lines else 'it left no log'}")


def free_port() -> int:
    """A loopback port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _can(account: str | None, test: str, path: Path) -> bool:
    return _run_as(account, ["/bin/sh", "-c", 'test "$0" "$1"', test, str(path)]).returncode == 0


def _checked(account: str | None, command: list[str]) -> None:
    done = _run_as(account, command)
    if done.returncode != 0:
        lines = (done.stdout or "").strip().splitlines() or ["no output"]
        raise NoPostgres(f"{Path(command[0]).name} failed: {lines[-1]}")


def _run_as(account: str | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    # The output goes to a file, not a pipe: the server inherits it and would keep a pipe open for good.
    with tempfile.TemporaryFile("w+") as output:
        if account is None:
            done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        else:
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, **identity(account)
            )  # fmt: skip
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read())


def identity(account: str) -> dict[str, Any]:
    """What makes a subprocess run as `account`."""
    entry = pwd.getpwnam(account)
    return {
        "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "env": os.environ | {"HOME": "/"},
    }  # fmt: skip


def _record(cluster: Cluster) -> IO[str]:
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{Path(cluster.directory).name}.json"
    record = path.open("x")
    path.chmod(0o600)
    fcntl.flock(record, fcntl.LOCK_EX)
    json.dump(asdict(cluster), record)
    record.flush()
    return record


def _records() -> Iterator[tuple[Path, Cluster]]:
    for path in sorted(RECORDS.glob("*.json")):
        try:
            yield path, Cluster(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue  # written this very moment by another run, or removed by it


def sweep(*, kept: bool) -> int:
    """Remove the clusters nobody owns any more, with `kept` also those of `make services`."""
    removed = 0
    for path, cluster in _records():
        if cluster.keep and not kept:
            continue
        with path.open() as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            cluster.stop()
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def release(cluster: Cluster, record: IO[str]) -> None:
    """Stop a cluster that this process owns and forget it."""
    cluster.stop()
    Path(record.name).unlink(missing_ok=True)
    record.close()

"""Gives the tests what they need beside Python: PostgreSQL, a PgBouncer before it, MariaDB, and strace.

`run [--on-disk] -- COMMAND …` runs a command with HOLDFAST_TEST_POSTGRES_URL, HOLDFAST_TEST_PGBOUNCER_URL and
HOLDFAST_TEST_MYSQL_URL set and stops what it started, with --on-disk never with a server's files in memory,
where a measurement would not see what a commit costs; `start` leaves the servers running and prints the
settings; `stop` ends what `start` left. For each service it can not get it prints one line with the remedy,
and exits 1.

HOLDFAST_TEST_POSTGRES_URL and HOLDFAST_TEST_MYSQL_URL name a server to use; the word `private` asks for a
server of our own even where another one answers. Without it: a private one where its files can lie in memory,
else a server in the usual places, else a private one, for which root gets Debian's package installed.
PgBouncer is a private one always, unless HOLDFAST_TEST_PGBOUNCER_URL names one in front of the same server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from scripts import apt, mariadb, pgbouncer, postgres, private_servers
from scripts.private_servers import NoService

VARIABLE = "HOLDFAST_TEST_POSTGRES_URL"
MYSQL_VARIABLE = "HOLDFAST_TEST_MYSQL_URL"
POOLER_VARIABLE = "HOLDFAST_TEST_PGBOUNCER_URL"


def strace_problem() -> str | None:
    """Make sure strace is here and may trace; else one line about the remedy."""
    if shutil.which("strace") is None:
        if not apt.may_install():
            return "strace: not installed (the crash tests kill at system calls); apt-get install strace"
        if problem := apt.install("strace"):
            return f"strace: {problem}"
    traced = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if traced.returncode != 0:
        return "strace: this process may not trace others; allow ptrace (containers: add SYS_PTRACE)"
    return None


class Maker(Protocol):
    """A module that finds and starts one kind of database server: `postgres`, `mariadb`."""

    NAME: str
    TITLE: str
    PACKAGE: str
    PROGRAMS: str

    def problem_with(self, url: str, /) -> str | None: ...

    def discover(self) -> str | None: ...

    def programs(self) -> Path | None: ...

    def start_private(self, programs: Path, /, *, keep: bool, in_memory: bool) -> tuple[Any, IO[str]]: ...

    def sweep(self, *, kept: bool) -> int: ...


class Database:
    """The server for one command: found, or started here and then owned."""

    def __init__(self, maker: Maker, variable: str, *, keep: bool, in_memory: bool) -> None:
        self._maker = maker
        self._variable = variable
        self._keep = keep
        self._in_memory = in_memory and private_servers.has_memory()
        self._owned: tuple[private_servers.Server, IO[str]] | None = None
        self.url = ""

    def acquire(self) -> str | None:
        """Find or start a server; `None` when `url` is set, else one line about the remedy."""
        wish = os.environ.get(self._variable, "")
        try:
            self._maker.sweep(kept=False)
            self._programs()  # also beside a server from elsewhere: some tests restart one of their own
            self.url = self._named(wish) if wish not in ("", "private") else self._usual(private=bool(wish))
        except NoService as problem:
            return f"{self._maker.NAME}: {problem}"
        return None

    def _programs(self) -> Path:
        """The programs of the server, installed if they may be; raises `NoService` with the remedy."""
        names, package = self._maker.PROGRAMS, self._maker.PACKAGE
        programs = self._maker.programs()
        if programs is not None:
            return programs
        if not apt.may_install():
            raise NoService(f"{names}: in no usual place; apt-get install {package}")
        if problem := apt.install(package):
            raise NoService(problem)
        programs = self._maker.programs()
        if programs is None:
            raise NoService(f"installed, but {names}: in no usual place; put it on PATH")
        return programs

    def _named(self, url: str) -> str:
        if problem := self._maker.problem_with(url):
            raise NoService(f"{self._variable} is set but does not serve ({problem}); correct or unset it")
        return url

    def _usual(self, *, private: bool) -> str:
        found = None if private or self._in_memory else self._maker.discover()
        return found or self._start()

    def _start(self) -> str:
        programs = self._programs()
        print(f"starting a private {self._maker.TITLE}", flush=True)
        server, record = self._maker.start_private(programs, keep=self._keep, in_memory=self._in_memory)
        self._owned = server, record
        return str(server.url)

    def release(self) -> None:
        """Stop what was started here, unless it was started to be kept."""
        if self._owned is not None and not self._keep:
            private_servers.release(*self._owned)
            self._owned = None


def postgresql(*, keep: bool, in_memory: bool = True) -> Database:
    """A PostgreSQL server, not yet acquired."""
    return Database(postgres, VARIABLE, keep=keep, in_memory=in_memory)


def mysql(*, keep: bool, in_memory: bool = True) -> Database:
    """A MariaDB or MySQL server, not yet acquired."""
    return Database(mariadb, MYSQL_VARIABLE, keep=keep, in_memory=in_memory)


class PgBouncer:
    """The pooler for one command: named, or started here and then owned."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._owned: tuple[pgbouncer.Pooler, IO[str]] | None = None
        self.url = ""

    def acquire(self, server_url: str) -> str | None:
        """Start one in front of the server, if there is one; `None` when all is well, else the remedy."""
        if named := os.environ.get(POOLER_VARIABLE):
            self.url = named
            if pgbouncer.serves(named):
                return None
            return f"pgbouncer: {POOLER_VARIABLE} is set but does not serve; correct or unset it"
        try:
            pgbouncer.sweep(kept=False)
            executable = pgbouncer.program() or self._install()
            if server_url:
                self._owned = pgbouncer.start_private(executable, server_url, keep=self._keep)
                self.url = self._owned[0].url
        except NoService as problem:
            return f"pgbouncer: {problem}"
        return None

    def _install(self) -> str:
        if not apt.may_install():
            raise NoService(f"not installed; apt-get install pgbouncer, or set {POOLER_VARIABLE}")
        if problem := apt.install("pgbouncer"):
            raise NoService(problem)
        executable = pgbouncer.program()
        if executable is None:
            raise NoService("installed, but in no usual place; put it on PATH")
        return executable

    def release(self) -> None:
        """Stop what was started here, unless it was started to be kept."""
        if self._owned is not None and not self._keep:
            private_servers.release(*self._owned)
            self._owned = None


@contextmanager
def services(*, keep: bool, in_memory: bool = True) -> Iterator[dict[str, str]]:
    """The variables of what runs for as long as the block lasts; exits with one line per missing service."""
    server, pooler = postgresql(keep=keep, in_memory=in_memory), PgBouncer(keep=keep)
    other = mysql(keep=keep, in_memory=in_memory)
    try:
        found = (server.acquire(), pooler.acquire(server.url), other.acquire(), strace_problem())
        problems = [problem for problem in found if problem]
        if problems:
            print("\n".join(problems), file=sys.stderr)
            sys.exit(1)
        yield {VARIABLE: server.url, POOLER_VARIABLE: pooler.url, MYSQL_VARIABLE: other.url}
    finally:
        other.release()
        pooler.release()
        server.release()


def run(command: list[str], *, in_memory: bool) -> int:
    """Run a command beside the services; its exit status, as a shell would give it."""
    with services(keep=False, in_memory=in_memory) as variables:
        status = _wait_for(command, variables)
    return status if status >= 0 else 128 - status


def _wait_for(command: list[str], variables: dict[str, str]) -> int:
    child = subprocess.Popen(command, env=os.environ | variables)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The terminal sent it to the child as well, which ends in its own way.
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def start() -> int:
    """Start what is missing, leave it running, print the settings for a shell."""
    with services(keep=True) as variables:
        for name, url in variables.items():
            print(f"export {name}='{url}'")
        print("# what was started here runs until: .venv/bin/python -m scripts.services stop")
    return 0


def stop() -> int:
    """Stop what `start` left running."""
    print(f"stopped: {sum(maker.sweep(kept=True) for maker in (pgbouncer, postgres, mariadb))}")
    return 0


def _on_sigterm(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


def main(arguments: list[str]) -> int:
    """Entry point: run [--on-disk] -- COMMAND …, start, or stop."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    match arguments:
        case ["run", "--", command, *rest]:
            return run([command, *rest], in_memory=True)
        case ["run", "--on-disk", "--", command, *rest]:
            return run([command, *rest], in_memory=False)
        case ["start"]:
            return start()
        case ["stop"]:
            return stop()
        case _:
            print(
                "usage: python -m scripts.services run [--on-disk] -- COMMAND … | start | stop",
                file=sys.stderr,
            )
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

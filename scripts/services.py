"""Gives the tests what they need beside Python: a PostgreSQL server, a PgBouncer before it, and strace.

`run -- COMMAND …` runs a command with HOLDFAST_TEST_POSTGRES_URL and HOLDFAST_TEST_PGBOUNCER_URL set and
stops what it started; `start` leaves the servers running and prints the settings; `stop` ends what `start`
left. For each service it can not get it prints one line with the remedy, and exits 1.

HOLDFAST_TEST_POSTGRES_URL names a server to use; the word `private` asks for a server of our own even
where another one answers. Without it: a server in the usual places, else a private one, for which root
gets Debian's package installed. PgBouncer is a private one always, unless HOLDFAST_TEST_PGBOUNCER_URL
names one in front of the same server.
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
from typing import IO, NoReturn

from scripts import apt, pgbouncer, postgres

VARIABLE = "HOLDFAST_TEST_POSTGRES_URL"
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


def _server_programs() -> Path:
    """The programs of a PostgreSQL server, installed if they may be; raises `NoPostgres` with the remedy."""
    programs = postgres.programs()
    if programs is not None:
        return programs
    if not apt.may_install():
        raise postgres.NoPostgres("initdb and pg_ctl are in no usual place; apt-get install postgresql")
    if problem := apt.install("postgresql"):
        raise postgres.NoPostgres(problem)
    programs = postgres.programs()
    if programs is None:
        raise postgres.NoPostgres("installed, but initdb is in no usual place; put it on PATH")
    return programs


class Postgres:
    """The server for one command: found, or started here and then owned."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._owned: tuple[postgres.Cluster, IO[str]] | None = None
        self.url = ""

    def acquire(self) -> str | None:
        """Find or start a server; `None` when `url` is set, else one line about the remedy."""
        wish = os.environ.get(VARIABLE, "")
        try:
            postgres.sweep(kept=False)
            _server_programs()  # also beside a server from elsewhere: some tests restart one of their own
            self.url = self._named(wish) if wish not in ("", "private") else self._usual(private=bool(wish))
        except postgres.NoPostgres as problem:
            return f"postgresql: {problem}"
        return None

    def _named(self, url: str) -> str:
        if problem := postgres.problem_with(url):
            raise postgres.NoPostgres(
                f"{VARIABLE} is set but does not serve ({problem}); correct or unset it"
            )
        return url

    def _usual(self, *, private: bool) -> str:
        found = None if private else postgres.discover()
        return found or self._start()

    def _start(self) -> str:
        programs = _server_programs()
        print("starting a private PostgreSQL", flush=True)
        self._owned = postgres.start_private(programs, keep=self._keep)
        return self._owned[0].url

    def release(self) -> None:
        """Stop what was started here, unless it was started to be kept."""
        if self._owned is not None and not self._keep:
            postgres.release(*self._owned)
            self._owned = None


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
        except pgbouncer.NoPgBouncer as problem:
            return f"pgbouncer: {problem}"
        return None

    def _install(self) -> str:
        if not apt.may_install():
            raise pgbouncer.NoPgBouncer(f"not installed; apt-get install pgbouncer, or set {POOLER_VARIABLE}")
        if problem := apt.install("pgbouncer"):
            raise pgbouncer.NoPgBouncer(problem)
        executable = pgbouncer.program()
        if executable is None:
            raise pgbouncer.NoPgBouncer("installed, but in no usual place; put it on PATH")
        return executable

    def release(self) -> None:
        """Stop what was started here, unless it was started to be kept."""
        if self._owned is not None and not self._keep:
            pgbouncer.release(*self._owned)
            self._owned = None


@contextmanager
def services(*, keep: bool) -> Iterator[dict[str, str]]:
    """The variables of what runs for as long as the block lasts; exits with one line per missing service."""
    server, pooler = Postgres(keep=keep), PgBouncer(keep=keep)
    try:
        problems = [
            problem for problem in (server.acquire(), pooler.acquire(server.url), strace_problem()) if problem
        ]
        if problems:
            print("\n".join(problems), file=sys.stderr)
            sys.exit(1)
        yield {VARIABLE: server.url, POOLER_VARIABLE: pooler.url}
    finally:
        pooler.release()
        server.release()


def run(command: list[str]) -> int:
    """Run a command beside the services; its exit status, as a shell would give it."""
    with services(keep=False) as variables:
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
    print(f"stopped: {pgbouncer.sweep(kept=True) + postgres.sweep(kept=True)}")
    return 0


def _on_sigterm(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


def main(arguments: list[str]) -> int:
    """Entry point: run -- COMMAND …, start, or stop."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    match arguments:
        case ["run", "--", command, *rest]:
            return run([command, *rest])
        case ["start"]:
            return start()
        case ["stop"]:
            return stop()
        case _:
            print("usage: python -m scripts.services run -- COMMAND … | start | stop", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Fixtures every suite shares: the event loop, the databases, and how hard the crash tests try.

Each test run makes databases of its own on the server and drops them; nothing else on the server is
touched. A fresh database costs about 50 ms; a schema would cost 2 ms, but would share advisory locks,
the month's partitions and `pg_stat_activity` with every other test on the server.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from scripts import postgres

VARIABLE = "HOLDFAST_TEST_POSTGRES_URL"

# A shell that starts the tests in the background has them ignore Ctrl-C, and what is ignored stays so in
# every program they start; some of those are to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash",
        choices=("sample", "all"),
        default="sample",
        help="crash tests: a rotating sample of the kill points (default), or all of them",
    )
    parser.addoption(
        "--chaos",
        choices=("short", "long"),
        default="short",
        help="chaos tests: the short form (default), or the long one with network partitions",
    )


@pytest.fixture(scope="session")
def chaos_scope(pytestconfig: pytest.Config) -> str:
    """`short` or `long`: how long the chaos tests break things."""
    return str(pytestconfig.getoption("--chaos"))


@pytest.fixture(scope="session")
def crash_scope(pytestconfig: pytest.Config) -> str:
    """`sample` or `all`: how many of the kill points the crash tests visit."""
    return str(pytestconfig.getoption("--crash"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class Administrator:
    """One connection to the server that makes and drops databases, usable from plain fixtures."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def create(self) -> str:
        """Make an empty database; its URL."""
        name = f"holdfast_test_{secrets.token_hex(6)}"
        # template0 is what no other test, tool or person has put anything into.
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def drop(self, url: str) -> None:
        """Drop a database that `create` made, with whatever connections are left in it."""
        self._execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def close(self) -> None:
        if self._connection is not None:
            self._runner.run(self._connection.close(timeout=10))
        self._runner.close()

    def _execute(self, statement: str) -> None:
        async def execute() -> None:
            # A test may have restarted the server or ended every backend.
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url, timeout=10)
            await self._connection.execute(statement, timeout=60)

        self._runner.run(execute())


@pytest.fixture(scope="session")
def _administrator() -> Iterator[Administrator]:
    url = os.environ.get(VARIABLE) or postgres.discover()
    if not url or url == "private":
        pytest.fail(
            f"no PostgreSQL answers; run `make test`, or `make services` and set {VARIABLE}", pytrace=False
        )
    if problem := postgres.problem_with(url):
        pytest.fail(f"{VARIABLE} does not serve: {problem}", pytrace=False)
    administrator = Administrator(url)
    yield administrator
    administrator.close()


@pytest.fixture(scope="session")
def postgres_url(_administrator: Administrator) -> Iterator[str]:
    """A database of this test process, empty at its start; tests that use it share it."""
    url = _administrator.create()
    yield url
    _administrator.drop(url)


@pytest.fixture
def fresh_postgres(_administrator: Administrator) -> Iterator[str]:
    """A database of this test alone, new and empty."""
    url = _administrator.create()
    yield url
    _administrator.drop(url)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once per kind of store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'holdfast.db'}"
    if request.param == "memory":
        return "memory://"
    return str(request.getfixturevalue("fresh_postgres"))

"""Fixtures every suite shares: the event loop, the databases, and how hard the crash tests try."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from scripts import mariadb, postgres
from tests import canary
from tests.databases import Administrator, MysqlAdministrator, MysqlStores, empty_store, server

VARIABLE = "HOLDFAST_TEST_POSTGRES_URL"
MYSQL_VARIABLE = "HOLDFAST_TEST_MYSQL_URL"

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
    parser.addoption(
        "--ring",
        type=int,
        default=0,
        metavar="N",
        help="the copy around all kinds of store: with N executions more (default: those of every shape)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that printed or logged a password has failed."""
    report = yield
    said = [text for title, text in report.sections if title.endswith(report.when)]
    if any(map(canary.is_in, said)):
        report.outcome = "failed"
        report.longrepr = "a password of the tests stands in what this test printed or logged"
        report.sections = [(title, "(hidden)") for title, _ in report.sections]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """So has one whose files, as far as the program made them, have a password in them."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    found = list(canary.files_with_it(folder)) if folder is not None else []
    yield
    assert not found, f"a password of the tests stands in {found}"


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


@pytest.fixture(scope="session")
def _administrator() -> Iterator[Administrator]:
    administrator = Administrator(server(postgres, VARIABLE))
    yield administrator
    administrator.close()


@pytest.fixture(scope="session")
def _mysql_administrator() -> MysqlAdministrator:
    return MysqlAdministrator(server(mariadb, MYSQL_VARIABLE))


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


@pytest.fixture
def made_postgres(_administrator: Administrator) -> Iterator[str]:
    """An empty store of this test alone on PostgreSQL, its tables made already."""
    url = _administrator.create_made()
    yield url
    _administrator.drop(url)


@pytest.fixture(scope="session")
def mysql_url(_mysql_administrator: MysqlAdministrator) -> Iterator[str]:
    """The same as `postgres_url` on MariaDB or MySQL."""
    url = _mysql_administrator.create()
    yield url
    _mysql_administrator.drop(url)


@pytest.fixture
def fresh_mysql(_mysql_administrator: MysqlAdministrator) -> Iterator[str]:
    """The same as `fresh_postgres` on MariaDB or MySQL."""
    url = _mysql_administrator.create()
    yield url
    _mysql_administrator.drop(url)


@pytest.fixture(scope="session")
def _mysql_stores(_mysql_administrator: MysqlAdministrator) -> Iterator[MysqlStores]:
    stores = MysqlStores(_mysql_administrator)
    yield stores
    stores.close()


@pytest.fixture
def made_mysql(_mysql_stores: MysqlStores) -> Iterator[str]:
    """An empty store of this test alone on MariaDB or MySQL, its tables made already."""
    url = _mysql_stores.take()
    yield url
    _mysql_stores.give_back(url)


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "file", "memory"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once per kind of store."""
    return empty_store(request, tmp_path, is_made=True)

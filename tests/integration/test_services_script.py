"""scripts/services.py: private servers from start to removal, and one line per missing service."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from scripts import apt, mariadb, postgres, private_servers, services


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(private_servers, "RECORDS", tmp_path / "services")
    return tmp_path / "services"


async def _fsync_and_user(url: str) -> tuple[str, str]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("SELECT current_setting('fsync'), current_user")
        assert row is not None
        return row[0], row[1]
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_a_private_cluster_syncs_asks_for_its_password_and_leaves_nothing(records: Path) -> None:
    programs = postgres.programs()
    assert programs is not None
    cluster, record = postgres.start_private(programs, keep=False)
    try:
        assert await _fsync_and_user(cluster.url) == ("on", "holdfast")
        password = cluster.url.split("@")[0].split(":")[2]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(cluster.url.replace(password, "wrong"))
        assert postgres.sweep(kept=True) == 0, "a cluster whose owner lives must be left alone"
        assert await _fsync_and_user(cluster.url) == ("on", "holdfast")
    finally:
        postgres.release(cluster, record)
    assert not Path(cluster.directory).exists()
    assert list(records.iterdir()) == []
    with pytest.raises(OSError):
        await asyncpg.connect(cluster.url)


def _start_and_die(maker: str, records: Path) -> tuple[str, Path]:
    """A run that starts a private server and is killed: the server's URL and its directory."""
    start_and_die = (
        f"import os, pathlib, signal, sys; from scripts import {maker} as maker, private_servers\n"
        "private_servers.RECORDS = pathlib.Path(sys.argv[1])\n"
        "server, record = maker.start_private(maker.programs(), keep=False)\n"
        "print(server.url, server.directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(postgres.__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", start_and_die, str(records)], cwd=root, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    url, directory = killed.stdout.split()
    return url, Path(directory)


@pytest.mark.anyio
async def test_what_a_killed_run_left_is_removed_by_the_next_one(records: Path) -> None:
    url, directory = _start_and_die("postgres", records)
    assert await _fsync_and_user(url) == ("on", "holdfast")
    assert postgres.sweep(kept=False) == 1
    assert not directory.exists()
    with pytest.raises(OSError):
        await asyncpg.connect(url)


async def _look(cursor: Any) -> tuple[Any, ...]:
    await cursor.execute(
        "SELECT current_user(), @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@log_bin,"
        " @@max_connections, (SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'kept')"
    )
    return tuple((await cursor.fetchall())[0])


async def _make(cursor: Any) -> None:
    await cursor.execute("CREATE DATABASE kept")


def test_a_private_mariadb_syncs_asks_for_its_password_and_leaves_nothing(records: Path) -> None:
    program = mariadb.programs()
    assert program is not None
    server, record = mariadb.start_private(program, keep=False)
    try:
        assert asyncio.run(mariadb.asking(server.url, _look)) == ("holdfast@127.0.0.1", 1, 1, 0, 300, 0)
        password = urlsplit(server.url).password
        assert password is not None
        assert "denied" in str(mariadb.problem_with(server.url.replace(password, "wrong")))
        assert "denied" in str(mariadb.problem_with(server.url.replace(f"holdfast:{password}", "root")))
        assert not [path for path in Path(server.directory).rglob("*.sql") if password in path.read_text()]
        asyncio.run(mariadb.asking(server.url, _make))
        for mode in ("fast", "immediate"):
            server.restart(mode)
            assert asyncio.run(mariadb.asking(server.url, _look))[-1] == 1, "a restart keeps the data"
        assert mariadb.sweep(kept=True) == 0, "a server whose owner lives must be left alone"
        assert mariadb.problem_with(server.url) is None
    finally:
        mariadb.release(server, record)
    assert not Path(server.directory).exists()
    assert list(records.iterdir()) == []
    assert mariadb.problem_with(server.url) is not None


def test_a_mariadb_of_a_killed_run_is_removed_by_the_next_one(records: Path) -> None:
    url, directory = _start_and_die("mariadb", records)
    assert mariadb.problem_with(url) is None
    assert mariadb.sweep(kept=False) == 1
    assert not directory.exists()
    assert mariadb.problem_with(url) is not None


async def _forget_commits(cursor: Any) -> None:
    await cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")


async def _add_a_guest(cursor: Any) -> None:
    await cursor.execute("CREATE USER guest@'127.0.0.1' IDENTIFIED BY 'x'")
    await cursor.execute("GRANT SELECT ON mysql.* TO guest@'127.0.0.1'")


def test_a_mariadb_that_does_not_suit_is_not_used(records: Path) -> None:
    program = mariadb.programs()
    assert program is not None
    server, record = mariadb.start_private(program, keep=False)
    try:
        asyncio.run(mariadb.asking(server.url, _add_a_guest))
        guest = f"mysql://guest:x@{server.url.rpartition('@')[2]}"
        assert mariadb.problem_with(guest) == "its user may not create databases"
        asyncio.run(mariadb.asking(server.url, _forget_commits))
        assert mariadb.problem_with(server.url) == "it acknowledges commits that are not on disk"
    finally:
        mariadb.release(server, record)


def test_every_missing_service_has_one_line_with_its_remedy(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in (services.VARIABLE, services.MYSQL_VARIABLE):
        monkeypatch.setenv(variable, "private")
    monkeypatch.delenv(services.POOLER_VARIABLE, raising=False)
    for maker in (postgres, mariadb):
        monkeypatch.setattr(maker, "programs", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name, **where: None)
    monkeypatch.setattr(apt, "may_install", lambda: False)
    with pytest.raises(SystemExit) as stop:
        services.run(["true"], in_memory=True)
    assert stop.value.code == 1
    postgresql, pgbouncer, mysql, strace = capsys.readouterr().err.splitlines()
    assert postgresql.startswith("postgresql: ") and "apt-get install postgresql" in postgresql
    assert pgbouncer.startswith("pgbouncer: ") and "apt-get install pgbouncer" in pgbouncer
    assert mysql.startswith("mysql: ") and "apt-get install mariadb-server" in mysql
    assert strace.startswith("strace: ") and "apt-get install strace" in strace


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_named_server_that_does_not_serve_is_not_replaced_by_another(
    records: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    variable = {"postgresql": services.VARIABLE, "mysql": services.MYSQL_VARIABLE}[kind]
    monkeypatch.setenv(variable, f"{kind}://nobody@127.0.0.1:9/none")
    make = {"postgresql": services.postgresql, "mysql": services.mysql}[kind]
    assert str(make(keep=False).acquire()).startswith(f"{kind}: {variable} is set but does not serve (")


def test_the_command_sees_the_servers_and_its_status_is_passed_on(postgres_url: str, mysql_url: str) -> None:
    root = Path(services.__file__).parent.parent
    seen = f"{{'{services.VARIABLE}', '{services.MYSQL_VARIABLE}'}} <= os.environ.keys()"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.services", "run", "--", sys.executable, "-c",
         f"import os, sys; sys.exit(40 + ({seen}))"],
        cwd=root,
        env=os.environ | {services.VARIABLE: postgres_url, services.MYSQL_VARIABLE: mysql_url},
    )  # fmt: skip
    assert done.returncode == 41

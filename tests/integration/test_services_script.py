"""scripts/services.py: a private PostgreSQL from start to removal, and one line per missing service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from scripts import apt, postgres, services


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(postgres, "RECORDS", tmp_path / "services")
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


@pytest.mark.anyio
async def test_what_a_killed_run_left_is_removed_by_the_next_one(records: Path) -> None:
    start_and_die = (
        "import os, pathlib, signal, sys; from scripts import postgres\n"
        "postgres.RECORDS = pathlib.Path(sys.argv[1])\n"
        "cluster, record = postgres.start_private(postgres.programs(), keep=False)\n"
        "print(cluster.url, cluster.directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(postgres.__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", start_and_die, str(records)], cwd=root, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    url, directory = killed.stdout.split()
    assert await _fsync_and_user(url) == ("on", "holdfast")
    assert postgres.sweep(kept=False) == 1
    assert not Path(directory).exists()
    with pytest.raises(OSError):
        await asyncpg.connect(url)


def test_every_missing_service_has_one_line_with_its_remedy(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(services.VARIABLE, "private")
    monkeypatch.delenv(services.POOLER_VARIABLE, raising=False)
    monkeypatch.setattr(postgres, "programs", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name, **where: None)
    monkeypatch.setattr(apt, "may_install", lambda: False)
    with pytest.raises(SystemExit) as stop:
        services.run(["true"])
    assert stop.value.code == 1
    postgresql, pgbouncer, strace = capsys.readouterr().err.splitlines()
    assert postgresql.startswith("postgresql: ") and "apt-get install postgresql" in postgresql
    assert pgbouncer.startswith("pgbouncer: ") and "apt-get install pgbouncer" in pgbouncer
    assert strace.startswith("strace: ") and "apt-get install strace" in strace


def test_a_named_server_that_does_not_serve_is_not_replaced_by_another(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(services.VARIABLE, "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(SystemExit):
        services.run(["true"])
    assert capsys.readouterr().err.startswith(f"postgresql: {services.VARIABLE} is set but does not serve (")


def test_the_command_sees_the_server_and_its_status_is_passed_on(postgres_url: str) -> None:
    root = Path(services.__file__).parent.parent
    command = [sys.executable, "-c", f"import os, sys; sys.exit(40 + ('{services.VARIABLE}' in os.environ))"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.services", "run", "--", *command],
        cwd=root,
        env=os.environ | {services.VARIABLE: postgres_url},
    )
    assert done.returncode == 41

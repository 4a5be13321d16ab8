"""`holdfast storage health` and the figures in `storage stats`: every way in which a store can be unwell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.store import health
from holdfast.stores import build_store, config_for
from tests.integration.shell import Shell

NAMES = ["connect", "read", "schema", "write", "clock", "replication", "disk"]


def checks(holdfast: Shell, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
    done = holdfast.inside("storage", "health", *arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    told = json.loads(done.stdout)
    assert told["healthy"] is (code == 0)
    return {row["name"]: row for row in told["items"]}


@pytest.fixture
def ready(stored: Shell) -> Shell:
    assert stored.inside("storage", "init").returncode == 0
    return stored


def test_a_healthy_store(ready: Shell) -> None:
    found = checks(ready, code=0)
    assert list(found) == NAMES
    assert {row["state"] for row in found.values()} == {"ok"}
    assert all(row["latency_ms"] > 0 and row["error"] is None for row in found.values())
    person = ready.inside("storage", "health")
    assert person.returncode == 0
    assert [line.split()[1] for line in person.stdout.splitlines()] == NAMES
    assert person.stderr == ""


def test_nothing_is_left_behind(ready: Shell) -> None:
    before = mailboxes(ready)
    for _ in range(3):
        checks(ready, code=0)
    assert mailboxes(ready) == before == 0


def mailboxes(holdfast: Shell) -> int:
    import asyncio

    url = holdfast.environ.get("HOLDFAST_URL", f"sqlite:///{holdfast.folder / '.holdfast' / 'holdfast.db'}")

    async def count() -> int:
        async with build_store(config_for(url)) as store:
            prefix = f"{store.driver.schema}." if store.driver.schema else ""
            return int((await store.driver.fetch_text(f"SELECT count(*) FROM {prefix}mailboxes"))[0][0])

    return asyncio.run(count())


def test_a_schema_that_is_behind(ready: Shell) -> None:
    for dialect in ("sqlite", "postgresql", "mysql"):
        (ready.folder / "own" / dialect).mkdir(parents=True)
        path = ready.folder / "own" / dialect / "10001_more.sql"
        path.write_text(
            "-- +migrate Up\nCREATE TABLE more (n INTEGER);\n-- +migrate Down\nDROP TABLE more;\n"
        )
    ready.write("holdfast.yaml", "storage: {migrations: {dir: own}}\n")
    found = checks(ready, code=6)
    assert (found["schema"]["state"], found["schema"]["error"]["code"]) == ("failed", "HF2102")
    assert found["read"]["state"] == "ok"
    assert "write" not in found
    assert "HF2102" in ready.inside("storage", "health").stderr


def test_a_schema_from_a_later_version(ready: Shell) -> None:
    for dialect in ("sqlite", "postgresql", "mysql"):
        (ready.folder / "own" / dialect).mkdir(parents=True)
        path = ready.folder / "own" / dialect / "10001_more.sql"
        path.write_text(
            "-- +migrate Up\nCREATE TABLE more (n INTEGER);\n-- +migrate Down\nDROP TABLE more;\n"
        )
    config = ready.write("holdfast.yaml", "storage: {migrations: {dir: own}}\n")
    assert ready.inside("storage", "migrate", "up").returncode == 0
    config.unlink()
    assert checks(ready, code=6)["schema"]["error"]["code"] == "HF2103"


def test_there_is_no_store(holdfast: Shell) -> None:
    found = checks(holdfast, code=3)
    assert list(found) == ["connect"]
    assert found["connect"]["error"]["code"] == "HF2003"
    assert holdfast.files() == {}


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/x", "mysql://nobody@127.0.0.1:1/x"])
def test_a_server_that_is_not_there(holdfast: Shell, url: str) -> None:
    found = checks(holdfast, "-s", url, code=5)
    assert list(found) == ["connect"]
    assert found["connect"]["error"]["code"] == "HF2001"


def test_a_server_that_never_answers(holdfast: Shell) -> None:
    """It takes the connection and says nothing: the limit of a check ends that."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"postgresql://nobody@127.0.0.1:{deaf.getsockname()[1]}/x"
        found = checks(holdfast, "-s", url, "--timeout", "300ms", code=5)
    assert "0.3 s" in found["connect"]["detail"]
    assert 250 < found["connect"]["latency_ms"] < 5_000


def test_what_can_not_be_written_to(holdfast: Shell) -> None:
    """A copy whose pages are all taken: writing fails, reading does not."""
    assert holdfast.inside("storage", "init").returncode == 0
    import apsw

    path = holdfast.folder / ".holdfast" / "holdfast.db"
    beside = apsw.Connection(str(path))
    beside.execute("BEGIN IMMEDIATE")
    try:
        holdfast.write("holdfast.yaml", "storage: {sqlite: {busy_timeout: 10ms}}\n")
        found = checks(holdfast, code=5)
    finally:
        beside.execute("ROLLBACK")
        beside.close()
    assert (found["read"]["state"], found["write"]["state"]) == ("ok", "failed")


@pytest.mark.anyio
async def test_a_clock_that_is_wrong_is_a_warning(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from holdfast.store.drivers.sqlite import SqliteDriver
    from holdfast.store.store import Store

    def late() -> int:
        return round((datetime.now(UTC).timestamp() - 60) * 1_000_000)

    store = Store(SqliteDriver(tmp_path / "x.db", create=True, clock=late))
    await store.open(migrate=True)
    await store.close()
    found = {check.name: check for check in await health.examine(store)}
    assert found["clock"].state is health.State.WARNING
    assert found["clock"].exit_code == 0
    assert -61_000 < float(found["clock"].detail.split()[0]) < -59_000


def test_stats_tell_what_this_process_did(ready: Shell) -> None:
    told = json.loads(ready.inside("storage", "stats", "--json").stdout)["process"]
    names = {each["name"] for each in told["statements"]}
    assert {"executions.counts", "store.sizes"} <= names
    for each in told["statements"]:
        assert sum(each["histogram"]) == each["count"]
        assert len(each["histogram"]) == len(told["bounds_s"]) + 1
    assert told["pool"]["size"] >= 1
    assert told["pool"]["waiting"] == told["slow"] == 0

"""`doctor` on real stores: each thing it looks for is brought about, found, and gone again afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.fleet.diagnosis import Finding, Level, Limits, diagnose
from holdfast.store.store import Store
from tests.conformance.fleets import Ghost, hired
from tests.conformance.hands import begin, beside, hand, is_postgresql, rows, until
from tests.databases import empty_store

pytestmark = pytest.mark.anyio
NOW = Limits(snapshot=timedelta(0), takeover=timedelta(0))


def of(findings: list[Finding], check: str) -> list[Finding]:
    found = [each for each in findings if each.check == check]
    assert found, f"{check} said nothing at all"
    return found


async def look(store: Store, check: str, limits: Limits | None = None) -> list[Finding]:
    """What `check` found; without the good news."""
    return [each for each in of(await diagnose(store, limits), check) if each.level is not Level.OK]


def report(url: str, version: str) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.workflow(name="report", version=version)
    async def work() -> str:
        return version

    return app, work


async def content(store: Store) -> list[Any]:
    """Everything that a check might have changed."""
    return [
        sorted(map(tuple, await rows(store, f"SELECT * FROM {{{table}}}")), key=repr)
        for table in ("executions", "events", "inbox", "definitions")
    ]


async def test_a_new_store_is_well(shared_url: str) -> None:
    async with hand(shared_url) as store:
        findings = await diagnose(store)
        assert {each.level for each in findings} == {Level.OK}
        expected = {"schema", "versions", "queues", "owners", "database"}
        if is_postgresql(store):
            expected |= {"snapshots", "partitions"}
        assert {each.check for each in findings} == expected


async def test_it_names_the_versions_that_nobody_offers(shared_url: str) -> None:
    app_1, old = report(shared_url, "1")
    app_2, _ = report(shared_url, "2")
    async with app_1:
        store = app_1.store
        await old.options(id="a", queue="docs").enqueue()
        async with hired(shared_url, app_2, queues=["docs"]):

            async def parked() -> bool:
                return (await store.get_execution("a")).status == "waiting"

            await until(parked, "the worker did not put it aside")
            # What comes now is passed over by the worker, and waits just the same.
            await old.options(id="b", queue="docs").enqueue()
            before = await content(store)
            (found,) = await look(store, "versions")
            assert found.level is Level.PROBLEM
            assert found.message == (
                "no live worker offers version 1 of report; held up: 2 executions in queue docs"
            )
            assert "holdfast worker APP --queues docs" in found.fix
            assert (found.details["workflow"], found.details["version"], found.details["count"]) == (
                "report", "1", 2,
            )  # fmt: skip
            assert await content(store) == before
        async with hired(shared_url, app_1, queues=["docs"]):

            async def done() -> bool:
                return all([(await store.get_execution(id)).status == "completed" for id in ("a", "b")])

            await until(done, "the worker that offers them did not run them")
            assert await look(store, "versions") == []


async def test_it_names_queues_that_nobody_serves(shared_url: str) -> None:
    app, work = report(shared_url, "1")
    async with app:
        store = app.store
        await work.options(queue="docs", class_="gpu").enqueue()
        (found,) = await look(store, "queues")
        assert found.level is Level.PROBLEM
        assert found.details == {"queue": "docs", "class": "gpu", "count": 1}
        assert found.fix == "holdfast worker --queues docs --classes gpu"
        async with hired(shared_url, app, queues=["docs"], classes=["io"]):
            assert len(await look(store, "queues")) == 1  # of another class
        async with hired(shared_url, app, queues=["docs"], classes=["gpu"]):

            async def served() -> bool:
                return await look(store, "queues") == []

            await until(served, "it did not see the worker")


async def interrupt_a_run(url: str, folder: Path) -> None:
    """Leave a run behind as Ctrl-C does."""
    path = folder / "nap.yaml"
    path.write_text("name: nap\nsteps:\n  - id: nap\n    sleep: 1h\n")
    async with hf.Orchestrator(url) as orchestrator:
        run = asyncio.ensure_future(orchestrator.run(path, id="x"))

        async def sleeps() -> bool:
            found = await rows(orchestrator.store, "SELECT 1 FROM {events} WHERE type = 'timer.started'")
            return bool(found)

        await until(sleeps, "the run never began")
        run.cancel()
        await asyncio.wait([run])


async def test_it_tells_of_runs_that_were_interrupted(shared_url: str, tmp_path: Path) -> None:
    await interrupt_a_run(shared_url, tmp_path)
    async with hand(shared_url) as store:
        (found,) = await look(store, "queues")
        assert found.level is Level.WARNING
        assert found.fix == "holdfast resume --all"


async def test_it_names_dead_owners_whose_executions_nobody_took(shared_url: str) -> None:
    app, work = report(shared_url, "1")
    async with app, hand(shared_url) as other:
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await work.options(id="x").enqueue()
        assert len(await ghost.claim()) == 1
        assert await look(other, "owners") == []
        await ghost.vanish()
        (found,) = await look(other, "owners")
        assert found.level is Level.PROBLEM
        assert found.message.startswith("worker on ")
        assert found.message.endswith("not taken over: 1 execution")
        async with hired(shared_url, app):

            async def taken() -> bool:
                ended = (await other.get_execution("x")).status == "completed"
                return ended and await look(other, "owners", NOW) == []

            await until(taken, "the worker did not take it over")
        await begin(other, "y")  # its owner is registered nowhere
        (found,) = await look(other, "owners")
        assert "a process nobody knows" in found.message


async def test_it_alarms_at_old_snapshots(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store:
        assert await look(store, "snapshots", NOW) == []
        connection = await beside(store)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT 1")
        (found,) = await look(store, "snapshots", NOW)
        assert found.level is Level.PROBLEM
        assert "idle in transaction" in found.message
        assert await look(store, "snapshots") == []  # not yet for long
        await transaction.rollback()
        await connection.close()
        assert await look(store, "snapshots", NOW) == []


async def test_it_tells_of_acknowledgements_that_are_not_on_disk(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store:
        connection = await beside(store)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        await connection.close()
    async with hand(fresh_postgres) as store:
        (found,) = await look(store, "database")
        assert found.level is Level.WARNING
        assert "synchronous_commit is off" in found.message


async def test_it_looks_at_partitions(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as store:
        connection = await beside(store)
        next_month = await connection.fetchval(
            "SELECT to_char(now() AT TIME ZONE 'UTC' + '1 month', 'YYYY_MM')"
        )
        await connection.execute(f"DROP TABLE holdfast.payloads_{next_month}")
        await begin(store, "x", key=bytes(15) + b"\x01")  # older than any month there is
        found = {each.details["table"]: each.message for each in await look(store, "partitions")}
        assert found.keys() == {"payloads", "events"}
        assert "no partition for next month" in found["payloads"]
        assert "default partition" in found["events"]
        await connection.close()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that nobody has made yet."""
    return empty_store(request, tmp_path)


async def test_it_tells_of_migrations_first(bare_url: str, tmp_path: Path) -> None:
    done = doctor(bare_url, tmp_path)
    if bare_url.startswith("sqlite"):
        assert done.returncode == 3  # no store there, and none is made by looking
        assert not Path(bare_url.removeprefix("sqlite:///")).exists()
        return
    assert done.returncode == 1
    assert [row["check"] for row in json.loads(done.stdout)["items"]] == ["schema"]
    async with hand(bare_url) as store:
        await rows(store, "SELECT 1 FROM {executions}")
        prefix = f"{store.driver.schema}." if store.driver.schema else ""
        await store.driver.fetch_text(f"UPDATE {prefix}schema_migrations SET version = 900 WHERE version = 2")
        found = await look(store, "schema")
        assert {each.details["versions"][0] for each in found} == {2, 900}


def doctor(url: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", "doctor", "--storage", url, "--json", *flags],
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip


async def test_the_command_tells_and_its_exit_code_too(shared_url: str, tmp_path: Path) -> None:
    app, work = report(shared_url, "1")
    async with app:
        assert doctor(shared_url, tmp_path).returncode == 0
        await work.enqueue()
        done = doctor(shared_url, tmp_path)
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["healthy"] is False
        (problem,) = [row for row in told["items"] if row["level"] == "problem"]
        assert problem["check"] == "queues"


async def test_warnings_count_in_production(shared_url: str, tmp_path: Path) -> None:
    await interrupt_a_run(shared_url, tmp_path)
    assert doctor(shared_url, tmp_path).returncode == 0
    assert doctor(shared_url, tmp_path, "--production").returncode == 1

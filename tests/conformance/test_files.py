"""The file backend: documents that say what the rows say, through kills, edits by hand and a lost index."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.errors import DamagedData, StoreInUse
from holdfast.records.catalogue import all_tables
from holdfast.store.files.edits import documents, read_document
from holdfast.store.files.rendering import DIALECT
from holdfast.store.store import Store
from holdfast.store.table_rows import table_rows
from holdfast.stores import build_store
from holdfast.upkeep.copying import Copy
from holdfast.upkeep.selection import Selection
from tests.conformance.test_copy import fill
from tests.conformance.test_store import configured, opened, put

pytestmark = pytest.mark.anyio


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "documents"


@pytest.fixture
def url(base: Path) -> str:
    return f"file:///{base}"


@asynccontextmanager
async def followed(url: str, **settings: Any) -> AsyncIterator[Store]:
    async with opened(url, **settings) as store:
        yield store


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it happens on disk
            await asyncio.sleep(0.02)


def rows_in(base: Path) -> dict[str, set[Any]]:
    """The rows that the documents hold, by table."""
    found: dict[str, set[Any]] = {}
    for path in documents(base):
        _, rows, _ = read_document(base, path)
        for table, listed in rows.items():
            found.setdefault(table, set()).update(map(repr, listed))
    return {table: rows for table, rows in found.items() if rows}


async def rows_stored(url: str) -> dict[str, set[Any]]:
    """The rows that the index holds, by table."""
    store = build_store(configured(url))
    await store.driver.open()
    try:
        found = {}
        for table in all_tables():
            if table.name not in ("workers", "copies"):
                rows = table_rows(table, DIALECT)
                text, values = rows.page(None, 100_000)
                listed = await store.driver.fetch_text(text, *values)
                if listed:
                    found[table.name] = {repr(rows.plain(row)) for row in listed}
        return found
    finally:
        await store.driver.close()


async def test_documents_say_what_the_rows_say(url: str, base: Path) -> None:
    await fill(url, executions=7)
    stored = await rows_stored(url)
    assert rows_in(base) == stored
    assert {"executions", "events", "definitions", "signals"} <= set(stored)
    text = (base / "executions" / "default" / "done-1.yaml").read_text()
    document = yaml.safe_load(text)
    assert (document["holdfast"], document["id"], document["status"]) == (
        "executions 1",
        "done-1",
        "completed",
    )
    assert document["with"]["events"][0]["type"] == "execution.started"
    assert "done 1" in text
    for path in base.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("settings", "ending"),
    [
        ({"storage__file__format": "json"}, ".json"),
        ({"storage__file__compress": "true"}, ".yaml.gz"),
        ({"storage__file__format": "json", "storage__file__compress": "true"}, ".json.gz"),
    ],
)
async def test_the_form_is_a_setting_and_may_change(
    url: str, base: Path, settings: dict[str, str], ending: str
) -> None:
    async with followed(url) as store:
        await put(store, "plain")
    async with followed(url, **settings) as store:
        await put(store, "other", status="completed")
        name = "executions"
        await store.driver.fetch_text(f"UPDATE {name} SET priority = 1 WHERE id = 'plain'")
    names = {path.name for path in documents(base)}
    assert {f"other{ending}", f"plain{ending}"} <= names
    assert "plain.yaml" not in names or ending == ".yaml"
    assert rows_in(base) == await rows_stored(url)


async def test_documents_follow_within_a_second(url: str, base: Path) -> None:
    async with followed(url) as store:
        await put(store, "x")
        path = base / "executions" / "default" / "x.yaml"
        await until(path.exists)
        await store.driver.fetch_text("DELETE FROM executions WHERE id = 'x'")
        await until(lambda: not path.exists())


async def test_one_process_has_the_folder(url: str, base: Path) -> None:
    async with followed(url):
        other = build_store(configured(url), create=True)
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            await other.open(migrate=True)
        code = (
            "import asyncio, sys; from holdfast.stores import build_store, config_for\n"
            "asyncio.run(build_store(config_for(sys.argv[1]), create=True).open(migrate=True))"
        )
        ended = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True)
        assert "StoreInUse" in ended.stderr
    async with followed(url):
        pass


async def test_reading_changes_nothing(url: str, base: Path) -> None:
    async with followed(url) as store:
        await put(store, "x", status="completed")
    path = base / "executions" / "default" / "x.yaml"
    path.write_text(path.read_text().replace("priority: 0", "priority: 5"))
    before = {each: each.read_bytes() for each in base.rglob("*.yaml")}
    store = build_store(configured(url))
    await store.open()
    assert (await store.get_execution("x")).priority == 0
    await store.close()
    assert {each: each.read_bytes() for each in base.rglob("*.yaml")} == before


# Killed.

WRITES = """
import asyncio, sys
from holdfast.stores import build_store, config_for
from tests.conformance.test_store import put

async def main():
    store = build_store(config_for(sys.argv[1]), create=True)
    await store.open(migrate=True)
    print("open", flush=True)
    number = 0
    while True:
        id = f"{sys.argv[2]}-{number}"
        await put(store, id, status="completed" if number % 2 else "running")
        print(id, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_killed_at_any_moment_the_documents_catch_up(url: str, base: Path) -> None:
    chance, acknowledged = random.Random(7), set[str]()
    for life in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES, url, f"life{life}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        await asyncio.sleep(chance.uniform(0.02, 0.5))  # how far it comes is the experiment
        process.send_signal(signal.SIGKILL)
        acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))
        process.stdout.close()
        process.wait()
    async with followed(url) as store:
        assert store.driver.problems == []  # type: ignore[attr-defined]
    stored = await rows_stored(url)
    assert rows_in(base) == stored
    assert len(acknowledged) > 20
    told = " ".join(stored["executions"])
    assert all(f"'{id}'" in told for id in acknowledged)
    assert not list(base.rglob(".tmp-*"))


class Died(BaseException):
    """The end of a process, as far as one task is concerned."""


@pytest.mark.parametrize("step", ["intend", "write", "rename", "settle"])
async def test_a_death_between_two_steps_is_made_good(
    url: str, base: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.store.files import mirror, place

    async with followed(url) as store:
        await put(store, "x")
    died: list[str] = []

    def die(*_: Any, **__: Any) -> Any:
        died.append(step)
        raise Died

    with monkeypatch.context() as patch:
        store = build_store(configured(url), create=True)
        await store.open(migrate=True)
        store.driver._mirror._task.cancel()  # type: ignore[attr-defined]  # this test takes its steps
        if step == "intend":
            patch.setattr(mirror.Mirror, "_write", die)
        elif step == "write":
            patch.setattr(place, "_write", die)
        elif step == "rename":
            patch.setattr(place, "sync_folder", die)
        else:
            patch.setattr(mirror.Mirror, "_settle", die)
        await store.driver.fetch_text("UPDATE executions SET priority = 9 WHERE id = 'x'")
        with pytest.raises(Died):
            await store.driver._mirror.drain()  # type: ignore[attr-defined]
        store.driver._mirror = None  # type: ignore[attr-defined]
        store.driver.inner._mirror = None  # type: ignore[attr-defined]
        await store.close()
    assert died
    async with followed(url) as store:
        assert store.driver.problems == []  # type: ignore[attr-defined]
    assert rows_in(base) == await rows_stored(url)
    assert "priority: 9" in (base / "executions" / "default" / "x.yaml").read_text()


async def test_a_full_disk_keeps_the_notes_and_is_retried(
    url: str, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.fsync
    full = True

    def fsync(descriptor: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(descriptor)

    async with followed(url) as store:
        monkeypatch.setattr(os, "fsync", fsync)
        await put(store, "x")
        await until(lambda: "No space left" in caplog.text)
        full = False
        path = base / "executions" / "default" / "x.yaml"
        await until(path.exists)
    assert rows_in(base) == await rows_stored(url)
    assert not list(base.rglob(".tmp-*"))


# Edited by hand.


async def a_record(url: str) -> Path:
    """A store with one record; the path of its document."""
    from holdfast.records.schedules import Schedule

    async with followed(url) as store:
        made = await store.repo(Schedule).create(schedule())
    return Path(url.removeprefix("file:///")) / "schedules" / "default" / f"{made.id}.yaml"


def schedule(**fields: Any) -> Any:
    from holdfast.records.schedules import Schedule

    return Schedule(**{"id": "nightly", "workflow": "report", "cron": "0 4 * * *", **fields})


async def test_an_edit_is_taken_in_and_raises_the_revision(url: str) -> None:
    from holdfast.records.schedules import Schedule

    path = await a_record(url)
    path.write_text(path.read_text().replace("0 4 * * *", "0 5 * * *"))
    async with followed(url) as store:
        found = await store.repo(Schedule).get("nightly")
        assert (found.cron, found.revision) == ("0 5 * * *", 2)
    assert "revision: 2" in path.read_text()
    async with followed(url) as store:
        assert (await store.repo(Schedule).get("nightly")).revision == 2
        assert store.driver.problems == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        ("revision: 1", "revision: 3", "made of revision 3, and revision 1 is stored"),
        ("id: nightly", "id: daily", "belongs into"),
        ("workflow: report", "workflow: [1", "is not YAML"),
        ("workflow: report", "workflow: 7", "does not hold text"),
        ("workflow: report", "workflow: report\ncolour: red", "no column 'colour'"),
        ("holdfast: schedules 1", "holdfast: nothing 1", "no known kind"),
        ("holdfast: schedules 1", "holdfast: schedules 9", "not a document of this version"),
    ],
)
async def test_an_edit_that_can_not_be_taken_in_is_told_and_kept(
    url: str, before: str, after: str, cause: str
) -> None:
    from holdfast.records.schedules import Schedule

    path = await a_record(url)
    edited = path.read_text().replace(before, after)
    assert edited != path.read_text()
    path.write_text(edited)
    async with followed(url) as store:
        (problem,) = store.driver.problems  # type: ignore[attr-defined]
        assert cause in problem.cause
        assert problem.path == "schedules/default/nightly.yaml"
        assert path.read_text() == edited
        found = await store.repo(Schedule).get("nightly")
        assert (found.cron, found.revision) == ("0 4 * * *", 1)
        await store.repo(Schedule).update(replace(found, cron="0 6 * * *"))
    assert "0 6 * * *" in path.read_text()
    assert path.with_name("nightly.yaml.edited-1").read_text() == edited


async def test_a_document_made_by_hand_makes_a_record(url: str) -> None:
    from holdfast.records.schedules import Schedule

    path = await a_record(url)
    text = path.read_text().replace("id: nightly", "id: hourly")
    path.with_name("hourly.yaml").write_text(text)
    async with followed(url) as store:
        assert (await store.repo(Schedule).get("hourly")).workflow == "report"


async def test_history_is_not_edited(url: str, base: Path) -> None:
    async with followed(url) as store:
        await put(store, "x", status="completed")
    path = base / "executions" / "default" / "x.yaml"
    path.write_text(path.read_text().replace("status: completed", "status: failed"))
    async with followed(url) as store:
        (problem,) = store.driver.problems  # type: ignore[attr-defined]
        assert "not changed by hand" in problem.cause
        assert str((await store.get_execution("x")).status) == "completed"


async def test_a_document_that_was_removed_is_written_again(url: str, base: Path) -> None:
    path = await a_record(url)
    path.unlink()
    async with followed(url):
        pass
    assert path.exists()
    assert rows_in(base) == await rows_stored(url)


# A lost index.


async def test_a_lost_index_is_made_from_the_documents(url: str, base: Path) -> None:
    await fill(url, executions=7)
    stored = await rows_stored(url)
    for path in base.glob(".index.db*"):
        path.unlink()
    async with followed(url) as store:
        assert (await store.get_execution("done-1")).status == "completed"
    again = await rows_stored(url)
    assert again == stored
    assert rows_in(base) == stored


async def test_a_damaged_document_stops_it_and_names_itself(url: str, base: Path) -> None:
    await fill(url, executions=3)
    for path in base.glob(".index.db*"):
        path.unlink()
    damaged = base / "executions" / "default" / "done-1.yaml"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(DamagedData, match=r"done-1\.yaml"):
            async with followed(url):
                pass
    damaged.write_bytes(whole)
    async with followed(url) as store:
        assert (await store.get_execution("done-1")).status == "completed"


async def test_files_are_one_of_the_kinds_to_copy_between(url: str, tmp_path: Path) -> None:
    source, back = f"sqlite:///{tmp_path / 'a.db'}", f"sqlite:///{tmp_path / 'b.db'}"
    await fill(source, executions=6)
    async with opened(source) as one, followed(url) as two:
        first = await Copy(one, two, Selection()).run()
    async with followed(url) as two, opened(back) as three:
        assert (await Copy(two, three, Selection()).run()).tables == first.tables

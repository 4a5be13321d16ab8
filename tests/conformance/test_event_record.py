"""A store in memory whose event log is its record: all of it comes back, or the loss is told."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.config.schema import EventLog
from holdfast.errors import (
    DamagedData,
    HoldfastError,
    NoStore,
    RecordExists,
    RetryLater,
    StoreInUse,
    StoreUnavailable,
    UnsupportedStorage,
)
from holdfast.events.files import record
from holdfast.events.files.checking import compare
from holdfast.events.files.copying import CopiedFiles
from holdfast.events.files.layout import CURRENT, STORE, LogOptions
from holdfast.events.files.record import STATE, RecordedFiles
from holdfast.events.files.writing import AppendFile
from holdfast.fleet.signals import send
from holdfast.orchestrator import Orchestrator
from holdfast.records.catalogue import all_tables
from holdfast.records.conversations import Conversation, Message
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store
from holdfast.store.table_rows import Digest, pages, table_rows
from holdfast.stores import config_for, open_store, with_log
from tests.conformance.everything import write_everything

pytestmark = pytest.mark.anyio

WORKFLOW = """\
name: little
steps:
  - {id: one, shell: "printf 1"}
  - {id: two, needs: [one], shell: "printf 2"}
"""
WAITING = """\
name: waiting
steps:
  - {id: one, shell: "printf 1"}
  - {id: answer, needs: [one], wait: {signal: go}}
"""


@asynccontextmanager
async def opened(base: Path, *, create: bool = True, **options: Any) -> AsyncIterator[Store]:
    log = hf.FileSystemEventLog(base, **options)
    async with open_store(with_log(config_for("memory://"), log), migrate=create) as store:
        yield store


async def digests(store: Store) -> dict[str, tuple[int, str]]:
    """Every table, by the rows that are in it. Those of processes are made anew when a store is opened."""
    found = {}
    for table in all_tables():
        digest = Digest()
        async for rows in pages(store.driver, table_rows(table, dialect_of(store.driver))):
            digest.add(rows)
        found[table.name] = (digest.rows, digest.hex)
    found.pop("workers")
    return found


async def results(store: Store) -> dict[str, int]:
    """How many events each execution has."""
    rows = await store.driver.fetch_text(
        "SELECT x.id, count(*) FROM executions x JOIN events e ON e.execution = x.key GROUP BY x.id"
    )
    return {str(id): int(count) for id, count in rows}


def write_workflow(tmp_path: Path, text: str = WORKFLOW) -> Path:
    path = tmp_path / "workflow.yaml"
    path.write_text(text)
    return path


async def run_once(base: Path, path: Path, id: str) -> None:
    async with opened(base) as store, Orchestrator(store) as orchestrator:
        assert (await orchestrator.run(path, id=id)).status == "completed"


async def test_everything_of_every_kind_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All records there are, their words to search by, waiting signals, queues, streams, large values."""
    base = tmp_path / "log"
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_TYPE", "filesystem")
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_DIR", str(base))
    await write_everything("memory://")
    async with opened(base) as store:
        before = await digests(store)
        found = (await store.repo(Message).find("fire")).items
        compared = await compare(store, base)
    assert found and sum(rows > 0 for rows, _ in before.values()) > 25, before
    assert compared.findings == [] and compared.events == before["events"][0]
    async with opened(base) as store:
        assert await digests(store) == before
        assert (await store.repo(Message).find("fire")).items == found


async def test_what_was_searched_is_found_again(tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(base) as store:
        await store.repo(Conversation).create(Conversation(id="c", title="walrus harbour"))
    async with opened(base) as store:
        found = await store.repo(Conversation).find("walrus")
        assert [each.id for each in found.items] == ["c"]


async def test_a_waiting_execution_goes_on_with_the_signal_that_came_meanwhile(tmp_path: Path) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path, WAITING)
    config = with_log(config_for("memory://"), hf.FileSystemEventLog(base))
    async with Orchestrator(config, wait=timedelta(0)) as orchestrator:
        outcome = await orchestrator.run(path, id="x")
        assert outcome.status == "waiting"
    async with opened(base, create=False) as store:
        await send(store, "go", {"ok": True})
    async with Orchestrator(config) as orchestrator:
        outcome = await orchestrator.run(path, id="x")
        assert outcome.status == "completed" and outcome.saved >= 1


async def test_what_a_transaction_takes_back_is_not_recorded(tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(base) as store:
        repo = store.repo(Conversation)
        with suppress(RuntimeError):
            async with store.transaction() as transaction:
                await store.repo(Conversation, within=transaction).create(Conversation(id="rolled"))
                raise RuntimeError
        async with store.transaction() as transaction:
            within = store.repo(Conversation, within=transaction)
            await within.create(Conversation(id="kept"))
            with suppress(RuntimeError):
                async with transaction.savepoint():
                    await within.create(Conversation(id="inner"))
                    raise RuntimeError
        with pytest.raises(RecordExists):
            await repo.create(Conversation(id="kept"))
        before = await digests(store)
    async with opened(base) as store:
        assert await digests(store) == before
        assert [each.id for each in (await store.repo(Conversation).find("")).items] == ["kept"]


async def test_one_process_has_the_record(tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(base):
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            async with opened(base):
                pass
    async with opened(base):
        pass


async def test_reading_makes_and_changes_nothing(tmp_path: Path) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    with pytest.raises(NoStore):
        async with opened(base, create=False):
            pass
    assert not base.exists()
    await run_once(base, path, "x")
    state = base / STORE / STATE
    state.write_bytes(state.read_bytes() + b'{"n":')  # torn: it is for who writes to cut it
    before = {each: each.read_bytes() for each in base.rglob("*") if each.is_file() and each.name != ".lock"}
    async with opened(base, create=False) as store:
        assert await store.count_executions() == 1
    assert {
        each: each.read_bytes() for each in base.rglob("*") if each.is_file() and each.name != ".lock"
    } == before
    await run_once(base, path, "y")
    assert [each.read_bytes() for each in state.parent.glob("*.torn-*")] == [b'{"n":']


async def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with Orchestrator(url, events=hf.FileSystemEventLog(base)) as orchestrator:
        await orchestrator.run(path)
    with pytest.raises(UnsupportedStorage, match="another store"):
        async with opened(base):
            pass
    record = tmp_path / "record"
    await run_once(record, path, "x")
    with pytest.raises(UnsupportedStorage, match="record of a store in memory"):
        CopiedFiles(record, LogOptions()).take()


def test_a_record_is_always_synced(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedStorage, match="has to be on disk"):
        RecordedFiles(tmp_path, LogOptions(fsync="interval"))


# What crashes and disks do to it.


async def test_a_record_cut_anywhere_is_the_state_before(tmp_path: Path) -> None:
    """Each of the last transactions is there whole or not at all, and the run goes on from there."""
    base, path, copy = tmp_path / "log", write_workflow(tmp_path), tmp_path / "copy"
    await run_once(base, path, "x")
    whole = (base / STORE / STATE).read_bytes()
    lines = whole.splitlines(keepends=True)
    begin = len(whole) - sum(map(len, lines[-5:]))
    for line in lines[-5:]:
        before: dict[str, tuple[int, str]] | None = None
        for length in range(begin, begin + len(line), 23):  # every byte: tests/unit/test_event_lines.py
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(base, copy)
            (copy / STORE / STATE).write_bytes(whole[:length])
            async with opened(copy, create=False) as store:
                found = await digests(store)
            assert before in (None, found), length
            before = found
        await run_once(copy, path, "x")
        async with opened(copy) as store:
            assert await store.driver.fetch("events.gaps", store.tenant) == []
            assert (await compare(store, copy)).findings == []
        begin += len(line)


async def test_events_that_no_transaction_names_are_cut_and_kept(tmp_path: Path) -> None:
    """As after a crash between the events of a transaction and its own line."""
    base, path = tmp_path / "log", write_workflow(tmp_path)
    await run_once(base, path, "x")
    state, log = base / STORE / STATE, base / "x" / CURRENT
    lines = state.read_bytes().splitlines(keepends=True)
    named = [number for number, line in enumerate(lines) if "events" in json.loads(line)]
    state.write_bytes(b"".join(lines[: named[-1]]))
    last = log.read_bytes().splitlines(keepends=True)[-1]
    async with opened(base) as store:
        assert (await store.get_execution("x")).status == "running"
        async with Orchestrator(store) as orchestrator:
            outcome = await orchestrator.run(path, id="x")
            assert (outcome.status, outcome.run) == ("completed", 0)
    assert [each.read_bytes() for each in log.parent.glob("*.torn-*")] == [last]
    async with opened(base) as store:
        assert (await compare(store, base)).findings == []


@pytest.mark.parametrize("name", [STATE, CURRENT])
async def test_no_flipped_bit_passes_for_the_record(tmp_path: Path, name: str) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    await run_once(base, path, "x")
    (file,) = base.rglob(name)
    whole = file.read_bytes()
    for place in [*range(0, len(whole), 97), *range(len(whole) - 30, len(whole))]:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        with pytest.raises(DamagedData) as caught:
            async with opened(base):
                pass
        begin = max(at for at in range(place + 1) if at == 0 or whole[at - 1 : at] == b"\n")
        assert caught.value.details["offset"] == begin, place


@pytest.mark.parametrize("damage", ["lost", "cut", "zeros"])
async def test_events_that_are_missing_are_told(tmp_path: Path, damage: str) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    await run_once(base, path, "x")
    file = base / "x" / CURRENT
    data = file.read_bytes()
    if damage == "lost":
        shutil.rmtree(base / "x")
    elif damage == "cut":
        file.write_bytes(data[:-1])
    else:
        file.write_bytes(data[:1024] + bytes(len(data) - 1024))
    with pytest.raises(DamagedData, match="is in no file"):
        async with opened(base):
            pass


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    base, path = tmp_path / "small", write_workflow(tmp_path)
    base.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("this user may not mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(base)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        kept = []
        async with opened(base) as store:
            repo = store.repo(Conversation)
            with pytest.raises(RetryLater, match="No space"):
                for number in range(1_000):
                    await repo.create(Conversation(id=f"c{number}", title="x" * 500))
                    kept.append(f"c{number}")
            assert {each.id for each in (await repo.find("", limit=1000)).items} == set(kept)
            subprocess.run(["mount", "-o", "remount,size=4m", str(base)], check=True)
            await repo.create(Conversation(id="after"))
            async with Orchestrator(store) as orchestrator:
                await orchestrator.run(path, id="x")
            before = await digests(store)
        assert len(kept) > 10
        async with opened(base) as store:
            assert await digests(store) == before
    finally:
        subprocess.run(["umount", "-l", str(base)], check=True)


@pytest.mark.parametrize("method", ["write", "sync"])
async def test_a_write_that_fails_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Each write and each sync of a run fails once: what was refused is not there, and the run goes on."""
    path = write_workflow(tmp_path)
    original: Callable[..., None] = getattr(AppendFile, method)
    calls = 0
    fails_at = 0

    def failing(self: AppendFile, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(5, "Input/output error")
        original(self, *args)

    monkeypatch.setattr(AppendFile, method, failing)
    await run_once(tmp_path / "count", path, "x")
    total = calls
    assert total > 5
    for fails_at in range(1, total + 1):
        calls = 0
        base = tmp_path / f"fails-{fails_at}"
        with suppress(HoldfastError):
            await run_once(base, path, "x")
        calls = total + 1
        await run_once(base, path, "x")
        async with opened(base) as store:
            assert (await store.get_execution("x")).status == "completed"
            assert await store.driver.fetch("events.gaps", store.tenant) == []
            assert (await compare(store, base)).findings == []


async def test_a_disk_that_can_not_even_take_back_stops_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "log"

    def fail(self: AppendFile, *args: Any, **more: Any) -> None:
        raise OSError(5, "Input/output error")

    async with opened(base) as store:
        repo = store.repo(Conversation)
        await repo.create(Conversation(id="kept"))
        with monkeypatch.context() as broken:
            broken.setattr(AppendFile, "sync", fail)
            broken.setattr(AppendFile, "force", fail)
            with pytest.raises(HoldfastError, match="HF2006"):
                await repo.create(Conversation(id="unknown"))
        with pytest.raises(StoreUnavailable):
            await repo.create(Conversation(id="after"))
    async with opened(base) as store:
        found = {each.id for each in (await store.repo(Conversation).find("")).items}
        assert found in ({"kept"}, {"kept", "unknown"})


async def test_many_at_once_are_all_there(tmp_path: Path) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    async with opened(base, rotate=4096) as store, Orchestrator(store) as orchestrator:
        await asyncio.gather(*[orchestrator.run(path, id=f"x{n}") for n in range(30)])
        before = await results(store)
    async with opened(base) as store:
        assert await results(store) == before and len(before) == 30
        assert (await compare(store, base)).findings == []


async def test_an_execution_goes_on_behind_its_full_files(tmp_path: Path) -> None:
    base = tmp_path / "log"
    steps = "".join(f"  - {{id: s{n}, shell: 'printf {'x' * 900}'}}\n" for n in range(12))
    path = write_workflow(tmp_path, f"name: many\nsteps:\n{steps}")
    async with opened(base, rotate=4096) as store, Orchestrator(store) as orchestrator:
        await orchestrator.run(path, id="x")
    assert list((base / "x").glob("events.000001.log.gz"))
    async with opened(base, rotate=4096) as store, Orchestrator(store) as orchestrator:
        await orchestrator.fork("x", at="s11", new_id="y")
        outcome = await orchestrator.outcome(await orchestrator.resume("y"))
        assert outcome.saved == 11
    async with opened(base) as store:
        assert (await compare(store, base)).findings == []


# A record that has become long.


async def busy(store: Store, rounds: int) -> None:
    """Change the same few rows again and again."""
    for number in range(rounds):
        async with store.transaction() as transaction:
            within = store.repo(Conversation, within=transaction)
            await within.upsert(Conversation(id=f"c{number % 3}", title=f"{number} " + "x" * 1000))


async def test_a_long_record_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays short, all of it comes back, and it is written anew again only when it has doubled."""
    base, path = tmp_path / "log", write_workflow(tmp_path)
    monkeypatch.setattr(record, "SHRINK_BYTES_MIN", 20_000)
    written = count_calls(monkeypatch, record, "write_synced")
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_TYPE", "filesystem")
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_DIR", str(base))
    await write_everything("memory://")
    state = base / STORE / STATE
    for turn in range(3):
        async with opened(base) as store:
            await busy(store, 200)
            async with Orchestrator(store) as orchestrator:
                await orchestrator.run(path, id=f"x{turn}")
            before = await digests(store)
            found = (await store.repo(Message).find("fire")).items
        async with opened(base, create=False) as store:
            assert await digests(store) == before
            assert (await store.repo(Message).find("fire")).items == found
            assert (await compare(store, base)).findings == []
            assert await store.driver.fetch("events.gaps", store.tenant) == []
    anew = json.loads(state.read_bytes().splitlines()[0])["anew"]
    assert 0 < anew < state.stat().st_size < 2.5 * max(anew, 20_000)
    assert 3 <= len(written) < 20
    assert not [*state.parent.glob(".tmp-*")]


async def test_an_event_that_was_changed_stays_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, path = tmp_path / "log", write_workflow(tmp_path)
    await run_once(base, path, "x")
    monkeypatch.setattr(record, "SHRINK_BYTES_MIN", 1)
    async with opened(base) as store:
        await store.driver.fetch_text("UPDATE events SET duration_us = 77 WHERE path = 'one'")
        await store.repo(Conversation).create(Conversation(id="c"))
        before = await digests(store)
    async with opened(base, create=False) as store:
        assert await digests(store) == before


async def test_events_that_were_moved_away_leave_the_record_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can not be written anew from what is not there; what was committed is answered all the same."""
    base, path = tmp_path / "log", write_workflow(tmp_path)
    await run_once(base, path, "x")
    monkeypatch.setattr(record, "SHRINK_BYTES_MIN", 1)
    async with opened(base) as store:
        (base / "x").rename(tmp_path / "aside")
        await store.repo(Conversation).create(Conversation(id="c"))
        before = await digests(store)
        (tmp_path / "aside").rename(base / "x")
    async with opened(base, create=False) as store:
        assert await digests(store) == before


@pytest.mark.parametrize("fails", ["write_synced", "sync_folder"])
async def test_a_record_that_can_not_be_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """What was acknowledged stays: with the old file, or refusing more once the new one is in its place."""
    base = tmp_path / "log"

    def fail(*args: Any, **more: Any) -> None:
        raise OSError(5, "Input/output error")

    async with opened(base) as store:
        repo = store.repo(Conversation)
        await repo.create(Conversation(id="first"))
    monkeypatch.setattr(record, "SHRINK_BYTES_MIN", 1)
    async with opened(base) as store:
        repo = store.repo(Conversation)
        with monkeypatch.context() as broken:
            broken.setattr(record, fails, fail)
            await repo.create(Conversation(id="second"))
        if fails == "write_synced":
            await repo.create(Conversation(id="third"))
        else:
            with pytest.raises(StoreUnavailable, match="written anew"):
                await repo.create(Conversation(id="third"))
        before = await digests(store)
    async with opened(base) as store:
        assert await digests(store) == before
        assert (await store.repo(Conversation).get("second")).id == "second"


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    original = getattr(module, name)

    def counted(*args: Any, **more: Any) -> Any:
        calls.append(args)
        return original(*args, **more)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_the_setting_makes_a_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_TYPE", "filesystem")
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_DIR", str(tmp_path / "log"))
    log = config_for("memory://").event_log
    assert isinstance(log, EventLog) and log.type == "filesystem" and log.dir == tmp_path / "log"

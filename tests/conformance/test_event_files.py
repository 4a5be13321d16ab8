"""The log copied into files by a follower, beside every kind of store."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import DamagedData, RetryLater, StoreInUse, UnsupportedStorage
from holdfast.events.files.checking import compare
from holdfast.events.files.copying import CopiedFiles, InMemoryEventLog
from holdfast.events.files.following import LogFollower, Told
from holdfast.events.files.layout import (
    CURRENT,
    POSITION,
    LogLock,
    LogOptions,
    compress,
    folder_name,
    full_files,
)
from holdfast.events.files.lines import read, spell
from holdfast.events.files.reading import lines_below
from holdfast.events.files.rebuilding import Rebuilding
from holdfast.orchestrator import Orchestrator
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for

pytestmark = pytest.mark.anyio

WORKFLOW = """\
name: little
inputs: {properties: {text: {type: string, default: x}}}
steps:
  - {id: one, shell: [printf, "%s", "${{ inputs.text }}"]}
  - {id: each, needs: [one], for_each: [a, b, c], shell: [printf, "%s", "${{ item }}"]}
  - {id: last, needs: [each], shell: "printf done"}
"""
LARGE = "z" * 20_000
PATIENCE_S = 60


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """One store, whatever its kind, that is the same for all that happens in the block."""
    store = build_store(config_for(url), create=True)
    await store.open(migrate=True)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def followed(store: Store, base: Path, **options: Any) -> AsyncIterator[LogFollower]:
    follower = LogFollower(store, CopiedFiles(base, LogOptions(**options)))
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def catch_up(store: Store, base: Path, **options: Any) -> None:
    """Open the log, let it become complete, and close it."""
    async with followed(store, base, **options):
        pass


async def work(store: Store, tmp_path: Path, *texts: str) -> list[str]:
    """Run the workflow once per text; the ids."""
    path = tmp_path / "little.yaml"
    path.write_text(WORKFLOW)
    async with Orchestrator(store) as orchestrator:
        for number, text in enumerate(texts):
            outcome = await orchestrator.run(path, {"text": text}, id=f"{text[:5]}-{number}")
            assert outcome.status == "completed"
    return [f"{text[:5]}-{number}" for number, text in enumerate(texts)]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - a file tells nobody that it has grown
            await asyncio.sleep(0.05)


def contents(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def events_in(folder: Path) -> list[tuple[int, str]]:
    return [(each.event.seq, each.event.type) for each in lines_below(folder)]


async def agrees(store: Store, base: Path) -> int:
    """The files say what the store says; how many events that was."""
    compared = await compare(store, base)
    assert compared.findings == []
    assert compared.executions == await store.count_executions()
    return compared.events


async def test_what_is_committed_is_in_files_a_second_later(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store, followed(store, base):
        (id,) = await work(store, tmp_path, "hello")
        await until(lambda: b"WORKFLOW_COMPLETED" in contents(base / id / CURRENT))
        lines = [json.loads(line) for line in base.joinpath(id, CURRENT).read_text().splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        assert {line["workflowId"] for line in lines} == {id}
        done = [line for line in lines if line["type"] == "TASK_COMPLETED"]
        assert done[0]["data"] == "hello" and done[-1]["taskId"] == "last"


async def test_files_are_complete_after_closing_and_after_reopening(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store:
        async with followed(store, base):
            await work(store, tmp_path, "a", LARGE)
        assert await agrees(store, base) > 10
        await work(store, tmp_path, "b", "c", "Ünïcode/..")
        assert (await compare(store, base)).findings  # nobody follows
        await catch_up(store, base)
        assert await agrees(store, base) > 25
        before = {path: path.read_bytes() for path in base.rglob(CURRENT)}
        await catch_up(store, base)
        (base / POSITION).unlink()  # it is a hint: what is there is known by its number
        await catch_up(store, base)
        assert {path: path.read_bytes() for path in base.rglob(CURRENT)} == before


async def test_files_that_were_moved_away_are_written_anew(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store:
        ids = await work(store, tmp_path, "a", "b")
        await catch_up(store, base)
        whole = base.joinpath(ids[0], CURRENT).read_bytes()
        shutil.rmtree(base / ids[0])
        (base / POSITION).unlink()
        await catch_up(store, base)
        assert base.joinpath(ids[0], CURRENT).read_bytes() == whole
        # Lost while an execution goes on, its first events come from the store again.
        async with Orchestrator(store) as orchestrator:
            await orchestrator.fork(ids[1], at="last", new_id="forked")
            await catch_up(store, base)
            shutil.rmtree(base / "forked")
            await orchestrator.outcome(await orchestrator.resume("forked"))
        await catch_up(store, base)
        await agrees(store, base)


@pytest.mark.parametrize("how", ["none", "gzip", "zstd"])
async def test_full_files_are_set_aside_and_compressed(store_url: str, tmp_path: Path, how: str) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store:
        path = tmp_path / "many.yaml"
        path.write_text(
            "name: many\nsteps:\n"
            + "".join(f"  - {{id: s{n}, shell: 'printf {'x' * 900}'}}\n" for n in range(12))
        )
        async with Orchestrator(store) as orchestrator, followed(store, base, rotate=4096, compress=how):
            await orchestrator.run(path, id="many")
        extension = {"none": ".log", "gzip": ".gz", "zstd": ".zst"}[how]
        full = full_files(base / "many")
        assert full and [number for number, _ in full] == list(range(1, len(full) + 1))
        assert {path.suffix for _, path in full} == {extension}
        await agrees(store, base)
        await catch_up(store, base, rotate=4096, compress=how)
        await agrees(store, base)
        assert not [path for path in (base / "many").iterdir() if path.name.startswith(".")]


async def test_a_kill_while_a_file_is_compressed_leaves_it_whole(tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened("memory://") as store:
        (id,) = await work(store, tmp_path, "a")
        await catch_up(store, base)
        folder = base / id
        whole, events = (folder / CURRENT).read_bytes(), events_in(folder)
        (folder / CURRENT).rename(folder / "events.000001.log")
        (folder / "events.000001.log.gz").write_bytes(gzip.compress(whole)[:50])  # and not yet unlinked
        assert events_in(folder) == events
        await catch_up(store, base)
        (base / POSITION).unlink()
        await catch_up(store, base)
        assert events_in(folder) == events
        compress(folder / "events.000001.log", "gzip")
        assert [path.name for path in folder.glob("events.0*")] == ["events.000001.log.gz"]
        assert events_in(folder) == events


async def test_a_torn_end_is_cut_kept_and_written_again(tmp_path: Path) -> None:
    """Every length of the last two lines, and a block of zeros."""
    base = tmp_path / "log"
    async with opened("memory://") as store:
        (id,) = await work(store, tmp_path, "a")
        await catch_up(store, base)
        path = base / id / CURRENT
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        tails = [whole[:length] for length in range(len(whole) - len(lines[-1]) - len(lines[-2]), len(whole))]
        tails += [
            whole[: -len(lines[-1])] + bytes(len(lines[-1]) + 512),
            whole + bytes(512 - len(whole) % 512),
        ]
        for tail in tails:
            for kept in path.parent.glob("*.torn-*"):
                kept.unlink()
            path.write_bytes(tail)
            (base / POSITION).unlink()
            await catch_up(store, base)
            assert path.read_bytes() == whole
            end = max(at for at in range(len(tail) + 1) if at == 0 or tail[at - 1 : at] == b"\n")
            kept = [each.read_bytes() for each in path.parent.glob("*.torn-*")]
            assert kept == ([tail[end:]] if tail[end:] else []), len(tail)


@pytest.mark.parametrize("line", [0, 2, -1])
async def test_damage_is_told_with_its_offset_and_left_as_it_is(tmp_path: Path, line: int) -> None:
    base = tmp_path / "log"
    async with opened("memory://") as store:
        damaged, other = await work(store, tmp_path, "a", "b")
        await catch_up(store, base)
        path = base / damaged / CURRENT
        data = bytearray(path.read_bytes())
        lines = bytes(data).splitlines(keepends=True)
        offset = sum(map(len, lines[: line % len(lines)]))
        data[offset + 30] ^= 4
        path.write_bytes(data)
        (base / POSITION).unlink()
        shutil.rmtree(base / other)
        with pytest.raises(DamagedData) as caught:
            await catch_up(store, base)
        assert caught.value.details["offset"] == offset and caught.value.where == f"{path}:{offset}"
        assert path.read_bytes() == data
        assert len(events_in(base / other)) > 4  # the others go on
        findings = (await compare(store, base)).findings
        assert {(each.execution, each.kind) for each in findings} == {(damaged, "damaged")}


async def test_files_that_tell_another_history_are_not_written_to(tmp_path: Path) -> None:
    """As after a store was put back to an earlier state and went on in another way."""
    base = tmp_path / "log"
    async with opened("memory://") as store:
        (id,) = await work(store, tmp_path, "a")
        await catch_up(store, base)
        path = base / id / CURRENT
        lines = path.read_bytes().splitlines(keepends=True)
        lines[2] = spell(read(lines[2][:-1]).event._replace(value=codec.encode("another")), None)
        path.write_bytes(b"".join(lines))
        (base / POSITION).unlink()
        with pytest.raises(DamagedData, match=r"event 3 .* is another one"):
            await catch_up(store, base)
        assert path.read_bytes() == b"".join(lines)
        findings = (await compare(store, base)).findings
        assert [(each.seq, each.kind) for each in findings] == [(3, "differs")]


async def test_a_store_that_was_put_back_is_followed_from_the_beginning(tmp_path: Path) -> None:
    """Its events then have lower positions than the one that was noted."""
    base, path = tmp_path / "log", tmp_path / "a.db"
    async with opened(f"sqlite:///{path}"):
        pass
    backup = path.read_bytes()
    async with opened(f"sqlite:///{path}") as store:
        await work(store, tmp_path, "a", "b")
        await catch_up(store, base)
    path.write_bytes(backup)
    async with opened(f"sqlite:///{path}") as store:
        (id,) = await work(store, tmp_path, "c")
        await catch_up(store, base)
        assert events_in(base / id)
        assert (await compare(store, base)).findings == []


async def test_syncing_now_and_then_is_complete_all_the_same(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store:
        async with followed(store, base, fsync="interval"):
            await work(store, tmp_path, "a", "b")
        await agrees(store, base)
        assert (base / POSITION).exists()


async def test_an_id_that_is_used_again_begins_a_log_of_its_own(tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened("memory://") as store:
        (id,) = await work(store, tmp_path, "a")
        await catch_up(store, base)
        first = events_in(base / id)
    async with opened("memory://") as store:
        await work(store, tmp_path, "a")
        await catch_up(store, base)
        assert (await compare(store, base)).findings == []
    folders = sorted(path.name for path in base.iterdir() if path.name.startswith(id))
    assert len(folders) == 2 and folders[1].startswith(f"{id}+")
    assert events_in(base / folders[1]) == first
    async with opened("memory://") as store:  # the one that has the id now
        assert (await Rebuilding(store, base, lambda done: None).run()).executions == 1


async def test_one_process_writes_and_the_next_takes_over(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened(store_url) as store:
        holder = LogLock(base)
        holder.take()
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            LogLock(base).take()
        async with followed(store, base):
            (id,) = await work(store, tmp_path, "a")
            assert not (base / id).exists()
            holder.leave()
            await until(lambda: b"WORKFLOW_COMPLETED" in contents(base / id / CURRENT))
        await agrees(store, base)


async def test_a_reader_beside_the_writer_sees_a_beginning_of_the_log(tmp_path: Path) -> None:
    """While files are appended to, set aside and compressed: never a hole, never an error."""
    base = tmp_path / "log"
    folder, stopping = base / "many", threading.Event()
    seen: list[int] = []
    faults: list[str] = []

    def read() -> None:
        while not stopping.is_set():
            try:
                numbers = [seq for seq, _ in events_in(folder)]
            except DamagedData as error:
                faults.append(str(error))
                return
            if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < (seen[-1] if seen else 0):
                faults.append(f"{numbers}")
            seen.append(len(numbers))

    reader = threading.Thread(target=read)
    async with opened("memory://") as store:
        path = tmp_path / "many.yaml"
        steps = "".join(f"  - {{id: s{n}, shell: 'printf {'x' * 500}'}}\n" for n in range(60))
        path.write_text(f"name: many\nsteps:\n{steps}")
        reader.start()
        try:
            async with Orchestrator(store) as orchestrator, followed(store, base, rotate=4096):
                await orchestrator.outcome(await orchestrator.start(path, id="many"))
        finally:
            stopping.set()
            reader.join()
        assert faults == [] and max(seen) > 0
        await agrees(store, base)


async def test_a_full_disk_delays_the_log_and_loses_nothing(tmp_path: Path) -> None:
    base = tmp_path / "small"
    base.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("this user may not mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(base)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        async with opened("memory://") as store:
            await work(store, tmp_path, "a", LARGE, LARGE)
            with pytest.raises(RetryLater, match="No space"):
                await catch_up(store, base)
            for folder in base.iterdir():
                if folder.is_dir():
                    events_in(folder)  # no half line is left
            subprocess.run(["mount", "-o", "remount,size=4m", str(base)], check=True)
            await catch_up(store, base)
            await agrees(store, base)
    finally:
        subprocess.run(["umount", "-l", str(base)], check=True)


async def test_a_store_comes_back_from_its_log(store_url: str, tmp_path: Path) -> None:
    """From any kind of store, by way of files, into SQLite and back into the same kind."""
    base = tmp_path / "log"
    async with opened(store_url) as store:
        ids = await work(store, tmp_path, "a", LARGE)
        async with Orchestrator(store) as orchestrator:
            await orchestrator.fork(ids[0], at="last", new_id="unfinished")
        await catch_up(store, base)
        count = await agrees(store, base)
    async with opened(f"sqlite:///{tmp_path / 'new.db'}") as target:
        done = await Rebuilding(target, base, lambda done: None).run()
        assert (done.executions, done.unfinished, done.events) == (3, 1, count)
        assert await agrees(target, base) == count
        assert (await Rebuilding(target, base, lambda done: None).run()).present == 3
        async with Orchestrator(target) as orchestrator:
            outcome = await orchestrator.outcome(await orchestrator.resume("unfinished"))
        assert outcome.status == "completed" and outcome.run == 1


async def test_a_store_of_every_kind_is_made_of_a_log(store_url: str, tmp_path: Path) -> None:
    base = tmp_path / "log"
    async with opened("memory://") as store:
        await work(store, tmp_path, "a", LARGE)
        await catch_up(store, base)
        count = await agrees(store, base)
    async with opened(store_url) as target:
        assert (await Rebuilding(target, base, lambda done: None).run()).events == count
        assert await agrees(target, base) == count


async def test_the_log_in_memory_says_the_same(store_url: str, tmp_path: Path) -> None:
    log = hf.InMemoryEventLog()
    path = tmp_path / "little.yaml"
    path.write_text(WORKFLOW)
    async with opened(store_url) as store, Orchestrator(store, events=log) as orchestrator:
        await orchestrator.run(path)
    assert log.events[0]["type"] == "WORKFLOW_STARTED" and log.events[-1]["type"] == "WORKFLOW_COMPLETED"
    assert [event["seq"] for event in log.events] == list(range(1, len(log.events) + 1))


async def test_an_orchestrator_keeps_its_log_in_files(store_url: str, tmp_path: Path) -> None:
    path, base = tmp_path / "little.yaml", tmp_path / "log"
    path.write_text(WORKFLOW)
    async with Orchestrator(store_url, events=hf.FileSystemEventLog(base)) as orchestrator:
        await orchestrator.run(path, id="x")
    assert events_in(base / "x")[-1][1] == "execution.completed"
    if store_url != "memory://":
        async with (
            opened(store_url) as store,
            Orchestrator(store, events=hf.FileSystemEventLog(base)) as again,
        ):
            await again.run(path, {"text": "y"}, id="y")
        assert events_in(base / "y")[-1][1] == "execution.completed"


async def test_an_open_store_in_memory_can_not_get_a_record(tmp_path: Path) -> None:
    async with opened("memory://") as store:
        with pytest.raises(UnsupportedStorage, match="has to be made with it"):
            Orchestrator(store, events=hf.FileSystemEventLog(tmp_path / "log"))


async def test_a_log_in_memory_alone_is_not_for_a_store_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_EVENT_LOG_TYPE", "memory")
    with pytest.raises(UnsupportedStorage, match="in memory alone"):
        build_store(config_for(f"sqlite:///{tmp_path / 'a.db'}"))
    build_store(config_for("memory://"))


def test_names_of_folders_are_apart_for_tenants() -> None:
    assert folder_name("a", "default") == "a"
    assert folder_name("A/..", "default") == "%41%2f.%2e"
    assert folder_name("a", "Other") == "a@%4fther"
    assert folder_name("a@b", "default") != folder_name("a", "b")


def test_zstd_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(hf.HoldfastError, match="HF1110"):
        LogOptions(compress="zstd")
    LogOptions(compress="gzip")


def test_both_logs_are_what_a_follower_writes_to(tmp_path: Path) -> None:
    logs: list[Told] = [InMemoryEventLog(), CopiedFiles(tmp_path, LogOptions())]
    assert len(logs) == 2

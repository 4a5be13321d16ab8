"""A store copied into another: every pair of kinds, killed on the way, changed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.errors import (
    CopyDiffers,
    CopyUnfinished,
    InvalidArgument,
    StoreInUse,
    TargetNotEmpty,
)
from holdfast.records.catalogue import all_tables
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store
from holdfast.upkeep.copying import Copied, Copy, Progress
from holdfast.upkeep.selection import Selection
from tests.conformance.test_store import opened, put

pytestmark = pytest.mark.anyio


@pytest.fixture
def source_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'source.db'}"


@asynccontextmanager
async def both(source_url: str, target_url: str) -> AsyncIterator[tuple[Store, Store]]:
    async with opened(source_url) as source, opened(target_url) as target:
        yield source, target


async def fill(url: str, executions: int = 40) -> None:
    """Executions that ended, wait, and run with nobody; streams, signals, queues, agents."""
    app = hf.App(url)

    @app.step
    async def shout(text: str) -> str:
        return text.upper()

    @app.workflow
    async def report(text: str) -> str:
        loud = await shout(text)
        if text.startswith("wait"):
            await hf.wait_signal(f"go:{text}")
        return loud * 3000

    async with app:
        for number in range(executions):
            kind = "wait" if number % 5 == 0 else "done"
            handle = await report.options(id=f"{kind}-{number}", tags=["vip", "ß"]).start(f"{kind} {number}")
            if kind == "done":
                await handle
        await app.signal("early", {"n": 1e20})
    async with opened(url) as store:
        await put(store, "orphan")


async def copied(source: Store, target: Store, *, resume: bool = False, **selection: object) -> Copied:
    return await Copy(source, target, Selection(**selection)).run(resume=resume)  # type: ignore[arg-type]


async def rows(store: Store, table: str) -> int:
    told = await store.driver.fetch_text(f"SELECT count(*) FROM {dialect_of(store.driver).table(table)}")
    return int(told[0][0])


async def test_everything_arrives_and_is_compared(source_url: str, store_url: str, tmp_path: Path) -> None:
    await fill(source_url)
    async with both(source_url, store_url) as (source, target):
        done = await copied(source, target)
        assert done.repaired == 0
        assert {each.table for each in done.tables} == {table.name for table in all_tables()}
        for each in done.tables:
            assert await rows(source, each.table) == await rows(target, each.table) == each.rows
        found = await target.get_execution("done-1")
        assert found == await source.get_execution("done-1")
        again = f"sqlite:///{tmp_path / 'again.db'}"
        async with opened(again) as back:
            there = await copied(target, back)
            assert there.tables == done.tables


async def test_what_was_under_way_goes_on_at_the_target(source_url: str, shared_url: str) -> None:
    await fill(source_url, executions=6)
    async with both(source_url, shared_url) as (source, target):
        await copied(source, target)
    app = hf.App(shared_url)

    @app.step
    async def shout(text: str) -> str:
        raise AssertionError("recorded long ago")

    @app.workflow
    async def report(text: str) -> str:
        loud = await shout(text)
        if text.startswith("wait"):
            await hf.wait_signal(f"go:{text}")
        return loud

    async with app:
        handle = await report.options(id="wait-5").start("wait 5")
        await app.signal("go:wait 5")
        assert (await handle).startswith("WAIT 5")


async def test_a_parted_copy_has_what_was_asked_for(source_url: str, store_url: str) -> None:
    await fill(source_url, executions=5)
    async with both(source_url, store_url) as (source, target):
        await copied(source, target, only=("workflows", "streams"))
        assert await rows(target, "definitions") == await rows(source, "definitions") > 0
        assert await rows(target, "executions") == 0


async def test_since_leaves_out_what_started_before(source_url: str, store_url: str) -> None:
    await fill(source_url, executions=3)
    async with both(source_url, store_url) as (source, target):
        moment = datetime.now(UTC)
        await put(source, "new", status="completed")
        done = await copied(source, target, since=moment)
        assert [each.id for each in await target.list_executions()] == ["new"]
        assert {each.table: each.rows for each in done.tables}["events"] == 2


async def test_two_stores_are_not_mixed(source_url: str, store_url: str) -> None:
    await fill(source_url, executions=2)
    async with both(source_url, store_url) as (source, target):
        await put(target, "mine")
        with pytest.raises(TargetNotEmpty, match="executions"):
            await copied(source, target)
        assert await rows(target, "definitions") == 0


async def test_a_copy_is_not_begun_twice(source_url: str, store_url: str) -> None:
    await fill(source_url, executions=2)
    async with both(source_url, store_url) as (source, target):
        await copied(source, target)
        with pytest.raises(CopyUnfinished, match="complete"):
            await copied(source, target)
        with pytest.raises(CopyUnfinished, match="another copy"):
            await copied(source, target, resume=True, only=("queues",))


async def test_a_finished_copy_is_brought_up_to_date(source_url: str, store_url: str) -> None:
    await fill(source_url, executions=4)
    async with both(source_url, store_url) as (source, target):
        await copied(source, target)
        await put(source, "late", status="failed")
        name = dialect_of(source.driver).table("executions")
        await source.driver.fetch_text(f"UPDATE {name} SET priority = 7 WHERE id = 'done-1'")
        await source.driver.fetch_text(f"DELETE FROM {name} WHERE id = 'done-2'")
        with pytest.raises(CopyDiffers) as differs:
            await Copy(source, target, Selection()).compare()
        assert "executions" in differs.value.details["tables"]
        done = await copied(source, target, resume=True)
        assert done.repaired >= 3
        assert await Copy(source, target, Selection()).compare() == done.tables
        assert (await target.get_execution("done-1")).priority == 7
        assert await target.find_execution("done-2") is None


async def test_a_store_in_use_is_refused(source_url: str, store_url: str) -> None:
    async with both(source_url, store_url) as (source, target):
        lease = timedelta(minutes=1) // timedelta(microseconds=1)
        await source.driver.fetch("workers.register", b"w" * 16, "worker", "far", 7, lease)
        with pytest.raises(StoreInUse, match="far pid 7"):
            await copied(source, target)


async def test_an_unknown_part_is_named(source_url: str) -> None:
    async with both(source_url, "memory://") as (source, target):
        with pytest.raises(InvalidArgument, match="exections") as refused:
            await copied(source, target, only=("exections",))
        assert "executions" in refused.value.fix


KILLED = """
import asyncio, os, signal, sys
from holdfast.stores import build_store, config_for
from holdfast.store import table_rows
from holdfast.upkeep import copying
from holdfast.upkeep.selection import Selection

table_rows._ROWS_FIRST = table_rows._ROWS_MAX = int(sys.argv[5])
left = int(sys.argv[3])

def report(progress):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    stores = [build_store(config_for(url), create=True) for url in sys.argv[1:3]]
    for store in stores:
        await store.open(migrate=True)
    done = await copying.Copy(*stores, Selection(), report).run(resume=sys.argv[4] == "resume")
    print(len(done.tables), done.rows)
    for store in stores:
        await store.close()

asyncio.run(main())
"""


async def test_a_copy_that_is_killed_goes_on(source_url: str, shared_url: str) -> None:
    await fill(source_url)

    def run(reports: int, how: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", KILLED, source_url, shared_url, str(reports), how, "7"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=dict(os.environ))

    assert run(1, "anew").returncode == -signal.SIGKILL
    for reports in (1, 2, 3, 5, 8, 13, 21, 34, 3):
        ended = run(reports, "resume")
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = run(0, "resume")
    assert done.returncode == 0, done.stderr
    async with both(source_url, shared_url) as (source, target):
        for each in await Copy(source, target, Selection()).compare():
            assert await rows(target, each.table) == each.rows


async def test_progress_is_told(source_url: str) -> None:
    await fill(source_url, executions=3)
    seen: list[Progress] = []
    async with both(source_url, "memory://") as (source, target):
        await Copy(source, target, Selection(), seen.append).run()
    assert {each.stage for each in seen} == {"copying", "comparing"}
    assert any(each.table == "events" and each.rows == each.total for each in seen)

"""CPU steps: bodies in processes of their own, which can be killed, and can die and take nothing along."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    ExecutionFailed,
    InvalidArgument,
    StepRaised,
    UnsuitableForProcess,
    UnsupportedValue,
    WorkerProcessDied,
)
from holdfast.records.executions import ExecutionStatus
from holdfast.workflows import process_pool
from tests.conformance import cpu_steps
from tests.conformance.cpu_steps import Point, alive
from tests.conformance.fleets import hired
from tests.conformance.hands import log_of, rows, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(url: str, body: Callable[[], Awaitable[Any]]) -> AsyncIterator[tuple[hf.App, Any]]:
    app = hf.App(url)

    @app.workflow
    async def work() -> Any:
        return await body()

    async with app, asyncio.timeout(30):
        yield app, work


async def read_pids(path: Path) -> list[int]:
    async def written() -> bool:
        return path.exists() and bool(path.read_text())

    await until(written, "the body never began")
    return [int(pid) for pid in path.read_text().split()]


async def all_gone(*pids: int) -> None:
    async def gone() -> bool:
        return not any(alive(pid) for pid in pids)

    await until(gone, f"of {pids} some still run")


async def test_a_body_runs_in_another_process_that_is_used_again(shared_url: str) -> None:
    async def body() -> list[int]:
        return [await cpu_steps.where_am_i(number) for number in range(3)]

    async with running(shared_url, body) as (app, work):
        pids = await work.options(id="x")()
        assert len(set(pids)) == 1
        assert pids[0] != os.getpid()
        assert await work.options(id="x")() == pids  # recorded, not run again
        assert [row[1] for row in await log_of(app.store, (await app.store.get_execution("x")).key)].count(
            "step.completed"
        ) == 3
        assert alive(pids[0])
    await all_gone(pids[0])


async def test_as_many_at_once_as_there_are_processors(shared_url: str) -> None:
    async def body() -> Any:
        return await hf.gather(*[cpu_steps.where_am_i(number) for number in range(20)])

    async with running(shared_url, body) as (_, work):
        assert 1 <= len(set(await work())) <= len(os.sched_getaffinity(0))


async def test_values_keep_their_types_on_the_way(shared_url: str) -> None:
    async def body() -> bool:
        return await cpu_steps.mirror(Point(1, 2.5), 7, 8, a="b") == (Point(2, 1.0), [7, 8], {"a": "b"})

    async with running(shared_url, body) as (_, work):
        assert await work()
    assert await cpu_steps.mirror(Point(1, 2.5), 7, a="b") == (Point(2, 1.0), [7], {"a": "b"})
    assert await cpu_steps.Nested.double(4) == 8


async def test_a_process_that_dies_is_a_failed_attempt(shared_url: str, tmp_path: Path) -> None:
    async def body() -> str:
        return await cpu_steps.die_once(str(tmp_path / "marker"))

    async with running(shared_url, body) as (app, work):
        assert await work.options(id="x")() == "came back"
        log = await log_of(app.store, (await app.store.get_execution("x")).key)
        kinds = [row[1] for row in log if row[2] and row[1] != "step.started"]
        assert kinds == ["attempt.failed", "step.completed"]


async def test_a_worker_survives_the_death_of_a_body(shared_url: str) -> None:
    async def body() -> None:
        await cpu_steps.die("exit")

    async with running(shared_url, body) as (app, work), hired(shared_url, app) as worker:
        with pytest.raises(ExecutionFailed, match="exit code 3"):
            await (await work.enqueue())

        @app.workflow
        async def fine() -> int:
            return await cpu_steps.Nested.double(2)

        async with hired(shared_url, fine):
            assert await (await fine.enqueue()) == 4
        assert (await worker.leave()).reason == "drained"


@pytest.mark.parametrize(("how", "says"), [("exit", "exit code 3"), ("kill", "killed by SIGKILL")])
async def test_a_process_that_dies_says_how_and_the_next_one_works(
    shared_url: str, how: str, says: str
) -> None:
    async def body() -> None:
        await cpu_steps.die(how)

    async with running(shared_url, body) as (_, work):
        for _ in range(3):
            with pytest.raises(ExecutionFailed, match=f"WorkerProcessDied: .*{says}"):
                await work()
        assert await cpu_steps.Nested.double(1) == 2
    with pytest.raises(WorkerProcessDied) as caught:
        await cpu_steps.die(how)
    assert caught.value.code == "HF7020"


async def test_an_error_is_recorded_as_it_was_raised(shared_url: str) -> None:
    async def body() -> Any:
        return await cpu_steps.fail("value")

    async with running(shared_url, body) as (_, work):
        with pytest.raises(ExecutionFailed, match="ValueError: not this one") as caught:
            await work.options(id="x")()
        error = caught.value.details["error"]
        assert error["type"] == "ValueError"
        assert "cpu_steps.py" in error["trace"][-1]
    with pytest.raises(StepRaised, match="ValueError: not this one"):
        await cpu_steps.fail("value")
    with pytest.raises(StepRaised, match="SystemExit: leaving"):
        await cpu_steps.fail("exit")
    with pytest.raises(UnsupportedValue):
        await cpu_steps.fail("object")


async def test_errors_are_retried_by_the_name_they_have_there(shared_url: str, tmp_path: Path) -> None:
    turns = tmp_path / "turns"
    turns.mkdir()

    async def body() -> int:
        return await cpu_steps.fail_by_turns(str(turns))

    async with running(shared_url, body) as (_, work):
        with pytest.raises(ExecutionFailed, match="never again"):
            await work()
        assert len(list(turns.iterdir())) == 2


async def test_a_timeout_kills_the_body_and_what_it_started(shared_url: str, tmp_path: Path) -> None:
    async def body() -> None:
        await cpu_steps.hang(str(tmp_path / "pids"))

    async with running(shared_url, body) as (_, work):
        with pytest.raises(ExecutionFailed, match="longer than"):
            await work()
        await all_gone(*await read_pids(tmp_path / "pids"))
        assert await cpu_steps.Nested.double(1) == 2


async def test_cancelling_an_execution_kills_the_body(shared_url: str, tmp_path: Path) -> None:
    async def body() -> None:
        await cpu_steps.hang_longer(str(tmp_path / "pids"))

    async with running(shared_url, body) as (_, work):
        handle = await work.start()
        pids = await read_pids(tmp_path / "pids")
        await handle.cancel()
        await handle.outcome()
        assert await handle.status() is ExecutionStatus.CANCELLED
        await all_gone(*pids)


async def test_closing_the_app_kills_the_body_and_the_execution_goes_on_later(
    shared_url: str, tmp_path: Path
) -> None:
    async def body() -> None:
        await cpu_steps.hang_longer(str(tmp_path / "pids"))

    async with running(shared_url, body) as (app, work):
        await work.options(id="x").start()
        pids = await read_pids(tmp_path / "pids")
    await all_gone(*pids)

    async def done() -> str:
        return "done"

    async with running(shared_url, done) as (app, _):
        assert (await app.store.get_execution("x")).status is ExecutionStatus.READY


async def test_no_children_stay_where_nobody_holds_the_pool() -> None:
    pid = await cpu_steps.where_am_i(0)
    assert not alive(pid)


async def test_a_caller_that_is_cancelled_while_its_process_starts_leaves_none() -> None:
    begun = asyncio.Event()
    real, started = process_pool._spawn, []

    async def spawn() -> Any:
        begun.set()
        child = await real()
        started.append(child)
        return child

    process_pool._spawn = spawn
    try:
        call = asyncio.ensure_future(cpu_steps.where_am_i(0))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def has_started() -> bool:
            return bool(started)

        await until(has_started, "no process was started")
        async with asyncio.timeout(10):
            await started[0].gone()
    finally:
        process_pool._spawn = real


def test_what_a_new_process_could_not_find_is_refused() -> None:
    app = hf.App("memory://")

    def inside(number: int) -> int:
        return number

    async def asynchronous() -> None: ...

    for function in (inside, asynchronous):
        with pytest.raises(UnsuitableForProcess):
            app.step(cpu=True)(function)


async def test_arguments_that_can_not_be_stored_are_refused_here() -> None:
    with pytest.raises((UnsupportedValue, InvalidArgument)):
        await cpu_steps.where_am_i(object())  # type: ignore[arg-type]


_SCRIPT = """
import asyncio, os, sys, time, json
import holdfast as hf

app = hf.App(sys.argv[1]) if __name__ == "__main__" else hf.App("memory://")

@app.step(cpu=True)
def compute(number: int, folder: str) -> list[int]:
    with open(os.path.join(folder, "pid"), "w") as file:
        file.write(str(os.getpid()))
    while number < 0:
        time.sleep(1)
    return [number + 1, os.getpid()]

@app.workflow
async def work(number: int, folder: str) -> list[int]:
    return await compute(number, folder)

async def main() -> None:
    async with app:
        found = await work(int(sys.argv[2]), sys.argv[3])
        print(json.dumps([found[0], found[1] != os.getpid()]))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_steps_of_a_script_are_found_though_it_is_main(shared_url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), shared_url, "1", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [2, True]


def test_no_child_outlives_a_parent_that_was_killed(shared_url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    parent = subprocess.Popen([sys.executable, str(script), shared_url, "-1", str(tmp_path)])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (text := (tmp_path / "pid").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while alive(int(text)):
        assert time.monotonic() < deadline, "the child goes on without its parent"
        time.sleep(0.01)


async def test_a_body_that_dies_in_a_thread_would_take_the_process_along(tmp_path: Path) -> None:
    """Planted: the same step without a process of its own."""
    planted = _SCRIPT.replace("cpu=True", "").replace("time.sleep(1)", "os._exit(3)")
    script = tmp_path / "script.py"
    script.write_text(planted)
    done = subprocess.run(
        [sys.executable, str(script), "memory://", "-1", str(tmp_path)], capture_output=True, timeout=60
    )
    assert done.returncode == 3


async def test_a_step_that_blocks_the_event_loop_longer_than_the_lease_loses_nothing(shared_url: str) -> None:
    """The lease is renewed by a thread of its own; who comes meanwhile finds the owner alive."""
    from datetime import timedelta

    from holdfast.errors import OwnedElsewhere
    from holdfast.fleet.launcher import Launcher
    from tests.conformance.hands import hand

    app = hf.App(shared_url)
    ran: list[str] = []
    asked: list[str] = []

    @app.step
    async def block() -> str:
        ran.append("block")
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        return "done"

    @app.workflow
    async def work() -> str:
        return await block()

    def come_by(url: str) -> None:
        """Another process that would take what a dead owner left behind."""

        async def look() -> None:
            async with hand(url) as store:
                launcher = Launcher(store, load=app._load, find=app._find, lease=timedelta(seconds=1))
                await launcher.open()
                deadline = time.monotonic() + 2
                while time.monotonic() < deadline:
                    execution = await store.find_execution("x")
                    if execution is not None and execution.status is ExecutionStatus.RUNNING:
                        try:
                            await launcher.resume(execution)
                            asked.append("taken")
                        except OwnedElsewhere:
                            asked.append("refused")
                    await asyncio.sleep(0.2)
                await launcher.close()

        asyncio.run(look())

    config = hf_config(shared_url, lease="1s")
    app._url = config
    async with app, asyncio.timeout(30):
        handle = await work.options(id="x").start()
        visitor = asyncio.get_running_loop().run_in_executor(None, come_by, shared_url)
        assert await handle == "done"
        await visitor
        assert ran == ["block"]
        assert "refused" in asked
        assert "taken" not in asked
        row = await app.store.get_execution("x")
        assert (row.epoch, row.recoveries) == (1, 0)
        found = await rows(app.store, "SELECT count(*) FROM {events} WHERE type = 'lease.taken'")
        assert found[0][0] == 0


def hf_config(url: str, *, lease: str) -> Any:
    from holdfast.config.loader import load

    return load(environ={}, cwd=Path("/"), flags={"storage.url": url, "worker.lease": lease}).config

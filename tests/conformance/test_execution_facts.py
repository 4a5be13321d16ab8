"""What is known of an execution beside its result: what its caller said, how far it is, who worked on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import InvalidArgument, UnsupportedValue
from holdfast.events.progress import read_progress
from holdfast.fleet import tasks
from holdfast.fleet.agents import Agent
from holdfast.fleet.forking import fork
from holdfast.fleet.starts import Origin
from holdfast.records.executions import ExecutionDetails, StepProgress
from holdfast.records.tasks import Task
from tests.conformance.fleets import hired
from tests.conformance.hands import hand
from tests.conformance.test_worker import ended

pytestmark = pytest.mark.anyio

FLOW = """\
name: flow
inputs: {properties: {bad: {type: boolean, default: false}}}
steps:
  - {id: a, shell: "printf a"}
  - {id: each, needs: a, for_each: [1, 2, 3], shell: [printf, "${{ item }}"]}
  - {id: skipped, needs: each, when: "${{ `false` }}", shell: "printf no"}
  - {id: may_fail, needs: each, shell: [test, "${{ inputs.bad }}", "!=", "true"]}
  - {id: last, needs: [may_fail, skipped], shell: "printf end"}
"""


def made_app(url: str) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.step
    async def double(number: int) -> int:
        return number * 2

    @app.workflow
    async def work(number: int) -> int:
        return await double(await double(number))

    return app, work


async def test_metadata_and_context_come_back_as_they_were_given(shared_url: str) -> None:
    app, work = made_app(shared_url)
    metadata = {"team": 7, "big": 2**70, "ß": [None, {"x": 1.5}], "empty": {}}
    async with app, hand(shared_url) as other, asyncio.timeout(30):
        here = await work.options(id="here", metadata=metadata, tags=["t"]).start(1)
        await here
        left = await work.options(id="left", context={"user": "ana"}).enqueue(1)
        plain = await work.options(id="plain").enqueue(1)
        assert await here.details() == ExecutionDetails(tags=("t",), metadata=metadata)
        assert (await left.details()).context == {"user": "ana"}
        assert await plain.details() == ExecutionDetails()
        read = await other.execution_details(here.key)
        assert list(read.metadata) == list(metadata)
        copy = await fork(other, await other.get_execution("here"), at="double", id="copy")
        assert (await other.execution_details(copy.key)).metadata == metadata
        await work.options(id="here", metadata={"other": 1}).start(1)  # the one that is there stays as it was
        assert (await here.details()).metadata == metadata


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"x": "a" * 70_000}, InvalidArgument),
        ([1], InvalidArgument),
        ({"x": float("nan")}, UnsupportedValue),
        ({"x": "\ud800"}, UnsupportedValue),
    ],
)
def test_what_is_no_metadata_is_refused(metadata: Any, error: type[Exception]) -> None:
    for what in ("metadata", "context"):
        with pytest.raises(error):
            Origin(**{what: metadata})


async def test_progress_counts_what_has_ended_of_what_will_come(store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(FLOW)
    async with hand(store_url) as store, asyncio.timeout(30), hf.Orchestrator(store) as orchestrator:
        running = await orchestrator.start(file, {}, id="well")
        assert (await orchestrator.outcome(running)).error is None
        well = await store.get_execution("well")
        assert await read_progress(store, well) == StepProgress(ended=5, known=5)
        assert well.duration_ms is not None
        assert well.duration is not None
        assert well.duration_ms == pytest.approx(well.duration.total_seconds() * 1000)
        running = await orchestrator.start(file, {"bad": True}, id="badly")
        assert (await orchestrator.outcome(running)).error is not None
        progress = await read_progress(store, await store.get_execution("badly"))
        assert (progress.ended, progress.known) == (4, 5)
        assert progress.fraction == 0.8


async def test_progress_of_code_is_what_has_ended(store_url: str) -> None:
    app, work = made_app(store_url)
    async with app, asyncio.timeout(30):
        left = await work.enqueue(1)
        assert await left.progress() == StepProgress(ended=0, known=None)
        assert (await left.progress()).fraction is None
        done = await work.start(1)
        await done
        assert await done.progress() == StepProgress(ended=2, known=2)
        assert (await done.progress()).fraction == 1.0


async def test_agents_are_those_that_had_its_tasks(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def ask(count: int) -> int:
        for number in range(count):
            await hf.agent_task("research", number)
        return count

    async with app, hired(shared_url, app) as worker, asyncio.timeout(40):
        await ask.options(id="x").enqueue(2)
        await ask.options(id="x:y").enqueue(0)  # its tasks would begin like those of the other
        handle, beside = await app.handle("x"), await app.handle("x:y")
        await ended(worker.store, "x:y")
        assert await handle.agents() == []
        for name in ("bob", "ana"):
            async with Agent(worker.store, name, capabilities=["research"]) as agent:
                task = await agent.claim("10s")
                assert isinstance(task, Task)
                await tasks.complete(worker.store, task, 1)
        assert await handle == 2
        assert await handle.agents() == ["ana", "bob"]
        assert await beside.agents() == []

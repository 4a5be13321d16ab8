"""YAML definitions through the orchestrator, on every store: what runs, what is recorded, what goes on."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast import Orchestrator
from holdfast.errors import DefinitionChanged, InvalidInput
from holdfast.programs import LocalExecutor
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.workflows.driving import Outcome
from holdfast.workflows.progress import Happening, Progress
from holdfast.workflows.steps.base import BodyKind, StepContext

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0


def define(folder: Path, text: str, name: str = "work.yaml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text).lstrip(), "utf-8")
    return path


async def run(url: str, path: Path, input: Mapping[str, Any] | None = None, **options: Any) -> Outcome:
    async with Orchestrator(url, **options) as orchestrator:
        return await orchestrator.run(path, input)


def output(outcome: Outcome) -> Any:
    assert outcome.status is ExecutionStatus.COMPLETED, outcome.error
    return codec.decode(outcome.output or b"")


class Recorder:
    """An executor that notes which bodies run and how many at once, and may stand in for them."""

    def __init__(self, answer: Any = None) -> None:
        self.paths: list[str] = []
        self.most = 0
        self._now = 0
        self._answer = answer

    async def execute(self, kind: BodyKind, context: StepContext) -> object:
        self.paths.append(context.path)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if self._answer is None:
                return await LocalExecutor().execute(kind, context)
            return await self._answer(context)
        finally:
            self._now -= 1


async def test_steps_run_in_the_order_of_their_needs(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: order
        steps:
          - {id: last, needs: [left, right], shell: [echo, last]}
          - {id: left, needs: [first], shell: [echo, left]}
          - {id: right, needs: [first], shell: [echo, right]}
          - {id: first, shell: [echo, first]}
        outputs: {word: "${{ steps.last.output }}"}
        """,
    )
    recorder = Recorder()
    happened: list[Progress] = []
    outcome = await run(store_url, path, executor=recorder, events=happened.append)
    assert output(outcome) == {"word": "last"}
    assert recorder.paths[0] == "first"
    assert set(recorder.paths[1:3]) == {"left", "right"}
    assert recorder.paths[3] == "last"
    assert (outcome.saved, outcome.run) == (0, 4)
    assert [each.path for each in happened if each.kind is Happening.STEP_COMPLETED][-1] == "last"


async def test_a_fan_out_is_bounded_and_keeps_the_order_of_its_items(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: fan
        inputs: {properties: {items: {}}}
        steps:
          - id: each
            for_each: "${{ inputs.items }}"
            max_parallel: 3
            shell: [echo, "${{ item }}"]
        outputs: {all: "${{ steps.each.output }}"}
        """,
    )
    second_turn = asyncio.Event()

    async def answer(context: StepContext) -> object:
        if context.path == "each[2]":
            second_turn.set()  # three run by now, or nobody would ever set it
        await second_turn.wait()
        return context.path

    recorder = Recorder(answer)
    async with asyncio.timeout(PATIENCE_S):
        outcome = await run(store_url, path, {"items": list(range(10))}, executor=recorder)
    assert output(outcome) == {"all": [f"each[{n}]" for n in range(10)]}
    assert recorder.most == 3


async def test_what_a_condition_leaves_out_is_skipped_and_seen(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: conditions
        inputs: {properties: {go: {}}}
        steps:
          - {id: never, when: "${{ inputs.go }}", shell: [echo, never]}
          - {id: after, needs: [never], shell: [echo, after]}
        outputs:
          status: "${{ steps.never.status }}"
          after: "${{ steps.after.output }}"
        """,
    )
    recorder = Recorder()
    outcome = await run(store_url, path, {"go": False}, executor=recorder)
    assert output(outcome) == {"status": "skipped", "after": "after"}
    assert recorder.paths == ["after"]


async def test_a_failure_that_may_pass_is_seen_by_what_follows(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: tolerant
        steps:
          - {id: bad, continue_on_error: true, shell: "echo oops >&2; exit 3"}
          - {id: after, needs: [bad], shell: [echo, "${{ steps.bad.status }}"]}
        outputs:
          after: "${{ steps.after.output }}"
          type: "${{ steps.bad.error.type }}"
        """,
    )
    assert output(await run(store_url, path)) == {"after": "failed", "type": "exit"}


async def test_a_failing_step_fails_the_execution_with_its_error(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: failing
        steps:
          - {id: bad, shell: "echo out; echo why >&2; exit 3"}
          - {id: never, needs: [bad], shell: [echo, never]}
        """,
    )
    recorder = Recorder()
    outcome = await run(store_url, path, executor=recorder)
    assert outcome.status is ExecutionStatus.FAILED
    error = outcome.error or {}
    assert (error["type"], error["step"]) == ("exit", "bad")
    assert error["details"]["exit_code"] == 3
    assert "why" in error["message"]
    assert recorder.paths == ["bad"]


async def test_attempts_are_counted_and_told_to_the_command(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: retrying
        steps:
          - id: third
            retry: {max_attempts: 3, backoff: 1ms}
            shell: 'test "$HOLDFAST_ATTEMPT" = 3 && echo "$HOLDFAST_STEP:$HOLDFAST_ATTEMPT"'
        outputs: {out: "${{ steps.third.output }}"}
        """,
    )
    recorder = Recorder()
    assert output(await run(store_url, path, executor=recorder)) == {"out": "third:3"}
    assert recorder.paths == ["third"] * 3


async def test_a_timeout_kills_the_whole_process_group(store_url: str, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    path = define(
        tmp_path,
        f"""
        name: hanging
        steps:
          - id: hang
            timeout: 500ms
            shell: |
              sleep 1000 &
              echo $! > {marker}.new
              mv {marker}.new {marker}
              wait
        """,
    )
    outcome = await run(store_url, path)
    assert outcome.status is ExecutionStatus.FAILED
    assert (outcome.error or {})["type"] == "timeout"
    child = int(marker.read_text())
    async with asyncio.timeout(PATIENCE_S):
        while _lives(child):  # noqa: ASYNC110 - what it looks for has no event
            await asyncio.sleep(0.005)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # killed, and its adoptive parent has not looked yet


async def test_values_reach_a_command_by_its_environment_alone(store_url: str, tmp_path: Path) -> None:
    hostile = "$(touch pwned); `id` \" ' \n; exit 1"
    path = define(
        tmp_path,
        """
        name: env
        inputs: {properties: {word: {}, data: {}}}
        env: {SHARED: "for all"}
        steps:
          - id: print
            env: {WORD: "${{ inputs.word }}", DATA: "${{ inputs.data }}"}
            shell: 'printf "%s|%s|%s|%s" "$SHARED" "$WORD" "$DATA" "${HOLDFAST_TEST_SECRET-unset}"'
        outputs: {out: "${{ steps.print.output }}"}
        """,
    )
    os.environ["HOLDFAST_TEST_SECRET"] = "secret"
    try:
        outcome = await run(store_url, path, {"word": hostile, "data": {"a": [1]}})
    finally:
        del os.environ["HOLDFAST_TEST_SECRET"]
    assert output(outcome)["out"] == f'for all|{hostile}|{{"a":[1]}}|unset'
    assert not (tmp_path / "pwned").exists()


async def test_json_output_becomes_a_value(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: json
        steps:
          - {id: make, with: {output: json}, shell: [echo, '{"n": [1, 2.5, null, "é"]}']}
          - {id: use, needs: [make], for_each: "${{ steps.make.output.n }}", shell: [echo, "${{ index }}"]}
        outputs: {n: "${{ steps.make.output.n }}", use: "${{ steps.use.output }}"}
        """,
    )
    assert output(await run(store_url, path)) == {"n": [1, 2.5, None, "é"], "use": ["0", "1", "2", "3"]}


async def test_a_workflow_step_runs_a_file_beside_it(store_url: str, tmp_path: Path) -> None:
    define(
        tmp_path,
        """
        name: inner
        inputs: {properties: {who: {}}}
        steps: [{id: say, shell: [echo, "hello ${{ inputs.who }}"]}]
        outputs: {said: "${{ steps.say.output }}"}
        """,
        "inner.yaml",
    )
    path = define(
        tmp_path,
        """
        name: outer
        inputs: {properties: {who: {}}}
        steps:
          - {id: call, workflow: ./inner.yaml, with: {who: "${{ inputs.who }}"}}
        outputs: {said: "${{ steps.call.output.said }}"}
        """,
    )
    async with Orchestrator(store_url) as orchestrator:
        outcome = await orchestrator.run(path, {"who": "you"}, id="o")
        assert output(outcome) == {"said": "hello you"}
        child = await orchestrator.store.get_execution("o.call")
        assert (child.workflow, child.status) == ("inner", ExecutionStatus.COMPLETED)


async def test_a_child_goes_on_by_its_stored_definition(shared_url: str, tmp_path: Path) -> None:
    inner = define(
        tmp_path,
        """
        name: inner
        steps: [{id: say, shell: [echo, old]}, {id: nap, needs: [say], sleep: 1500ms}]
        outputs: {said: "${{ steps.say.output }}"}
        """,
        "inner.yaml",
    )
    path = define(
        tmp_path,
        """
        name: outer
        steps: [{id: call, workflow: ./inner.yaml}]
        outputs: {said: "${{ steps.call.output.said }}"}
        """,
    )
    async with Orchestrator(shared_url, wait=timedelta(0)) as orchestrator:
        outcome = await orchestrator.run(path, id="o")
        assert outcome.status is ExecutionStatus.WAITING
    inner.write_text(inner.read_text("utf-8").replace("old", "new"), "utf-8")
    async with Orchestrator(shared_url) as orchestrator:
        running = await orchestrator.resume("o")
        assert output(await orchestrator.outcome(running)) == {"said": "old"}


async def test_a_second_run_goes_on_with_what_is_saved(shared_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: twice
        steps:
          - {id: one, shell: [echo, one]}
          - {id: two, needs: [one], shell: [echo, two]}
          - {id: nap, needs: [one], sleep: 100ms}
          - {id: three, needs: [two, nap], shell: [echo, three]}
        outputs: {three: "${{ steps.three.output }}"}
        """,
    )
    stuck = asyncio.Event()

    async def answer(context: StepContext) -> object:
        if context.path == "three":
            stuck.set()
            await asyncio.Event().wait()
        return context.path

    async with Orchestrator(shared_url, Recorder(answer)) as orchestrator:
        await orchestrator.start(path)
        await asyncio.wait_for(stuck.wait(), PATIENCE_S)
    recorder = Recorder()
    outcome = await run(shared_url, path, executor=recorder)
    assert output(outcome) == {"three": "three"}
    assert recorder.paths == ["three"]
    assert (outcome.saved, outcome.run) == (3, 1)
    again = Recorder()
    await run(shared_url, path, executor=again)
    assert sorted(again.paths) == ["one", "three", "two"]  # what has ended is not gone on with


async def test_a_changed_file_is_refused_and_the_stored_one_goes_on(shared_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: changing
        steps: [{id: one, shell: [echo, one]}, {id: nap, needs: [one], sleep: 1h}]
        """,
    )
    async with Orchestrator(shared_url, wait=timedelta(0)) as orchestrator:
        assert (await orchestrator.run(path)).status is ExecutionStatus.WAITING
    path.write_text(path.read_text("utf-8").replace("[echo, one]", "[echo, two]"), "utf-8")
    recorder = Recorder()
    async with Orchestrator(shared_url, recorder, wait=timedelta(0)) as orchestrator:
        with pytest.raises(DefinitionChanged) as changed:
            await orchestrator.run(path)
        assert "one" in changed.value.cause
        assert "two" in changed.value.cause
        running = await orchestrator.resume("@last")
        assert (await orchestrator.outcome(running)).status is ExecutionStatus.WAITING
        assert recorder.paths == []
        assert (await orchestrator.run(path, new=True)).status is ExecutionStatus.WAITING
        assert recorder.paths == ["one"]


async def test_a_wrong_input_is_refused_before_anything_is_stored(store_url: str, tmp_path: Path) -> None:
    path = define(
        tmp_path,
        """
        name: typed
        inputs: {type: object, properties: {n: {type: integer}}, required: [n]}
        steps: [{id: one, shell: [echo, "${{ inputs.n }}"]}]
        """,
    )
    async with Orchestrator(store_url) as orchestrator:
        with pytest.raises(InvalidInput, match="n"):
            await orchestrator.run(path, {"n": "many"})
        assert await orchestrator.store.list_executions() == []


async def test_interrupting_a_run_kills_its_commands_and_hands_it_back(
    shared_url: str, tmp_path: Path
) -> None:
    marker = tmp_path / "pid"
    path = define(
        tmp_path,
        f"""
        name: interrupted
        steps: [{{id: hang, shell: "echo $$ > {marker}.new; mv {marker}.new {marker}; exec sleep 1000"}}]
        """,
    )
    async with Orchestrator(shared_url) as orchestrator:
        await orchestrator.start(path, id="i")
        async with asyncio.timeout(PATIENCE_S):
            while not marker.exists():  # noqa: ASYNC110 - what it looks for has no event
                await asyncio.sleep(0.005)
    assert not _lives(int(marker.read_text()))
    async with Orchestrator(shared_url) as orchestrator:
        assert (await orchestrator.store.get_execution("i")).status is ExecutionStatus.READY

"""The interpreter on a fake runtime: order, bounds, conditions, fan-out, failures, replay, cancellation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidDefinition, InvalidInput, LeaseLost, StepFailed
from holdfast.workflows.definition import Definition, parse
from holdfast.workflows.interpreter import interpret
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.runtime import StepCall
from holdfast.workflows.steps import registry
from holdfast.workflows.steps.base import BodyKind, StepContext

pytestmark = pytest.mark.anyio


class FakeRuntime:
    """Records results in memory and replays them, comparing arguments, as the engine does in the store."""

    def __init__(self, recorded: dict[str, tuple[str, Any]] | None = None) -> None:
        self.execution_id = "ex-1"
        self.recorded: dict[str, tuple[str, Any]] = recorded or {}
        self.ran: list[str] = []
        self.skipped: dict[str, str] = {}
        self.slept: dict[str, timedelta] = {}
        self.children: dict[str, tuple[str, str | None, object]] = {}
        self.wake = asyncio.Event()

    async def step(self, call: StepCall) -> Any:
        digest = json.dumps(call.arguments, sort_keys=True)
        if call.path not in self.recorded:
            self.ran.append(call.path)
            self.recorded[call.path] = (digest, await self._run(call))
        before, result = self.recorded[call.path]
        assert before == digest, f"{call.path}: {before} became {digest}"
        if isinstance(result, StepFailed):
            raise result
        return result

    async def _run(self, call: StepCall) -> Any:
        attempt = 1
        while True:
            try:
                return json.loads(json.dumps(await call.body(attempt)))
            except Exception as error:
                kind = getattr(error, "retry_type", type(error).__name__)
                if not call.retry.retries(kind, attempt):
                    described = {"type": kind, "message": str(getattr(error, "cause", error))}
                    return StepFailed(f"{call.path} failed", error=described)
                attempt += 1

    async def skip(self, path: str, name: str, reason: str) -> None:
        self.skipped[path] = reason

    async def sleep(self, path: str, name: str, duration: timedelta) -> None:
        self.slept[path] = duration
        if duration > timedelta(days=1):
            await self.wake.wait()

    async def child(self, path: str, name: str, workflow: str, version: str | None, input: object) -> Any:
        self.children[path] = (workflow, version, input)
        return {"child": workflow}


class Probe(BodyKind):
    """A plugin kind: `probe: {…}` gives its rendered spec back, or does what the test tells it to."""

    name = "probe"
    parameters = None

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.act: Callable[[StepContext], Any] = lambda context: context.spec

    def validate(self, spec: Any, arguments: Any, path: DocumentPath, report: Report) -> None:
        """Anything goes."""

    async def run(self, context: StepContext) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            result = self.act(context)
            return await result if asyncio.iscoroutine(result) else result
        finally:
            self.running -= 1


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    real = registry.kind
    monkeypatch.setattr(registry, "plugins", lambda: {"probe": None})
    monkeypatch.setattr(registry, "kind", lambda name: made if name == "probe" else real(name))
    return made


def flow(steps: str, before: str = "", after: str = "") -> Definition:
    lines = "".join(f"  - {line}\n" for line in steps.strip().splitlines())
    return parse(f"name: x\n{before}\nsteps:\n{lines}{after}", source="flow.yaml")


async def test_values_flow_from_input_through_steps_to_the_output(probe: Probe) -> None:
    definition = flow(
        """{id: a, probe: {n: "${{ inputs.n }}", e: "${{ env.E }}", x: "${{ execution.id }}"}}
        {id: b, needs: [a], probe: "got ${{ steps.a.output.n }}", with: {k: "${{ steps.a.status }}"}}""",
        before="inputs: {properties: {n: {default: 2}}}\nenv: {E: 'e${{ inputs.n }}'}",
        after="outputs: {all: '${{ steps.a.output }}', b: 'b=${{ steps.b.output }}'}",
    )
    runtime = FakeRuntime()
    output = await interpret(definition, {}, runtime)
    assert output == {"all": {"n": 2, "e": "e2", "x": "ex-1"}, "b": "b=got 2"}
    assert json.loads(runtime.recorded["b"][0]) == {"probe": "got 2", "with": {"k": "completed"}}


async def test_steps_run_beside_each_other_and_never_more_than_the_bound(probe: Probe) -> None:
    definition = flow("\n".join(f"{{id: s{n}, probe: 1}}" for n in range(30)))
    await interpret(definition, {}, FakeRuntime(), parallel=4)
    assert probe.most == 4
    probe.most = 0
    await interpret(flow("{id: a, for_each: [1,2,3,4,5,6], max_parallel: 3, probe: 1}"), {}, FakeRuntime())
    assert probe.most == 3


async def test_when_false_skips_and_dependants_run(probe: Probe) -> None:
    definition = flow(
        """{id: a, probe: 1}
        {id: b, needs: [a], when: "steps.a.output > `1`", probe: 2}
        {id: c, needs: [b], when: false, for_each: [1], probe: 2}
        {id: d, needs: [b, c], when: "steps.b.status == 'skipped'", probe: ["${{ steps.b }}"]}""",
    )
    runtime = FakeRuntime()
    await interpret(definition, {}, runtime)
    assert runtime.skipped == {"b": "when: steps.a.output > `1`", "c": "when: false"}
    assert runtime.ran == ["a", "d"]
    assert runtime.recorded["d"][1] == [{"output": None, "status": "skipped", "error": None}]


async def test_a_fan_out_gives_the_outputs_in_the_order_of_the_items(probe: Probe) -> None:
    async def backwards(context: StepContext) -> Any:
        for _ in range(50 - 10 * context.spec["index"]):
            await asyncio.sleep(0)
        return context.spec

    probe.act = backwards
    definition = flow(
        """{id: a, for_each: [x, y, z], probe: {item: "${{ item }}", index: "${{ index }}"}}
        {id: b, for_each: "${{ inputs.none || `[]` }}", probe: 1}""",
        before="inputs: {properties: {none: {}}}",
        after="outputs: ['${{ steps.a.output[*].item }}', '${{ steps.b }}']",
    )
    runtime = FakeRuntime()
    assert await interpret(definition, {}, runtime) == [
        ["x", "y", "z"],
        {"output": [], "status": "completed", "error": None},
    ]
    assert sorted(runtime.recorded) == ["a[0]", "a[1]", "a[2]"]


async def test_a_failure_stops_new_steps_lets_running_ones_end_and_is_the_first(probe: Probe) -> None:
    async def act(context: StepContext) -> Any:
        if context.step == "bad":
            raise ValueError("broken")
        for _ in range(20):
            await asyncio.sleep(0)
        if context.step == "late":
            raise ValueError("later")
        return "done"

    probe.act = act
    definition = flow(
        """{id: bad, probe: 1}
        {id: slow, probe: 1}
        {id: late, probe: 1}
        {id: month, sleep: 30d}
        {id: after, needs: [slow], probe: 1}"""
    )
    runtime = FakeRuntime()
    with pytest.raises(StepFailed, match="bad failed"):
        await asyncio.wait_for(interpret(definition, {}, runtime), 10)
    assert runtime.recorded["slow"][1] == "done"
    assert isinstance(runtime.recorded["late"][1], StepFailed)
    assert "after" not in runtime.recorded


async def test_a_failing_item_stops_the_items_that_have_not_started(probe: Probe) -> None:
    def act(context: StepContext) -> Any:
        if context.spec == 3:
            raise ValueError("broken")

    probe.act = act
    runtime = FakeRuntime()
    with pytest.raises(StepFailed, match=r"a\[3\] failed"):
        await interpret(
            flow("{id: a, for_each: [0,1,2,3,4,5,6,7], max_parallel: 2, probe: '${{ item }}'}"), {}, runtime
        )
    assert {"a[0]", "a[1]", "a[2]", "a[3]"} <= set(runtime.recorded)
    assert "a[6]" not in runtime.recorded


async def test_continue_on_error_shows_the_failure_to_those_who_need_it(probe: Probe) -> None:
    def act(context: StepContext) -> Any:
        if context.spec in ("bad", 1):
            raise KeyError("gone")
        return context.spec

    probe.act = act
    definition = flow(
        """{id: a, probe: bad, continue_on_error: true}
        {id: b, for_each: [0, 1, 2], probe: "${{ item }}", continue_on_error: true}
        {id: c, needs: [a, b], probe: ["${{ steps.a.status }}", "${{ steps.a.error.type }}"]}""",
        after="outputs: ['${{ steps.c.output }}', '${{ steps.b.output }}', '${{ steps.b.status }}']",
    )
    assert await interpret(definition, {}, FakeRuntime()) == [["failed", "KeyError"], [0, None, 2], "failed"]


async def test_retry_and_timeout_reach_the_runtime(probe: Probe) -> None:
    seen: list[int] = []

    def act(context: StepContext) -> Any:
        seen.append(context.attempt)
        if context.attempt < 3:
            raise TimeoutError
        return "at last"

    probe.act = act
    definition = flow("{id: a, probe: 1, retry: {max_attempts: 3, on: [TimeoutError]}, timeout: 5s}")
    assert definition.steps[0].timeout == timedelta(seconds=5)
    await interpret(definition, {}, FakeRuntime())
    assert seen == [1, 2, 3]


async def test_a_template_without_a_value_fails_its_step_and_is_recorded(probe: Probe) -> None:
    for steps, cause in (
        ("{id: b, needs: [a], probe: 'x ${{ steps.a.output.no }}'}", "null inside text"),
        ("{id: b, needs: [a], shell: [ls], env: {A: '${{ steps.a.output.no }}'}}", "the variable A is null"),
        ("{id: b, needs: [a], when: length(steps.a.output), probe: 1}", "length"),
        ("{id: b, needs: [a], for_each: '${{ steps.a.output }}', probe: 1}", "which is not a list"),
        ("{id: b, needs: [a], sleep: '${{ steps.a.output }}'}", "which has no unit"),
        ("{id: b, needs: [a], sleep: '${{ steps.a.output }}x'}", "not a duration"),
    ):
        runtime = FakeRuntime()
        with pytest.raises(StepFailed) as caught:
            await interpret(flow(f"{{id: a, probe: 1}}\n{steps}"), {}, runtime)
        assert cause in caught.value.details["error"]["message"]
        assert caught.value.details["error"]["type"] == "expression"
        with pytest.raises(StepFailed):  # and a replay fails the same way
            await interpret(flow(f"{{id: a, probe: 1}}\n{steps}"), {}, FakeRuntime(runtime.recorded))


async def test_recorded_arguments_do_not_depend_on_the_order_of_keys_in_the_file() -> None:
    recorded = []
    for env, extra in (
        ("{A: 1, B: 2}", "{cwd: /, output: json}"),
        ("{B: 2, A: 1}", "{output: json, cwd: /}"),
    ):
        calls: list[object] = []

        class Noting(FakeRuntime):
            async def step(self, call: StepCall) -> Any:
                calls.append(call.arguments)  # noqa: B023 - used within this turn of the loop

        await interpret(flow(f"{{id: a, shell: [ls], env: {env}, with: {extra}}}"), {}, Noting())
        recorded.append(json.dumps(calls))
    assert recorded[0] == recorded[1]


async def test_sleep_and_child_map_to_the_runtime() -> None:
    definition = flow(
        """{id: a, sleep: 90m}
        {id: b, needs: [a], sleep: "${{ inputs.s }}s"}
        {id: c, needs: [b], workflow: other@2, with: {x: "${{ inputs.s }}"}}
        {id: d, for_each: [1, 2], workflow: plain, with: {x: "${{ item }}"}}""",
        before="inputs: {properties: {s: {}}}",
        after="outputs: ${{ steps.c.output.child }}",
    )
    runtime = FakeRuntime()
    assert await interpret(definition, {"s": 7}, runtime) == "other"
    assert runtime.slept == {"a": timedelta(minutes=90), "b": timedelta(seconds=7)}
    assert runtime.children["c"] == ("other", "2", {"x": 7})
    assert runtime.children["d[1]"] == ("plain", None, {"x": 2})


async def test_a_child_in_a_file_is_named_by_its_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "sub.yaml").write_text("name: sub")
    definition = parse("name: x\nsteps: [{id: a, workflow: ./sub.yaml}]", source="f", folder=tmp_path)
    runtime = FakeRuntime()
    await interpret(definition, {}, runtime)
    assert runtime.children["a"] == (str(tmp_path.resolve() / "sub.yaml"), None, {})


async def test_a_python_step_calls_the_function(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        "import threading\n"
        "def double(n): return [n * 2, threading.current_thread() is threading.main_thread()]\n"
        "async def plus(n, by=1): return n + by\n"
        "def fails(): raise LookupError('not there')\n"
    )
    text = """name: x
steps:
  - {id: a, python: "tools.py:double", with: {n: 4}}
  - {id: b, needs: [a], python: "tools.py:plus", with: {n: "${{ steps.a.output[0] }}"}}
  - {id: c, python: "tools.py:fails", continue_on_error: true}
  - {id: d, python: "tools.py:plus", with: {wrong: 1}, continue_on_error: true}
outputs: ["${{ steps.a.output }}", "${{ steps.b.output }}", "${{ [steps.c.error.type, steps.d.error.type] }}"]
"""
    definition = parse(text, source="f", folder=tmp_path)
    assert await interpret(definition, None, FakeRuntime()) == [[8, False], 9, ["LookupError", "TypeError"]]


async def test_what_is_wrong_before_the_first_step_runs_no_step(probe: Probe) -> None:
    runtime = FakeRuntime()
    with pytest.raises(InvalidInput):
        await interpret(flow("{id: a, probe: 1}"), {"x": 1}, runtime)
    with pytest.raises(InvalidDefinition, match="there is no file"):
        await interpret(flow('{id: a, probe: 1}\n{id: b, python: "gone_for_good.py:run"}'), {}, runtime)
    assert runtime.ran == []


async def test_cancelling_ends_every_step_and_passes_through(probe: Probe) -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def act(context: StepContext) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(context.path)

    probe.act = act
    task = asyncio.create_task(
        interpret(
            flow("{id: a, probe: 1}\n{id: b, for_each: [1, 2], probe: 1}\n{id: c, sleep: 9d}"),
            {},
            FakeRuntime(),
        )
    )
    await begun.wait()
    while probe.running < 3:  # noqa: ASYNC110 - one pass of the loop is all it takes
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["a", "b[0]", "b[1]"]
    assert probe.running == 0


async def test_losing_the_lease_ends_everything_at_once(probe: Probe) -> None:
    class Losing(FakeRuntime):
        async def step(self, call: StepCall) -> Any:
            if call.path == "b[1]":
                raise LeaseLost("taken over")
            return await super().step(call)

    async def act(context: StepContext) -> Any:
        await asyncio.Event().wait()

    probe.act = act
    with pytest.raises(LeaseLost):
        await interpret(flow("{id: a, probe: 1}\n{id: b, for_each: [1, 2], probe: 1}"), {}, Losing())
    assert probe.running == 0


async def test_ten_thousand_items_need_no_task_each(probe: Probe) -> None:
    seen = 0

    def act(context: StepContext) -> Any:
        nonlocal seen
        seen = max(seen, len(asyncio.all_tasks()))

    probe.act = act
    definition = flow(
        "{id: a, for_each: '${{ inputs.n }}', probe: 1}", before="inputs: {properties: {n: {}}}"
    )
    runtime = FakeRuntime()
    await interpret(definition, {"n": list(range(10_000))}, runtime)
    assert len(runtime.ran) == 10_000
    assert seen < 20


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, int]:
    count = draw(st.integers(1, 12))
    lines = []
    for index in range(count):
        needs = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        names = ", ".join(f"s{each}" for each in needs)
        value = ", ".join(f"'${{{{ steps.s{each}.output }}}}'" for each in needs)
        extra = draw(st.sampled_from(["", ', when: "length(execution.id) > `99`"', ", for_each: [1, 2]"]))
        lines.append(f"{{id: s{index}, needs: [{names}], probe: [{value}]{extra}}}")
    return "\n".join(lines), draw(st.integers(1, 4))


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=5_000)
def test_a_replay_makes_the_same_calls_with_the_same_arguments(case: tuple[str, int], chance: Any) -> None:
    made = Probe()
    kind, plugins = registry.kind, registry.plugins
    registry.plugins = lambda: {"probe": None}  # type: ignore[assignment,dict-item]
    registry.kind = lambda name: made  # type: ignore[assignment]
    try:
        definition = flow(case[0], after="outputs: '${{ steps.s0 }}'")
    finally:
        registry.kind, registry.plugins = kind, plugins

    async def act(context: StepContext) -> Any:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        return [context.path, len(str(context.spec))]

    made.act = act
    first = FakeRuntime()
    output = asyncio.run(interpret(definition, {}, first, parallel=case[1]))
    kept = {path: first.recorded[path] for path in first.ran if chance.random() < 0.5}
    second = FakeRuntime(dict(kept))
    assert asyncio.run(interpret(definition, {}, second, parallel=case[1])) == output
    assert second.recorded == first.recorded
    assert not set(second.ran) & set(kept)

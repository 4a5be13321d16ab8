"""Runs a definition on a `Runtime`: the order of steps, their values, and what a failure means.

Everything it decides follows from the definition, the input and recorded results, so that a second run
makes the same calls with the same arguments. Its rules:

* A step starts when all it needs has ended. A step whose `when` is false is skipped, and counts as ended:
  what needs it runs, and sees `status: skipped` and a null output. To skip along, say so in `when`.
* A step that fails with `continue_on_error` counts as ended, with `status: failed` and its `error`.
* Any other failure stops new steps; those that run are waited for and recorded (timers are left alone);
  then the execution fails with the first failure.
* A `for_each` step gives the list of its items' outputs, in the order of the items; an item that failed
  with `continue_on_error` gives null. Items are called `id[0]`, `id[1]` …
* A template that gives no value fails its step, recorded like any other failure and never retried.

At most `PARALLEL_BODIES` bodies run at once in one execution; a step that rests between attempts keeps
its place among them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from holdfast.config.schema import Http
from holdfast.errors import BodyFailed, StepFailed
from holdfast.workflows.definition import Definition, StepDefinition
from holdfast.workflows.expressions import json_text
from holdfast.workflows.graph import Readiness
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.runtime import Runtime, StepCall
from holdfast.workflows.steps.base import BodyKind, RuntimeKind, StepContext
from holdfast.workflows.values import render_value

PARALLEL_BODIES = 10
"""Bodies of one execution that run at once."""
STARTED_MAX = 1_000
"""Steps that are started and not ended, most of them waiting; each costs a task."""
ITEMS_MAX = 100_000
"""Items of one `for_each`."""


Execute = Callable[[BodyKind, StepContext], Awaitable[object]]
"""Runs the body of one attempt."""


async def _here(kind: BodyKind, context: StepContext) -> object:
    return await kind.run(context)


async def interpret(
    definition: Definition,
    input: Any,
    runtime: Runtime,
    *,
    parallel: int = PARALLEL_BODIES,
    execute: Execute = _here,
    http: Http | None = None,
) -> Any:
    """Run `definition` to its end and return its rendered `outputs`, null when it declares none.

    Raises `InvalidInput`, or what `Definition.prepare` finds, before any step; `StepFailed` of the first
    step that failed for good; `BodyFailed` when the workflow's own `env` or `outputs` give no value. Any
    other exception of the runtime ends all steps at once and passes through, as cancellation does.
    """
    inputs = definition.check_input(input)
    definition.prepare()
    scope = {"inputs": inputs, "env": {}, "steps": {}, "execution": {"id": runtime.execution_id}}
    scope["env"] = render_value(definition.env, scope)
    run = _Run(definition, runtime, scope, parallel, execute, http or Http())
    await run.steps()
    return render_value(definition.outputs, scope)


@dataclass(slots=True)
class _Ended:
    """What the scope shows of a step."""

    output: Any = None
    status: str = "completed"
    error: Mapping[str, Any] | None = None

    def shown(self) -> dict[str, Any]:
        return {"output": self.output, "status": self.status, "error": self.error}


class _Run:
    """One run of one definition; `steps` is called once."""

    def __init__(
        self,
        definition: Definition,
        runtime: Runtime,
        scope: dict[str, Any],
        parallel: int,
        execute: Execute,
        http: Http,
    ) -> None:
        self._definition = definition
        self._runtime = runtime
        self._scope = scope
        self._slots = asyncio.Semaphore(parallel)
        self._execute = execute
        self._http = http
        self._by_id = {step.id: step for step in definition.steps}
        self._tasks: dict[asyncio.Task[_Ended], StepDefinition] = {}
        self._finished: asyncio.Queue[asyncio.Task[_Ended]] = asyncio.Queue()
        self._failure: StepFailed | None = None
        self._left_alone: set[asyncio.Task[_Ended]] = set()

    async def steps(self) -> None:
        """Run every step; raises the first failure after all that had started has ended."""
        readiness = Readiness(self._definition.graph)
        ready = deque(readiness.start())
        try:
            while True:
                while ready and self._failure is None and len(self._tasks) < STARTED_MAX:
                    self._start(self._by_id[ready.popleft()])
                if not self._tasks:
                    break
                task = await self._finished.get()
                step = self._tasks.pop(task)
                if self._settle(task, step):
                    ready.extend(readiness.done(step.id))
        finally:
            await _stop(self._tasks)
        if self._failure is not None:
            raise self._failure

    def _start(self, step: StepDefinition) -> None:
        task = asyncio.create_task(self._step(step), name=step.id)
        task.add_done_callback(self._finished.put_nowait)
        self._tasks[task] = step

    def _settle(self, task: asyncio.Task[_Ended], step: StepDefinition) -> bool:
        """Whether the step has ended so that others may follow. Raises what is not a failure of a step."""
        if task in self._left_alone and task.cancelled():
            return False
        try:
            ended = task.result()
        except StepFailed as error:
            if self._failure is None:
                self._failure = error
                self._leave_timers_alone()
            return False
        self._scope["steps"][step.id] = ended.shown()
        return True

    def _leave_timers_alone(self) -> None:
        """A failed execution does not wait days for a timer beside the failure."""
        for task, step in self._tasks.items():
            if isinstance(step.kind, RuntimeKind) and step.kind.only_waits:
                self._left_alone.add(task)
                task.cancel()

    async def _step(self, step: StepDefinition) -> _Ended:
        try:
            if not await self._wanted(step):
                return _Ended(status="skipped")
            if step.for_each is None:
                return _Ended(await self._call(step, step.id, self._scope))
            return await self._fan_out(step)
        except StepFailed as error:
            if not step.continue_on_error:
                raise
            return _Ended(status="failed", error=_error(error))

    async def _wanted(self, step: StepDefinition) -> bool:
        if step.when is True:
            return True
        try:
            wanted = step.when is not False and step.when.is_true(self._scope)
        except BodyFailed as error:
            await self._fail(step, step.id, error)
        if not wanted:
            shown = "false" if isinstance(step.when, bool) else step.when.source
            await self._runtime.skip(step.id, step.id, f"when: {shown}")
        return wanted

    async def _fan_out(self, step: StepDefinition) -> _Ended:
        items = await self._items(step)
        ended = _Ended([None] * len(items))
        shared = iter(enumerate(items))
        failures: list[StepFailed] = []
        workers = min(step.max_parallel, len(items))
        await _all_of(self._worker(step, shared, ended, failures) for _ in range(workers))
        if failures:
            if not step.continue_on_error:
                raise failures[0]
            ended.status, ended.error = "failed", _error(failures[0])
        return ended

    async def _worker(
        self,
        step: StepDefinition,
        items: Iterator[tuple[int, Any]],
        ended: _Ended,
        failures: list[StepFailed],
    ) -> None:
        """Take items from the shared iterator until there are none, or a failure stops the execution."""
        for index, item in items:
            scope = {**self._scope, "item": item, "index": index}
            try:
                ended.output[index] = await self._call(step, f"{step.id}[{index}]", scope)
            except StepFailed as error:
                failures.append(error)
            if self._failure is not None or (failures and not step.continue_on_error):
                return

    async def _items(self, step: StepDefinition) -> list[Any]:
        try:
            items = render_value(step.for_each, self._scope)
            if not isinstance(items, list):
                raise BodyFailed(
                    f"for_each got {json_text(items)[:80]}, which is not a list",
                    fix="check the field's name; a mapping's items come from values(…) or keys(…)",
                    kind="expression",
                )
            if len(items) > ITEMS_MAX:
                raise BodyFailed(
                    f"for_each got {len(items)} items; the limit is {ITEMS_MAX}",
                    fix="give each item a batch",
                    kind="expression",
                )
        except BodyFailed as error:
            await self._fail(step, step.id, error)
        return items

    async def _call(self, step: StepDefinition, path: str, scope: Mapping[str, Any]) -> Any:
        """The output of one step, or of one item of it."""
        try:
            spec = render_value(step.spec, scope)
            arguments = render_value(step.arguments, scope)
            env = self._environment(step, scope)
        except BodyFailed as error:
            await self._fail(step, path, error)
        kind = step.kind

        def context(attempt: int) -> StepContext:
            return StepContext(
                execution_id=self._runtime.execution_id,
                path=path,
                step=step.id,
                attempt=attempt,
                spec=spec,
                arguments=arguments,
                env=env,
                folder=self._definition.folder,
                timeout=step.timeout,
                http=self._http,
            )

        if isinstance(kind, RuntimeKind):
            try:
                return await kind.perform(self._runtime, context(1))
            except BodyFailed as error:
                await self._fail(step, path, error)
        assert isinstance(kind, BodyKind)  # the registry admits no third sort
        call = StepCall(
            path=path,
            name=step.id,
            arguments=_recorded(kind.name, spec, arguments, env),
            body=lambda attempt: self._execute(kind, context(attempt)),
            retry=step.retry,
            timeout=step.timeout,
        )
        async with self._slots:
            return await self._runtime.step(call)

    def _environment(self, step: StepDefinition, scope: Mapping[str, Any]) -> dict[str, str]:
        if not isinstance(step.kind, BodyKind) or not step.kind.takes_env:
            return {}
        values = {**scope["env"], **render_value(step.env, scope)}
        for name, value in values.items():
            if value is None:
                raise BodyFailed(
                    f"the variable {name} is null",
                    fix="check the field's name, or give a default: ${{ … || '' }}",
                    kind="expression",
                )
        return {
            name: value if isinstance(value, str) else json_text(value)
            for name, value in sorted(values.items())
        }

    async def _fail(self, step: StepDefinition, path: str, error: BodyFailed) -> NoReturn:
        """Record a step that fails before it can run; the engine raises its `StepFailed`."""

        async def body(attempt: int) -> object:
            raise error

        await self._runtime.step(
            StepCall(
                path=path, name=step.id, arguments={"failed": error.cause}, body=body, retry=RetryPolicy()
            )
        )
        raise error  # a runtime that swallows the failure of a body breaks its contract


def _recorded(kind: str, spec: Any, arguments: Any, env: Any) -> dict[str, Any]:
    """The arguments as they are stored and compared: what is empty stays away."""
    optional = {"with": arguments, "env": env}
    return {kind: spec, **{key: value for key, value in optional.items() if value}}


def _error(failed: StepFailed) -> Mapping[str, Any]:
    found = failed.details.get("error")
    return found if isinstance(found, Mapping) else {"type": "StepFailed", "message": failed.cause}


async def _all_of(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their ends; the first exception ends the others and is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _stop(tasks)
    for task in done:
        task.result()


async def _stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still runs and wait until all are gone; their results are nobody's any more."""
    everything = list(tasks)
    for task in everything:
        task.cancel()
    await asyncio.gather(*everything, return_exceptions=True)

"""An app: the steps and workflows of a program, and the process that runs them.

Nothing opens at import. `async with app:` connects the store, brings its schema up to date, and registers the
process as an owner of executions; leaving the block hands back what still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from holdfast.config.schema import Config
from holdfast.durations import Duration, parse_duration
from holdfast.errors import (
    ExecutionCancelled,
    ExecutionFailed,
    HoldfastError,
    InvalidDefinition,
    NoApp,
    NotResumable,
    OwnedElsewhere,
)
from holdfast.fleet.ends import read_outcome, wait_for_end
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.starts import Origin, Running
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for
from holdfast.workflows.driving import Outcome
from holdfast.workflows.functions import StartOptions, Step, Workflow, closed_app
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Observer
from holdfast.workflows.python_program import program_of
from holdfast.workflows.retry import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")


class App:
    """Your steps and workflows, and where their state is kept.

    `url` is a store URL (`sqlite:///app.db`, `postgresql://…`, `memory://`) or a `Config`; without one it is
    `HOLDFAST_URL`, the configuration file, or `./.holdfast/holdfast.db`. Example::

        app = hf.App()

        @app.step(max_attempts=3)
        async def research(topic: str) -> str: ...

        @app.workflow
        async def report(topic: str) -> str:
            return (await research(topic)).upper()

        async with app:
            print(await report("otters"))
    """

    def __init__(self, url: str | Config | None = None, *, observer: Observer | None = None) -> None:
        self._url = url
        self._observer = observer
        self.workflows: dict[str, Workflow[Any, Any]] = {}
        self.steps: dict[str, Step[Any, Any]] = {}
        self._store: Store | None = None
        self._launcher: Launcher | None = None

    # Decorators.

    @overload
    def step(self, fn: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...
    @overload
    def step(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        max_attempts: int = 1,
        backoff: Duration = "1s",
        multiplier: float = 2.0,
        max_backoff: Duration = "5m",
        jitter: bool = True,
        retry_on: tuple[str, ...] = (),
        timeout: Duration | None = None,
    ) -> StepDecorator: ...
    def step(  # noqa: PLR0913 - each is one line of a decorator
        self,
        fn: Any = None,
        /,
        *,
        name: str | None = None,
        max_attempts: int = 1,
        backoff: Duration = "1s",
        multiplier: float = 2.0,
        max_backoff: Duration = "5m",
        jitter: bool = True,
        retry_on: tuple[str, ...] = (),
        timeout: Duration | None = None,
    ) -> Any:
        """Make a function a step: its result is recorded once and given back ever after.

        `max_attempts` counts all attempts. The rest before another one is drawn from zero to `backoff` ×
        `multiplier`^(attempt - 1), at most `max_backoff`. `timeout` bounds one attempt. `retry_on` names the
        error types that are retried, by class name; empty means all. A plain function runs in a thread.
        Example: `@app.step(max_attempts=3, timeout="30s")`.
        """
        policy = RetryPolicy(
            max_attempts=max_attempts,
            backoff=parse_duration(backoff),
            multiplier=multiplier,
            max_backoff=parse_duration(max_backoff),
            jitter=jitter,
            on=tuple(retry_on),
        )
        limit = None if timeout is None else parse_duration(timeout)
        decorator = StepDecorator(self, name, policy, limit)
        return decorator if fn is None else decorator(fn)

    @overload
    def workflow(self, fn: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...
    @overload
    def workflow(
        self, /, *, name: str | None = None, version: str = "1"
    ) -> Callable[[Callable[P, Awaitable[R]]], Workflow[P, R]]: ...
    def workflow(self, fn: Any = None, /, *, name: str | None = None, version: str = "1") -> Any:
        """Make an async function a workflow. A new `version` keeps unfinished executions off new code.

        Example: `@app.workflow(version="2")`.
        """

        def decorate(function: Callable[..., Awaitable[Any]]) -> Workflow[Any, Any]:
            made: Workflow[Any, Any] = Workflow(
                function, name=name or function.__name__, version=version, starter=self
            )
            if made.name in self.workflows:
                raise InvalidDefinition(f"two workflows of this app are named {made.name!r}")
            self.workflows[made.name] = made
            return made

        return decorate if fn is None else decorate(fn)

    def add_step(self, step: Step[Any, Any]) -> None:
        """Note a step by its name; two functions of one name would share their results."""
        known = self.steps.get(step.name)
        if known is not None and known.fn is not step.fn:
            raise InvalidDefinition(f"two steps of this app are named {step.name!r}", fix="give one a name=…")
        self.steps[step.name] = step

    # Life.

    async def open(self) -> None:
        """Connect, migrate the schema unless that is switched off, and register this process. Safe twice."""
        if self._launcher is not None:
            return
        config = self._url if isinstance(self._url, Config) else config_for(self._url)
        migrations = config.storage.migrations
        migrate = migrations.enabled and migrations.auto_run
        store = build_store(config, create=True)
        await store.open(migrate=migrate)
        launcher = Launcher(
            store, load=self._load, find=self._find, lease=config.worker.lease, observer=self._observer
        )
        try:
            await launcher.open()
        except BaseException:
            await store.close()
            raise
        self._store, self._launcher = store, launcher

    async def close(self) -> None:
        """Hand back what runs and disconnect. Safe twice."""
        launcher, store = self._launcher, self._store
        self._launcher = self._store = None
        try:
            if launcher is not None:
                await launcher.close()
        finally:
            if store is not None:
                await store.close()

    async def __aenter__(self) -> App:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def store(self) -> Store:
        """The open store; `NoApp` while the app is closed."""
        if self._store is None:
            raise NoApp("the app is not open")
        return self._store

    # Executions.

    async def start_workflow(
        self, workflow: Workflow[Any, Any], args: Any, kwargs: Any, options: StartOptions
    ) -> Handle[Any]:
        """See `Workflow.start`."""
        launcher = self._launcher
        if launcher is None:
            raise closed_app(workflow.name)
        origin = Origin(id=options.id, tags=options.tags, queue=options.queue)
        input = workflow.signature.encode(args, kwargs)
        # A copy that carries options is another object, and its program would be made again.
        program = program_of(self.workflows[workflow.name])
        started = await launcher.start(program, input, origin)
        if isinstance(started, Execution) and not started.status.is_final:
            started = await self._adopt(launcher, started)
        return Handle(launcher, started, workflow.signature.result)

    @staticmethod
    async def _adopt(launcher: Launcher, execution: Execution) -> Running | Execution:
        """Go on with what a dead process left behind; leave it to a live one."""
        try:
            return await launcher.resume(execution)
        except (OwnedElsewhere, NotResumable):
            return execution

    async def handle(self, id: str) -> Handle[Any]:
        """A handle on an execution that exists; `ExecutionNotFound` otherwise."""
        if self._launcher is None:
            raise NoApp("the app is not open")
        execution = await self.store.get_execution(id)
        workflow = self.workflows.get(execution.workflow)
        found = self._launcher.running(execution.key) or execution
        return Handle(self._launcher, found, workflow.signature.result if workflow else Any)

    async def resume(self, id: str) -> Handle[Any]:
        """Go on with an unfinished execution that no live process runs, and return its handle."""
        if self._launcher is None:
            raise NoApp("the app is not open")
        execution = await self.store.get_execution(id)
        running = await self._launcher.resume(execution)
        workflow = self.workflows.get(execution.workflow)
        return Handle(self._launcher, running, workflow.signature.result if workflow else Any)

    def _load(self, definition: StoredDefinition) -> Program:
        workflow = self.workflows.get(definition.name)
        if workflow is not None and program_of(workflow).definition.hash == definition.hash:
            return program_of(workflow)
        from holdfast.programs import load_program

        return load_program(definition)

    async def _find(self, name: str, version: str | None, asking: StoredDefinition | None) -> Program:
        workflow = self.workflows.get(name)
        if workflow is not None and version in (None, workflow.version):
            return program_of(workflow)
        from holdfast.programs import find_program

        return await find_program(self.store, name, version, asking)


class StepDecorator:
    """What `@app.step(…)` with options returns."""

    def __init__(self, app: App, name: str | None, retry: RetryPolicy, timeout: timedelta | None) -> None:
        self._app = app
        self._name = name
        self._retry = retry
        self._timeout = timeout

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        """Decorate `fn`."""
        name = self._name or fn.__name__
        step: Step[Any, Any] = Step(fn, name=name, retry=self._retry, timeout=self._timeout)
        self._app.add_step(step)
        return step


class Handle(Generic[R]):
    """An execution that was started or found; `await handle` gives its result.

    Awaiting raises `ExecutionFailed` or `ExecutionCancelled` when it ended so. Giving up the
    wait leaves the execution running.
    """

    def __init__(self, launcher: Launcher, started: Running | Execution, annotation: Any) -> None:
        self.id = started.id
        self.key = started.key
        self._launcher = launcher
        self._started = started
        self._annotation = annotation

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def outcome(self) -> Outcome:
        """How it ended, or that it waits; never raises for a failed execution."""
        started = self._started
        if isinstance(started, Running):
            return await asyncio.shield(started.task)
        if not started.status.is_final:
            await wait_for_end(self._launcher.store, self.id)
        return await read_outcome(self._launcher.store, self.key)

    async def result(self) -> R:
        """The result, decoded as the workflow's annotation says."""
        outcome = await self.outcome()
        if outcome.status is ExecutionStatus.COMPLETED:
            decoded: R = codec.decode(outcome.output or b"", self._annotation, what=f"output of {self.id}")
            return decoded
        raise end_error(self.id, outcome)

    async def status(self) -> ExecutionStatus:
        """Where it stands now."""
        return (await self._launcher.store.get_execution(self.id)).status

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop; it ends as cancelled once its steps have been stopped."""
        execution = await self._launcher.store.get_execution(self.id)
        await self._launcher.cancel(execution, reason=reason)


def end_error(id: str, outcome: Outcome) -> HoldfastError:
    """The error that tells of an execution that did not complete."""
    error = outcome.error or {}
    if outcome.status is ExecutionStatus.CANCELLED:
        return ExecutionCancelled(f"execution {id} was cancelled: {error.get('message', '')}", id=id)
    step = f" in step {error['step']}" if error.get("step") else ""
    return ExecutionFailed(
        f"execution {id} failed{step}: {error.get('type')}: {error.get('message')}", id=id, error=error
    )

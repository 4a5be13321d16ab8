"""An app: the steps and workflows of a program, and the process that runs them.

Nothing opens at import. `async with app:` connects the store, brings its schema up to date, and registers the
process as an owner of executions; leaving the block hands back what still runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from holdfast.config.schema import Config
from holdfast.durations import Duration, parse_duration
from holdfast.errors import (
    InvalidDefinition,
    NoApp,
    NotResumable,
    OwnedElsewhere,
)
from holdfast.fleet.control import unpaused
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.starts import Origin, Running
from holdfast.handles import Handle
from holdfast.records.executions import Execution
from holdfast.records.workflows import StoredDefinition
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for
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
        self.versions: dict[tuple[str, str], Workflow[Any, Any]] = {}
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
        cpu: bool = False,
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
        cpu: bool = False,
    ) -> Any:
        """Make a function a step: its result is recorded once and given back ever after.

        `max_attempts` counts all attempts. The rest before another one is drawn from zero to `backoff` ×
        `multiplier`^(attempt - 1), at most `max_backoff`. `timeout` bounds one attempt. `retry_on` names the
        error types that are retried, by class name; empty means all. A plain function runs in a thread, which
        can not be stopped; with `cpu` it runs in another process, which is killed when the attempt times out
        or is cancelled, and the time it waits for a free process counts. It has to stand at the top level of
        a module, and sees neither the state nor the context variables of this process.
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
        decorator = StepDecorator(self, name, policy, limit, cpu=cpu)
        return decorator if fn is None else decorator(fn)

    @overload
    def workflow(self, fn: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...
    @overload
    def workflow(
        self, /, *, name: str | None = None, version: str = "1"
    ) -> Callable[[Callable[P, Awaitable[R]]], Workflow[P, R]]: ...
    def workflow(self, fn: Any = None, /, *, name: str | None = None, version: str = "1") -> Any:
        """Make an async function a workflow. A new `version` keeps unfinished executions off new code.

        An app may offer several versions of one name, one function each: the last one declared starts what
        is started by name, and each goes on with the executions that began with it.
        Example: `@app.workflow(version="2")`.
        """

        def decorate(function: Callable[..., Awaitable[Any]]) -> Workflow[Any, Any]:
            made: Workflow[Any, Any] = Workflow(
                function, name=name or function.__name__, version=version, starter=self
            )
            if (made.name, made.version) in self.versions:
                raise InvalidDefinition(
                    f"two workflows of this app are version {made.version!r} of {made.name!r}",
                    fix="give the new one another version, or another name",
                )
            self.versions[made.name, made.version] = self.workflows[made.name] = made
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
        input = workflow.signature.encode(args, kwargs)
        started = await launcher.start(self._program(workflow), input, _origin(options))
        if isinstance(started, Execution) and not started.status.is_final:
            started = await self._adopt(launcher, started)
        return Handle(launcher, started, workflow.signature.result)

    async def enqueue_workflow(
        self, workflow: Workflow[Any, Any], args: Any, kwargs: Any, options: StartOptions
    ) -> Handle[Any]:
        """See `Workflow.enqueue`."""
        launcher = self._launcher
        if launcher is None:
            raise closed_app(workflow.name)
        input = workflow.signature.encode(args, kwargs)
        left = await launcher.enqueue(self._program(workflow), input, _origin(options))
        return Handle(launcher, left, workflow.signature.result)

    def _program(self, workflow: Workflow[Any, Any]) -> Program:
        # A copy that carries options is another object, and its program would be made again.
        return program_of(self.versions[workflow.name, workflow.version])

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
        workflow = self.versions.get((execution.workflow, execution.version))
        found = self._launcher.running(execution.key) or execution
        return Handle(self._launcher, found, workflow.signature.result if workflow else Any)

    async def resume(self, id: str) -> Handle[Any]:
        """Go on with an unfinished execution that no live process runs, and return its handle.

        A paused one is no longer so.
        """
        if self._launcher is None:
            raise NoApp("the app is not open")
        execution = await unpaused(self.store, id)
        running = await self._launcher.resume(execution)
        workflow = self.versions.get((execution.workflow, execution.version))
        return Handle(self._launcher, running, workflow.signature.result if workflow else Any)

    async def signal(
        self,
        name: str,
        payload: object = None,
        *,
        to: str | None = None,
        message_id: str | None = None,
    ) -> None:
        """Send a signal to whichever execution waits longest for `name`; kept when nobody does yet.

        `to` is the id of the only execution that may have it. Sending again with a `message_id` of the last
        week does nothing. A model is sent as its own type; the waiting side names the one it wants. Example::

            await app.signal("approve:42", {"ok": True})
        """
        from holdfast.fleet.signals import send

        target = None if to is None else await self.store.get_execution(to)
        kind = type(payload) if payload is not None else Any
        await send(self.store, name, payload, annotation=kind, to=target, message_id=message_id)

    def _load(self, definition: StoredDefinition) -> Program:
        workflow = self.versions.get((definition.name, definition.version))
        if workflow is not None and program_of(workflow).definition.hash == definition.hash:
            return program_of(workflow)
        from holdfast.programs import load_program

        return load_program(definition)

    async def _find(self, name: str, version: str | None, asking: StoredDefinition | None) -> Program:
        from holdfast.programs import find_program, wanted_version

        wanted = await wanted_version(self.store, name, version, asking)
        workflow = self.workflows.get(name) if wanted is None else self.versions.get((name, wanted))
        return program_of(workflow) if workflow else await find_program(self.store, name, version, asking)


def _origin(options: StartOptions) -> Origin:
    return Origin(
        id=options.id, queue=options.queue or "default", class_=options.class_, priority=options.priority,
        delay=options.delay, limit_key=options.limit_key, dedupe_key=options.dedupe_key, tags=options.tags,
        metadata=options.metadata, context=options.context,
    )  # fmt: skip


class StepDecorator:
    """What `@app.step(…)` with options returns."""

    def __init__(
        self, app: App, name: str | None, retry: RetryPolicy, timeout: timedelta | None, *, cpu: bool
    ) -> None:
        self._app = app
        self._name = name
        self._retry = retry
        self._timeout = timeout
        self._cpu = cpu

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        """Decorate `fn`."""
        name = self._name or fn.__name__
        step: Step[Any, Any] = Step(fn, name=name, retry=self._retry, timeout=self._timeout, cpu=self._cpu)
        self._app.add_step(step)
        return step

"""Steps and workflows as decorated functions.

`@app.step` makes a function whose result is remembered; `@app.workflow` one that calls such functions and can
be killed anywhere. The decorated objects keep the types of what they wrap: a step called in a workflow gives
an awaitable of its result, and options (`options(id=…)`) are kept apart from arguments so that both are
checked.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar

from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument, NoApp, UnsuitableForProcess
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.workflows import branches
from holdfast.workflows.branches import Branch
from holdfast.workflows.descent import ChildCall
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.signatures import Signature

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")
THREADS_MAX = 64
"""Bodies of plain functions that run at once in a process."""


class Step(Generic[P, R_co]):
    """A function whose result is recorded when it is called in a workflow; elsewhere it just runs.

    `fn` is the bare function.
    """

    def __init__(
        self,
        fn: Callable[P, Awaitable[R_co]] | Callable[P, R_co],
        *,
        name: str,
        retry: RetryPolicy,
        timeout: timedelta | None,
        cpu: bool = False,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name!r} can not name a step", fix="use letters, digits, . - and _")
        if cpu:
            _check_findable(fn, name)
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.retry = retry
        self.timeout = timeout
        self.signature = Signature(fn, name)
        self._is_async = inspect.iscoroutinefunction(fn)
        self._needs_process = cpu

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, object, R_co]:
        """Call it: in a workflow the recorded result, or a run that is recorded; elsewhere simply a run."""
        branch = branches.current.get()
        if branch is None:
            return self._once(args, kwargs)
        path, ordinal = branch.call(self.name)
        return branch.runtime.perform(
            path,
            ordinal,
            self.signature.encode(args, kwargs),
            lambda _attempt: self._once(args, kwargs),
            self.retry,
            self.timeout,
            self.signature.result,
        )

    async def _once(self, args: Any, kwargs: Any) -> R_co:
        # A step calls no steps: what happens inside belongs to its one result.
        token = branches.current.set(None)
        try:
            if self._is_async:
                return await self.fn(*args, **kwargs)  # type: ignore[misc, no-any-return]
            if self._needs_process:
                return await self._in_process(args, kwargs)
            call = functools.partial(copy_context().run, self.fn, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(_threads(), call)  # type: ignore[arg-type]
        finally:
            branches.current.reset(token)

    async def _in_process(self, args: Any, kwargs: Any) -> R_co:
        from holdfast.workflows.process_pool import pool

        encoded = self.signature.encode(args, kwargs)
        answer = await pool().call(self.name, self.fn, encoded)
        result: R_co = codec.decode(answer, self.signature.result, what=self.name)
        return result

    def __repr__(self) -> str:
        return f"<step {self.name}>"


def _check_findable(fn: Callable[..., Any], name: str) -> None:
    if inspect.iscoroutinefunction(fn):
        raise UnsuitableForProcess(f"step {name} is asynchronous; only plain functions run in a process")
    if "<" in fn.__qualname__:
        raise UnsuitableForProcess(f"step {name} is made inside a function, where no other process finds it")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Threads of their own: bodies that hang must not keep a closing store from its threads."""
    return ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="holdfast-step")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What may be said about one execution beside its arguments."""

    id: str | None = None
    queue: str | None = None
    class_: str = "io"
    priority: int = 0
    delay: timedelta | None = None
    limit_key: str | None = None
    dedupe_key: str | None = None
    tags: tuple[str, ...] = ()
    on_parent_end: Literal["cancel", "detach"] = "cancel"
    metadata: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None


class Handle(Protocol[R_co]):
    """A started execution; awaiting it gives its result."""

    @property
    def id(self) -> str:
        """The execution's id."""
        ...

    def __await__(self) -> Generator[Any, None, R_co]: ...

    async def result(self) -> R_co:
        """Wait for the end; raises `ExecutionFailed` or `ExecutionCancelled` when it ended so."""
        ...

    async def status(self) -> ExecutionStatus:
        """Where it stands now."""
        ...

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop for good."""
        ...


class Starter(Protocol):
    """What a workflow needs of its app."""

    workflows: dict[str, Workflow[Any, Any]]
    """By name; of several versions the one declared last."""
    versions: dict[tuple[str, str], Workflow[Any, Any]]
    """By name and version."""

    async def start_workflow(
        self, workflow: Workflow[Any, Any], args: Any, kwargs: Any, options: StartOptions
    ) -> Any:
        """Start an execution in this process and return its handle."""
        ...

    async def enqueue_workflow(
        self, workflow: Workflow[Any, Any], args: Any, kwargs: Any, options: StartOptions
    ) -> Any:
        """Leave an execution to the workers of its queue and return its handle."""
        ...


class Workflow(Generic[P, R]):
    """A function that calls steps and can be stopped and continued anywhere.

    Called in another workflow it is a child execution; called elsewhere it starts an execution of its app and
    waits for the result. `fn` is the bare function.
    """

    def __init__(self, fn: Callable[P, Awaitable[R]], *, name: str, version: str, starter: Starter) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name!r} can not name a workflow", fix="use letters, digits, . - and _")
        if not inspect.iscoroutinefunction(fn):
            raise InvalidArgument(f"workflow {name} is not an async function", fix="write `async def`")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.version = version
        self.signature = Signature(fn, name)
        self._starter = starter
        self._options = StartOptions()

    def options(  # noqa: PLR0913 - each is one fact about a start
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        class_: Literal["cpu", "io", "gpu"] = "io",
        priority: int = 0,
        delay: Duration | None = None,
        limit_key: str | None = None,
        dedupe_key: str | None = None,
        tags: tuple[str, ...] | list[str] = (),
        on_parent_end: Literal["cancel", "detach"] = "cancel",
        metadata: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Workflow[P, R]:
        """The same workflow with options for the execution it starts; the same id is the same execution.

        For workers: `queue` and `class_` say which of them, a higher `priority` goes first, `delay` is the
        least time before it begins. `limit_key` is what the queue's limit per key counts by. While an
        execution with the same `dedupe_key` has not ended in the queue, that one is meant. A child with
        `on_parent_end="detach"` goes on when the workflow that started it ends. `metadata` and `context` are
        what the caller wants to find with the execution, as JSON objects of 64 KiB at most. Example::

            await report.options(queue="slow", limit_key=customer).enqueue(customer)
        """
        other = copy.copy(self)
        other._options = StartOptions(
            id=id, queue=queue, class_=class_, priority=priority,
            delay=None if delay is None else parse_duration(delay),
            limit_key=limit_key, dedupe_key=dedupe_key, tags=tuple(tags), on_parent_end=on_parent_end,
            metadata=metadata, context=context,
        )  # fmt: skip
        return other

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution and return its handle; awaiting the handle gives the result.

        It runs in this process, unless its options name a queue: then its workers run it, as with `enqueue`.
        In a workflow it starts a child, the same one in every run, without waiting for its end.
        Raises `NoApp` when the app is not open, `IdTaken` when the id belongs to another input.
        """
        branch = branches.current.get()
        if branch is not None:
            path, ordinal = branch.call(self.name)
            call = self._as_child(args, kwargs)
            id_ = await branch.runtime.start_child(path, ordinal, call)
            return StartedChild(self, path, id_, call)
        if self._options.queue is not None:
            return await self.enqueue(*args, **kwargs)
        handle: Handle[R] = await self._starter.start_workflow(self, args, kwargs, self._options)
        return handle

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Leave an execution to the workers of its queue (`default` unless options name one).

        It is on disk when this returns. Nothing of it runs in this process; awaiting the handle waits for its
        end. Raises what `start` raises.
        """
        handle: Handle[R] = await self._starter.enqueue_workflow(self, args, kwargs, self._options)
        return handle

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it: as a child in a workflow, else as an execution of the app, to its result."""
        branch = branches.current.get()
        if branch is not None:
            path, ordinal = branch.call(self.name)
            call = self._as_child(args, kwargs)
            result: R = await branch.runtime.descend(path, ordinal, call, self.signature.result)
            return result
        handle = await self.start(*args, **kwargs)
        awaited: R = await handle
        return awaited

    def _as_child(self, args: Any, kwargs: Any) -> ChildCall:
        options = self._options
        if options.id is not None or options.dedupe_key is not None:
            raise InvalidArgument(
                f"workflow {self.name} is a child here; its id follows from its parent",
                fix="leave out id and dedupe_key",
            )
        # Only an older version is asked for by its number: the newest may be one that another app has.
        version = None if self.beside(None) in (None, self) else self.version
        return ChildCall(
            workflow=self.name,
            version=version,
            input=self.signature.encode(args, kwargs),
            queue=options.queue,
            class_=options.class_,
            priority=options.priority or None,
            delay=options.delay,
            limit_key=options.limit_key,
            tags=options.tags,
            metadata=options.metadata,
            context=options.context,
            detach=options.on_parent_end == "detach",
        )

    def beside(self, version: str | None) -> Workflow[Any, Any] | None:
        """That version of this workflow in its app, None meaning the one declared last; None without it."""
        if version is None:
            return self._starter.workflows.get(self.name)
        return self._starter.versions.get((self.name, version))

    async def execute(self, runtime: ExecutionRuntime, input: bytes) -> R:
        """Run the function's body on `runtime` with an execution's input."""
        args, kwargs = self.signature.decode(input)
        work: Any = self.fn(*args, **kwargs)
        result: R = await branches.within(Branch(runtime, "", None), work)
        return result

    def __repr__(self) -> str:
        return f"<workflow {self.name} {self.version}>"


class StartedChild(Generic[R]):
    """A child that its workflow has started and not awaited. Awaiting it gives its result, durably."""

    def __init__(self, workflow: Workflow[Any, R], path: str, id: str, call: ChildCall) -> None:
        self.id = id
        self._workflow = workflow
        self._path = path
        self._call = call

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self) -> R:
        """Wait for its end; `StepFailed` when it failed."""
        branch = branches.current.get()
        if branch is None:
            raise InvalidArgument(f"child {self.id} is awaited outside of the workflow that started it")
        name = self._workflow.name
        path, ordinal = branch.call(f"{name}.result")
        annotation = self._workflow.signature.result
        result: R = await branch.runtime.descend(path, ordinal, self._call, annotation, child=self._path)
        return result

    async def status(self) -> ExecutionStatus:
        """Refused: what it says changes from run to run."""
        raise self._refused("its status")

    async def cancel(self, reason: str = "") -> None:
        """Refused, as above; a step may do it through the app."""
        raise self._refused("cancelling it")

    def _refused(self, what: str) -> InvalidArgument:
        return InvalidArgument(
            f"{what} is not part of a workflow: child {self.id}", fix="ask in a step: `await app.handle(id)`"
        )


async def sleep(duration: Duration) -> None:
    """Wait, durably in a workflow: the deadline is fixed by the first run, however often it restarts.

    Outside a workflow it is an ordinary sleep. Example::

        await hf.sleep("30d")
    """
    length = parse_duration(duration)
    branch = branches.current.get()
    if branch is None:
        await asyncio.sleep(length.total_seconds())
        return
    path, ordinal = branch.call("sleep")
    await branch.runtime.sleep(path, "sleep", length, ordinal=ordinal)


def closed_app(name: str) -> NoApp:
    """The error for a workflow whose app is not open."""
    return NoApp(f"workflow {name} was called, but its app is not open")

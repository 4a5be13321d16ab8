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
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, get_type_hints

from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument, InvalidInput, NoApp
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.workflows import branches
from holdfast.workflows.branches import Branch
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.retry import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")
THREADS_MAX = 64
"""Bodies of plain functions that run at once in a process."""
_PLAIN = (int, str, float, bool, type(None), Any)


class Signature:
    """How the arguments of one function become bytes and come back as its annotated types."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._signature = inspect.signature(function)
        self._name = name
        self._function = function
        parameters = self._signature.parameters.values()
        self._names = tuple(self._signature.parameters)
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._by_name = all(parameter.kind in by_name for parameter in parameters)
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._required = tuple(
            parameter.name
            for parameter in parameters
            if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
        )

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self._function)
        except NameError as error:
            raise InvalidArgument(
                f"the annotations of {self._name} name something unknown ({error.name})",
                fix="define or import the type at module level",
            ) from error

    @functools.cached_property
    def result(self) -> Any:
        """The annotation of the result; Any without one."""
        return self._hints.get("return", Any)

    def check(self) -> None:
        """Raise `UnsupportedValue` for annotations that values can not be decoded to."""
        for parameter, annotation in self._hints.items():
            codec.check_annotation(annotation, what=f"{self._name}.{parameter}")

    @functools.cached_property
    def annotation(self) -> Any:
        """The arguments as one type: a mapping from parameter to what its annotation says."""
        make: Any = TypedDict  # mypy only knows the form with a literal
        return make(f"{self._name} arguments", {name: self._hint(name) for name in self._names}, total=False)

    def _hint(self, name: str) -> Any:
        hint = self._hints.get(name, Any)
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return list[hint]  # type: ignore[valid-type]
        return dict[str, hint] if kind is inspect.Parameter.VAR_KEYWORD else hint  # type: ignore[valid-type]

    @functools.cached_property
    def _is_plain(self) -> bool:
        """Whether plain positional values can be encoded without looking at any annotation."""
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return all(
            parameter.kind is positional and any(self._hint(name) is plain for plain in _PLAIN)
            for name, parameter in self._signature.parameters.items()
        )

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments of one call by parameter, so that a call by keyword is the same call."""
        if not kwargs and self._is_plain and len(args) <= len(self._names):
            return codec.encode(dict(zip(self._names, args, strict=False)), what=self._name)
        return codec.encode(self.bind(args, kwargs), self.annotation, what=self._name)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter; `InvalidArgument` when they do not fit."""
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArgument(f"{self._name}: {error}") from error
        return {
            name: list(value) if isinstance(value, tuple) and self._is_variadic(name) else value
            for name, value in bound.items()
        }

    def _is_variadic(self, name: str) -> bool:
        return self._signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments from an execution's input, decoded as the parameters say.

        Raises `InvalidInput` for a missing or unknown parameter.
        """
        given = codec.decode(data, what=f"input of {self._name}")
        unknown = set(given).difference(self._names) if isinstance(given, dict) else {"input"}
        missing = [name for name in self._required if name not in given] if not unknown else []
        if unknown or missing:
            accepts = ", ".join(self._names) or "no input"
            cause = f"no parameter {min(unknown)!r}" if unknown else f"nothing for {missing[0]!r}"
            raise InvalidInput(
                f"{self._name} {'has' if unknown else 'was given'} {cause}", fix=f"pass {accepts}"
            )
        values = codec.decode(data, self.annotation, what=f"input of {self._name}")
        if self._by_name:
            return (), values
        bound = inspect.BoundArguments(self._signature, OrderedDict())
        for name in self._names:
            if name in values:
                value = values[name]
                bound.arguments[name] = tuple(value) if self._is_variadic(name) else value
        return bound.args, bound.kwargs

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """Names and annotations, in order."""
        return [(name, self._hints.get(name, Any)) for name in self._names]


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
    ) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name!r} can not name a step", fix="use letters, digits, . - and _")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.retry = retry
        self.timeout = timeout
        self.signature = Signature(fn, name)
        self._is_async = inspect.iscoroutinefunction(fn)

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
            call = functools.partial(copy_context().run, self.fn, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(_threads(), call)  # type: ignore[arg-type]
        finally:
            branches.current.reset(token)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Threads of their own: bodies that hang must not keep a closing store from its threads."""
    return ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="holdfast-step")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What may be said about one execution beside its arguments."""

    id: str | None = None
    queue: str = "default"
    tags: tuple[str, ...] = ()


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

    async def start_workflow(
        self, workflow: Workflow[Any, Any], args: Any, kwargs: Any, options: StartOptions
    ) -> Any:
        """Start an execution in this process and return its handle."""
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

    def options(
        self, *, id: str | None = None, queue: str | None = None, tags: tuple[str, ...] | list[str] = ()
    ) -> Workflow[P, R]:
        """The same workflow with options for the execution it starts; the same id is the same execution."""
        other = copy.copy(self)
        other._options = StartOptions(id=id, queue=queue or "default", tags=tuple(tags))
        return other

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution and return its handle; awaiting the handle gives the result.

        Raises `NoApp` when the app is not open, `IdTaken` when the id belongs to another input.
        """
        if branches.current.get() is not None:
            raise InvalidArgument(
                f"workflow {self.name} was started inside a workflow: every run would start it again",
                fix=f"call it: `await {self.name}(…)`, or several with gather; that makes it a child",
            )
        handle: Handle[R] = await self._starter.start_workflow(self, args, kwargs, self._options)
        return handle

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it: as a child in a workflow, else as an execution of the app, to its result."""
        branch = branches.current.get()
        if branch is not None:
            if self._options != StartOptions():
                raise InvalidArgument(
                    f"workflow {self.name} is a child here; its id and queue follow from its parent",
                    fix="call it without options",
                )
            path, ordinal = branch.call(self.name)
            result: R = await branch.runtime.descend(
                path, ordinal, self.name, None, self.signature.encode(args, kwargs), self.signature.result
            )
            return result
        handle = await self._starter.start_workflow(self, args, kwargs, self._options)
        awaited: R = await handle
        return awaited

    async def execute(self, runtime: ExecutionRuntime, input: bytes) -> R:
        """Run the function's body on `runtime` with an execution's input."""
        args, kwargs = self.signature.decode(input)
        work: Any = self.fn(*args, **kwargs)
        result: R = await branches.within(Branch(runtime, "", None), work)
        return result

    def __repr__(self) -> str:
        return f"<workflow {self.name} {self.version}>"


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

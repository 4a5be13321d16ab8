"""Identity of steps in a Python workflow: branch path, name and occurrence, fixed when the step is called.

A branch is a line of code that runs in order: the workflow itself, a block inside `scope`, one part of a
`gather`. Within a branch the calls are counted, so the same code gives the same identities in every run,
whatever order the results came in. A call from a task that no branch belongs to has no stable place in that
order and is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, overload

from holdfast.errors import HoldfastError, InvalidArgument, UnnamedBranch
from holdfast.workflows.engine import ExecutionRuntime

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class Branch:
    """One line of calls: its path, and how often each name was called in it."""

    __slots__ = ("above", "calls", "names", "patches", "path", "runtime", "task")

    def __init__(
        self,
        runtime: ExecutionRuntime,
        path: str,
        task: asyncio.Task[Any] | None,
        above: Branch | None = None,
    ) -> None:
        self.runtime = runtime
        self.path = path
        self.task = task
        self.above = above  # the branch that stands still while this one runs; None when both move
        self.patches: dict[str, bool] | None = None  # what `patched` has answered here
        self.calls = 0
        self.names: dict[str, int] = {}

    def call(self, name: str) -> tuple[str, int]:
        """The identity of the next call of `name`: its path, and its number in this branch.

        Raises `UnnamedBranch` from a foreign task and `DefinitionChanged` when the recorded history has
        another name under this number.
        """
        task = asyncio.current_task()
        if task is not self.task:
            raise UnnamedBranch(f"{name!r} was called from a task that gather or scope did not start")
        if self.runtime.fatal is not None or (task is not None and task.cancelling()):
            self.runtime.refuse_while_stopping()
        self.calls += 1
        count = self.names.get(name, 0) + 1
        self.names[name] = count
        own = name if count == 1 else f"{name}#{count}"
        runtime = self.runtime
        if runtime.history.last_seq:
            try:
                runtime.history.check_call(self.path, self.calls, own)
            except HoldfastError as error:
                runtime.stop(error)
        return (f"{self.path}/{own}" if self.path else own), self.calls

    def inner(self, name: str) -> str:
        """The path of a branch inside this one."""
        count = self.names.get(f"{name}/", 0) + 1
        self.names[f"{name}/"] = count
        own = name if count == 1 else f"{name}#{count}"
        return f"{self.path}/{own}" if self.path else own


current: ContextVar[Branch | None] = ContextVar("holdfast_branch", default=None)


@asynccontextmanager
async def scope(name: str) -> AsyncIterator[None]:
    """Name a block of a workflow, so that the steps inside keep their identity when code around it changes.

    Outside a workflow it does nothing. Example::

        async with hf.scope("notify"):
            await email(receipt)
    """
    branch = current.get()
    if branch is None:
        yield
        return
    if not name or "/" in name or "#" in name:
        raise InvalidArgument(f"{name!r} can not name a scope", fix="use letters, digits, - and _")
    task = asyncio.current_task()
    if task is not branch.task and f"{name}/" in branch.names:
        # Which of two tasks came first is chance, and the second would be named by it.
        raise UnnamedBranch(f"another task opened scope {name!r} already", fix="give each its own name")
    inner = Branch(branch.runtime, branch.inner(name), task, branch if task is branch.task else None)
    token = current.set(inner)
    try:
        yield
    finally:
        current.reset(token)


@overload
async def gather(a: Awaitable[T1], b: Awaitable[T2], /) -> tuple[T1, T2]: ...
@overload
async def gather(a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], /
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather(*calls: Awaitable[T]) -> tuple[T, ...]: ...
async def gather(*calls: Awaitable[Any]) -> tuple[Any, ...]:
    """Await several steps or coroutines at once; the results in the order of the arguments.

    Every part is a branch of its own, named by its place. All parts run to their end, also when one fails,
    so that a second run finds the same results; then the failure that comes first in the order is raised.
    What ends the whole run, such as `DefinitionChanged`, ends the other parts at once.
    Works outside a workflow too. Example::

        pages = await hf.gather(*[fetch(url) for url in urls])
    """
    branch = current.get()
    tasks = [asyncio.ensure_future(call) if branch is None else _start(branch, call) for call in calls]
    waiting = set(tasks)
    try:
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            if branch is not None and branch.runtime.fatal is not None:
                await _stop(waiting)
                raise branch.runtime.fatal
    except asyncio.CancelledError:
        await _stop(tasks)
        raise
    failures = [task.exception() for task in tasks]  # all are looked at, or asyncio complains of the others
    for failure in failures:
        if failure is not None:
            raise failure
    return tuple(task.result() for task in tasks)


async def _stop(tasks: Collection[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _start(branch: Branch, call: Awaitable[Any]) -> asyncio.Future[Any]:
    inner = Branch(branch.runtime, branch.inner("gather"), None, branch)

    async def run() -> Any:
        inner.task = asyncio.current_task()
        current.set(inner)
        return await call

    return asyncio.get_running_loop().create_task(run())


async def within(branch: Branch, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` as the body of `branch`, in the current task."""
    branch.task = asyncio.current_task()
    token = current.set(branch)
    try:
        return await work
    finally:
        current.reset(token)

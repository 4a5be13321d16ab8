"""The same request to every execution that fits a filter.

Each is dealt with by itself, in the transaction of its own verb: a filter is no transaction, and what ends
or is changed by others meanwhile is refused alone. Pages go from the newest to the oldest by key, so each
execution is looked at once, also when what is done to it makes it fit no more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from holdfast.errors import HoldfastError, NoFilter
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.store.query import parse_query
from holdfast.store.store import Store

PAGE = 100
_ENDED = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Verb:
    """What may be asked of executions, and in which statuses that makes sense."""

    name: str
    done: str
    applies_to: frozenset[ExecutionStatus]

    def narrowed(self, query: str | Sequence[str]) -> list[str]:
        """`query` and the statuses in which the verb applies. Raises `NoFilter` for an empty one."""
        words = [query] if isinstance(query, str) else list(query)
        if not parse_query(words):
            raise NoFilter(f"{self.name} of all executions there are needs a filter", where="--where")
        return words + [f"-status:{status}" for status in ExecutionStatus if status not in self.applies_to]


CANCEL = Verb("cancel", "cancelled", frozenset(ExecutionStatus) - frozenset(_ENDED))
PAUSE = Verb("pause", "paused", CANCEL.applies_to - {ExecutionStatus.PAUSED})
RESUME = Verb("resume", "resumed", frozenset({ExecutionStatus.PAUSED}))
RETRY = Verb("retry", "retried", frozenset({ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}))


async def count(store: Store, verb: Verb, query: str | Sequence[str]) -> int:
    """How many executions `verb` would be asked of."""
    return await store.count_executions(verb.narrowed(query))


async def each(
    store: Store,
    verb: Verb,
    query: str | Sequence[str],
    act: Callable[[Execution], Awaitable[str]],
    *,
    page: int = PAGE,
) -> AsyncGenerator[tuple[Execution, str | HoldfastError]]:
    """Have `act` deal with every execution that fits: what it gave, or why it refused that one."""
    words, before = verb.narrowed(query), None
    while True:
        found: list[Execution] = await store.list_executions(words, before=before, limit=page)
        for execution in found:
            yield execution, await attempt(act, execution)
        if len(found) < page:
            return
        before = ExecutionKey(found[-1].key)


async def attempt(act: Callable[[Execution], Awaitable[str]], execution: Execution) -> str | HoldfastError:
    """What `act` gives for one execution, or why it is refused. What stops all of them is raised."""
    try:
        return await act(execution)
    except HoldfastError as error:
        if error.exit_code == _UNREACHABLE:
            raise
        return error


_UNREACHABLE = 5

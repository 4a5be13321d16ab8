"""Agents: processes outside of the fleet that carry out tasks.

async with hf.Agent("postgresql://…", "ana-1", capabilities=["research"]) as agent:
    await agent.run(research)            # research(task) -> result
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any

from holdfast.durations import Duration, parse_duration
from holdfast.errors import HoldfastError, InvalidArgument, RetryLater, TaskTaken
from holdfast.fleet import tasks
from holdfast.records.tasks import AgentStatus, Task
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.workflows.failures import describe

_RENEWALS_PER_LEASE = 3
_BYTES_MAX = 255
BEAT_S = 15.0
"""How often an agent gives a sign of life."""


class Agent:
    """One agent of a store. `capabilities` are claimed in their order; `poll` is the rest between two looks.

    Registering the same id again is the same agent: the newest facts about it count.
    """

    def __init__(
        self,
        store: Store,
        id: str,
        *,
        capabilities: Sequence[str],
        role: str | None = None,
        type: str | None = None,
        metadata: dict[str, Any] | None = None,
        poll: Duration = "2s",
    ) -> None:
        check_facts(id, capabilities, role, type)
        self._store = store
        self.id = id
        self.capabilities = tuple(capabilities)
        # As the repository spells lists: MariaDB compares the spelling.
        listed = json.dumps(list(capabilities), ensure_ascii=False)
        self._facts = (role, type, listed, codec.to_json(dict(metadata or {}), what="metadata"))
        self._poll_s = parse_duration(poll).total_seconds()
        self._beating: asyncio.Task[None] | None = None
        self._busy = 0

    async def __aenter__(self) -> Agent:
        await self._store.driver.fetch("agents.register", self._store.tenant, self.id, *self._facts)
        self._beating = asyncio.get_running_loop().create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        with suppress(HoldfastError):  # others see by the heartbeat that it is gone
            await self._say(AgentStatus.OFFLINE)

    async def claim(self, wait: Duration | None = None) -> Task | None:
        """The next task for this agent; None when none comes within `wait` (None: for ever).

        The claim is on disk when this returns. Hold it with `working`, or renew it with `tasks.renew`: after
        the task's lease without a sign it goes to somebody else.
        """
        loop = asyncio.get_running_loop()
        deadline = None if wait is None else loop.time() + parse_duration(wait).total_seconds()
        while True:
            await tasks.return_lapsed(self._store)
            task = await tasks.claim(self._store, self.id, self.capabilities)
            if task is not None:
                return task
            rest_s = self._poll_s * random.uniform(0.75, 1.25)
            if deadline is not None:
                rest_s = min(rest_s, deadline - loop.time())
                if rest_s <= 0:
                    return None
            await self._store.hints.wait(rest_s)

    @asynccontextmanager
    async def working(self, task: Task) -> AsyncIterator[None]:
        """Renew the lease of `task` while the block runs; a lost claim cancels the block with `TaskTaken`."""
        worker, lost = asyncio.current_task(), False

        async def renew() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(task.lease.total_seconds() / _RENEWALS_PER_LEASE)
                with suppress(RetryLater):
                    if not await tasks.renew(self._store, task):
                        lost = True
                        if worker is not None:
                            worker.cancel()
                        return

        renewing = asyncio.get_running_loop().create_task(renew())
        self._busy += 1
        try:
            yield
        except asyncio.CancelledError:
            if not lost or worker is None:
                raise
            worker.uncancel()
            raise TaskTaken(f"task {task.id!r} was given to another agent", id=task.id) from None
        finally:
            self._busy -= 1
            renewing.cancel()
            await asyncio.wait([renewing])

    async def run(self, handler: Callable[[Task], Awaitable[object]]) -> None:
        """Claim tasks one after the other until cancelled. An exception of `handler` fails that attempt."""
        while True:
            task = await self.claim()
            if task is None:
                continue
            with suppress(TaskTaken):
                await self._carry_out(task, handler)

    async def _carry_out(self, task: Task, handler: Callable[[Task], Awaitable[object]]) -> None:
        try:
            async with self.working(task):
                result = await handler(task)
        except asyncio.CancelledError:
            leaving = {"type": "AgentLeft", "message": "the agent stopped before it was done"}
            await asyncio.shield(tasks.fail(self._store, task, leaving))
            raise
        except TaskTaken:
            raise
        except Exception as error:
            await tasks.fail(self._store, task, describe(error))
        else:
            await tasks.complete(self._store, task, result)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(HoldfastError):
                await self._say(AgentStatus.BUSY if self._busy else AgentStatus.IDLE)

    async def _say(self, status: AgentStatus) -> None:
        await self._store.driver.fetch("agents.beat", self._store.tenant, self.id, status)


def check_facts(id: str, capabilities: Sequence[str], role: str | None, type: str | None) -> None:
    """Refuse what can not be said of an agent. Raises `InvalidArgument`."""
    if isinstance(capabilities, str) or not capabilities:
        raise InvalidArgument(f"agent {id[:60]!r} has no list of capabilities", fix="name what it can do")
    texts = [("an id", id), *(("a capability", each) for each in capabilities)]
    texts += [(what, text) for what, text in (("a role", role), ("a type", type)) if text is not None]
    for what, text in texts:
        if not (text.isprintable() and 1 <= len(text.encode()) <= _BYTES_MAX):
            raise InvalidArgument(
                f"{text[:60]!r} can not be {what}", fix=f"use 1 to {_BYTES_MAX} bytes of printable text"
            )

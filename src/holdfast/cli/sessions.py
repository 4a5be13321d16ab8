"""One command that runs executions: opens the store, starts or goes on, watches, and hands back when stopped.

Ctrl-C and SIGTERM cancel the work; closing the orchestrator then hands every execution back, so that the next
`run` or `resume` goes on at once. A second Ctrl-C does not wait for that. An execution whose owner is dead
but whose lease has not run out is waited for, with the seconds left on the screen.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from holdfast.cli.endings import INTERRUPTED, Ending, ending_of
from holdfast.cli.views.lines import View
from holdfast.errors import OwnedElsewhere
from holdfast.fleet.ends import read_outcome
from holdfast.fleet.starts import Running
from holdfast.records.executions import Execution
from holdfast.workflows.progress import Happening, Progress

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.config.schema import Config
    from holdfast.orchestrator import Orchestrator
    from holdfast.workflows.driving import Outcome

T = TypeVar("T")
_GROWN_S = 2.0
"""A lease that has this much more left than a second ago was renewed: its owner lives."""


@dataclass(slots=True)
class Tally:
    """Counts bodies that were run although their result was on disk; it ought to stay at nought."""

    repeated: int = 0
    _ended: set[tuple[str, str]] = field(default_factory=set)

    def note(self, progress: Progress) -> None:
        """One happening."""
        if progress.kind is Happening.STEP_RUNNING:
            self.repeated += (progress.execution, progress.path) in self._ended
        elif progress.kind in (Happening.STEP_REPLAYED, Happening.STEP_COMPLETED):
            self._ended.add((progress.execution, progress.path))


class Session:
    """Runs executions in this process and tells `view` about them, each for `limit` at most."""

    def __init__(self, orchestrator: Orchestrator, view: View, limit: timedelta | None) -> None:
        self.orchestrator = orchestrator
        self._view = view
        self._limit_s = float("inf") if limit is None else limit.total_seconds()
        self.started: dict[str, str] = {}

    async def follow(
        self,
        claim: Callable[[], Awaitable[Running | Execution]],
        *,
        steal: bool,
        workflow: str,
        tally: Tally,
    ) -> Ending:
        """Get hold of an execution with `claim` and stay with it to its end, or until the time is up."""
        began = time.monotonic()
        running = await claim() if steal else await self._patiently(claim, began + self._limit_s)
        already = isinstance(running, Execution) and running.status.is_final
        self.started[running.id] = workflow
        outcome = await self._outcome(running, began + self._limit_s)
        if outcome is None:
            seconds = time.monotonic() - began
            return Ending(id=running.id, workflow=workflow, status=INTERRUPTED, seconds=seconds)
        return ending_of(
            running.id,
            workflow,
            outcome,
            seconds=time.monotonic() - began,
            repeated=tally.repeated,
            already=already,
        )

    async def _outcome(self, running: Running | Execution, deadline: float) -> Outcome | None:
        """How it ended; None when it was handed back at the deadline."""
        left_s = max(deadline - time.monotonic(), 0.0)
        limit = asyncio.timeout(left_s if math.isfinite(left_s) else None)
        try:
            async with limit:
                return await self.orchestrator.outcome(running)
        except TimeoutError:
            if not limit.expired():
                raise
            # The end may have been in the middle of being written.
            store = self.orchestrator.store
            current = await store.execution_by_key(running.key)
            return await read_outcome(store, running.key) if current and current.status.is_final else None

    async def _patiently(
        self, claim: Callable[[], Awaitable[Running | Execution]], deadline: float
    ) -> Running | Execution:
        left_before: float | None = None
        while True:
            try:
                running = await claim()
            except OwnedElsewhere as error:
                left_s = float(error.details.get("lease_left_s", 0))
                renewed = left_before is not None and left_s > left_before + _GROWN_S
                if error.details.get("alive") or renewed or time.monotonic() >= deadline:
                    raise
                left_before = left_s
                self._view.remark(
                    f"  {error.details.get('id')} belongs to an owner that may be dead; "
                    f"taking over in {left_s:.0f} s at most (--steal does not wait)"
                )
                await asyncio.sleep(min(1.0, left_s + 0.05, max(deadline - time.monotonic(), 0.0)))
            else:
                self._view.remark("")
                return running


def orchestrator_for(
    config: Config, *, view: View, wait: timedelta, tally: Tally, migrate: bool = True
) -> Orchestrator:
    """An orchestrator as configured. With `migrate` it makes the store, unless that is switched off."""
    from holdfast.orchestrator import Orchestrator

    def observe(progress: Progress) -> None:
        tally.note(progress)
        view.note(progress)

    migrations = config.storage.migrations
    # A store in memory is always new: without migrating it there would be nothing to run on.
    migrate = config.storage.type == "memory" or (migrate and migrations.enabled and migrations.auto_run)
    return Orchestrator(config, events=observe, lease=config.worker.lease, wait=wait, migrate=migrate)


def resume_command(id: str, invocation: Invocation) -> str:
    """The command that goes on with `id`, with the flags it needs to find it."""
    from holdfast.config.secrets import redact_url

    words = ["holdfast resume", id]
    flags = invocation.flags
    if flags.storage is not None and redact_url(flags.storage) == flags.storage:
        words += ["--storage", flags.storage]
    for name, value in (("--config", flags.config), ("--profile", flags.profile)):
        if value is not None:
            words += [name, value]
    return " ".join(words)

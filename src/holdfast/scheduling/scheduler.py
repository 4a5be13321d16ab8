"""The scheduler: looks what is due by the store's clock, and gives each of those schedules its turn.

    look ──▶ turns (settle, plan, start what is due) ──▶ maintenance, in the background
     ▲                                                              │
     └──────── the next time, a hint, or the tick ◀─────────────────┘

Any number of them may run: a turn is one transaction that one of them gets. A look is one statement that
writes nothing. Where hints of other processes arrive an idle scheduler looks every fifth tick, else every
tick; after a hint at the next tick.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from holdfast.domain.firings import ASKED_AGAIN, MAINTENANCE_LIMIT, Turn, end_maintenance, turn
from holdfast.errors import HoldfastError, NotResumable, RetryLater, SchemaTooNew
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.ownership import Registration
from holdfast.scheduling.maintenance import duty, keep_duties
from holdfast.store.backoff import Backoff
from holdfast.store.hints import HintState
from holdfast.store.store import Store

LOOK_MAX = 500
"""So many schedules have their turn after one look; the others after the next."""
TICKS_WHEN_HEARING = 5
_MICROSECOND = timedelta(microseconds=1)
_AFTER_ERROR = Backoff(first_s=0.1, most_s=5.0)
_SET_ASIDE_S = 30.0
_DUTY_LIMIT_S = (MAINTENANCE_LIMIT - timedelta(minutes=1)).total_seconds()
_LAST_MOMENT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """How a scheduler works. A change of a schedule is acted on within one `tick`."""

    tick: timedelta = timedelta(seconds=1)


@dataclass(slots=True)
class SchedulerReport:
    """What a scheduler did until it left, and why it left: `stopped`, or `schema`."""

    started: int = 0
    queued: int = 0
    skipped: int = 0
    failed: int = 0
    maintained: int = 0
    reason: str = "stopped"


@dataclass(slots=True)
class Look:
    """What there is to do: the schedules that have their turn, and the time to the next one."""

    schedules: list[str] = field(default_factory=list)
    due_in_s: float = float("inf")
    schema: int = 0
    is_full: bool = False


class Scheduler:
    """Fires the schedules of a store. `run` returns after `stop`, or when the schema is newer.

    `tell` gets a line for people when there is something to say, such as a workflow that is missing.
    """

    def __init__(
        self,
        store: Store,
        options: SchedulerOptions | None = None,
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._tick_s = (options or SchedulerOptions()).tick.total_seconds()
        self._tell = tell or (lambda line: None)
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._duties: set[asyncio.Task[None]] = set()
        self._aside: dict[str, float] = {}
        self._known_schema = 0
        self.report = SchedulerReport()

    def stop(self) -> None:
        """Begin nothing more, and leave soon. Safe from a signal handler of the loop."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> SchedulerReport:
        """Fire until stopped. Errors of the store are waited out, with rests that grow."""
        hints = asyncio.get_running_loop().create_task(self._hear())
        failures = 0
        is_ready = False
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    if not is_ready:
                        await keep_duties(self._store)
                        is_ready = True
                    due_in_s = await self.round()
                except SchemaTooNew:
                    self.report.reason = "schema"
                    break
                except HoldfastError as error:
                    failures += 1
                    if not isinstance(error, RetryLater) and failures == 1:
                        self._tell(f"schedules are not looked after: {error.cause}")
                    await self._rest(_AFTER_ERROR.rest_s(failures))
                    continue
                failures = 0
                await self._wait(began, due_in_s)
        finally:
            hints.cancel()
            await asyncio.wait([hints])
            await self._leave()
        return self.report

    async def once(self) -> SchedulerReport:
        """Do what there is to do now, and no more. Raises what the store raises."""
        await keep_duties(self._store)
        while await self.round() <= 0 and not self._stopping.is_set():
            continue
        if self._duties:
            await asyncio.wait(self._duties)
        return self.report

    async def round(self) -> float:
        """Look, and give every schedule its turn that needs one; the seconds to the next time.

        Raises `RetryLater` when the store can not be reached and `SchemaTooNew`.
        """
        self._wake.clear()
        look = await self._look()
        if look.schema > self._known_schema:
            await self._store.check_schema()
            self._known_schema = look.schema
        random.shuffle(look.schedules)  # so that several who look at once meet less
        more = look.is_full
        for id in look.schedules:
            if self._stopping.is_set():
                break
            more |= await self._turn(id)
        return 0.0 if more else look.due_in_s

    async def _look(self) -> Look:
        rows = await self._store.driver.fetch(
            "schedules.look", self._store.tenant, LOOK_MAX, ASKED_AGAIN // _MICROSECOND,
            MAINTENANCE_LIMIT // _MICROSECOND,
        )  # fmt: skip
        found, now = Look(), time.monotonic()
        self._aside = {id: until for id, until in self._aside.items() if until > now}
        due: dict[str, None] = {}
        for kind, id, number in rows:
            if kind == "schema":
                found.schema = int(number)
            elif kind == "due" and number > 0:
                found.due_in_s = min(found.due_in_s, number / 1_000_000)
            elif id not in self._aside:
                due[id] = None
        found.is_full = len(due) >= LOOK_MAX
        found.schedules = list(due)
        return found

    async def _turn(self, id: str) -> bool:
        """One schedule's turn; whether there is more of it to do at once."""
        try:
            did = await turn(self._store, id)
            await self._follow_up(id, did)
        except (RetryLater, SchemaTooNew):
            raise
        except HoldfastError as error:
            # What is wrong with one must not hold up the others.
            self._aside[id] = time.monotonic() + _SET_ASIDE_S
            self._tell(f"schedule {id} is left alone for {_SET_ASIDE_S:.0f} s: {error.cause}")
            return False
        return did.more

    async def _follow_up(self, id: str, did: Turn) -> None:
        """What comes after the commit. If this process dies first, another one's turn does it later."""
        report = self.report
        report.started += did.started
        report.queued += did.queued
        report.skipped += did.skipped
        report.failed += did.failed
        if did.problem is not None:
            self._tell(f"schedule {id}: {did.problem}")
        for queue in did.queues:
            self._store.hints.ready(queue)
        for firing, name in did.maintain:
            task = asyncio.get_running_loop().create_task(self._maintain(id, firing, name))
            self._duties.add(task)
            task.add_done_callback(self._duties.discard)
        for execution in did.cancel:
            found = await self._store.find_execution(execution)
            if found is not None and not found.status.is_final:
                with suppress(NotResumable):  # it has ended meanwhile
                    why = f"schedule {id} starts it anew"
                    await cancel(self._store, Registration(self._store), found, reason=why)

    async def _maintain(self, schedule: str, firing: str, name: str) -> None:
        """Do a duty that this process has taken on. What is not written down is done again by somebody."""
        problem: str | None = None
        try:
            async with asyncio.timeout(_DUTY_LIMIT_S):
                await duty(name).work(self._store)
        except TimeoutError:
            problem = f"it took longer than {_DUTY_LIMIT_S:.0f} s"
        except HoldfastError as error:
            problem = f"{error.code}: {error.cause}"
        if problem is not None:
            self._tell(f"maintenance {name} failed; see: holdfast schedules firings {schedule}")
        self.report.maintained += problem is None
        with suppress(RetryLater):
            await end_maintenance(self._store, firing, schedule, problem)

    # Waiting and leaving.

    async def _hear(self) -> None:
        while True:
            await self._store.hints.wait(60.0)
            self._wake.set()

    async def _wait(self, began: float, due_in_s: float) -> None:
        """Until the next time, or a hint once a tick has passed; at the latest when its patience ends."""
        due = time.monotonic() + due_in_s
        if await self._rest(min(began + self._tick_s, due) - time.monotonic()):
            return
        ticks = TICKS_WHEN_HEARING if self._store.hints.state is HintState.LISTENING else 1
        if not self._wake.is_set():
            patience = min(began + ticks * self._tick_s, due) - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, patience)):
                    await self._wake.wait()

    async def _rest(self, seconds: float) -> bool:
        """Rest for so long; whether it is to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _leave(self) -> None:
        """Let maintenance end for a moment; what is cut off is done again by another process."""
        if self._duties:
            _, left = await asyncio.wait(self._duties, timeout=_LAST_MOMENT_S)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

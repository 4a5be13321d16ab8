"""A worker: claims executions of its queues, runs them, and does its share of what somebody has to do.

    look ──▶ sweep (timers that are due, dead owners, versions offered here) ──▶ claim ──▶ run
     ▲                                                                                      │
     └────────── a hint, a free place, the next timer, or the poll's time ◀─────────────────┘

Polling is always on; a hint only makes the next look come earlier. A worker that is full does not look. When
it drains it claims nothing more, waits for what it runs, and hands back the rest. A worker that meets a newer
schema drains as well: it can finish what it has, and must not take up what it may not understand.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from holdfast.errors import (
    DamagedData,
    HoldfastError,
    RetryLater,
    SchemaTooNew,
)
from holdfast.fleet import sweeps, tasks
from holdfast.fleet.at_hand import CodeAtHand
from holdfast.fleet.claims import BY_AGE_EVERY, Claimed, Lane, Look, claim_lane, peek, put_back, read_claimed
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.leaving import Rounds
from holdfast.fleet.limits import claim_limited, promote, repair, scopes_of, settings
from holdfast.fleet.service import Code, WorkerOptions, WorkerReport
from holdfast.fleet.taking import MAX_RECOVERIES, dead_letter
from holdfast.records.executions import BootId, ExecutionKey, ExecutionStatus
from holdfast.records.queues import QueueSettings
from holdfast.store.backoff import Backoff
from holdfast.store.drivers.base import Row
from holdfast.workflows.driving import Outcome, Parent

WAITS_HERE_S = 1.0
"""A worker sits through rests this short; anything longer is suspended and costs no worker."""
DAMAGED = "damaged"
"""What blocks an execution whose log can not be read."""
_LANES_FRESH_S = 0.25
_UPKEEP_S = 30.0
_REST_S = 0.005
_COHORTS = 3
"""One part of what runs begins, one ends, and one is being claimed."""
_AFTER_ERROR = Backoff(first_s=0.1, most_s=5.0)
_SUSPICIOUS_S = 30.0
_IN_VAIN_S = (0.01, 0.5)


class Worker:
    """Runs executions that others enqueued. `run` returns after `drain`, or when the schema is newer.

    `tell` gets a line for people when there is something to say, such as code that is missing.
    """

    def __init__(
        self,
        launcher: Launcher,
        options: WorkerOptions,
        code: Code,
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._launcher = launcher
        self._store = launcher.store
        self._options = options
        self._code = CodeAtHand(launcher.store, code)
        self._tell = tell or (lambda line: None)
        launcher.serves_queues = True
        self._lanes: list[Lane] = []
        self._limited: dict[str, QueueSettings] = {}
        self._looked_at = 0.0
        self._next_due = float("inf")
        self._after_tenant = ""
        self._turn: Counter[Lane] = Counter()
        self._recovery = sweeps.Recovery(self._store, launcher.registration.folder)
        self._strays = sweeps.Strays(self._store)
        self._rounds = Rounds(self._store, launcher.registration)
        self._suspicious_until = 0.0
        self._kept_up_at = -_UPKEEP_S  # the first round does what is done rarely
        self._known_schema = 0
        self._usual: Lane | None = None  # where work came from at last
        self._described: BootId | None = None
        self._left = False
        self._in_vain = 0  # hints in a row that brought nothing
        self._is_hinted = False
        self._promoting: set[asyncio.Task[None]] = set()
        self._running: set[ExecutionKey] = set()
        self._wake = asyncio.Event()
        self._draining = asyncio.Event()
        self.report = WorkerReport()

    @property
    def running(self) -> int:
        """Executions that this worker runs now."""
        return len(self._running)

    def drain(self) -> None:
        """Claim nothing more, and leave when what runs has ended. Safe from a signal handler of the loop."""
        self._draining.set()
        self._wake.set()

    async def run(self) -> WorkerReport:
        """Serve until drained. Errors of the store are waited out, with rests that grow."""
        hints = asyncio.get_running_loop().create_task(self._hear())
        failures = 0
        try:
            while not self._draining.is_set():
                try:
                    took = await self._round()
                except SchemaTooNew:
                    self.report.reason = "schema"
                    self.drain()
                    break
                except RetryLater:
                    # What was claimed may be ours without our knowing: the reply was lost.
                    self._suspicious_until = time.monotonic() + _SUSPICIOUS_S
                    failures += 1
                    await self._rest(_AFTER_ERROR.rest_s(failures))
                    continue
                failures = 0
                if took:
                    self._in_vain = 0
                else:
                    await self._rest(self._patience_s())
        finally:
            hints.cancel()
            await asyncio.wait([hints])
        await self._leave()
        return self.report

    # One round.

    async def _round(self) -> bool:
        """Look, sweep and claim; whether anything was claimed."""
        self._wake.clear()
        await self._launcher.runs.registered()
        if self._described != self._launcher.registration.boot:
            await self._describe("active")
        free = await self._free_places()
        if free <= 0:
            return False
        if self._is_hinted:
            self._is_hinted = False
            if await self._claim_at_once(free):
                return True
        now = time.monotonic()
        fresh = self._lanes and now - self._looked_at < _LANES_FRESH_S and now < self._next_due
        if not fresh:
            await self._look()
        return await self._claim(free)

    async def _claim_at_once(self, free: int) -> bool:
        """After a hint that follows one that brought work: look where that came from before anywhere else."""
        lane = self._usual
        if lane is None or self._in_vain > 1 or lane.queue in self._limited:
            return False
        boot = self._launcher.registration.boot
        if rows := await self._take(lane, free):
            await self._start(lane, boot, rows)
        return bool(rows)

    async def _free_places(self) -> int:
        """How many to claim. With few free, a moment is given for more to become so: a claim costs the same.

        Never all at once: what is claimed together ends together when it is short, and then this process and
        the database would wait for each other in turn.
        """
        concurrency = self._options.concurrency
        if self._running and concurrency - len(self._running) < concurrency // 4:
            await asyncio.sleep(_REST_S)
        return min(concurrency - len(self._running), -(-concurrency // _COHORTS))

    async def _look(self) -> None:
        """One statement; more only when it tells of something to sweep."""
        look = await self._peek()
        if await self._sweep(look):
            look = await self._peek()
        self._limited = await settings(self._store) if look.limited else {}
        self._lanes = look.lanes
        self._after_tenant = look.goes_on_after
        self._looked_at = time.monotonic()
        due_in_s = look.due_in_s
        self._next_due = float("inf") if due_in_s is None else self._looked_at + max(due_in_s, 0.0)

    async def _peek(self) -> Look:
        options = self._options
        return await peek(
            self._store, options.queues, options.classes, self._code.marks, after=self._after_tenant
        )

    async def _sweep(self, look: Look) -> int:
        """What somebody has to do for all; how many executions became ready by it."""
        if look.schema > self._known_schema:
            await self._store.check_schema()  # raises when it is newer than this version understands
            self._known_schema = look.schema
        woken = 0
        if look.due_in_s is not None and look.due_in_s <= 0:
            woken += await sweeps.wake_due(self._store)
        woken += await sweeps.unblock(self._store, look.offered)
        woken += await self._recovery.run(look.dead)
        now = time.monotonic()
        if now - self._kept_up_at > _UPKEEP_S:
            self._kept_up_at = now
            woken += await self._recovery.run(await sweeps.orphans(self._store))
            woken += await repair(self._store)
            await self._rounds.look()
            await tasks.return_lapsed(self._store)
            woken += await sweeps.unblock(self._store, await self._code.found_again())
            self._suspicious_until = now + _SUSPICIOUS_S / 10
        if now < self._suspicious_until:
            woken += await self._strays.put_back(self._launcher.registration.boot, self._launcher.runs.keys())
        return woken

    async def _claim(self, free: int) -> bool:
        """Take from every lane its share of the free places, in turn; whether anything came."""
        random.shuffle(self._lanes)
        lanes, taken_at_all = self._lanes, False
        empty: set[Lane] = set()
        for place, lane in enumerate(lanes):
            if self._draining.is_set():
                break  # it was asked to leave during this round
            share = -(-free // (len(lanes) - place))
            boot = self._launcher.registration.boot
            rows = await self._take(lane, share)
            if len(rows) < share:
                empty.add(lane)
            if rows:
                taken_at_all = True
                free -= len(rows)
                await self._start(lane, boot, rows)
            if free <= 0:
                break
        self._lanes = [lane for lane in lanes if lane not in empty]
        return taken_at_all

    async def _take(self, lane: Lane, limit: int) -> list[Row]:
        boot = self._launcher.registration.boot
        refused = list(self._code.missing)
        self._usual = lane
        self._turn[lane] += 1
        by_age = self._turn[lane] % BY_AGE_EVERY == 0
        if (queue := self._limited.get(lane.queue)) is None:
            claim = functools.partial(
                claim_lane, self._store, boot, lane, schema=self._known_schema, refused=refused
            )
            oldest = await claim(limit, by_age=True) if by_age else []
            return oldest if len(oldest) == limit else oldest + await claim(limit - len(oldest))
        return await claim_limited(
            self._store, boot, queue, lane.class_, lane.tenant, limit, refused=refused, by_age=by_age
        )

    # What was claimed.

    async def _start(self, lane: Lane, boot: BootId, rows: Sequence[Row]) -> None:
        """Run what was claimed as `boot`. Nothing, when that one's lease is over: a sweep gives it back."""
        limited = lane.queue in self._limited
        found = await read_claimed(self._store, rows, limited=limited)
        if self._launcher.registration.lapsed or self._launcher.registration.boot != boot:
            return
        for claimed in found:
            if self._draining.is_set():  # it was asked to leave while the claim was under way
                await put_back(self._store, boot, claimed.holding)
                continue
            self.report.claimed += 1
            program = await self._code.program(claimed)
            if isinstance(program, HoldfastError):
                await self._refuse(claimed, program)
                continue
            if claimed.recoveries > MAX_RECOVERIES:
                parent = Parent(claimed.parent, claimed.parent_path or "") if claimed.parent else None
                error = await dead_letter(self._store, claimed.holding, claimed.recoveries, parent)
                self.report.failed += 1
                self._tell(_failure(claimed, {"type": type(error).__name__}))
                continue
            try:
                self._launcher.go_on(claimed, program, functools.partial(self._ended, claimed))
            except DamagedData as error:
                await self._set_aside(claimed, error)
                continue
            self._running.add(claimed.holding.key)

    async def _set_aside(self, claimed: Claimed, error: DamagedData) -> None:
        """An execution whose log can not be read waits for a person; the others go on."""
        self._tell(f"execution {claimed.holding.id} is damaged and set aside: {error.cause}")
        await put_back(self._store, self._launcher.registration.boot, claimed.holding, DAMAGED)

    async def _refuse(self, claimed: Claimed, error: HoldfastError) -> None:
        """Put an execution aside until a worker comes that has its code."""
        mark, name = self._code.lacks(claimed)
        if name is not None:
            self.report.refused.append(name)
            self._tell(f"no code for {name}: {error.cause}")
            await self._describe("active")
        await put_back(self._store, self._launcher.registration.boot, claimed.holding, mark)

    def _ended(self, claimed: Claimed, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(claimed.holding.key)
        self._wake.set()
        if self._left:
            return  # counted already
        if claimed.holding.limited:
            self._promote_soon(claimed)
        if task.cancelled() or task.exception() is not None:
            self.report.handed_back += 1
            return
        status = task.result().status
        if status is ExecutionStatus.COMPLETED:
            self.report.completed += 1
        elif status is ExecutionStatus.FAILED:
            self.report.failed += 1
            self._tell(_failure(claimed, task.result().error or {}))
        elif status is ExecutionStatus.CANCELLED:
            self.report.cancelled += 1
        else:
            self.report.suspended += 1

    def _promote_soon(self, claimed: Claimed) -> None:
        """A place became free: let in those that waited for it. If this process dies first, `repair` does."""
        scopes = scopes_of(claimed.holding.tenant, claimed.limit_key)

        async def let_in() -> None:
            with suppress(HoldfastError):
                await promote(self._store, claimed.queue, scopes)
            self._store.hints.ready(claimed.queue)

        task = asyncio.get_running_loop().create_task(let_in())
        self._promoting.add(task)
        task.add_done_callback(self._promoting.discard)

    # Waiting and leaving.

    async def _hear(self) -> None:
        """Pass hints on: something may have become ready, or a message may have come for what runs here."""
        while True:
            await self._store.hints.wait(60.0)
            # A hint wakes every idle worker, and one of them gets the work: those that came in vain come
            # later.
            await asyncio.sleep(random.uniform(0, min(_IN_VAIN_S[1], _IN_VAIN_S[0] * self._in_vain**2)))
            self._in_vain += 1
            self._is_hinted = True
            self._looked_at = 0.0
            self._wake.set()
            self._launcher.runs.hasten()

    def _patience_s(self) -> float:
        """How long nothing needs to be looked at, unless something wakes this worker."""
        if len(self._running) >= self._options.concurrency:
            return _UPKEEP_S
        poll_s = self._options.poll.total_seconds() * random.uniform(0.75, 1.25)
        return max(0.0, min(poll_s, self._next_due - time.monotonic()))

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _leave(self) -> None:
        """Wait for what runs, at most the time to drain; the launcher hands back the rest when it closes."""
        with suppress(HoldfastError):
            await self._describe("draining")
        deadline = time.monotonic() + self._options.drain_timeout.total_seconds()
        while self._running and time.monotonic() < deadline:
            self._wake.clear()
            await self._rest(deadline - time.monotonic())
        self._left = True
        self.report.handed_back += len(self._running)

    async def _describe(self, state: str) -> None:
        """Say in the worker's row what it serves, for people and for `doctor`."""
        options = self._options
        self._described = boot = self._launcher.registration.boot
        details: dict[str, Any] = {
            "queues": options.queues,
            "classes": options.classes,
            "concurrency": options.concurrency,
            "state": state,
            "offers": [offer.removeprefix("version:") for offer in self._code.marks],
            "refused": sorted(self._code.missing.values()),
        }
        await self._store.driver.fetch("fleet.describe", boot, json.dumps(details))


def _failure(claimed: Claimed, error: Mapping[str, Any]) -> str:
    """One line for the log. The error's own text may hold anything, and stays in the store."""
    step = error.get("step")
    place = f" at {step}" if step else ""
    id_ = claimed.holding.id
    kind = error.get("type", "unknown")
    return f"{claimed.workflow} {id_} failed{place} ({kind}); see: holdfast executions show {id_}"

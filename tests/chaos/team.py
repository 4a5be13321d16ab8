"""A team of workers under fire: starting executions, breaking things on a schedule, waiting for the end.

Everything that is done is noted in the same history that the workers write.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.errors import RetryLater, UnknownOutcome
from holdfast.fleet import signals
from holdfast.fleet.queues import Queues
from holdfast.store.store import Store
from holdfast.stores import open_store
from tests.chaos.judge import Record, judge, read_record
from tests.chaos.nursery import Nursery, NurseryClosed
from tests.chaos.program import FAR, History, Settings, build, signal_for
from tests.crash.harness import Tally, Wrong

POLL_S = 2.0
DRAIN_S = 60.0
_LEASES_PATIENT = 30


@dataclass(slots=True)
class Member:
    """One place in the team and the process that fills it now."""

    place: int
    pid: int
    stopped: bool = False


class Team:
    """Workers that are replaced at once when they die, for as long as the team stands."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        tally: Tally,
        nurseries: list[Nursery],
        urls: tuple[str, ...] = (),
    ) -> None:
        self.settings = settings
        self._urls = urls or (settings.url,)
        self.tally = tally
        self.history = History(settings.history)
        self.members: list[Member] = []
        self._folder = folder
        self._nurseries = nurseries
        self._keepers: list[asyncio.Task[None]] = []
        self._born = 0
        self._closing = False

    async def fill(self, size: int, **changes: Any) -> list[Member]:
        """Start `size` more workers; `changes` hold for these processes, not for those that replace them."""
        settings = replace(self.settings, **changes)
        added = []
        for _ in range(size):
            place = len(self.members)
            member = Member(place, await self._spawn(place, settings))
            self.members.append(member)
            added.append(member)
            self._keepers.append(asyncio.create_task(self._keep(member)))
        return added

    async def at_work(self) -> None:
        """Wait until every process of the team is registered: what breaks before only keeps it from that."""
        deadline = time.monotonic() + DRAIN_S
        while {member.pid for member in self.members} - {line["pid"] for line in self.history.read("boots")}:
            if time.monotonic() > deadline:
                raise Wrong("the workers do not start")
            await asyncio.sleep(0.05)

    def nursery_of(self, place: int) -> Nursery:
        return self._nurseries[place % len(self._nurseries)]

    async def _spawn(self, place: int, settings: Settings) -> int:
        self._born += 1
        runtime = self._folder / f"runtime-{self._born}" if not settings.locks else self._folder / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        nursery = self.nursery_of(place)
        settings = replace(settings, url=self._urls[place % len(self._urls)])
        pid = await nursery.spawn(f"worker-{place}", settings.row(), XDG_RUNTIME_DIR=str(runtime))
        self.history.note("spawned", worker=pid, place=place)
        return pid

    async def _keep(self, member: Member) -> None:
        """A supervisor: whenever the process of this place ends, there is another one."""
        while True:
            status = await self.nursery_of(member.place).ends[member.pid]
            self.history.note("died", worker=member.pid, status=status)
            if self._closing:
                return
            if status != -signal.SIGKILL:
                # It could not start, since nothing answered; a supervisor does not insist without a rest.
                self.tally.add(workers_that_ended_by_themselves=1)
                await asyncio.sleep(0.3)
            member.stopped = False
            with suppress(NurseryClosed):
                member.pid = await self._spawn(member.place, self.settings)

    def is_alive(self, member: Member) -> bool:
        """Whether the process of this place has not ended, as far as is known here."""
        return not self.nursery_of(member.place).ends[member.pid].done()

    def kill(self, member: Member, number: int = signal.SIGKILL) -> bool:
        """Send a signal; what it does is noted, since the judge forgives only what was done."""
        names = {signal.SIGKILL: "killed", signal.SIGSTOP: "stopped", signal.SIGCONT: "continued"}
        # Noted first: whatever anybody sees of it comes later.
        self.history.note(names[signal.Signals(number)], worker=member.pid)
        done = self.nursery_of(member.place).signal(member.pid, number)
        member.stopped = done and number == signal.SIGSTOP
        return done

    async def kill_all(self) -> None:
        """End every process of the team and replace none."""
        self._closing = True
        for member in self.members:
            self.kill(member)
        await asyncio.wait_for(asyncio.gather(*self._keepers, return_exceptions=True), 30)

    async def close(self) -> None:
        """Ask all to leave in order, and wait until they have. Safe twice."""
        if self._closing:
            return
        self._closing = True
        for member in self.members:
            nursery = self.nursery_of(member.place)
            nursery.signal(member.pid, signal.SIGCONT)
            nursery.signal(member.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.gather(*self._keepers), 30)
        except TimeoutError:
            raise Wrong("workers do not leave when they are asked to") from None
        finally:
            for keeper in self._keepers:
                keeper.cancel()
            self.history.close()


@asynccontextmanager
async def team(
    settings: Settings,
    folder: Path,
    tally: Tally,
    size: int = 4,
    *,
    prefixes: tuple[tuple[str, ...], ...] = ((),),
    urls: tuple[str, ...] = (),
) -> AsyncIterator[Team]:
    """A team of `size` workers, spread over one nursery per prefix (a command to run the nursery under).

    `urls` are ways to the store, over which they are spread as well.
    """
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    nurseries = [Nursery(logs, prefix=prefix) for prefix in prefixes]
    for nursery in nurseries:
        await nursery.__aenter__()
    made = Team(settings, folder, tally, nurseries, urls)
    try:
        await made.fill(size)
        yield made
        await made.close()
    except Wrong as wrong:
        raise Wrong(f"{wrong}\n{nurseries[0].complaints()}".strip()) from None
    finally:
        made._closing = True
        for nursery in nurseries:
            await nursery.__aexit__()


class Client:
    """Starts executions, sends them what they wait for, and remembers what was acknowledged.

    `url` may lead through a proxy: an unknown outcome is settled by asking again under the same id.
    """

    def __init__(
        self, settings: Settings, tally: Tally, *, prefix: str = "x", signals_within_s: float | None = 3.0
    ) -> None:
        """`signals_within_s` None: the test itself sends the signals."""
        self._signals_within_s = signals_within_s
        self.patience_s = max(DRAIN_S, _LEASES_PATIENT * settings.lease_s)  # faults may last some leases
        self._app, self._workflows = build(settings, History(settings.history))
        self._history = History(settings.history)
        self._tally = tally
        self._prefix = prefix
        self._number = 0
        self._sending: set[asyncio.Task[None]] = set()
        self.ids: list[str] = []

    async def __aenter__(self) -> Client:
        await self._app.open()
        await Queues(self.store).set_limits(FAR, concurrency=8)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._sending:
            task.cancel()
        await self._app.close()

    @property
    def store(self) -> Store:
        return self._app.store

    async def start(self, chance: random.Random) -> str:
        """Start one more execution; returns when that is acknowledged."""
        self._number += 1
        id = f"{self._prefix}{self._number}"
        await self._insist(lambda: self._workflows.errand.options(id=id).enqueue(id))
        self._history.note("acknowledged", execution=id)
        self.ids.append(id)
        self._tally.add(executions_started=1)
        if self._signals_within_s is not None:
            task = asyncio.create_task(self.signal(id, chance.uniform(0.0, self._signals_within_s)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return id

    async def start_plain(self) -> str:
        """Start one more, whatever the rest of the test draws."""
        return await self.start(random.Random(self._number))

    async def poison(self, id: str) -> None:
        """Start an execution whose step kills its worker."""
        await self._insist(lambda: self._workflows.poison.options(id=id).enqueue())

    async def block(self, id: str, seconds: float) -> None:
        """Start an execution whose step blocks the event loop of its worker."""
        await self._insist(lambda: self._workflows.block.options(id=id).enqueue(seconds))

    async def signal(self, id: str, after_s: float = 0.0) -> None:
        """Send the signal that an execution waits for: sometimes before it waits, sometimes while."""
        await asyncio.sleep(after_s)
        value = f"signal:{id}"
        # The message id makes asking again harmless: whatever came of the first try, it counts once.
        await self._insist(lambda: signals.send(self.store, signal_for(id), value, message_id=id))
        self._history.note("signalled", execution=id, value=value)

    async def settled(self) -> None:
        """Wait until every signal is sent."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def _insist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return await ask()
            except UnknownOutcome:
                self._tally.add(unknown_outcomes=1)
            except RetryLater:
                self._tally.add(calls_made_again=1)
            if time.monotonic() > deadline:
                raise Wrong(f"the store could not be reached for {self.patience_s:g} s")
            await asyncio.sleep(0.05)

    async def unfinished(self) -> int:
        """How many executions have not ended, children included."""
        counts = await self._insist(self.store.counts)
        return sum(n for status, n in counts.items() if status not in ("completed", "failed", "cancelled"))

    async def keep_in_flight(self, target: int, chance: random.Random, until: asyncio.Event) -> None:
        """Start new executions whenever fewer than `target` of them are unfinished."""
        while not until.is_set():
            counts = await self._roots_unfinished()
            for _ in range(target - counts):
                await self.start(chance)
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), 0.2)

    async def _slots_held(self) -> int:
        prefix = f"{self.store.driver.schema}." if self.store.driver.schema else ""
        text = f"SELECT count(*) FROM {prefix}slots WHERE holder IS NOT NULL"
        rows = await self._insist(lambda: self.store.driver.fetch_text(text))
        return int(rows[0][0])

    async def _roots_unfinished(self) -> int:
        prefix = f"{self.store.driver.schema}." if self.store.driver.schema else ""
        text = f"SELECT count(*) FROM {prefix}executions WHERE finished_at IS NULL AND parent IS NULL"
        rows = await self._insist(lambda: self.store.driver.fetch_text(text))
        return int(rows[0][0])

    async def drain(self, patience_s: float = DRAIN_S) -> float:
        """Wait until nothing is unfinished or held; how long it took. Raises `Wrong` after `patience_s`."""
        await self.settled()
        began = time.monotonic()
        while left := await self.unfinished() or await self._slots_held():
            if time.monotonic() - began > patience_s:
                stuck = await self._stuck()
                what = f"{left} executions have not ended" if stuck else f"{left} slots are held"
                raise Wrong(f"{what} {patience_s:g} s after the last fault: {stuck}")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def _stuck(self) -> str:
        prefix = f"{self.store.driver.schema}." if self.store.driver.schema else ""
        text = (
            f"SELECT id, status, epoch, recoveries, wakes, due_at, blocked_on FROM {prefix}executions e "
            "WHERE finished_at IS NULL ORDER BY e.key LIMIT 5"
        )
        rows = await self.store.driver.fetch_text(text)
        return "; ".join(str(tuple(row)) for row in rows)


async def finish(
    client: Client, workers: Team, *, patience_s: float = DRAIN_S, watched: str | None = None
) -> Record:
    """Wait for the end of everything, have the workers leave, and judge; the record for further questions.

    What never ends is judged too: the reason is a better verdict than the waiting. `watched` is the store's
    own address where the client's leads through a proxy.
    """
    settings, tally = workers.settings, workers.tally
    history = Path(settings.history)

    async def record() -> Record:
        async with open_store(replace(settings, url=watched or settings.url).config()) as store:
            return await read_record(store, history, lease_s=settings.lease_s)

    try:
        drained_s = await client.drain(patience_s)
    except Wrong:
        await workers.kill_all()  # so that what is read fits together
        judge(await record(), finished=False)
        raise
    await workers.close()
    found = await record()
    tally.add(**judge(found), slowest_drain_ms=round(drained_s * 1000))
    return found


Fault = Callable[[Team, random.Random], Awaitable[None]]


async def storm(
    team: Team,
    faults: dict[str, tuple[float, Fault]],
    count: int,
    chance: random.Random,
    rest_s: tuple[float, float],
) -> None:
    """Inject about `count` faults, drawn by weight, with rests between; each is counted under its name."""
    names = list(faults)
    weights = [faults[name][0] for name in names]
    # Each kind once in any case, so that rare ones are exercised in a short storm too.
    drawn = [*names, *chance.choices(names, weights, k=max(0, count - len(names)))]
    chance.shuffle(drawn)
    for name in drawn:
        await asyncio.sleep(chance.uniform(*rest_s))
        await faults[name][1](team, chance)
        team.tally.add(**{name: 1})


async def kill_one(team: Team, chance: random.Random) -> None:
    """SIGKILL for one of them."""
    team.kill(chance.choice(team.members))


async def kill_an_owner(client: Client, team: Team, chance: random.Random) -> None:
    """SIGKILL for a worker that has just begun to run an execution: somebody has to take it over."""
    id = await client.start(chance)
    deadline = time.monotonic() + client.patience_s
    while time.monotonic() < deadline:
        owners = [line["pid"] for line in team.history.read("owns") if line["execution"] == id]
        for member in team.members:
            if member.pid in owners[-1:] and team.kill(member):
                return
        await asyncio.sleep(0.01)
    raise Wrong(f"{id}: nobody runs it {client.patience_s:g} s after its start")

"""The program that the chaos tests run on their workers, and what a worker notes about itself.

Everything of a run goes into one history: a file of JSON lines in memory, appended to by all processes with
one synced write per line, so that it survives any of them. `t` is the clock that all processes of the machine
share. A judge reads it afterwards beside the store.

    boots    a process registered                 owns     a process began to run an execution in an epoch
    renewed  its lease was extended               lapsed   it noticed that its lease was over
    body     a step's body began                  left     it ended, with the value it made or without
    told     the awaited step gave its value      lost     an execution was lost to another owner
    rests    the workflow asked for a timer       rested   the timer let it go on
    suspends it decided to wait for a message, and has not yet written so
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import holdfast as hf
from holdfast.config.loader import load
from holdfast.config.schema import Config
from holdfast.fleet import claims, ownership, sweeps
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.runs import Runs
from holdfast.records.executions import BootId
from holdfast.store.entries import Entry, Holding
from holdfast.store.journal import Journal
from holdfast.store.store import Store
from holdfast.workflows import branches
from holdfast.workflows.engine import ExecutionRuntime

STEPS = ("first", "flaky", "fan0", "fan1", "fan2", "plain", "merge", "last")
FAR = "far"
QUEUES = ("default", FAR)
NAP_S = 1.2


def signal_for(execution: str) -> str:
    """The name of the signal that an execution waits for."""
    return f"go-{execution}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one worker process is started with."""

    url: str
    history: str
    lease_s: float = 2.0
    locks: bool = True  # whether owners on this host know each other's death by lock files
    plant: str = "none"
    deaf: bool = False  # it hears nothing of what becomes of its work: the epoch alone has to protect
    lingers: bool = False  # between deciding to wait for a signal and writing so, it lets the signal come
    rest_s: float = 0.1  # how long a body takes at most
    queues: tuple[str, ...] = QUEUES
    concurrency: int = 40
    stop_at: str = ""  # the name of a body that stops its process
    extra: dict[str, str] = field(default_factory=dict)  # further settings, by their dotted names

    def row(self) -> dict[str, Any]:
        return asdict(self)

    def config(self) -> Config:
        flags = {"storage.url": self.url, "worker.lease": f"{round(self.lease_s * 1000)}ms"} | self.extra
        return load(environ={}, cwd=Path("/"), flags=flags).config


class History:
    """Appends lines; each is whole or not there, whatever becomes of its writer."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._pid = os.getpid()

    def note(self, kind: str, **fields: Any) -> None:
        line = {"t": time.monotonic(), "kind": kind, "pid": self._pid} | fields
        os.write(self._descriptor, (json.dumps(line) + "\n").encode())
        os.fsync(self._descriptor)

    def read(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one kind that anybody has written so far."""
        lines = Path(self._path).read_text().splitlines(keepends=True)
        noted = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line for line in noted if line["kind"] == kind]

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Body:
    """Which run of which body this is."""

    execution: str
    path: str
    attempt: int
    epoch: int


body: ContextVar[Body] = ContextVar("chaos_body")


class Workflows(NamedTuple):
    """What the app offers. `errand` goes through everything that moves an execution between processes."""

    errand: Any
    poison: Any
    block: Any


def build(settings: Settings, history: History) -> tuple[hf.App, Workflows]:  # noqa: C901 - many small functions
    """The app and its workflows."""
    app = hf.App(settings.config())

    async def make(name: str) -> str:
        if name == settings.stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)  # and goes on at once when it is let
        else:
            await asyncio.sleep(random.uniform(0, settings.rest_s))
        return f"{name}:{secrets.token_hex(8)}"

    @app.step
    async def work(name: str) -> str:
        return await make(name)

    @app.step(max_attempts=50, backoff="5ms")
    async def flaky(name: str) -> str:
        value = await make(name)
        if body.get().attempt == 1 or random.random() < 0.2:
            raise ConnectionError("this attempt fails by design")
        return value

    @app.step
    def plain(name: str) -> str:
        time.sleep(random.uniform(0, settings.rest_s))  # in a thread: nothing can stop it
        return f"{name}:{secrets.token_hex(8)}"

    async def told(step: Awaitable[str]) -> str:
        branch = branches.current.get()
        assert branch is not None
        value = await step
        history.note(
            "told", execution=branch.runtime.execution_id, epoch=branch.runtime.holding.epoch, value=value
        )
        return value

    @app.workflow
    async def pair(execution: str) -> str:
        left = await told(work("left"))
        return f"{left}+{await told(work('right'))}"

    @app.workflow
    async def hop(execution: str) -> str:
        return await told(work("far"))

    @app.workflow
    async def errand(execution: str) -> str:
        first = await told(work("first"))
        second = await told(flaky("flaky"))
        fan = await hf.gather(*[told(work(f"fan{n}")) for n in range(3)])
        third = await told(plain("plain"))
        history.note("rests", execution=execution)
        await hf.sleep(f"{round(NAP_S * 1000)}ms")
        history.note("rested", execution=execution)
        heard = await hf.wait_signal(signal_for(execution))
        inner = await pair(execution)
        far = await hop.options(queue=FAR)(execution)
        merged = await told(work("merge"))
        last = await told(work("last"))
        return " ".join((first, second, *fan, third, heard, inner, far, merged, last))

    @app.step
    async def die() -> None:
        os._exit(3)

    @app.step
    async def hog(seconds: float) -> str:
        time.sleep(seconds)  # noqa: ASYNC251 - that is what it is here for
        return f"hog:{secrets.token_hex(8)}"

    @app.workflow
    async def poison() -> None:
        await die()

    @app.workflow
    async def block(seconds: float) -> str:
        return await hog(seconds)

    return app, Workflows(errand, poison, block)


# What a worker notes about itself. The library is wrapped in this process, its files are not touched.


def observe(history: History, boot: Callable[[], bytes]) -> None:
    """Have the library's own steps noted: who owns what, which bodies run, what becomes of leases."""
    begin, perform, lose = ExecutionRuntime.__init__, ExecutionRuntime.perform, Holding.lose
    started_as = _observe_starts()

    def begin_noted(self: ExecutionRuntime, engine: Any, holding: Holding, *rest: Any, **named: Any) -> None:
        begin(self, engine, holding, *rest, **named)
        key = bytes(holding.key).hex()
        # What was started here belongs to the boot that it was started as, also when the answer came late.
        owner = started_as.get(key, boot()) if holding.epoch == 1 else boot()
        history.note("owns", execution=holding.id, epoch=holding.epoch, boot=owner.hex(), key=key)

    async def perform_noted(self: ExecutionRuntime, path: str, *rest: Any) -> Any:
        ordinal, encoded, run, *others = rest

        async def noted(attempt: int) -> Any:
            mark = Body(self.execution_id, path, attempt, self.holding.epoch)
            token = body.set(mark)
            about = asdict(mark)
            history.note("body", **about)
            value = None
            try:
                value = await run(attempt)
                return value
            finally:
                body.reset(token)
                history.note("left", **about, value=value)

        return await perform(self, path, ordinal, encoded, noted, *others)

    def lose_noted(self: Holding, cause: Any) -> None:
        first = self.lost is None
        lose(self, cause)
        if first and "does not run here any more" not in str(cause):
            history.note("lost", execution=self.id, epoch=self.epoch, why=str(cause))

    ExecutionRuntime.__init__ = begin_noted  # type: ignore[method-assign]
    ExecutionRuntime.perform = perform_noted  # type: ignore[method-assign]
    Holding.lose = lose_noted  # type: ignore[method-assign]
    _observe_leases(history)
    _observe_returns(history)


def _observe_starts() -> dict[str, bytes]:
    """The boots that executions are started as, by their keys."""
    real, started_as = Launcher._entry, {}

    async def entry(self: Launcher, *rest: Any, owner: BootId | None) -> tuple[Holding, Entry]:
        holding, made = await real(self, *rest, owner=owner)
        if owner is not None:
            started_as[bytes(holding.key).hex()] = bytes(owner)
        return holding, made

    Launcher._entry = entry  # type: ignore[method-assign]
    return started_as


def _observe_returns(history: History) -> None:
    """A run that the store failed ends without a word; its worker gives the execution back a little later."""
    real = claims.put_back

    async def put_back(store: Store, boot: BootId, holding: Holding, blocked_on: str | None = None) -> bool:
        # Noted before it is done: whoever claims next comes behind it.
        history.note("gives_back", key=bytes(holding.key).hex(), epoch=holding.epoch)
        return await real(store, boot, holding, blocked_on)

    sweeps.put_back = put_back  # type: ignore[attr-defined]


def _observe_leases(history: History) -> None:
    start, lapse = ownership.Registration.start, ownership.Registration._note_lapse

    async def start_noted(self: ownership.Registration) -> None:
        if not hasattr(self._driver, "chaos"):
            heartbeat = self._driver.heartbeat

            def noted() -> Any:
                made = heartbeat()
                if made is not None:
                    renew = made.renew

                    def renew_noted(boot: Any, lease: Any) -> bool:
                        asked = time.monotonic()  # the lease counts from a moment behind this one
                        alive = renew(boot, lease)
                        if alive:
                            history.note("renewed", boot=boot.hex(), asked=asked)
                        return alive

                    made.renew = renew_noted
                return made

            self._driver.heartbeat = noted  # type: ignore[method-assign]
            self._driver.chaos = True  # type: ignore[attr-defined]
        asked = time.monotonic()
        await start(self)
        history.note("boots", boot=self.boot.hex())
        history.note("renewed", boot=self.boot.hex(), asked=asked)

    def lapse_noted(self: ownership.Registration, boot: Any) -> None:
        history.note("lapsed", boot=boot.hex())
        lapse(self, boot)

    ownership.Registration.start = start_noted  # type: ignore[method-assign]
    ownership.Registration._note_lapse = lapse_noted  # type: ignore[method-assign]


def without_locks() -> None:
    """Owners on this host look as if they were on others: their leases alone tell."""
    ownership.place_of = lambda store: None


def deafen() -> None:
    """The process hears neither of its lease's end nor that others took its work, except when it writes."""

    def nothing(self: Any, boot: Any) -> None:
        pass

    async def look_away(self: Any) -> None:
        pass

    ownership.Registration._note_lapse = nothing  # type: ignore[method-assign]
    Runs.look_now = look_away  # type: ignore[method-assign]


def linger(path: Path, history: History) -> None:
    """Between the decision to wait for a message and the write, let the message come."""
    append = Journal.append

    def append_late(self: Journal, entry: Entry) -> asyncio.Future[Any]:
        change = entry.transition
        if change is None or change.expect_wakes is None or change.due_in is not None:
            return append(self, entry)
        history.note("suspends", execution=entry.holding.id, epoch=entry.holding.epoch)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        async def late() -> None:
            while not is_signalled(entry.holding.id):  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.02)
            try:
                given = await append(self, entry)
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(given)

        waiting.add(task := loop.create_task(late()))
        task.add_done_callback(waiting.discard)
        return answer

    def is_signalled(execution: str) -> bool:
        lines = (line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))
        noted = map(json.loads, lines)
        return any(line["kind"] == "signalled" and line["execution"] == execution for line in noted)

    waiting: set[asyncio.Task[None]] = set()
    Journal.append = append_late  # type: ignore[method-assign]

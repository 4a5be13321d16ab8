"""What `make fleet` shows: three workers, one is killed with SIGKILL, and the other two go on with its work.

    python examples/fleet/run.py [--url postgresql://…]

The claim is counted, not assumed. Every step body writes a line with the process that runs it into a ledger
before it does anything, and its result is that process as well. So the store tells which body's result was
recorded, and the ledger whether another body of the same step began after it: that would be a repeated step.
With one of those, with an order that does not complete, or with a takeover that takes longer than it may, the
demonstration fails. It uses a database of its own on the server and drops it at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from report import Counted, count, read_ledger, say_numbers  # noqa: E402 - beside this file

from holdfast.fleet.roster import read_roster  # noqa: E402
from holdfast.records.executions import Execution, ExecutionStatus  # noqa: E402
from holdfast.store.store import Store  # noqa: E402
from holdfast.stores import config_for, open_store  # noqa: E402
from scripts import services  # noqa: E402 - of this checkout: finds or starts PostgreSQL

ORDERS = 30
CONCURRENCY = 4
KILL_AT = 30
"""Bodies that have begun when the kill comes, of 120."""
LEASE_S, POLL_S = 5.0, 1.0
PATIENCE_S = 60.0
_NAMES = "ABC"
_LOOK_S = 0.05
_SHOW_S = 0.5
_WIDTH = 17


@dataclass(slots=True)
class Process:
    """One worker: what people call it, and its process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    boot: bytes = b""
    killed: bool = False


@dataclass(slots=True)
class Fleet:
    """The demonstration: where it works, its workers, and what was seen."""

    url: str
    folder: Path
    workers: list[Process] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    orphans: dict[str, float] = field(default_factory=dict)
    """Orders that the killed worker ran: seconds from the kill until somebody else ran them; -1 before."""
    shown: float = 0.0

    @property
    def environ(self) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        return plain | {
            "HOLDFAST_URL": self.url,
            "HOLDFAST_WORKER__LEASE": f"{LEASE_S:g}s",
            "HOLDFAST_WORKER__POLL": f"{POLL_S:g}s",
            "FLEET_LEDGER": str(self.folder / "ledger"),
        }

    def start(self, name: str) -> None:
        """Start one worker."""
        log = self.folder / f"worker-{name}.log"
        shop = [str(HERE / "shop.py"), "--concurrency", str(CONCURRENCY)]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "worker", *shop],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.workers.append(Process(name, process, log))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def main() -> int:
    """Show it; 0 when nothing was lost or repeated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--url", metavar="URL", help="a PostgreSQL server to use (default: found, or a private one)"
    )
    chosen = parser.parse_args()
    with server(chosen.url) as url, tempfile.TemporaryDirectory(prefix="holdfast-fleet-") as folder:
        return asyncio.run(demonstrate(url, Path(folder)))


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of a server: the named one, one that answers here, or a private one for this block."""
    if url is not None:
        os.environ[services.VARIABLE] = url
    found = services.postgresql(keep=False)
    try:
        if problem := found.acquire():
            sys.exit(problem)
        yield found.url
    finally:
        found.release()


@asynccontextmanager
async def database(url: str) -> AsyncIterator[str]:
    """An empty database of our own; dropped at the end."""
    name = f"holdfast_fleet_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def demonstrate(url: str, folder: Path) -> int:
    """The whole story."""
    async with database(url) as own:
        fleet = Fleet(own, folder)
        say(f"Three workers on PostgreSQL, {ORDERS} orders of four steps each; one worker will be killed.")
        say("Below each worker are the numbers of the orders it runs; * has been taken over.\n")
        try:
            return await _story(fleet)
        finally:
            for worker in fleet.workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                worker.process.wait()


async def _story(fleet: Fleet) -> int:
    async with open_store(config_for(fleet.url), migrate=True) as store:
        for name in _NAMES:
            fleet.start(name)
        await _until_there(fleet, store)
        await _enqueue(fleet)
        fleet.began = time.monotonic()
        say(
            "  time   "
            + "".join(f"{f'worker {each.name}':<{_WIDTH}}" for each in fleet.workers)
            + "waiting  done"
        )
        victim = await _watch(fleet, store, until=_has_much)
        killed_at = _kill(fleet, victim, await store.list_executions(limit=ORDERS))
        await _watch(fleet, store, until=_all_done, killed_at=killed_at)
        codes = _drain(fleet)
        counted = await count(store, fleet.folder / "ledger", victim.process.pid, list(fleet.orphans))
    return _conclude(fleet, victim, counted, codes)


async def _until_there(fleet: Fleet, store: Store) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        by_pid = {each.pid: each.boot for each in await read_roster(store) if each.is_worker}
        for worker in fleet.workers:
            worker.boot = by_pid.get(worker.process.pid, b"")
            if worker.process.poll() is not None:
                sys.exit(f"worker {worker.name} did not start:\n{worker.log.read_text()}")
        if all(worker.boot for worker in fleet.workers):
            return
        if time.monotonic() > deadline:
            sys.exit("the workers did not come")
        await asyncio.sleep(_LOOK_S)


async def _enqueue(fleet: Fleet) -> None:
    """Leave the orders to whoever serves the queue, as any program of yours would."""
    os.environ |= {"HOLDFAST_URL": fleet.url, "FLEET_LEDGER": str(fleet.folder / "ledger")}
    from shop import app, order

    async with app:
        for number in range(1, ORDERS + 1):
            await order.options(id=f"order-{number:02}").enqueue(number)


Until = Callable[[Fleet, list[Execution]], "Process | None"]


async def _watch(fleet: Fleet, store: Store, *, until: Until, killed_at: float | None = None) -> Process:
    """Show who runs what until there is something to do; gives the worker that the kill is for."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        executions = await store.list_executions(limit=ORDERS)
        if killed_at is not None:
            _note_takeovers(fleet, executions, time.monotonic() - killed_at)
        found = until(fleet, executions)
        if found or time.monotonic() - fleet.shown > _SHOW_S:
            _show(fleet, executions)
        if found:
            return found
        await asyncio.sleep(_LOOK_S)
    sys.exit(
        "it took too long; the workers said:\n" + "\n".join(each.log.read_text() for each in fleet.workers)
    )


def _has_much(fleet: Fleet, executions: list[Execution]) -> Process | None:
    """The second worker, once every worker is full and some orders are in the middle of their steps."""
    full = all(len(_run_by(each, executions)) == CONCURRENCY for each in fleet.workers)
    begun = len(read_ledger(fleet.folder / "ledger"))
    return fleet.workers[1] if full and begun >= KILL_AT else None


def _all_done(fleet: Fleet, executions: list[Execution]) -> Process | None:
    return fleet.workers[0] if all(each.status.is_final for each in executions) else None


def _kill(fleet: Fleet, victim: Process, executions: list[Execution]) -> float:
    victim.process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    victim.process.wait()
    victim.killed = True
    fleet.orphans = {each.id: -1.0 for each in _run_by(victim, executions)}
    numbers = ", ".join(id[-2:] for id in fleet.orphans)
    say(
        paint(
            f"\n  kill -9 {victim.process.pid}: worker {victim.name} dies with the orders {numbers}\n", "31"
        )
    )
    return killed_at


def _note_takeovers(fleet: Fleet, executions: list[Execution], seconds: float) -> None:
    dead = {worker.boot for worker in fleet.workers if worker.killed}
    for each in executions:
        if fleet.orphans.get(each.id) == -1.0 and (each.status.is_final or each.owner not in {None, *dead}):
            fleet.orphans[each.id] = seconds


def _run_by(worker: Process, executions: list[Execution]) -> list[Execution]:
    mine = (each for each in executions if each.owner == worker.boot and not each.status.is_final)
    return sorted(mine, key=lambda each: each.id)


def _show(fleet: Fleet, executions: list[Execution]) -> None:
    """One line: the orders that each worker runs; those taken over are marked."""
    fleet.shown = time.monotonic()
    columns = [_column(worker, fleet, _run_by(worker, executions)) for worker in fleet.workers]
    waiting = sum(each.status is ExecutionStatus.READY for each in executions)
    done = sum(each.status.is_final for each in executions)
    say(f"{fleet.seconds:5.1f} s  {''.join(columns)}{waiting:>7}  {done:>4}")


def _column(worker: Process, fleet: Fleet, mine: list[Execution]) -> str:
    parts = [(each.id[-2:], "31" if worker.killed else "") for each in mine]
    if worker.killed:
        parts.insert(0, ("✖", "31"))
    else:
        parts = [
            (f"{each.id[-2:]}*", "33") if each.id in fleet.orphans else (each.id[-2:], "") for each in mine
        ]
    width = len(" ".join(text for text, _ in parts))
    return " ".join(paint(text, color) for text, color in parts) + " " * (_WIDTH - width)


def _drain(fleet: Fleet) -> dict[str, int]:
    """SIGTERM: a worker finishes what it runs and leaves."""
    left = [worker for worker in fleet.workers if not worker.killed]
    for worker in left:
        worker.process.send_signal(signal.SIGTERM)
    return {worker.name: worker.process.wait(PATIENCE_S) for worker in left}


def _conclude(fleet: Fleet, victim: Process, counted: Counted, codes: dict[str, int]) -> int:
    bound_s = LEASE_S + 2 * POLL_S
    last_s = max(fleet.orphans.values())
    say("\nCounted from the ledger of the step bodies and the log in the store:\n")
    say_numbers(counted, ORDERS)
    say(f"\n  {last_s:.1f} s after the kill the others had everything. On one host a free lock file proves")
    say("  that a worker is dead; between hosts its lease has to run out first: that takes up to the lease")
    say(f"  and two polls, {bound_s:.0f} s with the settings of this demonstration.")
    problems = counted.problems(ORDERS)
    if min(fleet.orphans.values()) < 0 or last_s > bound_s:
        problems.append(f"the takeover took {last_s:.1f} s")
    problems += [f"worker {name} ended with exit code {code}" for name, code in codes.items() if code != 0]
    for problem in problems:
        say(f"FAILED: {problem}")
    say("" if problems else "\nNothing was lost, and nothing that was recorded was done again.")
    return 1 if problems else 0


def paint(text: str, color: str) -> str:
    """`text` in a colour, where a person reads it."""
    plain = not color or not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[{color}m{text}\x1b[0m"


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

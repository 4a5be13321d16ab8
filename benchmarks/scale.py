"""`python -m benchmarks.scale`: what may not become slower when a store has millions of executions.

A store of 10,000 executions and one of millions, both made by SQL from executions that Holdfast wrote itself:
of every hundred 83 completed, 5 failed, 8 completed ones of another workflow, 2 that wait for a time, 2 that
are ready. The same calls are timed on both, and none may take more than three times as long on the large one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from statistics import median
from time import perf_counter

import holdfast as hf
from benchmarks import databases, disk
from benchmarks.declarations import BACKENDS, POSTGRESQL, SQLITE
from benchmarks.systems.filling import Filling
from benchmarks.systems.places import with_user
from holdfast.errors import HoldfastError
from holdfast.events.log import EventLog
from holdfast.fleet.claims import Lane, claim_lane, peek

SMALL = 10_000
TIMES = 3.0
_CHUNK = 250_000
_WARM_UP, _ROUNDS, _CLAIMED, _SHOWN = 3, 15, 5, 50
_FAR_OFF = {
    SQLITE: "created_at + 31536000000000 + n * 1000000",
    POSTGRESQL: "t.created_at + interval '365 days' + n * interval '1 second'",
}

Call = Callable[[], Awaitable[object]]


async def fill(app: hf.App, filling: Filling, backend: str, count: int) -> None:
    """Bring the store to `count` executions."""

    @app.workflow
    async def report(number: int) -> int:
        if number < 0:
            raise ValueError("no such report")
        return number

    @app.workflow
    async def imports(number: int) -> int:
        return number

    async with app:
        done, other = await report.start(1), await imports.start(1)
        await done
        await other
        failed = await report.start(-1)
        with suppress(HoldfastError):
            await failed
        ready = await report.enqueue(2)
    waits = {"status": "'waiting'", "due_at": _FAR_OFF[backend]}
    shares = (
        (done.id, 83, {}),
        (failed.id, 5, {}),
        (other.id, 8, {}),
        (ready.id, 2, waits),
        (ready.id, 2, {}),
    )
    for chunk in range(0, count, _CHUNK):
        size = min(_CHUNK, count - chunk)
        for mark, (id, share, changes) in enumerate(shares, 1):
            # Spread over the whole time, as they would have come: ten numbers for each execution.
            place = {"since": done.id, "first": 10 * chunk + 1, "stride": 1000 // share}
            await filling.copy(id, size * share // 100, mark, **place, **changes)  # type: ignore[arg-type]
        print(f"  {chunk + size:,} of {count:,}", end="\r", file=sys.stderr, flush=True)
    await filling.settle()
    print(" " * 40, end="\r", file=sys.stderr)


async def calls_of(app: hf.App) -> dict[str, Call]:
    """What is timed, on an open store that is filled."""
    store = app.store
    launcher = app._launcher
    assert launcher is not None
    boot = launcher.registration.boot
    look = await peek(store, ["default"], ["io"], [])
    log, choose = EventLog(store), random.Random(1)
    page = await store.list_executions("status:completed", limit=1000)

    async def claim() -> None:
        lane = Lane("default", "io", store.tenant)
        assert len(await claim_lane(store, boot, lane, _CLAIMED, schema=look.schema)) == _CLAIMED

    async def listed(query: str, before: bytes | None = None) -> None:
        assert len(await store.list_executions(query, before=before, limit=50)) == 50  # type: ignore[arg-type]

    async def show_one(id: str) -> None:
        execution = await store.get_execution(id)
        await store.execution_details(execution.key)
        assert await log.page(execution)

    # People look at what ran lately, and that has been read before: not a measurement of the disk.
    recent = [each.id for each in page[:_SHOWN]]
    for id in recent:
        await show_one(id)
    return {
        "claim": claim,
        "first page": lambda: listed("status:failed workflow:report"),
        "next page": lambda: listed("status:completed", page[500].key),
        "estimate": lambda: store.estimate_executions("status:completed workflow:report"),
        "show": lambda: show_one(choose.choice(recent)),
    }


async def timed_in_turn(calls: Sequence[Call]) -> list[float]:
    """The median time of each call in milliseconds; in turn, so that what else runs here slows all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(_WARM_UP + _ROUNDS):
        for call, taken in zip(calls, times, strict=True):
            began = perf_counter()
            await call()
            if number >= _WARM_UP:
                taken.append(1e3 * (perf_counter() - began))
    return [median(each) for each in times]


async def measured(backend: str, databases_by_count: Mapping[int, str]) -> dict[str, list[float]]:
    """Fill each empty database with so many executions, and time every call on each."""
    urls = {}
    for count, database in databases_by_count.items():
        urls[count] = f"sqlite:///{database}" if backend == SQLITE else with_user(database)
        await fill(hf.App(urls[count]), Filling(backend, database), backend, count)
    async with AsyncExitStack() as stack:
        found = [await calls_of(await stack.enter_async_context(hf.App(url))) for url in urls.values()]
        return {name: await timed_in_turn([calls[name] for calls in found]) for name in found[0]}


def compare(backend: str, count: int, folder: Path) -> bool:
    """Measure both sizes and print the table; whether all is flat."""
    with ExitStack() as stack:
        made = {
            size: stack.enter_context(databases.private_database(backend, folder)) for size in (SMALL, count)
        }
        found = asyncio.run(measured(backend, made))
    print(f"{backend}, {count:,} executions beside {SMALL:,} (ms, medians of {_ROUNDS} in turn)")
    flat = True
    for name, (base, large) in found.items():
        times = large / base
        flat = flat and times <= TIMES
        word = "flat" if times <= TIMES else f"TOO SLOW: over {TIMES:g} ×"
        print(f"  {name:<12} {base:>10.2f} {large:>10.2f} {times:>8.2f} ×  {word}")
    return flat


def main() -> int:
    """0 when nothing is slower than it may be, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, help="only this one (default: both)")
    parser.add_argument(
        "--postgresql", type=int, default=10_000_000, help="executions there (default: 10 million)"
    )
    parser.add_argument("--sqlite", type=int, default=1_000_000, help="executions there (default: 1 million)")
    parser.add_argument("--folder", type=Path, help="where SQLite databases are made (default: /var/tmp)")
    options = parser.parse_args()
    folder = disk.folder_for_databases(options.folder)
    counts = {SQLITE: options.sqlite, POSTGRESQL: options.postgresql}
    results = [
        compare(backend, counts[backend], folder)
        for backend in BACKENDS
        if options.backend in (None, backend)
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What every measured queue shares: how draining is counted, how a dispatch is timed, how rows are copied.

`queue`: `jobs` no-op jobs beside `waiting` more stand in the queue and `finished` lie behind it when one
worker starts. The window opens with the first job's body and closes after `seconds`, or when `jobs` bodies
ran. What counts is what the *database* says is finished at that moment: acknowledging later gains nothing.
`enqueue`: callers in a closed loop, see `meter`.
`dispatch`: a producer in a process of its own enqueues one job, hears over a pipe that its body began, rests,
and enqueues the next. The time runs from before the call that enqueues to the first line of the body.

Rows that only have to be there are copied inside the database from one that the system itself wrote.
Only the standard library is used: this file runs in every peer's environment.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmarks.systems.meter import Request

START_S = 60
"""How long a worker may take to its first job."""
REST_S = 0.1
"""How long the producer rests between two jobs, so that each one finds the worker idle."""
WARM_UP = 5
"""Dispatches at the beginning that are not counted."""


class Drain:
    """Counts the bodies that began, from any thread, and closes the window."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._numbers = itertools.count(1)
        self._opened = threading.Event()
        self._ran_out = threading.Event()
        self._began = self._cpu = 0.0

    def ran(self) -> None:
        """One body. The first one opens the window."""
        number = next(self._numbers)
        if number == 1:
            self._began, self._cpu = time.perf_counter(), processor_time()
            self._opened.set()
        if number == self.request.jobs:
            self._ran_out.set()

    def wait(self) -> None:
        """Return at the end of the window; raises `RuntimeError` when no job began at all."""
        if not self._opened.wait(START_S):
            raise RuntimeError(f"no job began within {START_S} s")
        self._ran_out.wait(self.request.seconds)

    def figures(self, finished: Callable[[], int]) -> dict[str, Any]:
        """`finished` says how many jobs the database calls finished; it is asked when the window closes."""
        ended, cpu = time.perf_counter(), processor_time()
        done = finished() - self.request.finished
        if done < 1:
            raise RuntimeError("no job was finished inside the window")
        return {
            "value": done / (ended - self._began),
            "jobs": done,
            "elapsed_s": ended - self._began,
            "cpu_us_per_job": 1e6 * (cpu - self._cpu) / done,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "ran_out": self._ran_out.is_set(),
        }


def processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def drain(counter: Drain, worker: Awaitable[None], finished: Callable[[], int]) -> dict[str, Any]:
    """Run `worker` on this loop until the window closes. An error in it ends the measurement."""
    running = asyncio.ensure_future(worker)
    window = asyncio.ensure_future(asyncio.to_thread(counter.wait))
    await asyncio.wait((running, window), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
        raise RuntimeError("the worker ended before the window")
    window.result()
    return counter.figures(finished)


def ask(question: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine to its end on a loop of its own, while the loop of the caller stands still."""
    answer: list[int] = []
    thread = threading.Thread(target=lambda: answer.append(asyncio.run(question())))
    thread.start()
    thread.join()
    return answer[0]


class Dispatches:
    """The worker's side of `dispatch`: starts the producer and takes the times."""

    def __init__(self, request: Request, module: str) -> None:
        self.request = request
        self._waits = array("d")
        self._module = module
        self._producer: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the producer; the worker should be idle by the time it has connected."""
        request = json.dumps(asdict(replace(self.request, scenario="produce")))
        self._producer = subprocess.Popen(
            [sys.executable, "-m", self._module, request], stdin=subprocess.PIPE, text=True
        )

    def began(self, sent: str) -> None:
        """The first thing a body does; `sent` is what the producer enqueued."""
        # One clock for both processes: CLOCK_MONOTONIC.
        self._waits.append(time.perf_counter() - float(sent))
        assert self._producer is not None and self._producer.stdin is not None
        self._producer.stdin.write("\n")
        self._producer.stdin.flush()

    def wait(self) -> dict[str, Any]:
        """Let it run for `seconds`, end the producer, and return the figures; blocks."""
        assert self._producer is not None
        deadline = time.monotonic() + START_S
        while len(self._waits) < WARM_UP and time.monotonic() < deadline:
            if self._producer.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(self.request.seconds)
        self._producer.kill()
        self._producer.wait()
        waits = sorted(1e3 * wait for wait in self._waits[WARM_UP:])
        if not waits:
            raise RuntimeError("too few jobs were dispatched")
        p50, p99 = waits[len(waits) // 2], waits[min(len(waits) - 1, len(waits) * 99 // 100)]
        return {"value": p50, "p50_ms": p50, "p99_ms": p99, "jobs": len(waits)}


async def produce(enqueue: Callable[[str], Awaitable[object]]) -> None:
    """The producer's side, until it is killed."""
    await asyncio.sleep(1)
    while True:
        await enqueue(repr(time.perf_counter()))
        if not await asyncio.to_thread(sys.stdin.readline):
            return
        await asyncio.sleep(REST_S)


def produce_blocking(enqueue: Callable[[str], object]) -> None:
    """`produce` for a blocking system."""
    time.sleep(1)
    while True:
        enqueue(repr(time.perf_counter()))
        if not sys.stdin.readline():
            return
        time.sleep(REST_S)


def copies(
    table: str, columns: Sequence[str], changed: Mapping[str, str], numbers: str, template: str
) -> str:
    """One INSERT that copies the row of `table` where `template` holds, once for every `n` of `numbers`.

    `changed` gives the columns that differ their expressions over `n`.
    """
    chosen = ", ".join(changed.get(column, f"t.{column}") for column in columns)
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT {chosen} FROM {table} AS t, {numbers} WHERE {template}"

"""What every measured system shares: the request it is given, the clock that counts, the line it prints.

A closed loop of `concurrency` callers runs workflows of `steps` steps one after another; each step that the
system has acknowledged as durable is one `ack`. Counting starts after `warmup` seconds and lasts `seconds`.
With `executions` set there is no loop: that many workflows start at once and the clock stops when all have
ended, or after `seconds`. Only the standard library is used: this file runs in every peer's environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One measurement. `database` is a file path (sqlite) or a URL (postgresql); it exists and is empty."""

    backend: str
    database: str
    concurrency: int
    seconds: float
    warmup: float = 1.0
    steps: int = 10
    executions: int = 0
    jobs: int = 0
    waiting: int = 0
    finished: int = 0
    rows: int = 0
    turns: int = 0
    folder: str = "/var/tmp"
    scenario: str = "steps"
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_arguments(cls) -> Request:
        return cls(**json.loads(sys.argv[1]))


class Meter:
    """Counts acknowledged steps from any thread and knows which of them fell into the measured window."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._latencies = array("d")  # append is atomic under the interpreter lock, a counter is not
        self._marks: list[tuple[int, float, float]] = []

    def ack(self, since: float) -> float:
        """Count one step that began at `since` and is durable now; returns now, where the next one begins."""
        now = time.perf_counter()
        self._latencies.append(now - since)
        return now

    def mark(self) -> None:
        """Open the window, or close it."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._marks.append((len(self._latencies), time.perf_counter(), usage.ru_utime + usage.ru_stime))

    def figures(self) -> dict[str, Any]:
        (first, began, cpu_before), (last, ended, cpu_after) = self._marks
        window = sorted(self._latencies[first:last])
        count = len(window)
        if not count:
            raise RuntimeError("no step was acknowledged inside the measured window")
        return {
            "value": count / (ended - began),
            "steps": count,
            "elapsed_s": ended - began,
            "p50_ms": 1e3 * window[count // 2],
            "p99_ms": 1e3 * window[min(count - 1, count * 99 // 100)],
            "cpu_us_per_step": 1e6 * (cpu_after - cpu_before) / count,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


async def measure(meter: Meter, workflow: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Run `workflow` from the requested number of callers on this event loop and return the figures.

    An error in any caller ends the measurement with that error: a figure of a failing system means nothing.
    """
    request = meter.request

    async def caller() -> None:
        while True:
            await workflow()

    if request.executions:
        work = [asyncio.ensure_future(workflow()) for _ in range(request.executions)]
        meter.mark()
        done, pending = await asyncio.wait(work, timeout=request.seconds, return_when=asyncio.FIRST_EXCEPTION)
    else:
        work = [asyncio.ensure_future(caller()) for _ in range(request.concurrency)]
        done, pending = await asyncio.wait(work, timeout=request.warmup, return_when=asyncio.FIRST_EXCEPTION)
        meter.mark()
        if not done:
            done, pending = await asyncio.wait(
                work, timeout=request.seconds, return_when=asyncio.FIRST_EXCEPTION
            )
    meter.mark()
    for task in done:
        task.result()
    return meter.figures() | ({"finished": not pending} if request.executions else {})


def measure_threads(meter: Meter, workflow: Callable[[], None]) -> dict[str, Any]:
    """The same for a blocking system: every caller is a thread. Callers still running at the end are left."""
    request = meter.request
    failure: list[BaseException] = []
    finished: dict[str, bool] = {}
    changed = threading.Event()
    ended = threading.Semaphore(0)

    def caller() -> None:
        try:
            workflow()
            while not request.executions:
                workflow()
        except BaseException as error:
            failure.append(error)
            changed.set()
        ended.release()

    callers = request.executions or request.concurrency
    threads = [threading.Thread(target=caller, daemon=True) for _ in range(callers)]
    if request.executions:
        meter.mark()
    for thread in threads:
        thread.start()
    if not request.executions:
        changed.wait(request.warmup)
        meter.mark()
        changed.wait(request.seconds)
    else:
        deadline = time.monotonic() + request.seconds
        finished["finished"] = all(
            ended.acquire(timeout=max(0.0, deadline - time.monotonic())) for _ in threads
        )
    meter.mark()
    if failure:
        raise failure[0]
    return meter.figures() | finished


def report(**row: Any) -> NoReturn:
    """Print the row and leave at once: what the callers still have in hand is not part of the measurement."""
    print(json.dumps(row), flush=True)
    os._exit(0)


def require(setting: str, actual: object, *wanted: object) -> str:
    """Refuse to measure a connection that promises less than the others; `actual` was read inside of it."""
    if actual not in wanted:
        raise RuntimeError(f"{setting} is {actual!r} in this system's connection, wanted one of {wanted!r}")
    return f"{setting}={actual}"

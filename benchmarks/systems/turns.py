"""What every measured conversation shares: what is said, the clock, and the bytes on disk at the end.

One conversation of 500 turns. A turn is what a user says and what a model answers; each is recorded when it
is said, so that a process that dies in between has lost nothing. The value is turns per second over all 500.
Only the standard library is used: this file runs in every peer's environment.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.systems.meter import Request

_WORDS = (
    "flight", "booking", "refund", "passenger", "luggage", "morning", "window", "aisle", "seat", "change",
    "cancel", "confirm", "name", "number", "please", "thanks", "reservation", "upgrade", "payment", "airport",
)  # fmt: skip


def said(number: int) -> tuple[str, str]:
    """What the user says in a turn, and the model's answer: some 200 and 600 characters."""
    choose = random.Random(number)
    return " ".join(choose.choices(_WORDS, k=30)), " ".join(choose.choices(_WORDS, k=90))


async def converse(
    request: Request, turn: Callable[[str, str], Awaitable[object]], size: Callable[[], Awaitable[int]]
) -> dict[str, Any]:
    """All turns one after another; `size` is what the database takes on disk."""
    empty = await size()
    spoken = [said(number) for number in range(request.turns)]
    began, before = time.perf_counter(), _processor_time()
    for user, assistant in spoken:
        await turn(user, assistant)
    elapsed, cpu = time.perf_counter() - began, _processor_time() - before
    taken = await size() - empty
    each = 1e6 * cpu / request.turns
    return {
        "value": request.turns / elapsed, "turns": request.turns, "elapsed_s": elapsed,
        "cpu_us_per_turn": each, "bytes": taken,
        "detail": f"{taken / 1024:,.0f} KiB on disk, {each:.0f} µs of client CPU",
    }  # fmt: skip


def file_size(database: str) -> int:
    """What a SQLite database takes, its write-ahead log folded in before."""
    path = Path(database)
    return path.stat().st_size if path.exists() else 0


SERVER_SIZE = (
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'm') "
    "AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
)
"""What the tables of a PostgreSQL database take, with their indexes and long values."""


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

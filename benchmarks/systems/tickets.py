"""What every measured store of records shares: the table, its rows, and the loops that count.

The table is the same for all, with the columns and the one index that a declared record has. 10,000 rows are
there before anything is counted. `records-get` reads one of them by its id, chosen at random;
`records-create` writes one more, with a commit of its own; `records-find` reads the newest 50 of one of four
statuses; `bulk` writes 50,000 rows in one transaction, again and again until the seconds are over.
Only the standard library is used: this file runs in every peer's environment.
"""

from __future__ import annotations

import random
import resource
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.systems.meter import Request

TABLE = "bench_tickets"
TENANT = "default"
STATUSES = ("open", "taken", "solved", "closed")
STOCK = 10_000
PAGE = 50
OWN = ("title", "body", "status", "priority", "done", "due_at", "tags")
COLUMNS = ("tenant_id", "id", "revision", "created_at", "updated_at", *OWN)

_TYPES = {
    "sqlite": {
        "moment": "INTEGER", "whole": "INTEGER", "truth": "INTEGER", "texts": "TEXT", "end": " STRICT",
    },
    "postgresql": {
        "moment": "timestamptz", "whole": "bigint", "truth": "boolean", "texts": "text[]", "end": "",
    },
}  # fmt: skip


def ddl(backend: str, schema: str = "") -> list[str]:
    """The statements that make the table; `schema` with its dot."""
    kind = _TYPES[backend]
    text, moment, whole = "TEXT NOT NULL", kind["moment"], kind["whole"]
    return [
        f"CREATE TABLE {schema}{TABLE} (tenant_id {text}, id {text}, revision {whole} NOT NULL, "
        f"created_at {moment} NOT NULL, updated_at {moment} NOT NULL, title {text}, body {text}, "
        f"status {text}, priority {whole} NOT NULL, done {kind['truth']} NOT NULL, due_at {moment}, "
        f"tags {kind['texts']} NOT NULL, PRIMARY KEY (tenant_id, id)){kind['end']}",
        f"CREATE INDEX {TABLE}_newest ON {schema}{TABLE} (tenant_id, status, created_at, id)",
    ]


@dataclass(frozen=True, slots=True)
class Ticket:
    """The fields of one row, before a system binds them in its own way."""

    id: str
    title: str
    body: str
    status: str
    priority: int
    done: bool
    tags: tuple[str, ...]


def ticket(number: int, id: str | None = None) -> Ticket:
    """The row with this number; `id` instead of its own, for one that is new."""
    return Ticket(
        id or f"ticket-{number:06d}", f"The printer on floor {number} is out of order again",
        f"It blinks {number} times, then stops. " * 6, STATUSES[number % 4], number % 10, number % 3 == 0,
        ("office", f"floor-{number % 50}"),
    )  # fmt: skip


def new_tickets(count: int) -> list[Ticket]:
    """Rows that are not there yet, in the order of their ids, as ids with a time in front are."""
    series = uuid.uuid4().hex[:8]
    return [ticket(number, f"{series}-{number:08d}") for number in range(count)]


class Choice:
    """Which row is next: the same ones in the same order for every system."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._made = 0

    def id(self) -> str:
        """The id of one of the rows that are there."""
        return f"ticket-{self._random.randrange(STOCK):06d}"

    def status(self) -> str:
        """A status that a quarter of them have."""
        return STATUSES[self._random.randrange(4)]

    def new(self) -> Ticket:
        """A row that is not there yet."""
        self._made += 1
        return ticket(self._made, uuid.uuid4().hex)


def told(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a closed loop, with the processor time in the line that people read."""
    return figures | {"detail": f"{figures['cpu_us_per_step']:.0f} µs of client CPU"}


async def load(request: Request, write: Callable[[list[Ticket]], Awaitable[object]]) -> dict[str, Any]:
    """`bulk`: rows per second of `write`, which has committed when it returns."""
    spent, cpu, rows = 0.0, 0.0, 0
    while spent < request.seconds:
        made = new_tickets(request.rows)
        began, before = time.perf_counter(), _processor_time()
        await write(made)
        spent += time.perf_counter() - began
        cpu += _processor_time() - before
        rows += len(made)
    each = 1e6 * cpu / rows
    return {"value": rows / spent, "rows": rows, "cpu_us_per_row": each,
            "detail": f"{each:.1f} µs of client CPU"}  # fmt: skip


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

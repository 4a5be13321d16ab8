"""`storage copy` of a store with 100,000 events: a SQLite file into PostgreSQL, and back into a new file.

The store is filled by workflows of 1,000 recorded steps. The times are those of the whole command's work, the
comparison of both stores at the end included.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import holdfast as hf
from benchmarks.systems.meter import Request, report
from benchmarks.systems.places import store_url
from holdfast.stores import build_store, config_for
from holdfast.upkeep.copying import Copied, Copy
from holdfast.upkeep.selection import Selection

request = Request.from_arguments()
STEPS = 1_000


async def fill(url: str) -> None:
    """As many executions as make `rows` events, all of them finished."""
    app = hf.App(url)

    @app.step
    async def trivial(number: int) -> int:
        return number

    @app.workflow
    async def counting(count: int) -> int:
        return sum([await trivial(number) for number in range(count)])

    async with app:
        await asyncio.gather(*(counting(STEPS) for _ in range(max(1, request.rows // STEPS))))


async def copied(source: str, target: str) -> tuple[Copied, float]:
    """What was copied, and the seconds it took."""
    here, there = (build_store(config_for(url), create=True) for url in (source, target))
    await here.open()
    await there.open(migrate=True)
    try:
        began = time.perf_counter()
        return await Copy(here, there, Selection((), None)).run(), time.perf_counter() - began
    finally:
        await here.close()
        await there.close()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hf_bench_", dir=request.folder) as folder:
        first, last = (f"sqlite:///{Path(folder) / name}.db" for name in ("first", "last"))
        await fill(first)
        into, into_s = await copied(first, store_url(request))
        back, back_s = await copied(store_url(request), last)
    assert [(each.rows, each.digest) for each in into.tables] == [
        (each.rows, each.digest) for each in back.tables
    ]
    into_rate, back_rate = into.rows / into_s, back.rows / back_s
    report(
        value=(into.rows + back.rows) / (into_s + back_s), rows=into.rows, into_rows_per_s=into_rate,
        back_rows_per_s=back_rate, detail=f"{into_rate:,.0f} rows/s in, {back_rate:,.0f} back",
    )  # fmt: skip


asyncio.run(main())

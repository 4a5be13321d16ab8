"""One process with several idle workers, each with a store of its own: what `test_idle_cost` counts.

Prints a line when all of them have looked for the first time, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from holdfast.config.loader import load
from holdfast.fleet.service import WorkerOptions
from holdfast.store.hints import HintState
from holdfast.stores import build_store
from tests.conformance.fleets import on_store


async def serve(url: str, workers: int, queues: int) -> None:
    flags = {"storage.url": url, "storage.postgresql.pool.min": "1", "storage.postgresql.pool.max": "2"}
    config = load(environ={}, cwd=Path("/"), flags=flags).config
    names = tuple(f"queue-{number}" for number in range(queues))
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(workers):
            store = build_store(config)
            await stack.enter_async_context(store)
            stores.append(store)
            options = {"queues": names, "poll": WorkerOptions().poll}
            await stack.enter_async_context(
                on_store(store, lease=timedelta(seconds=30), waits_here_s=1.0, **options)
            )
        for store in stores:
            while store.hints.state is not HintState.LISTENING:
                await store.hints.wait(0.05)
        print("idle", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

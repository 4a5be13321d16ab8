"""Holdfast's fleet: how long a killed worker's execution stands still, and what idle workers ask.

`takeover`: a worker in a process of its own runs an execution and is killed; the time runs to the first line
of the same execution in another worker. Locks on this host prove a process dead, so "another host" is a
worker with a folder of its own for them: only its lease, 2 s, can tell. `takeover-here` leaves it to both.
`idle`: 50 workers that serve 100 empty queues each, on stores of their own, through a proxy that counts the
statements on the wire (simple queries and executions of prepared ones; the handshakes are not counted). A
server that has too few connections for 50 gets fewer, and the figure is scaled.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from statistics import median
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import holdfast as hf
from benchmarks.systems.holdfast_queue import durability_of, store_url, worker
from benchmarks.systems.meter import Request, report
from holdfast.stores import build_store, config_for

request = Request.from_arguments()
LEASE = timedelta(seconds=2)
KILLS = 5
WORKERS, QUEUES = 50, 100
CONNECTIONS, RESERVED = 4, 12
"""What an idle worker keeps open, and what is left to others of a server with few connections."""
app = hf.App(store_url(request))
began: asyncio.Queue[float] = asyncio.Queue()


@app.workflow
async def standing(number: int) -> None:
    """Says when it begins and waits to be killed; the second time it ends at once."""
    if request.scenario == "victim":
        print("began", flush=True)
        await asyncio.sleep(3600)
    began.put_nowait(time.perf_counter())


async def victim() -> None:
    async with app, worker(app, lease=LEASE) as serving:
        await serving.run()


async def one_kill(number: int, folder: str | None) -> float:
    """Seconds from a kill to the start elsewhere."""
    asked = sys.argv[1].replace(f'"{request.scenario}"', '"victim"')
    environment = dict(os.environ) | ({"XDG_RUNTIME_DIR": folder} if folder else {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.systems.holdfast_fleet", asked,
        stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    await standing.enqueue(number)
    if not await process.stdout.readline():
        raise RuntimeError(f"the worker that was to be killed ended with {await process.wait()}")
    async with worker(app, lease=LEASE) as survivor:
        running = asyncio.ensure_future(survivor.run())
        # Anywhere between two renewals and two polls.
        await asyncio.sleep(random.uniform(1, 3))
        process.kill()
        killed = time.perf_counter()
        took = await asyncio.wait_for(began.get(), 60) - killed
        survivor.drain()
        await running
    await process.wait()
    return took


async def takeover(*, same_host: bool) -> dict[str, Any]:
    async with app:
        with tempfile.TemporaryDirectory() as folder:
            times = [await one_kill(n, None if same_host else folder) for n in range(KILLS)]
        return {
            "durability": await durability_of(app, request),
            "value": median(times),
            "most_s": max(times),
            "kills": KILLS,
        }


class Wiretap:
    """A proxy before the server that counts what clients send."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.statements = 0
        self.connections = 0

    async def serve(self) -> int:
        """The port it listens on."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection(self._host, self._port)
        self.connections += 1
        answers = asyncio.ensure_future(self._pass_on(there, writer))
        try:
            while (first := await self._first(reader)) is None:
                writer.write(b"N")  # no encryption: asked again in plain
            out.write(first)
            while True:
                head = await reader.readexactly(5)
                out.write(head + await reader.readexactly(int.from_bytes(head[1:]) - 4))
                self.statements += head[:1] in (b"Q", b"E")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            answers.cancel()
            out.close()
            writer.close()

    @staticmethod
    async def _first(reader: asyncio.StreamReader) -> bytes | None:
        """The message that opens a session; None for a request for encryption."""
        length = await reader.readexactly(4)
        rest = await reader.readexactly(int.from_bytes(length) - 4)
        return None if rest[:4] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30") else length + rest

    @staticmethod
    async def _pass_on(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(65_536):
            writer.write(data)


async def room(url: str) -> int:
    """How many of the workers the server has connections for."""
    import asyncpg

    connection = await asyncpg.connect(url)
    free: int = await connection.fetchval(
        "SELECT current_setting('max_connections')::int - count(*) FROM pg_stat_activity"
    )
    await connection.close()
    if (count := min(WORKERS, (free - RESERVED) // CONNECTIONS)) < 1:
        raise RuntimeError(f"the server has {free} connections left: too few for one worker")
    return count


async def idle() -> NoReturn:
    parts = urlsplit(store_url(request))
    tap = Wiretap(parts.hostname or "127.0.0.1", parts.port or 5432)
    who = parts.netloc.rpartition("@")[0]
    url = urlunsplit(parts._replace(netloc=f"{who}@127.0.0.1:{await tap.serve()}"))
    queues = tuple(f"queue-{number}" for number in range(QUEUES))
    count = await room(store_url(request))
    async with AsyncExitStack() as stack:
        # What processes of other stores left on this host is not these workers' business.
        os.environ["XDG_RUNTIME_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        running = []
        for number in range(count):
            store = build_store(config_for(url), create=True)
            await store.open(migrate=number == 0)
            stack.push_async_callback(store.close)
            each = await stack.enter_async_context(worker(app, store=store, queues=queues))
            running.append(asyncio.ensure_future(each.run()))
        await asyncio.sleep(5)
        before, since = tap.statements, time.perf_counter()
        await asyncio.sleep(max(10.0, request.seconds))
        rate = (tap.statements - before) / (time.perf_counter() - since)
        assert not any(task.done() for task in running)
        # Leaves the process at once: 50 stores that close one after another are not part of this.
        report(value=rate * WORKERS / count, workers=count, queues=QUEUES, connections=tap.connections)


async def main() -> None:
    if request.scenario == "victim":
        await victim()
    elif request.scenario == "idle":
        await idle()
    else:
        report(**await takeover(same_host=request.scenario == "takeover-here"))


if __name__ == "__main__":
    asyncio.run(main())

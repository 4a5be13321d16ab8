"""Holdfast itself: Python workflows of trivial async steps on one app, default settings.

`resume` records 10,000 steps, closes the app as a process that ends would, and measures how long a new one
takes until the last recorded result was given back. `fanout` runs a YAML fan-out of 10,000 steps through the
command line in a process of its own and reports that process's peak memory.
"""

from __future__ import annotations

import asyncio
import getpass
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import holdfast as hf
from benchmarks.systems.meter import Meter, Request, measure, report, require

request = Request.from_arguments()
meter = Meter(request)
url = f"sqlite:///{request.database}"
if request.backend == "postgresql":
    # The server's own default for a URL without a user is the name of the system's user.
    parts = urlsplit(request.database)
    netloc = parts.netloc if "@" in parts.netloc else f"{getpass.getuser()}@{parts.netloc}"
    url = urlunsplit(parts._replace(netloc=netloc))
app = hf.App(url)


@app.step
async def trivial(number: int) -> int:
    return number


@app.workflow
async def steps(count: int) -> int:
    now = time.perf_counter()
    total = 0
    for number in range(count):
        total += await trivial(number)
        now = meter.ack(now)
    return total


reached = asyncio.Event()


@app.workflow
async def halfway(count: int) -> int:
    total = 0
    for number in range(count):
        total += await trivial(number)
    reached.set()
    await hf.sleep("1h")
    return total


async def durability() -> str:
    """The setting that makes a commit durable, read from the store's own connections."""
    if request.backend == "sqlite":
        rows = await app.store.driver.fetch_text("SELECT synchronous FROM pragma_synchronous")
        journal = await app.store.driver.fetch_text("SELECT journal_mode FROM pragma_journal_mode")
        return " ".join(
            (require("journal_mode", journal[0][0], "wal"), require("synchronous", rows[0][0], 2, 3))
        )
    rows = await app.store.driver.fetch_text("SELECT current_setting('synchronous_commit')")
    return require("synchronous_commit", rows[0][0], "on")


async def throughput() -> None:
    async def workflow() -> None:
        await steps(request.steps)

    async with app:
        report(durability=await durability(), **await measure(meter, workflow))


async def resume() -> None:
    async with app:
        handle = await halfway.start(request.steps)
        await reached.wait()
    reached.clear()
    async with app:
        began = time.perf_counter()
        await app.resume(handle.id)
        await reached.wait()
        report(durability=await durability(), value=time.perf_counter() - began, steps=request.steps)


def fanout() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fanout.yaml"
        file.write_text(
            "name: fanout\n"
            "inputs: {type: object, properties: {items: {type: array}}}\n"
            "steps:\n"
            "  - id: each\n"
            "    for_each: ${{ inputs.items }}\n"
            "    python: textwrap:dedent\n"
            "    with: {text: x}\n"
        )
        items = Path(folder) / "input.json"
        items.write_text('{"items": [' + ", ".join(map(str, range(request.steps))) + "]}")
        began = time.perf_counter()
        command = [sys.executable, "-m", "holdfast.cli.main", "run", str(file), "--input", f"@{items}"]
        subprocess.run([*command, "--storage", url, "--json"], check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        report(peak_mb=peak, value=time.perf_counter() - began, steps=request.steps)


if request.scenario == "fanout":
    fanout()
asyncio.run(resume() if request.scenario == "resume" else throughput())

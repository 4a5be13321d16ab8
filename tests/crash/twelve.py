"""The program that the crash tests kill: twelve steps, a ledger of what it was told, and planted defects.

    python -c "from tests.crash.twelve import main; main()" URL LEDGER ID… [--plant NAME] [--stop-at STEP]

The ledger lies on another file system than the store. Two kinds of lines are written to it, each with one
appending write: `body` when a step's body runs, and `ack` after the awaited step gave its result back, which
is what "acknowledged" means to a caller. Every result holds fresh chance, so a body that ran twice shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import holdfast as hf
from tests.crash import plants

NAMES = ("first", "flaky", "fan0", "fan1", "fan2", "fan3", "nap", "left", "right", "child", "merge", "last")


class Ledger:
    """Lines that survive the death of their writer: the file is opened for appending and never buffered."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, kind: str, execution: str, name: str, value: str) -> None:
        os.write(self._descriptor, (json.dumps([kind, execution, name, value]) + "\n").encode())


def build(url: str, ledger: Ledger, *, stop_at: str | None = None, rest_s: float = 0.0) -> tuple[hf.App, Any]:
    """The app and its workflow; `rest_s` is how long a body takes at most."""
    app = hf.App(url)
    failed: set[str] = set()

    async def body(execution: str, name: str) -> str:
        ledger.note("body", execution, name, "")
        if name == stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        if rest_s:
            await asyncio.sleep(random.uniform(0, rest_s))
        return f"{name}:{secrets.token_hex(8)}"

    @app.step
    async def work(execution: str, name: str) -> str:
        return await body(execution, name)

    @app.step(max_attempts=50, backoff="1ms")
    async def flaky(execution: str, name: str) -> str:
        value = await body(execution, name)
        if execution not in failed:
            failed.add(execution)
            raise ConnectionError("the first attempt always fails")
        return value

    async def told(execution: str, name: str, step: Awaitable[str]) -> str:
        value = await step
        ledger.note("ack", execution, name, value)
        return value

    @app.workflow
    async def pair(execution: str) -> str:
        left = await told(execution, "left", work(execution, "left"))
        right = await told(execution, "right", work(execution, "right"))
        return f"child:{left}+{right}"

    @app.workflow
    async def twelve(execution: str) -> str:
        first = await told(execution, "first", work(execution, "first"))
        second = await told(execution, "flaky", flaky(execution, "flaky"))
        fan = await hf.gather(*[told(execution, f"fan{n}", work(execution, f"fan{n}")) for n in range(4)])
        await hf.sleep("10ms")
        ledger.note("ack", execution, "nap", "nap")
        inner = await told(execution, "child", pair(execution))
        merged = await told(execution, "merge", work(execution, "merge"))
        last = await told(execution, "last", work(execution, "last"))
        return " ".join((first, second, *fan, inner, merged, last))

    return app, twelve


async def run(app: hf.App, workflow: Any, ids: list[str], *, at_once: int = 1) -> dict[str, str]:
    """Start or go on with every execution and wait for its end."""
    limit = asyncio.Semaphore(at_once)
    outputs: dict[str, str] = {}

    async def one(id: str) -> None:
        async with limit:
            outputs[id] = await workflow.options(id=id)(id)

    async with app:
        await asyncio.gather(*[one(id) for id in ids])
    return outputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("ids", nargs="+", help="ids, or one `prefix*COUNT`")
    parser.add_argument("--plant", choices=sorted(plants.PLANTS), default="none")
    parser.add_argument("--stop-at")
    parser.add_argument("--rest", type=float, default=0.0)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    ids = options.ids
    if "*" in ids[0]:
        prefix, count = ids[0].split("*")
        ids = [f"{prefix}{n}" for n in range(int(count))]
        random.shuffle(ids)
    plants.PLANTS[options.plant]()
    ledger = Ledger(options.ledger)
    app, workflow = build(options.url, ledger, stop_at=options.stop_at, rest_s=options.rest)
    outputs = asyncio.run(run(app, workflow, ids, at_once=options.at_once))
    for id, output in outputs.items():
        ledger.note("done", id, "", output)
    sys.exit(0)

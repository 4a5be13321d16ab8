"""Asking a worker of this host to end, and seeing that it does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from holdfast.cli.endings import WAITING
from holdfast.cli.reading import with_store
from holdfast.fleet.roster import WorkerState, ask_to_stop, find_registered, read_roster

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.fleet.roster import Registered
    from holdfast.store.store import Store

PATIENCE_S = 60.0
_LOOK_S = 0.2


def stop_worker(invocation: Invocation, id: str, *, wait: bool) -> int:
    """Ask the worker to drain, and with `wait` stay until it is gone; the exit code."""
    timeout = invocation.timeout
    limit_s = PATIENCE_S if timeout is None else timeout.total_seconds()

    async def run(store: Store) -> tuple[Registered, str]:
        found = find_registered(await read_roster(store), id)
        if found.state is WorkerState.LAPSED:
            return found, "is gone already"
        if invocation.flags.dry_run:
            return found, "would be stopped"
        ask_to_stop(store, found)
        if wait and await _ended(store, found, time.monotonic() + limit_s):
            return found, "has stopped"
        return found, "was asked to stop"

    found, result = with_store(invocation, run)
    if invocation.output.is_table:
        invocation.say(f"worker {found.boot.hex()[:8]} ({found.host}, process {found.pid}) {result}")
    else:
        invocation.output.record(
            {"id": found.boot.hex(), "host": found.host, "pid": found.pid, "result": result}
        )
    return WAITING if result == "was asked to stop" and wait else 0


async def _ended(store: Store, process: Registered, deadline: float) -> bool:
    while time.monotonic() < deadline:
        current = [each for each in await read_roster(store) if each.boot == process.boot]
        if not current or current[0].state is WorkerState.LAPSED:
            return True
        await asyncio.sleep(_LOOK_S)
    return False

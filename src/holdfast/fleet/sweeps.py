"""What any worker does for all: wake timers that are due, and take back what dead owners ran.

A sweep is repeated for ever and keeps nothing in memory between two rounds, so one that fails half way, or
whose process dies, is simply done again by whoever comes next. Several at once do no harm: rows that another
one holds are passed over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from holdfast.fleet.claims import put_back
from holdfast.fleet.ownership import Life, look_at
from holdfast.records.executions import BootId, ExecutionKey
from holdfast.store.entries import Holding
from holdfast.store.query import bound_list
from holdfast.store.store import Store

BATCH = 1_000
_STRAY_S = 1.0
_SCAN_S = 1.0


async def wake_due(store: Store) -> int:
    """Make executions ready whose timer or delay is over; how many. A full batch may not be all."""
    return _told(store, await store.driver.fetch("fleet.wake_due", BATCH))


async def unblock(store: Store, marks: Iterable[str]) -> int:
    """Make executions ready that waited for `marks`, such as versions that are offered now."""
    return sum([_told(store, await store.driver.fetch("fleet.unblock", mark, BATCH)) for mark in marks])


async def recover(store: Store, boot: BootId, folder: Path | None) -> int:
    """Put back what a dead owner ran, if it is dead; how many executions.

    One transaction: its row is locked, which keeps a renewal out, and the lease is looked at again; then the
    epochs rise. It is forgotten once it owns nothing any more.
    """
    total = 0
    while True:
        async with store.transaction() as transaction:
            rows = await transaction.fetch("workers.lock", boot)
            is_dead = not rows or rows[0][2] <= 0 or look_at(folder, boot) is Life.GONE
            if not is_dead:
                return total
            queues = await transaction.fetch("fleet.recover", boot, BATCH)
            if len(queues) < BATCH:
                await transaction.fetch("fleet.forget", boot)
        total += _told(store, queues)
        if len(queues) < BATCH:
            return total


async def orphans(store: Store) -> list[BootId]:
    """Owners that run executions and are not registered; `recover` puts back what they have."""
    return [BootId(row[0]) for row in await store.driver.fetch("fleet.orphans")]


class Strays:
    """Executions that this process owns and does not run: the reply to their claim was lost.

    One that is just being started looks the same, so an execution has to be seen twice, a while apart.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[tuple[bytes, int], float] = {}

    async def put_back(self, boot: BootId, running: Collection[ExecutionKey]) -> int:
        """Give back what has strayed for a second at least; how many executions."""
        now = time.monotonic()
        rows = await self._store.driver.fetch("fleet.owned", boot)
        found = {
            (bytes(key), epoch): bool(limited) for key, epoch, limited in rows if bytes(key) not in running
        }
        self._seen = {stray: self._seen.get(stray, now) for stray in found}
        done = 0
        for (key, epoch), since in list(self._seen.items()):
            if now - since >= _STRAY_S:
                holding = Holding(ExecutionKey(key), "", "", epoch=epoch)
                holding.limited = found[key, epoch]
                done += await put_back(self._store, boot, holding)
                del self._seen[key, epoch]
        return done


class Recovery:
    """Finds dead owners and puts back what they ran. Keeps in mind which lock files it has dealt with."""

    def __init__(self, store: Store, folder: Path | None) -> None:
        self._store = store
        self._folder = folder
        self._known_gone: set[BootId] = set()
        self._scanned_at = 0.0

    async def run(self, lapsed: Iterable[BootId]) -> int:
        """Recover the owners in `lapsed` and those whose process here is gone; how many executions."""
        gone = self._gone_here()
        ours = await self._registered(gone)
        total = 0
        for boot in {*lapsed, *ours}:
            total += await recover(self._store, boot, self._folder)
        self._known_gone.update(gone)
        return total

    def _gone_here(self) -> list[BootId]:
        """Owners on this host whose process is gone, by their lock files: their leases need not run out.

        Looked for once a second at most: every file is tried, and there may be many of other stores.
        """
        now = time.monotonic()
        if self._folder is None or now - self._scanned_at < _SCAN_S:
            return []
        self._scanned_at = now
        try:
            boots = {BootId(bytes.fromhex(name)) for name in os.listdir(self._folder) if len(name) == 32}
        except (OSError, ValueError):
            return []
        self._known_gone &= boots
        return [boot for boot in boots - self._known_gone if look_at(self._folder, boot) is Life.GONE]

    async def _registered(self, boots: Sequence[BootId]) -> list[BootId]:
        if not boots:
            return []
        driver = self._store.driver
        rows = await driver.fetch("fleet.registered", bound_list(driver.dialect, boots))
        return [BootId(bytes(row[0])) for row in rows]


def _told(store: Store, rows: Sequence[Sequence[str]]) -> int:
    """Tell idle workers of what became ready."""
    for queue in {row[0] for row in rows}:
        store.hints.ready(queue)
    return len(rows)

"""What the end of an execution leaves to be put in order outside of it.

All of it comes after the end's commit and may be lost with the process, so every worker also looks through
what refers to executions, a page at a time, and does it for those that have ended. A round costs the same
however much waits: the newest executions, where most is found, and one page of the others in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from holdfast.errors import RetryLater
from holdfast.fleet.cancelling import cancel_children, withdraw
from holdfast.fleet.ownership import Registration
from holdfast.fleet.signals import drop_addressed, forget_sent, return_unclaimed
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store.drivers.base import Row
from holdfast.store.store import Store
from holdfast.workflows.driving import Outcome

PAGE = 500
_NEWEST = b"\xff" * 16
"""Behind every key; keys begin with the time of creation."""


async def clean_up(store: Store, registration: Registration, key: ExecutionKey, outcome: Outcome) -> None:
    """Withdraw what an ended execution asked for, send on what it never took, and stop its children.

    Children that were detached go on. An execution that never reached out has nothing to clean up.
    """
    if not (outcome.status.is_final and outcome.reaches_out):
        return
    reason = f"its parent has {outcome.status}"
    if outcome.status is ExecutionStatus.CANCELLED:
        reason = str((outcome.error or {}).get("message", "")) or reason
    with suppress(RetryLater):  # the rounds see to it
        await _put_in_order(store, registration, key, reason)


async def _put_in_order(store: Store, registration: Registration, key: ExecutionKey, reason: str) -> None:
    await withdraw(store, key)
    await return_unclaimed(store, key)
    await cancel_children(store, registration, key, reason=reason)


class Rounds:
    """Finds what ended executions have left because the process that ended them died before it saw to it."""

    def __init__(self, store: Store, registration: Registration) -> None:
        self._store = store
        self._registration = registration
        self._before = _NEWEST
        self._after_name = ""

    async def look(self) -> int:
        """Put the newest page in order, and the one behind the last; how many had left something."""
        found, behind = await self._put_page_in_order(_NEWEST)
        if self._before != _NEWEST:
            more, behind = await self._put_page_in_order(self._before)
            found += more
        self._before = behind
        await forget_sent(self._store)
        self._after_name, _ = await drop_addressed(self._store, self._after_name, PAGE)
        return found

    async def _put_page_in_order(self, before: bytes) -> tuple[int, bytes]:
        """How many ended executions of the page had left something, and where the next page begins."""
        rows = await self._store.driver.fetch("leaving.page", before, PAGE)
        ended = {bytes(key) for _kind, key, has_ended in rows if has_ended}
        for key in sorted(ended):
            await _put_in_order(self._store, self._registration, ExecutionKey(key), "its parent has ended")
        full = [keys[-1] for keys in _by_kind(rows) if len(keys) == PAGE]
        return len(ended), max(full, default=_NEWEST)  # behind the last of a full part nothing was read


def _by_kind(rows: Sequence[Row]) -> list[list[bytes]]:
    return [[bytes(row[1]) for row in part] for _, part in groupby(rows, key=lambda row: row[0])]

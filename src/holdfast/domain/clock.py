"""The present as the database has it: what decides about leases, locks and sessions on every host alike."""

from __future__ import annotations

from datetime import datetime

from holdfast.store.drivers.base import Executor
from holdfast.store.rows import moment


async def present(executor: Executor) -> datetime:
    """The time by the store's clock."""
    return moment((await executor.fetch("store.now"))[0][0])

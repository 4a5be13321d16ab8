"""What executions ask of the world beyond their own log, as rows of the store; see `Outside`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from holdfast.fleet import approvals, signals, tasks
from holdfast.store.entries import Holding
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec


class OutsideRows:
    """The port of the engine, on one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def wait_for_signal(self, holding: Holding, path: str, name: str) -> bool:
        """See `Outside`."""
        return await signals.wait_for_signal(self._store, holding, path, name)

    async def stop_waiting_for_signal(self, holding: Holding, path: str, name: str) -> bool:
        """See `Outside`."""
        return await signals.stop_waiting_for_signal(self._store, holding, path, name)

    async def ask_for_approval(
        self,
        holding: Holding,
        path: str,
        id: str,
        title: str,
        form: dict[str, Any] | None,
        deadline: datetime | None,
    ) -> None:
        """See `Outside`."""
        await approvals.ask(self._store, holding, path, id, title, form, deadline)

    async def expire_approval(self, holding: Holding, id: str) -> bool:
        """See `Outside`."""
        return await approvals.expire(self._store, holding, id)

    async def offer_task(self, holding: Holding, path: str, id: str, spec: TaskSpec) -> None:
        """See `Outside`."""
        await tasks.offer(self._store, holding, path, id, spec)

    async def withdraw_task(self, holding: Holding, id: str) -> bool:
        """See `Outside`."""
        return await tasks.withdraw(self._store, holding, id)

"""The port to rows outside of an execution's history that its steps make and that others answer.

Everything here is fenced: a process that has lost the execution gets `LeaseLost`, under the row's lock, so
that a stopped owner that goes on registers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from holdfast.errors import InvalidArgument
from holdfast.store.entries import Holding

_TEXT_BYTES_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What an execution asks of an agent. `max_attempts` counts all claims of the task."""

    capability: str
    payload: Any = None
    type: str | None = None
    priority: int = 0
    lease: timedelta = timedelta(seconds=60)
    max_attempts: int = 3

    def __post_init__(self) -> None:
        """Refuse here what the database would refuse later."""
        for what, text in (("capability", self.capability), ("type", self.type)):
            if text is not None and not (text.isprintable() and 1 <= len(text.encode()) <= _TEXT_BYTES_MAX):
                raise InvalidArgument(
                    f"{text[:60]!r} can not be a {what}",
                    fix=f"use 1 to {_TEXT_BYTES_MAX} bytes of printable text",
                )
        if self.max_attempts < 1:
            raise InvalidArgument(f"{self.max_attempts} attempts are none", fix="max_attempts is at least 1")
        if self.lease < timedelta(seconds=1):
            raise InvalidArgument(f"a lease of {self.lease} is too short", fix="give it a second at least")


class Outside(Protocol):
    """What waits need of the store. Every call is idempotent."""

    async def wait_for_signal(self, holding: Holding, path: str, name: str) -> bool:
        """Register the step at `path` as waiting for signal `name`. True: its message is there already."""
        ...

    async def stop_waiting_for_signal(self, holding: Holding, path: str, name: str) -> bool:
        """Take the registration back. False: a signal came first, and lies in the inbox."""
        ...

    async def ask_for_approval(
        self,
        holding: Holding,
        path: str,
        id: str,
        title: str,
        form: dict[str, Any] | None,
        deadline: datetime | None,
    ) -> None:
        """Ask people for a decision under `id`."""
        ...

    async def expire_approval(self, holding: Holding, id: str) -> bool:
        """Close the approval as expired. False: somebody decided first."""
        ...

    async def offer_task(self, holding: Holding, path: str, id: str, spec: TaskSpec) -> None:
        """Offer a task to the agents under `id`."""
        ...

    async def withdraw_task(self, holding: Holding, id: str) -> bool:
        """Take the task back. False: an agent answered first."""
        ...

"""What has been read of an execution's inbox: requests to stop or pause, and messages for its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.errors import RetryLater
from holdfast.store import codec
from holdfast.workflows.parking import NAME_SEPARATOR, Message

if TYPE_CHECKING:
    from holdfast.workflows.engine import ExecutionRuntime

_READ_AGAIN_S = (0.05, 2.0)


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of the whole execution, and the message that says so."""

    message: bytes
    why: dict[str, Any]


class Inbox:
    """Reads for one run. `seen` counts the messages that have been read, as `wakes` counts them."""

    def __init__(self, runtime: ExecutionRuntime, on_cancel: Callable[[], None]) -> None:
        self._runtime = runtime
        self._on_cancel = on_cancel
        self.cancel: Request | None = None
        self.pause: Request | None = None
        self.seen = 0

    async def read(self) -> None:
        """Read all there is. Raises `RetryLater` when the store can not be reached."""
        holding, seen = self._runtime.holding, -1
        while seen != holding.wakes:  # a message may come behind the query that was under way
            seen = holding.wakes
            rows = await self._runtime.engine.reader.fetch("inbox.read", holding.key)
            for message, kind, name, payload in rows:
                self._take_in(bytes(message), kind, name, payload)
            if self.pause is not None and all(row[1] != "pause" for row in rows):
                self.pause = None  # it was taken back
                self._runtime.unpause()
            self.seen = max(self.seen, seen)

    async def read_until_heard(self) -> None:
        """Read all there is, as soon as the store can be reached."""
        pause_s = _READ_AGAIN_S[0]
        while True:
            try:
                await self.read()
            except RetryLater:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _READ_AGAIN_S[1])
            else:
                return

    def _take_in(self, message: bytes, kind: str, name: str | None, payload: bytes | None) -> None:
        if kind == "pause":
            if self.pause is None:
                self.pause = Request(message, _why(kind, payload))
                self._runtime.pause()
        elif kind == "cancel":
            if self.cancel is None:
                self.cancel = Request(message, _why(kind, payload))
                self._on_cancel()
        elif name is not None:
            path = name.partition(NAME_SEPARATOR)[0]
            self._runtime.parking.deliver(path, Message(message, payload))


def _why(kind: str, payload: bytes | None) -> dict[str, Any]:
    asked = codec.decode(payload, what=f"{kind} message") if payload else {}
    return asked if isinstance(asked, dict) else {}

"""What goes through the journal: one entry each, of an execution that this process holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from holdfast.errors import HoldfastError
from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers.base import Answer, EventRow, NewExecution, Post, Transition, Write


class Holding:
    """An execution this process owns: its identity, its epoch, and the next number of its log.

    `wakes` is the newest count any flush saw; when it grows, `on_wake` is called from the event loop.
    """

    __slots__ = (
        "delayed", "epoch", "id", "key", "limited", "lost", "next_seq", "on_wake", "tenant", "wakes",
    )  # fmt: skip

    def __init__(
        self, key: ExecutionKey, id: str, tenant: str, *, epoch: int, next_seq: int = 1, wakes: int = 0
    ) -> None:
        self.key = key
        self.id = id
        self.tenant = tenant
        self.epoch = epoch
        self.next_seq = next_seq
        self.wakes = wakes
        self.limited = False  # whether it holds places in a queue with limits
        self.lost: HoldfastError | None = None
        self.on_wake: Callable[[], None] | None = None
        self.delayed: list[Entry] | None = None

    def lose(self, cause: HoldfastError) -> None:
        """Stop writing for this execution: every further entry fails with `cause`."""
        if self.lost is None:
            self.lost = cause
            if self.on_wake is not None:
                self.on_wake()

    def saw_wakes(self, wakes: int) -> None:
        """Note a count of messages; tells the engine when there are new ones."""
        if wakes > self.wakes:
            self.wakes = wakes
            if self.on_wake is not None:
                self.on_wake()


class Placed(NamedTuple):
    """Where a value goes: in its row, or in `payloads` under its digest, with the batch or already."""

    inline: bytes | None
    ref: bytes | None
    body: bytes | None


class Entry(Write):
    """One entry on its way through the journal."""

    __slots__ = ("fields", "holding", "size", "waiter")

    def __init__(  # noqa: PLR0913 - one per column of the log and per effect; made once per step
        self,
        holding: Holding,
        type: str,
        path: str | None = None,
        *,
        generation: int = 0,
        ordinal: int | None = None,
        attempt: int = 0,
        result: bool = False,
        duration_us: int | None = None,
        input_digest: bytes | None = None,
        input: bytes | None = None,
        payload: Placed | None = None,
        create: NewExecution | None = None,
        transition: Transition | None = None,
        take: bytes | None = None,
        post: Post | None = None,
    ) -> None:
        inline, ref, body = payload or (None, None, None)
        if transition is not None and holding.limited:
            transition = transition._replace(frees_slots=True)
        # Spelled out instead of calling up: this runs once per step.
        self.create = create
        self.transition = transition
        self.take = take
        self.post = post
        self.body = body
        self.is_plain = (
            create is None and transition is None and take is None and post is None and body is None
        )
        self.holding = holding
        self.fields = (
            type, path, generation, ordinal, attempt, result, duration_us, input_digest, input, inline, ref,
        )  # fmt: skip
        self.size = 128 + len(input or b"") + len(inline or b"") + len(body or b"")
        self.waiter: asyncio.Future[Answer] | None = None

    @property
    def is_last(self) -> bool:
        """Whether it may be refused alone: then nothing of its execution may follow it in its batch."""
        return self.post is not None or self.transition is not None

    def number(self) -> None:
        """Give it the next sequence number of its execution."""
        holding = self.holding
        self.event = EventRow._make((holding.key, holding.next_seq, holding.epoch, *self.fields))
        holding.next_seq += 1

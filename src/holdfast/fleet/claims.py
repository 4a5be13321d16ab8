"""Taking executions out of queues, many at a time.

A worker looks first (`peek`, one statement that writes nothing) and then claims lane by lane: a lane is one
queue, class and tenant, so that tenants take turns. Within a lane the partial index gives the order:
priority, then age. Every few claims go by age alone, so that nothing waits for ever behind a stream of more
urgent work. A claim is one statement: the row gets an owner and the next epoch, and whatever an earlier owner
still sends is refused from that commit on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from holdfast.records.events import EventType
from holdfast.records.executions import BootId, ExecutionKey
from holdfast.store.drivers.base import Row
from holdfast.store.entries import Holding
from holdfast.store.query import bound_list
from holdfast.store.store import Store

LANES_MAX = 256
"""Lanes that one look tells of; with more, the next look goes on behind them."""
_INPUT = 13  # the column of a claim that holds the input of an untouched execution
BY_AGE_EVERY = 8
"""Of so many claims of a lane, one takes the oldest of every priority."""


class Lane(NamedTuple):
    """One queue, class and tenant that has work."""

    queue: str
    class_: str
    tenant: str


@dataclass(slots=True)
class Look:
    """What a worker saw: nothing here is taken yet."""

    lanes: list[Lane] = field(default_factory=list)
    limited: set[str] = field(default_factory=set)
    dead: list[BootId] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    due_in_s: float | None = None
    schema: int = 0

    @property
    def goes_on_after(self) -> str:
        """The tenant behind which the next look goes on; empty: it begins anew.

        The lanes of each queue and class come by tenant, and one queue may have got less far than another.
        The next look begins behind the one that got least far: to tell of a lane twice does no harm, but
        one that is passed over waits.
        """
        if len(self.lanes) < LANES_MAX:
            return ""
        return min({(lane.queue, lane.class_): lane.tenant for lane in self.lanes}.values())


async def peek(
    store: Store, queues: Sequence[str], classes: Sequence[str], offers: Sequence[str], *, after: str = ""
) -> Look:
    """Look for work in one statement. `offers` are the `version:…` marks that could be unblocked here.

    `after` is a tenant: only lanes behind it are told.
    """
    dialect = store.driver.dialect
    # In another order every time, so that no queue is behind the end of every look.
    queues = random.sample(queues, len(queues))
    look = Look()
    for kind, text, class_, tenant, number in await store.driver.fetch(
        "fleet.peek",
        bound_list(dialect, queues),
        bound_list(dialect, classes),
        after,
        bound_list(dialect, offers),
        LANES_MAX,
    ):
        if kind == "lane":
            look.lanes.append(Lane(text, class_, tenant))
        elif kind == "due":
            look.due_in_s = number / 1_000_000
        elif kind == "dead":
            look.dead.append(BootId(bytes.fromhex(text)))
        elif kind == "offered":
            look.offered.append(text)
        elif kind == "limited":
            look.limited.add(text)
        else:
            look.schema = number
    return look


@dataclass(frozen=True, slots=True)
class Claimed:
    """An execution that is this worker's now, with its log."""

    holding: Holding
    workflow: str
    version: str
    definition: bytes
    queue: str
    recoveries: int
    parent: ExecutionKey | None
    parent_path: str | None
    limit_key: str | None
    events: list[Row]

    @property
    def is_fresh(self) -> bool:
        """Whether no owner ever had it."""
        return self.holding.epoch == 1

    @property
    def was_handed_back(self) -> bool:
        """Whether its last owner gave it up in order; else it was taken from one that died."""
        kinds = [row[1] for row in self.events if row[2] is None]
        if len(kinds) == 1:
            return self.recoveries == 0
        return kinds[-1] in (EventType.EXECUTION_SUSPENDED, EventType.STEP_RESET)


async def claim_lane(
    store: Store,
    boot: BootId,
    lane: Lane,
    limit: int,
    *,
    schema: int,
    refused: Sequence[bytes] = (),
    by_age: bool = False,
) -> list[Row]:
    """Take up to `limit` ready executions of a lane; rows as `read_claimed` wants them.

    Nothing comes when the store has a newer migration than `schema`, the newest this worker has judged.
    `refused` are definitions that it can not run. With `by_age` it is the oldest of each priority.
    """
    statement = "fleet.claim_oldest" if by_age else "fleet.claim"
    passed_over = bound_list(store.driver.dialect, refused)
    return await store.driver.fetch(statement, *lane, boot, limit, passed_over, schema)


async def read_claimed(store: Store, rows: Sequence[Row], *, limited: bool = False) -> list[Claimed]:
    """The claimed executions with their logs.

    The log of one that nobody has touched since its start came with the claim. The others are read in a new
    statement after the claim's commit: in the same one the last flush of an earlier owner would be missing.
    """
    asked = [row[0] for row in rows if row[_INPUT] is None]
    events: dict[bytes, list[Row]] = {}
    if asked:
        told = await store.driver.fetch("fleet.histories", bound_list(store.driver.dialect, asked))
        events = {bytes(key): [row[1:] for row in each] for key, each in groupby(told, lambda row: row[0])}
    return [
        _claimed(row, events.get(bytes(row[0]), []) if row[_INPUT] is None else [_start(row)], limited)
        for row in rows
    ]


def _start(row: Row) -> Row:
    """The event that an untouched execution begins with, as `events.history` gives it."""
    return (1, EventType.EXECUTION_STARTED, None, 0, None, 0, 0, False, None, None, None, row[_INPUT])


def _claimed(row: Row, events: list[Row], limited: bool) -> Claimed:
    (
        key, id_, tenant, workflow, version, definition, queue, epoch, wakes, recoveries, parent, parent_path,
        limit_key, _input,
    ) = row  # fmt: skip
    holding = Holding(
        ExecutionKey(key), id_, tenant, epoch=epoch, next_seq=events[-1][0] + 1 if events else 1, wakes=wakes
    )
    holding.limited = limited
    parent_key = None if parent is None else ExecutionKey(parent)
    return Claimed(
        holding,
        workflow,
        version,
        bytes(definition),
        queue,
        recoveries,
        parent_key,
        parent_path,
        limit_key,
        events,
    )


async def put_back(store: Store, boot: BootId, holding: Holding, blocked_on: str | None = None) -> bool:
    """Give up a claimed execution that did not run: into its queue, or aside until `blocked_on` is there.

    False: it was taken from us meanwhile.
    """
    async with store.transaction() as transaction:
        rows = await transaction.fetch("fleet.put_back", holding.key, boot, holding.epoch, blocked_on)
        if rows and holding.limited:
            await transaction.fetch("fleet.free_slots", holding.key)
    return bool(rows)

"""Claims from queues with limits: places, rates, and executions that wait for a place.

A limit of three is three rows of `slots`; one that names an execution as its holder is given out. Rows are
made when they are first needed, and nothing is counted but the few above a limit that was lowered. There are
three kinds of place, told apart by their scope: of the queue (``), of a tenant (`tenant:…`) and of a key
(`key:<tenant>:<limit_key>`). Claims go tenant by tenant, so a queue or a tenant without a free place is not
looked into at all. An execution whose key has none is parked: it leaves the ready set, with the place it
waits for in `blocked_on`, and no later claim reads it again until it is promoted.

Why no promotion is lost, although a flush gives places back without asking anybody:

    claim:  lock the queue's row · see that the places are held · park · commit
    end:    flush frees the places, commit · then promote: lock the queue's row · see what is free and parked

Both lock the queue's row before they look, and look in statements of their own. If the promotion gets the
lock second, the parking is committed and it sees what was parked. If it gets it first, the places were free
before that, so the claim, which looks after it, sees them free and has no reason to park. A process that dies
between the flush and its promotion is covered by `repair`, which every worker repeats.

The lock order is queue row, executions, slots; a flush takes its executions first and then only slots that
they hold, and executions that somebody else has locked are passed over here, so nobody waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from holdfast.fleet.claims import Lane
from holdfast.records.executions import BootId
from holdfast.records.queues import QueueSettings, settings_of
from holdfast.store.drivers.base import Row, Transaction
from holdfast.store.query import bound_list
from holdfast.store.store import Store

LOOK_MAX = 1_000
"""Candidates that one transaction looks at in a queue with limits by key."""
ROUNDS_MAX = 6
"""Transactions that one claim makes while it parks without finding anything to run."""
_LOOK_FIRST = 20
_LOOK_GROWTH = 5
_PLACES_MAX = 1_000
_ASTRAY_MAX = 200
_PROMOTED_MAX = 1_000
_WHOLE = ""


async def settings(store: Store) -> dict[str, QueueSettings]:
    """The settings of every queue that has a row."""
    return {row[0]: settings_of(row) for row in await store.driver.fetch("queues.settings")}


def scopes_of(tenant: str, limit_key: str | None) -> list[str]:
    """The scopes that others may wait for when an execution gives up its places: what `promote` takes."""
    return [] if limit_key is None else [f"key:{tenant}:{limit_key}"]


def mark(queue: str, scope: str) -> str:
    """What `blocked_on` says of an execution that waits for a place of `scope`."""
    return f"slot:{queue}:{scope}"


# Claiming.


async def claim_limited(
    store: Store,
    boot: BootId,
    queue: QueueSettings,
    class_: str,
    tenant: str,
    limit: int,
    *,
    refused: Sequence[bytes] = (),
    by_age: bool = False,
) -> list[Row]:
    """Take up to `limit` ready executions of a lane within the limits of its queue; rows like `fleet.claim`.

    `queue` may be out of date: its limits are read again under the lock. Those that lack a place of their key
    are parked on the way, a bounded number. A taken-over execution keeps its places and comes
    first when others are short of them. Each one that is taken costs a token of the rate. `refused` and
    `by_age` as in `claim_lane`.
    """
    if queue.paused:
        return []  # the next look tells when it is not any more
    lane = Lane(queue.name, class_, tenant)
    look = max(2 * limit, _LOOK_FIRST)
    for _ in range(ROUNDS_MAX):
        async with store.transaction() as transaction:
            claim = _Claim(store, transaction, boot, lane, tuple(refused), by_age, min(look, LOOK_MAX))
            taken, parked = await claim.run(limit)
        if parked and len(taken) < limit:
            store.hints.ready(queue.name)  # behind those that were parked there may be more
        if taken or not parked:
            return taken
        look *= _LOOK_GROWTH
    return []


@dataclass(slots=True)
class _Places:
    """The places of one scope: numbers that are free, and how many may still be given out."""

    free: list[int]
    top: int
    most: int
    left: int

    @classmethod
    def of(cls, top: int, beyond: int, free: list[int], most: int) -> _Places:
        # Places above a lowered limit that are still held count against it.
        return cls(free[::-1], top, most, max(len(free) + max(most - top, 0) - beyond, 0))

    def take(self) -> int:
        self.left -= 1
        if self.free:
            return self.free.pop()
        self.top += 1
        return self.top


@dataclass(slots=True)
class _Choice:
    """What one transaction is going to write."""

    taken: list[bytes] = field(default_factory=list)
    parked: list[dict[str, str]] = field(default_factory=list)
    given: list[dict[str, str | int]] = field(default_factory=list)


@dataclass(slots=True)
class _Claim:
    """One claim in one transaction."""

    store: Store
    transaction: Transaction
    boot: BootId
    lane: Lane
    refused: tuple[bytes, ...]
    by_age: bool
    look: int
    settings: QueueSettings = field(init=False)

    async def run(self, limit: int) -> tuple[list[Row], int]:
        """The rows that were taken, and how many were parked."""
        queue = self.lane.queue
        rows = await self.transaction.fetch("queues.lock", queue)
        lease = await self.transaction.fetch("workers.lease_left", self.boot)
        if not lease or lease[0][0] <= 0:
            return [], 0  # others would have to take it all from this worker again
        self.settings = settings_of(rows[0]) if rows else QueueSettings(name=queue)
        tokens = float(rows[0][7]) if self.settings.rate else None
        if tokens is not None:
            limit = min(limit, int(tokens + 1e-9))
        if limit < 1 or self.settings.paused:
            return [], 0
        places = await self._wide_places()
        choice = await self._choose(limit, places)
        taken = await self._write(choice)
        if tokens is not None and taken:
            await self.transaction.fetch("queues.spend", queue, tokens - len(taken), rows[0][8])
        return taken, len(choice.parked)

    async def _wide_places(self) -> dict[str, _Places]:
        """The places of the queue and of the tenant, as far as they are limited."""
        asked = {}
        if self.settings.concurrency is not None:
            asked[_WHOLE] = self.settings.concurrency
        if self.settings.tenant_concurrency is not None:
            asked[f"tenant:{self.lane.tenant}"] = self.settings.tenant_concurrency
        return await read_places(self.transaction, self.lane.queue, asked)

    async def _choose(self, limit: int, places: dict[str, _Places]) -> _Choice:
        """Decide who is taken and who is parked; `places` are those of the queue and the tenant."""
        wide = list(places)
        candidates: list[Row] = []
        short = min(wide, key=lambda scope: places[scope].left, default=None)
        room = limit if short is None else min(places[short].left, limit)
        if short is not None and room < limit:
            candidates += await self._holding(short, limit)
        if room > 0:
            known = {row[0] for row in candidates}
            look = self.look if self.settings.key_concurrency is not None else limit
            candidates += [row for row in await self._ready(look) if row[0] not in known]
        held = await self._held([row[0] for row in candidates if row[2] > 0])
        places |= await self._key_places(candidates)
        choice = _Choice()
        for key, limit_key, _epoch in candidates:
            if len(choice.taken) == limit:
                break
            own = self._own(limit_key)
            lacking = [scope for scope in (*wide, *own) if (bytes(key), scope) not in held]
            if any(places[scope].left == 0 for scope in own if scope in lacking):
                choice.parked.append({"key": key.hex(), "mark": mark(self.lane.queue, own[0])})
            elif all(places[scope].left > 0 for scope in lacking):
                choice.taken.append(key)
                choice.given += [
                    {"scope": scope, "no": places[scope].take(), "holder": key.hex()} for scope in lacking
                ]
        return choice

    async def _ready(self, look: int) -> list[Row]:
        statement = "queues.candidates_by_age" if self.by_age else "queues.candidates"
        return await self.transaction.fetch(statement, *self.lane, look, self._bound(self.refused))

    async def _holding(self, scope: str, limit: int) -> list[Row]:
        """Those that need no place of `scope`: behind others that do, they would wait for ever."""
        return await self.transaction.fetch(
            "queues.holding", *self.lane, scope, limit, self._bound(self.refused)
        )

    async def _held(self, keys: Sequence[bytes]) -> set[tuple[bytes, str]]:
        if not keys:
            return set()
        rows = await self.transaction.fetch("queues.held_by", self.lane.queue, self._bound(keys))
        return {(bytes(holder), scope) for holder, scope in rows}

    def _own(self, limit_key: str | None) -> list[str]:
        """The scope of its key, when keys are limited."""
        return [] if self.settings.key_concurrency is None else scopes_of(self.lane.tenant, limit_key)

    async def _key_places(self, candidates: Sequence[Row]) -> dict[str, _Places]:
        most = self.settings.key_concurrency
        scopes = {scope for row in candidates for scope in self._own(row[1])}
        return await read_places(self.transaction, self.lane.queue, dict.fromkeys(sorted(scopes), most or 0))

    async def _write(self, choice: _Choice) -> list[Row]:
        if choice.parked:
            await self.transaction.fetch("queues.park", json.dumps(choice.parked))
        if choice.given:
            await self.transaction.fetch("queues.occupy", self.lane.queue, json.dumps(choice.given))
        if not choice.taken:
            return []
        return await self.transaction.fetch("queues.claim", self._bound(choice.taken), self.boot)

    def _bound(self, keys: Sequence[bytes]) -> object:
        return bound_list(self.store.driver.dialect, keys)


async def read_places(transaction: Transaction, queue: str, asked: dict[str, int]) -> dict[str, _Places]:
    """The places of each asked scope under its limit, with the queue's row locked. Drops what is above."""
    if not asked:
        return {}
    wanted = json.dumps([{"scope": scope, "most": most} for scope, most in asked.items()])
    found = {}
    for scope, top, beyond, free in await transaction.fetch("queues.places", queue, wanted, _PLACES_MAX):
        most = asked[scope]
        found[scope] = _Places.of(top, beyond, json.loads(free), most)
        if top > most:
            await transaction.fetch("queues.shrink", queue, scope, most)
    return found


# Promoting.


async def promote(store: Store, queue: str, scopes: Iterable[str]) -> int:
    """Make as many parked executions ready as there are free places in `scopes`; how many.

    Call it after the commit that gave the places back, also when there is no scope: idle workers are told,
    since others may wait for a place of the queue or the tenant.
    """
    wanted, promoted = list(scopes), 0
    if wanted:
        async with store.transaction() as transaction:
            promoted = await _promote(transaction, queue, wanted)
    store.hints.ready(queue)
    return promoted


async def _promote(transaction: Transaction, queue: str, scopes: Sequence[str]) -> int:
    rows = await transaction.fetch("queues.lock", queue)
    most = settings_of(rows[0]).key_concurrency if rows else None
    places = {} if most is None else await read_places(transaction, queue, dict.fromkeys(scopes, most))
    promoted = 0
    for scope in scopes:
        room = places[scope].left if scope in places else _PROMOTED_MAX
        if room:
            promoted += len(await transaction.fetch("queues.promote", mark(queue, scope), room))
    return promoted


async def repair(store: Store) -> int:
    """Put right what processes left behind that died, or forgot their places; how much was wrong.

    Frees places whose holder does not run any more, promotes what waits for a place that is free, and drops
    the rows of keys that nobody uses. One statement when there is nothing to do; bounded when there is.
    """
    total = 0
    found = sorted(await store.driver.fetch("queues.astray", _ASTRAY_MAX), key=lambda row: row[1])
    for queue, rows in groupby(found, key=lambda row: row[1]):
        async with store.transaction() as transaction:
            done = await _repair(store, transaction, queue, list(rows))
        if done:
            store.hints.ready(queue)
        total += done
    return total


async def _repair(store: Store, transaction: Transaction, queue: str, rows: Sequence[Row]) -> int:
    await transaction.fetch("queues.lock", queue)
    dialect = store.driver.dialect
    holders = [bytes.fromhex(row[2]) for row in rows if row[0] == "held"]
    scopes = {row[2] for row in rows if row[0] == "parked"}
    idle = {row[2] for row in rows if row[0] == "idle"}
    done = 0
    if holders:
        freed = await transaction.fetch("queues.free", queue, bound_list(dialect, holders))
        scopes |= {row[0] for row in freed if row[0].startswith("key:")}
        done += len(freed)
    if scopes:
        done += await _promote(transaction, queue, sorted(scopes))
    if idle - scopes:
        await transaction.fetch("queues.forget_keys", queue, bound_list(dialect, sorted(idle - scopes)))
    return done

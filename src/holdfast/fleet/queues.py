"""Queues as people look at them and steer them: depth, limits, pauses, dead letters.

What is said here is read by the workers with their next look, so it takes effect within one poll. Counting is
bounded: a queue of a million is as quickly looked at as one of ten thousand.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import replace
from typing import Any, Final

from holdfast.errors import InvalidArgument, OtherQueue, QueueNotFound
from holdfast.fleet.limits import repair, settings
from holdfast.fleet.retrying import retry
from holdfast.fleet.roster import WorkerState, read_roster
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.records.executions import Execution, ExecutionKey
from holdfast.records.queues import DeadLetter, QueueSettings, QueueState, Rate, Tally, settings_of
from holdfast.store import codec
from holdfast.store.filters import Condition, Query
from holdfast.store.query import EXECUTION_COLUMNS, bound_list, parse_query
from holdfast.store.rows import execution_of, moment
from holdfast.store.store import Store

COUNT_MAX: Final = 10_000
"""Where counting stops."""
_PAGE: Final = 500
_NAME_BYTES_MAX: Final = 255


class _Keep:
    """Stands for "leave it as it is", since None takes a limit away."""


_KEEP: Final = _Keep()


class Queues:
    """The queues of a store. A queue exists as soon as something is left in it or said about it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def states(self) -> list[QueueState]:
        """Every queue that has settings, executions that have not ended, or dead letters; by name."""
        rows = await self._store.driver.fetch("queues.names", self._store.tenant)
        return await self._states({row[0] for row in rows}, others=True)

    async def state(self, name: str) -> QueueState:
        """One queue; `QueueNotFound` when nothing is in it and nothing was said about it."""
        found = {state.settings.name: state for state in await self._states({name}, others=False)}
        known = {row[0] for row in await self._store.driver.fetch("queues.names", self._store.tenant)}
        state = found.get(name)  # None on MariaDB, which reads no name that is too long for one
        nobody = state is None or not (any(each.count for each in _tallies(state)) or state.listeners)
        if state is None or (nobody and name not in known):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "see `holdfast queues list`"
            raise QueueNotFound(f"there is no queue {name!r}", where=name, fix=hint)
        return state

    async def settings(self, name: str) -> QueueSettings:
        """What is said about a queue: no limits, and not paused, when nothing is."""
        return (await settings(self._store)).get(name) or QueueSettings(name=name)

    async def set_limits(
        self,
        name: str,
        *,
        concurrency: int | _Keep | None = _KEEP,
        key_concurrency: int | _Keep | None = _KEEP,
        tenant_concurrency: int | _Keep | None = _KEEP,
        rate: Rate | _Keep | None = _KEEP,
        paused: bool | _Keep = _KEEP,
    ) -> QueueSettings:
        """Change what is given, None taking a limit away; the settings afterwards.

        Workers go by it with their next look. Executions that run are never stopped for a lower limit:
        nothing new is taken until they are fewer. Raises `InvalidArgument`.
        """
        _check_name(name)
        given = {
            "concurrency": concurrency,
            "key_concurrency": key_concurrency,
            "tenant_concurrency": tenant_concurrency,
            "rate": rate,
            "paused": paused,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not _KEEP}
        async with self._store.transaction() as transaction:
            await transaction.fetch("queues.lock", name)
            rows = {row[0]: row for row in await transaction.fetch("queues.settings")}
            before = _settings(rows, name)
            after = replace(before, **changes)
            await transaction.fetch(
                "queues.set_row", name, after.paused if self._is_postgresql else int(after.paused),
                after.concurrency, after.key_concurrency, after.tenant_concurrency,
                after.rate.count if after.rate else None, after.rate.period_us if after.rate else None,
            )  # fmt: skip
        if after.key_concurrency != before.key_concurrency:
            while await repair(self._store):
                pass  # until everything that a higher limit lets go is ready
        if not after.paused:
            self._store.hints.ready(name)
        return after

    async def pause(self, name: str) -> QueueSettings:
        """Have workers take nothing more from a queue. What runs goes on, and more may be left in it."""
        return await self.set_limits(name, paused=True)

    async def resume(self, name: str) -> QueueSettings:
        """Have workers take from it again."""
        return await self.set_limits(name, paused=False)

    async def dead_letters(
        self, name: str, *, limit: int = 50, before: ExecutionKey | None = None
    ) -> list[DeadLetter]:
        """Failed executions of a queue and why, newest first; `before` is the key of the last one told."""
        rows = await self._store.driver.fetch("queues.dead_letters", self._store.tenant, name, limit, before)
        return [_letter(row) for row in rows]

    async def failed(self, name: str, query: str = "") -> list[Execution]:
        """All dead letters of a queue that a query fits, oldest first."""
        asked = parse_query([query, "status:failed"])
        column = next(each for each in EXECUTION_COLUMNS if each.name == "queue")
        asked = Query((*asked.conditions, Condition(column, "=", name)))
        found: list[Execution] = []
        while True:
            before = found[-1].key if found else None
            page = await self._store.list_executions(asked, before=before, limit=_PAGE)
            found += page
            if len(page) < _PAGE:
                return found[::-1]

    async def requeue(self, name: str, execution: Execution) -> None:
        """Put a dead letter back into its queue: it goes on from the step that failed.

        Raises `OtherQueue` when it is not of this queue, `WrongStatus` when it has not failed or is a child.
        """
        if execution.queue != name:
            raise OtherQueue(
                f"execution {execution.id} is of the queue {execution.queue!r}, not {name!r}",
                where=execution.id,
                fix=f"holdfast queues requeue {execution.queue} {execution.id}",
                id=execution.id,
            )
        await retry(self._store, execution)

    async def by_dedupe_key(self, name: str, dedupe_key: str) -> Execution | None:
        """The unfinished execution that was left in a queue with this key."""
        rows = await self._store.driver.fetch("queues.by_dedupe_key", self._store.tenant, name, dedupe_key)
        return execution_of(rows[0]) if rows else None

    @property
    def _is_postgresql(self) -> bool:
        return self._store.driver.dialect == "postgresql"

    async def _states(self, names: set[str], *, others: bool) -> list[QueueState]:
        """The states of `names`, and with `others` of any queue that is met on the way."""
        driver = self._store.driver
        unfinished: dict[tuple[str, str, bool], int] = {}
        for queue, status, blocked, count in await driver.fetch("queues.unfinished", COUNT_MAX + 1):
            unfinished[queue, status, bool(blocked)] = count
        cut = sum(unfinished.values()) > COUNT_MAX
        running = {row[0]: row[1] for row in await driver.fetch("queues.running", COUNT_MAX + 1)}
        if others:
            names = names | {key[0] for key in unfinished} | set(running)
        known = await settings(self._store)
        listeners = await self._listeners()
        asked = bound_list(driver.dialect, sorted(names))
        states = []
        for name, ready, oldest, parked, failed in await driver.fetch(
            "queues.depths", asked, COUNT_MAX + 1, self._store.tenant
        ):
            blocked = max(unfinished.get((name, "waiting", True), 0), parked)
            states.append(
                QueueState(
                    settings=known.get(name) or QueueSettings(name=name),
                    ready=_tally(ready),
                    running=_tally(running.get(name, 0), cut=sum(running.values()) > COUNT_MAX),
                    waiting=_tally(unfinished.get((name, "waiting", False), 0), cut=cut),
                    blocked=_tally(blocked, cut=cut and not parked),
                    paused=_tally(unfinished.get((name, "paused", False), 0), cut=cut),
                    failed=_tally(failed),
                    oldest_ready=moment(oldest),
                    listeners=listeners[name],
                )
            )
        return sorted(states, key=lambda state: state.settings.name)

    async def _listeners(self) -> Counter[str]:
        """How many workers take from each queue now."""
        workers = [each for each in await read_roster(self._store) if each.state is WorkerState.ACTIVE]
        return Counter(name for each in workers for name in each.details.get("queues", ()))


def _settings(rows: dict[str, Any], name: str) -> QueueSettings:
    return settings_of(rows[name]) if name in rows else QueueSettings(name=name)


def _tallies(state: QueueState) -> tuple[Tally, ...]:
    return (state.ready, state.running, state.waiting, state.blocked, state.paused, state.failed)


def _tally(count: int, *, cut: bool = False) -> Tally:
    """`cut`: the look ended before everything was seen."""
    return Tally(min(count, COUNT_MAX), count > COUNT_MAX or cut)


def _check_name(name: str) -> None:
    if not (name.isprintable() and 1 <= len(name.encode()) <= _NAME_BYTES_MAX):
        fix = f"use 1 to {_NAME_BYTES_MAX} bytes of printable text"
        raise InvalidArgument(f"{name[:60]!r} can not be a queue", fix=fix)
    if name == LOCAL_QUEUE:
        raise InvalidArgument(
            f"the queue {LOCAL_QUEUE!r} is for what a person runs here: no worker takes from it",
            fix="choose another name",
        )


def _letter(row: Any) -> DeadLetter:
    id, workflow, version, finished_at, recoveries, payload, key = row
    error = codec.decode(payload, what="error") if payload else {}
    failed_at = moment(finished_at)
    assert failed_at is not None  # the table says so of every failed execution
    return DeadLetter(
        key=ExecutionKey(bytes(key)),
        id=id,
        workflow=workflow,
        version=version,
        failed_at=failed_at,
        recoveries=recoveries,
        type=str(error.get("type", "unknown")),
        message=str(error.get("message", "")),
        step=error.get("step"),
    )

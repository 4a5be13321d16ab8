"""Tasks that stand by themselves: work for agents that no execution waits for.

    first = await platform.tasks.create("research", {"topic": "otters"})
    await platform.tasks.create("writing", depends_on=[first.id])

Agents claim both kinds of task alike, with `Agent` or with `claim` here. A task that depends on others is
blocked until all of them are completed; when one fails or is called off, its policy says how it ends.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.durations import Duration, parse_duration
from holdfast.errors import (
    ConstraintViolated,
    InvalidArgument,
    RecordExists,
    TaskNotFound,
    WrongTaskStatus,
)
from holdfast.fleet import dependencies, tasks
from holdfast.records.keys import new_id
from holdfast.records.tasks import DependencyPolicy, Task, TaskRecord, TaskStatus
from holdfast.store import codec
from holdfast.store.dialects import checked_text
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.filters import Query
from holdfast.store.pages import Page
from holdfast.store.query import bound_list
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec

AT_ONCE_MAX = 1_000
DEPENDENCIES_MAX = 100
_ID_BYTES_MAX = 255
_BACK = (TaskStatus.FAILED, TaskStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to be made. `depends_on` may name tasks that are made together with it."""

    capability: str
    payload: Any = None
    id: str = field(default_factory=new_id)
    type: str | None = None
    priority: int = 0
    depends_on: Sequence[str] = ()
    on_failed_dependency: DependencyPolicy = DependencyPolicy.FAIL
    lease: Duration = "60s"
    max_attempts: int = 3
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> TaskRecord:
        """The record of it; `InvalidArgument` for what no task can be."""
        spec = TaskSpec(
            capability=self.capability, payload=self.payload, type=self.type, priority=self.priority,
            lease=parse_duration(self.lease), max_attempts=self.max_attempts,
        )  # fmt: skip
        wanted = tuple(dict.fromkeys(self.depends_on))
        if not 1 <= len(checked_text(self.id, "id").encode()) <= _ID_BYTES_MAX:
            raise InvalidArgument(f"{self.id[:60]!r} can not be an id", fix=f"use 1 to {_ID_BYTES_MAX} bytes")
        if isinstance(self.depends_on, str) or len(wanted) > DEPENDENCIES_MAX:
            raise InvalidArgument(
                f"task {self.id!r} depends on {len(wanted):,} others",
                fix=f"pass a list of at most {DEPENDENCIES_MAX} ids",
            )
        return TaskRecord(
            id=self.id, capability=spec.capability, type=spec.type, priority=spec.priority,
            status=TaskStatus.BLOCKED if wanted else TaskStatus.PENDING, payload=spec.payload,
            max_attempts=spec.max_attempts, lease=spec.lease, depends_on=wanted,
            on_failed_dependency=DependencyPolicy(self.on_failed_dependency), metadata=dict(self.metadata),
        )  # fmt: skip


class Tasks:
    """The tasks of a store's tenant, those of executions included."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Making.

    async def create(self, capability: str, payload: Any = None, **options: Any) -> TaskRecord:
        """Make one task; `options` are those of `NewTask`. Raises what `create_many` raises."""
        (made,) = await self.create_many([NewTask(capability=capability, payload=payload, **options)])
        return made

    async def create_many(self, new: Iterable[NewTask]) -> list[TaskRecord]:
        """Make tasks, all or none; they may depend on each other, in any order.

        A task whose dependency has failed or was cancelled before ends at once, as its policy says. Raises
        `TaskNotFound` for a dependency that is not there, `InvalidArgument` for a cycle and for one that is
        a step of an execution, and `RecordExists` for an id that is taken.
        """
        records = _in_order([each.record() for each in new])
        if not records:
            return []

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def make(transaction: Transaction) -> list[TaskRecord]:
            return await self._make(transaction, records)

        try:
            made = await make()
        except ConstraintViolated as error:
            for there in await self._store.repo(TaskRecord).get_many([each.id for each in records]):
                raise RecordExists(f"there is a task {there.id!r} already", id=there.id) from error
            raise
        self._store.hints.message()
        return made

    async def _make(self, transaction: Transaction, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        store, ids = self._store, {each.id for each in records}
        outside = sorted({id for each in records for id in each.depends_on} - ids)
        found = await dependencies.lock(store, transaction, store.tenant, outside) if outside else {}
        _check_dependencies(outside, found)
        repo = store.repo(TaskRecord, within=transaction, unsealed=True)
        await repo.create_many(records)
        for each in records:
            if each.depends_on:
                listed = bound_list(store.driver.dialect, each.depends_on)
                await transaction.fetch("dependencies.add", store.tenant, each.id, listed)
        waiting = [each.id for each in records if each.depends_on]
        await dependencies.release(store, transaction, store.tenant, waiting)
        for status in _BACK:
            ended = [id for id, (now, _) in found.items() if now is status]
            if ended:
                await dependencies.follow_up(store, transaction, store.tenant, ended, status)
        return await repo.get_many([each.id for each in records])

    # Looking.

    async def get(self, id: str) -> TaskRecord:
        """A task with all that is known of it. Raises `TaskNotFound`."""
        found = await self._store.repo(TaskRecord).find_by_id(id)
        if found is None:
            raise TaskNotFound(f"there is no task {id!r}", id=id)
        return found

    async def find(self, query: str | Sequence[str] | Query = "", **page: Any) -> Page[TaskRecord]:
        """A page of the tasks that fit a query, such as `status:failed capability:research`.

        `page` is as for `Repository.find`.
        """
        return await self._store.repo(TaskRecord).find(query, **page)

    # An agent's side.

    async def claim(self, agent: str, capabilities: Sequence[str]) -> Task | None:
        """The next pending task for one of `capabilities`, in their order; None when there is none.

        The highest priority comes first, the oldest among equals. The claim is on disk when this returns,
        and lapses unless it is renewed within the task's lease.
        """
        await tasks.return_lapsed(self._store)
        return await tasks.claim(self._store, agent, capabilities)

    async def renew(self, task: Task) -> bool:
        """Extend the lease of a claimed task. False: the claim has lapsed or the task was called off."""
        return await tasks.renew(self._store, task)

    async def complete(self, task: Task, result: object = None) -> None:
        """Give the result of a claimed task; what waited for it alone may be claimed from now on.

        Completing it again after a lost reply is harmless. Raises `TaskTaken`.
        """
        await tasks.complete(self._store, task, result)

    async def fail(self, task: Task, error: Mapping[str, Any], *, retry: bool = True) -> bool:
        """Say that an attempt failed. True: the task is pending again; False: it has failed for good.

        What waits for it then ends by its policy. Raises `TaskTaken`.
        """
        return await tasks.fail(self._store, task, dict(error), retry=retry)

    # A person's side.

    async def cancel(self, id: str, reason: str = "") -> TaskRecord:
        """Call a task off. Its agent hears of it with the next renewal, and its answer is refused.

        What waits for it ends by its policy. A task of an execution fails, and its step with it. Raises
        `WrongTaskStatus` when it has ended, `TaskNotFound`.
        """
        error = {"type": "TaskCancelled", "message": reason or "the task was called off"}
        encoded = codec.encode(error, what="reason")
        answer = codec.encode({"error": error}, what="reason")

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def call_off(transaction: Transaction) -> None:
            rows = await transaction.fetch("tasks.lock", self._store.tenant, id)
            if not rows:
                raise TaskNotFound(f"there is no task {id!r}", id=id)
            if TaskStatus(rows[0][0]).is_final:
                raise WrongTaskStatus(f"task {id!r} is {rows[0][0]} already", id=id, status=rows[0][0])
            end = TaskStatus.CANCELLED if rows[0][4] is None else TaskStatus.FAILED
            await transaction.fetch("tasks.end", self._store.tenant, id, end, None, encoded)
            await tasks.tell(self._store, transaction, self._store.tenant, id, rows[0], end, answer)

        await call_off()
        self._store.hints.message()
        return await self.get(id)

    async def requeue(self, id: str) -> TaskRecord:
        """Put a failed or cancelled task back, with all its attempts; those that ended with it stay ended.

        Raises `WrongTaskStatus` for any other, for a step of an execution (retry that), and while a task that
        it depends on has failed or is cancelled; `TaskNotFound`.
        """
        wanted = (await self.get(id)).depends_on

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def put_back(transaction: Transaction) -> None:
            store = self._store
            before = await dependencies.lock(store, transaction, store.tenant, wanted) if wanted else {}
            here = await dependencies.lock(store, transaction, store.tenant, [id])
            _check_requeue(id, before, here)
            blocked = any(status is not TaskStatus.COMPLETED for status, _ in before.values())
            status = TaskStatus.BLOCKED if blocked else TaskStatus.PENDING
            await transaction.fetch("tasks.requeue", store.tenant, id, status)

        await put_back()
        self._store.hints.message()
        return await self.get(id)


_Found = Mapping[str, tuple[TaskStatus, bool]]


def _in_order(records: Sequence[TaskRecord]) -> list[TaskRecord]:
    """Tasks behind those they depend on. Raises `InvalidArgument` for a cycle and for two of one id."""
    if len(records) > AT_ONCE_MAX:
        raise InvalidArgument(f"{len(records):,} tasks are too many at once", fix=f"at most {AT_ONCE_MAX:,}")
    known = {each.id: each for each in records}
    if len(known) < len(records):
        raise InvalidArgument("two of the tasks have the same id", fix="give each an id of its own")
    order = graphlib.TopologicalSorter({each.id: each.depends_on for each in records})
    try:
        return [known[id] for id in order.static_order() if id in known]
    except graphlib.CycleError as error:
        cycle = " → ".join(reversed(error.args[1]))
        raise InvalidArgument(
            f"these tasks wait for each other: {cycle}", where="depends_on", fix="take one of them out"
        ) from None


def _check_dependencies(wanted: Sequence[str], found: _Found) -> None:
    for id in wanted:
        if id not in found:
            raise TaskNotFound(f"there is no task {id!r} to depend on", id=id)
        if found[id][1]:
            raise InvalidArgument(
                f"task {id!r} is a step of an execution, and nothing else can wait for it",
                where="depends_on",
                fix="depend on tasks that stand by themselves",
            )


def _check_requeue(id: str, before: _Found, here: _Found) -> None:
    if id not in here:
        raise TaskNotFound(f"there is no task {id!r}", id=id)
    status, is_step = here[id]
    if is_step:
        raise WrongTaskStatus(
            f"task {id!r} is a step of an execution", id=id, fix="retry the execution: executions retry ID"
        )
    if status not in _BACK:
        raise WrongTaskStatus(f"task {id!r} is {status}, not failed or cancelled", id=id, status=str(status))
    for other, (now, _) in before.items():
        if now in _BACK:
            raise WrongTaskStatus(
                f"task {id!r} depends on {other!r}, which is {now}",
                id=id,
                status=str(status),
                fix=f"put that one back first: holdfast tasks requeue {other}",
            )

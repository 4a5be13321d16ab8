"""What ended executions have left outside of themselves is put in order, whoever died before seeing to it."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import ApprovalNotFound, TaskNotFound
from holdfast.fleet import approvals, leaving, signals, tasks
from holdfast.fleet.approvals import ApprovalStatus
from holdfast.fleet.cancelling import cancel_children
from holdfast.fleet.leaving import Rounds
from holdfast.fleet.retrying import retry
from holdfast.fleet.signals import return_unclaimed, send, wait_for_signal
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionStatus
from holdfast.records.tasks import TaskStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec
from tests.conformance.hands import begin, ending, moment_text, prefixed, row_of
from tests.conformance.test_control import both, child_of

pytestmark = pytest.mark.anyio

SPEC = TaskSpec(
    capability="c", payload=None, type=None, priority=0, lease=timedelta(seconds=30), max_attempts=3
)


def failing(holding: Holding) -> Entry:
    """An end by a failure, after which the process dies."""
    return Entry(
        holding, EventType.EXECUTION_FAILED,
        payload=(codec.encode({"message": "no"}), None, None), transition=Transition("failed", final=True),
    )  # fmt: skip


async def kept(store: Store) -> list[Any]:
    return [each.payload for each in await signals.kept(store)]


async def left_wait(store: Store, holding: Holding) -> str:
    await wait_for_signal(store, holding, "w", f"of {holding.id}")
    return ""


async def left_message(store: Store, holding: Holding) -> str:
    await wait_for_signal(store, holding, "w", holding.id)
    await send(store, holding.id, f"for {holding.id}")
    return ""


async def left_approval(store: Store, holding: Holding) -> str:
    await approvals.ask(store, holding, "a", f"approve {holding.id}", "?", None, None)
    return str(ApprovalStatus.PENDING)


async def left_task(store: Store, holding: Holding) -> str:
    await tasks.offer(store, holding, "t", f"task {holding.id}", SPEC)
    return str(TaskStatus.PENDING)


async def left_child(store: Store, holding: Holding) -> str:
    await child_of(store, holding, f"child of {holding.id}")
    return str(ExecutionStatus.RUNNING)


async def standing(store: Store, name: str) -> dict[str, Any]:
    """What still refers to an execution, each by who made it."""
    found: dict[str, Any] = {}
    with suppress(ApprovalNotFound):
        found["left_approval"] = str((await approvals.get(store, f"approve {name}")).status)
    with suppress(TaskNotFound):
        found["left_task"] = str((await tasks.get(store, f"task {name}")).status)
    if (child := await store.find_execution(f"child of {name}")) is not None:
        found["left_child"] = str(child.status)
    if [each for each in await signals.waiters(store) if each.execution == name]:
        found["left_wait"] = ""
    if await store.inbox((await store.get_execution(name)).key):
        found["left_message"] = ""
    return found


@pytest.mark.parametrize("end", [ending, failing])
@pytest.mark.parametrize(
    ("leave", "put_in_order"),
    [
        (left_wait, None),
        (left_message, None),
        (left_approval, ApprovalStatus.WITHDRAWN),
        (left_task, TaskStatus.CANCELLED),
        (left_child, ExecutionStatus.CANCELLED),
    ],
)
async def test_a_process_that_dies_after_an_end_leaves_nothing_for_good(
    shared_url: str, leave: Any, put_in_order: str | None, end: Any
) -> None:
    async with both(shared_url) as (mine, registration, _, _):
        for name in ("gone", "alive"):
            holding = await begin(mine, name)
            before = await leave(mine, holding)
            assert await standing(mine, name) == {leave.__name__: before}
            if name == "gone":
                await mine.journal.append(end(holding))
        rounds = Rounds(mine, registration)
        assert (await rounds.look(), await rounds.look()) == (1, 0)
        expected = {} if put_in_order is None else {leave.__name__: str(put_in_order)}
        assert await standing(mine, "gone") == expected
        assert await standing(mine, "alive") == {leave.__name__: before}
        # A message goes to whoever waits for it next.
        assert await kept(mine) == (["for gone"] if leave is left_message else [])


async def test_rounds_look_at_one_page_each_and_miss_nothing(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of reference fills its part of the page at another pace; one execution fills a whole page."""
    monkeypatch.setattr(leaving, "PAGE", 3)
    async with both(shared_url) as (mine, registration, _, _):
        left, first = 0, bytes(new_key())
        for number in range(24):
            holding = await begin(mine, f"x{number}", key=first[:-1] + bytes([number]))
            for path in range(4 if number % 3 == 0 else 1):
                await wait_for_signal(mine, holding, f"w{path}", "go")
            if number % 4 == 2:
                await approvals.ask(mine, holding, "a", f"a{number}", "?", None, None)
            if number % 2:
                await mine.journal.append(ending(holding))
                left += 1
        rounds = Rounds(mine, registration)
        found = [await rounds.look() for _ in range(24)]
        assert sum(found) == left
        assert max(found) < left  # it took several pages
        assert {each.execution for each in await signals.waiters(mine)} == {f"x{n}" for n in range(0, 24, 2)}


async def test_what_was_sent_to_one_alone_waits_for_its_retry(shared_url: str) -> None:
    """Kept and delivered ones alike; they go when the execution has completed."""
    async with both(shared_url) as (mine, registration, _, _):
        holding = await begin(mine, "x")
        target = await row_of(mine, holding.key)
        await wait_for_signal(mine, holding, "w", "go")
        for payload in ("delivered", "kept"):
            await send(mine, "go", payload, to=target)
        await mine.journal.append(failing(holding))
        rounds = Rounds(mine, registration)
        assert (await rounds.look(), await return_unclaimed(mine, holding.key)) == (0, 0)
        assert ([each.kind for each in await mine.inbox(holding.key)], await kept(mine)) == (
            ["signal"],
            ["kept"],
        )

        await retry(mine, await row_of(mine, holding.key))
        again = Holding(holding.key, "x", mine.tenant, epoch=(await row_of(mine, holding.key)).epoch)
        again.next_seq = len(await mine.driver.fetch("events.history", holding.key)) + 1
        await mine.journal.append(ending(again))
        assert (await rounds.look(), await rounds.look()) == (1, 0)
        assert (await mine.inbox(holding.key), await kept(mine)) == ([], [])


async def test_the_children_of_a_retried_execution_are_not_stopped(shared_url: str) -> None:
    """The process that ended the parent comes to its children late, after the parent was retried."""
    async with both(shared_url) as (mine, registration, _, _):
        parent = await begin(mine, "p")
        child = await child_of(mine, parent, "c")
        await mine.journal.append(failing(parent))
        await retry(mine, await row_of(mine, parent.key))
        await cancel_children(mine, registration, parent.key)
        assert (await row_of(mine, child.key)).status is ExecutionStatus.RUNNING
        assert await mine.inbox(child.key) == []


async def test_ids_of_messages_are_forgotten_after_a_week(shared_url: str) -> None:
    async with both(shared_url) as (mine, registration, _, _):
        await begin(mine, "x")
        await send(mine, "go", 1, message_id="m")
        rounds = Rounds(mine, registration)
        await rounds.look()
        assert (await send(mine, "go", 1, message_id="m")).repeated
        past = round((time.time() - 8 * 86_400) * 1_000_000)
        table = prefixed(mine, "signals")
        await mine.driver.fetch_text(f"UPDATE {table} SET created_at = {moment_text(mine, past)}")
        await rounds.look()
        assert not (await send(mine, "go", 1, message_id="m")).repeated

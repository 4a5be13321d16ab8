"""Asking executions to pause, go on, stop or run again: those that are named, or all that fit a filter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.cli.failures import report
from holdfast.cli.output import counted
from holdfast.cli.reading import with_store
from holdfast.cli.running import common_code
from holdfast.errors import HoldfastError, InvalidUsage, NotResumable
from holdfast.fleet import bulk
from holdfast.fleet.bulk import Verb
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.control import pause, resume
from holdfast.fleet.ends import POLL_S
from holdfast.fleet.ownership import Registration
from holdfast.fleet.retrying import retry
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.records.executions import Execution, ExecutionStatus

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

ASK_TIMEOUT_S = 30.0
GRACE_S = 2.0
WAITING = 9
_SHOWN = 20
_SIGNS = {"cancelled": "⊘", "paused": "⏸", "asked": "⏸", "resumed": "▸", "retried": "↻"}

Act = Callable[["Store", Registration, Execution], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of executions, and how long to wait until it is so."""

    verb: Verb
    act: Act
    wait: bool = True
    deadline: timedelta | None = None
    is_so: frozenset[ExecutionStatus] = (
        frozenset()
    )  # where an execution stands that has done what it was asked


def cancelling(*, reason: str, deadline: timedelta | None, wait: bool) -> Request:
    """To stop for good."""

    async def act(store: Store, registration: Registration, execution: Execution) -> str:
        if execution.status is ExecutionStatus.CANCELLED:
            return "cancelled"
        done = await cancel(store, registration, execution, reason=reason, deadline=deadline)
        return "cancelled" if done else "asked"

    return Request(
        verb=bulk.CANCEL, act=act, wait=wait, deadline=deadline, is_so=frozenset({ExecutionStatus.CANCELLED})
    )


def pausing(*, reason: str, wait: bool) -> Request:
    """To stop for now."""

    async def act(store: Store, registration: Registration, execution: Execution) -> str:
        return "paused" if await pause(store, registration, execution, reason=reason) else "asked"

    return Request(verb=bulk.PAUSE, act=act, wait=wait, is_so=frozenset({ExecutionStatus.PAUSED}))


def resuming() -> Request:
    """To go on after a pause."""

    async def act(store: Store, _registration: Registration, execution: Execution) -> str:
        await resume(store, execution)
        return "resumed"

    return Request(verb=bulk.RESUME, act=act)


def retrying(*, from_step: str | None) -> Request:
    """To run again what failed."""

    async def act(store: Store, _registration: Registration, execution: Execution) -> str:
        await retry(store, execution, from_step=from_step)
        return "retried"

    return Request(verb=bulk.RETRY, act=act)


@dataclass(slots=True)
class _Answers:
    """What became of every execution that was asked."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[HoldfastError] = field(default_factory=list)
    matched: int | None = None

    def note(self, execution: Execution, answer: str | HoldfastError) -> None:
        """Keep one answer."""
        if isinstance(answer, str):
            self.rows.append(_row(execution, answer))
            return
        self.errors.append(answer)
        if self.matched is not None:
            self.rows.append(_row(execution, "refused", answer))

    def count(self, result: str) -> int:
        """How many have this result."""
        return sum(row["result"] == result for row in self.rows)


def control(invocation: Invocation, request: Request, ids: Sequence[str], where: str | None) -> int:
    """Ask all that are named, or all that fit; the exit code."""
    if bool(ids) == (where is not None):
        raise InvalidUsage(
            "name executions, or say which with --where",
            where=f"executions {request.verb.name}",
            fix="holdfast executions list",
        )
    if where is not None:
        request.verb.narrowed(where)  # a filter that is none costs no store

    async def run(store: Store) -> _Answers:
        answers = _Answers()
        if where is not None:
            answers.matched = await bulk.count(store, request.verb, where)
            if not _is_wanted(invocation, request, answers.matched):
                return answers
        if invocation.flags.dry_run:
            await _look(store, request, ids, where, answers)
            return answers
        # Only who owns an execution may end it, and whether an owner lives is seen from beside it.
        registration = Registration(store, program=request.verb.name)
        await registration.start()
        try:
            await _ask(invocation, store, registration, request, ids, where, answers)
        finally:
            await registration.stop()
        return answers

    answers = with_store(invocation, run)
    codes = [WAITING if row["result"] == "asked" else 0 for row in answers.rows if row["result"] != "refused"]
    if where is None:
        codes += [report(each, invocation) for each in answers.errors]
    else:
        codes += [each.exit_code for each in answers.errors]
    _show(invocation, request, answers)
    return common_code(codes)


def _is_wanted(invocation: Invocation, request: Request, matched: int) -> bool:
    if matched == 0 or invocation.flags.dry_run:
        return True
    question = f"{request.verb.name} {counted(matched, 'execution', 'executions')}?"
    if invocation.confirm(question):
        return True
    invocation.say("nothing was done")
    return False


async def _look(
    store: Store, request: Request, ids: Sequence[str], where: str | None, answers: _Answers
) -> None:
    async def would(execution: Execution) -> str:
        if execution.status in request.verb.applies_to:
            return f"would be {request.verb.done}"
        return "has ended" if execution.status.is_final else f"is {execution.status}"

    if where is not None:
        async with aclosing(bulk.each(store, request.verb, where, would)) as found:
            async for execution, answer in found:
                answers.note(execution, answer)
    for id_ in ids:
        execution = await store.get_execution(id_)
        answers.note(execution, await would(execution))


async def _ask(
    invocation: Invocation,
    store: Store,
    registration: Registration,
    request: Request,
    ids: Sequence[str],
    where: str | None,
    answers: _Answers,
) -> None:
    async def act(execution: Execution) -> str:
        return await request.act(store, registration, execution)

    began = time.monotonic()
    asked: list[Execution] = []

    async def note(execution: Execution, answer: str | HoldfastError) -> None:
        if answer == "asked" and request.wait:
            asked.append(execution)
        elif isinstance(answer, HoldfastError) and _goes_with_its_parent(request, execution):
            answers.rows.append(_row(execution, "left to its parent"))
        else:
            answers.note(await _now(store, execution), answer)

    if where is not None:
        async with aclosing(bulk.each(store, request.verb, where, act)) as found:
            async for execution, answer in found:
                await note(execution, answer)
                done = len(answers.rows) + len(asked)
                if done % bulk.PAGE == 0 and invocation.flags.progress != "none":
                    invocation.say(f"… {done:,} of {answers.matched:,}")
    chosen = [await store.get_execution(id_) for id_ in ids]
    for execution in chosen:
        await note(execution, await bulk.attempt(act, execution))
    limit_s = _limit_s(invocation, request) - (time.monotonic() - began)
    for execution, told in zip(
        asked,
        await asyncio.gather(
            *(_await(store, registration, request, execution, limit_s) for execution in asked)
        ),
        strict=True,
    ):
        answers.note(await _now(store, execution), told)


def _goes_with_its_parent(request: Request, execution: Execution) -> bool:
    return request.verb is bulk.RETRY and execution.parent is not None


def _limit_s(invocation: Invocation, request: Request) -> float:
    timeout = invocation.timeout
    limit_s = ASK_TIMEOUT_S if timeout is None else timeout.total_seconds()
    if timeout is None and request.deadline is not None:
        return max(limit_s, request.deadline.total_seconds() + 2 * GRACE_S)
    return limit_s


async def _await(
    store: Store, registration: Registration, request: Request, execution: Execution, limit_s: float
) -> str | HoldfastError:
    """Wait until an owner has done what it was asked; behind the deadline of a cancellation, do it here."""
    began, pause_s = time.monotonic(), 0.02
    force_s = None if request.deadline is None else request.deadline.total_seconds() + GRACE_S
    while True:
        current = await _now(store, execution)
        if current.status in request.is_so:
            return request.verb.done
        if current.status.is_final:
            return NotResumable(
                f"execution {current.id} had {current.status} before it could be {request.verb.done}",
                id=current.id,
            )
        spent_s = time.monotonic() - began
        if force_s is not None and spent_s >= force_s:
            return await _force(store, registration, request, current)
        if spent_s + pause_s > limit_s:
            return "asked"
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, POLL_S)


async def _force(
    store: Store, registration: Registration, request: Request, execution: Execution
) -> str | HoldfastError:
    """End what its owner has not ended in time: it is taken from it."""

    async def steal(execution: Execution) -> str:
        reason = f"it did not stop within {request.deadline}"
        await cancel(store, registration, execution, reason=reason, steal=True)
        return "cancelled"

    return await bulk.attempt(steal, execution)


async def _now(store: Store, execution: Execution) -> Execution:
    return await store.execution_by_key(execution.key) or execution


def _row(execution: Execution, result: str, error: HoldfastError | None = None) -> dict[str, Any]:
    goes_on_here = result in ("resumed", "retried") and execution.queue == LOCAL_QUEUE
    return {
        "id": execution.id,
        "workflow": execution.workflow,
        "status": str(execution.status),
        "result": result,
        "error": None if error is None else error.as_problem(),
        "next": f"holdfast resume {execution.id}" if goes_on_here else None,
    }


def _show(invocation: Invocation, request: Request, answers: _Answers) -> None:
    output, verb = invocation.output, request.verb
    if not output.is_table:
        page: dict[str, Any] = {}
        if answers.matched is not None:
            page = {
                "matched": answers.matched,
                "done": answers.count(verb.done),
                "asked": answers.count("asked"),
                "refused": answers.count("refused"),
            }
        if invocation.flags.dry_run:
            page["dry_run"] = True
        output.records(answers.rows, ["id", "workflow", "status", "result"], **page)
        return
    if answers.matched is None:
        for row in answers.rows:
            for line in _sentences(row):
                invocation.say(line)
        return
    _show_many(invocation, request, answers)


def _show_many(invocation: Invocation, request: Request, answers: _Answers) -> None:
    """What is left to tell: everything when nothing was done yet, else what did not go through."""
    dry, verb = invocation.flags.dry_run, request.verb
    telling = [row for row in answers.rows if dry or row["result"] != verb.done]
    for row in telling[:_SHOWN]:
        for line in _sentences(row):
            invocation.say(line)
    if len(telling) > _SHOWN:
        invocation.say(f"… and {len(telling) - _SHOWN:,} more; --json lists them all")
    if not answers.matched:
        invocation.say(f"no execution that could be {verb.done} fits")
    elif dry:
        invocation.say(f"{counted(answers.matched, 'execution', 'executions')} would be {verb.done}")
    elif answers.rows:
        here = sum(row["next"] is not None for row in answers.rows)
        invocation.say(f"{answers.count(verb.done):,} of {answers.matched:,} {verb.done}")
        if here:
            invocation.say(f"  {here:,} of them run here: holdfast resume --all-interrupted")


def _sentences(row: dict[str, Any]) -> list[str]:
    id_, result = row["id"], row["result"]
    if result == "asked":
        watch = f"holdfast executions wait {id_}"
        return [f"⏸ {id_} was asked and is still {row['status']}; {watch}"]
    if result == "refused":
        return [f"✖ {id_}: {row['error']['code']} {row['error']['detail']}"]
    if result in ("cancelled", "paused"):
        return [f"{_SIGNS[result]} {id_} is {result}"]
    if result in ("resumed", "retried"):
        lines = [f"{_SIGNS[result]} {id_} was {result} and is {row['status']}"]
        return lines + ([f"  go on with: {row['next']}"] if row["next"] else [])
    return [f"· {id_} {'was ' if result.startswith('left') else ''}{result}"]


def retry_quietly(invocation: Invocation, ids: Sequence[str], from_step: str | None) -> None:
    """Retry what is about to run here; the first refusal ends the command."""
    if not ids:
        raise InvalidUsage("name executions", where="executions retry", fix="holdfast executions list")

    async def run(store: Store) -> None:
        for execution in [await store.get_execution(id_) for id_ in ids]:
            await retry(store, execution, from_step=from_step)

    with_store(invocation, run)

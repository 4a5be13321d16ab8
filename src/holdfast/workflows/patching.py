"""Changing the code of a Python workflow while executions of it are on their way.

`patched("name")` asks whether this execution is one for the new code. An execution that passes the question
for the first time answers yes and records a marker; one whose history already goes on behind the question
without a marker was begun by the old code, and the answer is no. Once given, an answer stays the same in
every later run: a marker is written before anything that follows it, and a history only grows.

The marker is an event `step.completed` with the path `patch:<name>` within its branch. A colon is in no
step's name, and the event has no number: the calls around it are counted as if it were not there, so
histories without the marker replay on code that asks. As a result with a path it is read with the history,
unique, and shown among the steps, where it tells which way the execution went.

An answer holds for one branch (the workflow, a part of a `gather`, a block of a `scope`) and for the branches
inside it: two parts of a `gather` run at the same time, and which of them asks first is chance.
"""

from __future__ import annotations

import asyncio
import re

from holdfast.errors import InvalidArgument, UnnamedBranch
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.entries import Entry
from holdfast.workflows import branches
from holdfast.workflows.branches import Branch

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
_MARK = codec.encode(True)


def patched(name: str) -> bool:
    """Whether the new code applies to this execution: yes for all that have not passed this point yet.

    The answer is recorded and stays. Outside a workflow, and in a step, it is True. Example::

        if hf.patched("send-receipt"):
            await send_receipt(order)

    Raises `UnnamedBranch` from a task that `gather` or `scope` did not start.
    """
    branch = _asking(name)
    if branch is None:
        return True
    known = _answered(branch, name)
    if known is None:
        known = _take_marker(branch, name) or (not _has_passed(branch) and _mark(branch, name))
        branch.patches = {**(branch.patches or {}), name: known}
    return known


def deprecate_patch(name: str) -> None:
    """Say that only the new code is left: what `patched(name)` recorded is accepted, and nothing is asked.

    It stands where `patched` stood, until no execution with a marker is unfinished; then it can go too.
    """
    branch = _asking(name)
    if branch is not None:
        _take_marker(branch, name)


def _asking(name: str) -> Branch | None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{name!r} can not name a patch", fix="use letters, digits, . - and _")
    branch = branches.current.get()
    if branch is not None:
        task = asyncio.current_task()
        if task is not branch.task:
            raise UnnamedBranch(f"patch {name!r} was asked for by a task that gather or scope did not start")
        if branch.runtime.fatal is not None or (task is not None and task.cancelling()):
            branch.runtime.refuse_while_stopping()
    return branch


def _answered(branch: Branch | None, name: str) -> bool | None:
    """What was answered here, or in a branch around this one, which stands still meanwhile."""
    while branch is not None:
        if branch.patches is not None and name in branch.patches:
            return branch.patches[name]
        branch = branch.above
    return None


def _path(branch: Branch, name: str) -> str:
    return f"{branch.path}/patch:{name}" if branch.path else f"patch:{name}"


def _take_marker(branch: Branch, name: str) -> bool:
    return branch.runtime.history.results.pop(_path(branch, name), None) is not None


def _has_passed(branch: Branch | None) -> bool:
    """Whether an earlier run went on behind this point, in this branch or in one around it."""
    while branch is not None:
        if branch.runtime.history.goes_on(branch.path, branch.calls, branch.names):
            return True
        branch = branch.above
    return False


def _mark(branch: Branch, name: str) -> bool:
    runtime, path = branch.runtime, _path(branch, name)
    journal = runtime.engine.journal
    # Not awaited: whatever this execution records later stands behind it in the same queue, so a marker that
    # is lost was followed by nothing.
    journal.append_soon(
        Entry(
            runtime.holding,
            EventType.STEP_COMPLETED,
            path,
            generation=runtime.history.generations.get(path, 0),
            result=True,
            payload=journal.place_small(_MARK),
        )
    )
    return True

"""What a Python workflow waits for: signals, and decisions of people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, overload

from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument
from holdfast.store import codec
from holdfast.workflows import branches
from holdfast.workflows.branches import Branch
from holdfast.workflows.forms import check_form
from holdfast.workflows.requests import ApprovalRequest, ask_for_approval, wait_for_signal

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What somebody decided. `answer` is what they filled into the form."""

    approved: bool
    by: str | None
    at: datetime
    answer: Any = None
    comment: str | None = None


@overload
async def wait_signal(name: str, timeout: Duration | None = None, model: None = None) -> Any: ...
@overload
async def wait_signal(name: str, timeout: Duration | None = None, *, model: type[T]) -> T: ...
async def wait_signal(name: str, timeout: Duration | None = None, model: Any = None) -> Any:
    """Wait for the next signal called `name` and return what was sent with it, as a `model` if one is given.

    A signal that came early is taken at once; each is given to one wait only. `timeout` counts from the first
    call, however often the workflow restarts; then `SignalTimeout` is raised. Example::

        answer = await hf.wait_signal(f"approve:{topic}", timeout="3d", model=Answer)
    """
    branch = _branch("wait_signal")
    due = None if timeout is None else parse_duration(timeout)
    annotation = Any if model is None else model
    codec.check_annotation(annotation, what="model")
    path, ordinal = branch.call("wait_signal")
    return await wait_for_signal(branch.runtime, path, ordinal, name, due, annotation=annotation)


async def approval(
    title: str,
    form: dict[str, Any] | None = None,
    timeout: Duration | None = None,
    id: str | None = None,
) -> Approval:
    """Ask people for a decision and wait for it. A rejection is returned like a consent: look at `approved`.

    `form` is a JSON Schema that an approving answer has to fit. `id` is what people name it by, by default
    the execution's id and the step's path. `timeout` counts from the first call; then `ApprovalExpired` is
    raised. Example::

        decision = await hf.approval(f"Publish {topic}?", timeout="3d")
        if not decision.approved:
            return f"kept back by {decision.by}"
    """
    branch = _branch("approval")
    if form is not None:
        check_form(form)
    due = None if timeout is None else parse_duration(timeout)
    path, ordinal = branch.call("approval")
    request = ApprovalRequest(title=title, form=form, due=due, id=id)
    told = await ask_for_approval(branch.runtime, path, ordinal, request)
    return Approval(**{**told, "at": datetime.fromisoformat(told["at"])})


def _branch(name: str) -> Branch:
    branch = branches.current.get()
    if branch is None:
        raise InvalidArgument(f"{name} was called outside of a workflow", fix="call it in a workflow's body")
    return branch

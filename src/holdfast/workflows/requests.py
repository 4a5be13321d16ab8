"""Signals and approvals as steps: how each is asked for, and what its end means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.durations import format_duration
from holdfast.errors import ApprovalExpired, ApprovalRejected, InvalidArgument, SignalTimeout
from holdfast.store import codec
from holdfast.workflows.failures import describe
from holdfast.workflows.parking import Awaited, Reason

if TYPE_CHECKING:
    from holdfast.workflows.engine import ExecutionRuntime
    from holdfast.workflows.outside import Outside

ID_BYTES_MAX = 511
NAME_BYTES_MAX = 255
TITLE_CHARACTERS_MAX = 1_000


def check_signal_name(name: object) -> str:
    """`name`, or `InvalidArgument` when no signal can have it."""
    is_text = isinstance(name, str) and name.isprintable() and name.strip() == name
    if is_text and isinstance(name, str) and 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        return name
    raise InvalidArgument(
        f"{str(name)[:60]!r} can not name a signal",
        fix=f"use 1 to {NAME_BYTES_MAX} bytes of printable text without spaces around it",
    )


async def wait_for_signal(
    runtime: ExecutionRuntime,
    path: str,
    ordinal: int | None,
    name: str,
    due: timedelta | None,
    *,
    annotation: Any = Any,
    goes_on: bool = False,
) -> Any:
    """The payload of the next signal `name`; with `goes_on` None at the deadline, not `SignalTimeout`."""
    check_signal_name(name)
    outside, holding = _outside(runtime), runtime.holding
    within = "" if due is None else f" within {format_duration(due)}"
    awaited = Awaited(
        reason=Reason("signal", name),
        prepare=lambda: outside.wait_for_signal(holding, path, name),
        due=due,
        expire=lambda: outside.stop_waiting_for_signal(holding, path, name),
        expired=None if goes_on else SignalTimeout(f"no signal {name!r} came{within}", name=name),
    )
    encoded = codec.encode({"signal": name}, what=path)
    return await runtime.await_message(path, ordinal, awaited, annotation=annotation, encoded=encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """What people are asked. With `goes_on` the result at the deadline is None, not `ApprovalExpired`."""

    title: str
    form: dict[str, Any] | None = None
    due: timedelta | None = None
    id: str | None = None
    goes_on: bool = False
    fails_rejected: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be stored or shown."""
        if not 1 <= len(self.title) <= TITLE_CHARACTERS_MAX or "\0" in self.title:
            raise InvalidArgument(
                "the title of an approval is too long, or empty",
                fix=f"use 1 to {TITLE_CHARACTERS_MAX} characters",
            )
        id_ = self.id
        if id_ is not None and not (id_.isprintable() and 1 <= len(id_.encode()) <= ID_BYTES_MAX):
            raise InvalidArgument(
                f"{id_[:60]!r} can not be the id of an approval", fix=f"use 1 to {ID_BYTES_MAX} bytes of text"
            )


async def ask_for_approval(
    runtime: ExecutionRuntime, path: str, ordinal: int | None, request: ApprovalRequest
) -> Any:
    """The decision as a mapping (approved, by, at, answer, comment)."""
    outside, holding = _outside(runtime), runtime.holding
    id_ = request.id or _own_id(runtime.execution_id, path)

    async def ask() -> None:
        timer = runtime.history.timers.get(path)
        deadline = None if timer is None else timer.due
        await outside.ask_for_approval(holding, path, id_, request.title, request.form, deadline)

    def failure(told: Any) -> dict[str, Any] | None:
        if told["approved"] or not request.fails_rejected:
            return None
        by = f" by {told['by']}" if told["by"] else ""
        why = f": {told['comment']}" if told["comment"] else ""
        return describe(ApprovalRejected(f"{request.title!r} was rejected{by}{why}", by=told["by"]))

    awaited = Awaited(
        reason=Reason("approval", id_),
        prepare=ask,
        due=request.due,
        expire=lambda: outside.expire_approval(holding, id_),
        expired=None if request.goes_on else ApprovalExpired(f"nobody decided {request.title!r} in time"),
        failure=failure,
    )
    encoded = codec.encode({"approval": request.title, "form": request.form}, what=path)
    return await runtime.await_message(path, ordinal, awaited, encoded=encoded)


def _own_id(execution: str, path: str) -> str:
    plain = f"{execution}:{path}"
    return plain if len(plain.encode()) <= ID_BYTES_MAX else codec.digest(plain.encode()).hex()


def _outside(runtime: ExecutionRuntime) -> Outside:
    if runtime.engine.outside is None:
        raise InvalidArgument("this engine has no store for what steps ask of others")
    return runtime.engine.outside

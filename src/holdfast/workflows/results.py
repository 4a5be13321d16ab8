"""What a step's end is made of: how a failure is raised again, and what is shown of recorded arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from holdfast.errors import ApprovalExpired, ApprovalRejected, SignalTimeout, StepFailed, StepTimeout
from holdfast.store import codec

INPUT_BYTES_MAX = 8 * 2**10
"""Arguments up to this length are kept with the result; of longer ones only the digest."""
SHOWN_CHARACTERS_MAX = 300
_TYPED = {kind.code: kind for kind in (SignalTimeout, ApprovalExpired, ApprovalRejected)}


def failed(path: str, error: dict[str, Any]) -> StepFailed:
    """The error of a step that has failed for good, the same now and at every replay."""
    made = _TYPED.get(str(error.get("code")), StepFailed)
    return made(
        f"step {path!r} failed: {error.get('type')}: {error.get('message')}",
        where=f"step {path}",
        error=error,
        path=path,
    )


def kept(encoded: bytes) -> bytes | None:
    """Arguments as they stand beside the result; None when they are too long."""
    return encoded if len(encoded) <= INPUT_BYTES_MAX else None


def shown(encoded: bytes) -> str:
    """Recorded arguments for an error message, cut to a readable length."""
    text = repr(codec.decode(encoded))
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def failure_of(error: Exception | asyncio.CancelledError) -> Exception:
    """Why an attempt failed. A body that ends as cancelled though nobody cancelled it has failed as well."""
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    failure = StepFailed("the body was cancelled by something it awaited")
    failure.__cause__ = error
    return failure


async def bounded(work: Awaitable[object], timeout: timedelta, path: str) -> object:
    """`work`, for `timeout` at most; `StepTimeout` then."""
    try:
        async with asyncio.timeout(timeout.total_seconds()) as scope:
            return await work
    except TimeoutError as error:
        if scope.expired():
            raise _timed_out(path, timeout) from error
        raise


def _timed_out(path: str, timeout: timedelta) -> StepTimeout:
    return StepTimeout(f"the attempt took longer than {timeout.total_seconds():g} s", where=f"step {path}")

"""Errors as they are stored: a type, a bounded message, and where it came from; never a local variable."""

from __future__ import annotations

import traceback
from typing import Any

from holdfast.errors import HoldfastError, StepRaised

MESSAGE_CHARACTERS_MAX = 4_000
TRACE_FRAMES_MAX = 8
_CUT = " … [cut]"


def error_type(error: BaseException) -> str:
    """What `retry.on` compares: `timeout`, a step kind's own word such as `exit`, or the class name."""
    own = getattr(error, "retry_type", None)
    if isinstance(own, str):
        return own
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def describe(error: BaseException) -> dict[str, Any]:
    """The stored form of an exception. Lone surrogates, which can not be stored, become `?`."""
    if isinstance(error, StepRaised):
        return dict(error.details["error"])  # described where it was raised, in another process
    described: dict[str, Any] = {"type": error_type(error), "message": _bounded(_message(error))}
    if isinstance(error, HoldfastError):
        described["code"] = error.code
        details = {key: value for key, value in error.details.items() if _is_plain(value)}
        if details:
            described["details"] = details
    else:
        frames = traceback.extract_tb(error.__traceback__)[-TRACE_FRAMES_MAX:]
        described["trace"] = [_bounded(f"{f.filename}:{f.lineno} in {f.name}") for f in frames]
    return described


def _message(error: BaseException) -> str:
    if isinstance(error, HoldfastError):
        return error.cause
    try:
        return str(error)
    except Exception as broken:  # a user's __str__ may do anything
        return f"(its message can not be read: {type(broken).__name__})"


def _bounded(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= MESSAGE_CHARACTERS_MAX else clean[:MESSAGE_CHARACTERS_MAX] + _CUT


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | bool)

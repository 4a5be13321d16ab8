"""Options whose value is JSON."""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import InvalidUsage


def json_value(option: str, text: str | None) -> Any:
    """The value that an option gives; None without it. Raises `InvalidUsage` for what is no JSON."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidUsage(
            f"{text[:40]!r} is not JSON: {error}", where=option, fix=f"write {option} '{{\"team\": 7}}'"
        ) from error


def json_object(option: str, text: str | None) -> dict[str, Any] | None:
    """The object that an option gives; None without it. Raises `InvalidUsage` for anything else."""
    value = json_value(option, text)
    if value is not None and not isinstance(value, dict):
        raise InvalidUsage(
            f"{str(text)[:40]!r} is no JSON object", where=option, fix=f"write {option} '{{\"team\": 7}}'"
        )
    return value

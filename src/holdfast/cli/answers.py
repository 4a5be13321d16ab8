"""JSON that a person hands to a command: as a word, from a file, or on standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidUsage

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation


def read_json(given: str | None, invocation: Invocation, *, what: str) -> Any:
    """The value of `given`: JSON, `@file`, or `-` for standard input; None without it."""
    if given is None:
        return None
    text = given
    if given == "-":
        text = invocation.stdin.read()
    elif given.startswith("@"):
        try:
            text = Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidUsage(f"{given[1:]} can not be read", where=what, fix="check the file") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidUsage(
            f"the {what} is not JSON: {error}", where=what, fix="write text in quotes: '\"text\"'"
        ) from error

"""Secrets of `http` steps: put into headers when a request is made, and taken out of all that comes back."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import quote, quote_plus

from holdfast.errors import RequestFailed

PREFIX = "WORKFLOW_SECRET_"
"""Environment variables that begin so may be sent out by `http` steps; no others are ever read."""
HIDDEN = "***"

_REFERENCE = re.compile(r"\$\$|\$\{([A-Z][A-Z0-9_]*)\}|\$([A-Z][A-Z0-9_]*)")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]+")


def names_a_secret(text: str) -> bool:
    """Whether `text` has a `$NAME` or `${NAME}` in it."""
    return any(found[1] or found[2] for found in _REFERENCE.finditer(text))


class Secrets:
    """The secrets of one request."""

    def __init__(self) -> None:
        self._forms: set[str] = set()

    def reveal(self, text: str) -> str:
        """`Bearer $NAME` with the secrets put in. Raises `RequestFailed`."""
        return _REFERENCE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if not name:
            return "$"
        secret = os.environ.get(PREFIX + name, "").strip()
        if not _VALUE.fullmatch(secret):
            raise RequestFailed(
                f"the secret {name} is {'not a header value' if secret else 'not set'}",
                fix=f"set {PREFIX}{name} in the environment of the process that runs workflows",
                kind="request",
            )
        in_json = json.dumps(secret)[1:-1]
        self._forms |= {
            secret,
            in_json,
            in_json.replace("/", "\\/"),
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
        }
        return secret

    def hide(self, value: Any) -> Any:
        """`value` without the secrets, however they are written: a server may give back what it was sent."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self._hidden(value)
        if isinstance(value, list):
            return [self.hide(each) for each in value]
        if isinstance(value, dict):
            return {self.hide(key): self.hide(each) for key, each in value.items()}
        return value

    def _hidden(self, text: str) -> str:
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, HIDDEN)
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """The same for what is no text."""
        for form in sorted(self._forms, key=len, reverse=True):
            data = data.replace(form.encode(), HIDDEN.encode())
        return data

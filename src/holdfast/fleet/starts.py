"""What a start is made of: the key, the id, what it is compared by, and where it came from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from holdfast.errors import InvalidArgument
from holdfast.records import keys
from holdfast.records.executions import ExecutionKey
from holdfast.store import codec
from holdfast.workflows.driving import Outcome, Parent

LOCAL_QUEUE = "local"
"""The queue of executions that a person runs here: no worker elsewhere claims them."""
CLASSES = ("cpu", "io", "gpu")
"""What an execution mostly needs: workers say which classes they take."""
_ID_BYTES_MAX = 255
_SAID_BYTES_MAX = 65_536
_PRIORITY_MAX = 32_767


def new_key() -> ExecutionKey:
    """The key of a new execution: keys sort by age."""
    return ExecutionKey(keys.new_key())


def fingerprint(workflow: str, input: bytes) -> bytes:
    """What a bare second `run` looks for: the same workflow name and input."""
    return codec.digest(workflow.encode() + b"\0" + input)


def child_id(parent_id: str, path: str, generation: int = 0) -> str:
    """The id of the child that belongs to `path`; the same in every run of the parent.

    A retry from a step gives the children behind it a new `generation`: they start anew.
    """
    plain = f"{parent_id}.{path}" if generation == 0 else f"{parent_id}.{path}~{generation}"
    if len(plain.encode()) <= _ID_BYTES_MAX:
        return plain
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a start came from and how it is to be filed."""

    id: str | None = None
    queue: str = LOCAL_QUEUE
    class_: str = "io"
    priority: int = 0
    delay: timedelta | None = None
    limit_key: str | None = None
    dedupe_key: str | None = None
    tags: tuple[str, ...] = ()
    trigger: str = "api"
    started_by: str | None = None
    parent: Parent | None = None
    detached: bool = False
    metadata: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse here what some database would refuse later, in a batch with the writes of others."""
        if self.id is not None and (self.id != self.id.strip() or self.id.startswith("@")):
            raise InvalidArgument(f"{self.id!r} can not be an id", fix="no spaces around it, and no @ first")
        if self.class_ not in CLASSES:
            raise InvalidArgument(
                f"there is no class {self.class_!r}", fix=f"use one of {', '.join(CLASSES)}"
            )
        if not -_PRIORITY_MAX <= self.priority <= _PRIORITY_MAX:
            raise InvalidArgument(
                f"{self.priority} can not be a priority", fix=f"use -{_PRIORITY_MAX} to {_PRIORITY_MAX}"
            )
        if self.delay is not None and self.delay < timedelta(0):
            raise InvalidArgument(f"a delay can not be negative: {self.delay}", fix="leave it out")
        texts = (
            ("id", self.id), ("queue", self.queue), ("limit key", self.limit_key),
            ("dedupe key", self.dedupe_key), *(("tag", tag) for tag in self.tags),
        )  # fmt: skip
        for what, text in texts:
            if text is not None and not (text.isprintable() and 1 <= len(text.encode()) <= _ID_BYTES_MAX):
                raise InvalidArgument(
                    f"{text[:60]!r} can not be {'an id' if what == 'id' else f'a {what}'}",
                    fix=f"use 1 to {_ID_BYTES_MAX} bytes of printable text",
                )
        self.said("metadata")
        self.said("context")

    def said(self, what: Literal["metadata", "context"]) -> str:
        """The caller's `metadata` or `context` as JSON. Raises `InvalidArgument`, `UnsupportedValue`."""
        value = self.metadata if what == "metadata" else self.context
        if value is None:
            return "{}"
        if not isinstance(value, Mapping):
            raise InvalidArgument(
                f"the {what} is a {type(value).__name__}, not an object", fix="pass names and values"
            )
        text = codec.to_json(dict(value), what=what)
        if len(text.encode()) > _SAID_BYTES_MAX:
            raise InvalidArgument(
                f"the {what} is larger than {_SAID_BYTES_MAX:,} bytes", fix="make it a part of the input"
            )
        return text


@dataclass(frozen=True, slots=True)
class Running:
    """An execution that runs in this process. `task` gives its outcome; cancelling it hands it back."""

    id: str
    key: ExecutionKey
    task: asyncio.Task[Outcome]
    resumed: bool

"""What a start is made of: the key, the id, what it is compared by, and where it came from."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass

from holdfast.errors import InvalidArgument
from holdfast.records.executions import ExecutionKey
from holdfast.store import codec
from holdfast.workflows.driving import Outcome, Parent

LOCAL_QUEUE = "local"
"""The queue of executions that a person runs here: no worker elsewhere claims them."""
_ID_BYTES_MAX = 255


def new_key() -> ExecutionKey:
    """A UUIDv7: 48 bits of milliseconds, 12 of their fraction, so that keys sort by age, then chance."""
    milliseconds, rest_ns = divmod(time.time_ns(), 1_000_000)
    head = (milliseconds << 16 | 0x7000 | rest_ns * 4096 // 1_000_000).to_bytes(8, "big")
    tail = bytearray(secrets.token_bytes(8))
    tail[0] = 0x80 | tail[0] & 0x3F
    return ExecutionKey(head + bytes(tail))


def fingerprint(workflow: str, input: bytes) -> bytes:
    """What a bare second `run` looks for: the same workflow name and input."""
    return codec.digest(workflow.encode() + b"\0" + input)


def child_id(parent_id: str, path: str) -> str:
    """The id of the child that belongs to `path`; the same in every run of the parent."""
    plain = f"{parent_id}.{path}"
    if len(plain.encode()) <= _ID_BYTES_MAX:
        return plain
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a start came from and how it is to be filed."""

    id: str | None = None
    queue: str = LOCAL_QUEUE
    tags: tuple[str, ...] = ()
    trigger: str = "api"
    started_by: str | None = None
    parent: Parent | None = None

    def __post_init__(self) -> None:
        """Refuse here what some database would refuse later, in a batch with the writes of others."""
        if self.id is not None and (self.id != self.id.strip() or self.id.startswith("@")):
            raise InvalidArgument(f"{self.id!r} can not be an id", fix="no spaces around it, and no @ first")
        for what, text in (("id", self.id), ("queue", self.queue), *(("tag", tag) for tag in self.tags)):
            if text is not None and not (text.isprintable() and 1 <= len(text.encode()) <= _ID_BYTES_MAX):
                raise InvalidArgument(
                    f"{text[:60]!r} can not be {'an id' if what == 'id' else f'a {what}'}",
                    fix=f"use 1 to {_ID_BYTES_MAX} bytes of printable text",
                )


@dataclass(frozen=True, slots=True)
class Running:
    """An execution that runs in this process. `task` gives its outcome; cancelling it hands it back."""

    id: str
    key: ExecutionKey
    task: asyncio.Task[Outcome]
    resumed: bool

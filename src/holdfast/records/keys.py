"""Identifiers that sort by age."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_key() -> bytes:
    """A UUIDv7: 48 bits of milliseconds, 12 of their fraction, so that keys sort by age, then chance."""
    milliseconds, rest_ns = divmod(time.time_ns(), 1_000_000)
    head = (milliseconds << 16 | 0x7000 | rest_ns * 4096 // 1_000_000).to_bytes(8, "big")
    tail = bytearray(secrets.token_bytes(8))
    tail[0] = 0x80 | tail[0] & 0x3F
    return head + bytes(tail)


def new_id() -> str:
    """A new key in its usual text form: the id of a record whose maker gave none."""
    return str(UUID(bytes=new_key()))

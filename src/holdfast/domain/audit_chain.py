"""The chain of audit entries: what the hash of an entry is made of, and whether one follows another.

Each entry's hash covers everything in it, its tenant, its number, and the hash of the entry before. So an
entry that was changed has another hash, and one that was taken out, put in, moved or exchanged with another
tenant's breaks the link to its neighbour. With a key the hash can not be made anew by somebody who has only
the database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from holdfast.domain.keyrings import Keyring
from holdfast.records.audit import AuditEntry
from holdfast.store import codec
from holdfast.store.rows import microseconds

BEGINNING = bytes(32)
"""What the first entry of a chain follows."""
_FORMAT = "holdfast audit 1"


class Fault(StrEnum):
    """What is wrong at one place of a chain."""

    ALTERED = "altered"  # the entry does not have the hash that its contents give
    UNLINKED = "unlinked"  # it does not follow the entry before it
    MISSING = "missing"  # numbers are left out before it, or the chain ends too early
    REPEATED = "repeated"  # two entries have its number
    UNKEYED = "unkeyed"  # it has a hash without a key, where one with a key has to be
    UNKNOWN_KEY = "unknown key"  # its hash names a key that was not given
    UNREADABLE = "unreadable"  # its row does not read as an entry
    UNCHAINED = "unchained"  # it lies behind the end of the chain
    OTHER_HEAD = "other head"  # the end of the chain is not the one that was noted


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the number and hash of its newest entry; 0 before the first."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """The first place at which a chain does not hold."""

    seq: int
    fault: Fault
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found: how many entries are good from the first one on, and what is not."""

    good: int
    head: Head
    problem: Problem | None

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


def hash_of(entry: AuditEntry, tenant: str, keys: Keyring) -> bytes:
    """The hash that an entry must have, by the key that it names. Raises `KeyMissing`."""
    payload = json.dumps(
        [
            _FORMAT, tenant, entry.seq, entry.id, microseconds(entry.at),
            str(entry.actor_kind), entry.actor, entry.action, entry.resource_kind, entry.resource_id,
            _plain(entry.before), _plain(entry.after), _plain(entry.details),
            entry.ip, entry.user_agent, entry.request_id, entry.sealed_by, entry.previous.hex(),
        ],
        sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"),
    ).encode()  # fmt: skip
    if not entry.sealed_by:
        return hashlib.sha256(payload).digest()
    return hmac.digest(keys.key(entry.sealed_by), payload, "sha256")


def problem_of(entry: AuditEntry, before: Head, tenant: str, keys: Keyring, *, keyed: bool) -> Problem | None:
    """What is wrong with an entry that should follow `before`; None for nothing."""

    def found(fault: Fault, text: str) -> Problem:
        return Problem(entry.seq, fault, text)

    if entry.seq > before.seq + 1:
        first, last = before.seq + 1, entry.seq - 1
        gone = f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
        return Problem(first, Fault.MISSING, gone)
    if entry.seq <= before.seq:
        return found(Fault.REPEATED, f"another entry has the number {entry.seq}")
    if entry.sealed_by and entry.sealed_by not in keys.ids:
        return found(Fault.UNKNOWN_KEY, f"entry {entry.seq} names the key {entry.sealed_by[:64]!r}")
    if keyed and not entry.sealed_by:
        return found(Fault.UNKEYED, f"entry {entry.seq} has no keyed hash")
    if not hmac.compare_digest(entry.previous, before.hash):
        return found(Fault.UNLINKED, f"entry {entry.seq} does not follow the one before it")
    times_differ = entry.created_at != entry.at or entry.updated_at != entry.at
    if times_differ or not hmac.compare_digest(entry.hash, hash_of(entry, tenant, keys)):
        return found(Fault.ALTERED, f"entry {entry.seq} was changed")
    return None


def _plain(value: dict[str, Any] | None) -> Any:
    """The JSON of a column, whatever the order of its keys."""
    return None if value is None else json.loads(codec.to_json(value))

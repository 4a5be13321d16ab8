"""Lines of an incident's timeline: numbered without gaps under the lock of the incident's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.domain.clock import present
from holdfast.errors import InvalidArgument
from holdfast.records.incidents import Incident, TimelineEntry, TimelineKind
from holdfast.store.drivers.base import Transaction
from holdfast.store.rows import moment
from holdfast.store.store import Store

TEXT_CHARACTERS_MAX = 65_536
NAME_BYTES_MAX = 255
_STORES_OWN = ("revision", "created_at", "updated_at", "deleted_at")


class Timeline:
    """The next lines of one incident, whose row the transaction has locked: `lines` that were written.

    Their times do not go back, although a database may give a transaction the time at which it began, and
    that may lie before the end of the one it waited for.
    """

    def __init__(
        self, store: Store, transaction: Transaction, incident: str, seq: int, now: datetime
    ) -> None:
        self._entries = store.repo(TimelineEntry, within=transaction, unsealed=True)
        self._incident = incident
        self._seq = seq
        self.now = now

    @classmethod
    async def of(cls, store: Store, transaction: Transaction, incident: str) -> Timeline:
        """Where the timeline of a locked incident goes on."""
        now = await present(transaction)
        rows = await transaction.fetch("incidents.last_entry", store.tenant, incident)
        if not rows:
            return cls(store, transaction, incident, 0, now)
        return cls(store, transaction, incident, rows[0][0], max(now, moment(rows[0][1])))

    async def add(
        self,
        kind: TimelineKind,
        actor: str,
        text: str = "",
        data: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
    ) -> TimelineEntry:
        """Write the next line; `at` is when it happened, by default now."""
        self._seq += 1
        return await self._entries.create(
            TimelineEntry(
                incident=self._incident,
                seq=self._seq,
                at=self.now if at is None else at,
                kind=kind,
                actor=actor,
                text=text,
                data=dict(data or {}),
            )
        )


def check_said(actor: str, text: str = "") -> None:
    """Refuse what can not stand in a timeline. Raises `InvalidArgument`."""
    check_name(actor, "actor")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise InvalidArgument(
            f"the text has {len(text):,} characters", fix=f"use at most {TEXT_CHARACTERS_MAX:,}"
        )


def check_name(name: str, what: str, *, bytes_max: int = NAME_BYTES_MAX) -> None:
    """Refuse what can not name a person or a thing. Raises `InvalidArgument`."""
    if not (name.isprintable() and name == name.strip() and 1 <= len(name.encode()) <= bytes_max):
        raise InvalidArgument(
            f"{name[:60]!r} can not be the {what}",
            fix=f"use 1 to {bytes_max} bytes of printable text without spaces around it",
        )


def changes(before: Incident, after: Incident) -> dict[str, list[Any]]:
    """What differs, as `{field: [before, after]}` in JSON's values."""
    told: dict[str, list[Any]] = {}
    for each in fields(Incident):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if old != new and each.name not in _STORES_OWN:
            told[each.name] = [_told(old), _told(new)]
    return told


def _told(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, StrEnum):
        return str(value)
    return list(value) if isinstance(value, tuple) else value

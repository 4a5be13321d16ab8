"""What an audit entry shows of a changed record: its fields before and after, without secrets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.catalogue import RECORDS
from holdfast.records.declare import Record, table_of

SECRET = "[secret]"
"""What stands where a secret was."""
_STORES_OWN = ("revision", "created_at", "updated_at")

Shown = Record | Mapping[str, Any] | None


def shown(before: Shown, after: Shown) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Both sides of a change as JSON; of two records of one kind the fields that differ."""
    if isinstance(before, Record) and isinstance(after, Record) and type(before) is type(after):
        changed = {
            each.name
            for each in fields(before)
            if each.name not in _STORES_OWN and getattr(before, each.name) != getattr(after, each.name)
        }
        return _record(before, changed), _record(after, changed)
    return _side(before), _side(after)


def redacted(value: Any) -> Any:
    """A value without what a kind of record declares secret, by the names of those fields, at any depth."""
    if isinstance(value, Mapping):
        names = _secret_names()
        return {
            key: SECRET if key in names and each is not None else redacted(each)
            for key, each in value.items()
        }
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else _json(value)


def _side(value: Shown) -> dict[str, Any] | None:
    if isinstance(value, Record):
        return _record(value, {each.name for each in fields(value)})
    return None if value is None else redacted(value)


def _record(record: Record, names: set[str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for column in table_of(type(record)).columns:
        if column.name in names:
            value = getattr(record, column.name)
            told[column.name] = SECRET if column.secret and value is not None else redacted(value)
    return told


@functools.cache
def _secret_names() -> frozenset[str]:
    return frozenset(column.name for cls in RECORDS for column in table_of(cls).columns if column.secret)


def _json(value: Any) -> Any:
    """A field's value as people read it; what is not known stays what it is."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else value

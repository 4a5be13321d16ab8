"""Rows of the store as records. Databases differ only in how they hold a time, and that ends here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from holdfast.records.executions import BootId, Execution, ExecutionKey, ExecutionStatus
from holdfast.store.drivers.base import Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@overload
def moment(value: datetime | int) -> datetime: ...
@overload
def moment(value: datetime | int | None) -> datetime | None: ...
def moment(value: datetime | int | None) -> datetime | None:
    """A stored time in UTC: a timestamp as it is, or integer microseconds since 1970."""
    if value is None or isinstance(value, datetime):
        return value
    return _EPOCH + timedelta(microseconds=value)


def microseconds(moment: datetime) -> int:
    """A time as microseconds since 1970: the other way round."""
    return (moment - _EPOCH) // _MICROSECOND


def lasting(duration_us: int | None) -> timedelta | None:
    """A stored duration."""
    return None if duration_us is None else timedelta(microseconds=duration_us)


def execution_of(row: Row) -> Execution:
    """The execution in a row of any `executions.*` query."""
    return Execution(
        key=ExecutionKey(row[0]),
        id=row[1],
        tenant=row[2],
        workflow=row[3],
        version=row[4],
        definition=row[5],
        fingerprint=row[6],
        status=ExecutionStatus(row[7]),
        queue=row[8],
        priority=row[9],
        due_at=moment(row[10]),
        owner=None if row[11] is None else BootId(row[11]),
        epoch=row[12],
        recoveries=row[13],
        wakes=row[14],
        parent=None if row[15] is None else ExecutionKey(row[15]),
        created_at=moment(row[16]),
        finished_at=moment(row[17]),
    )


def tags_of(value: Any) -> tuple[str, ...]:
    """Tags from a text array or from a JSON list."""
    return tuple(json.loads(value) if isinstance(value, str) else value or ())

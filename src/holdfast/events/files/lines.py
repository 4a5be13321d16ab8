"""One event as one line: JSON that people and other programs read, and all that the store needs of it.

    {"timestamp":…,"type":"TASK_COMPLETED","workflowId":…,"taskId":…,"data":…,"metadata":{…},"seq":7,"crc":"…"}

`crc` is the CRC-32 of all that stands before it in the line. `data` is the stored value itself, byte for
byte, and `metadata` has every other column of the event, so a line can be turned back into its row. The first
line of an execution carries the execution, what was said about it, and its definition: a log is complete by
itself.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from holdfast.errors import DamagedData
from holdfast.records.engine_tables import DEFINITIONS, EVENTS, EXECUTION_DETAILS, EXECUTIONS
from holdfast.records.tables import Column, Kind, Table
from holdfast.store import codec
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Row
from holdfast.store.rows import microseconds, moment
from holdfast.store.table_rows import Plain, table_rows

_encode = msgspec.json.Encoder().encode
_CRC, _SEAL_BYTES = b',"crc":"', 18
_PREFIXES = {"execution.": "WORKFLOW_", "step.": "TASK_"}
_CHANGING = frozenset(
    {"status", "due_at", "owner", "epoch", "recoveries", "wakes", "finished_at", "blocked_on"}
)
"""What of an execution's row is not in its first line: its events tell it."""


class LoggedEvent(NamedTuple):
    """One row of `events`, whatever the database: times are microseconds, values the bytes of the codec.

    `value` is the payload wherever it is stored; `ref` names it when that is beside the row.
    """

    execution: bytes
    seq: int
    tenant: str
    epoch: int
    type: str
    path: str | None
    generation: int
    ordinal: int | None
    attempt: int
    result: bool
    at: int
    duration_us: int | None
    input_digest: bytes | None
    input: bytes | None
    value: bytes | None
    ref: bytes | None
    id: str


class About(NamedTuple):
    """What the first line of an execution says of it: its row and its details, and what it runs."""

    execution: Plain
    details: Plain | None
    definition: Plain | None


class Logged(NamedTuple):
    """What a line says."""

    event: LoggedEvent
    about: About | None


def event_of(row: Row, dialect: Dialect) -> LoggedEvent:
    """The event in a row of `events.whole`."""
    count = len(EVENTS.columns)
    return LoggedEvent._make((*table_rows(EVENTS, dialect).plain(row[:count]), row[count]))


def type_text(type: str) -> str:
    """A type of event as lines spell it: `step.completed` is TASK_COMPLETED."""
    for ours, theirs in _PREFIXES.items():
        if type.startswith(ours):
            return theirs + type.removeprefix(ours).upper()
    return type.upper().replace(".", "_")


def _type_of(text: str) -> str:
    for ours, theirs in _PREFIXES.items():
        if text.startswith(theirs):
            return ours + text.removeprefix(theirs).lower()
    return text.lower().replace("_", ".")


# Writing.


def spell(event: LoggedEvent, about: About | None) -> bytes:
    """The line of an event, with its end; `about` for the first of its execution."""
    metadata = _metadata(event)
    line: dict[str, Any] = {
        "timestamp": moment(event.at).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": type_text(event.type),
        "workflowId": event.id,
    }
    if event.path is not None:
        line["taskId"] = event.path
    data = _spell_value(event.value, metadata, "payload")
    if about is not None:
        name = about.execution[EXECUTIONS.names.index("workflow")]
        line["data"] = {"name": name} if data is None else {"name": name, "input": data}
        metadata["execution"] = _spell_row(EXECUTIONS, about.execution)
        metadata["details"] = about.details and _spell_row(EXECUTION_DETAILS, about.details)
        metadata["definition"] = about.definition and _spell_row(DEFINITIONS, about.definition)
    elif data is not None:
        line["data"] = data
    return sealed(_encode({**line, "metadata": metadata, "seq": event.seq}))


def sealed(body: bytes) -> bytes:
    """A JSON object as a line that carries its own checksum."""
    opened = body[:-1]
    return b'%b%b%08x"}\n' % (opened, _CRC, zlib.crc32(opened))


def is_whole(line: bytes) -> bool:
    """Whether a line, without its end, is as it was sealed."""
    opened = line[:-_SEAL_BYTES]
    return bool(opened) and line[-_SEAL_BYTES:] == b'%b%08x"}' % (_CRC, zlib.crc32(opened))


def _metadata(event: LoggedEvent) -> dict[str, Any]:
    """The columns that have no place in the line itself; what is usual is left out."""
    found: dict[str, Any] = {"key": event.execution.hex(), "tenant": event.tenant, "epoch": event.epoch}
    if event.attempt:
        found["attempt"] = event.attempt
    if event.duration_us is not None:
        found["duration"] = _milliseconds(event.duration_us)
    if event.generation:
        found["generation"] = event.generation
    if event.ordinal is not None:
        found["ordinal"] = event.ordinal
    if event.result:
        found["result"] = True
    if event.input_digest is not None:
        found["inputDigest"] = event.input_digest.hex()
    if (given := _spell_value(event.input, found, "input")) is not None:
        found["input"] = given
    if event.ref is not None:
        found["payloadRef"] = event.ref.hex()
    return found


def _milliseconds(microseconds: int) -> int | float:
    return microseconds / 1000 if microseconds % 1000 else microseconds // 1000


def _spell_value(value: bytes | None, metadata: dict[str, Any], name: str) -> msgspec.Raw | None:
    """The JSON of a value, as it is stored; what is none goes into the metadata as bytes."""
    if value is None:
        return None
    try:
        body = codec.body_of(value)
        msgspec.json.decode(body, type=msgspec.Raw)
    except (DamagedData, msgspec.MsgspecError, ValueError):
        body = b"\n"
    if b"\n" in body or b"\r" in body:
        metadata[f"{name}Bytes"] = base64.b64encode(value).decode()
        return None
    return msgspec.Raw(body)


def _spell_row(table: Table, row: Plain) -> dict[str, Any]:
    spelled: dict[str, Any] = {}
    for column, value in zip(table.columns, row, strict=True):
        if value is None or column.name in _CHANGING:
            continue
        if column.name == "document" and (document := _document(value)) is not None:
            spelled["document"] = document
        else:
            spelled[column.name] = value.hex() if column.kind is Kind.BYTES else value
    return spelled


def _document(value: bytes) -> dict[str, Any] | None:
    """A definition's document, if writing it again gives the same bytes."""
    try:
        body = codec.body_of(value)
        document = msgspec.json.decode(body)
    except (DamagedData, msgspec.MsgspecError, ValueError):
        return None
    return document if type(document) is dict and _encode(document) == body else None


# Reading.


class _Metadata(msgspec.Struct, rename="camel"):
    key: str
    tenant: str
    epoch: int
    attempt: int = 0
    duration: int | float | None = None
    generation: int = 0
    ordinal: int | None = None
    result: bool = False
    input_digest: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    input_bytes: str | None = None
    payload_bytes: str | None = None
    payload_ref: str | None = None
    execution: dict[str, Any] | None = None
    details: dict[str, Any] | None = None
    definition: dict[str, Any] | None = None


class _Spelled(msgspec.Struct, rename="camel"):
    timestamp: str
    type: str
    workflow_id: str
    metadata: _Metadata
    seq: int
    task_id: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Start(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Spelled).decode
_decode_start = msgspec.json.Decoder(_Start).decode


def read(line: bytes) -> Logged:
    """What a whole line says. Raises `ValueError` for one that is none of ours."""
    spelled = _decode(line)
    metadata = spelled.metadata
    about = None
    data = spelled.data
    if metadata.execution is not None:
        data = _decode_start(bytes(data)).input
        about = About(
            _read_row(EXECUTIONS, metadata.execution),
            None if metadata.details is None else _read_row(EXECUTION_DETAILS, metadata.details),
            None if metadata.definition is None else _read_row(DEFINITIONS, metadata.definition),
        )
    duration = metadata.duration
    event = LoggedEvent(
        execution=bytes.fromhex(metadata.key),
        seq=spelled.seq,
        tenant=metadata.tenant,
        epoch=metadata.epoch,
        type=_type_of(spelled.type),
        path=spelled.task_id,
        generation=metadata.generation,
        ordinal=metadata.ordinal,
        attempt=metadata.attempt,
        result=metadata.result,
        at=microseconds(datetime.fromisoformat(spelled.timestamp)),
        duration_us=None if duration is None else round(duration * 1000),
        input_digest=_unhex(metadata.input_digest),
        input=_read_value(metadata.input, metadata.input_bytes),
        value=_read_value(data, metadata.payload_bytes),
        ref=_unhex(metadata.payload_ref),
        id=spelled.workflow_id,
    )
    return Logged(event, about)


def _unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _read_value(spelled: msgspec.Raw, whole: str | None) -> bytes | None:
    if whole is not None:
        return base64.b64decode(whole)
    return codec.of_body(bytes(spelled)) if bytes(spelled) else None


def _read_row(table: Table, spelled: dict[str, Any]) -> Plain:
    return tuple(_read_column(column, spelled.get(column.name)) for column in table.columns)


def _read_column(column: Column, value: Any) -> Any:
    if column.kind is not Kind.BYTES or value is None:
        return value
    return codec.of_body(_encode(value)) if type(value) is dict else bytes.fromhex(value)


# What belongs to the first lines of executions.


def about_queries(dialect: Dialect, count: int) -> tuple[str, str]:
    """Two statements that read `count` executions and their details by key."""
    marks = ", ".join(dialect.mark(number) for number in range(1, count + 1))
    return (
        _by_key(EXECUTIONS, "key", marks, dialect),
        _by_key(EXECUTION_DETAILS, "execution", marks, dialect),
    )


def definition_query(dialect: Dialect) -> str:
    """The statement that reads one definition by tenant and hash."""
    return f"{_by_key(DEFINITIONS, 'hash', dialect.mark(2), dialect)} AND tenant_id = {dialect.mark(1)}"


def definition_key(execution: Plain) -> tuple[str, bytes]:
    """Tenant and hash of what an execution runs."""
    names = EXECUTIONS.names
    return execution[names.index("tenant_id")], execution[names.index("definition")]


def plain_rows(table: Table, dialect: Dialect, rows: Sequence[Row]) -> dict[bytes, Plain]:
    """Rows by their first column."""
    into = table_rows(table, dialect)
    plain = (into.plain(row) for row in rows)
    return {row[0]: row for row in plain}


def _by_key(table: Table, key: str, marks: str, dialect: Dialect) -> str:
    names = ", ".join(dialect.quoted(name) for name in table.names)
    return f"SELECT {names} FROM {dialect.table(table.name)} WHERE {dialect.quoted(key)} IN ({marks})"

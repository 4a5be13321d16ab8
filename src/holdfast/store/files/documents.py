"""Rows as documents that people can read, and back without a loss.

A row is a mapping of its columns; what is empty is left out. Times are ISO 8601 in UTC, keys of 16 bytes
UUIDs. JSON and payloads are plain structures wherever writing them down again gives the same bytes; else
their text or base64. What is not plain says what it is: `$json`, `$text`, `$payload`, `$base64` or `$key`.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from holdfast.errors import DamagedData
from holdfast.records.tables import Column, Kind, Table
from holdfast.store.rows import microseconds, moment
from holdfast.store.table_rows import Plain

_PAYLOAD_HEAD = b"\x10\0\0"  # strict JSON, not compressed, not encrypted; see `holdfast.store.codec`
_KEY_BYTES = 16
_MARKS = frozenset({"$json", "$text", "$payload", "$base64", "$key"})
_dump = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder().decode


def to_mapping(table: Table, row: Plain, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """One row as people read it."""
    return {
        column.name: _shown(column, value)
        for column, value in zip(table.columns, row, strict=True)
        if value is not None and column.name not in without
    }


def to_row(table: Table, mapping: Any, given: Mapping[str, Any], *, place: str) -> Plain:
    """The row of a mapping; `given` are columns that stand elsewhere in the document.

    Raises `DamagedData` that names the place, for unknown columns and for values that do not fit.
    """
    if not isinstance(mapping, dict):
        raise DamagedData(f"{place} is not a mapping", where=place)
    unknown = [name for name in mapping if name not in table.names]
    if unknown:
        raise DamagedData(f"{place} has no column {unknown[0]!r}", where=place, column=str(unknown[0]))
    values = []
    for column in table.columns:
        value = given.get(column.name, mapping.get(column.name))
        if value is None and not column.nullable and column.name not in given:
            raise DamagedData(f"{place} lacks {column.name}", where=place, column=column.name)
        values.append(None if value is None else _read(column, value, f"{place}.{column.name}"))
    return tuple(values)


def _shown(column: Column, value: Any) -> Any:
    match column.kind:
        case Kind.MOMENT:
            return moment(value).isoformat()
        case Kind.JSON:
            return _structure(value.encode(), "$json") or {"$text": value}
        case Kind.BYTES | Kind.PAYLOAD:
            return _bytes_shown(value)
        case _:
            return value


def _bytes_shown(value: bytes) -> Any:
    if len(value) == _KEY_BYTES and not value.startswith(_PAYLOAD_HEAD):
        return {"$key": str(UUID(bytes=value))}
    if value.startswith(_PAYLOAD_HEAD):
        structure = _structure(value[len(_PAYLOAD_HEAD) :], "$payload")
        if structure is not None:
            return structure
    return {"$base64": base64.b64encode(value).decode()}


def _structure(body: bytes, mark: str) -> dict[str, Any] | None:
    """The value in a JSON text, if writing it down again gives the same text."""
    try:
        value = _parse(body)
        return {mark: value} if _dump(value) == body else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read(column: Column, value: Any, place: str) -> Any:
    try:
        return _READERS[column.kind](value)
    except (ValueError, TypeError, OverflowError, binascii.Error, KeyError) as error:
        raise DamagedData(f"{place} does not hold {column.kind}: {error}", where=place) from None


def _marked(value: Any) -> tuple[str, Any]:
    if isinstance(value, dict) and len(value) == 1:
        ((mark, inner),) = value.items()
        if mark in _MARKS:
            return mark, inner
    raise ValueError("it needs $json, $text, $payload, $base64 or $key")


def _read_bytes(value: Any) -> bytes:
    mark, inner = _marked(value)
    match mark:
        case "$key":
            return UUID(inner).bytes
        case "$payload":
            return _PAYLOAD_HEAD + _dump(inner)
        case "$base64":
            return base64.b64decode(inner, validate=True)
        case _:
            raise ValueError(f"{mark} is no form of bytes")


def _read_json(value: Any) -> str:
    match _marked(value):
        case ("$json", inner):
            return _dump(inner).decode()
        case ("$text", str(text)):
            return text
        case mark, _:
            raise ValueError(f"{mark} is no form of JSON")


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"it is {type(value).__name__}")
        return value

    return read


def _read_moment(value: Any) -> int:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))


def _read_real(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"it is {type(value).__name__}")
    return float(value)


def _read_texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError("it is not a list of texts")
    return value


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _exactly(str), Kind.INTEGER: _exactly(int), Kind.DURATION: _exactly(int),
    Kind.REAL: _read_real, Kind.BOOLEAN: _exactly(bool), Kind.MOMENT: _read_moment, Kind.BYTES: _read_bytes,
    Kind.PAYLOAD: _read_bytes, Kind.TEXTS: _read_texts, Kind.JSON: _read_json,
}  # fmt: skip


# Text.


@functools.cache
def _yaml() -> Any:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Texts of several lines as blocks, everything else as YAML prefers."""

    def block(dumper: Any, text: str) -> Any:
        ragged = any(line != line.rstrip() for line in text.split("\n"))
        style = "|" if "\n" in text and not ragged else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, block)
    return Dumper


def dump(document: Mapping[str, Any], form: str) -> bytes:
    """The text of a document, in `yaml` or `json`."""
    if form == "json":
        return msgspec.json.format(_dump(document), indent=2) + b"\n"
    import yaml

    text = yaml.dump(document, Dumper=_yaml(), sort_keys=False, allow_unicode=True, width=110)
    return str(text).encode()


def parse(data: bytes, form: str, *, place: str) -> dict[str, Any]:
    """The document in a text. Raises `DamagedData` with the line."""
    try:
        if form == "json":
            document = _parse(data)
        else:
            import yaml

            document = yaml.load(data.decode(), Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        raise DamagedData(f"{place} is not UTF-8 at byte {error.start}", where=place) from None
    except msgspec.MsgspecError as error:
        raise DamagedData(f"{place} is not JSON: {error}", where=place) from None
    except Exception as error:  # what the YAML library raises has no common root but this
        mark = getattr(error, "problem_mark", None)
        line = f"{place}:{mark.line + 1}" if mark is not None else place
        raise DamagedData(f"{place} is not YAML: {getattr(error, 'problem', error)}", where=line) from None
    if not isinstance(document, dict):
        raise DamagedData(f"{place} holds no document", where=place)
    return document

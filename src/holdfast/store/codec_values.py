"""Values that describe themselves: Python values to strict JSON nodes and back, without an annotation.

What JSON does not know and is accepted all the same becomes a tag, `{"$hf": [kind, payload]}`:

    decimal, uuid, date       text            int        hexadecimal text (beyond 64 bits)
    bytes                     base64 text     timedelta  text, whole microseconds
    datetime, time            ISO text, or [ISO text, fold, zone key or null, zone name or null]
    tuple, set, frozenset     list of nodes   object     a user's own object that has the key "$hf"

Types are matched exactly. A subclass (an IntEnum, an OrderedDict, a str subclass) would come back as its
base class, so it is refused, never narrowed. Sets are written in the order of their elements' JSON, so
equal sets make equal bytes. A cycle is found as a value that is too deep. One normalisation: the fixed
offset class pydantic gives its datetimes comes back as `datetime.timezone`, its equal.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, DecimalException
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from holdfast.store.codec_nodes import (
    DEPTH_MAX,
    SEQUENCES,
    TAG,
    Refusal,
    Trip,
    brief,
    collect,
    damage,
    guarded,
    key_segment,
    open_tag,
    tagged,
    type_name,
)

INT_MAX = 2**63 - 1
_TAG_BYTES = len('{"$hf":["int",""]}')
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_dump = msgspec.json.Encoder().encode


def write_text(value: str, trip: Trip) -> str:
    """Check a str: lone surrogates have no UTF-8 form."""
    trip.spend(len(value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refusal(
                f"the text has a lone surrogate, U+{ord(value[error.start]):04X}, at character {error.start}",
                "decode the text properly first, or keep raw data as bytes",
            ) from None
    return value


def write_key(key: object, trip: Trip) -> str:
    """Check the key of an object."""
    if type(key) is not str:
        raise Refusal(
            f"a dict key is {type_name(type(key))}, not str: {brief(key)}",
            "use str keys, or a list of pairs",
        )
    return write_text(key, trip)


def _text_tag(kind: str, text: str, trip: Trip) -> Any:
    trip.spend(len(text) + _TAG_BYTES)
    return tagged(kind, text)


def _write_int(value: int, trip: Trip) -> Any:
    if -INT_MAX - 1 <= value <= INT_MAX:
        return value
    return _text_tag("int", hex(value), trip)


def _write_float(value: float, trip: Trip) -> float:
    if not math.isfinite(value):
        raise Refusal(f"the float {value!r} is not a finite number", "use None, or leave the value out")
    return value


def _write_decimal(value: Decimal, trip: Trip) -> Any:
    if not value.is_finite():
        raise Refusal(f"the decimal {value} is not a finite number", "use None, or leave the value out")
    return _text_tag("decimal", str(value), trip)


def _write_bytes(value: bytes, trip: Trip) -> Any:
    return _text_tag("bytes", base64.b64encode(value).decode(), trip)


def _write_clock(kind: str, value: datetime | time, trip: Trip) -> Any:
    text, zone = value.isoformat(), value.tzinfo
    key = name = None
    if type(zone) is ZoneInfo and zone.key:
        key = zone.key
    elif type(zone) is timezone:
        if abs(zone.utcoffset(None)) < _SECOND and zone.utcoffset(None):
            # Python reads such an offset back as UTC.
            raise Refusal(f"the offset of {value!r} is under a second", "use an offset of whole minutes")
        given = zone.tzname(None)
        name = given if given != timezone(zone.utcoffset(None)).tzname(None) else None
    elif zone is not None and type_name(type(zone)) != "pydantic_core._pydantic_core.TzInfo":
        raise Refusal(
            f"the time zone {zone!r} is a {type_name(type(zone))}",
            "use datetime.timezone.utc or zoneinfo.ZoneInfo",
        )
    if value.fold or key or name:
        trip.spend(len(text) + _TAG_BYTES)
        return tagged(kind, [text, value.fold, key, name])
    return _text_tag(kind, text, trip)


def write_items(items: Any, trip: Trip, write: Callable[[Any, Trip], Any]) -> list[Any]:
    """The nodes of a sequence, each by `write`; a refusal names the index."""
    trip.enter(len(items))
    out: list[Any] = []
    for item in items:
        try:
            out.append(write(item, trip))
        except Refusal as refusal:
            raise refusal.inside(f"[{len(out)}]") from None
    trip.depth -= 1
    return out


def write_set(items: Any, trip: Trip, write: Callable[[Any, Trip], Any]) -> list[Any]:
    """The nodes of a set in an order that depends on its elements alone."""
    trip.enter(len(items))
    try:
        nodes = [write(item, trip) for item in items]
    except Refusal as refusal:
        raise refusal.inside("[*]") from None
    trip.depth -= 1
    return sorted(nodes, key=_dump)


def write_mapping(value: dict[Any, Any], trip: Trip, write: Callable[[Any, Trip], Any]) -> dict[str, Any]:
    """The node of a dict, values by `write`, guarded; a refusal names the key."""
    trip.enter(len(value))
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = write_key(key, trip)
        try:
            out[name] = write(item, trip)
        except Refusal as refusal:
            raise refusal.inside(key_segment(name)) from None
    trip.depth -= 1
    return guarded(out)


def write_sequence(value: Any, trip: Trip, write: Callable[[Any, Trip], Any]) -> Any:
    """The node of a list, tuple, set or frozenset, elements by `write`."""
    kind = type(value)
    if kind is list:
        return write_items(value, trip, write)
    if kind is tuple:
        return tagged("tuple", write_items(value, trip, write))
    return tagged(kind.__name__, write_set(value, trip, write))


_WRITERS: dict[type, Callable[[Any, Trip], Any]] = {
    type(None): lambda value, trip: None,
    bool: lambda value, trip: value,
    str: write_text,
    int: _write_int,
    float: _write_float,
    list: lambda value, trip: write_items(value, trip, write_any),
    dict: lambda value, trip: write_mapping(value, trip, write_any),
    tuple: lambda value, trip: write_sequence(value, trip, write_any),
    set: lambda value, trip: write_sequence(value, trip, write_any),
    frozenset: lambda value, trip: write_sequence(value, trip, write_any),
    bytes: _write_bytes,
    Decimal: _write_decimal,
    datetime: lambda value, trip: _write_clock("datetime", value, trip),
    time: lambda value, trip: _write_clock("time", value, trip),
    date: lambda value, trip: _text_tag("date", value.isoformat(), trip),
    timedelta: lambda value, trip: _text_tag("timedelta", str(value // _MICROSECOND), trip),
    UUID: lambda value, trip: _text_tag("uuid", str(value), trip),
}


def write_any(value: Any, trip: Trip) -> Any:
    """The node of a value that describes itself; `Refusal` for every other."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise _unknown(value)
    return writer(value, trip)


def _unknown(value: object) -> Refusal:
    kind = type(value)
    name = type_name(kind)
    if isinstance(value, Enum):
        return Refusal(
            f"the enum member {name}.{value.name} stands where nothing is annotated",
            f"annotate the step's return type with {kind.__name__}, or return its .value",
        )
    if is_dataclass(kind) or hasattr(kind, "__struct_fields__") or hasattr(kind, "__pydantic_fields__"):
        return Refusal(
            f"a {name} stands where no model is annotated",
            f"annotate the step's return type, so that {kind.__name__} can be read back",
        )
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return Refusal(
            f"the named tuple {name} stands where nothing is annotated", "annotate the step's return type"
        )
    for base in (str, int, float, dict, list, tuple, set, frozenset, bytes, datetime, Decimal):
        if isinstance(value, base):
            return Refusal(
                f"{name} is a subclass of {base.__name__} and would come back as {base.__name__}",
                f"convert it: {base.__name__}(…)",
            )
    if isinstance(value, bytearray | memoryview):
        return Refusal(f"{name} is not a storable type", "convert it: bytes(…)")
    return Refusal(f"{name} is not a storable type", "return JSON types, or a dataclass that is annotated")


def read_any(node: Any, depth: int) -> Any:
    """The value of a node that describes itself; `depth` is how many containers lie around it."""
    kind = type(node)
    if kind is not list and kind is not dict:
        return node
    if kind is dict and TAG in node:
        return _read_tag(*open_tag(node), depth)
    if depth >= DEPTH_MAX:
        raise damage(f"nested deeper than {DEPTH_MAX} levels")
    if kind is list:
        return [read_any(item, depth + 1) for item in node]
    return {key: read_any(item, depth + 1) for key, item in node.items()}


def _read_tag(kind: str, payload: Any, depth: int) -> Any:
    if kind in SEQUENCES or kind == "object":
        if depth >= DEPTH_MAX:
            raise damage(f"nested deeper than {DEPTH_MAX} levels")
        if kind == "object" and type(payload) is dict:
            return {key: read_any(item, depth + 1) for key, item in payload.items()}
        if type(payload) is list and kind in SEQUENCES and kind != "list":
            return collect(kind, [read_any(item, depth + 1) for item in payload])
        raise damage(f"malformed tag {kind!r}")
    reader = _READERS.get(kind)
    if reader is None:
        raise damage(f"the stored kind {kind[:40]!r} is unknown")
    try:
        return reader(payload)
    except (ValueError, TypeError, OverflowError, DecimalException, AttributeError) as error:
        raise damage(f"the stored {kind} does not read back: {error}") from None


def _read_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if type(text) is not str or not value.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _read_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _read_clock(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def clock(payload: Any) -> Any:
        if type(payload) is str:
            return read(payload)
        text, fold, key, name = payload
        value = read(text)
        zone: tzinfo | None = value.tzinfo
        if key is not None:
            zone = _zone(key)
        elif name is not None:
            zone = timezone(value.utcoffset(), name)
        found = value.replace(tzinfo=zone, fold=fold)
        if key is not None and isinstance(value, datetime) and found.utcoffset() != value.utcoffset():
            # The rules of the zone changed since: the instant is the fact, the wall clock follows from it.
            found = value.astimezone(zone)
        return found

    return clock


def _zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, OSError):
        raise Refusal(
            f"the time zone {brief(key)} is not known on this machine", "install the tzdata package"
        ) from None


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "decimal": _read_decimal,
    "bytes": _read_bytes,
    "datetime": _read_clock(datetime.fromisoformat),
    "time": _read_clock(time.fromisoformat),
    "date": date.fromisoformat,
    "timedelta": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
}

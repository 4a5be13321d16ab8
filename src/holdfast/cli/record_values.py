"""Between what a person writes and a record: `name=value`, JSON, and the columns worth showing.

The declaration decides how a value is read. What the store sets, and secrets, are nobody's to write here.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from holdfast.durations import parse_duration
from holdfast.errors import HoldfastError, InvalidUsage
from holdfast.records.declare import Record, noun_of, table_of
from holdfast.records.tables import Column, Kind, Table

R = TypeVar("R", bound=Record)
COLUMNS_MAX = 6
_STORE_SETS = frozenset({"tenant_id", "revision", "created_at", "updated_at", "deleted_at"})
_SHORT = (Kind.TEXT, Kind.INTEGER, Kind.REAL, Kind.BOOLEAN, Kind.MOMENT, Kind.DURATION)


def shown(table: Table) -> tuple[str, ...]:
    """The fields that may be printed: all but secrets and what says nothing in an answer."""
    hidden = {"tenant_id", "deleted_at"}
    return tuple(each.name for each in table.columns if not each.secret and each.name not in hidden)


def default_columns(table: Table) -> tuple[str, ...]:
    """What `list` prints of a kind: its id, the first short fields that lists are filtered by, its age."""
    short = [
        each.name for each in table.columns
        if each.filter is not None and each.kind in _SHORT and each.name not in {"id", *_STORE_SETS}
    ]  # fmt: skip
    return ("id", *short[: COLUMNS_MAX - 2], "created_at")


def printed(record: Record) -> dict[str, Any]:
    """A record as it is printed, without its secrets."""
    return {name: getattr(record, name) for name in shown(table_of(type(record)))}


def writable(cls: type[Record], only: Sequence[str] = (), *, anew: bool) -> list[Column]:
    """The fields that a command may set, among `only` if there are any; of a new record also fixed ones."""
    return [
        each for each in table_of(cls).columns
        if each.name not in _STORE_SETS and not each.secret and (anew or not each.immutable)
        and (not only or each.name in only)
    ]  # fmt: skip


def from_words(
    cls: type[Record],
    words: Sequence[str],
    unset: Sequence[str] = (),
    *,
    anew: bool,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """The values in `name=value` words, each as its field has it; None for the names in `unset`.

    `only` are the fields that may be set, if not all.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign:
            raise InvalidUsage(
                f"{word[:80]!r} is not NAME=VALUE", where="--set", fix="write --set name=value"
            )
        column = _column(cls, name, only, anew=anew, where="--set")
        values[name] = _read(column, text, _FROM_TEXT, "--set")
    for name in unset:
        column = _column(cls, name, only, anew=anew, where="--unset")
        if not column.nullable:
            raise InvalidUsage(f"{name} always has a value", where="--unset", fix=f"use --set {name}=…")
        values[name] = None
    return values


def from_json(cls: type[Record], given: Any, only: Sequence[str] = ()) -> dict[str, Any]:
    """The same from a JSON object."""
    if not isinstance(given, Mapping):
        raise InvalidUsage("a record is a JSON object", where="--input", fix='write it as {"name": value}')
    values: dict[str, Any] = {}
    for name, value in given.items():
        column = _column(cls, name, only, anew=True, where="--input")
        empty = value is None and (column.nullable or column.kind is Kind.PAYLOAD)
        values[name] = None if empty else _read(column, value, _FROM_JSON, "--input")
    return values


def made(cls: type[R], values: Mapping[str, Any]) -> R:
    """The record with these values; `InvalidUsage` names those that are missing."""
    missing = [
        each.name for each in dataclasses.fields(cls)
        if each.name not in values
        and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    if missing:
        example = " ".join(f"--set {name}=…" for name in missing)
        raise InvalidUsage(f"a new {noun_of(cls)} needs {', '.join(missing)}", where="create", fix=example)
    return cls(**values)


def _column(cls: type[Record], name: str, only: Sequence[str], *, anew: bool, where: str) -> Column:
    allowed = {each.name: each for each in writable(cls, only, anew=anew)}
    if name in allowed:
        return allowed[name]
    known = {each.name: each for each in table_of(cls).columns}
    fix = f"use {', '.join(allowed)}"
    if name in _STORE_SETS and name in known:
        raise InvalidUsage(f"{name} is set by the store", where=where, fix=fix)
    if name in known and known[name].secret:
        raise InvalidUsage(f"{name} is a secret, and is not given on a command line", where=where, fix=fix)
    if name in known:
        why = "never changes once it is stored" if known[name].immutable else "is not set by hand"
        raise InvalidUsage(f"{name} {why}", where=where, fix=fix)
    near = difflib.get_close_matches(name, allowed, 1)
    raise InvalidUsage(
        f"there is no field {name[:80]!r}", where=where, fix=f"did you mean {near[0]}?" if near else fix
    )


def _read(column: Column, value: Any, readers: Mapping[Kind, Callable[[Any], Any]], where: str) -> Any:
    if column.type is not None:
        if value not in list(column.type):
            raise InvalidUsage(
                f"{column.name} can not be {str(value)[:40]!r}",
                where=where,
                fix=f"use {', '.join(column.type)}",
            )
        return column.type(value)
    try:
        return readers[column.kind](value)
    except (ValueError, TypeError, RecursionError, OverflowError, HoldfastError) as error:
        wanted = _WANTED[column.kind]
        raise InvalidUsage(
            f"{column.name} can not be {str(value)[:40]!r}: it is {wanted}", where=where
        ) from error


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse()


def _moment(text: Any) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _texts(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        return _list_of_texts(json.loads(text))
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _list_of_texts(value: Any) -> tuple[str, ...]:
    good = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return tuple(value) if good else _refuse()


def _structure(value: Any) -> Any:
    return value if isinstance(value, dict | list) else _refuse()


def _seconds(value: Any) -> timedelta:
    """As `--json` prints one: seconds; or with a unit."""
    if isinstance(value, bool):
        _refuse()
    return timedelta(seconds=value) if isinstance(value, int | float) else parse_duration(value)


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) in kinds else _refuse()


def _refuse() -> Any:
    raise ValueError


_WANTED = {
    Kind.TEXT: "a text",
    Kind.INTEGER: "a whole number",
    Kind.REAL: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.MOMENT: "a time such as 2026-01-31T12:00:00Z",
    Kind.DURATION: "a duration such as 30s",
    Kind.BYTES: "bytes in hexadecimal",
    Kind.TEXTS: "a list of texts: a,b or a JSON list",
    Kind.JSON: "a JSON object or list",
    Kind.PAYLOAD: "JSON",
}
_FROM_TEXT: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.REAL: float,
    Kind.BOOLEAN: _truth,
    Kind.MOMENT: _moment,
    Kind.DURATION: parse_duration,
    Kind.BYTES: bytes.fromhex,
    Kind.TEXTS: _texts,
    Kind.JSON: lambda text: _structure(json.loads(text)),
    Kind.PAYLOAD: json.loads,
}
_FROM_JSON: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _exactly(str),
    Kind.INTEGER: _exactly(int),
    Kind.REAL: lambda value: float(_exactly(int, float)(value)),
    Kind.BOOLEAN: _exactly(bool),
    Kind.MOMENT: _moment,
    Kind.DURATION: _seconds,
    Kind.BYTES: bytes.fromhex,
    Kind.TEXTS: _list_of_texts,
    Kind.JSON: _structure,
    Kind.PAYLOAD: lambda value: value,
}

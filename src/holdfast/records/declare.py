"""`@record`: a record is declared once, as a frozen dataclass; the rest follows from the declaration.

    @record(table="incidents")
    class Incident(Record):
        title: str = field(search=True)
        severity: Severity = Severity.MEDIUM
        tags: tuple[str, ...] = field(default=(), filter="tag")

Column lists, bound values, filters, JSON, command line columns and copies read the `Table` made from it. The
DDL is written by hand in a migration, and a test compares the two. The annotation decides the kind of a
column: str, a StrEnum, int, float, bool, datetime, timedelta, bytes, `tuple[str, ...]`, a dict or a tuple of
dicts (JSON), `Any` (a payload); with `| None` it may be empty.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from holdfast.records.keys import new_id
from holdfast.records.tables import Column, Kind, Table

R = TypeVar("R", bound="Record")
NOT_YET = datetime.fromtimestamp(0, UTC)
"""The times of a record that the store has not seen yet."""

_KINDS: dict[Any, Kind] = {
    str: Kind.TEXT, int: Kind.INTEGER, float: Kind.REAL, bool: Kind.BOOLEAN, datetime: Kind.MOMENT,
    timedelta: Kind.DURATION, bytes: Kind.BYTES, Any: Kind.PAYLOAD,
}  # fmt: skip
_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TENANT = Column(name="tenant_id", kind=Kind.TEXT, immutable=True)


def field(
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    search: bool = False,
    personal: bool = False,
    secret: bool = False,
    immutable: bool = False,
    filter: str | None = "",
) -> Any:
    """A field of a record; see `Column` for the flags.

    `filter` is the field's name in the query language: by default its own, None for none. Secrets, payloads
    and bytes have none.
    """
    metadata = {
        "search": search, "personal": personal, "secret": secret, "immutable": immutable, "filter": filter,
    }  # fmt: skip
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


def _declared(
    cls: type[R], *, table: str | None, owner: tuple[str, str] | None, sealed: bool = False
) -> type[R]:
    secrets = {
        name for name, value in vars(cls).items()
        if isinstance(value, dataclasses.Field) and value.metadata.get("secret")
    }  # fmt: skip
    for name in secrets:
        vars(cls)[name].repr = False
    made = dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)
    if table is not None:
        made.__table_name__ = table
        made.__table_owner__ = owner
        made.__table_sealed__ = sealed
    return made


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def record(
    *, table: str, owner: tuple[str, str] | None = None, sealed: bool = False
) -> Callable[[type[R]], type[R]]:
    """Declare a record that lives in `table`. The class derives from `Record` or `SoftRecord`.

    `owner` is a table and the field that holds the id of its row, when records live and end with that row.
    A `sealed` kind is written by the verbs of its family alone: repositories read it and refuse the rest.
    """
    return lambda cls: _declared(cls, table=table, owner=owner, sealed=sealed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every record has. The store sets `revision` and both times; a revision of 0 was never stored.

    `revision` rises by one with every change: an update is refused when somebody else was faster.
    """

    __table_name__ = ""
    __table_owner__: ClassVar[tuple[str, str] | None] = None
    __table_sealed__: ClassVar[bool] = False

    id: str = field(default_factory=new_id, immutable=True)
    revision: int = field(default=0, filter=None)
    created_at: datetime = field(default=NOT_YET, filter="created", immutable=True)
    updated_at: datetime = field(default=NOT_YET, filter="updated")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SoftRecord(Record):
    """A record that is marked when it is deleted, left out of every answer, and can be restored."""

    deleted_at: datetime | None = field(default=None, filter=None)


def table_of(cls: type[Record]) -> Table:
    """The table of a declared record: the tenant, then its fields in the order they are declared."""
    hashable: Any = cls  # a class is, whatever a type checker makes of the hash of its instances
    return _table_of(hashable)


def noun_of(cls: type[Record]) -> str:
    """What a message calls one of a kind: `api key` for `ApiKey`, `task` for `TaskRecord`."""
    words = _CAPITALS.sub(" ", cls.__name__.removesuffix("Record"))
    return words.lower()


@functools.cache
def _table_of(cls: Any) -> Table:
    hints = get_type_hints(cls)
    columns = [_column(member, hints[member.name], cls) for member in dataclasses.fields(cls)]
    owner = cls.__table_owner__ and (cls.__table_owner__[0], ("tenant_id", cls.__table_owner__[1]))
    return Table(
        name=cls.__table_name__,
        columns=(_TENANT, *columns),
        key=("tenant_id", "id"),
        owner=owner,
        sealed=cls.__table_sealed__,
    )


def _column(member: dataclasses.Field[Any], hint: Any, cls: type) -> Column:
    inner, nullable = _without_none(hint)
    enum = inner if isinstance(inner, type) and issubclass(inner, StrEnum) else None
    kind = Kind.TEXT if enum else _kind(inner, f"{cls.__name__}.{member.name}")
    said = {"search": False, "personal": False, "secret": False, "immutable": False, "filter": ""}
    said |= member.metadata
    name = said.pop("filter")
    if name == "":
        name = member.name
    if said["secret"] or kind in (Kind.BYTES, Kind.PAYLOAD, Kind.JSON):
        name = None
    return Column(name=member.name, kind=kind, type=enum, nullable=nullable, filter=name, **said)  # type: ignore[arg-type]


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [each for each in get_args(hint) if each is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, hint is Any


def _kind(hint: Any, place: str) -> Kind:
    if hint in _KINDS:
        return _KINDS[hint]
    if get_origin(hint) is tuple:
        return Kind.TEXTS if get_args(hint)[0] is str else Kind.JSON
    if get_origin(hint) is dict:
        return Kind.JSON
    raise TypeError(f"{place}: a record has no column for {hint!r}")

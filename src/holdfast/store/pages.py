"""Pages of records: a query, a sort and a place in the list as one statement, and its rows as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from holdfast.errors import InvalidArgument
from holdfast.records.declare import Record
from holdfast.records.tables import Column, Kind
from holdfast.store.drivers.base import Row
from holdfast.store.filters import Query
from holdfast.store.mapping import Mapping, listed
from holdfast.store.query import (
    Sort,
    Where,
    check_limit,
    decode_position,
    encode_position,
    explained,
    keyset,
    parse_sort,
)
from holdfast.store.rows import microseconds, moment
from holdfast.store.statements import narrow

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some records of a list, and where the next ones begin; `cursor` is None behind the last."""

    items: list[T]
    cursor: str | None


class Pages(Generic[R]):
    """The statements of one query: its page, its count, its estimate."""

    def __init__(
        self, mapping: Mapping[R], tenant: str, query: Query, *, fields: tuple[str, ...] = ()
    ) -> None:
        self._mapping = mapping
        self._table = mapping.dialect.table(mapping.table.name)
        self._where = Where(mapping.dialect)
        self._query = query
        self._fields = tuple(self._field(name) for name in fields)
        self._limit = 0
        self._sort: Sort | None = None
        narrow(self._where, mapping, tenant, query)

    def _field(self, name: str) -> Column:
        shown = [each for each in self._mapping.table.columns if not each.secret and each.name != "tenant_id"]
        for column in shown:
            if name == column.name:
                return column
        raise InvalidArgument(
            f"there is no field {name!r}", where="fields", fix=f"use {', '.join(each.name for each in shown)}"
        )

    def select(self, *, sort: str, limit: int, cursor: str | None, offset: int) -> tuple[str, list[Any]]:
        """One row more than the page has: it tells whether there is a next page."""
        check_limit(limit, offset)
        where = self._where
        self._sort, self._limit = parse_sort(sort, self._mapping.table), limit
        if cursor is not None:
            spelled, value, id = decode_position(cursor, 3)
            if spelled != self._sort.spelled:
                raise InvalidArgument("the cursor belongs to a list in another order", where="cursor")
            keyset(where, self._sort, self._mapping.table.column("id"), (self._bound(value), self._id(id)))
        tail = f"LIMIT {where.bind(limit + 1)}" + (f" OFFSET {where.bind(offset)}" if offset else "")
        return f"{self._head()} {self._order()} {tail}", where.values

    def select_all(self, *, sort: str) -> tuple[str, list[Any]]:
        """All rows that fit: for conditions that bound them."""
        self._sort = parse_sort(sort, self._mapping.table)
        return f"{self._head()} {self._order()}", self._where.values

    def ranked(self, *, limit: int, cursor: str | None) -> tuple[str, list[Any]]:
        """A page in the order of a search: see `Repository.search`."""
        if not self._mapping.searched:
            raise InvalidArgument(f"{self._mapping.table.name} are not searched", where="search")
        check_limit(limit)
        where, dialect = self._where, self._mapping.dialect
        self._limit = limit
        asked = dialect.word_query(self._query.words)
        mark = where.bind(asked or self._nothing())
        rank = dialect.first_matching(self._mapping.table.name, mark)
        if cursor is not None:
            place, created_us, id = decode_position(cursor, 3)
            if place not in (0, 1):
                raise InvalidArgument("the cursor is not one of this list", where="cursor")
            first = where.bind(int(place))
            created = where.bind_as(self._mapping.table.column("created_at"), _moment(created_us))
            last = where.bind(self._id(id))
            where.clauses.append(
                f"({rank} < {first} OR ({rank} = {first} AND (created_at < {created} "
                f"OR (created_at = {created} AND id < {last}))))"
            )
        return (
            f"SELECT {self._mapping.columns}, {rank} AS place FROM {self._table} WHERE {where.text} "
            f"ORDER BY place DESC, created_at DESC, id DESC LIMIT {where.bind(limit + 1)}"
        ), where.values

    def _nothing(self) -> str:
        """A word query that is well formed and finds nothing."""
        return self._mapping.dialect.word_query("zzzz")

    def _head(self) -> str:
        dialect = self._mapping.dialect
        if not self._fields:
            columns = self._mapping.columns
        else:
            sort = self._sort.column.name if self._sort else "id"
            columns = listed(dialect, (*(each.name for each in self._fields), sort, "id"))
        return f"SELECT {columns} FROM {self._table} WHERE {self._where.text}"

    def _order(self) -> str:
        sort = self._sort
        if sort is None:
            return ""
        way = " DESC" if sort.descending else ""
        name = self._mapping.dialect.quoted(sort.column.name)
        return f"ORDER BY {name}{way}" + ("" if sort.column.name == "id" else f", id{way}")

    def count(self) -> tuple[str, list[Any]]:
        """How many rows fit."""
        return f"SELECT count(*) FROM {self._table} WHERE {self._where.text}", self._where.values

    def count_up_to(self, limit: int) -> tuple[str, list[Any]]:
        """How many rows fit, but no more than `limit` are looked at."""
        inner = f"SELECT 1 FROM {self._table} WHERE {self._where.text} LIMIT {limit}"
        return f"SELECT count(*) FROM ({inner}) AS counted", self._where.values

    def estimate(self) -> tuple[str, list[Any]] | None:
        """What asks the planner how many rows fit; None where there is no planner that knows."""
        explain = explained(self._mapping.dialect)
        if explain is None:
            return None
        return f"{explain} SELECT id FROM {self._table} WHERE {self._where.text}", self._where.values

    # From rows.

    def page(self, rows: Sequence[Row]) -> Page[R]:
        """The page in the rows of `select` or `ranked`."""
        width = len(self._mapping.table.columns) - 1
        shown = rows[: self._limit]
        items = [self._mapping.record(row) for row in shown]
        if len(rows) <= self._limit:
            return Page(items, None)
        last = items[-1]
        if self._sort is None:
            return Page(items, encode_position([int(shown[-1][width]), _number(last.created_at), last.id]))
        return Page(items, self._position(getattr(last, self._sort.column.name), last.id))

    def page_of_fields(self, rows: Sequence[Row]) -> Page[dict[str, Any]]:
        """The page of dicts in the rows of `select`."""
        read = self._mapping.read
        names = [each.name for each in self._fields]
        shown = rows[: self._limit]
        items = [
            {
                name: None if value is None else read(name, value)
                for name, value in zip(names, row, strict=False)
            }
            for row in shown
        ]
        if len(rows) <= self._limit or self._sort is None:
            return Page(items, None)
        *_, value, id = shown[-1]
        return Page(items, self._position(read(self._sort.column.name, value), id))

    def _position(self, value: Any, id: str) -> str:
        assert self._sort is not None
        return encode_position([self._sort.spelled, _number(value), id])

    def _id(self, id: Any) -> Any:
        """A cursor's id; what is no text of an id is refused."""
        return self._mapping.dialect.writer(self._mapping.table.column("id"))(id)

    def _bound(self, value: Any) -> Any:
        """A cursor's value as the sort column binds it."""
        column = self._sort.column if self._sort else self._mapping.table.column("id")
        try:
            if column.kind is Kind.MOMENT:
                value = _moment(value)
            elif column.kind is Kind.DURATION:
                value = value * _MICROSECOND
        except (TypeError, ValueError, OverflowError):
            raise InvalidArgument("the cursor is not one of this list", where="cursor") from None
        return self._mapping.dialect.writer(column)(value)


def _moment(value: Any) -> datetime | None:
    """A cursor's time."""
    try:
        found: datetime | None = moment(value)
        return found
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument("the cursor is not one of this list", where="cursor") from None


def _number(value: Any) -> Any:
    """A value of a sort column as JSON has it."""
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, timedelta):
        return value // _MICROSECOND
    return value

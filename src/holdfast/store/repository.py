"""One repository for every kind of record: reading by id, by query and by page; changing by revision.

Statements are generated, and know one table each. A change names the revision it was decided on, so that two
who change the same record do not undo each other. Every method is one statement (those of many records one
per batch), inside the caller's transaction or in one of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from holdfast.errors import (
    ConstraintViolated,
    NoFilter,
    RecordExists,
    RecordNotFound,
    SealedRecord,
    VersionConflict,
)
from holdfast.records.declare import Record, noun_of
from holdfast.store import statements
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Driver, Executor, Transaction
from holdfast.store.filters import Condition, Query, parse
from holdfast.store.mapping import STORES_OWN, mapping_of
from holdfast.store.pages import Page, Pages

R = TypeVar("R", bound=Record)
BATCH = 500
_STREAMED = 500
_UPSERT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Count:
    """How many records fit; `exact` is false for the planner's estimate."""

    rows: int
    exact: bool


class Repository(Generic[R]):
    """The records of one kind and one tenant.

    `within` is the transaction that reads and writes belong to; without one each call is its own. A kind that
    is declared sealed is only read (`SealedRecord`), except by the verbs of its family, which are `unsealed`.
    """

    def __init__(
        self,
        cls: type[R],
        driver: Driver,
        dialect: Dialect,
        tenant: str,
        within: Transaction | None = None,
        *,
        unsealed: bool = False,
    ) -> None:
        self.mapping = mapping_of(cls, dialect)
        self.tenant = tenant
        self._driver = driver
        self._within = within
        self._unsealed = unsealed or not self.mapping.table.sealed
        self._executor: Executor = within or driver
        self._sql = statements.of(self.mapping, driver.now)
        self._noun = noun_of(cls)

    def within(self, transaction: Transaction) -> Repository[R]:
        """The same records as part of a transaction."""
        mapping = self.mapping
        return Repository(
            mapping.cls, self._driver, mapping.dialect, self.tenant, transaction, unsealed=self._unsealed
        )

    # Reading.

    async def get(self, id: str) -> R:
        """The record with this id. Raises `RecordNotFound`."""
        found = await self.find_by_id(id)
        if found is None:
            raise RecordNotFound(f"there is no {self._noun} {id!r}", id=id)
        return found

    async def find_by_id(self, id: str) -> R | None:
        """The record with this id, or None."""
        rows = await self._executor.fetch_text(self._sql.get, self.tenant, id)
        return self.mapping.record(rows[0]) if rows else None

    async def get_locked(self, id: str) -> R:
        """The record with this id, its row locked until the transaction ends. Raises `RecordNotFound`."""
        rows = await self._executor.fetch_text(self._sql.lock, self.tenant, id)
        if not rows:
            raise RecordNotFound(f"there is no {self._noun} {id!r}", id=id)
        return self.mapping.record(rows[0])

    async def get_many(self, ids: Sequence[str]) -> list[R]:
        """The records with these ids in their order; those that are not there are left out."""
        found: dict[str, R] = {}
        for batch in _batches(ids, BATCH):
            found.update({each.id: each for each in await self._among("id", batch)})
        return [found[id] for id in ids if id in found]

    async def get_by(self, field: str, values: Sequence[str], *, sort: str = "id") -> dict[str, list[R]]:
        """The records whose `field` is one of `values`, by that value: the children of many parents at once.

        Every value is a key of the answer; its records are in the order of `sort`. Raises `InvalidArgument`
        for a field that holds no text, or a secret.
        """
        statements.check_grouped(self.mapping.table, field)
        grouped: dict[str, list[R]] = {value: [] for value in values}
        for batch in _batches(values, BATCH):
            for each in await self._among(field, batch, sort=sort):
                grouped[getattr(each, field)].append(each)
        return grouped

    async def find(
        self,
        query: str | Sequence[str] | Query = "",
        *,
        sort: str = "-created_at",
        limit: int = 50,
        cursor: str | None = None,
        offset: int = 0,
    ) -> Page[R]:
        """A page of the records that fit a query; pass its `cursor` for the next one.

        `query` is in the language of `holdfast.store.filters`; `sort` a column, with `-` for the greatest
        first. `offset` skips so many, up to a bound. Raises `InvalidArgument`.
        """
        pages = Pages(self.mapping, self.tenant, self.parsed(query))
        text, values = pages.select(sort=sort, limit=limit, cursor=cursor, offset=offset)
        return pages.page(await self._executor.fetch_text(text, *values))

    async def find_fields(
        self, fields: Sequence[str], query: str | Sequence[str] | Query = "", **page: Any
    ) -> Page[dict[str, Any]]:
        """The same with only the named fields of each record, as dicts. `page` is as for `find`."""
        pages = Pages(self.mapping, self.tenant, self.parsed(query), fields=tuple(fields))
        text, values = pages.select(
            **{"sort": "-created_at", "limit": 50, "cursor": None, "offset": 0, **page}
        )
        return pages.page_of_fields(await self._executor.fetch_text(text, *values))

    async def search(self, text: str, *, limit: int = 50, cursor: str | None = None) -> Page[R]:
        """The records that have all words of `text`, best first.

        Those with every word in their first searched field come before all others, and the newest first among
        equals; on every database the same. Raises `InvalidArgument` for a kind that is not searched.
        """
        pages = Pages(self.mapping, self.tenant, Query((), text))
        statement, values = pages.ranked(limit=limit, cursor=cursor)
        return pages.page(await self._executor.fetch_text(statement, *values))

    async def stream(self, query: str | Sequence[str] | Query = "", *, sort: str = "id") -> AsyncIterator[R]:
        """Every record that fits, page by page: what is written meanwhile may or may not be among them."""
        asked, cursor = self.parsed(query), None
        while True:
            page = await self.find(asked, sort=sort, limit=_STREAMED, cursor=cursor)
            for each in page.items:
                yield each
            if page.cursor is None:
                return
            cursor = page.cursor

    async def count(self, query: str | Sequence[str] | Query = "", *, exact: bool = True) -> Count:
        """How many records fit. With `exact` false more than a few thousand are estimated by the planner."""
        pages = Pages(self.mapping, self.tenant, self.parsed(query))
        if not exact:
            text, values = pages.count_up_to(statements.COUNTED)
            rows = int((await self._executor.fetch_text(text, *values))[0][0])
            if rows < statements.COUNTED:
                return Count(rows, True)
            if (estimate := pages.estimate()) is not None:
                told = await self._executor.fetch_text(estimate[0], *estimate[1])
                return Count(max(rows, statements.estimated(self.mapping.dialect, told)), False)
        text, values = pages.count()
        return Count(int((await self._executor.fetch_text(text, *values))[0][0]), True)

    def parsed(self, query: str | Sequence[str] | Query) -> Query:
        """A query of this kind of record. Raises `InvalidArgument`."""
        return query if isinstance(query, Query) else parse(query, self.mapping.table.columns)

    async def _among(self, field: str, values: Sequence[str], *, sort: str = "id") -> list[R]:
        query = Query((Condition(self.mapping.table.column(field), "among", values),))
        text, bound = Pages(self.mapping, self.tenant, query).select_all(sort=sort)
        return [self.mapping.record(row) for row in await self._executor.fetch_text(text, *bound)]

    # Writing.

    async def create(self, record: R) -> R:
        """Store a new record; what is returned has its times and its first revision.

        Raises `RecordExists`, `ConstraintViolated`, `InvalidData`.
        """
        self._check_unsealed()
        values = self.mapping.values(record)
        try:
            rows = await self._executor.fetch_text(self._sql.create, self.tenant, self._id(record), *values)
        except ConstraintViolated as error:
            # Inside a transaction of PostgreSQL nothing more can be asked.
            if self._within is None and await self.find_by_id(record.id) is not None:
                raise RecordExists(f"there is a {self._noun} {record.id!r} already", id=record.id) from error
            raise
        return self.mapping.stored(record, 1, rows[0][0], rows[0][1])

    async def create_many(self, records: Iterable[R]) -> list[R]:
        """Store new records, all or none; one statement per batch. Raises what `create` raises."""
        self._check_unsealed()
        made: list[R] = []
        refused: list[R] = []
        try:
            async with self._transaction() as transaction:
                now = (await transaction.fetch_text(self._sql.now))[0][0]
                columns = (*STORES_OWN, *self.mapping.written)
                for batch in _batches(records, BATCH):
                    self._sql.check_ids([record.id for record in batch])
                    rows, stored = self.mapping.new(batch, self.tenant, now)
                    refused = batch
                    await transaction.load(self.mapping.table.name, columns, rows)
                    made += stored
                    refused = []
        except ConstraintViolated as error:
            if self._within is None and (taken := await self._taken(made, refused)) is not None:
                raise RecordExists(f"there is a {self._noun} {taken!r} already", id=taken) from error
            raise
        return made

    async def _taken(self, made: Sequence[R], refused: Sequence[R]) -> str | None:
        """The id of the first of `refused` that is stored, or that another record was to have as well."""
        ids = {each.id for each in made}
        ids.update(each.id for each in await self.get_many([each.id for each in refused]))
        for each in refused:
            if each.id in ids:
                return each.id
            ids.add(each.id)
        return None

    async def update(self, record: R) -> R:
        """Write a changed record over the one of the same revision; what is returned has the next one.

        Fields that are declared immutable keep their value. Raises `VersionConflict` with both revisions when
        somebody else was faster, and `RecordNotFound`.
        """
        self._check_unsealed()
        values = self.mapping.values(record)
        changed = [values[number] for number in self._sql.changing]
        rows = await self._executor.fetch_text(
            self._sql.update, self.tenant, self._id(record), record.revision, *changed
        )
        if not rows:
            raise await self._lost(record.id, record.revision)
        return self.mapping.stored(record, record.revision + 1, *rows[0])

    async def upsert(self, record: R) -> R:
        """Store a record whether or not there is one with its id; the newest write counts.

        Immutable fields of one that is there keep their value.
        """
        self._check_unsealed()
        values = [self.tenant, self._id(record), *self.mapping.values(record)]
        for attempt in range(_UPSERT_TRIES):
            try:
                rows = await self._executor.fetch_text(self._sql.upsert, *values)
                break
            except ConstraintViolated:
                # Two made it at once where the database needs two looks; the second try finds it.
                if self._within is not None or attempt == _UPSERT_TRIES - 1:
                    raise
        revision, created_at, updated_at = rows[0]
        return self.mapping.stored(record, revision, created_at, updated_at)

    async def update_many(self, query: str | Sequence[str] | Query, **changes: Any) -> int:
        """Set the same values in every record that fits; how many.

        Raises `NoFilter` for an empty query, `InvalidArgument` for a field that can not be set this way.
        """
        self._check_unsealed()
        asked = self._filtered(query, "update")
        text, values = self._sql.update_where(self.tenant, asked, changes)
        return statements.affected(self.mapping.dialect, await self._executor.fetch_text(text, *values))

    async def delete(self, id: str, *, if_revision: int | None = None) -> None:
        """Delete a record, or mark it as deleted if its kind can be restored.

        Raises `RecordNotFound`, and `VersionConflict` when it has another revision than `if_revision`.
        """
        self._check_unsealed()
        rows = await self._executor.fetch_text(self._sql.delete, self.tenant, id, if_revision)
        if not rows:
            raise await self._lost(id, if_revision)

    async def restore(self, id: str) -> R:
        """Take a deletion back. Raises `RecordNotFound` for one that was never there or is gone for good."""
        self._check_unsealed()
        soft = self.mapping.soft
        if not soft or not await self._executor.fetch_text(self._sql.restore, self.tenant, id):
            raise RecordNotFound(f"there is no deleted {self._noun} {id!r}", id=id)
        return await self.get(id)

    async def delete_many(self, query: str | Sequence[str] | Query) -> int:
        """Delete (or mark) every record that fits; how many. Raises `NoFilter` for an empty query."""
        self._check_unsealed()
        text, values = self._sql.delete_where(self.tenant, self._filtered(query, "delete"))
        return statements.affected(self.mapping.dialect, await self._executor.fetch_text(text, *values))

    def _check_unsealed(self) -> None:
        if not self._unsealed:
            raise SealedRecord(
                f"{self.mapping.table.name} is written by its own verbs alone", where=self._noun
            )

    def _filtered(self, query: str | Sequence[str] | Query, verb: str) -> Query:
        asked = self.parsed(query)
        if not asked:
            raise NoFilter(f"{verb} of all {self._noun} records there are needs a filter", where="query")
        return asked

    async def _lost(self, id: str, expected: int | None) -> Exception:
        """Why a change met no row."""
        found = await self.find_by_id(id)
        if found is None:
            return RecordNotFound(f"there is no {self._noun} {id!r}", id=id)
        return VersionConflict(
            f"{self._noun} {id!r} has revision {found.revision}, and the change was made on {expected}",
            id=id, actual=found.revision, expected=expected,
        )  # fmt: skip

    def _id(self, record: R) -> str:
        return self._sql.write_id(record.id)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        if self._within is not None:
            yield self._within
            return
        async with self._driver.transaction() as transaction:
            yield transaction


T = TypeVar("T")


def _batches(items: Iterable[T], size: int) -> Iterable[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch

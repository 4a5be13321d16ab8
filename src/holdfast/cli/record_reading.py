"""What `list`, `show` and `search` of a noun of records do; see `holdfast.cli.records`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from holdfast.cli.reading import with_store
from holdfast.cli.record_values import default_columns, printed, shown
from holdfast.errors import InvalidUsage
from holdfast.records.declare import Record, table_of
from holdfast.store.filters import parse
from holdfast.store.lookup import look_up
from holdfast.store.query import LIMIT_MAX
from holdfast.store.repository import Count

if TYPE_CHECKING:
    from holdfast.cli.catalogue import Noun
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which part of a list is asked for. `every` is all of it from the cursor on."""

    sort: str
    limit: int
    cursor: str | None
    every: bool
    count: Literal["none", "estimate", "exact"]


def list_records(
    invocation: Invocation, noun: Noun, cls: type[Record], query: Sequence[str], listing: Listing
) -> None:
    """Print a page of records, or all pages."""
    columns, fields = _columns(invocation, noun, cls)
    asked = parse(query, table_of(cls).columns)
    told: dict[str, Any] = {}

    async def read(store: Store) -> tuple[list[dict[str, Any]], str | None]:
        records = store.repo(cls)
        if listing.count != "none":
            told.update(_told(await records.count(asked, exact=listing.count == "exact")))
        limit, cursor = LIMIT_MAX if listing.every else listing.limit, listing.cursor
        rows: list[dict[str, Any]] = []
        while True:
            page = await records.find_fields(fields, asked, sort=listing.sort, limit=limit, cursor=cursor)
            rows += page.items
            cursor = page.cursor
            if cursor is None or not listing.every:
                return rows, cursor
            if _streams(invocation):
                invocation.output.records(rows, columns)
                rows = []

    rows, cursor = with_store(invocation, read)
    _print_page(invocation, rows, columns, cursor, told)


def _streams(invocation: Invocation) -> bool:
    """Whether a page can be printed before the next one is read."""
    return invocation.flags.output == "ndjson" or invocation.flags.quiet


def _told(count: Count) -> dict[str, Any]:
    return {"count": count.rows} if count.exact else {"count": count.rows, "count_is_estimate": True}


def _columns(invocation: Invocation, noun: Noun, cls: type[Record]) -> tuple[list[str], list[str]]:
    """The columns to print, and the fields to read for them."""
    table = table_of(cls)
    known = shown(table)
    if invocation.flags.quiet:
        return ["id"], ["id"]
    if invocation.flags.fields is None:
        return list(noun.columns or default_columns(table)), list(known)
    wanted = [name.strip() for name in invocation.flags.fields.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            fix = f"choose from {', '.join(known)}"
            raise InvalidUsage(f"there is no field {name!r}", where="--fields", fix=fix)
    return wanted, wanted


def _print_page(
    invocation: Invocation,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    cursor: str | None,
    told: dict[str, Any],
) -> None:
    invocation.output.records(rows, columns, next_cursor=cursor, **told)
    if not invocation.output.is_table:
        return
    if "count" in told:
        about = "about " if "count_is_estimate" in told else ""
        invocation.say(f"{about}{told['count']:,} in all")
    if cursor:
        invocation.say(f"more: --cursor {cursor}")


def show_record(invocation: Invocation, cls: type[Record], id_: str) -> None:
    """Print one record."""

    async def read(store: Store) -> Record:
        return await look_up(store.repo(cls), id_)

    invocation.output.record(printed(with_store(invocation, read)))


def search_records(
    invocation: Invocation,
    noun: Noun,
    cls: type[Record],
    *,
    text: Sequence[str],
    limit: int,
    cursor: str | None,
) -> None:
    """Print the records that have all words, best first."""
    columns, fields = _columns(invocation, noun, cls)

    async def read(store: Store) -> tuple[list[dict[str, Any]], str | None]:
        found = await store.repo(cls).search(" ".join(text), limit=limit, cursor=cursor)
        return [{name: getattr(each, name) for name in fields} for each in found.items], found.cursor

    rows, following = with_store(invocation, read)
    _print_page(invocation, rows, columns, following, {})

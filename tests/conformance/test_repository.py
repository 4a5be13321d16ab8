"""Repositories: one kind of record that is declared in the tests, on every store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import (
    ConstraintViolated,
    HoldfastError,
    InvalidArgument,
    InvalidData,
    NoFilter,
    RecordExists,
    RecordNotFound,
    UnsupportedValue,
    VersionConflict,
)
from holdfast.store.repository import Repository
from holdfast.store.store import Store
from tests.conformance.notebooks import Mood, Note, write_migrations
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def notes_of(url: str, folder: Path, **settings: Any) -> AsyncIterator[tuple[Store, Repository[Note]]]:
    if not (folder / "own").exists():
        write_migrations(folder / "own")
    async with opened(url, storage__migrations__dir=str(folder / "own"), **settings) as store:
        yield store, store.repo(Note)


FULL = Note(
    id="n1",
    title="Ärger im Büro",
    body="the printer is on fire",
    mood=Mood.CROSS,
    priority=-3,
    weight=0.1,
    done=True,
    due_at=datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
    takes=timedelta(days=40, microseconds=1),
    tags=("vip", "a b", "ß"),
    owner="ana",
    facts={"n": 1e20, "deep": [{"x": None}], "nul": "a\0b", "big": 2**70},
    blob=b"\0\xff",
    anything=(1, "two"),
    pin="otter",
)


async def test_what_is_created_reads_back_the_same(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        made = await notes.create(FULL)
        assert made.revision == 1
        assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=1)
        assert made.updated_at == made.created_at
        assert replace(made, revision=0, created_at=FULL.created_at, updated_at=FULL.updated_at) == FULL
        read = await notes.get("n1")
        assert read == made
        assert (read.anything, type(read.facts["n"]), read.tags) == ((1, "two"), float, ("vip", "a b", "ß"))
        assert "otter" not in repr(read)
        bare = await notes.create(Note(title="bare"))
        assert await notes.get(bare.id) == bare


async def test_what_is_there_or_missing_says_so(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await notes.create(Note(id="a", title="A"))
        with pytest.raises(RecordExists) as taken:
            await notes.create(Note(id="a", title="B"))
        assert taken.value.details == {"id": "a"}
        for missing in ("b", "A", "a ", ""):
            with pytest.raises(RecordNotFound, match="no note"):
                await notes.get(missing)
        assert await notes.find_by_id("b") is None
        found = await notes.get_many(["b", "a", "a"])
        assert [each.id for each in found] == ["a", "a"]


async def test_an_update_is_refused_when_somebody_was_faster(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        first = await notes.create(Note(id="a", title="A", owner="ana"))
        second = await notes.update(replace(first, title="B", owner="eve"))
        assert (second.revision, second.created_at) == (2, first.created_at)
        assert second.updated_at >= first.updated_at
        assert (await notes.get("a")).owner == "ana"  # immutable
        with pytest.raises(VersionConflict) as lost:
            await notes.update(replace(first, title="C"))
        assert (lost.value.details["actual"], lost.value.details["expected"]) == (2, 1)
        assert (await notes.get("a")).title == "B"
        with pytest.raises(RecordNotFound):
            await notes.update(replace(first, id="b"))


async def test_of_many_who_change_one_record_all_count(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await notes.create(Note(id="a", title="A"))

        async def raise_priority() -> None:
            while True:
                note = await notes.get("a")
                try:
                    await notes.update(replace(note, priority=note.priority + 1))
                    return
                except VersionConflict:
                    continue

        await asyncio.gather(*(raise_priority() for _ in range(8)))
        note = await notes.get("a")
        assert (note.priority, note.revision) == (8, 9)


async def test_an_upsert_makes_or_replaces(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        made = await notes.upsert(Note(id="a", title="A", owner="ana"))
        again = await notes.upsert(Note(id="a", title="B", owner="eve"))
        assert (made.revision, again.revision, again.created_at) == (1, 2, made.created_at)
        read = await notes.get("a")
        assert (read.title, read.owner) == ("B", "ana")
        await asyncio.gather(*(notes.upsert(Note(id="new", title=str(each))) for each in range(6)))
        assert (await notes.get("new")).revision == 6


async def test_a_deleted_record_is_gone_until_it_is_restored(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        made = await notes.create(Note(id="a", title="A"))
        with pytest.raises(VersionConflict):
            await notes.delete("a", if_revision=7)
        await notes.delete("a", if_revision=1)
        for gone in (notes.get("a"), notes.delete("a"), notes.update(made), notes.restore("b")):
            with pytest.raises(RecordNotFound):
                await gone
        assert (await notes.find()).items == []
        assert (await notes.count()).rows == 0
        back = await notes.restore("a")
        assert (back.title, back.deleted_at, back.revision) == ("A", None, 3)


async def test_a_transaction_takes_all_or_nothing(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (store, notes):
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as transaction:
                inside = notes.within(transaction)
                await inside.create(Note(id="a", title="A"))
                assert (await inside.get("a")).title == "A"
                raise ZeroDivisionError
        assert await notes.find_by_id("a") is None
        async with store.transaction() as transaction:
            await store.repo(Note, within=transaction).create(Note(id="b", title="B"))
            held = await notes.within(transaction).get_locked("b")
            await notes.within(transaction).update(replace(held, done=True))
        assert (await notes.get("b")).done


async def test_many_are_made_all_or_none(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        made = await notes.create_many(Note(id=f"n{number:04}", title=f"T{number}") for number in range(1203))
        assert [each.id async for each in notes.stream()] == [each.id for each in made]
        assert await notes.get("n0700") == made[700]
        with pytest.raises(RecordExists) as taken:
            await notes.create_many([Note(id="x", title="X"), Note(id="n0001", title="again")])
        assert taken.value.details["id"] == "n0001"
        assert await notes.find_by_id("x") is None
        assert await notes.create_many([]) == []


async def test_an_id_that_comes_twice_is_named(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (store, notes):
        far_apart = [Note(id=f"n{number}", title="T") for number in range(700)]
        for given in ([*far_apart, Note(id="n3", title="again")], [Note(id="n3", title="T")] * 2):
            with pytest.raises(RecordExists) as taken:
                await notes.create_many(given)
            assert taken.value.details["id"] == "n3"
            assert (await notes.count()).rows == 0
        await notes.create(Note(id="n3", title="T"))
        with pytest.raises(ConstraintViolated):  # whoever has the transaction finds out
            async with store.transaction() as transaction:
                await notes.within(transaction).create_many([Note(id="n3", title="again")])


async def test_many_are_stored_as_single_ones_are(store_url: str, tmp_path: Path) -> None:
    """Columns of many are bound in a way of their own: with unusual values among them, and without."""
    bare = Note(title="bare", due_at=datetime(2026, 1, 1, tzinfo=UTC), tags=("a", '"\\\x01'))
    async with notes_of(store_url, tmp_path) as (_, notes):
        for turn, kinds in enumerate(([FULL, bare], [bare, bare], [FULL], [replace(FULL, body=None), FULL])):
            given = [replace(each, id=f"{turn}-{number}") for number, each in enumerate(kinds)]
            many = await notes.create_many(given)
            assert await notes.get_many([each.id for each in given]) == many
            for new, stored in zip(given, many, strict=True):
                alone = await notes.create(replace(new, id=f"{new.id}-alone"))
                times = {"created_at": stored.created_at, "updated_at": stored.updated_at}
                assert replace(alone, id=new.id, **times) == stored
                assert stored.revision == 1 and stored.created_at == stored.updated_at
        printers = [each.id for each in (await notes.search("printer")).items]
        assert sorted(printers) == sorted(
            f"{id}{end}" for id in ("0-0", "2-0", "3-1") for end in ("", "-alone")
        )


# Finding.


async def shelf(notes: Repository[Note]) -> None:
    for number in range(7):
        await notes.create(
            Note(
                id=f"n{number}",
                title="even" if number % 2 == 0 else "odd",
                mood=Mood.CROSS if number > 4 else Mood.CALM,
                priority=number % 3,
                takes=timedelta(minutes=number),
                tags=("vip",) if number in (1, 4) else ("plain", "x"),
                done=number == 3,
                due_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number) if number < 3 else None,
            )
        )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "0123456"),
        ("mood:cross", "56"),
        ("-mood:cross title:odd", "13"),
        ("priority:2", "25"),
        ("priority:>=1 -priority:2", "14"),
        ("takes:>4m", "56"),
        ("takes:<=1m", "01"),
        ("tag:vip", "14"),
        ("-tag:vip -tag:nothing", "02356"),
        ("done:true", "3"),
        ("-done:true", "012456"),
        ("due:<2026-01-02T12:00:00", "01"),
        ("has:due", "012"),
        ("-has:due", "3456"),
        ("id:n3", "3"),
        ("created:<1h", "0123456"),
        ("created:>1h", ""),
        ("title:even' tag:vip", ""),
    ],
)
async def test_a_query_finds_what_it_says(store_url: str, tmp_path: Path, query: str, expected: str) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        found = await notes.find(query, sort="id")
        assert "".join(each.id[1:] for each in found.items) == expected
        assert (await notes.count(query)).rows == len(expected)


@pytest.mark.parametrize(
    "sort",
    ["id", "-id", "priority", "-priority", "-created_at", "takes", "title", "-title", "weight", "created"],
)
async def test_pages_hold_everything_once_in_order(store_url: str, tmp_path: Path, sort: str) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        seen: list[str] = []
        cursor, pages = None, 0
        while True:
            page = await notes.find(sort=sort, limit=2, cursor=cursor)
            seen += [each.id for each in page.items]
            pages += 1
            cursor = page.cursor
            if cursor is None:
                break
        whole = [each.id for each in (await notes.find(sort=sort)).items]
        assert (seen, pages, len(set(whole))) == (whole, 4, 7)
        skipped = await notes.find(sort=sort, limit=3, offset=2)
        assert [each.id for each in skipped.items] == whole[2:5]


async def test_a_page_of_fields_has_only_those(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        first = await notes.find_fields(("title", "tags", "due_at"), "priority:0", sort="-id", limit=2)
        assert first.items == [
            {"title": "even", "tags": ("plain", "x"), "due_at": None},
            {"title": "odd", "tags": ("plain", "x"), "due_at": None},
        ]
        rest = await notes.find_fields(("due_at",), "priority:0", sort="-id", limit=2, cursor=first.cursor)
        assert (rest.items, rest.cursor) == ([{"due_at": datetime(2026, 1, 1, tzinfo=UTC)}], None)
        with pytest.raises(InvalidArgument, match="no field"):
            await notes.find_fields(("pin",))


async def test_children_of_many_come_in_one_answer(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        for id, owner in (("a", "ana"), ("b", "bob"), ("c", "ana")):
            await notes.create(Note(id=id, title=id, owner=owner))
        grouped = await notes.get_by("owner", ["ana", "bob", "eve"], sort="-id")
        assert {owner: [each.id for each in found] for owner, found in grouped.items()} == {
            "ana": ["c", "a"], "bob": ["b"], "eve": [],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"query": "colour:red"}, "no filter 'colour'"),
        ({"query": "mood:crosss"}, "no mood 'crosss'"),
        ({"query": "priority:high"}, "not a number"),
        ({"query": "takes:5"}, "not a duration"),
        ({"query": "done:maybe"}, "neither true nor false"),
        ({"query": "due:2026-01-01"}, "needs < or >"),
        ({"query": "has:nothing"}, "no filter 'nothing'"),
        ({"query": "pin:otter"}, "no filter 'pin'"),
        ({"sort": "due_at"}, "can not be sorted by"),
        ({"sort": "pin"}, "can not be sorted by"),
        ({"sort": "id; DROP TABLE notes"}, "can not be sorted by"),
        ({"limit": 0}, "outside 1 to 1000"),
        ({"limit": 1001}, "outside 1 to 1000"),
        ({"offset": 10_001}, "outside 0 to 10000"),
        ({"offset": -1}, "outside 0 to 10000"),
        ({"cursor": "!"}, "not a cursor"),
        ({"cursor": "WzEsMl0"}, "not a cursor"),
    ],
)
async def test_a_bad_question_says_what_is_wrong(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    async with notes_of("memory://", tmp_path) as (_, notes):
        with pytest.raises(InvalidArgument, match=words):
            await notes.find(asked.pop("query", ""), **asked)


async def test_a_cursor_belongs_to_its_order(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        page = await notes.find(sort="priority", limit=2)
        with pytest.raises(InvalidArgument, match="another order"):
            await notes.find(sort="-priority", limit=2, cursor=page.cursor)


async def test_many_are_changed_and_deleted_by_a_query(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        assert await notes.update_many("tag:vip", priority=9, tags=("done",)) == 2
        changed = await notes.find("priority:9", sort="id")
        assert [(each.id, each.tags, each.revision) for each in changed.items] == [
            ("n1", ("done",), 2), ("n4", ("done",), 2),
        ]  # fmt: skip
        assert await notes.delete_many("title:even") == 4
        assert await notes.delete_many("title:even") == 0
        assert (await notes.count()).rows == 3
        for refused in (notes.update_many("", done=True), notes.delete_many(" ")):
            with pytest.raises(NoFilter):
                await refused
        for field in ("owner", "title", "id", "nothing"):
            with pytest.raises(InvalidArgument, match="can not be set"):
                await notes.update_many("priority:9", **{field: "x"})


async def test_a_count_is_exact_or_an_estimate(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await shelf(notes)
        assert (await notes.count(exact=False)) == (await notes.count())
        await notes.create_many(Note(title="many", priority=7) for _ in range(10_500))
        told = await notes.count("priority:7", exact=False)
        assert told.rows >= 10_000
        assert (await notes.count("priority:7")).rows == 10_500


# Search.


async def test_a_search_ranks_the_same_everywhere(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        for id, title, body in (
            ("1", "Disk full", "on db-1"),
            ("2", "Outage", "the DISK is full_of logs, and be quick"),
            ("3", "full disk again", None),
            ("4", "Ärger", "ein Büro, das brennt"),
            ("5", "diskette", "fuller"),
        ):
            await notes.create(Note(id=id, title=title, body=body))

        async def ids(text: str) -> str:
            return "".join(each.id for each in (await notes.search(text)).items)

        assert await ids("disk full") == "312"
        assert await ids("full Disk, disk!") == "312"
        assert await ids("ÄRGER büro") == "4"
        assert await ids("arger") == ""
        assert await ids("be") == "2"
        assert await ids("is the") == "2"
        assert await ids("disk nothing") == ""
        assert await ids("' OR 1=1 --") == ""
        assert await ids("!!") == ""
        assert [each.id for each in (await notes.find("full disk", sort="id")).items] == ["1", "2", "3"]
        note = await notes.get("2")
        await notes.update(replace(note, body="solved"))
        assert await ids("disk full") == "31"
        await notes.delete("1")
        assert await ids("disk full") == "3"


async def test_a_search_goes_on_behind_its_page(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await notes.create_many(
            Note(id=f"{number}", title="fire" if number % 3 == 0 else "smoke", body="fire")
            for number in range(9)
        )
        seen: list[str] = []
        cursor = None
        while True:
            page = await notes.search("fire", limit=2, cursor=cursor)
            seen += [each.id for each in page.items]
            if (cursor := page.cursor) is None:
                break
        assert "".join(seen) == "630875421"


# Values.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "a\0b"),
        ("title", "\ud800"),
        ("title", 7),
        ("tags", ("ok", "a\0")),
        ("tags", "text"),
        ("priority", 2**63),
        ("priority", 1.5),
        ("priority", True),
        ("weight", math.nan),
        ("weight", math.inf),
        ("done", 1),
        ("due_at", datetime(2026, 1, 1)),
        ("takes", 3),
        ("blob", "text"),
    ],
)
async def test_what_a_column_can_not_hold_is_refused_alike(
    store_url: str, tmp_path: Path, field: str, value: Any
) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        with pytest.raises(InvalidData) as refused:
            await notes.create(replace(Note(id="a", title="A"), **{field: value}))
        assert refused.value.where == field
        with pytest.raises(InvalidData) as refused_too:
            await notes.create_many([Note(title="fine"), replace(Note(id="a", title="A"), **{field: value})])
        assert (refused_too.value.where, str(refused_too.value)) == (field, str(refused.value))
        assert (await notes.count()).rows == 0


async def test_json_and_payloads_are_checked_by_the_codec(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        for changes in ({"facts": {"x": math.nan}}, {"anything": object()}, {"facts": {"x": "\ud800"}}):
            with pytest.raises((UnsupportedValue, HoldfastError)):
                await notes.create(replace(Note(title="A"), **changes))  # type: ignore[arg-type]
        assert (await notes.count()).rows == 0


async def test_keys_are_compared_byte_by_byte(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        names = ["a", "A", "a ", "ä", "a\u0308", "ss", "ß", "x" * 255]
        for name in names:
            await notes.create(Note(id=name, title=name))
        assert {each.id async for each in notes.stream()} == set(names)
        for name in names:
            assert (await notes.get(name)).title == name
            assert [each.id for each in (await notes.get_many([name]))] == [name]
        ordered = [each.id for each in (await notes.find(sort="id")).items]
        assert ordered == sorted(names, key=lambda name: name.encode())


async def test_tenants_do_not_see_each_other(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (store, notes):
        await notes.create(Note(id="a", title="ours"))
        driver, dialect = store.driver, notes.mapping.dialect
        theirs = Repository(Note, driver, dialect, "other")
        await theirs.create(Note(id="a", title="theirs"))
        assert (await theirs.get("a")).title == "theirs"
        assert await theirs.update_many("id:a", done=True) == 1
        assert not (await notes.get("a")).done
        assert await theirs.delete_many("id:a") == 1
        assert [each.title for each in (await notes.find()).items] == ["ours"]
        assert (await theirs.search("ours")).items == []

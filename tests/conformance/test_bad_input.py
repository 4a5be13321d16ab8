"""What a caller can get wrong is told with a code and a fix, alike on every store, and nothing changes."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.agents import Agents
from holdfast.errors import (
    ConstraintViolated,
    ExecutionFailed,
    HoldfastError,
    InvalidArgument,
    InvalidData,
    InvalidDefinition,
    NoApp,
    QueueNotFound,
    RecordNotFound,
    StepTimeout,
    UnsupportedValue,
)
from holdfast.events.streams import PATTERN_MAX, Streams
from holdfast.fleet.agents import Agent
from holdfast.fleet.queues import Queues
from holdfast.fleet.signals import send
from holdfast.fleet.starts import Origin
from holdfast.records.incidents import Incident
from holdfast.store.filters import Condition, Query
from holdfast.workflows.results import bounded
from tests.conformance.notebooks import Mood, Note
from tests.conformance.test_repository import notes_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

LONG, HALF, NUL = "x" * 256, "a\ud800", "a\0b"


def cursor(*parts: Any) -> str:
    """A cursor as a forger makes one."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"query": "colour:red"}, InvalidArgument),
        ({"query": "due:>0001-01-01T00:00:00+14:00"}, InvalidData),
        ({"query": f"priority:>{2**64}"}, InvalidData),
        ({"query": "weight:<nan"}, InvalidData),
        ({"query": f"tag:{HALF}"}, InvalidData),
        ({"query": f'tag:"{NUL}"'}, InvalidData),
        ({"query": f'title:"{NUL}"'}, InvalidData),
        ({"sort": "pin"}, InvalidArgument),
        ({"sort": ""}, InvalidArgument),
        ({"sort": "title", "cursor": cursor("title", HALF, "x")}, InvalidData),
        ({"sort": "title", "cursor": cursor("title", 7, "x")}, InvalidData),
        ({"sort": "priority", "cursor": cursor("priority", "x", "x")}, InvalidData),
        ({"sort": "priority", "cursor": cursor("priority", 2**70, "x")}, InvalidData),
        ({"sort": "takes", "cursor": cursor("takes", float("nan"), "x")}, InvalidArgument),
        ({"sort": "created_at", "cursor": cursor("created_at", float("inf"), "x")}, InvalidArgument),
        ({"sort": "takes", "cursor": cursor("takes", 2**70, "x")}, InvalidArgument),
        ({"sort": "created_at", "cursor": cursor("created_at", 2**62, "x")}, InvalidArgument),
        ({"sort": "title", "cursor": cursor("title", "x", 7)}, InvalidData),
        ({"sort": "title", "cursor": cursor("title", "x", None)}, InvalidData),
        ({"sort": "id", "cursor": cursor("id", "x", NUL)}, InvalidData),
        ({"cursor": "\ud800"}, InvalidArgument),
        ({"cursor": "é"}, InvalidArgument),
        ({"limit": 0}, InvalidArgument),
        ({"offset": 10_001}, InvalidArgument),
    ],
)
async def test_questions(
    store_url: str, tmp_path: Path, asked: dict[str, Any], error: type[HoldfastError]
) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        given = dict(asked)
        with pytest.raises(error) as refused:
            await notes.find(given.pop("query", ""), **given)
        assert refused.value.fix
        assert refused.value.code in ("HF1002", "HF2012")


async def test_searches_and_their_cursors(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        await notes.create(Note(id="a", title="fire"))
        for parts in (
            (1, "x", "a"),
            ("x", 1, "a"),
            (1, 2**62, "a"),
            (1, 1, 7),
            (1, 1, HALF),
            (2**70, 1, "a"),
        ):
            with pytest.raises((InvalidArgument, InvalidData)):
                await notes.search("fire", cursor=cursor(*parts))
        assert (await notes.search(HALF)).items == []
        assert (await notes.search(NUL)).items == []


async def test_names_that_no_database_takes(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        for bad in (HALF, NUL):
            for call in (
                notes.get(bad), notes.find_by_id(bad), notes.delete(bad), notes.restore(bad),
                notes.get_many([bad]), notes.get_by("owner", [bad]), notes.update(Note(id=bad, title="x")),
                notes.upsert(Note(id=bad, title="x")), notes.create_many([Note(id=bad, title="x")]),
            ):  # fmt: skip
                with pytest.raises(InvalidData):
                    await call
        for unknown in ("nothing", "pin", "priority", "facts", "tenant_id"):
            with pytest.raises(InvalidArgument, match="can not be looked up"):
                await notes.get_by(unknown, ["x"])


async def test_ids_that_are_too_long_or_empty(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        for bad in (LONG, "ä" * 128, ""):
            for call in (
                notes.create(Note(id=bad, title="x")), notes.upsert(Note(id=bad, title="x")),
                notes.create_many([Note(id="good", title="x"), Note(id=bad, title="x")]),
            ):  # fmt: skip
                with pytest.raises(InvalidData) as refused:
                    await call
                assert refused.value.where == "id"
            with pytest.raises(RecordNotFound):
                await notes.get(bad)
        assert (await notes.count()).rows == 0
        await notes.create(Note(id="ä" * 127, title="x"))
        with pytest.raises(InvalidData):
            await notes.create(Note(id=7, title="x"))  # type: ignore[arg-type]
        with pytest.raises(InvalidData):
            await notes.create_many([Note(id=None, title="x")])  # type: ignore[arg-type]


async def test_changes(store_url: str, tmp_path: Path) -> None:
    async with notes_of(store_url, tmp_path) as (_, notes):
        made = await notes.create(Note(id="a", title="x", tags=("t",)))
        with pytest.raises(InvalidArgument, match="nothing is to be changed"):
            await notes.update_many("tag:t")
        for changes in ({"priority": "high"}, {"tags": (NUL,)}, {"tags": (7,)}, {"done": 1}, {"mood": 7}):
            with pytest.raises((InvalidData, InvalidArgument)):
                await notes.update_many("tag:t", **changes)
            with pytest.raises((InvalidData, InvalidArgument)):
                await notes.update(replace(made, **changes))  # type: ignore[arg-type]
        with pytest.raises((UnsupportedValue, InvalidData)):
            await notes.update_many("tag:t", anything={"x": float("nan")})
        assert await notes.get("a") == made
        assert made.mood is Mood.CALM


async def test_a_list_is_found_by_any_text_in_it(store_url: str, tmp_path: Path) -> None:
    """MariaDB compares how control characters are spelled in JSON, and has two spellings for some."""
    texts = [*map(chr, range(1, 32)), "\x7f", '"', "\\", "/", "ä", "\u2028", "😀", "", " ", "a", "A"]
    async with notes_of(store_url, tmp_path) as (store, notes):
        await notes.create_many(
            Note(id=f"n{number}", title="x", tags=(text, "all")) for number, text in enumerate(texts)
        )
        column = notes.mapping.table.column("tags")
        for number, text in enumerate(texts):
            found = await notes.find(Query((Condition(column, "contains", text),)))
            assert [each.id for each in found.items] == [f"n{number}"], ascii(text)
            others = await notes.count(Query((Condition(column, "lacks", text),)))
            assert others.rows == len(texts) - 1
        async with Agent(store, "ana", capabilities=["ä\u00df"], metadata={"$hf": ["x"]}):
            (able,) = await Agents(store).able("äß")
            assert able.agent.metadata == {"$hf": ["x"]}


async def test_streams_and_signals(store_url: str) -> None:
    async with opened(store_url) as store:
        streams = Streams(store)
        for stream in ("", LONG):
            with pytest.raises(InvalidArgument):
                await streams.append(stream, [("x", 1)])
        for stream in (NUL, HALF):
            with pytest.raises(InvalidData):
                await streams.append(stream, [("x", 1)])
        for kind in ("", LONG):
            with pytest.raises(InvalidArgument):
                await streams.append("s", [("x", 1), (kind, 1)])
        with pytest.raises(InvalidData):
            await streams.append("s", [(NUL, 1)])
        for pattern in ("x" * (PATTERN_MAX + 1), HALF, NUL):
            with pytest.raises((InvalidArgument, InvalidData)):
                await streams.page(pattern)
        assert await streams.read("s") == []
        # Its document has a name of two parts, which is to be no longer than a file system takes.
        assert not (await send(store, "x" * 200, message_id="ä" * 127)).repeated
        for message_id in ("", LONG, HALF):
            with pytest.raises(InvalidArgument):
                await send(store, "go", message_id=message_id)


async def test_a_pattern_tells_upper_from_lower_case_and_takes_signs_literally(store_url: str) -> None:
    async with opened(store_url) as store:
        streams = Streams(store)
        names = ["order", "Order", "ORDER", "a[b]c", "abc", "a?c", "a*c", "a%c", "a\\c", "a]c", "a^c"]
        for name in names:
            await streams.append(name, [("x", name)])
        patterns = {
            "order": {"order"}, "O*": {"Order", "ORDER"}, "a[b]c": {"a[b]c"}, "a?c": {"a?c"}, "a%c": {"a%c"},
            "a\\c": {"a\\c"}, "a]*": {"a]c"}, "a*c": {each for each in names if each[0] == "a"},
            "*": set(names),
        }  # fmt: skip
        while len(await streams.page("*")) < len(names):
            pass  # on a server a page stays below what is being written anywhere
        for pattern, expected in patterns.items():
            assert {each.stream for each in await streams.page(pattern)} == expected, pattern


async def test_queues_with_any_name(store_url: str) -> None:
    async with opened(store_url) as store:
        queues = Queues(store)
        for name in (LONG, "ä" * 128):
            with pytest.raises(QueueNotFound):
                await queues.state(name)
            with pytest.raises(InvalidArgument):
                await queues.set_limits(name, concurrency=1)
        for name in (NUL, HALF):
            with pytest.raises(InvalidData):
                await queues.state(name)
        assert await queues.failed('say "please"', "workflow:x") == []
        assert await queues.failed('x" status:ready tag:"y') == []


async def test_filters_of_executions(store_url: str) -> None:
    async with opened(store_url) as store:
        assert await store.count_executions(f"priority:<{2**62}") == 0
        for words in (f"priority:>{2**64}", f"tag:{HALF}", 'id:"a\0"', "started:>9999-12-31T23:59:59-14:00"):
            with pytest.raises(InvalidData):
                await store.list_executions(words)
        for bad in (NUL, HALF):
            with pytest.raises(InvalidData):
                await store.get_execution(bad)
            with pytest.raises(InvalidArgument):
                Origin(id=bad)
        await store.check_schema()


async def test_a_column_that_is_too_short_is_told_alike(store_url: str) -> None:
    async with opened(store_url) as store:
        for incident in (Incident(title="x" * 5_000), Incident(title="ok", assignee=LONG)):
            with pytest.raises(ConstraintViolated):
                await store.repo(Incident).create(incident)


async def test_apps_and_orchestrators(store_url: str, tmp_path: Path) -> None:
    app = hf.App(store_url)

    @app.step(timeout="50ms")
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.workflow
    async def waiting() -> None:
        await slow()

    with pytest.raises(InvalidDefinition, match="named 'slow'"):

        @app.step(name="slow")
        async def other() -> None: ...

    with pytest.raises(NoApp):
        await app.handle("x")
    async with app:
        with pytest.raises(ExecutionFailed, match=r"longer than 0\.05 s"):
            await waiting()
    with pytest.raises(StepTimeout, match="step slow"):
        await bounded(asyncio.Event().wait(), timedelta(milliseconds=1), "slow")
    orchestrator = hf.Orchestrator(store_url)
    with pytest.raises(NoApp):
        _ = orchestrator.launcher
    await orchestrator.initialize()
    await orchestrator.initialize()
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: greet\nsteps:\n  - {id: say, shell: 'echo hello'}\n")
    program, given = orchestrator.program(flow, {})
    running = await orchestrator.continue_or_start(program, given, Origin(id="greeting"))
    assert (await orchestrator.outcome(running)).status == "completed"
    again = await orchestrator.continue_or_start(program, given, Origin(id="greeting"))
    assert (await orchestrator.outcome(again)).status == "completed"
    await orchestrator.close()
    await orchestrator.close()

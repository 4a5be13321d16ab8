"""What is done with a text on every store: as an id, a name, a tag, JSON, a filter, a search, an input.

An operation fails by itself when what it reads back is not what it was given; what it returns is compared.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.events.streams import Streams
from holdfast.fleet import approvals, signals
from holdfast.fleet.queues import Queues
from holdfast.store.lookup import look_up
from tests.conformance.notebooks import Note
from tests.lockstep.worlds import World, same

TITLE_MAX = 255
"""What MariaDB's column of the tests' own records takes."""

SEARCHED_AGAIN_S = 0.5
"""InnoDB moves new words into its index now and then; a search meanwhile may miss what was just written."""


def quoted(name: str, value: str) -> str:
    """A filter for a value; the language has no way to spell a quote."""
    return f'{name}:"{value}"'


# Records.


async def note_id(world: World, value: str, new: str) -> Any:
    await world.notes.create(Note(id=value, title=new))
    read = await world.notes.get(value)
    (of_many,) = await world.notes.get_many([value])
    same(value, read.id, of_many.id, (await look_up(world.notes, value)).id if value != "@last" else value)
    if '"' not in value:
        assert [each.id for each in (await world.notes.find(quoted("id", value))).items] == [value]
    await world.notes.delete(value)
    return (await world.notes.restore(value)).revision


async def note_ids_at_once(world: World, value: str, new: str) -> Any:
    made = await world.notes.create_many([Note(id=value + new, title=new), Note(id=new, title=new)])
    same(value + new, made[0].id, (await world.notes.get(value + new)).id)


async def note_by_id(world: World, value: str, new: str) -> Any:
    return await world.notes.find_by_id(value + new)


async def note_by_ids(world: World, value: str, new: str) -> Any:
    return await world.notes.get_many([value + new, new])


async def note_by_owner(world: World, value: str, new: str) -> Any:
    return await world.notes.get_by("owner", [value + new])


async def note_by_field(world: World, value: str, new: str) -> Any:
    return await world.notes.get_by(value, [new])


async def note_deleted(world: World, value: str, new: str) -> Any:
    await world.notes.delete(value + new)


async def note_texts(world: World, value: str, new: str) -> Any:
    title = value[:TITLE_MAX]
    note = Note(id=new, title=title, body=value, tags=(value, "x"), owner=title, pin=title)
    await world.notes.create(note)
    read = await world.notes.get(new)
    same(value, read.body, read.tags[0])
    same(title, read.title, read.owner, read.pin)
    assert new in [each.id for each in (await world.notes.get_by("owner", [title]))[title]]
    if '"' in value:
        return None
    for query, expected in (
        (quoted("title", title), 1),
        (quoted("tag", value), 1),
        ("-" + quoted("tag", value), 0),
    ):
        assert len((await world.notes.find([query, f"id:{new}"])).items) == expected, query
    return await world.notes.update_many([quoted("tag", value), f"id:{new}"], tags=("done", value))


async def note_pages(world: World, value: str, new: str) -> Any:
    title = value[:TITLE_MAX]
    await world.notes.create_many([Note(id=f"{new}-{number}", title=title, owner=new) for number in range(2)])
    first = await world.notes.find(f"owner:{new}", sort="title", limit=1)
    then = await world.notes.find(f"owner:{new}", sort="title", limit=1, cursor=first.cursor)
    return first.items[0].id, then.items[0].id, then.cursor


async def note_json(world: World, value: str, new: str) -> Any:
    facts = {"a": value, value: [value]}
    await world.notes.create_many([Note(id=new, title="x", facts=facts, anything=facts)])
    read = await world.notes.get(new)
    same(facts, read.facts, read.anything)


async def note_search(world: World, value: str, new: str) -> Any:
    await world.notes.create(Note(id=new, title=new, body=value))
    found = await world.notes.search(f"{value} {new}")
    if not found.items and world.store.driver.dialect == "mysql":
        await asyncio.sleep(SEARCHED_AGAIN_S)
        found = await world.notes.search(f"{value} {new}")
    return [each.id for each in found.items]


async def note_query(world: World, value: str, new: str) -> Any:
    return [each.id for each in (await world.notes.find([f"id:{new}", value])).items]


async def note_filters(world: World, value: str, new: str) -> Any:
    told = []
    for name in (
        "priority:",
        "priority:>",
        "weight:<",
        "takes:>",
        "due:<",
        "mood:",
        "done:",
        "has:",
        "no_such:",
    ):
        try:
            told.append(
                len((await world.notes.find([f"id:{new}", f'{name}"{value}"', f"{name}{value}"])).items)
            )
        except HoldfastError as error:
            told.append(type(error).__name__)
    return told


async def note_sort(world: World, value: str, new: str) -> Any:
    await world.notes.find(f"id:{new}", sort=value)


async def note_fields(world: World, value: str, new: str) -> Any:
    await world.notes.find_fields((value,), f"id:{new}")


async def note_cursor(world: World, value: str, new: str) -> Any:
    await world.notes.find(f"id:{new}", cursor=value)


async def note_forged_cursor(world: World, value: str, new: str) -> Any:
    for sort in ("title", "priority", "created_at"):
        forged = base64.urlsafe_b64encode(json.dumps([sort, value, value]).encode()).decode()
        await world.notes.find(f"id:{new}", sort=sort, cursor=forged)


async def note_set_many(world: World, value: str, new: str) -> Any:
    await world.notes.update_many(f"id:{new}", **{value: 1})


RECORDS = (
    note_id, note_ids_at_once, note_by_id, note_by_ids, note_by_owner, note_by_field, note_deleted,
    note_texts, note_pages, note_json, note_search, note_query, note_filters, note_sort, note_fields,
    note_cursor, note_forged_cursor, note_set_many,
)  # fmt: skip

# Executions, and what they wait for.


async def execution_id(world: World, value: str, new: str) -> Any:
    handle = await world.app.workflows["echo"].options(id=value).start(new)
    same(value, handle.id, (await world.store.get_execution(value)).id)
    assert await handle == new


async def execution_by_id(world: World, value: str, new: str) -> Any:
    return await world.store.find_execution(value + new), await world.store.get_execution(value + new)


async def execution_input(world: World, value: str, new: str) -> Any:
    said = {"k": value, value: [value]}
    started = await world.app.workflows["echo"].options(id=new, metadata=said, context=said).start(said)
    same(said, await started)
    details = await world.store.execution_details((await world.store.get_execution(new)).key)
    same(said, details.metadata, details.context)


async def execution_filing(world: World, value: str, new: str) -> Any:
    echo = world.app.workflows["echo"]
    await echo.options(id=new, queue=value, tags=[value], limit_key=value, dedupe_key=value).enqueue("x")
    execution = await world.store.get_execution(new)
    same(value, execution.queue, (await world.store.execution_details(execution.key)).tags[0])
    found = await Queues(world.store).by_dedupe_key(value, value)
    assert found is not None
    same(new, found.id)
    assert [each.id for each in await Queues(world.store).failed(value)] == []
    if '"' in value:
        return None
    return await world.store.count_executions([quoted("tag", value), quoted("queue", value)])


async def execution_error(world: World, value: str, new: str) -> Any:
    handle = await world.app.workflows["failing"].options(id=new).start(value)
    await handle


async def execution_filters(world: World, value: str, new: str) -> Any:
    told = []
    for name in (
        "workflow:",
        "version:",
        "class:",
        "tag:",
        "-tag:",
        "priority:",
        "priority:>",
        "started:<",
        "status:",
    ):
        try:
            told.append(
                await world.store.count_executions([f"id:{new}", f'{name}"{value}"', f"{name}{value}"])
            )
        except HoldfastError as error:
            told.append(type(error).__name__)
    return told


async def stream_events(world: World, value: str, new: str) -> Any:
    streams = Streams(world.store)
    assert await streams.append(new, [(value, value), ("x", {value: value})]) == 2
    told = await streams.read(new)
    same(value, told[0].type, told[0].payload)
    same({value: value}, told[1].payload)


async def stream_name(world: World, value: str, new: str) -> Any:
    streams = Streams(world.store)
    version = await streams.append(value, [("said", new)])
    assert version == 1
    (event,) = await streams.read(value)
    same(value, event.stream)
    while True:  # on a server a page is empty while a transaction could still write below it
        page = {each.stream for each in await streams.page(value.replace("*", "?*"), limit=1000)}
        if page or "*" in value:
            return sorted(page)
        await asyncio.sleep(0.01)


async def stream_read(world: World, value: str, new: str) -> Any:
    return await Streams(world.store).read(value + new)


async def stream_cursor(world: World, value: str, new: str) -> Any:
    if value:  # a server's cursor is another than that of an embedded store
        return await Streams(world.store).page(new, after=f"{value}!")
    return None


async def stream_pattern(world: World, value: str, new: str) -> Any:
    return await Streams(world.store).page(value + new)


async def signal_name(world: World, value: str, new: str) -> Any:
    await signals.send(world.store, value, {value: new})
    same({value: new}, (await signals.kept(world.store, value))[-1].payload)


async def signal_kept(world: World, value: str, new: str) -> Any:
    return await signals.kept(world.store, value + new)


async def signal_message(world: World, value: str, new: str) -> Any:
    sent = [await signals.send(world.store, new, value, message_id=value) for _ in range(2)]
    return [each.repeated for each in sent]


async def approval(world: World, value: str, new: str) -> Any:
    handle = await world.app.workflows["asking"].options(id=new).start(value, f"{new}-asked")
    while f"{new}-asked" not in [each.id for each in await approvals.listed(world.store)]:
        if (await world.store.get_execution(new)).status.is_final:
            return await handle
        await asyncio.sleep(0.01)
    try:
        decided = await approvals.decide(
            world.store, f"{new}-asked", approved=True, by=value, answer=value, comment=value
        )
    except HoldfastError as error:
        await approvals.decide(world.store, f"{new}-asked", approved=True)
        return type(error).__name__
    same(value, decided.title, decided.decided_by, decided.answer, decided.comment)
    return None


async def approval_by_id(world: World, value: str, new: str) -> Any:
    return await approvals.get(world.store, value + new)


async def queue_limits(world: World, value: str, new: str) -> Any:
    queues = Queues(world.store)
    await queues.set_limits(value, concurrency=3)
    settings = await queues.pause(value)
    same(value, settings.name, (await queues.settings(value)).name)
    return settings


async def queue_by_name(world: World, value: str, new: str) -> Any:
    queues = Queues(world.store)
    return (
        await queues.dead_letters(value + new),
        await queues.settings(value + new),
        await queues.state(value + new),
    )


EXECUTIONS = (
    execution_id, execution_by_id, execution_input, execution_filing, execution_error, execution_filters,
    stream_events, stream_name, stream_read, stream_cursor, stream_pattern, signal_name, signal_kept,
    signal_message, approval, approval_by_id, queue_limits, queue_by_name,
)  # fmt: skip

"""One store behind a pipe: reads a command per line, does it, answers in a line. Killed, it is started anew.

What it answers is the same on every kind of store, or a difference between them: ids, revisions, fields that
the caller gave, names of errors; never a time or an internal key.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.config.loader import load
from holdfast.errors import HoldfastError
from holdfast.events.streams import Streams
from holdfast.fleet import signals
from holdfast.fleet.claims import Lane, claim_lane, read_claimed
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import BootId
from holdfast.store.drivers.base import NewExecution, Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.stores import build_store
from tests.conformance.fleets import NEWEST, present
from tests.conformance.notebooks import Mood, Note

Answer = Any


class Actor:
    """Commands on one open store, for one tenant at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.boot = BootId(b"\0" * 16)
        self.held: dict[str, Holding] = {}

    async def begin(self, tenant: str, boot: str, held: dict[str, list[Any]]) -> Answer:
        """Go on as `tenant`; `held` is what an actor that was killed held."""
        self.store.options = replace(self.store.options, tenant=tenant)
        self.notes = self.store.repo(Note)
        self.streams = Streams(self.store)
        self.boot = BootId(bytes.fromhex(boot))
        if not await self.store.driver.fetch("workers.lease_left", self.boot):
            await present(self.store, self.boot)
        self.held = {}
        for id, (epoch, next_seq) in held.items():
            execution = await self.store.get_execution(id)
            self.held[id] = Holding(execution.key, id, tenant, epoch=epoch, next_seq=next_seq)
        return None

    # Records.

    async def create(self, **fields: Any) -> Answer:
        return _shown(await self.notes.create(_note(fields)))

    async def create_many(self, notes: list[dict[str, Any]]) -> Answer:
        return [_shown(each) for each in await self.notes.create_many(map(_note, notes))]

    async def update(self, id: str, revision: int, changes: dict[str, Any]) -> Answer:
        note = await self.notes.find_by_id(id) or Note(id=id, title="gone")
        return _shown(await self.notes.update(replace(note, revision=revision, **_typed(changes))))

    async def upsert(self, **fields: Any) -> Answer:
        return _shown(await self.notes.upsert(_note(fields)))

    async def delete(self, id: str, if_revision: int | None) -> Answer:
        await self.notes.delete(id, if_revision=if_revision)

    async def restore(self, id: str) -> Answer:
        return _shown(await self.notes.restore(id))

    async def get_many(self, ids: list[str]) -> Answer:
        return [_shown(each) for each in await self.notes.get_many(ids)]

    async def find(self, query: str, sort: str, limit: int) -> Answer:
        """Every page of a list."""
        pages, cursor = [], None
        while True:
            page = await self.notes.find(query, sort=sort, limit=limit, cursor=cursor)
            pages.append([_shown(each) for each in page.items])
            if (cursor := page.cursor) is None:
                return pages

    async def search(self, text: str) -> Answer:
        return sorted(each.id for each in (await self.notes.search(text)).items)

    async def count(self, query: str) -> Answer:
        return (await self.notes.count(query)).rows

    async def update_many(self, query: str, changes: dict[str, Any]) -> Answer:
        return await self.notes.update_many(query, **_typed(changes))

    async def delete_many(self, query: str) -> Answer:
        return await self.notes.delete_many(query)

    # The log, the queue, the mailbox.

    async def append(self, stream: str, payloads: list[Any], expect: int | None) -> Answer:
        events = [("said", payload) for payload in payloads]
        return await self.streams.append(stream, events, expect_version=expect)

    async def read(self, stream: str, after: int) -> Answer:
        return [(each.seq, each.type, each.payload) for each in await self.streams.read(stream, after=after)]

    async def enqueue(self, id: str, queue: str, priority: int, dedupe_key: str | None) -> Answer:
        holding = Holding(key := new_key(), id, self.store.tenant, epoch=0)
        new = NewExecution(
            key, self.store.tenant, id, "report", "1", b"d" * 16, b"f" * 16, "ready", queue, "io", priority,
            None, None, 0, dedupe_key=dedupe_key, tags=("t",),
        )  # fmt: skip
        return str(await self.store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, create=new)))

    async def claim(self, queue: str, limit: int) -> Answer:
        rows = await claim_lane(
            self.store, self.boot, Lane(queue, "io", self.store.tenant), limit, schema=NEWEST
        )
        claimed = await read_claimed(self.store, rows)
        self.held.update({each.holding.id: each.holding for each in claimed})
        told = ((each.holding.id, each.holding.epoch, each.holding.next_seq) for each in claimed)
        return sorted(told)

    async def finish(self, id: str, status: str) -> Answer:
        holding = self.held.pop(id, None)
        if holding is None:
            return "not held"
        kind = EventType.EXECUTION_COMPLETED if status == "completed" else EventType.EXECUTION_FAILED
        entry = Entry(holding, kind, transition=Transition(status, final=True))
        return str(await self.store.journal.append(entry))

    async def executions(self, query: str) -> Answer:
        found = await self.store.list_executions(query, limit=100)
        return [(each.id, str(each.status), each.queue, each.priority, each.epoch) for each in found]

    async def send(self, name: str, payload: Any, message_id: str | None) -> Answer:
        sent = await signals.send(self.store, name, payload, message_id=message_id)
        return [sent.name, sent.execution, sent.repeated]

    async def kept(self, name: str) -> Answer:
        return [each.payload for each in await signals.kept(self.store, name)]


def _note(fields: dict[str, Any]) -> Note:
    return Note(**_typed(fields))


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    made = dict(fields)
    if "mood" in made:
        made["mood"] = Mood(made["mood"])
    if "tags" in made:
        made["tags"] = tuple(made["tags"])
    return made


def _shown(note: Note) -> Answer:
    return [
        note.id, note.revision, note.title, note.body, str(note.mood), note.priority, note.weight, note.done,
        list(note.tags), note.owner, note.facts, note.anything, note.deleted_at is not None,
        note.created_at <= note.updated_at,
    ]  # fmt: skip


async def answer(work: Callable[..., Awaitable[Answer]], given: dict[str, Any]) -> dict[str, Any]:
    """What a command gave, or which error it raised."""
    try:
        return {"answer": await work(**given)}
    except HoldfastError as error:
        return {"error": type(error).__name__, "details": _comparable(error.details)}


def _comparable(details: dict[str, Any]) -> dict[str, Any]:
    """Constraints have names of their own on each database."""
    return {name: value for name, value in details.items() if name in ("id", "actual", "expected")}


class Forgetful(Actor):
    """A defect that the comparison has to find: a deletion that is acknowledged and not done."""

    async def delete(self, id: str, if_revision: int | None) -> Answer:
        await self.notes.get(id)


class Unfenced(Actor):
    """Another: a change by whoever has read, however long ago."""

    async def update(self, id: str, revision: int, changes: dict[str, Any]) -> Answer:
        note = await self.notes.get(id)
        return _shown(await self.notes.update(replace(note, **_typed(changes))))


ACTORS = {"honest": Actor, "forgetful": Forgetful, "unfenced": Unfenced}


async def serve(url: str, migrations: Path, kind: str) -> None:
    """Answer commands until the pipe is closed."""
    flags = {"storage.url": url, "storage.migrations.dir": str(migrations)}
    store = build_store(load(environ={}, cwd=Path("/"), flags=flags).config, create=True)
    await store.open(migrate=True)
    actor = ACTORS[kind](store)
    print(json.dumps({"answer": "ready"}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, given = json.loads(line)
        told = await answer(getattr(actor, command), given)
        print(json.dumps(told), flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))

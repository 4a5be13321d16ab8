"""Printing the event log: one event as a line for a person, or as a JSON object per line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from holdfast.cli.output import one_line, plain, seconds_text
from holdfast.cli.reading import with_store
from holdfast.events.log import EventLog

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.records.events import Event
    from holdfast.store.store import Store

_VALUE_MAX = 80


def event_record(event: Event) -> dict[str, Any]:
    """An event as it is printed."""
    return {
        "execution": event.execution_id,
        "seq": event.seq,
        "type": str(event.type),
        "path": event.path,
        "attempt": event.attempt,
        "at": event.at,
        "duration": event.duration,
        "payload": event.payload,
        "cursor": event.cursor,
    }


def print_event(invocation: Invocation, event: Event, *, whose: bool) -> None:
    """Print one event at once; --quiet prints its cursor."""
    if not invocation.output.is_table:
        if invocation.flags.quiet or invocation.flags.fields is not None:
            invocation.output.records([event_record(event)], ["seq", "type", "path"], key="cursor")
        else:
            # A stream has no end at which a list could be closed.
            invocation.stdout.write(json.dumps(plain(event_record(event)), ensure_ascii=False) + "\n")
    else:
        invocation.output.text(_line(event, whose=whose))
    invocation.stdout.flush()


def _line(event: Event, *, whose: bool) -> str:
    parts = [event.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"]
    parts += [event.execution_id] if whose else []
    parts += [f"{event.seq:>4}", f"{event.type:<20}", event.path or ""]
    if event.attempt and event.attempt > 1:
        parts.append(f"attempt {event.attempt}")
    if event.duration is not None:
        parts.append(seconds_text(event.duration.total_seconds()))
    if event.payload is not None:
        parts.append(one_line(json.dumps(event.payload, ensure_ascii=False, default=str), _VALUE_MAX))
    return "  ".join(parts).rstrip()


def tail_all(invocation: Invocation, *, after: str | None, follow: bool) -> None:
    """Print the events of all executions behind the cursor `after`, by default only what is new."""

    async def run(store: Store) -> None:
        log = EventLog(store)
        cursor = await log.mark() if after is None else after
        if follow:
            async for event in log.tail(after=cursor):
                print_event(invocation, event, whose=True)
        while not follow and (events := await log.everything(after=cursor, limit=1_000)):
            for event in events:
                print_event(invocation, event, whose=True)
            cursor = events[-1].cursor

    with_store(invocation, run)


def tail_one(invocation: Invocation, id: str, *, last: int | None, follow: bool) -> None:
    """Print events of one execution, all or its `last` ones, and with `follow` what comes until its end."""

    async def run(store: Store) -> None:
        log = EventLog(store)
        execution = await store.get_execution(id)
        newest = int((await store.driver.fetch("events.last_seq", execution.key))[0][0])
        after = 0 if last is None else max(newest - last, 0)
        if follow:
            async for event in log.follow(execution, after=after):
                print_event(invocation, event, whose=False)
        while not follow and (events := await log.page(execution, after=after, limit=1_000)):
            for event in events:
                print_event(invocation, event, whose=False)
            after = events[-1].seq

    with_store(invocation, run)

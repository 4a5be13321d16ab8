"""`holdfast events`: read, follow and verify the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.events.log import Finding
    from holdfast.store.store import Store

DAMAGED = 6


@click.group("events", cls=Group)
def command() -> None:
    """List, follow or verify the event log."""


@command.command("list")
@click.argument("id_", metavar="ID")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="at most this many"
)
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="SEQ", help="only events behind this number"
)
@click.pass_obj
def list_(invocation: Invocation, id_: str, limit: int, after: int) -> None:
    """List the events of one execution, in order."""
    from holdfast.cli.logs import event_record
    from holdfast.cli.reading import with_store
    from holdfast.events.log import EventLog

    async def read(store: Store) -> list[dict[str, Any]]:
        events = await EventLog(store).page(await store.get_execution(id_), after=after, limit=limit)
        return [event_record(event) for event in events]

    rows = with_store(invocation, read)
    following = rows[-1]["seq"] if len(rows) == limit else None
    invocation.output.records(
        rows, ["seq", "type", "path", "attempt", "at", "duration"], key="cursor", next_after=following
    )
    if following and invocation.output.is_table:
        invocation.say(f"more: --after {following}")


@command.command()
@click.option("--after", metavar="CURSOR", help="begin behind this event instead of now")
@click.option("--from-start", is_flag=True, help="begin with the first event")
@click.option("--follow/--no-follow", default=True, help="stay for what comes  [default: follow]")
@click.pass_obj
def tail(invocation: Invocation, after: str | None, from_start: bool, follow: bool) -> None:
    """Print the events of all executions as they happen, until Ctrl-C.

    Each event has a cursor (in JSON, or alone with --quiet); --after goes on behind it and misses none.
    JSON is one object per line.
    """
    from holdfast.cli.logs import tail_all
    from holdfast.errors import InvalidUsage

    if from_start and after is not None:
        raise InvalidUsage("--after and --from-start exclude each other", where="events tail", fix="give one")
    tail_all(invocation, after="" if from_start else after, follow=follow)


@command.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.pass_obj
def verify(invocation: Invocation, id_: str | None) -> int:
    """Check the log of one execution, or of all: no number missing, every value whole, ends that agree.

    Reads the whole log. Exit code 6 when something is wrong.
    """
    from dataclasses import asdict

    from holdfast.cli.reading import with_store
    from holdfast.events.log import EventLog

    async def run(store: Store) -> list[Finding]:
        execution = None if id_ is None else await store.get_execution(id_)
        return await EventLog(store).verify(execution)

    findings = with_store(invocation, run)
    if findings or not invocation.output.is_table:
        rows = [asdict(finding) for finding in findings]
        columns = ["execution", "seq", "kind", "message"]
        invocation.output.records(rows, columns, key="execution", whole=not findings)
    else:
        invocation.output.text("the log is whole")
    return DAMAGED if findings else 0

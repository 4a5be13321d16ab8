"""`holdfast events`: read, follow, verify and export the event log, and make a store of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.store.store import Store


@click.group("events", cls=Group)
def command() -> None:
    """List, follow, verify or export the event log."""


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
@click.option(
    "--files", type=click.Path(file_okay=False), metavar="DIR",
    help="compare with the files below DIR, instead of the configured ones",
)  # fmt: skip
@click.pass_obj
def verify(invocation: Invocation, id_: str | None, files: str | None) -> int:
    """Check the log of one execution, or of all: no number missing, every value whole, ends that agree.

    Where the log is kept in files as well, they are compared with the store, event by event, and every line
    with its checksum. Reads the whole log. Exit code 6 when something is wrong.
    """
    from holdfast.cli.event_files import verify_log

    return verify_log(invocation, id_, files)


@command.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option(
    "--to", "target", type=click.Path(dir_okay=False), metavar="FILE", help="write a file, not stdout"
)  # fmt: skip
@click.pass_obj
def export(invocation: Invocation, id_: str | None, target: str | None) -> None:
    """Print the events of one execution, or of all, as the files of the event log have them.

    One JSON object per line, with `timestamp`, `type`, `workflowId`, `taskId`, `data`, `metadata`, `seq` and
    `crc`. A file is there whole or not at all.
    """
    from holdfast.cli.event_files import export_log

    export_log(invocation, id_, target)


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.pass_obj
def rebuild(invocation: Invocation, folder: str) -> None:
    """Make a store of the event log in the files below DIR: its executions and their whole history.

    The store is the configured one; it has to be new or empty, and is made if it is not there. Unfinished
    executions go on with `holdfast resume`. Interrupted, the command goes on when it is repeated.
    """
    from holdfast.cli.event_files import rebuild_store

    rebuild_store(invocation, folder)

"""`holdfast executions`: look at what ran and runs, wait for it, control it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.commands.executions_control import cancel, pause, resume, retry
from holdfast.cli.commands.executions_start import start
from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group, TakesQuery

if TYPE_CHECKING:
    from holdfast.records.executions import Execution
    from holdfast.store.store import Store

_LAST_EVENTS = 10


@click.group("executions", cls=Group)
def command() -> None:
    """List, show, follow, start and control executions.

    ID may be a unique beginning of an id, or @last for the newest.
    """


@command.command("list", cls=TakesQuery)
@click.argument("query", nargs=-1, metavar="[QUERY…]")
@click.option("--limit", type=int, default=50, show_default=True, help="at most this many, 1 to 1000")
@click.option("--after", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def list_(invocation: Invocation, query: tuple[str, ...], limit: int, after: str | None) -> None:
    """List executions, newest first.

    QUERY is made of filters that all have to fit: status:failed workflow:NAME version:V queue:Q id:ID
    started:<2h (less than two hours ago) finished:>2026-01-31; a - in front of a filter turns it round.
    """
    from holdfast.cli.reading import cursor_key, execution_record, with_store

    before = None if after is None else cursor_key(after)

    async def read(store: Store) -> list[Execution]:
        return await store.list_executions(list(query), before=before, limit=limit)

    found = with_store(invocation, read)
    cursor = found[-1].key.hex() if len(found) == limit else None
    columns = ["id", "workflow", "status", "started_at", "duration"]
    rows = [execution_record(execution) for execution in found]
    invocation.output.records(rows, columns, next_cursor=cursor)
    if cursor and invocation.output.is_table:
        invocation.say(f"more: --after {cursor}")


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def show(invocation: Invocation, id_: str) -> None:
    """Show one execution: times, steps, input, and its result, its error or how to go on."""
    from holdfast.cli.portrait import draw, read_portrait
    from holdfast.cli.reading import with_store

    portrait = with_store(invocation, lambda store: read_portrait(store, id_))
    if invocation.output.is_table:
        invocation.output.text(draw(portrait, invocation))
    else:
        invocation.output.record(portrait.record())


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def steps(invocation: Invocation, id_: str) -> None:
    """List the steps of an execution, in the order in which they began."""
    from dataclasses import asdict

    from holdfast.cli.reading import with_store
    from holdfast.events.steps import read_steps

    async def read(store: Store) -> list[dict[str, Any]]:
        execution = await store.get_execution(id_)
        found = await read_steps(store, execution, values=not invocation.output.is_table)
        return [asdict(step) for step in found]

    rows = with_store(invocation, read)
    if invocation.output.is_table:
        rows = [row | {"error": _short_error(row["error"])} for row in rows]
    columns = ["path", "status", "attempts", "started_at", "duration", "error"]
    invocation.output.records(rows, columns, key="path")


def _short_error(error: dict[str, Any] | None) -> str | None:
    from holdfast.cli.output import one_line

    return None if error is None else one_line(f"{error.get('type')}: {error.get('message')}", 100)


@command.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--from-start", is_flag=True, help="begin with the first event")
@click.option("--follow/--no-follow", default=True, help="stay for what comes  [default: follow]")
@click.pass_obj
def tail(invocation: Invocation, id_: str | None, from_start: bool, follow: bool) -> None:
    """Print events as they happen, of one execution until it ends, or of all until Ctrl-C.

    With an ID it begins with the last ten events. JSON is one object per line.
    """
    from holdfast.cli.logs import tail_all, tail_one

    if id_ is None:
        tail_all(invocation, after="" if from_start else None, follow=follow)
    else:
        tail_one(invocation, id_, last=None if from_start else _LAST_EVENTS, follow=follow)


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def wait(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Wait until executions have ended, for --timeout at most.

    Exit codes: 0 completed, 7 failed, 8 cancelled, 9 not ended in time; 10 when several differ.
    """
    from holdfast.cli.waiting import wait_for

    return wait_for(invocation, ids)


for _verb in (start, cancel, pause, resume, retry):
    command.add_command(_verb)

"""`holdfast queues`: how full they are, their limits, their dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.records.executions import Execution
    from holdfast.records.queues import QueueSettings, QueueState, Rate
    from holdfast.store.store import Store

_COUNTS = ("ready", "running", "waiting", "blocked", "paused", "failed")
_LIMITS = ("concurrency", "key_concurrency", "tenant_concurrency", "rate")
_NONE = "none"


def _limit(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """A number from 1, or the word that takes the limit away."""
    if value is None or value == _NONE:
        return value
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is neither a number from 1 nor {_NONE}", ctx, param)
    return int(value)


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> Rate | str | None:
    """A rate such as 10/1s, or the word that takes it away."""
    from holdfast.errors import HoldfastError
    from holdfast.records.queues import Rate

    if value is None or value == _NONE:
        return value
    try:
        return Rate.parse(value)
    except HoldfastError as error:
        raise click.BadParameter(error.cause, ctx, param) from error


@click.group("queues", cls=Group)
def command() -> None:
    """List, show, limit or pause queues, and deal with their dead letters.

    A queue exists as soon as something is left in it or said about it. Workers hear of a change with their
    next look, within about two seconds.
    """


@command.command("list")
@click.pass_obj
def list_(invocation: Invocation) -> None:
    """List every queue that has settings, executions that have not ended, or dead letters.

    Counting stops at 10,000, which is shown as 10,000+. Blocked are those that wait for a place under a
    limit, or for a worker that has their version.
    """
    from holdfast.cli.reading import with_store
    from holdfast.fleet.queues import Queues

    states = with_store(invocation, lambda store: Queues(store).states())
    columns = ["name", "ready", "oldest_ready", *_COUNTS[1:], "limits", "workers"]
    invocation.output.records([_row(state, invocation) for state in states], columns, key="name")
    if invocation.output.is_table:
        _tell_unserved(states, invocation)


@command.command()
@click.argument("name")
@click.pass_obj
def show(invocation: Invocation, name: str) -> None:
    """Show one queue: how full it is, its limits, and how many workers serve it."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet.queues import Queues

    state = with_store(invocation, lambda store: Queues(store).state(name))
    row = _row(state, invocation)
    if invocation.output.is_table:
        del row["limits"]
    invocation.output.record(row, key="name")
    if invocation.output.is_table:
        _tell_unserved([state], invocation)


@command.command("set")
@click.argument("name")
@click.option("--concurrency", callback=_limit, metavar="N", help="run at most N at once in the whole fleet")
@click.option("--key-concurrency", callback=_limit, metavar="N", help="at most N with the same limit key")
@click.option("--tenant-concurrency", callback=_limit, metavar="N", help="at most N of one tenant")
@click.option("--rate", callback=_rate, metavar="N/TIME", help="take up at most N in that time, like 10/1s")
@click.pass_obj
def set_(invocation: Invocation, /, name: str, **limits: Any) -> None:
    """Set limits of a queue; what is not given stays as it is, and none takes a limit away.

    A lower limit stops nothing that runs: nothing new is taken until there is room.
    """
    from holdfast.errors import InvalidUsage

    given = {key: None if value == _NONE else value for key, value in limits.items() if value is not None}
    if not given:
        raise InvalidUsage(
            "no limit is given",
            where="queues set",
            fix=f"holdfast queues set {name} --concurrency 5   or see `holdfast queues show {name}`",
        )
    _change(invocation, name, given)


@command.command()
@click.argument("name")
@click.pass_obj
def pause(invocation: Invocation, name: str) -> None:
    """Have workers take nothing more from a queue. What runs goes on, and more may be left in it."""
    _change(invocation, name, {"paused": True})


@command.command()
@click.argument("name")
@click.pass_obj
def resume(invocation: Invocation, name: str) -> None:
    """Have workers take from a paused queue again."""
    _change(invocation, name, {"paused": False})


@command.command("dead-letters")
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="at most this many"
)
@click.option("--after", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def dead_letters(invocation: Invocation, name: str, limit: int, after: str | None) -> None:
    """List the failed executions of a queue, newest first, and why they failed."""
    from holdfast.cli.output import one_line
    from holdfast.cli.reading import cursor_key, with_store
    from holdfast.fleet.queues import Queues

    before = None if after is None else cursor_key(after)
    letters = with_store(
        invocation, lambda store: Queues(store).dead_letters(name, limit=limit, before=before)
    )
    cursor = letters[-1].key.hex() if len(letters) == limit else None
    names = ("id", "workflow", "version", "failed_at", "recoveries", "step", "type", "message")
    rows = [{field: getattr(letter, field) for field in names} for letter in letters]
    if invocation.output.is_table:
        rows = [row | {"message": one_line(row["message"], 100)} for row in rows]
    columns = ["id", "workflow", "failed_at", "step", "type", "message"]
    invocation.output.records(rows, columns, next_cursor=cursor)
    if cursor and invocation.output.is_table:
        invocation.say(f"more: --after {cursor}")


@command.command()
@click.argument("name")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--all", "everything", is_flag=True, help="every dead letter of the queue")
@click.option(
    "--where", "query", metavar="QUERY", help="those that a query fits, like 'workflow:NAME finished:<2h'"
)
@click.pass_obj
def requeue(
    invocation: Invocation, name: str, ids: tuple[str, ...], everything: bool, query: str | None
) -> int:
    """Put dead letters back into their queue: each goes on from the step that failed.

    Several are counted and asked about first. Exit codes: 4 for one that has not failed; 10 when they differ.
    """
    from holdfast.errors import InvalidUsage, NoFilter

    if sum((bool(ids), everything, query is not None)) != 1:
        raise InvalidUsage(
            "say which dead letters: ids, --all or --where, one of them",
            where="queues requeue",
            fix=f"see them with `holdfast queues dead-letters {name}`",
        )
    if query is not None and not query.strip():
        raise NoFilter("the filter is empty", where="--where", fix="write a filter, or --all")
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> list[Execution]:
        from holdfast.fleet.queues import Queues

        if ids:
            return [await store.get_execution(id) for id in ids]
        return await Queues(store).failed(name, query or "")

    chosen = with_store(invocation, read)
    if not ids and not _agreed(invocation, name, chosen):
        return 0
    return _requeue(invocation, name, chosen)


def _agreed(invocation: Invocation, name: str, chosen: list[Execution]) -> bool:
    from holdfast.cli.output import counted

    found = counted(len(chosen), "dead letter", "dead letters")
    if not chosen:
        invocation.say(f"{found} in {name}")
        return True
    return invocation.flags.dry_run or invocation.confirm(f"requeue {found} of {name}?")


def _requeue(invocation: Invocation, name: str, chosen: list[Execution]) -> int:
    from holdfast.cli.failures import report
    from holdfast.cli.reading import with_store
    from holdfast.cli.running import common_code
    from holdfast.errors import HoldfastError
    from holdfast.fleet.queues import Queues

    dry = invocation.flags.dry_run

    async def run(store: Store) -> list[HoldfastError | None]:
        found: list[HoldfastError | None] = []
        for execution in chosen:
            try:
                if not dry:
                    await Queues(store).requeue(name, execution)
                found.append(None)
            except HoldfastError as error:
                found.append(error)
        return found

    results = with_store(invocation, run)
    told = "would be requeued" if dry else "requeued"
    rows = [
        {"id": execution.id, "workflow": execution.workflow, "result": told}
        for execution, error in zip(chosen, results, strict=True)
        if error is None
    ]
    invocation.output.records(rows, ["id", "workflow", "result"])
    return common_code([0 if error is None else report(error, invocation) for error in results])


def _change(invocation: Invocation, name: str, changes: dict[str, Any]) -> None:
    from dataclasses import replace

    from holdfast.cli.reading import with_store
    from holdfast.fleet.queues import Queues

    async def run(store: Store) -> QueueSettings:
        queues = Queues(store)
        if invocation.flags.dry_run:
            return replace(await queues.settings(name), **changes)
        return await queues.set_limits(name, **changes)

    after = with_store(invocation, run)
    if invocation.output.is_table:
        state = "paused" if after.paused else "not paused"
        would = "would be" if invocation.flags.dry_run else "is"
        invocation.say(f"{name} {would} {state}; {_limits(after) or 'no limits'}")
    else:
        invocation.output.record(_settings_row(after), key="name")


def _limits(settings: QueueSettings) -> str:
    """The limits on one line; empty without any."""
    named = {"concurrency": "at once", "key_concurrency": "per key", "tenant_concurrency": "per tenant"}
    parts = [f"{getattr(settings, key)} {text}" for key, text in named.items() if getattr(settings, key)]
    return ", ".join([*parts, *([str(settings.rate)] if settings.rate else [])])


def _settings_row(settings: QueueSettings) -> dict[str, Any]:
    rate = None if settings.rate is None else str(settings.rate)
    limits = {key: getattr(settings, key) for key in _LIMITS} | {"rate": rate}
    return {"name": settings.name, "is_paused": settings.paused, **limits}


def _row(state: QueueState, invocation: Invocation) -> dict[str, Any]:
    """A queue as a record; in a table a count that stopped has a plus, and limits tell of a pause."""
    tallies = {name: getattr(state, name) for name in _COUNTS}
    row = _settings_row(state.settings)
    rest = {"oldest_ready": state.oldest_ready, "workers": state.listeners}
    limits = ", ".join([*(["paused"] if state.settings.paused else []), _limits(state.settings)]).strip(", ")
    if invocation.output.is_table:
        return {**row, **{name: str(tally) for name, tally in tallies.items()}, **rest, "limits": limits}
    return {
        **row,
        **{name: tally.count for name, tally in tallies.items()},
        "at_least": [name for name, tally in tallies.items() if tally.more],
        **rest,
        "limits": limits,
    }


def _tell_unserved(states: list[QueueState], invocation: Invocation) -> None:
    from holdfast.fleet.starts import LOCAL_QUEUE

    for state in states:
        name = state.settings.name
        if state.ready.count and not state.listeners and name != LOCAL_QUEUE:
            invocation.say(f"no worker serves {name}: holdfast worker --queues {name}")

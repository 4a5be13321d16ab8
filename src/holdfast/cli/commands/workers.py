"""`holdfast workers`: who serves the queues, what they run, and stopping one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command, Group

if TYPE_CHECKING:
    from holdfast.fleet.roster import Registered
    from holdfast.store.store import Store

_COLUMNS = ["id", "state", "host", "pid", "queues", "classes", "running", "concurrency", "lease_left"]
_SHORT = 8
_RUNNING_SHOWN = 100


@click.group("workers", cls=Group)
def command() -> None:
    """List, show or stop workers.

    ID is the boot id of a worker, or a unique beginning of it. A worker has a new one after every start.
    """


@command.command("list", cls=Command)
@click.option(
    "--all", "everybody", is_flag=True, help="also processes that run executions without being workers"
)
@click.pass_obj
def list_(invocation: Invocation, everybody: bool) -> None:
    """List workers, oldest first.

    States: active; draining: it finishes what it runs and claims nothing; lapsed: its lease is over or its
    process on this host is gone, and other workers take what it ran.
    """
    from holdfast.cli.reading import with_store
    from holdfast.fleet.roster import read_roster

    roster = with_store(invocation, read_roster)
    rows = [worker_record(each) for each in roster if everybody or each.is_worker]
    if invocation.output.is_table:
        if not rows:
            invocation.say("no worker is registered; start one: holdfast worker")
            return
        rows = [{**row, "id": row["id"][:_SHORT]} for row in rows]
        rows = [{**row, **{name: ", ".join(row[name]) for name in ("queues", "classes")}} for row in rows]
    invocation.output.records(rows, _COLUMNS)


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def show(invocation: Invocation, id_: str) -> None:
    """Show one worker: what it serves, what it refused for lack of code, and what it runs."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet.roster import find_registered, read_roster

    async def read(store: Store) -> dict[str, Any]:
        found = find_registered(await read_roster(store), id_)
        rows = await store.driver.fetch("roster.running", found.boot, _RUNNING_SHOWN)
        names = ("id", "workflow", "version", "queue")
        return {**worker_record(found), "executions": [dict(zip(names, row, strict=True)) for row in rows]}

    invocation.output.record(with_store(invocation, read))


@command.command()
@click.argument("id_", metavar="ID")
@click.option("--no-wait", is_flag=True, help="ask, and do not wait for its end")
@click.pass_obj
def stop(invocation: Invocation, id_: str, no_wait: bool) -> int:
    """Ask a worker of this host to drain and end, by SIGTERM.

    The process is proven to be that worker before: it holds the lock file of its id. A worker of another host
    is refused (exit code 4): send SIGTERM there. Waits for the end, for --timeout at most (default 1m).

    Exit codes: 0 it has ended, 9 asked but not ended yet.
    """
    from holdfast.cli.stopping import stop_worker

    return stop_worker(invocation, id_, wait=not no_wait)


def worker_record(each: Registered) -> dict[str, Any]:
    """A registered process as `workers list` and the others print it."""
    from datetime import timedelta

    details = each.details
    return {
        "id": each.boot.hex(),
        "state": str(each.state),
        "program": each.program,
        "host": each.host,
        "pid": each.pid,
        "queues": list(details.get("queues", ())),
        "classes": list(details.get("classes", ())),
        "concurrency": details.get("concurrency"),
        "running": each.running,
        "started_at": each.started_at,
        "lease_left": max(each.lease_left, timedelta(0)),
        "offers": details.get("offers", []),
        "refused": details.get("refused", []),
    }

"""`holdfast signals`: send signals, and see which are kept and who waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.fleet.signals import Kept, Sent, Waiter
    from holdfast.store.store import Store


@click.group("signals", cls=Group)
def command() -> None:
    """Send signals to executions that wait for them, or list kept signals and waiting steps."""


@command.command()
@click.argument("name", metavar="NAME")
@click.argument("payload", required=False, metavar="[JSON|@FILE|-]")
@click.option("--to", "to", metavar="ID", help="only this execution may have it")
@click.option(
    "--message-id", metavar="TEXT", help="sending again with the same one, within a week, does nothing"
)
@click.pass_obj
def send(
    invocation: Invocation, name: str, payload: str | None, to: str | None, message_id: str | None
) -> None:
    """Send a signal to the step that waits longest for NAME.

    It is kept when nobody waits yet, and taken by exactly one step. JSON is what the waiting step gets.
    """
    from holdfast.cli.answers import read_json
    from holdfast.cli.reading import with_store
    from holdfast.fleet import signals

    value = read_json(payload, invocation, what="payload")

    async def run(store: Store) -> Sent | None:
        target = None if to is None else await store.get_execution(to)
        if invocation.flags.dry_run:
            return None
        return await signals.send(store, name, value, to=target, message_id=message_id)

    sent = with_store(invocation, run)
    state = "would be sent" if sent is None else _state(sent)
    record = {"name": name, "state": state, "execution": sent.execution if sent else to}
    if not invocation.output.is_table:
        invocation.output.record({**record, "step": sent.path if sent else None}, key="name")
    elif sent is not None and sent.execution is not None:
        invocation.say(f"✔ {name} was taken by {sent.execution}, step {sent.path}")
    else:
        invocation.say(f"✔ {name} {'is kept until somebody waits for it' if state == 'kept' else state}")


def _state(sent: Sent) -> str:
    if sent.repeated:
        return "sent before"
    return "kept" if sent.path is None else "delivered"


@command.command("list")
@click.argument("name", required=False, metavar="[NAME]")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="at most this many"
)
@click.pass_obj
def list_(invocation: Invocation, name: str | None, limit: int) -> None:
    """List the steps that wait for a signal, and the signals that nobody has taken yet."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet import signals

    async def read(store: Store) -> list[dict[str, Any]]:
        waiting = [_waiting(each) for each in await signals.waiters(store, name, limit=limit)]
        return waiting + [await _kept(store, each) for each in await signals.kept(store, name, limit=limit)]

    rows = with_store(invocation, read)
    invocation.output.records(rows, ["name", "state", "execution", "step", "since"], key="name")


def _waiting(waiter: Waiter) -> dict[str, Any]:
    return {
        "name": waiter.name,
        "state": "waited for",
        "execution": waiter.execution,
        "step": waiter.path,
        "since": waiter.since,
        "payload": None,
    }


async def _kept(store: Store, kept: Kept) -> dict[str, Any]:
    execution = None if kept.execution is None else await store.execution_by_key(kept.execution)
    return {
        "name": kept.name,
        "state": "kept",
        "execution": execution.id if execution else None,
        "step": None,
        "since": kept.since,
        "payload": kept.payload,
    }

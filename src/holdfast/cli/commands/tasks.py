"""`holdfast tasks`: work for agents that no execution waits for, and what is done about any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.tasks import DependencyPolicy, TaskRecord

if TYPE_CHECKING:
    from holdfast.store.store import Store

command = group("tasks")
_POLICIES = click.Choice([policy.value for policy in DependencyPolicy])


@command.command()
@click.argument("capability")
@click.option("--payload", metavar="JSON", help="what the agent is given")
@click.option("--type", metavar="TYPE", help="what kind of work it is")
@click.option("--priority", type=int, default=0, show_default=True, help="higher ones are taken first")
@click.option("--depends-on", multiple=True, metavar="ID", help="a task that has to be completed before")
@click.option(
    "--on-failed-dependency", type=_POLICIES, default=DependencyPolicy.FAIL.value, show_default=True,
    help="how it ends when one of those fails or is cancelled",
)  # fmt: skip
@click.option("--lease", default="60s", show_default=True, help="an agent is lost after this long silence")
@click.option("--max-attempts", type=int, default=3, show_default=True, help="claims that it gets in all")
@click.option("--metadata", metavar="JSON", help="an object to find with the task")
@click.option("--id", "id_", metavar="ID", help="an id of your own")
@click.pass_obj
def create(
    invocation: Invocation,
    /,
    capability: str,
    payload: str | None,
    metadata: str | None,
    id_: str | None,
    **options: Any,
) -> None:
    """Make a task for agents that have CAPABILITY.

    It may be claimed when every task that it depends on is completed; until then it is blocked.
    """
    from holdfast.cli.json_options import json_object, json_value
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.domain.tasks import NewTask, Tasks
    from holdfast.records.keys import new_id

    new = NewTask(
        capability=capability, payload=json_value("--payload", payload), id=id_ or new_id(),
        metadata=json_object("--metadata", metadata) or {}, **options,
    )  # fmt: skip
    wanted = new.record()

    async def work(store: Store) -> TaskRecord:
        (made,) = await Tasks(store).create_many([new])
        return made

    made = wanted if invocation.flags.dry_run else with_store(invocation, work, migrate=True)
    tell(invocation, made, "created")


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.option("--reason", default="", metavar="TEXT", help="why; its error says so")
@click.pass_obj
def cancel(invocation: Invocation, ids: tuple[str, ...], reason: str) -> int:
    """Call tasks off: an agent that has one hears of it, and what waits for it ends by its policy.

    A task of an execution fails, and the step that waits for it with it. Exit codes: 4 for one that has
    ended; 10 when they differ.
    """
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.tasks import Tasks

    return change_each(
        invocation, TaskRecord, ids, lambda store, id: Tasks(store).cancel(id, reason), "cancelled"
    )


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def requeue(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Put failed or cancelled tasks back, with all their attempts.

    What has ended because of one stays ended. Exit codes: 4 for one that has not failed, or that depends on
    one that has; 10 when they differ.
    """
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.tasks import Tasks

    return change_each(invocation, TaskRecord, ids, lambda store, id: Tasks(store).requeue(id), "requeued")

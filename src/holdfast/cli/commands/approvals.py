"""`holdfast approvals`: see what executions ask people for, and decide."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.fleet.approvals import ApprovalRecord
    from holdfast.store.store import Store


@click.group("approvals", cls=Group)
def command() -> None:
    """List, show, approve or reject what executions ask people for."""


@command.command("list")
@click.option(
    "--all", "everything", is_flag=True, help="decided, expired and withdrawn ones too, newest first"
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="at most this many"
)
@click.pass_obj
def list_(invocation: Invocation, everything: bool, limit: int) -> None:
    """List the approvals that wait for a decision, the longest waiting first."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet import approvals

    found = with_store(invocation, lambda store: approvals.listed(store, everything=everything, limit=limit))
    columns = ["id", "title", "execution", "deadline", "created_at"]
    if everything:
        columns[2:2] = ["status", "decided_by"]
    invocation.output.records([_record(each) for each in found], columns)


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def show(invocation: Invocation, id_: str) -> None:
    """Show one approval with its form and, when it is decided, the decision."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet import approvals

    invocation.output.record(_record(with_store(invocation, lambda store: approvals.get(store, id_))))


@command.command()
@click.argument("id_", metavar="ID")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="the answer that the form asks for")
@click.option("--comment", metavar="TEXT", help="why, for those who read it later")
@click.pass_obj
def approve(invocation: Invocation, id_: str, given: str | None, comment: str | None) -> None:
    """Approve: the execution goes on.

    An approval with a form needs an answer that fits it. Deciding twice is refused: exit code 4 names who was
    first.
    """
    from holdfast.cli.answers import read_json

    _decide(invocation, id_, True, read_json(given, invocation, what="answer"), comment)


@command.command()
@click.argument("id_", metavar="ID")
@click.option("--comment", metavar="TEXT", help="why, for those who read it later")
@click.pass_obj
def reject(invocation: Invocation, id_: str, comment: str | None) -> None:
    """Reject: the step fails, unless its workflow looks at the decision itself."""
    _decide(invocation, id_, False, None, comment)


def _decide(invocation: Invocation, id_: str, approved: bool, answer: Any, comment: str | None) -> None:
    from holdfast.cli.reading import with_store
    from holdfast.cli.running import user
    from holdfast.fleet import approvals

    async def run(store: Store) -> ApprovalRecord:
        if invocation.flags.dry_run:
            return await approvals.get(store, id_)
        return await approvals.decide(
            store, id_, approved=approved, by=user(), answer=answer, comment=comment
        )

    decided = with_store(invocation, run)
    if not invocation.output.is_table:
        invocation.output.record(_record(decided))
    elif invocation.flags.dry_run:
        verb = "approved" if approved else "rejected"
        invocation.say(f"{decided.id} ({decided.title}) is {decided.status} and would be {verb}")
    else:
        sign = "✔" if approved else "✖"
        invocation.say(f"{sign} {decided.id} is {decided.status}; {decided.execution} goes on")


def _record(approval: ApprovalRecord) -> dict[str, Any]:
    return asdict(approval)

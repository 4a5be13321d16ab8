"""`holdfast sessions`: who is logged in, and ending that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.errors import InvalidUsage
from holdfast.records.identity import Session, Termination

if TYPE_CHECKING:
    from holdfast.store.store import Store

command = group("sessions")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--user", metavar="USER", help="all sessions of this user, by id or e-mail")
@click.pass_obj
def terminate(invocation: Invocation, ids: tuple[str, ...], user: str | None) -> int:
    """End sessions: those that are named, or all of one user. Their tokens are refused from now on."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.sessions import Sessions

    if bool(ids) == (user is not None):
        raise InvalidUsage("name sessions, or a user with --user", fix="holdfast sessions list")
    if user is not None:
        _terminate_all(invocation, user)
        return 0
    return change_each(
        invocation,
        Session,
        ids,
        lambda store, id: Sessions(store).terminate(id, Termination.REVOKED),
        "terminated",
    )


def _terminate_all(invocation: Invocation, user: str) -> None:
    from holdfast.cli.output import counted
    from holdfast.cli.people import user_id
    from holdfast.cli.reading import with_store
    from holdfast.domain.sessions import Sessions
    from holdfast.store.filters import Condition, Query

    async def work(store: Store) -> int:
        id = await user_id(store, user)
        if not invocation.flags.dry_run:
            return await Sessions(store).terminate_all(id)
        column = store.repo(Session).mapping.table.column
        mine = Query((Condition(column("user_id"), "=", id), Condition(column("terminated_at"), "unset")))
        return (await store.repo(Session).count(mine)).rows

    ended = with_store(invocation, work)
    if not invocation.output.is_table:
        dry = {"dry_run": True} if invocation.flags.dry_run else {}
        invocation.output.record({"terminated": ended, **dry}, key="terminated")
    else:
        would = " would be" if invocation.flags.dry_run else ""
        invocation.output.text(f"{counted(ended, 'session', 'sessions')}{would} terminated")

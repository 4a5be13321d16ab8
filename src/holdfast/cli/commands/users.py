"""`holdfast users`: accounts, their passwords and their locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.identity import Role, User
from holdfast.records.keys import new_id

if TYPE_CHECKING:
    from holdfast.store.store import Store

command = group("users")
_ROLES = click.Choice([role.value for role in Role])


@command.command()
@click.argument("email")
@click.option("--name", default="", help="what the user is called")
@click.option("--role", type=_ROLES, default=Role.USER.value, show_default=True, help="what the user is")
@click.option("--id", "id_", metavar="ID", help="an id of your own")
@click.option("--password", "with_password", is_flag=True, help="ask for a password, or read it from stdin")
@click.pass_obj
def create(
    invocation: Invocation, email: str, name: str, role: str, id_: str | None, with_password: bool
) -> None:
    """Make a user. Without --password nobody can log in with one yet."""
    from holdfast.cli.people import read_password
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.domain.users import Users, checked_email

    checked_email(email)
    password = read_password(invocation) if with_password else None

    async def work(store: Store) -> User:
        if invocation.flags.dry_run:
            return User(id=id_ or new_id(), email=email, name=name, role=Role(role))
        return await Users(store).create(email, password=password, name=name, role=Role(role), id=id_)

    tell(invocation, with_store(invocation, work), "created")


@command.command("set-password")
@click.argument("user")
@click.option("--keep-sessions", is_flag=True, help="leave the user's sessions open")
@click.pass_obj
def set_password(invocation: Invocation, user: str, keep_sessions: bool) -> None:
    """Give a user a password, open the account, and end the user's sessions.

    The password is asked for, or read from the first line of stdin; it is never an argument. USER is an id, a
    unique beginning of one, or an e-mail.
    """
    from holdfast.cli.people import change_user, read_password
    from holdfast.domain.users import Users

    password, ends = read_password(invocation), not keep_sessions
    change_user(
        invocation,
        user,
        lambda store, id: Users(store).set_password(id, password, end_sessions=ends),
        "given another password",
    )


@command.command("set-role")
@click.argument("user")
@click.argument("role", type=_ROLES)
@click.pass_obj
def set_role(invocation: Invocation, user: str, role: str) -> None:
    """Give a user another role. USER is an id, a unique beginning of one, or an e-mail."""
    from holdfast.cli.people import change_user
    from holdfast.domain.users import Users

    change_user(invocation, user, lambda store, id: Users(store).set_role(id, Role(role)), f"made {role}")


@command.command("set-email")
@click.argument("user")
@click.argument("email")
@click.pass_obj
def set_email(invocation: Invocation, user: str, email: str) -> None:
    """Give a user another e-mail; exit code 4 if somebody has it."""
    from holdfast.cli.people import change_user
    from holdfast.domain.users import Users

    change_user(
        invocation, user, lambda store, id: Users(store).change_email(id, email), f"reached at {email}"
    )


@command.command()
@click.argument("user")
@click.pass_obj
def unlock(invocation: Invocation, user: str) -> None:
    """Open an account that failed logins have locked. `users list has:locked_until` shows them."""
    from holdfast.cli.people import change_user
    from holdfast.domain.users import Users

    change_user(invocation, user, lambda store, id: Users(store).unlock(id), "unlocked")


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def delete(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Mark users as deleted, end their sessions and refuse their API keys. `users restore` takes it back."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.users import Users

    return change_each(invocation, User, ids, lambda store, id: Users(store).delete(id), "deleted")


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def restore(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Take the deletion of users back; exit code 4 if somebody else has the e-mail by now. IDs are whole."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.users import Users

    return change_each(
        invocation, User, ids, lambda store, id: Users(store).restore(id), "restored", deleted=True
    )

"""What the commands of users, API keys and sessions have in common: secrets, many ids, and their answers."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from holdfast.cli.reading import with_store
from holdfast.cli.record_writing import tell
from holdfast.errors import InvalidUsage, RecordNotFound
from holdfast.records.declare import Record
from holdfast.records.identity import User
from holdfast.store.lookup import look_up

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

R = TypeVar("R", bound=Record)
PARTLY = 10
_UNREACHABLE = 5


def read_password(invocation: Invocation) -> str:
    """A password that is typed twice without being shown, or the first line of standard input.

    Never an argument: other users of the machine see those. Raises `InvalidUsage`.
    """
    if invocation.stdin.isatty() and not invocation.flags.no_input:
        first = getpass.getpass("New password: ", stream=invocation.stderr)
        if getpass.getpass("Again: ", stream=invocation.stderr) != first:
            raise InvalidUsage("the two passwords differ", where="password", fix="type the same one twice")
        return first
    line = invocation.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidUsage(
            "there is no password on standard input",
            where="password",
            fix="run it in a terminal, or pipe the password in: … < file",
        )
    return line


def change_user(
    invocation: Invocation, given: str, act: Callable[[Store, str], Awaitable[User]], done: str
) -> None:
    """Change the user who is named and print what they are then; with --dry-run only look them up."""

    async def work(store: Store) -> User:
        id = await user_id(store, given)
        return await (store.repo(User).get(id) if invocation.flags.dry_run else act(store, id))

    tell(invocation, with_store(invocation, work), done)


async def user_id(store: Store, given: str) -> str:
    """The id of a user by id, beginning of an id, or e-mail. Raises `RecordNotFound`."""
    from holdfast.domain.users import Users

    if "@" not in given.removeprefix("@"):
        return (await look_up(store.repo(User), given)).id
    found = await Users(store).by_email(given)
    if found is None:
        raise RecordNotFound(f"no user has the e-mail {given!r}", where="USER")
    return found.id

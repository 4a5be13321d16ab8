"""`holdfast api-keys`: keys that programs show instead of a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.identity import ApiKey

if TYPE_CHECKING:
    from holdfast.domain.api_keys import NewApiKey
    from holdfast.store.store import Store

command = group("api-keys")


@command.command()
@click.argument("user")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="what it may be used for; repeatable")
@click.option(
    "--expires-in", metavar="DURATION", help="how long it is good for, like 90d (default: for ever)"
)
@click.pass_obj
def create(
    invocation: Invocation, user: str, name: str, scopes: tuple[str, ...], expires_in: str | None
) -> None:
    """Make a key for a user and print it: this once, and never again.

    USER is an id, a unique beginning of one, or an e-mail. The store keeps a hash of the key, made with
    security.api_key_pepper where that is set.
    """
    from holdfast.cli.people import user_id
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.domain.api_keys import ApiKeys
    from holdfast.domain.keyrings import keyring_of

    peppers = keyring_of(invocation.load_config(inspect=True).config.security.api_key_pepper)

    async def work(store: Store) -> NewApiKey | None:
        id = await user_id(store, user)
        if invocation.flags.dry_run:
            return None
        return await ApiKeys(store, peppers).create(id, name, scopes=scopes, expires_in=expires_in)

    made = with_store(invocation, work)
    if made is None:
        invocation.say(f"a key {name!r} would be made")
    elif invocation.output.is_table:
        invocation.say(f"{made.key.id} created; keep the key, it is not shown again:")
        invocation.output.text(made.secret.reveal())
    else:
        tell(invocation, made.key, "created", key=made.secret.reveal())


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def revoke(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Refuse keys from now on. They stay in the list."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.api_keys import ApiKeys

    return change_each(invocation, ApiKey, ids, lambda store, id: ApiKeys(store).revoke(id), "revoked")

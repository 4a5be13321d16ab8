"""`holdfast conversations`: what was said, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.conversations import ConversationStatus

if TYPE_CHECKING:
    from holdfast.store.store import Store

command = group("conversations")
_LIMIT = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="at most this many messages"
)


@command.command()
@click.argument("id_", metavar="ID")
@_LIMIT
@click.option("--full", is_flag=True, help="messages whole, however long they are")
@click.pass_obj
def show(invocation: Invocation, id_: str, limit: int, full: bool) -> None:
    """Show a conversation with its newest messages, as people read them.

    ID may be a unique beginning of an id, or @last for the newest.
    """
    from holdfast.cli.conversing import show_conversation

    show_conversation(invocation, id_, limit=limit, full=full)


@command.command()
@click.argument("id_", metavar="ID")
@click.option("--after", type=int, metavar="N", help="the messages right behind number N")
@click.option("--before", type=int, metavar="N", help="the messages right in front of number N")
@_LIMIT
@click.pass_obj
def messages(invocation: Invocation, id_: str, after: int | None, before: int | None, limit: int) -> None:
    """List the messages of a conversation in their order, a page at a time.

    ID may be a unique beginning of an id, or @last for the newest.
    """
    from holdfast.cli.conversing import list_messages

    list_messages(invocation, id_, after=after, before=before, limit=limit)


@command.command()
@click.argument("text", nargs=-1, required=True, metavar="TEXT…")
@_LIMIT
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def search(invocation: Invocation, text: tuple[str, ...], limit: int, cursor: str | None) -> None:
    """Search what was said: the messages that have all words of TEXT, newest first.

    `conversations list WORD` searches titles.
    """
    from holdfast.cli.conversing import search_messages

    search_messages(invocation, " ".join(text), limit=limit, cursor=cursor)


@command.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.pass_obj
def import_(invocation: Invocation, file: Any) -> None:
    """Store conversations from FILE (- is stdin): JSON in the shape of chat APIs.

    It is a list of conversations, or one a line. A conversation is a list of messages with a role and a
    content, or an object that has one in `messages`, and an id, title, user, agent and tags if there are
    any. Importing the same again stores nothing twice.
    """
    from holdfast.cli.conversing import import_file

    import_file(invocation, file)


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def archive(invocation: Invocation, id_: str) -> None:
    """Keep a conversation for reading: it takes no more messages."""
    _set_status(invocation, id_, ConversationStatus.ARCHIVED)


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def reopen(invocation: Invocation, id_: str) -> None:
    """Let an archived conversation take messages again."""
    _set_status(invocation, id_, ConversationStatus.ACTIVE)


@command.command()
@click.argument("message")
@click.option("--replacement", metavar="TEXT", help="what stands there instead")
@click.pass_obj
def redact(invocation: Invocation, message: str, replacement: str | None) -> None:
    """Take out what a message said, for good. MESSAGE is its whole id. Asks first.

    Its number and the totals stay; context snapshots that may quote it are removed.
    """
    from holdfast.cli.conversing import redact_message

    redact_message(invocation, message, replacement)


def _set_status(invocation: Invocation, id_: str, status: ConversationStatus) -> None:
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.conversations import Conversations
    from holdfast.records.conversations import Conversation
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> Conversation:
        found = await look_up(store.repo(Conversation), id_)
        return found if invocation.flags.dry_run else await Conversations(store).edit(found.id, status=status)

    changed = with_store(invocation, work)
    if not invocation.output.is_table:
        invocation.output.record(printed(changed))
    elif invocation.flags.dry_run:
        invocation.say(f"{changed.id} is {changed.status} and would be {status}")
    else:
        invocation.say(f"{changed.id} is {changed.status}")

"""The commands of a noun, made from the declaration of its record.

A line in `catalogue.NOUNS` makes a noun. One that has verbs of its own beside these names a module, which
adds them to what `group` makes:

    command = group("incidents")

    @command.command()
    def mitigate(…): …

What the commands do is in `record_reading` and `record_writing`, which are loaded when one of them runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import click

from holdfast.cli import catalogue
from holdfast.cli.catalogue import LOOK, Noun
from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command, Group, TakesQuery
from holdfast.records.declare import Record, SoftRecord, table_of
from holdfast.records.tables import Table

_ID = "ID may be a unique beginning of an id, or @last for the newest."


def class_of(noun: Noun) -> type[Record]:
    """The record class that a noun stands for."""
    module, _, name = noun.record.partition(":")
    found: type[Record] = getattr(importlib.import_module(module), name)
    return found


def group(name: str) -> Group:
    """The noun of the catalogue with this name, as a group with a command for each of its verbs."""
    noun = catalogue.noun(name)
    cls = class_of(noun)
    made = Group(noun.name, help=f"{noun.help[:1].upper()}{noun.help[1:]}.\n\n{_ID}")
    for verb in noun.verbs:
        if _applies(verb, cls):
            made.add_command(_VERBS[verb](noun, cls))
    return made


def _applies(verb: str, cls: type[Record]) -> bool:
    table = table_of(cls)
    if verb == "restore" and not issubclass(cls, SoftRecord):
        return False
    if verb == "search" and not any(column.search for column in table.columns):
        return False
    return verb in LOOK or not table.sealed


def _command(
    name: str,
    help: str,
    parameters: list[click.Parameter],
    work: Callable[..., Any],
    cls: type[Command] = Command,
) -> Command:
    """`work` gets the invocation, then the values of the parameters by name."""

    @click.pass_obj
    def call(invocation: Invocation, /, **given: Any) -> Any:
        return work(invocation, **given)

    return cls(name, callback=call, params=parameters, help=help)


def _filters(table: Table) -> str:
    """What the query of a kind may ask for, for its help."""
    told = []
    for column in table.columns:
        if column.filter is not None:
            choices = f" ({'|'.join(column.type)})" if column.type is not None else ""
            told.append(f"{column.filter}{choices}")
    words = " Words without a name are searched in the text." if _is_searched(table) else ""
    return (
        f"QUERY is made of filters NAME:VALUE that all have to fit: {', '.join(told)}, and has:NAME; times "
        f"are like created:<2h or created:>2026-01-31, and a - in front turns a filter round.{words}"
    )


def _is_searched(table: Table) -> bool:
    return any(column.search for column in table.columns)


def _limit() -> click.Option:
    return click.Option(
        ["--limit"], type=int, default=50, show_default=True, help="at most this many, 1 to 1000"
    )


def _cursor() -> click.Option:
    return click.Option(
        ["--cursor"], metavar="CURSOR", help="go on behind the page that gave this next_cursor"
    )


def _ids(metavar: str, *, required: bool) -> click.Argument:
    return click.Argument(["ids"], nargs=-1, required=required, metavar=metavar)


def _id() -> click.Argument:
    return click.Argument(["id_"], metavar="ID")


def _settings(what: str) -> click.Option:
    return click.Option(["--set", "words"], multiple=True, metavar="NAME=VALUE", help=what)


def _list(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, query: tuple[str, ...], **given: Any) -> None:
        from holdfast.cli.record_reading import Listing, list_records

        list_records(invocation, noun, cls, query, Listing(**given))

    return _command(
        "list",
        f"List {noun.name}, newest first.\n\n{_filters(table_of(cls))}",
        [
            click.Argument(["query"], nargs=-1, metavar="[QUERY…]"),
            click.Option(
                ["--sort"],
                default="-created_at",
                show_default=True,
                metavar="FIELD",
                help="in the order of a field; with - in front the greatest first",
            ),
            _limit(),
            _cursor(),
            click.Option(["--all", "every"], is_flag=True, help="all pages instead of one"),
            click.Option(
                ["--count"],
                type=click.Choice(["none", "estimate", "exact"]),
                default="none",
                show_default=True,
                help="tell how many fit in all",
            ),
        ],
        work,
        TakesQuery,
    )


def _show(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, id_: str) -> None:
        from holdfast.cli.record_reading import show_record

        show_record(invocation, cls, id_)

    return _command("show", f"Show one of the {noun.name}, without its secrets.\n\n{_ID}", [_id()], work)


def _search(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, **given: Any) -> None:
        from holdfast.cli.record_reading import search_records

        search_records(invocation, noun, cls, **given)

    text = click.Argument(["text"], nargs=-1, required=True, metavar="TEXT…")
    help = f"Search {noun.name} for all words of TEXT, best first."
    return _command("search", help, [text, _limit(), _cursor()], work)


def _create(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, **given: Any) -> None:
        from holdfast.cli.record_writing import create_records

        create_records(invocation, noun, cls, **given)

    from holdfast.cli.record_values import writable

    names = ", ".join(column.name for column in writable(cls, noun.fields, anew=True))
    return _command(
        "create",
        f"Make new {noun.name}. Fields: {names}.\n\n--input is a JSON object, or a list of them: all are "
        "made or none. What --set says comes on top of each.",
        [
            _settings("a field of the new record; lists as a,b, JSON for what is no plain value"),
            click.Option(["--input", "input_"], metavar="JSON|@file|-", help="the fields as JSON"),
        ],
        work,
    )


def _update(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, **given: Any) -> None:
        from holdfast.cli.record_writing import update_record

        update_record(invocation, noun, cls, **given)

    from holdfast.cli.record_values import writable

    names = ", ".join(column.name for column in writable(cls, noun.fields, anew=False))
    return _command(
        "update",
        f"Change fields of one of the {noun.name}. Fields: {names}.\n\n{_ID}",
        [
            _id(),
            _settings("the new value of a field"),
            click.Option(["--unset"], multiple=True, metavar="NAME", help="take the value of a field away"),
            click.Option(
                ["--if-revision"],
                type=int,
                metavar="N",
                help="only if nobody has changed it since; exit code 4 otherwise",
            ),
        ],
        work,
    )


def _delete(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, **given: Any) -> int:
        from holdfast.cli.record_writing import delete_records

        return delete_records(invocation, noun, cls, **given)

    undo = f" `{noun.name} restore` takes it back." if issubclass(cls, SoftRecord) else ""
    return _command(
        "delete",
        f"Delete {noun.name}: those that are named, or all that fit a filter.{undo}\n\n{_ID}",
        [
            _ids("[ID…]", required=False),
            click.Option(
                ["--where"],
                metavar="QUERY",
                help=f"all that fit this filter (see `{noun.name} list`): shows the count and asks first",
            ),
        ],
        work,
    )


def _restore(noun: Noun, cls: type[Record]) -> Command:
    def work(invocation: Invocation, ids: tuple[str, ...]) -> int:
        from holdfast.cli.record_writing import restore_records

        return restore_records(invocation, cls, ids)

    help = (
        f"Take the deletion of {noun.name} back. An ID is given whole: what is deleted is not looked through."
    )
    return _command("restore", help, [_ids("ID…", required=True)], work)


_VERBS: dict[str, Callable[[Noun, type[Record]], Command]] = {
    "list": _list,
    "show": _show,
    "search": _search,
    "create": _create,
    "update": _update,
    "delete": _delete,
    "restore": _restore,
}

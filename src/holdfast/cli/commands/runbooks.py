"""`holdfast runbooks`: publish workflows for incidents, run them, and see how that went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.incidents import Incident, Severity
from holdfast.records.runbooks import Runbook

if TYPE_CHECKING:
    from holdfast.domain.runbooks import Runbooks
    from holdfast.records.runbooks import RunbookRun
    from holdfast.store.store import Store

T = TypeVar("T")

command = group("runbooks")
_NAME = click.argument("name", metavar="NAME")


def _conditions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make up trigger conditions."""
    severity = click.option(
        "--on-severity",
        "severity",
        type=click.Choice([each.value for each in Severity]),
        help="fits incidents that are at least this severe",
    )
    service = click.option(
        "--on-service", "services", multiple=True, metavar="NAME", help="that affect this service; repeat it"
    )
    tag = click.option("--on-tag", "tags", multiple=True, metavar="TAG", help="that have this tag; repeat it")
    return severity(service(tag(function)))


@command.command()
@_NAME
@click.option("--title", default="", metavar="TEXT", help="what it is for, in a line")
@click.option("--description", metavar="TEXT", help="when and how to use it")
@_conditions
@click.pass_obj
def create(
    invocation: Invocation,
    name: str,
    title: str,
    description: str | None,
    severity: str | None,
    services: tuple[str, ...],
    tags: tuple[str, ...],
) -> None:
    """Make a runbook. It has nothing to run before an edition is published."""
    from holdfast.cli.record_writing import tell

    made = Runbook(
        name=name,
        title=title,
        description=description,
        trigger_conditions=_read_conditions(severity, services, tags),
    )

    async def work(runbooks: Runbooks) -> Runbook:
        return made if invocation.flags.dry_run else await runbooks.create(made)

    tell(invocation, _with_runbooks(invocation, work), f"created as {name}")


@command.command()
@_NAME
@_conditions
@click.pass_obj
def trigger(
    invocation: Invocation,
    name: str,
    severity: str | None,
    services: tuple[str, ...],
    tags: tuple[str, ...],
) -> None:
    """Say which incidents a runbook fits, in place of what was said before; without options none."""
    from holdfast.cli.record_writing import tell

    conditions = _read_conditions(severity, services, tags)

    async def work(runbooks: Runbooks) -> Runbook:
        if invocation.flags.dry_run:
            return await runbooks.get(name)
        return await runbooks.amend(name, trigger_conditions=conditions)

    tell(invocation, _with_runbooks(invocation, work), "fits other incidents now")


@command.command()
@_NAME
@click.pass_obj
def show(invocation: Invocation, name: str) -> None:
    """Show one runbook by its name or its id, with its success rate."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.runbooks import Runbooks
    from holdfast.errors import RecordNotFound
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> Runbook:
        try:
            return await Runbooks(store).get(name)
        except RecordNotFound as unnamed:
            with suppress(RecordNotFound):
                return await look_up(store.repo(Runbook), name)
            raise unnamed from None

    found = with_store(invocation, work)
    invocation.output.record({**printed(found), "success_rate": found.success_rate}, key="name")


@command.command()
@_NAME
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--note", metavar="TEXT", help="what is new")
@click.option("--by", metavar="WHO", help="its author  [default: the user of this process]")
@click.pass_obj
def publish(invocation: Invocation, name: str, file: Any, note: str | None, by: str | None) -> None:
    """Make the workflow in FILE (YAML, - for standard input) the edition of a runbook that runs from now on.

    Editions never change. What says the same as the one that runs is not published again.
    """
    from holdfast.cli.record_writing import tell
    from holdfast.cli.running import user
    from holdfast.domain.runbook_editions import parsed
    from holdfast.records.runbooks import RunbookEdition

    text = file.read()

    async def work(runbooks: Runbooks) -> RunbookEdition:
        if invocation.flags.dry_run:
            known = await runbooks.get(name)
            hash = parsed(text, name).hash
            return RunbookEdition(runbook=known.id, edition=known.edition + 1, definition=text, hash=hash)
        return await runbooks.publish(name, text, author=by or user(), note=note)

    made = _with_runbooks(invocation, work)
    tell(invocation, made, f"runs as edition {made.edition} of {name}")


@command.command()
@_NAME
@click.pass_obj
def editions(invocation: Invocation, name: str) -> None:
    """List the editions of a runbook, the newest first."""
    from holdfast.cli.record_values import printed

    found = _with_runbooks(invocation, lambda runbooks: runbooks.editions(name))
    columns = ["edition", "author", "note", "created_at"]
    invocation.output.records([printed(each) for each in found], columns, key="edition")


@command.command()
@_NAME
@click.argument("old", type=int)
@click.argument("new", type=int, required=False)
@click.pass_obj
def diff(invocation: Invocation, name: str, old: int, new: int | None) -> None:
    """Show what changed from edition OLD to edition NEW, by default to the one that runs."""
    text = _with_runbooks(invocation, lambda runbooks: runbooks.diff(name, old, new))
    if not invocation.output.is_table:
        invocation.output.record({"name": name, "diff": text}, key="name")
    elif text:
        invocation.output.text(text)
    else:
        invocation.say("both editions say the same")


@command.command()
@_NAME
@click.option("--incident", metavar="ID", help="the incident it is run for; its timeline tells of it")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="what the workflow takes")
@click.option("--id", "id_", metavar="ID", help="an id of your own: with it the run is started once")
@click.option("--queue", default="default", show_default=True, help="whose workers carry it out")
@click.option("--by", metavar="WHO", help="who starts it  [default: the user of this process]")
@click.pass_obj
def run(
    invocation: Invocation,
    name: str,
    incident: str | None,
    given: str | None,
    id_: str | None,
    queue: str,
    by: str | None,
) -> None:
    """Leave the published edition of a runbook to workers, and print the id of the run."""
    from holdfast.cli.answers import read_json
    from holdfast.cli.running import user
    from holdfast.errors import InvalidUsage
    from holdfast.store.lookup import look_up

    inputs = read_json(given, invocation, what="input")
    if inputs is not None and not isinstance(inputs, dict):
        raise InvalidUsage("the input is a JSON object", where="--input", fix='write {"name": value}')
    if invocation.load_config(inspect=True).config.storage.type == "memory":
        raise InvalidUsage("no worker sees a store in memory", fix="name another store with --storage")

    async def work(store: Store) -> dict[str, Any]:
        from holdfast.domain.runbooks import Runbooks

        runbooks = Runbooks(store)
        about = None if incident is None else (await look_up(store.repo(Incident), incident)).id
        if invocation.flags.dry_run:
            edition = await runbooks.edition(name)
            return {"runbook": name, "edition": edition.edition, "incident": about, "dry_run": True}
        made = await runbooks.run(
            name, incident=about, inputs=inputs, started_by=by or user(), id=id_, queue=queue
        )
        return _row(made)

    from holdfast.cli.reading import with_store

    row = with_store(invocation, work)
    if invocation.output.is_table and "id" in row:
        invocation.output.text(row["id"])
        invocation.say(
            f"see its end: holdfast executions wait {row['execution']}; then: holdfast runbooks settle"
        )
    else:
        invocation.output.record(row, key="id" if "id" in row else "runbook")


@command.command()
@click.argument("ids", nargs=-1, metavar="[RUN…]")
@click.pass_obj
def settle(invocation: Invocation, ids: tuple[str, ...]) -> None:
    """Write down how runs ended and count them: those that are named, or all that have ended.

    A run that was noted and not started is started. Doing it again changes nothing.
    """

    async def work(runbooks: Runbooks) -> list[RunbookRun]:
        if ids:
            return [await runbooks.settle(id) for id in ids]
        return await runbooks.settle_all()

    _refuse_dry_run(invocation)
    rows = [_row(each) for each in _with_runbooks(invocation, work)]
    invocation.output.records(rows, ["id", "outcome", "finished_at", "incident"])


@command.command()
@_NAME
@click.option("--limit", type=int, default=50, show_default=True, help="at most this many, 1 to 1000")
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def runs(invocation: Invocation, name: str, limit: int, cursor: str | None) -> None:
    """List the runs of a runbook, newest first."""
    from holdfast.cli.reading import with_store
    from holdfast.domain.runbooks import Runbooks
    from holdfast.records.runbooks import RunbookRun
    from holdfast.store.filters import Condition, Query
    from holdfast.store.pages import Page

    async def work(store: Store) -> Page[RunbookRun]:
        runbook, found = await Runbooks(store).get(name), store.repo(RunbookRun)
        asked = Query((Condition(found.mapping.table.column("runbook"), "=", runbook.id),))
        return await found.find(asked, limit=limit, cursor=cursor)

    page = with_store(invocation, work)
    columns = ["id", "edition", "incident", "started_by", "outcome", "created_at"]
    invocation.output.records([_row(each) for each in page.items], columns, next_cursor=page.cursor)
    if invocation.output.is_table and page.cursor:
        invocation.say(f"more: --cursor {page.cursor}")


@command.command("for")
@click.argument("incident", metavar="INCIDENT")
@click.pass_obj
def for_(invocation: Invocation, incident: str) -> None:
    """List the runbooks that fit an incident."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.runbooks import Runbooks
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> list[Runbook]:
        return await Runbooks(store).matching(await look_up(store.repo(Incident), incident))

    found = with_store(invocation, work)
    rows = [{**printed(each), "success_rate": each.success_rate} for each in found]
    invocation.output.records(rows, ["name", "title", "execution_count", "success_rate"], key="name")


def _with_runbooks(invocation: Invocation, work: Callable[[Runbooks], Awaitable[T]]) -> T:
    from holdfast.cli.reading import with_store
    from holdfast.domain.runbooks import Runbooks

    return with_store(invocation, lambda store: work(Runbooks(store)))


def _read_conditions(
    severity: str | None, services: tuple[str, ...], tags: tuple[str, ...]
) -> dict[str, Any]:
    given: dict[str, Any] = {"severity": severity, "services": list(services), "tags": list(tags)}
    return {key: value for key, value in given.items() if value}


def _row(run: RunbookRun) -> dict[str, Any]:
    from holdfast.cli.record_values import printed

    return printed(run)


def _refuse_dry_run(invocation: Invocation) -> None:
    from holdfast.errors import InvalidUsage

    if invocation.flags.dry_run:
        raise InvalidUsage(
            "nothing is known of an end before it is looked for", where="--dry-run", fix="leave it out"
        )

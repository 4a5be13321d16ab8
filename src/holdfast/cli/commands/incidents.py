"""`holdfast incidents`: open them, work on them, and read what happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.incidents import Incident, Severity

if TYPE_CHECKING:
    from holdfast.domain.incidents import Incidents
    from holdfast.store.store import Store

command = group("incidents")
_SEVERITIES = click.Choice([severity.value for severity in Severity])
_ID = click.argument("id_", metavar="ID")


def _said(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every verb: who does it, and a remark for the timeline."""
    by = click.option("--by", metavar="WHO", help="who does this  [default: the user of this process]")
    text = click.option("--text", default="", metavar="TEXT", help="a remark for the timeline")
    return by(text(function))


@command.command("open")
@click.argument("title")
@click.option(
    "--severity", type=_SEVERITIES, default=Severity.MEDIUM.value, show_default=True, help="how bad it is"
)
@click.option("--description", metavar="TEXT", help="what is known so far")
@click.option("--blast-radius", metavar="TEXT", help="whom it reaches")
@click.option("--service", "services", multiple=True, metavar="NAME", help="an affected service; repeat it")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="a tag; repeat it")
@click.option("--assignee", metavar="WHO", help="who works on it")
@click.option("--id", "id_", metavar="ID", help="an id of your own")
@_said
@click.pass_obj
def open_(invocation: Invocation, /, title: str, by: str | None, text: str, **given: Any) -> None:
    """Open an incident, and print its id. It is detected now."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.domain.incidents import Incidents

    id_ = given.pop("id_")
    incident = Incident(
        title=title,
        severity=Severity(given.pop("severity")),
        affected_services=given.pop("services"),
        **given,
        **({} if id_ is None else {"id": id_}),
    )

    async def work(store: Store) -> Incident:
        if invocation.flags.dry_run:
            return incident
        return await Incidents(store).open(incident, by=_who(by), text=text)

    tell(invocation, with_store(invocation, work), "opened")


@command.command()
@_ID
@_said
@click.pass_obj
def acknowledge(invocation: Invocation, id_: str, by: str | None, text: str) -> None:
    """Take an open incident. Exit code 4 if somebody was faster."""
    _change(
        invocation,
        id_,
        "acknowledge",
        lambda incidents, id: incidents.acknowledge(id, by=_who(by), text=text),
        "acknowledged",
    )


@command.command()
@_ID
@click.argument("assignee", metavar="[WHO]", required=False)
@_said
@click.pass_obj
def assign(invocation: Invocation, id_: str, assignee: str | None, by: str | None, text: str) -> None:
    """Give an incident to somebody, or without WHO to nobody."""
    _change(
        invocation,
        id_,
        "assign",
        lambda incidents, id: incidents.assign(id, assignee, by=_who(by), text=text),
        f"assigned to {assignee or 'nobody'}",
    )


@command.command()
@_ID
@click.option("--remediation", metavar="TEXT", help="what was done")
@_said
@click.pass_obj
def mitigate(invocation: Invocation, id_: str, remediation: str | None, by: str | None, text: str) -> None:
    """Say that users do not feel an incident any more."""
    _change(
        invocation,
        id_,
        "mitigate",
        lambda incidents, id: incidents.mitigate(id, by=_who(by), text=text, remediation=remediation),
        "mitigated",
    )


@command.command()
@_ID
@click.option("--root-cause", metavar="TEXT", help="what it came from")
@click.option("--remediation", metavar="TEXT", help="what was done")
@_said
@click.pass_obj
def resolve(
    invocation: Invocation,
    id_: str,
    root_cause: str | None,
    remediation: str | None,
    by: str | None,
    text: str,
) -> None:
    """Say that the cause of an incident is gone."""
    _change(
        invocation,
        id_,
        "resolve",
        lambda incidents, id: incidents.resolve(
            id, by=_who(by), text=text, root_cause=root_cause, remediation=remediation
        ),
        "resolved",
    )


@command.command()
@_ID
@_said
@click.pass_obj
def close(invocation: Invocation, id_: str, by: str | None, text: str) -> None:
    """Close a resolved incident: nothing more is to be done. Notes are still taken."""
    _change(
        invocation, id_, "close", lambda incidents, id: incidents.close(id, by=_who(by), text=text), "closed"
    )


@command.command()
@_ID
@_said
@click.pass_obj
def reopen(invocation: Invocation, id_: str, by: str | None, text: str) -> None:
    """Open an incident again that was mitigated, resolved or closed."""
    _change(
        invocation,
        id_,
        "reopen",
        lambda incidents, id: incidents.reopen(id, by=_who(by), text=text),
        "reopened",
    )


@command.command("raise-severity")
@_ID
@click.argument("severity", type=_SEVERITIES)
@_said
@click.pass_obj
def raise_severity(invocation: Invocation, id_: str, severity: str, by: str | None, text: str) -> None:
    """Make an incident more severe. Exit code 4 if it is as severe already."""
    _change(
        invocation,
        id_,
        "raise_severity",
        lambda incidents, id: incidents.raise_severity(id, Severity(severity), by=_who(by), text=text),
        f"made {severity}",
    )


@command.command()
@_ID
@click.option("--service", "services", multiple=True, metavar="NAME", help="an affected service; repeat it")
@click.option("--blast-radius", metavar="TEXT", help="whom it reaches")
@_said
@click.pass_obj
def rescope(
    invocation: Invocation,
    id_: str,
    services: tuple[str, ...],
    blast_radius: str | None,
    by: str | None,
    text: str,
) -> None:
    """Say what an incident reaches now: all of the affected services, the blast radius, or both."""
    _change(
        invocation,
        id_,
        "rescope",
        lambda incidents, id: incidents.rescope(
            id, by=_who(by), text=text, services=services or None, blast_radius=blast_radius
        ),
        "rescoped",
    )


@command.command()
@_ID
@click.argument("text")
@click.option("--by", metavar="WHO", help="who says this  [default: the user of this process]")
@click.pass_obj
def note(invocation: Invocation, id_: str, text: str, by: str | None) -> None:
    """Write a line into the timeline of an incident, whatever its status."""
    _change(invocation, id_, "note", lambda incidents, id: incidents.note(id, text, by=_who(by)), "noted")


@command.command()
@_ID
@click.option("--limit", type=int, default=100, show_default=True, help="at most this many, 1 to 1000")
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def timeline(invocation: Invocation, id_: str, limit: int, cursor: str | None) -> None:
    """Show what happened to an incident, in order."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.incidents import Incidents
    from holdfast.records.incidents import TimelineEntry
    from holdfast.store.lookup import look_up
    from holdfast.store.pages import Page

    async def work(store: Store) -> Page[TimelineEntry]:
        incident = await look_up(store.repo(Incident), id_)
        return await Incidents(store).timeline(incident.id, limit=limit, cursor=cursor)

    page = with_store(invocation, work)
    rows = [printed(each) for each in page.items]
    invocation.output.records(
        rows, ["seq", "at", "kind", "actor", "text"], key="seq", next_cursor=page.cursor
    )
    if invocation.output.is_table and page.cursor:
        invocation.say(f"more: --cursor {page.cursor}")


def _change(
    invocation: Invocation,
    given: str,
    verb: str,
    act: Callable[[Incidents, str], Awaitable[Any]],
    done: str,
) -> None:
    """Carry out a verb on the incident that is named, and print it; with --dry-run only check its status."""
    from datetime import UTC, datetime

    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.domain.incidents import Incidents, Verb, advanced
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> Incident:
        incident = await look_up(store.repo(Incident), given)
        if invocation.flags.dry_run:
            return advanced(incident, Verb(verb), datetime.now(UTC))
        await act(Incidents(store), incident.id)
        return await store.repo(Incident).get(incident.id)

    tell(invocation, with_store(invocation, work), done)


def _who(by: str | None) -> str:
    from holdfast.cli.running import user

    return by or user() or "unknown"

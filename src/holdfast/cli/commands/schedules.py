"""`holdfast schedules`: when workflows are to be started by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group
from holdfast.records.schedules import CatchUp, Overlap, Schedule

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.records.schedules import ScheduleFiring
    from holdfast.store.store import Store

command = group("schedules")
_CATCH_UPS = click.Choice([each.value for each in CatchUp])
_OVERLAPS = click.Choice([each.value for each in Overlap])
_OPTIONS = (
    click.option("--tz", "zone", metavar="ZONE", help="like Europe/Berlin  [scheduler.timezone: UTC]"),
    click.option("--input", "given", metavar="JSON|@FILE|-", help="the input as a JSON object"),
    click.option(
        "--catch-up",
        type=_CATCH_UPS,
        help="what is done about times that were missed  [scheduler.catch_up: latest]",
    ),
    click.option("--catch-up-max", type=int, metavar="N", help="with --catch-up all: so many at most  [100]"),
    click.option("--overlap", type=_OVERLAPS, help="what is done while the one before has not ended  [skip]"),
    click.option(
        "--jitter",
        metavar="DURATION",
        help="start up to so long after the time, always the same for one time",
    ),
    click.option("--start", "starts_at", metavar="TIME", help="no time before this one"),
    click.option("--end", "ends_at", metavar="TIME", help="no time behind this one"),
    click.option("--queue", metavar="Q", help="whose workers run it  [default]"),
    click.option("--description", metavar="TEXT", help="what it is for"),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="may be given several times"),
)


def _described(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@command.command()
@click.argument("id_", metavar="ID")
@click.argument("workflow", metavar="NAME[@VERSION]")
@click.option(
    "--cron", required=True, metavar="TEXT", help="five fields, like '0 2 * * 1-5', @daily or 'every 6h'"
)
@_described
@click.pass_obj
def create(invocation: Invocation, /, id_: str, workflow: str, **options: Any) -> None:
    """Store a schedule. A scheduler starts what it says from now on: `holdfast scheduler`, or any worker.

    Without a version it means what the bare name means when it is time.
    """
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.cli.scheduling import settings_of
    from holdfast.domain.schedules import Schedules, check
    from holdfast.scheduling.maintenance import check_workflow

    settings = invocation.load_config().config.scheduler
    usual = {"zone": settings.timezone, "catch_up": CatchUp(settings.catch_up)}
    name, _, version = workflow.partition("@")
    wanted = Schedule(
        id=id_, workflow=name, version=version or None, **{**usual, **settings_of(invocation, options)}
    )
    check(wanted)
    check_workflow(wanted.workflow)

    async def work(store: Store) -> Schedule:
        return await Schedules(store).create(wanted)

    made = wanted if invocation.flags.dry_run else with_store(invocation, work, migrate=True)
    tell(invocation, made, "created")


@command.command()
@click.argument("id_", metavar="ID")
@click.option("--workflow", metavar="NAME[@VERSION]", help="what it starts")
@click.option("--cron", metavar="TEXT", help="five fields, like '0 2 * * 1-5', @daily or 'every 6h'")
@_described
@click.pass_obj
def update(invocation: Invocation, /, id_: str, workflow: str | None, **options: Any) -> None:
    """Change what is given of a schedule; its next time is found anew, and schedulers act on it at once."""
    from dataclasses import replace

    from holdfast.cli.reading import with_store
    from holdfast.cli.record_writing import tell
    from holdfast.cli.scheduling import settings_of
    from holdfast.domain.schedules import Schedules, check
    from holdfast.errors import InvalidUsage
    from holdfast.scheduling.maintenance import check_workflow
    from holdfast.store.lookup import look_up

    changes = settings_of(invocation, options)
    if workflow is not None:
        name, _, version = workflow.partition("@")
        check_workflow(name)
        changes |= {"workflow": name, "version": version or None}
    if not changes:
        raise InvalidUsage(
            "nothing is to be changed", where="update", fix="add --cron, --tz or another option"
        )

    async def work(store: Store) -> Schedule:
        known = await look_up(store.repo(Schedule), id_)
        check(replace(known, **changes))
        if invocation.flags.dry_run:
            return replace(known, **changes)
        return await Schedules(store).change(known.id, **changes)

    tell(invocation, with_store(invocation, work), "updated")


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def pause(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Have schedules start nothing until they are resumed."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.schedules import Schedules

    return change_each(invocation, Schedule, ids, lambda store, id: Schedules(store).pause(id), "paused")


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def resume(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Take the pause of schedules back; times that passed meanwhile are left out."""
    from holdfast.cli.record_writing import change_each
    from holdfast.domain.schedules import Schedules

    return change_each(invocation, Schedule, ids, lambda store, id: Schedules(store).resume(id), "resumed")


@command.command()
@click.argument("id_", metavar="ID")
@click.pass_obj
def trigger(invocation: Invocation, id_: str) -> None:
    """Start what a schedule is for once, now, whatever runs of it; its own times stay as they are."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.cli.running import user
    from holdfast.domain.schedules import Schedules
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> tuple[str, ScheduleFiring | None]:
        known = await look_up(store.repo(Schedule), id_)
        if invocation.flags.dry_run:
            return known.id, None
        return known.id, await Schedules(store).trigger(known.id, by=user())

    id, firing = with_store(invocation, work)
    output = invocation.output
    if firing is None:
        if output.is_table:
            output.text(f"{id} would be triggered")
        else:
            output.record({"id": id, "dry_run": True})
    elif output.is_table:
        output.text(firing.execution or f"{id} triggered")
    else:
        output.record(printed(firing), key="execution" if firing.execution else "id")


@command.command("next")
@click.argument("id_", metavar="ID")
@click.option("-n", "count", type=int, default=5, show_default=True, help="so many times")
@click.pass_obj
def next_(invocation: Invocation, id_: str, count: int) -> None:
    """Show the next times of a schedule, and what its text means; of a paused one those it would have."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.scheduling import show_next
    from holdfast.domain.schedules import Schedules
    from holdfast.store.lookup import look_up

    async def work(store: Store) -> tuple[Schedule, list[datetime]]:
        known = await look_up(store.repo(Schedule), id_)
        return known, await Schedules(store).next(known.id, count)

    show_next(invocation, *with_store(invocation, work))


@command.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--limit", type=int, default=50, show_default=True, help="at most this many, 1 to 1000")
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def firings(invocation: Invocation, id_: str | None, limit: int, cursor: str | None) -> None:
    """List what became of the times that came, the newest first: of one schedule, or of all."""
    from holdfast.cli.catalogue import Noun
    from holdfast.cli.record_reading import Listing, list_records
    from holdfast.records.schedules import ScheduleFiring

    columns = ("schedule", "nominal_at", "cause", "state", "execution", "reason")
    noun = Noun("firings", "holdfast.records.schedules:ScheduleFiring", "", columns=columns)
    listing = Listing(sort="-created_at", limit=limit, cursor=cursor, every=False, count="none")
    query = () if id_ is None else (f"schedule:{id_}",)
    list_records(invocation, noun, ScheduleFiring, query, listing)

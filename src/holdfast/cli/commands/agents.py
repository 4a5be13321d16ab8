"""`holdfast agents`: who is registered to carry out tasks, who is alive, and how much each has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import TakesQuery
from holdfast.cli.records import group

if TYPE_CHECKING:
    from holdfast.domain.agents import AgentState
    from holdfast.store.pages import Page
    from holdfast.store.store import Store

command = group("agents")


@command.command(cls=TakesQuery)
@click.argument("query", nargs=-1, metavar="[QUERY…]")
@click.option("--limit", type=int, default=50, show_default=True, help="at most this many, 1 to 1000")
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def find(invocation: Invocation, query: tuple[str, ...], limit: int, cursor: str | None) -> None:
    """Find agents, such as `capability:research status:idle`, and tell how each stands.

    An agent that gave no sign of life for 45 seconds, or is offline, is not alive. Its load is the number of
    tasks that it has claimed. QUERY is as for `agents list`.
    """
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.agents import Agents

    async def read(store: Store) -> Page[AgentState]:
        return await Agents(store).find(query, limit=limit, cursor=cursor)

    found = with_store(invocation, read)
    rows: list[dict[str, Any]] = [
        {**printed(each.agent), "is_alive": each.is_alive, "load": each.load} for each in found.items
    ]
    columns = ["id", "status", "is_alive", "load", "capabilities", "heartbeat_at"]
    invocation.output.records(rows, columns, next_cursor=found.cursor)
    if found.cursor and invocation.output.is_table:
        invocation.say(f"more: --cursor {found.cursor}")

"""Agents as they are registered: who is there, what each can do, and how much it has to do.

An agent that runs as `holdfast.Agent` registers and gives its signs of life by itself; others do so here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from holdfast.errors import AgentNotFound
from holdfast.fleet.agents import BEAT_S, check_facts
from holdfast.records.declare import table_of
from holdfast.records.tasks import AgentRecord, AgentStatus
from holdfast.store import codec
from holdfast.store.filters import Condition, Query
from holdfast.store.pages import Page
from holdfast.store.query import LIMIT_MAX, bound_list
from holdfast.store.store import Store

SILENCE = timedelta(seconds=3 * BEAT_S)
"""An agent that has missed three signs of life is taken for gone."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """An agent as it stands: whether it gives signs of life, and how many tasks it has now."""

    agent: AgentRecord
    is_alive: bool
    load: int


class Agents:
    """The agents of a store's tenant. `silence` is how long one may be silent and still count as alive."""

    def __init__(self, store: Store, *, silence: timedelta = SILENCE) -> None:
        self._store = store
        self._silence_us = silence // _MICROSECOND

    async def register(
        self,
        id: str,
        *,
        capabilities: Sequence[str],
        role: str | None = None,
        type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AgentRecord:
        """Register an agent, or replace what is known of it; it is idle and has given a sign of life."""
        check_facts(id, capabilities, role, type)
        await self._store.driver.fetch(
            "agents.register",
            self._store.tenant, id, role, type, json.dumps(list(capabilities), ensure_ascii=False),
            codec.to_json(dict(metadata or {}), what="metadata"),
        )  # fmt: skip
        return await self._record(id)

    async def heartbeat(self, id: str, status: AgentStatus = AgentStatus.IDLE) -> None:
        """Give a sign of life by the database's clock, and say what it does. Raises `AgentNotFound`."""
        if not await self._store.driver.fetch("agents.beat", self._store.tenant, id, AgentStatus(status)):
            raise AgentNotFound(f"no agent {id!r} has registered", id=id)

    async def get(self, id: str) -> AgentState:
        """One agent as it stands. Raises `AgentNotFound`."""
        (state,) = await self._states([await self._record(id)])
        return state

    async def find(self, query: str | Sequence[str] | Query = "", **page: Any) -> Page[AgentState]:
        """A page of the agents that fit a query, such as `capability:research status:idle`.

        `page` is as for `Repository.find`.
        """
        found = await self._store.repo(AgentRecord).find(query, **page)
        return Page(await self._states(found.items), found.cursor)

    async def able(self, capability: str, *, limit: int = 50) -> list[AgentState]:
        """The living agents that have a capability, those with the least to do first.

        At most 1,000 agents that have it and are not offline are looked at.
        """
        columns = table_of(AgentRecord)
        asked = Query((
            Condition(columns.column("capabilities"), "contains", capability),
            Condition(columns.column("status"), "<>", AgentStatus.OFFLINE),
        ))  # fmt: skip
        found = await self._store.repo(AgentRecord).find(asked, sort="id", limit=LIMIT_MAX)
        alive = [state for state in await self._states(found.items) if state.is_alive]
        return sorted(alive, key=lambda state: state.load)[:limit]

    async def _record(self, id: str) -> AgentRecord:
        found = await self._store.repo(AgentRecord).find_by_id(id)
        if found is None:
            raise AgentNotFound(f"no agent {id!r} has registered", id=id)
        return found

    async def _states(self, agents: Sequence[AgentRecord]) -> list[AgentState]:
        if not agents:
            return []
        driver = self._store.driver
        asked = bound_list(driver.dialect, [each.id for each in agents])
        rows = await driver.fetch("agents.vitals", self._store.tenant, asked, self._silence_us)
        vitals = {row[0]: (bool(row[1]), int(row[2])) for row in rows}
        told = ((each, *vitals.get(each.id, (False, 0))) for each in agents)
        return [AgentState(agent=each, is_alive=alive, load=load) for each, alive, load in told]

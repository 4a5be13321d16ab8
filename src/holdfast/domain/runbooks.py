"""Runbooks: workflows kept for incidents, in editions that never change, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.domain.runbook_editions import edition_of, locked, parsed, unpublished
from holdfast.domain.runbook_runs import Runs, execution_id
from holdfast.domain.runbook_triggers import check_conditions, fits
from holdfast.domain.timeline import check_name
from holdfast.errors import ConstraintViolated, InvalidArgument, RecordExists, RecordNotFound
from holdfast.records.incidents import Incident
from holdfast.records.keys import new_id
from holdfast.records.runbooks import Runbook, RunbookEdition, RunbookRun
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.store import Store

NAME_BYTES_MAX = 200
QUEUE = "default"


class Runbooks:
    """The runbooks of a store's tenant. Reading by query, page and search: `store.repo(Runbook)`.

    Runbooks are named by their names; every verb raises `RecordNotFound` for one that there is not.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # What there is.

    async def create(self, runbook: Runbook) -> Runbook:
        """Store a new runbook, without an edition yet.

        Raises `RecordExists` when its name or id is taken, `InvalidArgument`.
        """
        check_name(runbook.name, "name of a runbook", bytes_max=NAME_BYTES_MAX)
        check_conditions(runbook.trigger_conditions)
        if runbook.edition or runbook.execution_count or runbook.success_count:
            raise InvalidArgument("a new runbook has no edition and was never run", where=runbook.name)
        try:
            return await self._store.repo(Runbook).create(runbook)
        except ConstraintViolated as error:
            if await self._find(runbook.name) is None:
                raise
            raise RecordExists(f"there is a runbook {runbook.name!r} already", id=runbook.name) from error

    async def get(self, name: str) -> Runbook:
        """The runbook of this name."""
        id = await self._find(name)
        if id is None:
            raise RecordNotFound(f"there is no runbook {name!r}", id=name)
        return await self._store.repo(Runbook).get(id)

    async def amend(
        self,
        name: str,
        *,
        title: str | None = None,
        description: str | None = None,
        trigger_conditions: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Runbook:
        """Change what is said about a runbook; None leaves it as it is. Raises `InvalidArgument`."""
        if trigger_conditions is not None:
            check_conditions(trigger_conditions)
        id = (await self.get(name)).id

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> Runbook:
            runbooks = self._store.repo(Runbook, within=transaction)
            known = await runbooks.get_locked(id)
            given: dict[str, Any] = {
                "title": title,
                "description": description,
                "trigger_conditions": None if trigger_conditions is None else dict(trigger_conditions),
                "tags": None if tags is None else tuple(tags),
            }
            changed = {key: value for key, value in given.items() if value is not None}
            return await runbooks.update(replace(known, **changed))

        return await run()

    async def matching(self, incident: Incident) -> list[Runbook]:
        """The runbooks whose trigger conditions an incident fits and that can be run, by name."""
        found = [
            each
            async for each in self._store.repo(Runbook).stream()
            if each.edition and fits(each.trigger_conditions, incident)
        ]
        return sorted(found, key=lambda each: each.name)

    # Editions.

    async def publish(
        self, name: str, definition: str, *, author: str | None = None, note: str | None = None
    ) -> RunbookEdition:
        """Make a workflow definition, YAML text, the edition that runs from now on.

        What says the same as the edition that runs already is not published again: that edition is returned.
        Paths in it are absolute, since a runbook has no folder. Raises `InvalidDefinition`.
        """
        read = parsed(definition, name)
        if author is not None:
            check_name(author, "author")
        id = (await self.get(name)).id

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> RunbookEdition:
            number = await locked(self._store, transaction, id, name)
            editions = self._store.repo(RunbookEdition, within=transaction, unsealed=True)
            if number:
                current = await edition_of(self._store, id, name, number, within=transaction)
                if current.hash == read.hash:
                    return current
            made = await editions.create(
                RunbookEdition(
                    runbook=id,
                    edition=number + 1,
                    definition=definition,
                    hash=read.hash,
                    author=author,
                    note=note,
                )
            )
            await transaction.fetch("runbooks.publish", self._store.tenant, id, number + 1)
            return made

        return await run()

    async def edition(self, name: str, number: int | None = None) -> RunbookEdition:
        """One edition, by default the one that runs. Raises `NoEdition` when there is none."""
        runbook = await self.get(name)
        wanted = runbook.edition if number is None else number
        if not wanted:
            raise unpublished(name)
        return await edition_of(self._store, runbook.id, name, wanted)

    async def editions(self, name: str) -> list[RunbookEdition]:
        """All editions, the newest first."""
        runbook = await self.get(name)
        found = await self._store.repo(RunbookEdition).get_by("runbook", [runbook.id], sort="-edition")
        return found[runbook.id]

    async def diff(self, name: str, old: int, new: int | None = None) -> str:
        """What changed from one edition to another (by default the one that runs), as a unified diff."""
        from holdfast.workflows.definition import diff

        first, second = await self.edition(name, old), await self.edition(name, new)
        return diff(parsed(first.definition, name), parsed(second.definition, name))

    # Runs.

    async def run(
        self,
        name: str,
        *,
        incident: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        started_by: str | None = None,
        id: str | None = None,
        queue: str = QUEUE,
    ) -> RunbookRun:
        """Start the edition that runs as an execution in `queue`; both are on disk when this returns.

        With an `id` it is started once however often this is called: the first call decides edition and
        queue. An incident's timeline tells of it. Raises `NoEdition`, `InvalidInput`, `RecordExists` when
        the id is that of another runbook, incident or input, and `RecordNotFound` for the incident.
        """
        id = new_id() if id is None else id
        check_name(id, "id")
        check_name(queue, "queue")
        if started_by is not None:
            check_name(started_by, "starter")
        runbook = await self.get(name)
        wanted = RunbookRun(
            id=id,
            runbook=runbook.id,
            edition=runbook.edition,
            execution=execution_id(id),
            queue=queue,
            incident=incident,
            started_by=started_by,
            inputs=dict(inputs or {}),
        )
        runs = Runs(self._store)
        return await runs.start(await runs.note(wanted, name))

    async def settle(self, run: str) -> RunbookRun:
        """Write down how a run ended, if it has, and count it; a run that was never started is started.

        Calling it again changes nothing. Raises `RecordNotFound`.
        """
        return await Runs(self._store).settle(run)

    async def settle_all(self) -> list[RunbookRun]:
        """Settle every run that is not yet; those that have ended now."""
        return await Runs(self._store).settle_all()

    async def _find(self, name: str) -> str | None:
        rows = await self._store.driver.fetch("runbooks.find", self._store.tenant, name)
        return rows[0][0] if rows else None

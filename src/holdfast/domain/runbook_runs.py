"""Runs of runbooks: each is a row here and an ordinary execution.

The row is first, the id of the execution is made of the run's, and starting an execution twice by one id
starts it once; so whatever stops between the two, the next `run` with the same id or `settle` does the rest.
The figures of a runbook move in the transaction that writes down how a run ended, under the runbook's lock,
and so exactly once.

Locks are taken in one order: the runbook, the run, the incident.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Any

from holdfast.domain.clock import present
from holdfast.domain.runbook_editions import edition_of, locked, parsed, unpublished
from holdfast.domain.timeline import Timeline
from holdfast.errors import RecordExists, RecordNotFound
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.records.incidents import Incident, TimelineKind
from holdfast.records.runbooks import RunbookRun, RunOutcome
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.store import Store

_ID_BYTES_MAX = 255
_OUTCOMES = {
    ExecutionStatus.COMPLETED: RunOutcome.COMPLETED,
    ExecutionStatus.FAILED: RunOutcome.FAILED,
    ExecutionStatus.CANCELLED: RunOutcome.CANCELLED,
}
_UNSET = "-has:outcome"


def execution_id(run: str) -> str:
    """The id of the execution of a run: the same whenever it is asked for."""
    plain = f"runbook-{run}"
    if len(plain.encode()) <= _ID_BYTES_MAX:
        return plain
    return f"runbook-{hashlib.blake2b(run.encode(), digest_size=16).hexdigest()}"


class Runs:
    """The runs of the runbooks of a store's tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settle(self, id: str) -> RunbookRun:
        """Write down how a run ended, if it has, and count it; a run that was never started is started.

        Calling it again changes nothing. Raises `RecordNotFound`.
        """
        run = await self._store.repo(RunbookRun).get(id)
        if run.outcome is not None:
            return run
        execution = await self._store.find_execution(run.execution)
        if execution is None:
            if run.started_at is None:
                return await self.start(run)
            return await self._ended(run, RunOutcome.LOST, None)
        if execution.status.is_final:
            return await self._ended(run, _OUTCOMES[execution.status], execution)
        return run if run.started_at is not None else await self._mark_started(run)

    async def settle_all(self) -> list[RunbookRun]:
        """Settle every run that is not yet; those that have ended now."""
        runs = [run.id async for run in self._store.repo(RunbookRun).stream(_UNSET)]
        settled = [await self.settle(id) for id in runs]
        return [run for run in settled if run.outcome is not None]

    async def note(self, wanted: RunbookRun, name: str) -> RunbookRun:
        """The run's row, made now or by an earlier call with this id."""

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> RunbookRun:
            number = await locked(self._store, transaction, wanted.runbook, name)
            runs = self._store.repo(RunbookRun, within=transaction, unsealed=True)
            known = await runs.find_by_id(wanted.id)
            if known is not None:
                await self._check_same(known, wanted, name, transaction)
                return known
            if not number:
                raise unpublished(name)
            edition = await edition_of(self._store, wanted.runbook, name, number, within=transaction)
            checked = parsed(edition.definition, name).check_input(wanted.inputs)
            made = await runs.create(replace(wanted, edition=number, inputs=checked))
            told = {"runbook": name, "edition": number, "run": made.id, "execution": made.execution}
            await self._tell(transaction, made, made.started_by or "system", f"{name} was started", told)
            return made

        return await run()

    async def _check_same(
        self, known: RunbookRun, wanted: RunbookRun, name: str, transaction: Transaction
    ) -> None:
        """Refuse an id that stands for another run."""
        same = (known.runbook, known.incident) == (wanted.runbook, wanted.incident)
        if same:
            edition = await edition_of(self._store, known.runbook, name, known.edition, within=transaction)
            same = known.inputs == parsed(edition.definition, name).check_input(wanted.inputs)
        if not same:
            raise RecordExists(
                f"run {known.id!r} was started with another runbook, incident or input",
                id=known.id,
                fix="leave the id out, or choose another one",
            )

    async def start(self, run: RunbookRun) -> RunbookRun:
        """The run with an execution that is there, started now or before."""
        from holdfast.fleet.launcher import Launcher
        from holdfast.fleet.starts import Origin
        from holdfast.programs import find_program, load_program, yaml_program
        from holdfast.store import codec

        if run.started_at is not None:
            return run
        edition = await edition_of(self._store, run.runbook, run.runbook, run.edition)
        program = yaml_program(parsed(edition.definition, run.runbook))
        launcher = Launcher(
            self._store,
            load=load_program,
            find=lambda name, version, asking: find_program(self._store, name, version, asking),
        )
        origin = Origin(
            id=run.execution, queue=run.queue, trigger="runbook", started_by=run.started_by, tags=("runbook",)
        )
        await launcher.enqueue(program, codec.encode(run.inputs, what="inputs"), origin)
        return await self._mark_started(run)

    async def _mark_started(self, run: RunbookRun) -> RunbookRun:
        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def mark(transaction: Transaction) -> RunbookRun:
            runs = self._store.repo(RunbookRun, within=transaction, unsealed=True)
            known = await runs.get_locked(run.id)
            if known.started_at is not None:
                return known
            return await runs.update(replace(known, started_at=await present(transaction)))

        return await mark()

    async def _ended(self, run: RunbookRun, outcome: RunOutcome, execution: Execution | None) -> RunbookRun:
        """Write down the end, once: whoever comes second finds it written."""

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def end(transaction: Transaction) -> RunbookRun:
            await transaction.fetch("runbooks.lock", self._store.tenant, run.runbook)
            runs = self._store.repo(RunbookRun, within=transaction, unsealed=True)
            known = await runs.get_locked(run.id)
            if known.outcome is not None:
                return known
            finished, began = await _times(transaction, execution)
            made = await runs.update(
                replace(known, started_at=known.started_at or began, outcome=outcome, finished_at=finished)
            )
            if outcome is not RunOutcome.LOST:
                success = int(outcome is RunOutcome.COMPLETED)
                await transaction.fetch("runbooks.count", self._store.tenant, run.runbook, run.id, success)
            told = {"run": run.id, "execution": run.execution, "outcome": str(outcome)}
            await self._tell(transaction, made, "system", f"the runbook ended: {outcome}", told)
            return made

        return await end()

    async def _tell(
        self, transaction: Transaction, run: RunbookRun, actor: str, text: str, told: dict[str, Any]
    ) -> None:
        """Write a line into the timeline of the run's incident."""
        if run.incident is None:
            return
        incidents = self._store.repo(Incident, within=transaction)
        try:
            await incidents.get_locked(run.incident)
        except RecordNotFound:
            if run.outcome is None:
                raise
            return  # the incident was deleted while its runbook ran
        timeline = await Timeline.of(self._store, transaction, run.incident)
        await timeline.add(TimelineKind.RUNBOOK, actor, text, told)


async def _times(transaction: Transaction, execution: Execution | None) -> tuple[datetime, datetime]:
    """When a run ended and, if nobody has noted it, when it began."""
    if execution is None or execution.finished_at is None:
        now = await present(transaction)
        return now, now
    return execution.finished_at, execution.created_at

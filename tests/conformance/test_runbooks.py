"""Runbooks: editions, runs as executions, figures that count once, and which incidents they fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from holdfast.domain.incidents import Incidents
from holdfast.domain.runbook_runs import Runs, execution_id
from holdfast.domain.runbook_triggers import check_conditions, fits
from holdfast.domain.runbooks import Runbooks
from holdfast.errors import (
    ConstraintViolated,
    InvalidArgument,
    InvalidDefinition,
    InvalidInput,
    NoEdition,
    RecordExists,
    RecordNotFound,
    SealedRecord,
    StoreUnavailable,
)
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.ownership import Registration
from holdfast.orchestrator import Orchestrator
from holdfast.records.executions import ExecutionStatus
from holdfast.records.incidents import Incident, Severity
from holdfast.records.runbooks import Runbook, RunbookEdition, RunbookRun, RunOutcome
from holdfast.store.store import Store
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

FIRST = """\
# restarts one service
name: restart
inputs:
  properties:
    service: {type: string}
    hard: {type: boolean, default: false}
  required: [service]
steps:
  - id: say
    shell: [echo, restarting, "${{ inputs.service }}"]
"""
SECOND = FIRST.replace("restarting", "stopping")
BROKEN = "name: broken\nsteps:\n  - id: no\n    shell: exit 3\n"


@asynccontextmanager
async def published(url: str, text: str = FIRST) -> AsyncIterator[tuple[Store, Runbooks]]:
    async with opened(url) as store:
        runbooks = Runbooks(store)
        await runbooks.create(Runbook(name="restart", title="Restart a service"))
        await runbooks.publish("restart", text, author="ana", note="first")
        yield store, runbooks


async def finish(store: Store, run: RunbookRun) -> None:
    """Run what waits in the queue to its end, here."""
    async with Orchestrator(store) as orchestrator:
        running = await orchestrator.resume(run.execution)
        await running.task


async def test_editions_never_change_and_the_newest_runs(store_url: str) -> None:
    async with published(store_url) as (store, runbooks):
        same = await runbooks.publish("restart", FIRST + "\n# only a comment\n", author="eve")
        assert (same.edition, same.author) == (1, "ana")
        second = await runbooks.publish("restart", SECOND, note="less hope")
        assert (second.edition, second.author, second.note) == (2, None, "less hope")
        assert (await runbooks.get("restart")).edition == 2
        assert (await runbooks.edition("restart")).definition == SECOND
        assert (await runbooks.edition("restart", 1)).definition == FIRST
        assert [each.edition for each in await runbooks.editions("restart")] == [2, 1]
        difference = await runbooks.diff("restart", 1)
        assert "-  - restarting" in difference
        assert "+  - stopping" in difference
        assert await runbooks.diff("restart", 2, 2) == ""
        with pytest.raises(RecordNotFound, match="no edition 3"):
            await runbooks.diff("restart", 1, 3)

        with pytest.raises(SealedRecord):
            await store.repo(RunbookEdition).update(second)
        with pytest.raises(ConstraintViolated):
            async with store.transaction() as transaction:
                table = store.repo(RunbookEdition).mapping.dialect.table("runbook_versions")
                await transaction.fetch_text(f"UPDATE {table} SET definition = 'x'")
        assert (await runbooks.edition("restart", 1)).definition == FIRST


async def test_what_is_no_runbook_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        runbooks = Runbooks(store)
        await runbooks.create(Runbook(name="empty"))
        for bad in (
            Runbook(name=""),
            Runbook(name=" x"),
            Runbook(name="ä" * 101),
            Runbook(name="x", edition=3),
            Runbook(name="x", trigger_conditions={"severty": "high"}),
        ):
            with pytest.raises(InvalidArgument):
                await runbooks.create(bad)
        with pytest.raises(RecordExists, match="runbook 'empty'"):
            await runbooks.create(Runbook(name="empty"))
        with pytest.raises(NoEdition):
            await runbooks.run("empty")
        with pytest.raises(NoEdition):
            await runbooks.edition("empty")
        with pytest.raises(InvalidDefinition) as wrong:
            await runbooks.publish("empty", "name: x\nstepz: []\n")
        assert wrong.value.details["problems"]
        for missing in (runbooks.get("Empty"), runbooks.run("x"), runbooks.publish("x", FIRST)):
            with pytest.raises(RecordNotFound, match="no runbook"):
                await missing
        assert (await store.repo(RunbookRun).count()).rows == 0


async def test_a_deleted_runbook_leaves_its_name_and_keeps_its_history(store_url: str) -> None:
    async with published(store_url) as (store, runbooks):
        run = await runbooks.run("restart", inputs={"service": "web"})
        old = await runbooks.get("restart")
        await store.repo(Runbook).delete(old.id)
        with pytest.raises(RecordNotFound):
            await runbooks.run("restart", inputs={"service": "web"})
        await runbooks.create(Runbook(name="restart"))
        await finish(store, run)
        assert (await runbooks.settle(run.id)).outcome is RunOutcome.COMPLETED
        assert (await runbooks.get("restart")).execution_count == 0  # that is another one
        with pytest.raises(ConstraintViolated):
            await store.repo(Runbook).restore(old.id)


async def test_what_is_said_of_a_runbook_changes_beside_its_figures(store_url: str) -> None:
    async with published(store_url) as (_, runbooks):
        await runbooks.amend("restart", description="when it hangs", tags=["ops"])
        changed = await runbooks.amend("restart", trigger_conditions={"severity": "high"})
        assert (changed.title, changed.description, changed.tags) == (
            "Restart a service",
            "when it hangs",
            ("ops",),
        )
        with pytest.raises(InvalidArgument, match="no severity"):
            await runbooks.amend("restart", trigger_conditions={"severity": "huge"})


async def test_a_run_is_an_execution_and_counts_once(store_url: str) -> None:
    async with published(store_url) as (store, runbooks):
        await Incidents(store).open(Incident(id="i1", title="Web hangs"), by="pager")
        run = await runbooks.run(
            "restart", incident="i1", inputs={"service": "web"}, started_by="ana", id="r1"
        )
        assert (run.edition, run.execution, run.outcome) == (1, "runbook-r1", None)
        assert run.inputs == {"service": "web", "hard": False}
        assert run.started_at is not None
        execution = await store.get_execution("runbook-r1")
        assert (execution.workflow, execution.queue, execution.status) == ("restart", "default", "ready")
        details = await store.execution_details(execution.key)
        assert (details.tags, details.trigger, details.started_by) == (("runbook",), "runbook", "ana")

        assert (await runbooks.settle("r1")).outcome is None
        await finish(store, run)
        done = await runbooks.settle("r1")
        ended = await store.get_execution("runbook-r1")
        assert (done.outcome, done.finished_at) == (RunOutcome.COMPLETED, ended.finished_at)
        assert await runbooks.settle("r1") == done
        assert await runbooks.settle_all() == []
        book = await runbooks.get("restart")
        assert (book.execution_count, book.success_count, book.success_rate) == (1, 1, 1.0)
        assert book.last_execution_at == ended.finished_at
        told = (await Incidents(store).timeline("i1")).items
        assert [(each.kind, each.actor) for each in told[1:]] == [("runbook", "ana"), ("runbook", "system")]
        assert told[2].data == {"run": "r1", "execution": "runbook-r1", "outcome": "completed"}


async def test_failed_and_cancelled_runs_count_and_do_not_succeed(store_url: str) -> None:
    async with published(store_url, BROKEN) as (store, runbooks):
        failed, stopped = await runbooks.run("restart", id="f"), await runbooks.run("restart", id="c")
        assert (await runbooks.get("restart")).success_rate is None
        await finish(store, failed)
        await cancel(
            store,
            Registration(store, lease=timedelta(seconds=30), program="test"),
            await store.get_execution(stopped.execution),
        )
        ended = await runbooks.settle_all()
        assert {each.id: each.outcome for each in ended} == {"f": "failed", "c": "cancelled"}
        book = await runbooks.get("restart")
        assert (book.execution_count, book.success_count, book.success_rate) == (2, 0, 0.0)


async def test_an_id_starts_one_run_whatever_is_published_meanwhile(store_url: str) -> None:
    async with published(store_url) as (store, runbooks):
        first = await runbooks.run("restart", inputs={"service": "web"}, id="r1")
        await runbooks.publish("restart", SECOND)
        again = await runbooks.run("restart", inputs={"service": "web"}, id="r1")
        assert again == first
        with pytest.raises(RecordExists, match="another runbook, incident or input"):
            await runbooks.run("restart", inputs={"service": "db"}, id="r1")
        with pytest.raises(InvalidInput):
            await runbooks.run("restart", inputs={"service": 7})
        with pytest.raises(RecordNotFound, match="no incident"):
            await runbooks.run("restart", inputs={"service": "web"}, incident="i7")
        for wrong in ({"id": " r"}, {"queue": "a\nb"}, {"started_by": ""}):
            with pytest.raises(InvalidArgument):
                await runbooks.run("restart", inputs={"service": "web"}, **wrong)  # type: ignore[arg-type]
        assert (await store.repo(RunbookRun).count()).rows == 1
        assert await store.count_executions() == 1


async def test_a_start_that_was_cut_off_is_made_good(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is there and the execution is not, as after a crash between them; or is, and is not noted."""
    async with published(store_url) as (store, runbooks):
        enqueue = Launcher.enqueue

        async def cut(*args: Any) -> Any:
            raise StoreUnavailable("cut off")

        async def cut_behind(*args: Any) -> Any:
            await enqueue(*args)
            raise StoreUnavailable("cut off")

        for id, failure, repair in (
            ("a", cut, runbooks.settle("a")),
            ("b", cut, runbooks.run("restart", inputs={"service": "web"}, id="b")),
            ("c", cut_behind, runbooks.settle("c")),
            ("d", cut_behind, runbooks.run("restart", inputs={"service": "web"}, id="d")),
        ):
            monkeypatch.setattr(Launcher, "enqueue", failure)
            with pytest.raises(StoreUnavailable):
                await runbooks.run("restart", inputs={"service": "web"}, id=id)
            assert (await store.repo(RunbookRun).get(id)).started_at is None
            assert (await store.find_execution(execution_id(id)) is None) == (failure is cut)
            monkeypatch.setattr(Launcher, "enqueue", enqueue)
            assert (await repair).started_at is not None
            execution = await store.get_execution(execution_id(id))
            assert execution.status is ExecutionStatus.READY
        assert await store.count_executions() == 4


async def test_a_run_whose_execution_is_gone_is_lost_and_not_run_again(store_url: str) -> None:
    async with published(store_url) as (store, runbooks):
        run = await runbooks.run("restart", inputs={"service": "web"}, id="r1")
        table = store.repo(Runbook).mapping.dialect.table
        async with store.transaction() as transaction:
            await transaction.fetch_text(f"DELETE FROM {table('executions')} WHERE id = 'runbook-r1'")
        lost = await runbooks.settle(run.id)
        assert (lost.outcome, lost.finished_at is not None) == (RunOutcome.LOST, True)
        assert await store.find_execution("runbook-r1") is None
        assert (await runbooks.get("restart")).execution_count == 0


async def test_of_many_who_run_and_settle_at_once_each_run_counts_once(shared_url: str) -> None:
    async with published(shared_url) as (here, _), opened(shared_url) as there:
        both = [Runbooks(here), Runbooks(there)]
        await Incidents(here).open(Incident(id="i1", title="Web hangs"), by="pager")

        async def start(books: Runbooks, id: str) -> RunbookRun:
            return await books.run("restart", inputs={"service": "web"}, incident="i1", id=id)

        ids = [f"r{number}" for number in range(6)]
        started = await asyncio.gather(*(start(books, id) for id in ids for books in both))
        assert await here.count_executions() == 6
        assert {each.id: each.execution for each in started} == {id: f"runbook-{id}" for id in ids}
        async with Orchestrator(here) as orchestrator:

            async def work(id: str) -> None:
                running = await orchestrator.resume(f"runbook-{id}")
                await running.task

            async def settle(books: Runbooks) -> None:
                for _ in range(3):
                    await books.settle_all()

            await asyncio.gather(*(work(id) for id in ids), *(settle(books) for books in both))
        await asyncio.gather(*(books.settle_all() for books in both), *(both[0].settle(id) for id in ids))
        book = await both[1].get("restart")
        assert (book.execution_count, book.success_count) == (6, 6)
        told = (await Incidents(here).timeline("i1")).items
        assert [each.seq for each in told] == list(range(1, 14))
        ends = [each.data["run"] for each in told if "outcome" in each.data]
        assert sorted(ends) == ids


async def test_two_who_publish_at_once_make_two_editions(shared_url: str) -> None:
    async with published(shared_url) as (_, here), opened(shared_url) as other:
        texts = [FIRST.replace("restarting", f"try {number}") for number in range(8)]
        there = Runbooks(other)
        made = await asyncio.gather(
            *((here, there)[n % 2].publish("restart", text) for n, text in enumerate(texts))
        )
        assert sorted(each.edition for each in made) == list(range(2, 10))
        current = await here.edition("restart")
        assert current.edition == 9
        assert len(await there.editions("restart")) == 9


CRISIS = Incident(title="x", severity=Severity.HIGH, affected_services=("web", "db"), tags=("eu", "vip"))


@pytest.mark.parametrize(
    ("conditions", "fit"),
    [
        ({}, False),
        ({"severity": "high"}, True),
        ({"severity": "low"}, True),
        ({"severity": "critical"}, False),
        ({"services": ["db", "queue"]}, True),
        ({"services": ["queue"]}, False),
        ({"tags": ["vip"]}, True),
        ({"tags": ["vip", "us"]}, False),
        ({"severity": "medium", "services": ["web"], "tags": ["eu", "vip"]}, True),
        ({"severity": "critical", "services": ["web"]}, False),
        ({"service": ["web"]}, False),
        ({"services": "web"}, False),
        ({"tags": []}, False),
        ({"severity": 3}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], fit: bool) -> None:
    assert fits(conditions, CRISIS) is fit


def test_conditions_that_can_not_be_read_say_what_is_meant() -> None:
    with pytest.raises(InvalidArgument) as near:
        check_conditions({"service": ["web"]})
    assert near.value.fix == "did you mean services?"


async def test_the_runbooks_that_fit_an_incident(store_url: str) -> None:
    async with published(store_url) as (_, runbooks):
        await runbooks.amend("restart", trigger_conditions={"services": ["web"]})
        await runbooks.create(Runbook(name="unpublished", trigger_conditions={"services": ["web"]}))
        await runbooks.create(Runbook(name="call", trigger_conditions={"severity": "high"}))
        await runbooks.publish("call", FIRST)
        assert [each.name for each in await runbooks.matching(CRISIS)] == ["call", "restart"]
        calm = replace(CRISIS, severity=Severity.LOW)
        assert [each.name for each in await runbooks.matching(calm)] == ["restart"]


def test_ids_of_executions_fit_whatever_the_run_is_called() -> None:
    assert execution_id("r1") == "runbook-r1"
    long = execution_id("ä" * 127)
    assert len(long.encode()) <= 255
    assert long == execution_id("ä" * 127) != execution_id("ö" * 127)
    assert Runs.__doc__

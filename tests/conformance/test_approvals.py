"""Approvals on every store: a person, the deadline and the end of the execution exclude each other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    AlreadyDecided,
    ApprovalIdTaken,
    ApprovalNotFound,
    ExecutionCancelled,
    InvalidAnswer,
    LeaseLost,
)
from holdfast.fleet import approvals
from holdfast.fleet.approvals import ApprovalStatus, ask, decide, expire
from holdfast.fleet.cancelling import withdraw
from holdfast.fleet.outside import OutsideRows
from holdfast.orchestrator import Orchestrator
from holdfast.store import codec
from holdfast.store.entries import Holding
from holdfast.store.store import Store
from holdfast.workflows.driving import Outcome
from tests.conformance.hands import begin, blocked, ending, hand, mark, plant, take_over, until
from tests.conformance.stops import stopped_at

pytestmark = pytest.mark.anyio

FORM = {"properties": {"ticket": {"type": "string"}}, "required": ["ticket"]}


async def asked(
    store: Store, *, form: dict[str, Any] | None = None, deadline: timedelta | None = None, id: str = "a"
) -> Holding:
    """An execution that asks for one decision."""
    holding = await begin(store, f"x-{id}")
    due = None if deadline is None else datetime.now(UTC) + deadline
    await ask(store, holding, "ok", id, "Ship it?", form, due)
    return holding


async def told(store: Store, holding: Holding) -> list[Any]:
    """What lies in the inbox, without the time."""
    found = [codec.decode(message.payload or b"") for message in await store.inbox(holding.key)]
    return [{key: value for key, value in each.items() if key != "at"} for each in found]


async def test_a_decision_is_told_with_who_and_why(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await asked(mine, form=FORM)
        assert [each.id for each in await approvals.listed(theirs)] == ["a"]
        record = await decide(theirs, "a", approved=True, by="ana", answer={"ticket": "T1"}, comment="fine")
        assert (record.status, record.decided_by, record.answer) == (
            ApprovalStatus.APPROVED, "ana", {"ticket": "T1"},
        )  # fmt: skip
        assert await told(mine, holding) == [
            {"approved": True, "by": "ana", "answer": {"ticket": "T1"}, "comment": "fine"}
        ]
        assert await approvals.listed(theirs) == []
        assert [each.status for each in await approvals.listed(theirs, everything=True)] == ["approved"]


async def test_deciding_twice_names_who_was_first(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = await asked(mine)
        await decide(mine, "a", approved=False, by="ana")
        with pytest.raises(AlreadyDecided, match="rejected by ana"):
            await decide(mine, "a", approved=True, by="bob")
        assert len(await told(mine, holding)) == 1
        with pytest.raises(ApprovalNotFound):
            await decide(mine, "b", approved=True)


@pytest.mark.parametrize(
    ("answer", "named"), [(None, "ticket"), ({"ticket": 5}, "ticket"), ("T1", "not of type 'object'")]
)
async def test_an_answer_has_to_fit_the_form(shared_url: str, answer: Any, named: str) -> None:
    async with hand(shared_url) as mine:
        holding = await asked(mine, form=FORM)
        with pytest.raises(InvalidAnswer, match=named):
            await decide(mine, "a", approved=True, answer=answer)
        assert await told(mine, holding) == []
        assert (await approvals.get(mine, "a")).status is ApprovalStatus.PENDING
        await decide(mine, "a", approved=False)  # a rejection fills in nothing


async def test_after_the_deadline_nobody_decides(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = await asked(mine, deadline=timedelta(seconds=-1))
        with pytest.raises(AlreadyDecided, match="deadline"):
            await decide(mine, "a", approved=True)
        assert await expire(mine, holding, "a")
        assert await expire(mine, holding, "a")  # a run that comes back asks again
        assert (await approvals.get(mine, "a")).status is ApprovalStatus.EXPIRED


async def test_what_an_ended_execution_asked_can_not_be_decided(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = await asked(mine)
        await mine.journal.append(ending(holding))
        with pytest.raises(AlreadyDecided, match="withdrawn"):
            await decide(mine, "a", approved=True)
        await withdraw(mine, holding.key)
        assert (await approvals.get(mine, "a")).status is ApprovalStatus.WITHDRAWN


async def test_asking_again_is_the_same_and_an_id_belongs_to_one_step(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = await asked(mine)
        await ask(mine, holding, "ok", "a", "Ship it?", None, None)
        assert len(await approvals.listed(mine)) == 1
        with pytest.raises(ApprovalIdTaken):
            await ask(mine, holding, "other", "a", "Ship it?", None, None)


# Two connections.


async def test_an_expiry_beside_a_decision_finds_it_decided(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await asked(theirs)
        async with stopped_at(mine, "approvals.close") as stop:
            deciding = asyncio.ensure_future(decide(mine, "a", approved=True))
            await stop.reached.wait()
            expiring = asyncio.ensure_future(expire(theirs, holding, "a"))
            assert await blocked(theirs, expiring)
            stop.release()
            async with asyncio.timeout(10):
                record, expired = await asyncio.gather(deciding, expiring)
        assert (record.status, expired) == ("approved", False)
        assert len(await told(mine, holding)) == 1


async def decide_beside_expiry(mine: Store, theirs: Store, *, loose: bool = False) -> tuple[Any, Any, int]:
    """Somebody decides while the deadline has found the approval pending, and has not closed it."""
    holding = await asked(mine)
    async with stopped_at(mine, "approvals.close", loose=loose) as stop:
        expiring = asyncio.ensure_future(expire(mine, holding, "a"))
        await stop.reached.wait()
        deciding = asyncio.ensure_future(decide(theirs, "a", approved=True))
        if loose:
            await deciding
        else:
            assert await blocked(theirs, deciding)
        stop.release()
        async with asyncio.timeout(10):
            expired, record = await asyncio.gather(expiring, deciding, return_exceptions=True)
    return expired, record, len(await told(theirs, holding))


async def test_a_decision_beside_an_expiry_comes_too_late(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        expired, record, messages = await decide_beside_expiry(mine, theirs)
        assert expired is True
        assert isinstance(record, AlreadyDecided)
        assert messages == 0


async def test_without_the_lock_a_step_expires_that_was_approved(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        expired, record, messages = await decide_beside_expiry(mine, theirs, loose=True)
        assert (expired, record.status, messages) == (True, "approved", 1)


async def test_an_owner_that_lost_the_execution_asks_nobody(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        with pytest.raises(LeaseLost):
            await ask(mine, holding, "ok", "a", "Ship it?", None, None)
        assert await approvals.listed(theirs) == []
        kept = await asked(theirs, id="b")
        await take_over(mine, kept.key)
        with pytest.raises(LeaseLost):
            await expire(theirs, kept, "b")
        assert (await approvals.get(mine, "b")).status is ApprovalStatus.PENDING


async def test_without_the_epoch_a_zombie_asks(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        asked = mark(mine, 2)
        plant(mine, "executions.hold", f"epoch = {asked}", f"epoch > {asked}")
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        await ask(mine, holding, "ok", "a", "Ship it?", None, None)
        assert len(await approvals.listed(theirs)) == 1


# In workflows.


async def decided(store: Store, *, approved: bool, **fields: Any) -> None:
    """Decide the one approval as soon as it is asked for."""

    async def is_there() -> bool:
        return bool(await approvals.listed(store))

    await until(is_there, "nobody was asked")
    await decide(store, (await approvals.listed(store))[0].id, approved=approved, by="ana", **fields)


@pytest.mark.parametrize("approved", [True, False])
async def test_a_python_workflow_gets_the_decision(shared_url: str, approved: bool) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def work() -> str:
        decision = await hf.approval("Ship it?", form=FORM)
        assert decision.at.tzinfo is not None
        return f"{decision.approved} {decision.by} {decision.answer} {decision.comment}"

    async with app, hand(shared_url) as theirs, asyncio.timeout(10):
        handle = await work.options(id="w").start()
        answer = {"ticket": "T1"} if approved else None
        await decided(theirs, approved=approved, answer=answer, comment="so be it")
        assert await handle == f"{approved} ana {answer} so be it"
        assert (await approvals.listed(theirs, everything=True))[0].id == "w:approval"


async def test_an_approval_expires_in_a_workflow(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def work() -> str:
        try:
            await hf.approval("Ship it?", timeout="10ms", id="mine")
        except hf.ApprovalExpired as error:
            return error.code
        return "decided"

    async with app, asyncio.timeout(10):
        assert await work() == "HF7011"
        assert (await approvals.get(app.store, "mine")).status is ApprovalStatus.EXPIRED


async def test_a_cancelled_execution_withdraws_what_it_asked(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def work() -> None:
        await hf.approval("Ship it?", id="mine")

    async with app, asyncio.timeout(10):
        handle = await work.start()

        async def is_there() -> bool:
            return bool(await approvals.listed(app.store))

        await until(is_there, "nobody was asked")
        await handle.cancel()
        with pytest.raises(ExecutionCancelled):
            await handle
        assert (await approvals.get(app.store, "mine")).status is ApprovalStatus.WITHDRAWN


YAML = """
name: ship
steps:
  - id: ok
    approval: {title: "Ship ${{ inputs.what }}?", %s}
  - id: go
    needs: ok
    wait: {signal: "go-${{ inputs.what }}", timeout: 20ms, on_timeout: continue}
inputs: {properties: {what: {type: string}}}
outputs: {ok: "${{ steps.ok.output }}", go: "${{ steps.go.output }}"}
"""


async def ship(url: str, tmp_path: Any, policy: str, approved: bool | None) -> Outcome:
    path = tmp_path / "ship.yaml"
    path.write_text(YAML % policy)
    async with Orchestrator(url) as orchestrator, asyncio.timeout(10):
        running = await orchestrator.start(path, {"what": "tea"})
        if approved is not None:
            await decided(orchestrator.store, approved=approved)
        return await orchestrator.outcome(running)


@pytest.mark.parametrize(
    ("policy", "approved", "status", "ok"),
    [
        ("timeout: 3d", True, "completed", True),
        ("timeout: 3d", False, "failed", None),
        ("on_reject: continue", False, "completed", False),
        ("timeout: 10ms", None, "failed", None),
        ("timeout: 10ms, on_timeout: continue", None, "completed", None),
    ],
)
async def test_a_yaml_step_decides_what_a_refusal_means(
    shared_url: str, tmp_path: Any, policy: str, approved: bool | None, status: str, ok: bool | None
) -> None:
    outcome = await ship(shared_url, tmp_path, policy, approved)
    assert outcome.status == status
    if status == "failed":
        assert outcome.error is not None
        assert outcome.error["code"] == ("HF7011" if approved is None else "HF7012")
        assert outcome.error["step"] == "ok"
    else:
        output = codec.decode(outcome.output or b"")
        assert output["go"] is None
        assert (output["ok"] and output["ok"]["approved"]) == ok


def test_the_port_is_whole() -> None:
    from holdfast.workflows.outside import Outside

    assert {name for name in vars(Outside) if not name.startswith("_")} <= set(vars(OutsideRows))

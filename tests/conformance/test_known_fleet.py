"""Failures that other engines had in a fleet of workers, each as a test of the rule that keeps it away."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    ExecutionFailed,
    InvalidInput,
    LeaseLost,
    OwnedElsewhere,
    StoreUnavailable,
    UnsupportedValue,
)
from holdfast.events.log import EventLog
from holdfast.fleet import sweeps
from holdfast.fleet.ownership import claim
from holdfast.records.executions import ExecutionStatus
from holdfast.store.drivers.base import Answer, Batch, Reply
from holdfast.store.store import Store
from tests.conformance.fleets import Ghost, hired
from tests.conformance.hands import begin, ending, hand, journal_over, result, row_of, rows, until

pytestmark = pytest.mark.anyio


class Program:
    """One workflow of three steps; the middle one waits until the test lets it go on."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.bodies: list[str] = []
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

        @self.app.step
        async def work(name: str) -> str:
            self.bodies.append(name)
            if name == "middle":
                self.arrived.set()
                await self.go_on.wait()
            return name

        @self.app.workflow
        async def three() -> str:
            return "".join([await work("first"), await work("middle"), await work("last")])

        @self.app.workflow
        async def quick(name: str) -> str:
            return await work(name)

        @self.app.workflow
        async def fails() -> None:
            await work("before")
            raise ValueError("no")

        self.three: Any = three
        self.quick: Any = quick
        self.fails: Any = fails


async def ended(store: Store, *ids: str) -> None:
    async def all_ended() -> bool:
        return all([(await store.get_execution(id)).status.is_final for id in ids])

    await until(all_ended, f"{ids} did not end")


# KW1


async def test_known_kw1_a_worker_does_not_adopt_what_its_own_process_runs(shared_url: str) -> None:
    """Two owners in one process, same host, same process id: each leaves alone what the other runs."""
    program = Program(shared_url)
    async with program.app, asyncio.timeout(20), hired(shared_url, program.app):
        by_app = await program.three.options(id="app").start()
        await program.arrived.wait()
        await program.quick.options(id="next").enqueue("next")
        await ended(program.app.store, "next")  # the worker has looked round meanwhile
        program.go_on.set()
        assert await by_app == "firstmiddlelast"
        assert (await program.app.store.get_execution("app")).epoch == 1
        assert sorted(program.bodies) == ["first", "last", "middle", "next"]


async def test_known_kw1_what_a_worker_runs_is_not_resumed_beside_it(shared_url: str) -> None:
    program = Program(shared_url)
    async with program.app, asyncio.timeout(20), hired(shared_url, program.app):
        handle = await program.three.options(id="x").enqueue()
        await program.arrived.wait()
        with pytest.raises(OwnedElsewhere):
            await program.app.resume("x")
        program.go_on.set()
        assert await handle == "firstmiddlelast"
        assert program.bodies == ["first", "middle", "last"]


# KW2


class FailingSweep:
    """A store whose `fleet.recover` fails from the second time on, until it is told otherwise."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, after: int = 1) -> None:
        self.calls = 0
        self.broken = True
        real = store.transaction

        @asynccontextmanager
        async def transaction(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with real(*args, **kwargs) as inner:
                fetch = inner.fetch

                async def failing(name: str, *parameters: Any) -> Any:
                    found = await fetch(name, *parameters)
                    if name == "fleet.recover":
                        self.calls += 1
                        if self.broken and self.calls > after:
                            raise StoreUnavailable("the database restarts just now")  # behind the change
                    return found

                monkeypatch.setattr(inner, "fetch", failing, raising=False)
                yield inner

        monkeypatch.setattr(store, "transaction", transaction)


async def left_by_a_ghost(program: Program, other: Store, count: int) -> list[str]:
    """Executions that a dead worker ran."""
    ghost = Ghost(other, timedelta(seconds=60))
    await ghost.appear()
    ids = [f"x{number}" for number in range(count)]
    for id in ids:
        await program.quick.options(id=id).enqueue(id)
    assert len(await ghost.claim()) == count
    await ghost.vanish()
    return ids


async def test_known_kw2_a_sweep_that_failed_half_way_strands_nothing(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(shared_url)
    monkeypatch.setattr(sweeps, "BATCH", 2)
    async with program.app, hand(shared_url) as other, asyncio.timeout(30):
        ids = await left_by_a_ghost(program, other, 7)
        async with hand(shared_url) as store:
            trouble = FailingSweep(store, monkeypatch)
            ghost_boot = (await rows(store, "SELECT owner FROM {executions} WHERE owner IS NOT NULL"))[0][0]
            recovery = sweeps.Recovery(store, None)
            with pytest.raises(StoreUnavailable):
                await recovery.run([bytes(ghost_boot)])  # type: ignore[list-item]
            found = await rows(store, "SELECT status, count(*) FROM {executions} GROUP BY status ORDER BY 1")
            assert [tuple(row) for row in found] == [("ready", 2), ("running", 5)]  # whole batches only
            with pytest.raises(StoreUnavailable):
                await recovery.run([bytes(ghost_boot)])  # type: ignore[list-item]
            trouble.broken = False
            assert await recovery.run([bytes(ghost_boot)]) == 5  # type: ignore[list-item]
        async with hired(shared_url, program.app):
            await ended(program.app.store, *ids)
        assert sorted(program.bodies) == ids
        counts = await rows(other, "SELECT DISTINCT recoveries FROM {executions}")
        assert [tuple(row) for row in counts] == [(1,)]


async def test_known_kw2_a_worker_goes_on_sweeping_when_the_database_comes_back(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(shared_url)
    monkeypatch.setattr(sweeps, "BATCH", 2)
    async with program.app, hand(shared_url) as other, asyncio.timeout(30):
        ids = await left_by_a_ghost(program, other, 5)
        async with hired(shared_url, program.app) as worker:
            trouble = FailingSweep(worker.store, monkeypatch, after=0)
            await program.quick.options(id="new").enqueue("new")

            async def tried_again() -> bool:
                return trouble.calls >= 3

            await until(tried_again, "the sweep was not repeated")
            trouble.broken = False
            await ended(program.app.store, *ids, "new")
        assert sorted(program.bodies) == sorted([*ids, "new"])


async def test_known_kw2_a_list_made_once_would_strand_them(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: an owner that was swept once is never looked at again."""
    program = Program(shared_url)
    monkeypatch.setattr(sweeps, "BATCH", 2)
    async with program.app, hand(shared_url) as other, hand(shared_url) as store:
        await left_by_a_ghost(program, other, 7)
        trouble = FailingSweep(store, monkeypatch)
        boot = bytes((await rows(store, "SELECT owner FROM {executions} WHERE owner IS NOT NULL"))[0][0])
        seen: set[bytes] = set()

        async def once() -> None:
            if boot not in seen:
                seen.add(boot)
                await sweeps.recover(store, boot, None)  # type: ignore[arg-type]

        with pytest.raises(StoreUnavailable):
            await once()
        trouble.broken = False
        await once()
        left = await rows(store, "SELECT count(*) FROM {executions} WHERE status = 'running'")
        assert left[0][0] == 5


# KW3


async def test_known_kw3_a_draining_worker_and_its_successor_share_a_host_and_a_process_id(
    shared_url: str,
) -> None:
    program = Program(shared_url)
    async with program.app, asyncio.timeout(30), hired(shared_url, program.app) as old:
        handle = await program.three.options(id="slow").enqueue()
        await program.arrived.wait()
        old.worker.drain()
        async with hired(shared_url, program.app):
            found = await rows(
                program.app.store, "SELECT boot_id, host, pid FROM {workers} WHERE program = 'worker'"
            )
            assert len({bytes(row[0]) for row in found}) == 2
            assert len({(row[1], row[2]) for row in found}) == 1
            await program.quick.options(id="new").enqueue("new")
            await ended(program.app.store, "new")
            before = await program.app.store.get_execution("slow")
            assert (before.status, before.epoch) == (ExecutionStatus.RUNNING, 1)
            program.go_on.set()
            assert (await old.leave()).completed == 1
            assert await handle == "firstmiddlelast"
    assert sorted(program.bodies) == ["first", "last", "middle", "new"]


async def test_known_kw3_the_dead_are_told_from_the_living_of_the_same_host_and_process_id(
    shared_url: str,
) -> None:
    program = Program(shared_url)
    async with program.app, hand(shared_url) as other, asyncio.timeout(30):
        ids = await left_by_a_ghost(program, other, 3)
        async with hired(shared_url, program.app):
            found = await rows(other, "SELECT host, pid FROM {workers} WHERE program = 'worker'")
            assert {tuple(row)[1] for row in found} <= {os.getpid()}
            await ended(other, *ids)
    assert sorted(program.bodies) == ids


# KW4


async def test_known_kw4_a_worker_that_lost_an_execution_stops_it_and_serves_on(shared_url: str) -> None:
    program = Program(shared_url)
    async with program.app, hand(shared_url) as theirs, asyncio.timeout(30):
        thief = Ghost(theirs, timedelta(seconds=60))
        await thief.appear()
        async with hired(shared_url, program.app) as worker:
            handle = await program.three.options(id="x").enqueue()
            await program.arrived.wait()
            await claim(theirs, thief.registration, await row_of(theirs, handle.key), steal=True)
            program.go_on.set()
            await program.quick.options(id="next").enqueue("next")
            await ended(theirs, "next")

            async def dropped() -> bool:
                return worker.launcher.running(handle.key) is None

            await until(dropped, "the lost execution still runs")
            assert program.bodies == ["first", "middle", "next"]
            row = await theirs.get_execution("x")
            assert (row.epoch, row.status) == (2, ExecutionStatus.RUNNING)  # neither ended nor handed back
            assert row.owner == thief.registration.boot


# KW6


async def renewals(store: Store, boot: bytes, count: int) -> None:
    """Until the lease of `boot` was renewed `count` times."""
    seen: set[Any] = set()

    async def renewed() -> bool:
        found = await rows(store, "SELECT boot_id, lease_until FROM {workers}")
        seen.update(row[1] for row in found if bytes(row[0]) == boot)
        return len(seen) > count

    await until(renewed, "the lease was not renewed")


async def test_known_kw6_a_job_longer_than_several_leases_runs_once(shared_url: str) -> None:
    program = Program(shared_url)
    lease = timedelta(seconds=1)
    async with (
        program.app,
        asyncio.timeout(40),
        hired(shared_url, program.app, lease=lease) as one,
        hired(shared_url, program.app, lease=lease) as two,
    ):
        handle = await program.three.options(id="x").enqueue()
        await program.arrived.wait()
        owner = (await program.app.store.get_execution("x")).owner
        assert owner in {each.launcher.registration.boot for each in (one, two)}
        began = time.monotonic()
        while time.monotonic() - began < 2.5 * lease.total_seconds():
            await renewals(program.app.store, bytes(owner or b""), 1)
        program.go_on.set()
        assert await handle == "firstmiddlelast"
        row = await program.app.store.get_execution("x")
        assert (row.epoch, row.recoveries) == (1, 0)
        assert program.bodies == ["first", "middle", "last"]
        assert sum(each.worker.report.claimed for each in (one, two)) == 1


async def test_known_kw6_without_renewal_it_would_run_twice(shared_url: str) -> None:
    """Planted: an owner that does not renew; the other worker takes over, and the late write is refused."""
    program = Program(shared_url)
    async with program.app, hand(shared_url) as other, asyncio.timeout(30):
        ghost = Ghost(other, timedelta(milliseconds=200))
        await ghost.appear()
        await program.quick.options(id="x").enqueue("x")
        (taken,) = await ghost.claim()
        async with hired(shared_url, program.app):
            await ended(other, "x")
        row = await other.get_execution("x")
        assert (row.epoch, row.recoveries) == (3, 1)
        with pytest.raises(LeaseLost):
            await other.journal.append(result(taken.holding, "work"))


# KW7


async def test_known_kw7_state_and_log_never_differ(shared_url: str) -> None:
    program = Program(shared_url)
    async with program.app, asyncio.timeout(30), hired(shared_url, program.app):
        store = program.app.store
        await program.quick.options(id="completed").enqueue("a")
        await program.fails.options(id="failed").enqueue()
        await program.quick.options(id="delayed", delay="1h").enqueue("b")
        waiting = await program.three.options(id="cancelled").enqueue()
        await program.arrived.wait()
        await waiting.cancel("enough")
        await ended(store, "completed", "failed", "cancelled")
        assert await EventLog(store).verify() == []


ENDED = "UPDATE {executions} SET status = 'completed', finished_at = created_at, owner = NULL"


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"{ENDED} WHERE id = 'x'", "end"),
        ("DELETE FROM {events} WHERE seq = 2", "gap"),
        ("UPDATE {executions} SET status = 'failed' WHERE id = 'y'", "end"),
    ],
)  # fmt: skip
async def test_known_kw7_a_difference_is_found(shared_url: str, statement: str, kind: str) -> None:
    """Planted: what a crash between two stores would leave behind."""
    async with hand(shared_url) as store:
        one = await begin(store, "x")
        await store.journal.append(result(one, "a"))
        await store.journal.append(result(one, "b"))
        two = await begin(store, "y")
        await store.journal.append(ending(two))
        assert await EventLog(store).verify() == []
        await rows(store, statement)
        assert kind in {finding.kind for finding in await EventLog(store).verify()}


# KW8


async def test_known_kw8_a_reply_that_was_lost_at_commit_is_asked_for_again(shared_url: str) -> None:
    """The batch is written, and the connection dies before it says so: the same batch again, once."""
    lost = 0

    async def flush(real: Any, batch: Batch) -> list[Reply]:
        nonlocal lost
        replies: list[Reply] = await real(batch)
        if lost < 2:
            lost += 1
            raise StoreUnavailable("the link died at COMMIT")
        return replies

    async with hand(shared_url) as store:
        holding = await begin(store)
        async with journal_over(store, flush) as journal:
            answers = await asyncio.gather(*[journal.append(result(holding, path)) for path in "abc"])
            assert answers == [Answer.WRITTEN] * 3
            assert await journal.append(ending(holding)) is Answer.WRITTEN
        assert lost == 2
        found = await rows(store, "SELECT path, count(*) FROM {events} WHERE result GROUP BY path ORDER BY 1")
        assert [tuple(row) for row in found] == [("a", 1), ("b", 1), ("c", 1)]
        assert await EventLog(store).verify() == []


# KW10


async def test_known_kw10_huge_errors_of_a_worker_are_cut_with_a_mark(
    shared_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "loud.yaml"
    path.write_text(
        "name: loud\nsteps:\n  - id: shout\n    continue_on_error: true\n"
        "    shell: yes no | head -c 20000000 >&2; exit 3\n"
        "  - id: tell\n    needs: [shout]\n    continue_on_error: true\n"
        "    shell: yes no | head -c 20000000; exit 3\n"
    )
    async with hf.Orchestrator(shared_url) as orchestrator, asyncio.timeout(60):
        await orchestrator.run(path, id="x")
        store = orchestrator.store
        assert (await rows(store, "SELECT count(*) FROM {events} WHERE type = 'step.failed'"))[0][0] == 2
        assert (await rows(store, "SELECT max(length(payload)) FROM {events}"))[0][0] <= 8192
        assert (await rows(store, "SELECT count(*) FROM {payloads}"))[0][0] == 0


async def test_known_kw10_values_have_limits(shared_url: str) -> None:
    """Input, output and error of a step: too large is refused or cut, for this execution alone."""
    app = hf.App(shared_url)
    too_much = 40 * 2**20

    @app.step
    async def produce(length: int) -> str:
        return "x" * length

    @app.step
    async def shout(length: int) -> None:
        raise ValueError("no! " * length)

    @app.step
    async def consume(text: str) -> int:
        return len(text)

    @app.workflow
    async def out(length: int) -> int:
        return len(await produce(length))

    @app.workflow
    async def loud(length: int) -> None:
        await shout(length)

    @app.workflow
    async def into(length: int) -> int:
        return await consume("x" * length)

    async with app, hired(shared_url, app), asyncio.timeout(60):
        for workflow, says in ((out, "UnsupportedValue"), (into, "UnsupportedValue")):
            with pytest.raises(ExecutionFailed, match=says):
                await (await workflow.enqueue(too_much))
        with pytest.raises(ExecutionFailed) as caught:
            await (await loud.enqueue(1_000_000))
        message = caught.value.details["error"]["message"]
        assert message.endswith("[cut]")
        assert len(message) < 5_000
        assert await (await out.enqueue(5)) == 5
        with pytest.raises((UnsupportedValue, InvalidInput)):
            await into.enqueue("x" * too_much)  # type: ignore[arg-type]

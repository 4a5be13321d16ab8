"""Workers: what they claim and in which order, what they take over, what they leave alone, how they leave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import LeaseLost, UnknownOutcome
from holdfast.fleet import runs, sweeps
from holdfast.fleet.claims import Claimed, Lane, peek, read_claimed
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.offers import Offers
from holdfast.fleet.ownership import Life
from holdfast.fleet.starts import Origin
from holdfast.fleet.taking import MAX_RECOVERIES
from holdfast.programs import python_module
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionStatus
from holdfast.records.keys import new_key
from holdfast.store import codec
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.workflows.python_program import program_of
from tests.conformance.fleets import Ghost, hired
from tests.conformance.hands import hand, log_of, result, row_of, rows, until
from tests.conformance.test_limits import enqueue

pytestmark = pytest.mark.anyio
LEASE = timedelta(seconds=30)


class Bodies:
    """An app whose one workflow notes who came by, and waits where the test says so."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.ran: list[str] = []
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

        @self.app.step
        async def body(name: str) -> str:
            self.ran.append(name)
            if name.startswith("slow"):
                self.arrived.set()
                await self.go_on.wait()
            return name

        @self.app.workflow
        async def work(name: str) -> str:
            return await body(name)

        @self.app.workflow
        async def rest(name: str, duration: str) -> str:
            await body(f"{name} before")
            await hf.sleep(duration)
            return await body(f"{name} after")

        self.work: Any = work
        self.rest: Any = rest


async def ended(store: Store, *ids: str, status: str = "completed") -> None:
    async def all_ended() -> bool:
        return all([(await store.get_execution(id)).status == status for id in ids])

    await until(all_ended, f"{ids} did not become {status}")


async def test_what_is_enqueued_runs_on_a_worker_and_its_handle_gives_the_result(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hired(shared_url, bodies.app) as worker, asyncio.timeout(20):
        handle = await bodies.work.enqueue("a")
        assert await handle == "a"
        assert (await bodies.app.store.get_execution(handle.id)).epoch == 1
        report = await worker.leave()
        assert (report.claimed, report.completed, report.reason) == (1, 1, "drained")


async def test_priority_goes_first_and_age_within_a_priority(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        for name, priority in (("low 1", -1), ("mid 1", 0), ("mid 2", 0), ("high 1", 5)):
            await bodies.work.options(id=name, priority=priority).enqueue(name)
        async with hired(shared_url, bodies.app, concurrency=1):
            await ended(bodies.app.store, "low 1", "mid 1", "mid 2", "high 1")
    assert bodies.ran == ["high 1", "mid 1", "mid 2", "low 1"]


async def test_a_delayed_start_waits_and_then_runs(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hired(shared_url, bodies.app), asyncio.timeout(20):
        store = bodies.app.store
        await bodies.work.options(id="later", delay="1h").enqueue("later")
        await bodies.work.options(id="soon", delay="50ms").enqueue("soon")
        await ended(store, "soon")
        later = await store.get_execution("later")
        assert (later.status, later.epoch, bodies.ran) == (ExecutionStatus.WAITING, 0, ["soon"])


async def test_a_long_rest_costs_no_worker_and_goes_on_when_it_is_over(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    serving = hired(shared_url, bodies.app, concurrency=1, waits_here_s=0.0)
    async with bodies.app, asyncio.timeout(30), serving as worker:
        await bodies.rest.options(id="long").enqueue("long", "2s")
        await ended(bodies.app.store, "long", status="waiting")
        await bodies.work.options(id="other").enqueue("other")
        await ended(bodies.app.store, "other")
        await ended(bodies.app.store, "long")
        assert worker.worker.report.suspended == 1
    assert bodies.ran == ["long before", "other", "long after"]


async def test_two_workers_share_and_run_nothing_twice(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    names = [f"n{number}" for number in range(200)]
    async with bodies.app, asyncio.timeout(60):
        await asyncio.gather(*[bodies.work.options(id=name).enqueue(name) for name in names])
        async with hired(shared_url, bodies.app) as one, hired(shared_url, bodies.app) as two:
            await ended(bodies.app.store, *names)
            shares = [hand.worker.report.claimed for hand in (one, two)]
    assert sorted(bodies.ran) == sorted(names)
    assert sum(shares) == len(names)
    assert all(shares), "one of them did nothing"


# Takeover.


async def test_what_a_dead_worker_ran_is_taken_over_and_the_zombie_writes_nothing(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other, asyncio.timeout(20):
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        (taken,) = await ghost.claim()
        async with hired(shared_url, bodies.app) as worker:
            store = worker.store
            await ghost.vanish()
            await ended(store, "x")
            row = await row_of(store, taken.holding.key)
            assert (row.epoch, row.recoveries) == (3, 1)  # claimed, put back, claimed
            kinds = [kind for _, kind, _, _ in await log_of(store, row.key)]
            assert kinds[:2] == ["execution.started", "lease.taken"]
            before = await log_of(store, row.key)
            with pytest.raises(LeaseLost):
                await other.journal.append(result(taken.holding, "body"))
            assert await log_of(store, row.key) == before
            boots = [bytes(found[0]) for found in await rows(store, "SELECT boot_id FROM {workers}")]
            assert ghost.registration.boot not in boots  # owns nothing, and is forgotten


async def test_a_worker_that_renewed_after_the_look_keeps_what_it_runs(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other:
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        (taken,) = await ghost.claim()
        # The look said dead; the lease is looked at again under the row's lock.
        assert await sweeps.recover(bodies.app.store, ghost.registration.boot, None) == 0
        assert (await row_of(other, taken.holding.key)).epoch == 1
        await other.journal.append(result(taken.holding, "body"))


async def test_without_the_second_look_a_live_worker_loses_what_it_runs(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "look_at", lambda folder, boot: Life.GONE)  # the check, taken away
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other:
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        (taken,) = await ghost.claim()
        assert await sweeps.recover(bodies.app.store, ghost.registration.boot, None) == 1
        with pytest.raises(LeaseLost):
            await other.journal.append(result(taken.holding, "body"))


async def test_two_sweeps_at_once_count_one_recovery(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as one, hand(shared_url) as two:
        ghost = Ghost(one, timedelta(seconds=60))
        await ghost.appear()
        await asyncio.gather(*[bodies.work.options(id=f"x{n}").enqueue("x") for n in range(20)])
        taken = await ghost.claim()
        await ghost.vanish()
        boot = ghost.registration.boot
        counts = await asyncio.gather(*[sweeps.recover(store, boot, None) for store in (one, two, one, two)])
        assert sum(counts) == len(taken) == 20
        found = [await row_of(one, each.holding.key) for each in taken]
        assert {(row.epoch, row.recoveries, str(row.status)) for row in found} == {(2, 1, "ready")}


async def test_a_sweep_that_died_half_way_is_done_again(shared_url: str) -> None:
    """A database that goes away during a recovery strands nothing: the next sweep begins anew."""
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other, asyncio.timeout(20):
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        await ghost.claim()
        await ghost.vanish()
        with pytest.raises(ConnectionError):
            async with other.transaction() as transaction:
                await transaction.fetch("workers.lock", ghost.registration.boot)
                assert await transaction.fetch("fleet.recover", ghost.registration.boot, 10)
                raise ConnectionError  # between the rows and the commit
        async with hired(shared_url, bodies.app):
            await ended(bodies.app.store, "x")
    assert bodies.ran == ["x"]


async def test_many_are_taken_over_at_once_each_with_its_own_log_in_order(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other, asyncio.timeout(30):
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        names = [f"n{number}" for number in range(30)]
        await asyncio.gather(*[bodies.work.options(id=name).enqueue(name) for name in names])
        for claimed in await ghost.claim():
            for number in range(5):
                other.journal.append_soon(event(claimed.holding, number))
        await other.journal.append(event(claimed.holding, 5))
        await ghost.vanish()
        async with hired(shared_url, bodies.app, concurrency=100):
            await ended(other, *names)
    assert sorted(bodies.ran) == sorted(names)


def event(holding: Holding, attempt: int) -> Entry:
    return Entry(holding, EventType.STEP_STARTED, "body", attempt=attempt)


async def test_an_execution_whose_log_is_damaged_does_not_stop_its_worker(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        await bodies.work.options(id="damaged").enqueue("damaged")
        prefix = f"{store.driver.schema}." if store.driver.schema else ""
        await store.driver.fetch_text(f"UPDATE {prefix}events SET seq = 3")
        async with hired(shared_url, bodies.app):
            await ended(store, "damaged", status="waiting")
            await bodies.work.options(id="sound").enqueue("sound")
            await ended(store, "sound")
        assert [
            row[0] for row in await rows(store, "SELECT blocked_on FROM {executions} WHERE id = 'damaged'")
        ] == ["damaged"]


async def test_a_claim_whose_reply_was_lost_is_given_back(shared_url: str) -> None:
    """The claim is committed and its caller does not know: a live worker owns what it does not run."""
    bodies = Bodies(shared_url)
    async with bodies.app, hired(shared_url, bodies.app, concurrency=1) as worker, asyncio.timeout(30):
        driver: Any = worker.store.driver
        real, lost = driver.fetch, []

        async def fetch(name: str, *args: Any) -> Any:
            found = await real(name, *args)
            if name == "fleet.claim" and found and not lost:
                lost.append(name)
                raise UnknownOutcome("the connection was lost while COMMIT was under way")
            return found

        driver.fetch = fetch
        await bodies.work.options(id="x").enqueue("x")
        await ended(bodies.app.store, "x")
        row = await bodies.app.store.get_execution("x")
        assert (lost, bodies.ran, row.epoch, row.recoveries) == (["fleet.claim"], ["x"], 2, 0)


async def test_a_lapsed_worker_claims_nothing(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other:
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        await ghost.vanish()
        assert await ghost.claim() == []
        assert (await other.get_execution("x")).epoch == 0


async def test_what_was_started_just_before_closing_is_handed_back(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app:
        for number in range(20):
            await bodies.work.options(id=f"slow {number}").start(f"slow {number}")
    async with hand(shared_url) as store:
        assert {str(status) for (status,) in await rows(store, "SELECT status FROM {executions}")} == {
            "ready"
        }
        assert await rows(store, "SELECT boot_id FROM {workers}") == []


async def test_an_owner_that_could_not_hand_back_is_dead_at_once(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other, asyncio.timeout(20):
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        await ghost.claim()
        await ghost.registration.stop()
        async with hired(shared_url, bodies.app):
            await ended(other, "x")


async def test_an_owner_that_is_not_registered_is_found(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other:
        ghost = Ghost(other, timedelta(seconds=60))
        await ghost.appear()
        await bodies.work.options(id="x").enqueue("x")
        (taken,) = await ghost.claim()
        assert await sweeps.orphans(other) == []
        prefix = f"{other.driver.schema}." if other.driver.schema else ""
        await other.driver.fetch_text(f"DELETE FROM {prefix}workers")
        assert await sweeps.orphans(other) == [ghost.registration.boot]
        assert await sweeps.recover(other, ghost.registration.boot, None) == 1
        assert (await row_of(other, taken.holding.key)).status == "ready"


async def test_what_kills_its_worker_again_and_again_ends_as_a_dead_letter(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, hand(shared_url) as other, asyncio.timeout(30):
        await bodies.work.options(id="poison").enqueue("x")
        for _ in range(MAX_RECOVERIES + 1):
            ghost = Ghost(other, timedelta(seconds=60))
            await ghost.appear()
            assert await ghost.claim()
            await ghost.vanish()
            assert await sweeps.recover(other, ghost.registration.boot, None) == 1
        async with hired(shared_url, bodies.app) as worker:
            await ended(worker.store, "poison", status="failed")
            report = await worker.leave()
        assert (report.failed, bodies.ran) == (1, [])


# Versions.


async def test_code_that_is_not_here_is_refused_once_and_runs_where_it_is(shared_url: str) -> None:
    bodies, other_app = Bodies(shared_url), hf.App(shared_url)
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        async with hired(shared_url, other_app, Empty(other_app).flow) as stranger:
            await bodies.work.options(id="a").enqueue("a")
            await ended(store, "a", status="waiting")
            await bodies.work.options(id="b").enqueue("b")
            assert stranger.worker.report.refused == ["work version 1"]
            assert (await store.get_execution("b")).status == "ready"
            async with hired(shared_url, bodies.app):
                await ended(store, "a", "b")
            assert stranger.worker.report.claimed == 1
            assert [row[0] for row in await rows(store, "SELECT recoveries FROM {executions}")] == [0, 0]


class Empty:
    def __init__(self, app: hf.App) -> None:
        @app.workflow
        async def flow() -> None: ...

        self.flow = flow


# Leaving.


async def test_a_draining_worker_finishes_what_it_runs_and_claims_nothing_more(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        async with hired(shared_url, bodies.app) as worker:
            await bodies.work.options(id="slow").enqueue("slow")
            await bodies.arrived.wait()
            worker.worker.drain()
            await bodies.work.options(id="next").enqueue("next")
            bodies.go_on.set()
            report = await worker.leave()
        assert (report.claimed, report.completed, report.handed_back) == (1, 1, 0)
        assert (await store.get_execution("next")).status == "ready"


async def test_what_a_claim_brings_after_draining_began_is_given_back(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies, read = Bodies(shared_url), asyncio.Event()
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        async with hired(shared_url, bodies.app) as worker:

            async def read_late(*args: Any, **options: Any) -> list[Claimed]:
                found = await read_claimed(*args, **options)
                worker.worker.drain()
                read.set()
                return found

            monkeypatch.setattr("holdfast.fleet.worker.read_claimed", read_late)
            await bodies.work.options(id="late").enqueue("late")
            await read.wait()
            report = await worker.leave()
        assert (report.claimed, report.completed, report.handed_back) == (0, 0, 0)
        row = await store.get_execution("late")
        assert (row.status, row.recoveries, bodies.ran) == ("ready", 0, [])


async def test_what_does_not_end_in_time_is_handed_back_for_another_worker(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        async with hired(shared_url, bodies.app, drain_timeout=timedelta(0)) as worker:
            await bodies.work.options(id="slow").enqueue("slow")
            await bodies.arrived.wait()
            assert (await worker.leave()).handed_back == 1
        row = await store.get_execution("slow")
        assert (row.status, row.recoveries) == ("ready", 0)
        bodies.go_on.set()
        async with hired(shared_url, bodies.app):
            await ended(store, "slow")
    assert bodies.ran == ["slow", "slow"]  # the first body was cut off before its result


async def test_a_worker_that_meets_a_newer_schema_finishes_and_leaves(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        store = bodies.app.store
        async with hired(shared_url, bodies.app) as worker:
            await bodies.work.options(id="slow").enqueue("slow")
            await bodies.arrived.wait()
            table = "holdfast.schema_migrations" if shared_url.startswith("postgres") else "schema_migrations"
            await store.driver.fetch_text(f"INSERT INTO {table} (version, name) VALUES (9000, 'later')")
            await bodies.work.options(id="next").enqueue("next")
            store.hints.message()
            bodies.go_on.set()
            async with asyncio.timeout(10):
                report = await worker.task
        assert (report.reason, report.completed) == ("schema", 1)
        assert (await store.get_execution("next")).status == "ready"


# Looking.


async def test_looking_writes_nothing_and_tells_of_lanes_in_every_tenant(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app:
        store = bodies.app.store
        await bodies.work.options(queue="a").enqueue("1")
        await bodies.work.options(queue="b", class_="cpu").enqueue("2")
        look = await peek(store, ["a", "b", "c"], ["io", "cpu"], [])
        assert sorted(look.lanes) == [Lane("a", "io", "default"), Lane("b", "cpu", "default")]
        assert (look.dead, look.offered, look.due_in_s, look.limited) == ([], [], None, set())
        assert (await peek(store, ["a"], ["cpu"], [])).lanes == []


async def test_looks_that_tell_of_a_few_lanes_each_tell_of_every_one(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.fleet.claims.LANES_MAX", 4)
    async with hand(shared_url) as store:
        there = {Lane("a", "io", f"{number:03}") for number in range(8)}
        there |= {Lane("b", "io", f"{number:03}") for number in range(500, 508)} | {Lane("c", "io", "001")}
        for lane in there:
            await enqueue(store, new_key().hex(), tenant=lane.tenant, queue=lane.queue)
        seen: set[Lane] = set()
        after, looks = "", 0
        while after or not looks:
            look = await peek(store, ["a", "b", "c"], ["io"], [], after=after)
            seen.update(look.lanes)
            assert look.goes_on_after > after or not look.goes_on_after
            after, looks = look.goes_on_after, looks + 1
        assert seen == there


async def test_more_queues_than_one_look_tells_of_all_get_their_turn(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.fleet.claims.LANES_MAX", 4)
    queues = [f"q{number}" for number in range(6)]
    async with hand(shared_url) as store:
        for queue in queues:
            await enqueue(store, queue, tenant="default", queue=queue)
        seen: set[str] = set()
        async with asyncio.timeout(20):
            while seen != set(queues):
                seen |= {lane.queue for lane in (await peek(store, queues, ["io"], [])).lanes}


async def test_a_dedupe_key_means_the_execution_that_has_not_ended(shared_url: str) -> None:
    bodies = Bodies(shared_url)
    async with bodies.app, asyncio.timeout(20):
        enqueue: Callable[..., Any] = bodies.work.options(dedupe_key="k").enqueue
        first, again = await enqueue("a"), await enqueue("b")
        assert first.id == again.id
        many = await asyncio.gather(*[enqueue(str(n)) for n in range(20)])
        assert {each.id for each in many} == {first.id}
        async with hired(shared_url, bodies.app):
            assert await again == "a"
        assert (await enqueue("c")).id != first.id


async def test_a_worker_without_apps_lets_in_what_it_can_load_again(shared_url: str, tmp_path: Path) -> None:
    """Its offers are not known beforehand: a version that came back is found by looking at what waits."""
    code = tmp_path / "come_back.py"
    text = (
        "import holdfast as hf\napp = hf.App()\n\n\n@app.workflow\nasync def flow() -> int:\n    return 7\n"
    )
    code.write_text(text)
    sys.modules.pop("come_back", None)
    async with hand(shared_url) as store, asyncio.timeout(30):
        module: Any = python_module("come_back.py", tmp_path)
        program = program_of(module.flow)
        launcher = Launcher(store, load=Offers().load, find=nobody)
        await launcher.enqueue(program, codec.encode({}), Origin(id="x", queue="default"))
        code.unlink()
        sys.modules.pop("come_back")
        async with hired(shared_url):
            await ended(store, "x", status="waiting")
        code.write_text(text)
        async with hired(shared_url):
            await ended(store, "x")


async def nobody(name: str, version: str | None, asking: object) -> Any:
    raise AssertionError("no children here")


async def test_a_signal_from_the_same_process_is_heard_at_once(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_WATCH_S", (60.0, 60.0))  # nobody looks around by himself in this test
    app = hf.App(shared_url)

    @app.workflow
    async def waits() -> str:
        return str(await hf.wait_signal("go"))

    async with app, asyncio.timeout(20):
        handle = await waits.start()

        async def registered() -> bool:
            return bool(await app.store.driver.fetch("signals.waiting", app.store.tenant, None, 10))

        await until(registered, "it never waited")
        await app.signal("go", "now")
        assert await handle == "now"

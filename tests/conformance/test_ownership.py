"""Who owns an execution: claims, takeovers, leases and their ends, on SQLite and PostgreSQL.

Leases are shifted by writing `lease_until`; owners are real processes where the system's lock decides.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    DefinitionChanged,
    LeaseLost,
    NotResumable,
    OwnedElsewhere,
    TooManyRecoveries,
)
from holdfast.fleet.ownership import Life, Registration, claim, look_at
from holdfast.fleet.taking import MAX_RECOVERIES
from holdfast.records.executions import BootId, ExecutionKey, ExecutionStatus
from holdfast.store.drivers.base import Answer
from holdfast.store.store import Store
from tests.conformance.hands import (
    bare,
    begin,
    begin_like,
    beside,
    ending,
    hand,
    is_sqlite,
    log_of,
    moment_text,
    prefixed,
    result,
    row_of,
    until,
)
from tests.crash.harness import await_state, command, go_on, make_store, read_ledger, start

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def registered(store: Store) -> AsyncIterator[Registration]:
    registration = Registration(store)
    await registration.start()
    try:
        yield registration
    finally:
        await registration.stop()


async def run_sql(store: Store, text: str) -> None:
    """Change what only time or another process would."""
    if is_sqlite(store):
        connection = bare(store, timeout_ms=5000)
        connection.execute(text.format(workers="workers", executions="executions", past="1"))
        connection.close()
    else:
        raw = await beside(store)
        tables = {name: prefixed(store, name) for name in ("workers", "executions")}
        await raw.execute(text.format(past=moment_text(store, 1), **tables))
        await raw.close(timeout=5)


async def end_leases(store: Store) -> None:
    await run_sql(store, "UPDATE {workers} SET lease_until = {past}")


# Claims.


async def test_a_live_owner_keeps_its_execution(shared_url: str) -> None:
    async with (
        hand(shared_url) as mine,
        hand(shared_url) as theirs,
        registered(mine) as owner,
        registered(theirs) as other,
    ):
        holding = await begin(mine, owner=owner.boot)
        with pytest.raises(OwnedElsewhere) as caught:
            await claim(theirs, other, await row_of(theirs, holding.key))
        assert 0 < caught.value.details["lease_left_s"] <= 30
        assert caught.value.details["alive"]
        assert await mine.journal.append(result(holding, "a")) is Answer.WRITTEN


async def test_stealing_takes_it_from_a_live_owner(shared_url: str) -> None:
    async with (
        hand(shared_url) as mine,
        hand(shared_url) as theirs,
        registered(mine) as owner,
        registered(theirs) as other,
    ):
        holding = await begin(mine, owner=owner.boot)
        taken = await claim(theirs, other, await row_of(theirs, holding.key), steal=True)
        assert (taken.holding.epoch, taken.taken_from, taken.recoveries) == (2, owner.boot, 1)
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "a"))


async def test_an_owner_without_its_lock_file_is_dead_when_its_lease_is_over(shared_url: str) -> None:
    """As it looks from another host: there is no file to try, only the lease."""
    async with (
        hand(shared_url) as mine,
        hand(shared_url) as theirs,
        registered(mine) as owner,
        registered(theirs) as other,
    ):
        holding = await begin(mine, owner=owner.boot)
        assert owner.folder is not None
        (owner.folder / owner.boot.hex()).unlink()
        with pytest.raises(OwnedElsewhere) as caught:
            await claim(theirs, other, await row_of(theirs, holding.key))
        assert not caught.value.details["alive"]
        await end_leases(mine)
        taken = await claim(theirs, other, await row_of(theirs, holding.key))
        assert taken.holding.epoch == 2
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "a"))


async def test_an_owner_that_left_is_no_owner(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, registered(theirs) as other:
        async with registered(mine) as owner:
            holding = await begin(mine, owner=owner.boot)
        taken = await claim(theirs, other, await row_of(theirs, holding.key))
        assert taken.holding.epoch == 2


async def test_a_finished_execution_can_not_be_claimed(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, registered(theirs) as other:
        holding = await begin(mine)
        before = await row_of(theirs, holding.key)  # read before its end, as a claimer may have
        await mine.journal.append(ending(holding))
        with pytest.raises(NotResumable):
            await claim(theirs, other, before)


async def test_of_two_claims_at_once_one_wins(shared_url: str) -> None:
    async with (
        hand(shared_url) as one,
        hand(shared_url) as two,
        registered(one) as first,
        registered(two) as second,
    ):
        for n in range(10):
            holding = await begin(one, f"x{n}")
            seen = await row_of(two, holding.key)
            answers = await asyncio.gather(
                claim(one, first, seen), claim(two, second, seen), return_exceptions=True
            )
            failed = [answer for answer in answers if isinstance(answer, OwnedElsewhere)]
            assert len(failed) == 1, answers
            row = await row_of(one, holding.key)
            assert (row.epoch, row.owner) == (2, (second if answers[0] is failed[0] else first).boot)


async def test_two_claims_of_a_waiting_execution_one_wins(shared_url: str) -> None:
    from tests.conformance.hands import suspending

    async with (
        hand(shared_url) as one,
        hand(shared_url) as two,
        registered(one) as first,
        registered(two) as second,
    ):
        holding = await begin(one)
        await one.journal.append(suspending(holding, expect_wakes=0))
        seen = await row_of(two, holding.key)
        answers = await asyncio.gather(
            claim(one, first, seen), claim(two, second, seen), return_exceptions=True
        )
        assert sum(isinstance(answer, OwnedElsewhere) for answer in answers) == 1
        assert (await row_of(one, holding.key)).recoveries == 0  # nobody died


# Leases.


async def test_a_lapsed_lease_can_not_be_renewed(shared_url: str) -> None:
    async with hand(shared_url) as store, registered(store) as registration:
        heartbeat = store.driver.heartbeat()
        assert heartbeat is not None

        def renew() -> bool:
            return heartbeat.renew(registration.boot, timedelta(seconds=30))

        try:
            assert await asyncio.to_thread(renew)
            await end_leases(store)
            assert not await asyncio.to_thread(renew)
            assert not await asyncio.to_thread(renew)  # for good
        finally:
            await asyncio.to_thread(heartbeat.close)


async def test_a_lapsed_worker_hears_of_it_and_comes_back_under_a_new_name(shared_url: str) -> None:
    async with hand(shared_url) as store:
        registration = Registration(store, lease=timedelta(seconds=0.3))
        heard = asyncio.Event()
        registration.on_lapse = heard.set
        await registration.start()
        before = registration.boot
        try:
            # Its row is gone as if the lease had run out long ago and somebody had tidied up.
            await run_sql(store, "DELETE FROM {workers}")
            await asyncio.wait_for(heard.wait(), 10)
            assert registration.lapsed
            await registration.start_over()
            assert registration.boot != before and not registration.lapsed
        finally:
            await registration.stop()


@pytest.mark.parametrize("taken", [False, True])
async def test_a_lapsed_app_stops_and_goes_on_only_with_what_nobody_took(
    shared_url: str, taken: bool
) -> None:
    app = hf.App(shared_url)
    begun, enough = asyncio.Event(), asyncio.Event()
    bodies = 0

    @app.step
    async def long() -> int:
        nonlocal bodies
        bodies += 1
        begun.set()
        await enough.wait()
        return bodies

    @app.workflow
    async def stuck() -> int:
        return await long()

    async with app, hand(shared_url) as theirs, asyncio.timeout(20):
        handle = await stuck.options(id="x").start()
        await begun.wait()
        begun.clear()
        assert app._launcher is not None
        registration = app._launcher.registration
        boot = registration.boot
        await end_leases(theirs)
        if taken:
            async with registered(theirs) as other:
                await claim(theirs, other, await theirs.get_execution("x"))
        registration._note_lapse(boot)  # what the lease thread reports at its next renewal
        if taken:
            enough.set()
            with pytest.raises(LeaseLost):
                await handle
            assert len(await log_of(theirs, (await theirs.get_execution("x")).key)) == 1
        else:
            await begun.wait()  # again, as the owner of a new epoch
            enough.set()
            assert await handle == 2
            row = await theirs.get_execution("x")
            assert (row.status, row.epoch) == (ExecutionStatus.COMPLETED, 2)

        async def came_back() -> bool:
            return registration.boot not in (boot, b"")

        await until(came_back, "it did not register again")


# The system's lock: owners that are killed.


@pytest.fixture
def stopped_owner(shared_url: str, tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """A process that owns execution x and stands in the middle of it."""
    ledger = tmp_path / "ledger.jsonl"
    make_store(shared_url, tmp_path / "none.jsonl")
    process = start(command(shared_url, ledger, "x", stop_at="fan2"))
    try:
        await_state(process.pid, "T")
        yield shared_url, ledger, process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


async def test_an_owner_that_only_stands_still_lives(
    stopped_owner: tuple[str, Path, subprocess.Popen[bytes]],
) -> None:
    url, _ledger, _process = stopped_owner
    async with hand(url) as store, registered(store) as registration:
        execution = await store.get_execution("x")
        assert execution.owner is not None
        assert look_at(registration.folder, execution.owner) is Life.ALIVE
        with pytest.raises(OwnedElsewhere):
            await claim(store, registration, execution)


def test_a_killed_owner_is_dead_at_once(stopped_owner: tuple[str, Path, subprocess.Popen[bytes]]) -> None:
    url, ledger, process = stopped_owner
    process.send_signal(signal.SIGKILL)
    process.wait()

    async def look() -> float:
        async with hand(url) as store:
            execution = await store.get_execution("x")
            assert execution.owner is not None
            async with store.transaction() as transaction:
                rows = await transaction.fetch("workers.lock", execution.owner)
            return float(rows[0][2])

    assert asyncio.run(look()) > 5_000_000  # its lease has long to go, and nobody waits for it
    go_on(url, ledger, "x")
    assert read_ledger(ledger)[-1][:3] == ("ack", "x", "last")


async def test_a_killed_owner_stays_dead_for_a_second_newcomer(
    stopped_owner: tuple[str, Path, subprocess.Popen[bytes]],
) -> None:
    """Whoever comes first tidies up; what proves the death has to be there for the others too."""
    url, _ledger, process = stopped_owner
    process.send_signal(signal.SIGKILL)
    process.wait()
    async with hand(url) as one, hand(url) as two, registered(one), registered(two) as second:
        taken = await claim(two, second, await two.get_execution("x"))
        assert taken.holding.epoch == 2


async def test_what_proves_a_death_is_not_tidied_away_because_the_life_was_long(shared_url: str) -> None:
    """Leftover lock files are removed by age; a process that lived for days has an old file."""
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        owner = Registration(mine, lease=timedelta(seconds=0.3))
        await owner.start()
        assert owner.folder is not None
        path = owner.folder / owner.boot.hex()
        os.utime(path, (0, 0))

        async def young_again() -> bool:
            return path.stat().st_mtime > 1

        await until(young_again, "renewing the lease does not renew the file")
        # As it looks after `kill -9`: the lock is free, the file is there, and somebody new tidies up.
        await owner.stop()
        path.touch()
        async with registered(theirs) as newcomer:
            assert look_at(newcomer.folder, BootId(bytes.fromhex(path.name))) is Life.GONE
        path.unlink()


# Recoveries.


async def take_again(store: Store, key: ExecutionKey) -> int:
    """A takeover by an owner that dies at once; the recoveries it counted."""
    async with registered(store) as registration:
        taken = await claim(store, registration, await row_of(store, key), steal=True)
    return taken.recoveries


async def test_only_takeovers_without_a_new_result_count(shared_url: str) -> None:
    async with hand(shared_url) as store:
        holding = await begin(store)
        assert [await take_again(store, holding.key) for _ in range(3)] == [1, 2, 3]
        async with registered(store) as registration:
            taken = await claim(store, registration, await row_of(store, holding.key), steal=True)
            assert taken.recoveries == 4
            taken.holding.next_seq = (await log_of(store, holding.key))[-1][0] + 1
            assert await store.journal.append(result(taken.holding, "a")) is Answer.WRITTEN
        assert await take_again(store, holding.key) == 1


async def test_too_many_recoveries_end_it(shared_url: str) -> None:
    bodies = 0

    def program() -> tuple[hf.App, Any]:
        app = hf.App(shared_url)

        @app.step
        async def poison() -> int:
            nonlocal bodies
            bodies += 1
            return 1

        @app.workflow
        async def doomed() -> int:
            return await poison()

        return app, doomed

    app, doomed = program()
    async with app:
        # An owner that dies in the first step, again and again.
        await doomed.options(id="model")()
        bodies = 0
        model = await app.store.get_execution("model")
        holding = await begin_like(app.store, model)
        for _ in range(MAX_RECOVERIES):
            await take_again(app.store, holding)
        with pytest.raises(TooManyRecoveries):
            await app.resume("x")
        assert bodies == 0
        row = await row_of(app.store, holding)
        assert (row.status, row.recoveries) == (ExecutionStatus.FAILED, MAX_RECOVERIES + 1)
        assert (await log_of(app.store, holding))[-1][1] == "execution.failed"


async def test_one_recovery_less_goes_on(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def lucky() -> int:
        return 7

    async with app, asyncio.timeout(20):
        await lucky.options(id="model")()
        holding = await begin_like(app.store, await app.store.get_execution("model"))
        for _ in range(MAX_RECOVERIES - 1):
            await take_again(app.store, holding)
        assert await (await app.resume("x")) == 7


# Definitions.


async def test_resume_runs_the_stored_definition_and_start_refuses_another(shared_url: str) -> None:
    def program(version: str, fails: bool) -> tuple[hf.App, Any]:
        app = hf.App(shared_url)

        @app.step
        async def work() -> str:
            if fails:
                raise KeyboardInterrupt
            return version

        @app.workflow(version=version)
        async def versioned() -> str:
            return await work()

        return app, versioned

    app, first = program("1", fails=False)
    async with app:
        await first.options(id="model")()
        await begin_like(app.store, await app.store.get_execution("model"))
    newer, second = program("2", fails=False)
    async with newer:
        with pytest.raises(DefinitionChanged):
            await second.options(id="x").start()
        row = await newer.store.get_execution("x")
        assert (row.version, row.epoch) == ("1", 1)  # untouched: nothing ran
    again, _first = program("1", fails=False)
    async with again, asyncio.timeout(20):
        assert await (await again.resume("x")) == "1"


async def test_a_start_with_a_known_id_goes_on_with_what_a_dead_owner_left(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def plain() -> int:
        return 5

    async with app, asyncio.timeout(20):
        await plain.options(id="model")()
        await begin_like(app.store, await app.store.get_execution("model"))
        assert await plain.options(id="x")() == 5
        assert (await app.store.get_execution("x")).epoch == 2

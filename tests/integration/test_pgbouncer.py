"""A store behind a real PgBouncer in transaction mode, with the way around it that `direct_url` gives.

The pooler has four sessions of the server for a database; whatever is left behind in one of them meets
somebody else. Proofs of the journal and of the takeover run here again as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

import holdfast as hf
from holdfast.errors import DirectUrlElsewhere, PoolerDetected
from holdfast.records.executions import ExecutionStatus
from holdfast.stores import build_store, config_for
from scripts.pgbouncer import SERVER_CONNECTIONS
from tests.conformance import test_journal, test_known, test_ownership, test_store, test_two_connections
from tests.conformance.fleets import Ghost, hired
from tests.conformance.hands import begin, hand, result, rows, take_over
from tests.pooler import behind_pooler

pytestmark = pytest.mark.anyio

Proof = Callable[[str], Awaitable[None]]


@pytest.fixture
def pooled_url(fresh_postgres: str) -> str:
    """An empty store behind the pooler."""
    return behind_pooler(fresh_postgres)


PROOFS: list[Proof] = [
    test_journal.test_a_bad_start_is_refused_alone,
    test_journal.test_a_fenced_result_leaves_no_value_behind,
    test_journal.test_a_result_that_stands_already_is_answered_recorded,
    test_journal.test_an_entry_is_written_whole_or_not_at_all,
    test_journal.test_many_messages_for_one_execution_share_a_batch_and_each_wakes_it,
    test_two_connections.test_takeover_comes_before_or_after_a_flush_never_between_its_writes,
    test_two_connections.test_without_the_lock_a_takeover_falls_between_the_writes,
    test_two_connections.test_flush_that_waited_for_a_takeover_is_fenced,
    test_two_connections.test_history_read_after_a_takeover_has_everything_acknowledged,
    test_two_connections.test_results_sent_again_after_a_lost_reply_are_written_once,
    test_two_connections.test_a_cancelled_caller_leaves_no_transaction_open,
    test_ownership.test_of_two_claims_at_once_one_wins,
    test_ownership.test_an_owner_without_its_lock_file_is_dead_when_its_lease_is_over,
    test_ownership.test_a_lapsed_worker_hears_of_it_and_comes_back_under_a_new_name,
    test_ownership.test_a_start_with_a_known_id_goes_on_with_what_a_dead_owner_left,
    test_known.test_known_kw4_who_lost_the_race_does_not_carry_on,
    test_store.test_a_savepoint_undoes_its_part_alone,
    test_store.test_a_function_in_a_transaction_is_tried_again_after_a_conflict,
    test_store.test_a_statement_has_a_time_limit,
]


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__.removeprefix("test_"))
async def test_as_without_a_pooler(proof: Proof, pooled_url: str) -> None:
    await proof(pooled_url)


# Many executions, four sessions.


def crowd(url: str) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.step
    async def double(number: int) -> int:
        return 2 * number

    @app.workflow
    async def sum_of_doubles(number: int) -> int:
        one, two = await hf.gather(double(number), double(number + 1))
        return await double(one + two)

    return app, sum_of_doubles


async def test_fifty_executions_share_four_sessions(pooled_url: str, fresh_postgres: str) -> None:
    app, workflow = crowd(pooled_url)
    most = 0
    async with app, asyncio.timeout(60):
        beside = await asyncpg.connect(fresh_postgres)

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, await beside.fetchval(_SESSIONS))

        counting = asyncio.ensure_future(count())
        answers = await asyncio.gather(*(workflow.options(id=f"x{n}")(n) for n in range(50)))
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        await beside.close()
        assert answers == [8 * n + 4 for n in range(50)]
        counts = await app.store.counts()
        assert counts == {ExecutionStatus.COMPLETED: 50}
        written = await rows(app.store, "SELECT count(*), count(DISTINCT (execution, seq)) FROM {events}")
        assert written[0][0] == written[0][1]
    # Beside the pooler's: the lease, hints, and what looks at the schema.
    assert most <= SERVER_CONNECTIONS + 3


async def test_workers_claim_and_take_over_by_the_pooler(pooled_url: str) -> None:
    """Fifty enqueued executions, two workers, and an owner that died with five of them."""
    app, workflow = crowd(pooled_url)
    theirs, _ = crowd(pooled_url)
    async with app, hand(pooled_url) as store, asyncio.timeout(60):
        handles = [await workflow.options(id=f"x{n}").enqueue(n) for n in range(50)]
        ghost = Ghost(store, timedelta(seconds=30))
        await ghost.appear()
        assert len(await ghost.claim(limit=5)) == 5
        await ghost.vanish()
        async with hired(pooled_url, app), hired(pooled_url, theirs):
            assert await asyncio.gather(*handles) == [8 * n + 4 for n in range(50)]
        epochs = await rows(store, "SELECT epoch, count(*) FROM {executions} GROUP BY epoch ORDER BY epoch")
        assert [tuple(row) for row in epochs] == [(1, 45), (3, 5)]  # claimed, taken back, claimed again
        results = (
            "SELECT count(*), count(DISTINCT (execution, path)) FROM {events} WHERE type = 'step.completed'"
        )
        assert (await rows(store, results))[0][:] == (150, 150)


_SESSIONS = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


async def test_read_committed_is_asked_for_in_every_transaction(pooled_url: str, fresh_postgres: str) -> None:
    """The sessions of a pooler have the database's default, whatever that is."""
    beside = await asyncpg.connect(fresh_postgres)
    name = urlsplit(fresh_postgres).path[1:]
    await beside.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    await beside.close()
    async with hand(pooled_url) as store:
        level = "SELECT current_setting('transaction_isolation')"
        assert (await store.driver.fetch_text(level))[0][0] == "read committed"
        async with store.transaction() as transaction:
            assert (await transaction.fetch_text(level))[0][0] == "read committed"
        levels: list[str] = []
        real = asyncpg.Connection.fetch

        async def fetch(self: Any, query: str, *args: Any, **options: Any) -> Any:
            levels.append((await real(self, level))[0][0])
            return await real(self, query, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncpg.Connection, "fetch", fetch)
            await begin(store)  # the journal
        assert set(levels) == {"read committed"}


# What is left behind in the sessions.

_STATE = """SELECT current_setting('plan_cache_mode') AS plan_cache_mode,
       current_setting('enable_seqscan') AS enable_seqscan, current_setting('jit') AS jit,
       current_setting('default_transaction_isolation') AS isolation,
       current_setting('lock_timeout') AS lock_timeout, current_setting('search_path') AS search_path,
       (SELECT count(*) FROM pg_prepared_statements WHERE name <> '') AS statements,
       (SELECT count(*) FROM pg_listening_channels()) AS channels,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND pg_table_is_visible(oid)) AS tables"""


@asynccontextmanager
async def every_session(url: str) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    """One connection by way of the pooler for each session it has, held by a transaction."""
    through = urlsplit(url)._replace(query="").geturl()
    async with AsyncExitStack() as stack:
        sessions = []
        for _ in range(SERVER_CONNECTIONS):
            session = await asyncpg.connect(through, statement_cache_size=0)
            stack.push_async_callback(session.close, timeout=5)
            await session.execute("BEGIN")
            sessions.append(session)
        yield sessions
        for session in sessions:
            await session.execute("ROLLBACK")


async def what_is_left(url: str, server_url: str) -> dict[str, set[Any]]:
    """What differs in any of the pooler's sessions from a new one, with all values there are."""
    new = await asyncpg.connect(server_url, statement_cache_size=0)
    try:
        expected = await new.fetchrow(_STATE)
    finally:
        await new.close(timeout=5)
    assert expected is not None
    async with every_session(url) as sessions:
        pids = {await session.fetchval("SELECT pg_backend_pid()") for session in sessions}
        assert len(pids) == SERVER_CONNECTIONS
        found = [await session.fetchrow(_STATE) for session in sessions]
    return {
        name: {row[name] for row in found if row is not None}
        for name in expected.keys()  # noqa: SIM118 - a record iterates over its values
        if any(row is None or row[name] != expected[name] for row in found)
    }


async def busy_hour(url: str) -> None:
    """A bit of everything: migrations, transactions, flushes of both kinds, a large value, a takeover."""
    app, workflow = crowd(url)
    async with app:
        await asyncio.gather(*(workflow.options(id=f"x{n}")(n) for n in range(20)))
    async with hand(url) as mine, hand(url) as theirs:
        await mine.hints.wait(0.05)
        holding = await begin(mine)
        await mine.journal.append(result(holding, "large", "x" * 100_000))
        await take_over(theirs, holding.key)
        theirs.hints.ready("default")
        async with mine.transaction() as transaction, transaction.savepoint():
            await transaction.fetch("store.now")


async def test_nothing_is_left_behind_in_a_session(pooled_url: str, fresh_postgres: str) -> None:
    async with asyncio.timeout(60):
        await busy_hour(pooled_url)
        assert await what_is_left(pooled_url, fresh_postgres) == {}


async def test_a_setting_that_is_not_local_would_be_found(
    pooled_url: str, fresh_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = asyncpg.Connection.execute

    async def careless(self: Any, query: str, *args: Any, **options: Any) -> Any:
        return await real(self, query.replace("SET LOCAL", "SET"), *args, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", careless)
    async with asyncio.timeout(60):
        await busy_hour(pooled_url)
        left = await what_is_left(pooled_url, fresh_postgres)
        assert left["enable_seqscan"] >= {"off"}


# Mistakes in the addresses.


async def test_a_pooler_without_a_way_around_it_is_recognised(fresh_postgres: str) -> None:
    store = build_store(config_for(behind_pooler(fresh_postgres, direct=False)))
    with pytest.raises(PoolerDetected) as caught:
        await store.open(migrate=True)
    assert "direct_url" in caught.value.fix
    await store.close()


async def test_two_databases_are_not_taken_for_one(fresh_postgres: str, postgres_url: str) -> None:
    through = urlsplit(behind_pooler(fresh_postgres))
    elsewhere = through._replace(query=urlsplit(behind_pooler(postgres_url)).query).geturl()
    store = build_store(config_for(elsewhere))
    with pytest.raises(DirectUrlElsewhere):
        await store.open(migrate=True)
    await store.close()

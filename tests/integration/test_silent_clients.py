"""What PostgreSQL does with a client that falls silent, and the driver with a connection that is gone."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Any

import asyncpg
import pytest

from holdfast.errors import RetryLater, StatementTimeout
from holdfast.store.drivers import postgresql
from holdfast.store.store import Store
from tests.conformance.hands import hand, until

pytestmark = pytest.mark.anyio
IDLE = "idle_in_transaction_session_timeout"
LOCK = "SELECT name FROM {schema}.queues WHERE name = 'q' FOR UPDATE"


async def make_row(store: Store) -> str:
    schema = store.driver.schema
    await store.driver.fetch_text(f"INSERT INTO {schema}.queues (name, created_at) VALUES ('q', now())")
    return LOCK.format(schema=schema)


async def test_every_session_tells_the_server_when_to_give_it_up(fresh_postgres: str) -> None:
    question = "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp%' OR name = $1"
    async with hand(fresh_postgres) as store:
        driver: Any = store.driver
        direct = await driver.connect()
        try:
            for rows in (await driver.fetch_text(question, IDLE), await direct.fetch(question, IDLE)):
                found = {row[0]: int(row[1]) for row in rows}
                silent_s = found["tcp_keepalives_idle"] + (
                    found["tcp_keepalives_interval"] * found["tcp_keepalives_count"]
                )
                assert silent_s + found["tcp_user_timeout"] / 1000 <= 15
                assert 0 < found[IDLE] <= 30_000
        finally:
            await direct.close(timeout=5)


async def locked_by_a_silent_one(url: str) -> bool:
    """Whether a row stays locked that a client locked and then said nothing more; its error is typed."""
    async with hand(url) as store, hand(url) as other:
        lock = await make_row(store)

        async def free() -> bool:
            try:
                await other.driver.fetch_text(f"{lock} NOWAIT")
            except RetryLater:
                return False
            return True

        try:
            with pytest.raises(RetryLater):
                async with store.transaction() as transaction:
                    driver: Any = transaction
                    await driver.fetch_text(lock)
                    assert not await free()
                    async with asyncio.timeout(3):
                        await until(free, "the row stays locked")
                    await driver.fetch_text(lock)
        except TimeoutError:
            return True
        return False


async def test_what_a_silent_client_locked_is_free_again(
    fresh_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(postgresql._SESSION_SETTINGS)
    monkeypatch.setattr(postgresql, "_SESSION_SETTINGS", MappingProxyType(settings | {IDLE: "300"}))
    assert not await locked_by_a_silent_one(fresh_postgres)


async def test_without_the_setting_it_stays_locked(
    fresh_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(postgresql._SESSION_SETTINGS)
    monkeypatch.setattr(postgresql, "_SESSION_SETTINGS", MappingProxyType(settings | {IDLE: "0"}))
    assert await locked_by_a_silent_one(fresh_postgres)


async def test_a_connection_that_left_the_pool_by_itself_hides_no_error(fresh_postgres: str) -> None:
    """A statement timed out, and the connection was found dead before it could be given up."""
    async with hand(fresh_postgres) as store:
        driver: Any = store.driver
        with pytest.raises(StatementTimeout):
            async with driver._pool.lend() as connection:
                connection.terminate()
                with pytest.raises(asyncpg.InterfaceError):
                    connection.terminate()
                raise StatementTimeout("the server did not answer in time") from TimeoutError()
        assert await driver.fetch_text("SELECT 1")

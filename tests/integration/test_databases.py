"""The databases that the fixtures hand out: empty, apart from each other, and gone afterwards."""

from __future__ import annotations

import asyncpg
import pytest

_TABLES = (
    "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
)


@pytest.mark.anyio
@pytest.mark.parametrize("_round", [1, 2])
async def test_a_fresh_database_holds_nothing_from_the_test_before(fresh_postgres: str, _round: int) -> None:
    connection = await asyncpg.connect(fresh_postgres)
    try:
        assert await connection.fetchval(_TABLES) == 0
        await connection.execute("CREATE TABLE leftover (id int)")
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_fresh_and_shared_are_two_databases(fresh_postgres: str, postgres_url: str) -> None:
    assert fresh_postgres != postgres_url

"""The connections at hand: the last one first, broken ones left out, unused ones back to the pool."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from holdfast.store.drivers import postgresql_spares
from holdfast.store.drivers.postgresql_spares import Spares

pytestmark = pytest.mark.anyio


class Connection:
    def __init__(self, name: str) -> None:
        self.name = name
        self.broken = self.gone = False

    def is_closed(self) -> bool:
        if self.gone:
            raise asyncpg.InterfaceError("released back to the pool")
        return self.broken


class Pool:
    def __init__(self) -> None:
        self.returned: list[str] = []
        self.spares = Spares(self.give_back)

    async def give_back(self, connection: Connection) -> None:
        await asyncio.sleep(0)
        self.returned.append(connection.name)


async def test_the_last_one_is_taken_first_and_broken_ones_are_left_out() -> None:
    pool = Pool()
    a, b, c, d = (Connection(name) for name in "abcd")
    for each in (a, b, c, d):
        pool.spares.keep(each)
    d.broken, c.gone = True, True
    assert pool.spares.take() is b
    assert len(pool.spares) == 1
    await pool.spares.close()
    assert sorted(pool.returned) == ["a", "d"]
    assert pool.spares.take() is None


async def test_what_is_not_needed_for_a_moment_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_spares, "LOOK_S", 0.05)
    pool = Pool()
    for name in "ab":
        pool.spares.keep(Connection(name))
    for _ in range(6):  # one is used all the time, the other is not
        await asyncio.sleep(0.03)
        used = pool.spares.take()
        assert used is not None
        pool.spares.keep(used)
    assert (pool.returned, used.name) == (["a"], "b")
    await asyncio.sleep(0.2)
    assert pool.returned == ["a", "b"]
    assert len(pool.spares) == 0

"""Once around: SQLite → PostgreSQL → MariaDB → files → SQLite, with something of every kind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.systems.filling import Filling
from holdfast.records.catalogue import all_tables
from holdfast.upkeep.copying import Compared, Copy
from holdfast.upkeep.selection import Selection
from tests.conformance.everything import write_everything
from tests.conformance.test_copy import KILLED
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

UNUSED = {"inbox", "workers"}
"""Tables that are empty when nothing runs."""


@pytest.fixture
def ring(tmp_path: Path, fresh_postgres: str, fresh_mysql: str) -> list[str]:
    first, last = (f"sqlite:///{tmp_path / name}.db" for name in ("first", "last"))
    return [first, fresh_postgres, fresh_mysql, f"file:///{tmp_path / 'documents'}", last]


async def compared(source: str, target: str) -> list[Compared]:
    async with opened(source) as here, opened(target) as there:
        return await Copy(here, there, Selection()).compare()


async def test_the_sample_has_something_of_every_kind(shared_url: str) -> None:
    await write_everything(shared_url)
    async with opened(shared_url) as store:
        prefix = f"{store.driver.schema}." if store.driver.schema else ""
        for table in all_tables():
            rows = await store.driver.fetch_text(f"SELECT count(*) FROM {prefix}{table.name}")
            assert rows[0][0] > 0 or table.name in UNUSED, table.name


async def test_once_around_and_nothing_is_lost(ring: list[str]) -> None:
    await write_everything(ring[0])
    for source, target in pairwise(ring):
        async with opened(source) as here, opened(target) as there:
            await Copy(here, there, Selection()).run()
    assert await compared(ring[0], ring[-1])


async def write_many(url: str, count: int) -> None:
    """Copies of executions of three shapes, beside what is in the SQLite store already."""
    filling = Filling("sqlite", url.removeprefix("sqlite:///"))
    async with opened(url) as store:
        shapes = [await store.get_execution(id) for id in ("done-0", "queued-6", "wait-1")]
    for mark, (shape, percent) in enumerate(zip(shapes, (96, 2, 2), strict=True), 1):
        await filling.copy(shape.key.hex(), count * percent // 100, mark)


async def test_killed_ten_times_on_the_way_it_still_arrives(
    ring: list[str], request: pytest.FixtureRequest
) -> None:
    await write_everything(ring[0])
    many: int = request.config.getoption("--ring")
    await write_many(ring[0], many)
    page = 500 if many else 7
    chance = random.Random(4)
    kills = 0
    for source, target in pairwise(ring):
        for attempt in range(4):
            how = "resume" if attempt else "anew"
            left = chance.randint(1, 12 + many // page) if attempt < 3 else 0
            argv = [sys.executable, "-c", KILLED, source, target, str(left), how, str(page)]
            ended = subprocess.run(
                argv, capture_output=True, text=True, timeout=120 + many / 20, env=dict(os.environ)
            )
            killed = ended.returncode == -signal.SIGKILL
            assert killed or (not left and ended.returncode == 0), ended.stderr
            kills += killed
    assert kills >= 10
    assert await compared(ring[0], ring[-1])

"""Several processes that migrate at once, and processes that are killed while they migrate."""

from __future__ import annotations

import asyncio
import multiprocessing
from datetime import date
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from holdfast.store.migrations import up
from tests.migration.sessions import LONG, Watched, describe, dialect_of, die_at, migrations, opened, race

TEXTS = {
    "0001_one.sql": "-- +migrate Up\nCREATE TABLE one (a integer);\nINSERT INTO one VALUES (1);\n",
    "0002_two.sql": "-- +migrate Up\nALTER TABLE one ADD COLUMN b integer;\nUPDATE one SET b = 2;\n",
    "0003_three.sql": "-- +migrate Up notransaction\nCREATE INDEX IF NOT EXISTS one_b ON one (b);\n",
}
_SPAWN = multiprocessing.get_context("spawn")


def test_of_eight_processes_one_migrates_and_seven_find_nothing_left(url: str) -> None:
    barrier = _SPAWN.Barrier(8)
    results: Queue[list[int] | str] = _SPAWN.Queue()
    processes = [_SPAWN.Process(target=race, args=(url, TEXTS, barrier, results)) for _ in range(8)]
    for process in processes:
        process.start()
    found = sorted((results.get(timeout=120) for _ in processes), key=str)
    for process in processes:
        process.join(timeout=60)
    assert found == [[1, 2, 3]] + [[]] * 7


async def _run(url: str) -> tuple[list[int], list[tuple[object, ...]], list[tuple[object, ...]], int]:
    """Apply what is left; the versions applied, the schema, the rows, and the points passed."""
    points = 0

    def count() -> None:
        nonlocal points
        points += 1

    async with opened(url) as session:
        done = await up(Watched(session, count), migrations(dialect_of(url), TEXTS), lock_timeout=LONG)
        prefix = f'"{session.schema}".' if session.schema else ""
        rows = await session.fetch(f"SELECT a, b FROM {prefix}one")
        rows += await session.fetch(f"SELECT version, checksum FROM {prefix}schema_migrations ORDER BY 1")
        shape = await describe(session)
    return [applied.version for applied in done], shape, rows, points


@pytest.mark.crash
def test_after_a_kill_at_any_point_the_next_start_finishes(
    url: str, tmp_path: Path, request: pytest.FixtureRequest, crash_scope: str
) -> None:
    _, expected_shape, expected_rows, points = asyncio.run(_run(url))
    assert points >= 18
    sample = (
        range(1, points + 1) if crash_scope == "all" else range(1 + date.today().toordinal() % 5, points, 5)
    )
    finished = []
    for point in sample:
        fresh = _fresh(url, tmp_path, request, point)
        process = _SPAWN.Process(target=die_at, args=(fresh, TEXTS, point))
        process.start()
        process.join(timeout=60)
        assert process.exitcode == -9, f"not killed at point {point}"
        versions, shape, rows, _ = asyncio.run(_run(fresh))
        assert (shape, rows) == (expected_shape, expected_rows), f"differs after a kill at point {point}"
        finished.append(versions)
    assert len({tuple(versions) for versions in finished}) > 1, "every kill hit the same migration"


def _fresh(url: str, tmp_path: Path, request: pytest.FixtureRequest, point: int) -> str:
    if dialect_of(url) == "sqlite":
        return f"sqlite:///{tmp_path / f'{point}.db'}"
    kind = "_mysql_administrator" if dialect_of(url) == "mysql" else "_administrator"
    administrator = request.getfixturevalue(kind)
    made = str(administrator.create())
    request.addfinalizer(lambda: administrator.drop(made))
    return made

"""SIGKILL at every write, sync and send of a twelve-step workflow; then the same command again.

Whatever the moment: every acknowledged result stands unchanged, no body runs again whose result was
acknowledged, the store opens and is whole, and going on reaches the end.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.crash.harness import (
    CALLS,
    Tally,
    Wrong,
    boundaries,
    command,
    go_on,
    judge,
    make_store,
    rerun,
    run_until,
    seed_of_today,
)
from tests.databases import empty_store

pytestmark = pytest.mark.crash

SAMPLE = {"sqlite": 24, "postgresql": 12, "mysql": 6, "file": 8}
PLANT_TRIES = 12


class Bench:
    """Fresh stores, one per kill: a copy of a folder, or another execution in one database."""

    def __init__(self, kind: str, folder: Path, ledgers: Path, server_url: str) -> None:
        self.kind = kind
        self._folder = folder
        self._ledgers = ledgers
        self._server_url = server_url
        self._template = folder / "template"
        self._count = 0
        make_store(server_url or self._url_in(self._template), folder / "none.jsonl")

    def fresh(self) -> tuple[str, Path, str]:
        """The URL, the ledger and the execution of one more run."""
        self._count += 1
        ledger = self._ledgers / f"{self._count}.jsonl"
        if self._server_url:
            return self._server_url, ledger, f"x{self._count}"
        folder = self._folder / str(self._count)
        shutil.copytree(self._template, folder)
        return self._url_in(folder), ledger, "x"

    def _url_in(self, folder: Path) -> str:
        folder.mkdir(exist_ok=True)
        return (
            f"sqlite:///{folder / 'holdfast.db'}" if self.kind == "sqlite" else f"file:///{folder / 'store'}"
        )

    def points(self) -> list[tuple[str, int]]:
        url, ledger, id = self.fresh()
        return boundaries(CALLS[self.kind], command(url, ledger, id), self._folder / "trace")

    def kill(self, call: str, k: int, tally: Tally, **options: object) -> None:
        """Kill one run there and judge it, then go on and judge the end. Raises `Wrong`."""
        url, ledger, id = self.fresh()
        if run_until(call, k, command(url, ledger, id, **options)):
            tally.add(boundaries_hit=1)
        judge(url, ledger, [id], finished=False)
        go_on(url, ledger, id)
        tally.add(acknowledged_results_checked=judge(url, ledger, [id], finished=True))


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "file"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, ledgers: Path) -> Bench:
    is_local = request.param in ("sqlite", "file")
    url = "" if is_local else empty_store(request, tmp_path, is_made=True)
    return Bench(request.param, tmp_path, ledgers, url)


def test_a_kill_at_any_write_loses_nothing(bench: Bench, crash_scope: str, tally: Tally) -> None:
    seed = seed_of_today()
    points = bench.points()
    assert {call for call, _ in points} >= set(CALLS[bench.kind][1:2]), f"no such writes: {points}"
    chosen = points
    if crash_scope == "sample":
        chosen = random.Random(f"{seed}{bench.kind}").sample(points, min(SAMPLE[bench.kind], len(points)))
    print(f"{bench.kind}: {len(chosen)} of {len(points)} points, seed {seed}")
    for call, k in chosen:
        try:
            bench.kill(call, k, tally)
        except (Wrong, TimeoutError) as error:
            again = rerun(f"any_write and {bench.kind}", seed=seed, scope=crash_scope)
            pytest.fail(f"killed at {call} number {k}: {error}\nagain: {again}", pytrace=False)
    tally.require("boundaries_hit", "acknowledged_results_checked")
    # A run may take one flush less than the reference did; most points have to be hit all the same.
    assert tally.counts["boundaries_hit"] >= 0.7 * len(chosen)


def test_acknowledging_before_the_commit_is_caught(bench: Bench, tally: Tally) -> None:
    points = bench.points()
    call = "fdatasync" if bench.kind in ("sqlite", "file") else "sendto"
    late = [point for point in points if point[0] == call]
    late = late[len(late) // 3 :]
    for call, k in random.Random(seed_of_today()).sample(late, min(PLANT_TRIES, len(late))):
        try:
            bench.kill(call, k, tally, plant="acknowledge-before-commit")
        except Wrong as wrong:
            assert "acknowledged" in str(wrong)
            tally.add(plants_caught=1)
            return
    pytest.fail("the harness did not notice that results were acknowledged before their commit")

"""SIGKILL at every write of the event log in files: a copy beside SQLite, or the record of a store in memory.

Whatever the moment: every acknowledged result stands, no body runs again whose result was acknowledged, the
same command goes on to the end, and the files then say what the store says.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from pathlib import Path

import pytest

from holdfast.events.files.checking import compare
from holdfast.stores import config_for, open_store
from tests.crash import harness
from tests.crash.harness import (
    Tally,
    Wrong,
    boundaries,
    go_on,
    judge,
    make_store,
    rerun,
    run_until,
    seed_of_today,
)

pytestmark = pytest.mark.crash

CALLS = ("write", "fdatasync", "fsync", "rename", "ftruncate", "unlink")
SAMPLE = 12
PLANT_TRIES = 20
ROTATE = "4KiB"
ENTRY = """\
import os, sys
os.environ.update(HOLDFAST_EVENT_LOG_TYPE="filesystem", HOLDFAST_EVENT_LOG_DIR=sys.argv.pop(1))
os.environ.update(HOLDFAST_EVENT_LOG__ROTATE=sys.argv.pop(1))
plant = sys.argv.pop(1)
from holdfast.events.files import record
record.SHRINK_BYTES_MIN = 4096
from tests.crash import test_event_log_kills
if plant == "unsynced-answer":
    test_event_log_kills.answer_before_the_record()
from tests.crash.twelve import main
main()
"""


def answer_before_the_record() -> None:
    """The planted defect: a transaction commits before its record is written."""
    from holdfast.store.drivers.recorded import RecordedConnection

    held: list[tuple[object, object]] = []
    write = RecordedConnection._write

    def late(self: RecordedConnection, record: object, changes: object) -> None:
        held.append((record, changes))
        while len(held) > 1:
            write(self, *held.pop(0))  # type: ignore[arg-type]

    RecordedConnection._write = late  # type: ignore[method-assign, assignment]


class Bench:
    """Fresh stores and logs, one per kill."""

    def __init__(self, kind: str, folder: Path, ledgers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self._folder = folder
        self._ledgers = ledgers
        self._monkeypatch = monkeypatch
        self._count = 0
        self._template = folder / "template"
        self._template.mkdir()
        if kind == "sqlite":
            make_store(self._url(self._template), folder / "none.jsonl")

    def _url(self, folder: Path) -> str:
        return "memory://" if self.kind == "memory" else f"sqlite:///{folder / 'holdfast.db'}"

    def fresh(self, plant: str = "none") -> tuple[str, Path, Path, list[str]]:
        """The URL, the folder of the log, the ledger and the arguments of one more run."""
        self._count += 1
        folder = self._folder / str(self._count)
        shutil.copytree(self._template, folder)
        url, base, ledger = self._url(folder), folder / "log", self._ledgers / f"{self._count}.jsonl"
        arguments = [sys.executable, "-c", ENTRY, str(base), ROTATE, plant, url, str(ledger), "x"]
        self._monkeypatch.setenv("HOLDFAST_EVENT_LOG_TYPE", "filesystem")
        self._monkeypatch.setenv("HOLDFAST_EVENT_LOG_DIR", str(base))
        self._monkeypatch.setenv("HOLDFAST_EVENT_LOG__ROTATE", ROTATE)
        return url, base, ledger, arguments

    def points(self) -> list[tuple[str, int]]:
        _, _, _, arguments = self.fresh()
        return boundaries(CALLS, arguments, self._folder / "trace")

    def kill(self, call: str, k: int, tally: Tally, *, plant: str = "none") -> None:
        """Kill one run there and judge it, then go on and judge the end. Raises `Wrong`."""
        url, base, ledger, arguments = self.fresh(plant)
        if run_until(call, k, arguments):
            tally.add(boundaries_hit=1)
        if self.kind == "sqlite" or base.joinpath(".store").exists():
            judge(url, ledger, ["x"], finished=False)
        elif harness.read_ledger(ledger):
            raise Wrong("something was acknowledged before there was a record")
        go_on(url, ledger, "x")
        tally.add(acknowledged_results_checked=judge(url, ledger, ["x"], finished=True))
        tally.add(events_compared=asyncio.run(_compared(url, base)))


async def _compared(url: str, base: Path) -> int:
    async with open_store(config_for(url)) as store:
        compared = await compare(store, base)
    if compared.findings:
        raise Wrong(f"files and store differ: {compared.findings}")
    return compared.events


@pytest.fixture(params=["memory", "sqlite"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, ledgers: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    return Bench(request.param, tmp_path, ledgers, monkeypatch)


def test_a_kill_at_any_write_of_the_log_loses_nothing(bench: Bench, crash_scope: str, tally: Tally) -> None:
    seed = seed_of_today()
    points = bench.points()
    assert {call for call, _ in points} >= {"write", "fdatasync", "rename"}, f"no such writes: {points}"
    chosen = points
    if crash_scope == "sample":
        chosen = random.Random(seed).sample(points, min(SAMPLE, len(points)))
    for call, k in chosen:
        try:
            bench.kill(call, k, tally)
        except Wrong as wrong:
            again = rerun("test_a_kill_at_any_write_of_the_log", seed=seed, scope=crash_scope)
            pytest.fail(f"killed at {call} number {k}: {wrong}\nagain: {again}")
    tally.require("boundaries_hit", "acknowledged_results_checked", "events_compared")


def test_an_answer_before_its_record_is_found(
    tmp_path: Path, ledgers: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """The defect that the kills are there to find: they have to find it when it is planted."""
    bench = Bench("memory", tmp_path, ledgers, monkeypatch)
    points = [point for point in bench.points() if point[0] == "fdatasync"]
    random.Random(seed_of_today()).shuffle(points)
    for call, k in points[:PLANT_TRIES]:
        try:
            bench.kill(call, k, tally, plant="unsynced-answer")
        except Wrong:
            return
    pytest.fail("a commit before its record was not noticed")

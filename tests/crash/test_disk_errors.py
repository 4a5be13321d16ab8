"""EIO and ENOSPC at every write, sync and rename of SQLite and the file backend, and a disk that is full.

Whatever fails: the caller gets a typed error, nothing acknowledged is missing when the store is opened
again, the store is whole, and work goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import holdfast as hf
from holdfast.records.conversations import Message
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from tests.crash import saving
from tests.crash.harness import (
    PATIENCE_S,
    ROOT,
    Tally,
    Wrong,
    boundaries,
    environment,
    judge_files,
    needs_strace,
    read_ledger,
    rerun,
    seed_of_today,
)

pytestmark = pytest.mark.crash

SAMPLE = 8
PLANT_TRIES = 12
CALLS = {
    "sqlite": ("pwrite64", "fdatasync"),
    "file": ("pwrite64", "fdatasync", "fsync", "write", "rename"),
}
ERRORS = {"fsync": ("EIO",), "fdatasync": ("EIO",)}  # the others run out of space as well
SPACE_KB = 600
COMPLAINTS = ("Traceback", "never retrieved", "Exception ignored")


class Point(NamedTuple):
    """One call that fails; with `lasting` all of its kind fail from there on."""

    call: str
    k: int
    error: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.error} at {self.call} number {self.k}{' and all later ones' * self.lasting}"


class Bench:
    """Fresh stores, each a copy of one."""

    def __init__(self, kind: str, folder: Path, ledgers: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._ledgers = ledgers
        self._count = 0
        asyncio.run(saving.make(self.url_in(folder / "template")))

    def url_in(self, folder: Path) -> str:
        folder.mkdir(exist_ok=True)
        return (
            f"sqlite:///{folder / 'holdfast.db'}" if self.kind == "sqlite" else f"file:///{folder / 'store'}"
        )

    def fresh(self, place: Path | None = None) -> tuple[str, Path]:
        """The URL and the ledger of one more run."""
        self._count += 1
        folder = (place or self._folder) / str(self._count)
        shutil.copytree(self._folder / "template", folder)
        return self.url_in(folder), self._ledgers / f"{self._count}.jsonl"

    def points(self) -> list[Point]:
        url, ledger = self.fresh()
        found = boundaries(CALLS[self.kind], arguments(url, ledger), self._folder / "trace")
        return [Point(call, k, error) for call, k in found for error in ERRORS.get(call, ("EIO", "ENOSPC"))]

    def fail(self, point: Point, tally: Tally, *, plant: str = "none") -> None:
        """Let a write of one run fail and judge, then go on and judge the end. Raises `Wrong`."""
        url, ledger = self.fresh()
        run_with(point, arguments(url, ledger, plant))
        lines = notes(ledger)
        tally.add(writes_failed=1, calls_refused=sum(kind == "refused" for kind, *_ in lines))
        judge(url, ledger, tally)
        asyncio.run(saving.open_and_save(url, saving.Ledger(ledger), range(saving.ROUNDS)))
        if refused := [line for line in notes(ledger)[len(lines) :] if line[0] == "refused"]:
            raise Wrong(f"work does not go on: {refused}")
        judge(url, ledger, tally, finished=True)


def arguments(url: str, ledger: Path, plant: str = "none") -> list[str]:
    import sys

    return [sys.executable, "-B", "-m", "tests.crash.saving", url, str(ledger), plant]


def run_with(point: Point, arguments: list[str]) -> None:
    """Run the program with failing writes; it has to end by itself, in order and without a traceback."""
    when = f"{point.k}{'+' * point.lasting}"
    inject = ["-e", f"trace={point.call}", "-e", f"inject={point.call}:error={point.error}:when={when}"]
    command = [needs_strace(), "-f", "-qq", "-o", os.devnull, *inject, *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise Wrong("the run did not end") from None
    if done.returncode or any(complaint in done.stderr for complaint in COMPLAINTS):
        raise Wrong(f"the run ended with {done.returncode}:\n{done.stderr[-3000:]}")


def notes(ledger: Path) -> list[tuple[str, str, str]]:
    return [(kind, id, value) for kind, id, value in read_ledger(ledger)]  # type: ignore[misc]


def judge(url: str, ledger: Path, tally: Tally, *, finished: bool = False) -> None:
    """Compare what was acknowledged with what is stored. Raises `Wrong`."""
    judge_files(url, finished=finished)
    acknowledged = [(id, value) for kind, id, value in notes(ledger) if kind == "ack"]
    stored = asyncio.run(stored_values(url, {id for id, _ in acknowledged}))
    for id, value in acknowledged:
        if stored.get(id) != value:
            raise Wrong(f"{id} was acknowledged as {value}, stored is {stored.get(id)}")
    tally.add(acknowledged_results_checked=len(acknowledged))


async def stored_values(url: str, ids: set[str]) -> dict[str, str]:
    """Of messages their number, when they say what they have to; of completed executions the result."""
    found: dict[str, str] = {}
    async with hf.App(url) as app:
        for check in ("events.gaps", "events.orphans", "events.ends"):
            if rows := await app.store.driver.fetch(check, app.store.tenant):
                raise Wrong(f"{check}: {[tuple(row) for row in rows]}")
        for message in await app.store.repo(Message).get_many([id for id in ids if id.startswith("m")]):
            if message.content == saving.content_of(message.id):
                found[message.id] = str(message.seq)
        for id in ids:
            execution = await app.store.find_execution(id) if id.startswith("x") else None
            if execution is not None and execution.status is ExecutionStatus.COMPLETED:
                history = await app.store.driver.fetch("events.history", execution.key)
                found[id] = str(codec.decode(history[-1][11]))
    return found


@pytest.fixture(params=["sqlite", "file"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, ledgers: Path) -> Bench:
    return Bench(request.param, tmp_path, ledgers)


def test_a_failing_write_loses_nothing(bench: Bench, crash_scope: str, tally: Tally) -> None:
    seed = seed_of_today()
    chance = random.Random(f"{seed}{bench.kind}")
    points = bench.points()
    missing = set(CALLS[bench.kind]) - {point.call for point in points}
    assert not missing, f"these are not called: {missing}"
    # A disk that stays full or broken, too.
    points += [point._replace(lasting=True) for point in points[:: 1 if crash_scope == "all" else 4]]
    chosen = points if crash_scope == "all" else chance.sample(points, SAMPLE)
    print(f"{bench.kind}: {len(chosen)} of {len(points)} points, seed {seed}")
    for point in chosen:
        try:
            bench.fail(point, tally)
        except Wrong as wrong:
            again = rerun(f"failing_write and {bench.kind}", seed=seed, scope=crash_scope)
            pytest.fail(f"{point}: {wrong}\nagain: {again}", pytrace=False)
    tally.require("writes_failed", "calls_refused", "acknowledged_results_checked")


def test_acknowledging_what_was_not_written_is_caught(bench: Bench, tally: Tally) -> None:
    points = [point for point in bench.points() if point.call == "pwrite64" and point.error == "ENOSPC"]
    chance = random.Random(seed_of_today())
    for point in chance.sample(points[len(points) // 3 :], PLANT_TRIES):
        try:
            bench.fail(point._replace(lasting=True), tally, plant="acknowledge-before-commit")
        except Wrong:
            tally.add(plants_caught=1)
            return
    pytest.fail("the harness did not notice that results were acknowledged and not written")


# A disk that is full.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A small file system of its own; None where this machine lets nobody mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    with ExitStack() as stack:
        mounted = mount(place, "size=64m")
        if mounted:
            stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        yield place if mounted else None


def mount(place: Path, options: str) -> bool:
    if os.geteuid() or not shutil.which("mount"):
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    return not done.returncode


def resize(place: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(place)], check=True)


async def fill_up(url: str, disk: Path, ledger: Path, tally: Tally) -> None:
    """Work until the disk is full, make room, and go on in the same process."""
    note = saving.Ledger(ledger)
    app, workflow = saving.build(url)
    async with app:
        usage = shutil.disk_usage(disk)
        resize(disk, usage.used // 1024 + SPACE_KB)
        number = 0
        while not await saving.save(app, workflow, note, range(number, number + 1)):
            number += 1
            assert number < 10_000, "the disk is not full"
        tally.add(disks_filled=1, calls_refused=1)
        await saving.save(app, workflow, note, range(number, number + 2))  # it is full, and stays so
        resize(disk, 65_536)
        if await saving.save(app, workflow, note, range(number, number + 5)):
            raise Wrong(f"there is space again, and calls are refused: {notes(ledger)[-10:]}")


def test_a_full_disk_loses_nothing(bench: Bench, disk: Path | None, ledgers: Path, tally: Tally) -> None:
    if disk is None:  # then writes fail as they do on a full disk
        points = [point for point in bench.points() if point.error == "ENOSPC"]
        for point in random.Random(seed_of_today()).sample(points, 3):
            bench.fail(point._replace(lasting=True), tally)
        return
    url, ledger = bench.fresh(disk)
    asyncio.run(fill_up(url, disk, ledger, tally))
    judge(url, ledger, tally, finished=True)
    tally.require("disks_filled", "acknowledged_results_checked")

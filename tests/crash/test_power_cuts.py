"""Power cuts: what SQLite acknowledged is on the disk, not in the system's memory.

A store on a file system of its own, in a file. In the middle of the work all writers are stopped, and only
when the kernel says so (a sync that is still under way would count as lost without being acknowledged) the
file system is shut down without writing its log: what was not synced is gone, as after a power cut. Then it
is mounted again and judged. Needs root and loop devices; part of `make crash`.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash.harness import (
    Tally,
    Wrong,
    await_state,
    command,
    judge,
    make_store,
    read_ledger,
    rerun,
    seed_of_today,
    start,
)

pytestmark = pytest.mark.crash

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
CYCLES = 30
PLANT_CYCLES = 20
EXECUTIONS = 2_000
READY_S = 30.0


class Disk:
    """An ext4 file system in a file, that can lose its power."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(256 * 2**20)
        self._run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(self._image))
        self.mount()

    def mount(self) -> None:
        self._run("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        deadline = time.monotonic() + 10
        while subprocess.run(["umount", str(self.place)], capture_output=True).returncode:
            if not os.path.ismount(self.place):
                return
            assert time.monotonic() < deadline, f"{self.place} can not be unmounted"
            time.sleep(0.02)

    def cut(self) -> None:
        """From now on nothing reaches the disk, and what has not been synced never will."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    @staticmethod
    def _run(*arguments: str) -> None:
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.strip()}"


@pytest.fixture
def disk(tmp_path: Path, crash_scope: str) -> Iterator[Disk]:
    if crash_scope != "all":
        pytest.skip("power cuts are part of `make crash`")
    problem = "" if os.geteuid() == 0 else "root"
    problem = problem or ("" if shutil.which("mkfs.ext4") else "mkfs.ext4 (Debian: e2fsprogs)")
    if problem:
        pytest.fail(f"power cuts need {problem}", pytrace=False)
    try:
        made = Disk(tmp_path)
    except AssertionError as error:
        pytest.fail(f"power cuts need a loop device to mount: {error}", pytrace=False)
    yield made
    with suppress(AssertionError):
        made.unmount()


def cut_power(
    disk: Disk, ledgers: Path, cycle: int, chance: random.Random, tally: Tally, **options: object
) -> None:
    """One store, one cut while it is written, and the judgement. Raises `Wrong`."""
    folder = disk.place / str(cycle)
    folder.mkdir()
    url = f"sqlite:///{folder / 'holdfast.db'}"
    make_store(url, ledgers / "none.jsonl")
    ledger = ledgers / f"{cycle}.jsonl"
    writer = start(command(url, ledger, f"x*{EXECUTIONS}", at_once=8, **options))
    try:
        enough = chance.randint(20, 600)
        deadline = time.monotonic() + READY_S
        while len(read_ledger(ledger)) < enough:
            assert writer.poll() is None, f"the writer ended early: {writer.communicate()[1].decode()[-500:]}"
            assert time.monotonic() < deadline, "the writer does not get on"
            time.sleep(0.01)
        writer.send_signal(signal.SIGSTOP)
        for task in Path(f"/proc/{writer.pid}/task").iterdir():
            await_state(int(task.name), "TD")
        disk.cut()
    finally:
        writer.kill()
        writer.communicate()
    tally.add(power_cuts=1)
    disk.unmount()
    disk.mount()
    ids = sorted({id for _kind, id, _name, _value in read_ledger(ledger)})
    tally.add(acknowledged_results_checked=judge(url, ledger, ids, finished=False))
    shutil.rmtree(folder)


def test_a_power_cut_loses_nothing_acknowledged(disk: Disk, ledgers: Path, tally: Tally) -> None:
    seed = seed_of_today()
    chance = random.Random(f"{seed}cut")
    for cycle in range(CYCLES):
        try:
            cut_power(disk, ledgers, cycle, chance, tally)
        except Wrong as wrong:
            again = rerun("power_cut", seed=seed, scope="all")
            pytest.fail(f"cut {cycle}: {wrong}\nagain: {again}", pytrace=False)
    tally.require("power_cuts", "acknowledged_results_checked")


def test_a_store_that_does_not_sync_is_caught(disk: Disk, ledgers: Path, tally: Tally) -> None:
    chance = random.Random(f"{seed_of_today()}plant")
    import apsw

    from holdfast.errors import HoldfastError

    for cycle in range(PLANT_CYCLES):
        try:
            cut_power(disk, ledgers, cycle, chance, tally, plant="synchronous-off")
        except (Wrong, HoldfastError, apsw.Error):  # lost, or damaged so that it does not open
            tally.add(plants_caught=1)
            return
    pytest.fail("the harness did not notice that nothing was synced")

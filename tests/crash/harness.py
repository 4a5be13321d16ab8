"""Kills, cuts, and the judge that compares what was acknowledged with what is stored.

A run of the workflow is a process of its own under `strace`, which kills it as it enters the k-th call of one
system call in one of its threads. The judge reads the ledger and the store and knows nothing of how the run
ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import apsw

from holdfast.errors import DamagedData
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.drivers.file import INDEX
from holdfast.store.files.place import TEMPORARY
from holdfast.stores import config_for, open_store
from tests.conformance.test_files import rows_in, rows_stored
from tests.crash.twelve import NAMES, Ledger, build, run

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "from tests.crash.twelve import main; main()"
SEED_VARIABLE = "HOLDFAST_CRASH_SEED"
CALLS = {
    "sqlite": ("write", "pwrite64", "fsync", "fdatasync", "unlink"),
    "postgresql": ("write", "sendto"),
    "mysql": ("write", "sendto"),
    "file": ("write", "pwrite64", "fsync", "fdatasync", "rename", "unlink"),
}
PATIENCE_S = 60.0


def seed_of_today() -> int:
    """Rotates with the date; a failure names it, and setting the variable brings it back."""
    return int(os.environ.get(SEED_VARIABLE) or datetime.now(UTC).strftime("%Y%m%d"))


@contextmanager
def ledger_folder() -> Iterator[Path]:
    """A folder on another file system than the stores, where the machine has one in memory."""
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-ledger-", dir=base) as name:
        yield Path(name)


# Counting.


@dataclass
class Tally:
    """What a test exercised; a run that exercised nothing proves nothing."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, **counts: int) -> None:
        self.counts.update(counts)

    def require(self, *names: str) -> None:
        empty = [name for name in names if not self.counts[name]]
        assert not empty, f"nothing was exercised: {', '.join(empty)} are zero in {dict(self.counts)}"


# Judging.


class Wrong(AssertionError):
    """A broken promise."""


def read_ledger(path: Path) -> list[tuple[str, str, str, str]]:
    """The whole lines of a ledger: kind, execution, name, value."""
    text = path.read_text() if path.exists() else ""
    return [tuple(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


async def stored_results(url: str, ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """What the store has for every execution: results by name, and its status under an empty name."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    async with open_store(config_for(url)) as store:
        for check in ("events.gaps", "events.orphans", "events.ends"):
            if rows := await store.driver.fetch(check, store.tenant):
                raise Wrong(f"{check}: {[tuple(row) for row in rows]}")
        for id in ids:
            for part in (id, f"{id}.pair"):
                execution = await store.find_execution(part)
                if execution is None:
                    continue
                if part == id:
                    found[id][""] = execution.status
                for row in await store.driver.fetch("events.history", execution.key):
                    kind, payload = row[1], row[11]
                    if kind == EventType.TIMER_FIRED:
                        found[id]["nap"] = "nap"
                    elif kind in (EventType.STEP_COMPLETED, EventType.CHILD_COMPLETED):
                        value = str(codec.decode(payload))
                        name = value.partition(":")[0]
                        if name in found[id]:
                            raise Wrong(f"{id}: two results of {name}: {found[id][name]} and {value}")
                        found[id][name] = value
    return found


def judge(url: str, ledger: Path, ids: Iterable[str], *, finished: bool, lines: int | None = None) -> int:
    """Compare ledger (or its first `lines`) and store; how many acknowledged results were checked.

    Raises `Wrong`.
    """
    judge_files(url, finished=finished)
    ids = list(ids)
    stored = asyncio.run(stored_results(url, ids))
    told: dict[tuple[str, str], str] = {}
    for kind, id, name, value in read_ledger(ledger)[:lines]:
        if kind == "body" and (id, name) in told:
            raise Wrong(f"{id}: the body of {name} ran again after its result was acknowledged")
        if kind == "ack":
            if told.setdefault((id, name), value) != value:
                raise Wrong(f"{id}: {name} was acknowledged as {told[id, name]} and then as {value}")
            if stored[id].get(name) != value:
                raise Wrong(f"{id}: {name} was acknowledged as {value}, stored is {stored[id].get(name)}")
        if kind == "done" and any(stored[id].get(part.partition(":")[0]) != part for part in value.split()):
            raise Wrong(f"{id}: its output {value} is not made of its results")
    if finished:
        for id in ids:
            missing = set(NAMES) - {name for told_id, name in told if told_id == id}
            if stored[id].get("") != "completed" or missing:
                raise Wrong(f"{id}: it is {stored[id].get('')} and lacks {sorted(missing)}")
    return len(told)


def judge_files(url: str, *, finished: bool) -> None:
    """The files of a store that has some are whole. Raises `Wrong`."""
    if (path := database_of(url)) is not None:
        connection = apsw.Connection(str(path))
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        if verdict != [("ok",)]:
            raise Wrong(f"the file is damaged: {verdict}")
    if url.startswith("file:"):
        judge_documents(url, finished=finished)


def database_of(url: str) -> Path | None:
    """The SQLite file of a store that has one."""
    scheme, _, path = url.partition("://")
    match scheme:
        case "sqlite":
            return Path(path.removeprefix("/"))
        case "file":
            return Path("/" + path.lstrip("/")) / INDEX
    return None


def judge_documents(url: str, *, finished: bool) -> None:
    """Each document of a file store is whole, and none of ours was taken for a person's.

    When all is `finished` they say what the rows say. Raises `Wrong`.
    """
    base = Path("/" + url.removeprefix("file://").lstrip("/"))
    try:
        written = rows_in(base)
    except DamagedData as damage:
        raise Wrong(f"a document is damaged: {damage}") from None
    if aside := sorted(path.name for path in base.rglob("*.edited-*")):
        raise Wrong(f"our own documents were taken for changed ones: {aside}")
    if finished:
        stored = asyncio.run(rows_stored(url))
        if differing := [name for name in {*written, *stored} if written.get(name) != stored.get(name)]:
            raise Wrong(f"the documents do not say what the rows say: {sorted(differing)}")
        if left := sorted(path.name for path in base.rglob(f"{TEMPORARY}*")):
            raise Wrong(f"halves of documents were left behind: {left}")


# Running.


def command(url: str, ledger: Path, *ids: str, **options: object) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [sys.executable, "-c", ENTRY, url, str(ledger), *ids, *flags]


def environment() -> dict[str, str]:
    """What a child process inherits: no settings of Holdfast, and this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has to succeed."""
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Wrong("the run did not end") from None
    if process.returncode:
        raise Wrong(f"the run failed with {process.returncode}:\n{errors.decode()[-2000:]}")


def go_on(url: str, ledger: Path, *ids: str) -> None:
    """Run the same executions again, in this process, to their ends."""
    app, workflow = build(url, Ledger(ledger))
    asyncio.run(asyncio.wait_for(run(app, workflow, list(ids)), PATIENCE_S))


def needs_strace() -> str:
    found = shutil.which("strace")
    assert found, "strace is needed to kill at every write: apt-get install strace"
    return found


def boundaries(calls: Iterable[str], arguments: list[str], trace: Path) -> list[tuple[str, int]]:
    """Every (system call, count) that a run reaches in one of its threads."""
    calls = list(calls)
    strace = [
        needs_strace(),
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        str(trace),
        "-e",
        f"trace={','.join(calls)}",
    ]
    finish(start([*strace, *arguments]))
    counted: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            counted[found[1], found[2]] += 1
    most: dict[str, int] = {}
    for (_thread, call), count in counted.items():
        most[call] = max(count, most.get(call, 0))
    return [(call, k) for call in calls for k in range(1, most.get(call, 0) + 1)]


def run_until(call: str, k: int, arguments: list[str]) -> bool:
    """Run until a thread enters `call` for the k-th time and is killed there; False: it never did."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={k}"]
    # Without --seccomp-bpf, which would leave out the injection.
    process = start([needs_strace(), "-f", "-qq", "-o", os.devnull, *inject, *arguments])
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Wrong("the run did not end") from None
    if process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return True
    if process.returncode:
        raise Wrong(f"the run failed with {process.returncode}:\n{errors.decode()[-2000:]}")
    return False


def await_state(pid: int, states: str, *, timeout_s: float = 20.0) -> None:
    """Wait until a process is in one of the kernel's states, such as T (stopped)."""
    deadline = time.monotonic() + timeout_s
    while (state := Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) not in states:
        assert time.monotonic() < deadline, f"process {pid} is in state {state}, not {states}"
        time.sleep(0.002)


def rerun(test: str, *, seed: int, scope: str) -> str:
    """The one command that repeats a failure."""
    return f"{SEED_VARIABLE}={seed} make crash PYTEST_ARGS='-k \"{test}\" --crash={scope}'"


def make_store(url: str, scratch: Path) -> None:
    """Make the schema, so that what is killed is the workflow: migrations have kill tests of their own."""
    app, _workflow = build(url, Ledger(scratch))

    async def make() -> None:
        async with app:
            pass

    asyncio.run(make())

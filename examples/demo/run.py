"""What `make demo` shows: a workflow is killed halfway with SIGKILL, run again, and does nothing twice.

The claim is counted, not assumed. Every step body writes a line with its step and the process that runs it
into a ledger before it does anything, and the store's log says which results were recorded when the process
died. A step whose result was recorded and whose body began again after that would be a repeated step; with
one of those the demonstration fails. Needs nothing but Python, Holdfast and this machine's standard library.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.events.log import EventLog
from holdfast.records.events import RESULTS, EventType
from holdfast.stores import config_for, open_store

HERE = Path(__file__).resolve().parent
PACKAGES = 20
FANS = 3
"""Branches that fan out over the packages: half of their bodies have begun when the kill comes."""
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Log:
    """What the store's log says: steps with a result, those of them that have no body, whether it ended."""

    results: frozenset[str]
    bodiless: frozenset[str]
    completed: bool


@dataclass(frozen=True, slots=True)
class Demo:
    """One demonstration in a folder of its own."""

    folder: Path
    packages: int

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/holdfast.db"

    def command(self) -> list[str]:
        library = sysconfig.get_path("stdlib")
        return [
            "run",
            str(HERE / "library.yaml"),
            f"library={library}",
            f"ledger={self.ledger}",
            f"work={self.folder}",
            *([] if self.packages == PACKAGES else [f"packages={self.packages}"]),
        ]

    def start(self) -> subprocess.Popen[bytes]:
        shown = shlex.join(["holdfast", *self.command()]).replace(str(self.folder), "$DEMO")
        say(f"\n$ {shown.replace(str(HERE) + os.sep, '')}")
        environ = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *self.command()],
            cwd=self.folder,
            env={**environ, "HOLDFAST_URL": self.url},
            stdout=subprocess.DEVNULL,
        )

    def begun(self) -> list[tuple[str, int]]:
        """Every body that has begun so far: its step, and the process that ran it."""
        if not self.ledger.exists():
            return []
        lines = self.ledger.read_text(encoding="utf-8").splitlines()
        return [(step, int(pid)) for step, pid in (line.rsplit(" ", 1) for line in lines)]

    def log(self) -> Log:
        """What is recorded now, read from the store."""
        return asyncio.run(self._read())

    async def _read(self) -> Log:
        results: set[str] = set()
        bodiless: set[str] = set()
        completed = False
        async with open_store(config_for(self.url)) as store:
            log, cursor, root = EventLog(store), "", None
            while events := await log.everything(after=cursor, limit=1000):
                cursor = events[-1].cursor
                for event in events:
                    root = root or event.execution_id
                    child = event.execution_id != root
                    completed |= event.type is EventType.EXECUTION_COMPLETED and not child
                    if event.type in RESULTS:
                        step = f"report/{event.path}" if child else str(event.path)
                        results.add(step)
                        if event.type in (EventType.TIMER_FIRED, EventType.CHILD_COMPLETED):
                            bodiless.add(step)
        return Log(frozenset(results), frozenset(bodiless), completed)


def main() -> int:
    """Show it; 0 when nothing was lost or repeated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--packages", type=int, default=PACKAGES, metavar="N", help="how much work (default 20)"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        return show(Demo(Path(folder), chosen.packages))


def show(demo: Demo) -> int:
    say("Holdfast takes stock of this machine's Python standard library: it fingerprints, measures and")
    say(f"packs the {demo.packages} largest packages, then writes a report. Halfway it is killed.")
    say(f"Everything it knows is in one new file, $DEMO/holdfast.db, where DEMO={demo.folder}")

    first = demo.start()
    with ending(first):
        if not wait_for(demo, first, demo.packages * FANS // 2 + FANS):
            say("the workflow ended before it could be killed; try a larger --packages")
            return 1
        first.send_signal(signal.SIGKILL)
        first.wait()
    restore_terminal()
    saved = demo.log()
    began_first = {step for step, _ in demo.begun()}
    cut_off = began_first - saved.results
    say(f"\n  kill -9 {first.pid}")
    say(f"  {len(saved.results)} steps have their result recorded; under way and cut off: {len(cut_off)}")
    say("\nThe same command again:")

    second = demo.start()
    with ending(second):
        code = second.wait(PATIENCE_S)
    end = demo.log()
    after_kill = [step for step, pid in demo.begun() if pid == second.pid]
    return conclude(saved, end, after_kill, code)


def conclude(saved: Log, end: Log, after_kill: list[str], code: int) -> int:
    """Compare the log at the kill, the log at the end, and the bodies that ran in between."""
    run_now = end.results - saved.results
    repeated = sorted(saved.results & set(after_kill))
    lost = sorted(saved.results - end.results)
    never = sorted(run_now - end.bodiless - set(after_kill))
    say("\nCounted from the ledger of the step bodies and the log in the store:\n")
    say(f"  {len(end.results):>3}  steps      in all, the three of the sub-workflow included")
    say(f"  {len(saved.results):>3}  saved      recorded before the kill, given back from the store")
    say(f"  {len(run_now):>3}  run        after the kill, those that were cut off among them")
    say(f"  {len(repeated):>3}  repeated   recorded before the kill and yet run again")
    for what, steps in (("repeated", repeated), ("lost", lost), ("recorded without a body", never)):
        if steps:
            say(f"FAILED: {what}: {', '.join(steps)}")
    if code != 0 or not end.completed:
        say(f"FAILED: the second run ended with exit code {code}")
    failed = bool(repeated or lost or never or code or not end.completed)
    say("" if failed else "\nNothing was lost, and nothing was done twice.")
    return 1 if failed else 0


def wait_for(demo: Demo, process: subprocess.Popen[bytes], count: int) -> bool:
    """Watch the ledger until `count` bodies have begun; False when the process ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if len(demo.begun()) >= count:
            return True
        time.sleep(0.005)
    return False


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind, whatever happens in the block."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def restore_terminal() -> None:
    """A killed process can not show the cursor again that its live display had hidden."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")
        sys.stderr.flush()


def say(text: str) -> None:
    """A line between the commands' own."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

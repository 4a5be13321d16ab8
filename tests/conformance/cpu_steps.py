"""Steps for processes of their own. They stand in a module because that is where a new process looks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import holdfast as hf

app = hf.App("memory://")


@dataclasses.dataclass
class Point:
    x: int
    y: float


@app.step(cpu=True)
def where_am_i(_number: int) -> int:
    return os.getpid()


@app.step(cpu=True)
def mirror(point: Point, *rest: int, **more: str) -> tuple[Point, list[int], dict[str, str]]:
    return Point(int(point.y), float(point.x)), list(rest), more


@app.step(cpu=True, max_attempts=2, backoff="1ms")
def die_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.write_text("")
        os._exit(3)
    return "came back"


@app.step(cpu=True)
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@app.step(cpu=True)
def fail(kind: str) -> Any:
    if kind == "value":
        raise ValueError("not this one")
    if kind == "exit":
        sys.exit("leaving")
    return object()


@app.step(cpu=True, max_attempts=3, backoff="1ms", retry_on=("KeyError",))
def fail_by_turns(folder: str) -> int:
    count = len(list(Path(folder).iterdir()))
    (Path(folder) / str(count)).write_text("")
    if count == 0:
        raise KeyError("again")
    raise ValueError("never again")


@app.step(cpu=True, timeout="2s")
def hang(pids: str) -> None:
    """Hold the processor, and have a child that does nothing."""
    child = subprocess.Popen(["sleep", "600"])
    Path(pids).write_text(f"{os.getpid()} {child.pid}")
    while True:
        pass


@app.step(cpu=True)
def hang_longer(pids: str) -> None:
    Path(pids).write_text(f"{os.getpid()}")
    time.sleep(600)


class Nested:
    @app.step(cpu=True, name="nested")
    @staticmethod
    def double(number: int) -> int:
        return 2 * number


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits to be reaped does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False

"""Who is there: the processes that are registered in a store, what they serve, and whether they live.

A look for people. Nothing here decides who owns what; `ownership` and `sweeps` do.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from holdfast.errors import WorkerNotFound, WorkerOutOfReach
from holdfast.fleet.ownership import Life, look_at, place_of
from holdfast.records.executions import BootId
from holdfast.store.rows import moment
from holdfast.store.store import Store


class WorkerState(StrEnum):
    """What can be said of a registered process."""

    ACTIVE = "active"
    DRAINING = "draining"  # it finishes what it runs and claims nothing
    LAPSED = "lapsed"  # its lease is over, or its process on this host is gone: others take what it ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One registered process. `details` is what a worker says of itself; empty for everything else."""

    boot: BootId
    program: str
    host: str
    pid: int
    started_at: datetime
    lease_left: timedelta
    details: Mapping[str, Any]
    running: int
    life: Life

    @property
    def is_worker(self) -> bool:
        """Whether it claims executions from queues."""
        return self.program == "worker" or bool(self.details)

    @property
    def state(self) -> WorkerState:
        """Where it stands, by the database's clock and what this host can tell."""
        if self.life is Life.GONE or self.lease_left <= timedelta(0):
            return WorkerState.LAPSED
        return WorkerState(self.details.get("state", WorkerState.ACTIVE))

    def serves(self, queue: str, class_: str) -> bool:
        """Whether it would claim from this queue and class now."""
        return (
            self.state is WorkerState.ACTIVE
            and queue in self.details.get("queues", ())
            and class_ in self.details.get("classes", ())
        )


async def read_roster(store: Store) -> list[Registered]:
    """Every registered process, oldest first. Reads only."""
    folder = place_of(store)
    return [
        Registered(
            boot=BootId(bytes(row[0])),
            program=row[1],
            host=row[2],
            pid=row[3],
            started_at=moment(row[4]),
            lease_left=timedelta(microseconds=row[5]),
            details=json.loads(row[6]),
            running=row[7],
            life=look_at(folder, BootId(bytes(row[0]))),
        )
        for row in await store.driver.fetch("roster.list")
    ]


async def somebody_serves(store: Store, queue: str, class_: str) -> bool:
    """Whether a live worker would claim from this queue and class. It may change the moment after."""
    return any(each.serves(queue, class_) for each in await read_roster(store))


def find_registered(roster: Sequence[Registered], id: str) -> Registered:
    """The process whose boot id begins with `id`; `WorkerNotFound` when it is none or several."""
    found = [each for each in roster if id and each.boot.hex().startswith(id.lower())]
    if len(found) == 1:
        return found[0]
    many = "several ids begin" if found else "no registered process has an id that begins"
    raise WorkerNotFound(f"{many} with {id[:40]!r}", where=id[:40])


def ask_to_stop(store: Store, process: Registered) -> None:
    """Send SIGTERM to a process of this host, and to no other one.

    A process id alone may have been given to somebody else meanwhile. So a handle on the process is taken
    first, then it is proven through that handle's process that it has the lock file of this very boot id
    open, and that the lock is held; the signal goes through the handle. Raises `WorkerOutOfReach` when any of
    that can not be shown.
    """
    folder = place_of(store)
    if folder is None or not hasattr(os, "pidfd_open"):
        raise _out_of_reach(process, "this system has no handles on processes")
    try:
        handle = os.pidfd_open(process.pid)
    except OSError as error:
        raise _out_of_reach(process, f"{error.strerror}".lower()) from error
    try:
        if not (_has_open(process.pid, folder / process.boot.hex()) and _is_alive(folder, process.boot)):
            raise _out_of_reach(process, "no process of this host holds its lock file")
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except OSError as error:
        raise _out_of_reach(process, f"{error.strerror}".lower()) from error
    finally:
        os.close(handle)


def _is_alive(folder: Path, boot: BootId) -> bool:
    return look_at(folder, boot) is Life.ALIVE


def _has_open(pid: int, path: Path) -> bool:
    """Whether process `pid` has the file at `path` open."""
    try:
        wanted = path.stat()
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        with suppress(OSError):
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def _out_of_reach(process: Registered, why: str) -> WorkerOutOfReach:
    return WorkerOutOfReach(
        f"worker {process.boot.hex()[:8]} ({process.host}, process {process.pid}) can not be stopped from "
        f"here: {why}",
        where=process.boot.hex(),
        host=process.host,
        pid=process.pid,
    )

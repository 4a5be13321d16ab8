"""Who runs an execution, and how another process takes it when that one is gone.

A process registers under a random boot id, holds an operating system lock on a file named after it, and
renews its lease from a thread and connection of its own. The execution's row names its owner and an epoch;
taking it raises the epoch under the row's lock, and every later write of the old owner is refused by that
number alone.

An owner is dead when its lease has run out by the database's clock, or its lock file on this host is free:
the system gives a lock back only when its process is gone, so running again straight after `kill -9` does not
wait. Names of hosts and process ids are for people and decide nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

from holdfast.errors import (
    HoldfastError,
    LeaseLost,
    NotResumable,
    OwnedElsewhere,
    StoreUnavailable,
    UnsupportedStorage,
)
from holdfast.records.executions import BootId, Execution, ExecutionStatus
from holdfast.store.drivers.base import Driver, Heartbeat, Transaction
from holdfast.store.entries import Holding
from holdfast.store.store import Store

RENEWALS_PER_LEASE = 3
_FOREVER = timedelta(days=36_500)
_LEFTOVER_S = 86_400.0


class Registration:
    """This process as an owner. `start` returns when it may own executions; `stop` when it no longer does.

    `on_lapse` is called in the event loop when the lease ran out before it could be renewed: the process has
    to stop what it runs, since others may have taken it, and register anew before it takes anything again.
    """

    def __init__(
        self, store: Store, *, lease: timedelta = timedelta(seconds=30), program: str = "run"
    ) -> None:
        self._driver: Driver = store.driver
        self._lease = lease
        self._program = program
        self._folder = owners_folder(store)
        self._lock: int | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.boot = BootId(b"")
        self.lapsed = False
        self.on_lapse: Callable[[], None] | None = None

    async def start(self) -> None:
        """Register under a new boot id and begin to renew."""
        self.boot = BootId(secrets.token_bytes(16))
        self.lapsed = False
        if self._folder is not None:
            _sweep(self._folder)
            # The lock comes first: a row without a locked file would look like an owner on another host.
            self._lock = _create_locked(self._folder / self.boot.hex())
        heartbeat = self._driver.heartbeat()
        lease = self._lease if heartbeat else _FOREVER
        try:
            await self._driver.fetch(
                "workers.register", self.boot, self._program, socket.gethostname(), os.getpid(),
                lease if self._driver.dialect == "postgresql" else round(lease / timedelta(microseconds=1)),
            )  # fmt: skip
        except BaseException:
            self._unlock(has_left=True)
            raise
        if heartbeat is not None:
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._renew,
                args=(heartbeat, asyncio.get_running_loop(), self._stopping, self.boot),
                name="holdfast-lease",
                daemon=True,
            )
            self._thread.start()

    async def stop(self) -> None:
        """Leave: end the renewals, drop the row and the lock. Call it when nothing is owned any more."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)
        has_left = False
        if self.boot:
            with suppress(HoldfastError):  # then the file that nobody locks tells, or the lease runs out
                await self._driver.fetch("workers.leave", self.boot)
                await self._driver.fetch("fleet.forget", self.boot)
                has_left = True
                await self._driver.fetch("workers.forget_dead")
        self._unlock(has_left=has_left)
        self.boot = BootId(b"")

    def _unlock(self, *, has_left: bool) -> None:
        if self._lock is not None and self._folder is not None:
            if has_left:
                (self._folder / self.boot.hex()).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    async def start_over(self) -> None:
        """After a lapse: come back under a new boot id."""
        await self.stop()
        await self.start()

    def _renew(
        self, heartbeat: Heartbeat, loop: asyncio.AbstractEventLoop, stopping: threading.Event, boot: BootId
    ) -> None:
        period_s = self._lease.total_seconds() / RENEWALS_PER_LEASE
        try:
            while not stopping.wait(period_s):
                try:
                    alive = heartbeat.renew(boot, self._lease)
                except HoldfastError:
                    continue  # the database may be back before the lease is over; the renewal itself decides
                if alive and self._lock is not None:
                    os.utime(self._lock)  # the age of the file is counted from here: see `_sweep`
                if not alive:
                    with suppress(RuntimeError):  # the loop is closed: nobody is left to stop
                        loop.call_soon_threadsafe(self._note_lapse, boot)
                    return
        finally:
            heartbeat.close()

    def _note_lapse(self, boot: BootId) -> None:
        if boot == self.boot:
            self.lapsed = True
            if self.on_lapse is not None:
                self.on_lapse()

    @property
    def folder(self) -> Path | None:
        """Where the lock files of this store's owners on this host are; None for memory."""
        return self._folder


@dataclass(frozen=True, slots=True)
class Claim:
    """An execution that is ours now: its handle, and whether it was taken from an owner that died."""

    holding: Holding
    taken_from: BootId | None
    recoveries: int


async def claim(
    store: Store, registration: Registration, execution: Execution, *, steal: bool = False
) -> Claim:
    """Make `execution` ours: its epoch rises, and its old owner's writes are refused from then on.

    One transaction: lock the owner's row, look at its lease again, raise the epoch. The history has to be
    read after this returns, in a new statement. `steal` takes it from a live owner too.

    Raises `OwnedElsewhere` (details: `lease_left_s`) for a live owner, `NotResumable` when it has ended.
    """
    driver = store.driver
    async with driver.transaction() as transaction:
        owner = execution.owner
        dead, left_s, place, life = True, 0.0, "just taken", Life.UNKNOWN
        if owner is not None:
            rows = await transaction.fetch("workers.lock", owner)
            left_s = rows[0][2] / 1_000_000 if rows else 0.0
            life = look_at(registration.folder, owner)
            dead = left_s <= 0 or life is Life.GONE
            place = f"{rows[0][0]}, process {rows[0][1]}" if rows else "unknown"
        rows = await transaction.fetch("executions.lock", execution.key)
        current_owner, epoch, recoveries, status, _wakes = rows[0]
        if ExecutionStatus(status).is_final:
            raise NotResumable(f"execution {execution.id} has {status}", id=execution.id, status=status)
        if current_owner is not None and (current_owner != owner or not (dead or steal)):
            raise OwnedElsewhere(
                f"execution {execution.id} is run by another owner ({place})",
                where=execution.id,
                id=execution.id,
                lease_left_s=round(max(left_s, 0.0), 1),
                alive=life is Life.ALIVE,
            )
        taken_from = BootId(current_owner) if current_owner is not None else None
        if taken_from is not None:
            progress = await transaction.fetch("executions.has_progress", execution.key, epoch)
            recoveries = 1 if progress else recoveries + 1
        taken = await transaction.fetch(
            "executions.take", execution.key, registration.boot, recoveries, epoch
        )
        limited = await transaction.fetch("fleet.holds_slots", execution.key)
    new_epoch, wakes = taken[0]
    holding = Holding(execution.key, execution.id, execution.tenant, epoch=new_epoch, wakes=wakes)
    holding.limited = bool(limited)
    return Claim(holding, taken_from, recoveries)


async def hold(transaction: Transaction, holding: Holding) -> None:
    """The fence for rows that are written beside the journal: `LeaseLost` unless the execution is still ours.

    Its row stays locked until the transaction ends, so nobody takes it over in between.
    """
    if not await transaction.fetch("executions.hold", holding.key, holding.epoch):
        raise LeaseLost(f"execution {holding.id} was taken over by another owner", id=holding.id)


async def is_abandoned(store: Store, execution: Execution) -> bool:
    """Whether the owner of `execution` is dead, by the same signs as in `claim`. A look: nothing is taken."""
    if execution.owner is None or look_at(place_of(store), execution.owner) is Life.GONE:
        return execution.owner is not None
    rows = await store.driver.fetch("workers.lease_left", execution.owner)
    return not rows or rows[0][0] <= 0


class Life(Enum):
    """What this host can tell about the process behind a boot id."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"  # it runs elsewhere, or has left in an orderly way: its lease decides


def look_at(folder: Path | None, boot: BootId) -> Life:
    """Try the lock of an owner's file: the system gives it back only when the process is gone.

    The try is for a shared lock: two processes that look at once must not take each other for the owner.
    """
    if folder is None:
        return Life.UNKNOWN
    try:
        descriptor = os.open(folder / boot.hex(), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return Life.UNKNOWN
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Life.ALIVE
    finally:
        os.close(descriptor)
    return Life.GONE


def owners_folder(store: Store) -> Path | None:
    """Where owners of this store lock files: beside a SQLite file; for a server, in this user's own folder.

    The folder for servers must not be shared between hosts, so it lies where the system keeps what ends with
    a boot. Raises `UnsupportedStorage` if somebody else owns it.
    """
    folder = place_of(store)
    if folder is None:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise UnsupportedStorage(
            f"{folder} belongs to somebody else", fix="remove it, or set XDG_RUNTIME_DIR"
        )
    return folder


def place_of(store: Store) -> Path | None:
    """The same folder without making it: for those who only look."""
    driver = store.driver
    if not driver.shared:
        return None
    path = getattr(driver, "path", None)
    if isinstance(path, Path):
        return path.parent / "owners"
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base or tempfile.gettempdir()) / f"holdfast-{os.getuid()}" / "owners"


def has_neighbours(folder: Path) -> bool:
    """Whether more than one process lives beside this store; a cheap look, for courtesy only."""
    alive = 0
    for boot in _boots(folder):
        alive += look_at(folder, boot) is Life.ALIVE
        if alive > 1:
            return True
    return False


def _boots(folder: Path) -> list[BootId]:
    try:
        return [BootId(bytes.fromhex(name)) for name in os.listdir(folder) if len(name) == 32]
    except (OSError, ValueError):
        return []


def _sweep(folder: Path) -> None:
    """Remove the files of processes that were killed so long ago that their leases are over as well."""
    border = time.time() - _LEFTOVER_S
    for boot in _boots(folder):
        path = folder / boot.hex()
        with suppress(OSError):
            if path.stat().st_mtime < border and look_at(folder, boot) is Life.GONE:
                path.unlink()


def _create_locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the lock file can not be made: {error.strerror}", where=str(path)) from error
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with suppress(OSError):  # the lock is what counts; this is for people
        os.write(descriptor, f"{os.getpid()} {sys.argv[0]}\n".encode("utf-8", "replace"))
    return descriptor

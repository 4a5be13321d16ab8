"""Appending to the log of one execution: what a crash left is cut off first, what is full is set aside.

Everything here blocks and belongs to one thread at a time.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from holdfast.errors import DamagedData
from holdfast.events.files.examining import examine
from holdfast.events.files.layout import (
    CURRENT,
    REPLACED,
    LogOptions,
    compress,
    folder_name,
    full_files,
    read_full,
    set_full_aside,
)
from holdfast.events.files.lines import LoggedEvent, read
from holdfast.store.files.place import make_folder, sync_folder, write_synced

OPEN_MAX = 400
SYNCS_AT_ONCE = 8
"""The disk has more to put together when several files are synced at once."""


class AppendFile:
    """A file that only grows, by writes that are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._synced = 0
        self._descriptor = -1

    def open(self) -> bytes:
        """Open it, making it and its folder, and read what it holds. Raises `OSError`."""
        for changed in make_folder(self.path.parent):
            sync_folder(changed)
        is_new = not self.path.exists()
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        if is_new:
            sync_folder(self.path.parent)
        data = self.path.read_bytes()
        self.size = self._synced = len(data)
        return data

    def write(self, data: bytes) -> None:
        """Add bytes; they are on disk after `sync`. Raises `OSError`: then none of them are there."""
        before, view = self.size, memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            self.cut(before)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Put what was written on disk. After an `OSError` it is not there any more."""
        if self.is_synced:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            # The system may take pages for written that it failed to write: nothing of them may be believed.
            with suppress(OSError):
                self.cut(self._synced)
            raise
        self._synced = self.size

    @property
    def is_synced(self) -> bool:
        """Whether all of it is on disk."""
        return self.size == self._synced

    def cut(self, size: int, *, keep: bytes = b"") -> None:
        """Make it as short as it was; `keep` is put beside it first. Raises `OSError`."""
        if keep:
            keep_torn(self.path, keep)
        os.ftruncate(self._descriptor, size)
        self.size, self._synced = size, min(size, self._synced)
        if keep:
            os.fsync(self._descriptor)

    def force(self) -> None:
        """Put it on disk as it is, cut or not. Raises `OSError`."""
        os.fsync(self._descriptor)
        self._synced = self.size

    def close(self) -> None:
        """Close it, synced or not. Safe twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LogFile:
    """The log of one execution, open for appending.

    `last` is the number of its last event, 0 for none; `key` whose events they are; `marks` the checksums of
    the lines in the current file, by number; `full` what is to be compressed.
    """

    def __init__(self, folder: Path, options: LogOptions) -> None:
        self.folder = folder
        self.last = 0
        self.key: bytes | None = None
        self.marks: dict[int, bytes] = {}
        self.full: list[Path] = []
        self._options = options
        self._file = AppendFile(folder / CURRENT)
        self._before = (0, 0)  # size and last number before the last append

    def open(self, *, counted: Mapping[bytes, int] | None = None) -> None:
        """Look at what is there, and cut off what a crash left.

        With `counted`, the number of the last event that counts by execution, also those behind it. Raises
        `DamagedData`, `OSError`.
        """
        try:
            self._look(self._file.open(), counted)
        except BaseException:
            self.close()
            raise
        if self._options.compress != "none":
            self.full = [path for _, path in full_files(self.folder) if path.suffix == ".log"]

    def _look(self, data: bytes, counted: Mapping[bytes, int] | None) -> None:
        path = self._file.path
        found = examine(data)
        if found.fault is not None:
            raise damage(path, found.end, found.fault)
        end = found.end
        for offset, line in found.lines:
            event = event_in(path, offset, line)
            if counted is not None and event.seq > counted.get(event.execution, 0):
                end = offset
                break
            self.last, self.key = event.seq, event.execution
            self._note(event.seq, line)
        if end < len(data):
            self._file.cut(end, keep=data[end:])
        if not self.last and (full := full_files(self.folder)):
            path = full[-1][1]
            for offset, line in examine(read_full(path)).lines[-1:]:
                event = event_in(path, offset, line)
                self.last, self.key = event.seq, event.execution
        self._before = (end, self.last)

    def append(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Add lines with their numbers, all or none; they are on disk after `sync`. Raises `OSError`."""
        if self._file.size >= self._options.rotate:
            self._rotate()
        before = (self._file.size, self.last)
        self._file.write(b"".join(line for _, line in lines))
        self._before = before
        self.last = lines[-1][0]
        for seq, line in lines:
            self._note(seq, line[:-1])

    def fitting(self, lines: Sequence[tuple[int, bytes]]) -> int:
        """How many of these lines may be appended before a new file is due; one at least."""
        size = 0 if self._file.size >= self._options.rotate else self._file.size
        for count, (_, line) in enumerate(lines, 1):
            size += len(line)
            if size >= self._options.rotate:
                return count
        return len(lines)

    def undo(self) -> None:
        """Take the last `append` back. Raises `OSError`."""
        self._file.cut(self._before[0])
        self._forget(self._before[1])

    def sync(self) -> None:
        """Put what was appended on disk. After an `OSError` it has to be opened anew."""
        self._file.sync()

    @property
    def is_synced(self) -> bool:
        """Whether all of it is on disk."""
        return self._file.is_synced

    def close(self) -> None:
        """Close the file, synced or not. Safe twice."""
        self._file.close()

    def _forget(self, last: int) -> None:
        self.last = last
        self.marks = {seq: mark for seq, mark in self.marks.items() if seq <= last}

    def _rotate(self) -> None:
        self.sync()
        self.close()
        self.full.append(set_full_aside(self._file.path))
        self._file.open()
        self.marks.clear()

    def _note(self, seq: int, line: bytes) -> None:
        self.marks[seq] = line[-10:-2]


class LogFiles:
    """The logs below one folder that are written to; those that were used last are kept open."""

    def __init__(self, base: Path, options: LogOptions) -> None:
        self.base = base
        self.options = options
        self._open: OrderedDict[str, LogFile] = OrderedDict()
        self._compressor: ThreadPoolExecutor | None = None
        self._syncing: ThreadPoolExecutor | None = None

    def file(
        self, id: str, tenant: str, key: bytes, *, counted: Mapping[bytes, int] | None = None
    ) -> LogFile:
        """The log of an execution. That of another one of the same id is moved aside first.

        `counted` has the last event that counts of each execution, if not all do. Raises `DamagedData`,
        `OSError`.
        """
        name = folder_name(id, tenant)
        file = self._open.get(name)
        if file is None:
            file = self._opened(name, counted)
        if file.key is not None and file.key != key:
            self._forget(name)
            file.folder.rename(self.base / f"{name}{REPLACED}{file.key.hex()}")
            sync_folder(self.base)
            file = self._opened(name, counted)
        file.key = key
        self._open.move_to_end(name)
        return file

    def _opened(self, name: str, counted: Mapping[bytes, int] | None) -> LogFile:
        file = LogFile(self.base / name, self.options)
        file.open(counted=counted)
        self._open[name] = file
        return file

    def _forget(self, name: str) -> None:
        self._open.pop(name).close()

    def sync(self) -> None:
        """Put everything on disk. Raises `OSError`; the files that failed have to be opened anew."""
        try:
            self.sync_all([*self._open.values()])
        except OSError:
            for name in [*self._open]:
                self._forget(name)
            raise

    def sync_all(self, files: Sequence[LogFile]) -> None:
        """Put these files on disk, all of them also when one fails. Raises the first `OSError`."""
        unsynced = [file for file in files if not file.is_synced]
        if len(unsynced) <= 1:
            for file in unsynced:
                file.sync()
            return
        if self._syncing is None:
            self._syncing = ThreadPoolExecutor(SYNCS_AT_ONCE, "holdfast-events-sync")
        done = [self._syncing.submit(file.sync) for file in unsynced]
        wait(done)
        for each in done:
            each.result()

    def tidy(self) -> None:
        """Close what is not needed, synced before, and have what is full compressed."""
        for file in self._open.values():
            full, file.full = file.full, []
            for path in full:
                self._compress(path)
        while len(self._open) > OPEN_MAX:
            name, file = next(iter(self._open.items()))
            file.sync()
            self._forget(name)

    def close(self) -> None:
        """Close all, and wait for what is being compressed. Safe twice."""
        while self._open:
            _, file = self._open.popitem()
            with suppress(OSError):
                file.sync()
            file.close()
        pools, self._compressor, self._syncing = (self._compressor, self._syncing), None, None
        for pool in pools:
            if pool is not None:
                pool.shutdown()

    def _compress(self, path: Path) -> None:
        if self.options.compress == "none":
            return
        if self._compressor is None:
            self._compressor = ThreadPoolExecutor(1, "holdfast-events-compress")
        # What fails stays as it is, whole, and is tried again when the log is opened the next time.
        self._compressor.submit(compress, path, self.options.compress)


def damage(path: Path, offset: int, what: str) -> DamagedData:
    """The error for a file that is not as it was written."""
    return DamagedData(
        f"{path.parent.name}/{path.name} is damaged at byte {offset}: {what}",
        where=f"{path}:{offset}",
        fix="restore it from a backup; beside a database, move the folder away: it is written anew",
        offset=offset,
    )


def keep_torn(path: Path, data: bytes) -> Path:
    """Put the end of a file that a crash left half written beside it, on disk."""
    number = 1
    while (aside := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    write_synced(aside, data)
    sync_folder(path.parent)
    return aside


def event_in(path: Path, offset: int, line: bytes) -> LoggedEvent:
    """What a whole line says. Raises `DamagedData` for one that is none of the log."""
    try:
        return read(line).event
    except (ValueError, KeyError) as error:
        raise damage(path, offset, f"a whole line is none of the log: {error}") from error

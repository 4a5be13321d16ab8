"""Where the files of a log are, what they are called, and who may write them.

    <dir>/<execution>/events.log              what is written to
    <dir>/<execution>/events.000001.log.gz    what was full, oldest first
    <dir>/<execution>/events.log.torn-1       what a crash left half written, set aside
    <dir>/.lock .position .store/             the writer's own

Names of folders are ids as file names spell them; those of other tenants than the default one end with `@`
and the tenant.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from holdfast.errors import DamagedData, MissingExtra, RetryLater, StoreInUse, StoreUnavailable
from holdfast.store.drivers import sqlite_place
from holdfast.store.files.lock import FolderLock
from holdfast.store.files.names import file_name
from holdfast.store.files.place import TEMPORARY, make_folder, sync_folder, write_synced
from holdfast.store.options import DEFAULT_TENANT

CURRENT = "events.log"
POSITION = ".position"
STORE = ".store"
REPLACED = "+"
"""Before the key in the name of a folder whose execution was removed and its id used again."""
_PART = re.compile(r"events\.(\d{6,})\.log(\.gz|\.zst)?")
_EXTENSIONS = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How a log is written. `rotate` is the size in bytes at which a new file begins.

    `fsync` is `always`, or `interval` for about once a second, which is for copies alone. `compress` is
    `gzip`, `zstd` or `none`.
    """

    fsync: str = "always"
    rotate: int = 64 * 2**20
    compress: str = "gzip"

    def __post_init__(self) -> None:
        if self.compress == "zstd":
            _zstd()


def folder_name(id: str, tenant: str) -> str:
    """The name of the folder of an execution."""
    name = file_name(id)
    return name if tenant == DEFAULT_TENANT else f"{name}@{file_name(tenant)}"


def execution_folders(base: Path) -> list[Path]:
    """The folders of executions, by name; none where there is no log."""
    with suppress(FileNotFoundError):
        return sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


# Files that were full.


def full_files(folder: Path) -> list[tuple[int, Path]]:
    """The files that were full, with their numbers, oldest first.

    One that is being compressed is there twice: then it is the one that is not compressed.
    """
    found: dict[int, Path] = {}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if part := _PART.fullmatch(name):
                number = int(part[1])
                if number not in found or part[2] is None:
                    found[number] = folder / name
    return sorted(found.items())


def read_full(path: Path) -> bytes:
    """The contents of a file, uncompressed. Raises `DamagedData` for damaged compression, `OSError`."""
    data = path.read_bytes()
    try:
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".zst":
            return bytes(_zstd().ZstdDecompressor().decompressobj().decompress(data))
    except (EOFError, OSError, zlib.error) as error:
        raise _undone(path, error) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise _undone(path, error) from error
    return data


def _undone(path: Path, error: Exception) -> DamagedData:
    return DamagedData(
        f"{path.name} does not decompress: {error}", where=str(path), fix="restore the file from a backup"
    )


def set_full_aside(path: Path) -> Path:
    """Give the current file, which is full and synced, the next number; what its name is now."""
    known = full_files(path.parent)
    number = known[-1][0] + 1 if known else 1
    full = path.with_name(f"events.{number:06}.log")
    path.rename(full)
    sync_folder(path.parent)
    return full


def compress(path: Path, how: str) -> None:
    """Replace a full file by its compressed form. Killed at any point, one whole file remains."""
    extension = _EXTENSIONS[how]
    if not extension or not path.exists():
        return
    temporary = path.with_name(f"{TEMPORARY}{path.name}{extension}")
    data = path.read_bytes()
    packed = gzip.compress(data, mtime=0) if how == "gzip" else _zstd().compress(data, _ZSTD_LEVEL)
    write_synced(temporary, packed, over=True)
    temporary.rename(path.with_name(path.name + extension))
    sync_folder(path.parent)
    path.unlink()


def _zstd() -> ModuleType:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "compressing with zstd needs the package zstandard", fix='pip install "holdfast[zstd]"'
        ) from error
    return zstandard


# One writer.


class LogLock:
    """The right to write below a folder, held by one process. `take` and `leave` are safe twice."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._lock = FolderLock(base)

    def take(self) -> None:
        """Take it, making the folder. Raises `StoreInUse` when another process has it, `OSError`."""
        sqlite_place.refuse_network(self.base)
        for folder in make_folder(self.base):
            sync_folder(folder)
        self._lock.take(self._in_use)

    def leave(self) -> None:
        """Give it back."""
        self._lock.leave()

    def _in_use(self, holder: str) -> StoreInUse:
        return StoreInUse(
            f"process {holder} writes the event log in {self.base}",
            where=str(self.base),
            fix="wait until it has ended, or name another folder",
        )


@contextmanager
def told(where: Path) -> Iterator[None]:
    """Translate what the system says about files."""
    try:
        yield
    except OSError as error:
        kind = RetryLater if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailable
        cause = os.strerror(error.errno) if error.errno else type(error).__name__
        fix = "make room on the disk" if kind is RetryLater else "look at the folder, its rights and its disk"
        raise kind(f"the event log can not be written: {cause}", where=str(where), fix=fix) from error

"""Files as the file backend writes them: whole or not at all, on disk when it says so."""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class Form:
    """How documents are written: `yaml` or `json`, and whether they are compressed."""

    format: str = "yaml"
    compress: bool = False

    @property
    def extension(self) -> str:
        """What names of documents end with."""
        return f".{self.format}" + (".gz" if self.compress else "")

    def packed(self, text: bytes) -> bytes:
        """The bytes of a file. The same text always gives the same bytes."""
        return gzip.compress(text, mtime=0) if self.compress else text


def unpacked(path: Path, data: bytes) -> bytes:
    """The text of a document; raises `OSError`, `EOFError` or `zlib.error` for damaged compression."""
    return gzip.decompress(data) if path.name.endswith(".gz") else data


def form_of(path: Path) -> str | None:
    """`yaml` or `json` for the name of a document; None for any other file."""
    name = path.name.removesuffix(".gz")
    if name.startswith("."):
        return None
    for format in ("yaml", "json"):
        if name.endswith(f".{format}"):
            return format
    return None


def digest_of(data: bytes) -> bytes:
    """What tells two contents of a file apart."""
    return hashlib.blake2b(data, digest_size=16).digest()


def write_all(files: Iterable[tuple[Path, bytes]], gone: Iterable[Path]) -> None:
    """Replace files by new contents and remove others; all of it is on disk when this returns.

    Each is written beside its place, synced and renamed, so that a reader never sees half of one. Raises
    `OSError`; files that were replaced before stay so.
    """
    folders: set[Path] = set()
    for path, data in files:
        folders |= make_folder(path.parent)
        folders.add(path.parent)
        _write(path, data)
    for path in gone:
        with suppress(FileNotFoundError):
            path.unlink()
            folders.add(path.parent)
    for folder in folders:
        sync_folder(folder)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    try:
        write_synced(temporary, data)
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_synced(path: Path, data: bytes, *, over: bool = False) -> None:
    """Write a file, and have its contents on disk; its name is there when its folder is synced.

    With `over` one that is there is written anew, else it is in the way: `FileExistsError`.
    """
    how = os.O_TRUNC if over else os.O_EXCL
    descriptor = os.open(path, os.O_CREAT | how | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> set[Path]:
    """Make a folder that is not there; the folders whose entries changed."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    return {each.parent for each in missing}


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

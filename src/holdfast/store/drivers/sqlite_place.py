"""Where a SQLite store may live: a local file that only its user can read.

WAL needs shared memory between the processes that use a file, which no network file system gives; opening
one there corrupts it sooner or later, so it is refused before the first byte.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from holdfast.errors import HoldfastError, NoStore, RetryLater, UnsupportedStorage

_NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre",
        "gpfs", "beegfs", "orangefs", "ocfs2", "gfs2", "davfs", "virtiofs", "ncpfs", "coda", "acfs",
        "fuse.sshfs", "fuse.s3fs",
        "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.gcsfuse", "fuse.davfs2",
    }
)  # fmt: skip
_MOUNTS = Path("/proc/self/mountinfo")


def prepare(path: Path, *, create: bool, mode: int) -> None:
    """Check the place of a database and, with `create`, make its folder and an empty file of `mode`.

    Raises `UnsupportedStorage` on a network file system or where nothing can be made, `NoStore` when there is
    no file to open, `RetryLater` when the disk is full.
    """
    refuse_network(path)
    if path.exists():
        if not path.is_file():
            raise UnsupportedStorage(f"{path} is not a file", fix="name a database file")
        return
    if not create:
        raise NoStore(f"No database at sqlite:///{path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path.parent, error) from error
    try:
        # The mode is set at birth, so that no other user can open the file in between; SQLite gives its
        # -wal and -shm files the same one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    except FileExistsError:
        return  # another process made it first
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(place: Path, error: OSError) -> HoldfastError:
    """Our error for a place that can not be made. An existing file in the way counts as one."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RetryLater("the disk is full", where=str(place), fix="make room on the disk")
    return UnsupportedStorage(
        f"{place} can not be made ({type(error).__name__})",
        where=str(place),
        fix="check the path, and that its folder may be written to",
    )


def refuse_network(path: Path) -> None:
    """Raise `UnsupportedStorage` if `path` lies on a network file system that Linux reports as one."""
    kind = filesystem_type(path)
    if kind in _NETWORK:
        raise UnsupportedStorage(
            f"{path} is on a network file system ({kind}), where SQLite's locks can not be trusted",
            fix="use a local disk, or PostgreSQL for several hosts",
        )


def filesystem_type(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that holds `path`; None where the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    wanted = os.path.realpath(path)
    best, found = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount = fields[4].replace("\\040", " ")
        inside = wanted == mount or wanted.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:  # a later mount on the same point hides the earlier one
            best, found = len(mount), after.split(" ", 1)[0]
    return found

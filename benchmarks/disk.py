"""The disk under the databases: which file system, how long a sync takes, and the shim that makes it slower.

A durable write on a memory file system costs nothing and measures nothing, so such a folder is refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_MEMORY = frozenset({"tmpfs", "ramfs"})
_SOURCE = Path(__file__).with_name("slowdisk.c")
_SHIM = Path(__file__).with_name(".peers") / "slowdisk.so"


class UnusableDisk(Exception):
    """The folder for databases does not stand on a disk, or a slower disk can not be made here."""


def file_system(folder: Path) -> str:
    """The type of the file system `folder` stands on, e.g. "ext4"; "unknown" where nobody tells."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    target = folder.resolve()
    best, kind = -1, "unknown"
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def folder_for_databases(wanted: Path | None) -> Path:
    """`wanted`, or the system's folder for large temporary files; refused when it is kept in memory."""
    folder = wanted or Path("/var/tmp")
    if (kind := file_system(folder)) in _MEMORY:
        raise UnusableDisk(f"{folder} is a {kind}: give a folder on a disk with --folder")
    return folder


def sync_ms(folder: Path, *, environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Fastest and median `fdatasync` after a 4 KiB append in `folder`, in ms, as a new process sees it."""
    script = (
        "import os,sys,tempfile,time\n"
        "f=tempfile.TemporaryFile(dir=sys.argv[1]);n=f.fileno();t=[]\n"
        "for _ in range(100):\n"
        "    os.write(n,bytes(4096));a=time.perf_counter();os.fdatasync(n);t.append(time.perf_counter()-a)\n"
        "t.sort();print(1e3*t[0],1e3*t[50])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=dict(os.environ) | (environment or {}),
        capture_output=True,
        text=True,
        check=True,
    )
    fastest, median = done.stdout.split()
    return float(fastest), float(median)


def slower_disk() -> dict[str, str]:
    """The environment variables that add 2 ms to every sync of a process; compiles the shim when needed."""
    if not _SHIM.exists() or _SHIM.stat().st_mtime < _SOURCE.stat().st_mtime:
        _SHIM.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["cc", "-O1", "-shared", "-fPIC", "-o", str(_SHIM), str(_SOURCE), "-ldl"],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise UnusableDisk(f"the shim needs a C compiler named cc: {error}") from error
    variables = {"LD_PRELOAD": str(_SHIM)}
    with tempfile.TemporaryDirectory(dir=folder_for_databases(None)) as probe:
        if sync_ms(Path(probe), environment=variables)[0] < 2:
            raise UnusableDisk("the preloaded shim does not delay fdatasync on this system")
    return variables

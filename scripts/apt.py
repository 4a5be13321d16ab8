"""Installing Debian packages, when this user may.

Only root installs, only what a step asked for by name, and services that come with a package are not
started: a `policy-rc.d` that says "not now" is in place while apt runs, unless the machine has its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_QUIET = ("-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")


def may_install() -> bool:
    """Whether `install` can work here: root on a machine with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str) -> str | None:
    """Install packages; `None` when they are in, else one line about what went wrong."""
    print(f"installing {' '.join(packages)} (apt-get)", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", *_QUIET, "install", "-y", "--no-install-recommends", *packages]
    with _services_stay_down():
        # A fresh machine has no package lists; an old list can name files that are gone.
        updated = _run(["apt-get", *_QUIET, "update"], environment)
        installed = _run(command, environment)
    if installed is None:
        return None
    return f"apt-get install {' '.join(packages)} failed: {installed if updated is None else updated}"


def _run(command: list[str], environment: dict[str, str]) -> str | None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode == 0:
        return None
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("E:")]
    return (errors or lines or [f"exit status {done.returncode}"])[-1]


@contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)

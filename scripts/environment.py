"""Makes `.venv`: a virtual environment with this checkout installed in it, editable.

`python3 -m scripts.environment [EXTRA ...]`. A stamp in the environment holds what it was installed
from: the digest of pyproject.toml, the directory and the extras; while they still match, nothing is
done. An environment that somebody made by hand is kept and installed into; one whose Python is gone,
or was replaced by another version, is made anew. Debian leaves out what `venv` needs: root gets the package
installed, anybody else is told its name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "holdfast-environment.json"
INSTALL_LOG = VENV / "holdfast-install.log"


class NoEnvironment(Exception):
    """The environment can not be made; the text is one line that says what to do."""


def wanted(extras: set[str]) -> dict[str, object]:
    """The stamp that an environment with these extras would carry."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {"pyproject": digest, "directory": str(ROOT), "extras": sorted(extras)}


def stamped() -> dict[str, object]:
    """The stamp of the environment that is there; empty when there is none that works."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def works() -> bool:
    """Whether the environment's Python runs, is new enough and finds what was installed for it."""
    # After an upgrade of the system's Python the link still runs, but its packages are in the old place.
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return _succeeds([str(VENV_PYTHON), "-c", check])


def satisfied(have: dict[str, object], want: dict[str, object]) -> bool:
    """Whether an environment stamped `have` serves where `want` is asked for; more extras do no harm."""
    return all(have.get(key) == want[key] for key in ("pyproject", "directory")) and _extras(want) <= _extras(
        have
    )


def _extras(stamp: dict[str, object]) -> set[str]:
    extras = stamp.get("extras")
    return set(map(str, extras)) if isinstance(extras, list) else set()


def ensure(extras: set[str]) -> None:
    """Make the environment or bring it up to date; raises NoEnvironment."""
    have = stamped()
    usable = works()
    if usable and satisfied(have, wanted(extras)):
        return
    # Extras that are in already stay: `make demo` after `make test` must not take anything away.
    want = wanted(extras | _extras(have))
    if not usable:
        _make_venv()
    STAMP.unlink(missing_ok=True)
    _install(want)
    STAMP.write_text(json.dumps(want, indent=2) + "\n")


def _make_venv() -> None:
    _ensure_ensurepip()
    print(f"making .venv with Python {sys.version.split()[0]}", flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode != 0:
        raise NoEnvironment(f"python3 -m venv failed: {_last_line(made.stdout)}")


def _ensure_ensurepip() -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        return
    from scripts import apt

    if not apt.may_install():
        raise NoEnvironment(
            "this Python can not make virtual environments; install it: apt-get install python3-venv"
        )
    if problem := apt.install("python3-venv"):
        raise NoEnvironment(problem)
    importlib.invalidate_caches()
    if importlib.util.find_spec("ensurepip") is None:
        raise NoEnvironment(
            f"{sys.executable} has no ensurepip; use the distribution's python3 or a complete Python"
        )


def _install(want: dict[str, object]) -> None:
    extras = ",".join(sorted(_extras(want)))
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    print(f"installing holdfast{f'[{extras}]' if extras else ''} into .venv", flush=True)
    command = [
        str(VENV_PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-e",
        target,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        # pip's last line names the package; what was wrong with the network or the build stands above it.
        INSTALL_LOG.write_text(done.stdout)
        raise NoEnvironment(f"pip install failed: {_last_line(done.stdout)} (more in {INSTALL_LOG})")


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def main(arguments: list[str]) -> int:
    """Entry point; prints one line and returns 1 when the environment can not be made."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        print(
            f"Python 3.11 or newer is needed, {sys.executable} is {found}: install one, or make PYTHON=…",
            file=sys.stderr,
        )
        return 1
    try:
        ensure(set(arguments))
    except NoEnvironment as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

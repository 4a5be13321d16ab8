"""Environments of the peers: one each, made on demand with the versions in `peers.toml`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

_FOLDER = Path(__file__).with_name(".peers")
_PINS = Path(__file__).with_name("peers.toml")


class PeerUnavailable(Exception):
    """A peer can not be measured here; the text says why and goes into its row."""


def packages(name: str) -> list[str]:
    """The pinned packages of an environment."""
    pins: list[str] = tomllib.loads(_PINS.read_text())[name]["packages"]
    return pins


def interpreter(name: str | None) -> Path:
    """The Python to run a system with: this one for None, else the peer's, installed when it is not there."""
    if name is None:
        return Path(sys.executable)
    folder = _FOLDER / name
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join(packages(name))
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name}: {', '.join(packages(name))}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages(name)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else "pip failed"
        raise PeerUnavailable(f"{name} can not be installed from the package index: {reason}")
    stamp.write_text(wanted)
    return python

"""Runs `holdfast` as a person would: a process with arguments, streams and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_S = 30


class Shell:
    """Runs `holdfast` in one folder, with an environment that nothing leaks into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Without bytecode in the tree; processes of one test share it all the same.
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def __call__(self, *arguments: str, stdin: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and go on; the streams are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str, code: int = 0, **environ: str) -> Any:
        done = self(*arguments, "--json", **environ)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def problem(self, *arguments: str, code: int) -> Any:
        """The problem+json of a command that has to fail with `code`."""
        done = self(*arguments, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stderr)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def lines(self, name: str) -> list[str]:
        """The lines of a file that steps append to; none before the first."""
        path = self.folder / name
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def files(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()
        }


def until(condition: Callable[[], object]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)

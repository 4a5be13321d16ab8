"""Runs `holdfast` as a person would: a process with arguments, streams and an exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from holdfast.cli.main import main
from tests import canary

PATIENCE_S = 30


class Shell:
    """Runs `holdfast` in one folder, with an environment that nothing leaks into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Bytecode lies outside of the folder that is looked at, and is shared: compiling takes long.
        cache = Path(tempfile.gettempdir()) / f"holdfast-test-bytecode-{os.getuid()}"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPYCACHEPREFIX": str(cache)}
        self.environ["HOLDFAST_LOGGING__FORMAT"] = "text"  # what a person at a terminal sees

    def __call__(
        self, *arguments: str, stdin: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )
        canary.search(done.stdout + done.stderr, f"what `holdfast {' '.join(arguments[:1])}` printed")
        return done

    def inside(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same within this process: for the many cases that only differ in what is said about them."""
        out, errors, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch.object(sys, "path", [*sys.path]),
            # What the variable of the same purpose above does for a process of its own.
            mock.patch.object(sys, "dont_write_bytecode", True),
            mock.patch.object(sys, "stdin", io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
        ):
            try:
                code = main(arguments)
            finally:
                signal.signal(signal.SIGTERM, before)
        canary.search(
            out.getvalue() + errors.getvalue(), f"what `holdfast {' '.join(arguments[:1])}` printed"
        )
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())

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
        done = self.inside(*arguments, "--json")
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


def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)

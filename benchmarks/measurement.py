"""One measurement: a private database, a process for the system, its JSON line made into a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import databases, disk, peers
from benchmarks.declarations import Scenario, System

Row = dict[str, Any]

_ROOT = Path(__file__).parents[1]


def measure(
    scenario: Scenario, system: System, backend: str, concurrency: int, seconds: float, folder: Path
) -> Row:
    """Run `system` once and return its row; one that can not run gets a row with a note and no value."""
    row: Row = {
        "scenario": scenario.name,
        "system": system.name,
        "backend": backend,
        "concurrency": concurrency,
        "value": None,
        "unit": scenario.unit,
        "mode": "",
    }
    if backend not in system.modes:
        return row | {"note": f"{system.name} does not run on {backend}"}
    mode = system.modes[backend]
    row["mode"] = mode.text
    try:
        python = peers.interpreter(system.environment)
        extra = disk.slower_disk() if scenario.slow_disk else {}
        with databases.private_database(backend, folder) as database:
            request = {
                "backend": backend,
                "database": database,
                "concurrency": concurrency,
                "seconds": seconds,
                "options": dict(mode.options),
                "jobs": round(mode.rate * seconds),
                "folder": str(folder),
                **scenario.request,
            }
            limit_s = seconds + scenario.setup_s
            figures = _run(python, scenario.module or system.module, request, limit_s, extra)
    except (peers.PeerUnavailable, disk.UnusableDisk, SystemFailed) as error:
        return row | {"note": str(error)}
    return row | figures | {"value": figures[scenario.value]}


class SystemFailed(Exception):
    """The system's process ended without its line; the text is the end of what it said."""


def _run(
    python: Path, module: str, request: dict[str, Any], limit_s: float, extra: dict[str, str]
) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [python, "-m", module, json.dumps(request)],
            cwd=_ROOT,
            env=dict(os.environ) | extra,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise SystemFailed(f"{module} did not answer within {limit_s:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SystemFailed(f"{module} ended with {done.returncode}: {' | '.join(said[-3:])}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def start_up(seconds: float) -> list[Row]:
    """How long a new process takes to say something, as medians over about `seconds` seconds each."""
    script = Path(sys.executable).with_name("holdfast")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "holdfast.cli.main"]
    timed_import = "import time; a = time.perf_counter(); import holdfast; print(time.perf_counter() - a)"
    rows = []
    for name, command, is_inner in (
        ("holdfast --help", [*program, "--help"], False),
        ("import holdfast", [sys.executable, "-c", timed_import], True),
        ("python -c pass", [sys.executable, "-c", "pass"], False),
    ):
        times: list[float] = []
        deadline = perf_counter() + seconds
        note = ""
        while not note and (len(times) < 3 or perf_counter() < deadline):
            began = perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
            took = perf_counter() - began
            note = "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
            times.append(float(done.stdout) if is_inner and not note else took)
        row: Row = {"scenario": "start", "system": name, "backend": "none", "concurrency": 1}
        value = None if note else 1e3 * median(times)
        rows.append(row | {"value": value, "unit": "ms", "mode": "warm file cache", "note": note})
    return rows

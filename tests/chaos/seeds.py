"""Seeds: one for each day, the ones that ever failed, and the command that brings one back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

VARIABLE = "HOLDFAST_CHAOS_SEED"
KEPT = Path(__file__).with_name("seeds.txt")
_TARGETS = {"short": "chaos-short", "long": "chaos"}

Seeded = Callable[[], AbstractContextManager[random.Random]]


def seed_of_today() -> int:
    """Rotates with the date; a failure names it, and setting the variable brings it back."""
    return int(os.environ.get(VARIABLE) or datetime.now(UTC).strftime("%Y%m%d"))


def rerun(test: str, *, seed: int, scope: str) -> str:
    """The one command that repeats a failure, as far as chance repeats: the machine's own timing does not."""
    return f"{VARIABLE}={seed} make {_TARGETS[scope]} PYTEST_ARGS='-k {test}'"


def kept(test: str) -> list[int]:
    """The seeds with which a test has failed before."""
    lines = (line.split() for line in KEPT.read_text().splitlines() if line and not line.startswith("#"))
    return [int(seed) for seed, name in lines if name == test]


def keep(seed: int, test: str) -> None:
    """Add a seed to the list, once; where the source can not be written to it is only printed."""
    if seed not in kept(test):
        with suppress(OSError), KEPT.open("a") as file:
            file.write(f"{seed} {test}\n")

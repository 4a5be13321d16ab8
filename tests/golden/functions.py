"""The functions that the golden YAML workflows call; they may not change, see `workflows`."""

from __future__ import annotations

from tests.golden import workflows


def square(number: int) -> int:
    return number * number


def flaky(name: str) -> str:
    if workflows.failures.get(name, 0) > 0:
        workflows.failures[name] -= 1
        raise ConnectionError(f"{name} is not reachable")
    return name

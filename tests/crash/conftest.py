"""Counters of what the crash tests exercised, printed at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.harness import Tally, ledger_folder


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Counts what a test exercised."""
    made = Tally()
    yield made
    record_property("exercised", dict(made.counts))


@pytest.fixture
def ledgers() -> Iterator[Path]:
    """A folder for ledgers, on another file system than the stores."""
    with ledger_folder() as folder:
        yield folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "exercised" and getattr(report, "when", "") == "teardown":
                    total.update(value)
    if total:
        terminalreporter.section("exercised by the crash tests")
        for name in sorted(total):
            terminalreporter.write_line(f"{total[name]:>8}  {name.replace('_', ' ')}")

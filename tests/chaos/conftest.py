"""What the chaos tests share: where histories lie, seeds, counters, and a report of what was exercised."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.seeds import Seeded, keep, kept, rerun, seed_of_today
from tests.crash.harness import ROOT, Tally, Wrong, environment, ledger_folder
from tests.databases import empty_store

IDLE_START_S = 1.0
SLOWEST = 6.0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Packets are dropped in the long form only: there it runs or fails, and is never skipped."""
    is_short = config.getoption("--chaos") == "short"
    return True if is_short and collection_path.name == "test_partitions.py" else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In the long form a test also runs with every seed that ever failed in it."""
    if "kept_seed" in metafunc.fixturenames and metafunc.config.getoption("--chaos") == "long":
        again = kept(metafunc.function.__name__)
        metafunc.parametrize(
            "kept_seed", [0, *again], ids=lambda seed: f"seed-{seed}" if seed else "new-seed"
        )


@pytest.fixture
def kept_seed() -> int:
    """A seed to repeat; none in the short form."""
    return 0


@pytest.fixture
def seeded(request: pytest.FixtureRequest, chaos_scope: str, kept_seed: int, folder: Path) -> Seeded:
    """A block with a source of chance; a verdict against us in it names the seed, which is kept.

    So is the history, for a closer look.
    """

    @contextmanager
    def block() -> Iterator[random.Random]:
        seed, test = kept_seed or seed_of_today(), request.node.originalname
        try:
            yield random.Random(f"{seed} {test}")
        except Wrong as wrong:
            keep(seed, test)
            evidence = Path(tempfile.mkdtemp(prefix="holdfast-chaos-"))
            shutil.copytree(folder, evidence, dirs_exist_ok=True)
            again = rerun(test, seed=seed, scope=chaos_scope)
            text = f"{request.node.name}: {wrong}\nhistory: {evidence}\nagain: {again}"
        else:
            return
        pytest.fail(text, pytrace=False)

    return block


@pytest.fixture
def slowness() -> float:
    """How many times as long as on an idle machine a process takes now to start: 1 to `SLOWEST`.

    Where that is much, leases and rests have to be longer: a team whose leases run out while nothing is
    broken, and which is killed before it has started, exercises nothing.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import holdfast.stores"], cwd=ROOT, env=environment(), check=True)
    return min(SLOWEST, max(1.0, (time.monotonic() - began) / IDLE_START_S))


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Counts what a test exercised."""
    made = Tally()
    yield made
    record_property("under chaos", dict(made.counts))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a history, on another file system than the stores."""
    with ledger_folder() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store that several processes can open."""
    return empty_store(request, tmp_path, is_made=True)


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store on a server, which a proxy can stand in front of."""
    return empty_store(request, tmp_path, is_made=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "under chaos" and getattr(report, "when", "") == "teardown":
                    for counter, number in value.items():
                        # What measures something is not added up: the worst of all tests counts.
                        worst = counter.endswith(("_ms", "_second"))
                        total[counter] = max(total[counter], number) if worst else total[counter] + number
    if total:
        terminalreporter.section("exercised by the chaos tests")
        for name in sorted(total):
            terminalreporter.write_line(f"{total[name]:>8}  {name.replace('_', ' ')}")

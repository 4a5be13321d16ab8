"""The judge of the crash tests on forged ledgers: each broken promise has its verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.harness import Tally, Wrong, go_on, judge, make_store, read_ledger

pytestmark = pytest.mark.crash


@pytest.fixture
def finished(tmp_path: Path) -> tuple[str, Path]:
    """A store with one finished execution, and its ledger."""
    url, ledger = f"sqlite:///{tmp_path / 'holdfast.db'}", tmp_path / "ledger.jsonl"
    make_store(url, ledger)
    go_on(url, ledger, "x")
    return url, ledger


def test_an_honest_ledger_passes(finished: tuple[str, Path]) -> None:
    url, ledger = finished
    assert judge(url, ledger, ["x"], finished=True) == 12


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (["body", "x", "first", ""], "ran again"),
        (["ack", "x", "first", "first:another"], "and then as"),
        (["ack", "x", "unheard", "unheard:of"], "stored is None"),
        (["done", "x", "", "first:another"], "not made of its results"),
    ],
)
def test_a_broken_promise_is_seen(finished: tuple[str, Path], line: list[str], verdict: str) -> None:
    url, ledger = finished
    with ledger.open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(Wrong, match=verdict):
        judge(url, ledger, ["x"], finished=True)


@pytest.mark.parametrize(
    ("damage", "verdict"),
    [
        ("DELETE FROM events WHERE path = 'flaky' AND result", "gaps"),
        ("UPDATE events SET payload = NULL, payload_ref = x'00' WHERE path = 'work'", "orphans"),
        ("UPDATE executions SET status = 'cancelled' WHERE id = 'x'", "ends"),
        ("DELETE FROM events WHERE type = 'execution.completed'", "ends"),
    ],
)
def test_a_damaged_store_is_seen(finished: tuple[str, Path], damage: str, verdict: str) -> None:
    import apsw

    url, ledger = finished
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    connection.execute(damage)
    assert connection.changes()
    connection.close()
    with pytest.raises(Wrong, match=verdict):
        judge(url, ledger, ["x"], finished=True)


def test_an_unfinished_execution_is_seen(finished: tuple[str, Path]) -> None:
    url, ledger = finished
    assert judge(url, ledger, ["x", "y"], finished=False) == 12
    with pytest.raises(Wrong, match="lacks"):
        judge(url, ledger, ["x", "y"], finished=True)


def test_a_line_that_a_kill_cut_off_is_no_acknowledgement(finished: tuple[str, Path]) -> None:
    url, ledger = finished
    before = len(read_ledger(ledger))
    with ledger.open("a") as file:
        file.write('["ack", "x", "first", "first:anoth')
    assert len(read_ledger(ledger)) == before
    assert judge(url, ledger, ["x"], finished=True) == 12


def test_counters_of_zero_fail() -> None:
    tally = Tally()
    tally.add(kills=3)
    tally.require("kills")
    with pytest.raises(AssertionError, match="power_cuts"):
        tally.require("kills", "power_cuts")

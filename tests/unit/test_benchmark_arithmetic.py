"""What the benchmarks make of their rows: medians, ratios and verdicts, without measuring anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.catalogue import CONTESTS, GROUPS, SCENARIOS, systems_for
from benchmarks.plot import svg
from benchmarks.queues import QUICK, shortened
from benchmarks.readme import update
from benchmarks.report import medians, table
from benchmarks.targets import RATIOS, verdicts


def row(
    system: str, value: float | None, *, scenario: str = "steps", concurrency: int = 50
) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "system": system,
        "backend": "sqlite",
        "concurrency": concurrency,
        "value": value,
        "unit": "steps/s",
        "mode": "",
    }


def test_a_median_keeps_a_whole_round_and_the_spread() -> None:
    [kept] = medians([row("raw", value) for value in (30.0, 10.0, 20.0)])
    assert (kept["value"], kept["least"], kept["most"], kept["rounds"]) == (20.0, 10.0, 30.0, 3)


def test_a_failed_round_does_not_count_but_a_system_without_any_is_shown() -> None:
    kept = medians([row("raw", None), row("raw", 5.0), row("dbos", None)])
    assert [(each["system"], each["value"]) for each in kept] == [("raw", 5.0), ("dbos", None)]


def test_a_target_is_judged_against_what_was_measured_beside_it() -> None:
    rows = [row("holdfast", 400.0), row("dbos", 10.0), row("raw", 1000.1)]
    judged = {verdict.what: verdict.reached for verdict in verdicts(rows)}
    assert judged == {
        "steps sqlite 50: holdfast / dbos": True,
        "steps sqlite 50: holdfast / raw": False,
    }


def test_nothing_is_judged_without_both_sides() -> None:
    assert list(verdicts([row("holdfast", 1.0)])) == []
    assert list(verdicts([row("dbos", 1.0)])) == []


def test_the_table_shows_the_multiple_and_what_could_not_run() -> None:
    text = table([row("holdfast", 100.0), row("raw", 200.0), {**row("dbos", None), "note": "no disk"}])
    assert "0.5" in text
    assert "no disk" in text


def test_the_plot_is_one_svg_with_every_system_named() -> None:
    drawn = svg([row("holdfast", 100.0), row("raw", 200.0)])
    assert drawn.startswith("<svg")
    assert "holdfast" in drawn and "raw" in drawn


def test_the_readme_block_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- numbers:begin -->\nold\n<!-- numbers:end -->\nafter\n")
    update([row("holdfast", 400.0), row("raw", 800.0), row("dbos", 10.0)], {"cores": 2}, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| 400 | 0.50 | 40 × |" in text
    assert "`python -m benchmarks steps --backend sqlite --concurrency 50 --peers all`" in text


def test_every_system_is_a_module_and_every_target_a_scenario() -> None:
    for system in (system for systems in CONTESTS.values() for system in systems.values()):
        assert importlib.util.find_spec(system.module) is not None, system.module
    assert {ratio.scenario for ratio in RATIOS} <= set(SCENARIOS)
    assert {name for group in GROUPS.values() for name in group} <= set(SCENARIOS)


def test_a_name_means_the_system_of_the_scenarios_contest() -> None:
    [steps] = systems_for(SCENARIOS["steps"], ["holdfast"])
    [queue] = systems_for(SCENARIOS["queue-0"], ["holdfast"])
    assert (steps.module, queue.module) == (
        "benchmarks.systems.holdfast",
        "benchmarks.systems.holdfast_queue",
    )
    assert systems_for(SCENARIOS["steps"], ["pgqueuer"]) == []
    assert [each.name for each in systems_for(SCENARIOS["idle"], ["all"])] == ["holdfast"]


def test_a_queue_is_flat_or_it_is_not() -> None:
    depths = [row("holdfast", value, scenario=name, concurrency=1)
              for name, value in (("queue-0", 100.0), ("queue-100k", 80.0), ("queue-1m", 50.0))]  # fmt: skip
    judged = {verdict.what: (verdict.measured, verdict.reached) for verdict in verdicts(depths)}
    assert judged == {"queue-0 to queue-done sqlite: greatest / least": (2.0, False)}
    assert [verdict.reached for verdict in verdicts(depths[:2])] == [True]


def test_a_quick_queue_is_shorter_and_says_so() -> None:
    quick = shortened(SCENARIOS["queue-done"])
    assert quick.request == {
        "scenario": "queue",
        "waiting": 1_000_000 // QUICK,
        "finished": 1_000_000 // QUICK,
    }
    assert str(QUICK) in quick.title
    assert shortened(SCENARIOS["steps"]) is SCENARIOS["steps"]


def test_the_readme_has_a_table_for_queues(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- numbers:begin -->\n<!-- numbers:end -->\n")
    rows = [
        row(name, value, scenario="queue-1m", concurrency=1)
        for name, value in (("holdfast", 400.0), ("pgqueuer", 200.0))
    ]
    update(rows, {}, page)
    text = page.read_text()
    assert "| 400 | – | 2.0 × |" in text
    assert "`python -m benchmarks queue-1m --backend sqlite --peers all`" in text


def test_processor_time_is_judged_beside_that_of_the_bare_driver() -> None:
    place = {"scenario": "records-get", "concurrency": 1}
    rows = [
        row(system, 1.0, **place) | {"backend": "postgresql", "cpu_us_per_step": cost}
        for system, cost in (("holdfast", 90.0), ("raw", 30.0))
    ]
    [judged] = [verdict for verdict in verdicts(rows) if "cpu" in verdict.what]
    assert (judged.measured, judged.reached) == (3.0, False)
    rows[0]["cpu_us_per_step"] = 60.0
    assert [verdict.reached for verdict in verdicts(rows) if "cpu" in verdict.what] == [True]


def test_quick_makes_fewer_rows_and_records_stand_for_their_operations() -> None:
    assert shortened(SCENARIOS["copy"]).request == {"rows": 100_000 // QUICK}
    assert GROUPS["records"] == ("records-get", "records-create", "records-find")
    systems = [each.name for each in systems_for(SCENARIOS["conversation"], ["all"])]
    assert systems == ["holdfast", "openai-agents", "langgraph", "langgraph-delta"]
    assert [each.name for each in systems_for(SCENARIOS["copy"], ["all"])] == ["holdfast"]

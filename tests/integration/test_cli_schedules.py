"""`holdfast schedules` and `holdfast scheduler`, as a person meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shell import Shell, until

FLOW = """\
name: flow
steps:
  - {id: note, shell: "echo ran >> ledger; printf done"}
"""
QUICK = {"HOLDFAST_WORKER__POLL": "100ms", "HOLDFAST_SCHEDULER__TICK": "100ms"}


def told(shell: Shell, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = shell.inside(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stderr if code else done.stdout)
    return found


@pytest.fixture
def flow(stored: Shell) -> Shell:
    """A store with a registered workflow that leaves a mark."""
    stored.write("flow.yaml", FLOW)
    assert stored.inside("workflows", "register", "flow.yaml").returncode == 0
    return stored


class Serving:
    """A `worker` or `scheduler` in the background."""

    def __init__(self, shell: Shell, words: tuple[str, ...], environ: dict[str, str]) -> None:
        self.log: Path = shell.folder / f"{words[0]}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", *words],
                cwd=shell.folder, env=shell.environ | QUICK | environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def serving(flow: Shell) -> Iterator[Any]:
    started: list[Serving] = []

    def start(*words: str, **environ: str) -> Serving:
        started.append(Serving(flow, words, environ))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def executions(shell: Shell) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = told(shell, "executions", "list")["items"]
    return rows


def test_a_scheduler_starts_what_is_due_and_a_worker_runs_it(flow: Shell, serving: Any) -> None:
    told(flow, "schedules", "create", "often", "flow", "--cron", "* * * * * *", "--overlap", "allow")
    service = serving("scheduler")
    until(lambda: len(executions(flow)) >= 2)
    assert service.end() == 0
    said = service.log.read_text()
    assert "scheduler for 1 schedule, tick 100ms, on " in said
    assert "stopped: " in said
    before = {each["id"] for each in executions(flow)}
    assert all(id.startswith("often-20") for id in before)
    worker = serving("worker", HOLDFAST_SCHEDULER__ENABLED="false")
    until(lambda: all(each["status"] == "completed" for each in executions(flow)))
    assert worker.end() == 0
    assert {each["id"] for each in executions(flow)} == before  # this worker starts nothing itself


def test_a_worker_is_a_scheduler_too_and_the_result_is_shown(flow: Shell, serving: Any) -> None:
    worker = serving("worker")
    told(flow, "schedules", "create", "often", "flow", "--cron", "*/5 * * * * *")  # while it runs
    until(lambda: told(flow, "schedules", "show", "often")["last_result"] == "completed")
    shown = told(flow, "schedules", "show", "often")
    assert shown["last_execution"].startswith("often-")
    assert shown["next_run_at"] > shown["last_run_at"]
    flow.inside("schedules", "pause", "often")
    states = {each["state"] for each in told(flow, "schedules", "firings", "often")["items"]}
    assert "completed" in states
    told(flow, "schedules", "list", "tag:maintenance")
    assert worker.end() == 0
    duties = told(flow, "schedules", "list", "tag:maintenance")["items"]
    assert {each["id"] for each in duties} >= {"maintenance-purge-sessions", "maintenance-settle-runbooks"}


def test_once_starts_what_is_due_and_ends(flow: Shell) -> None:
    told(flow, "schedules", "create", "often", "flow", "--cron", "* * * * * *", "--overlap", "allow")
    until(lambda: told(flow, "scheduler", "--once")["started"] > 0)
    assert executions(flow)
    dry = told(flow, "scheduler", "--dry-run", "--tick", "3s")
    assert (dry["tick"], dry["dry_run"]) == (3.0, True)


def test_next_trigger_and_update(flow: Shell) -> None:
    told(
        flow, "schedules", "create", "nightly", "flow", "--cron", "30 2 * * *", "--tz", "Europe/Berlin",
        "--start", "2027-03-27T12:00:00Z", "--jitter", "0s", "--catch-up-max", "7",
    )  # fmt: skip
    coming = told(flow, "schedules", "next", "nightly", "-n", "3")
    assert coming["means"] == "At 02:30 every day"
    assert [each["local"] for each in coming["items"]] == [
        "2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00", "2027-03-30T02:30:00+02:00",
    ]  # fmt: skip
    before = told(flow, "schedules", "show", "nightly")
    assert before["next_run_at"] == "2027-03-28T01:00:00Z"
    assert told(flow, "schedules", "trigger", "nightly", "--dry-run")["dry_run"] is True
    assert executions(flow) == []
    fired = told(flow, "jobs", "trigger", "nightly")
    assert (fired["cause"], fired["state"]) == ("trigger", "started")
    assert [each["id"] for each in executions(flow)] == [fired["execution"]]
    after = told(flow, "schedules", "show", "nightly")
    assert (after["next_run_at"], after["last_execution"]) == (before["next_run_at"], fired["execution"])
    dry = told(flow, "schedules", "update", "nightly", "--cron", "@daily", "--dry-run")
    assert dry["cron"] == "@daily"
    assert told(flow, "schedules", "show", "nightly") == after
    changed = told(flow, "schedules", "update", "nightly", "--cron", "every 6h", "--overlap", "cancel")
    assert changed["next_run_at"] == "2027-03-27T12:00:00Z"
    assert flow.inside("schedules", "next", "nightly", "-n", "1").stdout == "2027-03-27T13:00:00+01:00\n"
    assert flow.inside("schedules", "firings", "--quiet").stdout.startswith("nightly@20")


@pytest.mark.parametrize(
    ("words", "code", "where"),
    [
        (("create", "x", "flow", "--cron", "61 * * * *"), "HF1230", "cron"),
        (("create", "x", "flow", "--cron", "every day"), "HF1230", "cron"),
        (("create", "a b", "flow", "--cron", "@daily"), "HF1230", "id"),
        (("create", "x", "maintenance:nothing", "--cron", "@daily"), "HF1230", "workflow"),
        (("create", "x", "flow", "--cron", "@daily", "--start", "soon"), "HF1003", "--start, --end"),
        (("update", "nightly"), "HF1003", "update"),
        (("update", "nightly", "--tz", "Nowhere"), "HF1230", "zone"),
    ],
)
def test_what_can_not_be_is_refused(flow: Shell, words: tuple[str, ...], code: str, where: str) -> None:
    told(flow, "schedules", "create", "nightly", "flow", "--cron", "@daily")
    wrong = told(flow, "schedules", *words, code=2)
    assert (wrong["code"], wrong["where"]) == (code, where)
    assert [each["id"] for each in told(flow, "schedules", "list")["items"]] == ["nightly"]


def test_reading_makes_nothing(holdfast: Shell) -> None:
    for words in (("list",), ("show", "x"), ("next", "x"), ("firings",), ("trigger", "x")):
        assert holdfast.inside("schedules", *words).returncode == 3
    assert holdfast.inside("scheduler", "--dry-run").returncode == 0
    assert not (holdfast.folder / ".holdfast").exists()

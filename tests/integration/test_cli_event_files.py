"""The event log in files on the command line: killed and run again, exported, verified, made into a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.shell import Shell, until

LONG = """\
name: long
steps:
  - {id: one, shell: "echo one >> ledger; printf 1"}
  - {id: two, needs: [one], shell: "echo two >> ledger; printf 2"}
  - id: gate
    needs: [two]
    shell: 'echo gate >> ledger; touch arrived; while [ ! -e open ]; do sleep 0.02; done; printf 3'
  - {id: last, needs: [gate], shell: "echo last >> ledger; printf 4"}
outputs: {last: "${{ steps.last.output }}"}
"""
# The section "Testing Persistence" of the documents, with the name of the program in place of theirs.
TESTING_PERSISTENCE = """\
# Start a long-running workflow
holdfast run long-workflow.yaml &
PID=$!

# Wait a few seconds for some tasks to complete
sleep 5

# Kill the process
kill $PID

# Resume the workflow - it should continue from where it left off
holdfast run long-workflow.yaml
"""
DEVELOPMENT = {
    "HOLDFAST_STATE_STORE_TYPE": "in-memory",
    "HOLDFAST_EVENT_LOG_TYPE": "filesystem",
    "HOLDFAST_EVENT_LOG_DIR": "./var/run",
}
STAGING = {"HOLDFAST_EVENT_LOG_TYPE": "filesystem", "HOLDFAST_EVENT_LOG_DIR": "./var/run"}
WITHOUT_PREFIX = {name.removeprefix("HOLDFAST_"): value for name, value in DEVELOPMENT.items()}
FLAGS = ["--state-store-type", "in-memory", "--event-log-dir", "./var/run"]


@pytest.fixture
def long(holdfast: Shell) -> Shell:
    holdfast.write("long-workflow.yaml", LONG)
    return holdfast


def run_section(shell: Shell, section: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of a section of a document."""
    script = f'holdfast() {{ exec "{sys.executable}" -m holdfast "$@"; }}\n{section}'
    # A shell that waits for its child makes it sure that the second run begins after the first has ended.
    return subprocess.run(
        ["bash", "-c", script], cwd=shell.folder, env=shell.environ | environ, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def lines_below(folder: Path) -> list[dict[str, object]]:
    (path,) = folder.glob("*/events.log")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("signal", ["", "-KILL"])
@pytest.mark.parametrize("settings", ["development", "without prefix", "flags", "sqlite", "postgresql"])
def test_the_documents_test_of_persistence_works_as_written(
    long: Shell, request: pytest.FixtureRequest, settings: str, signal: str
) -> None:
    """As written, but that it waits for the tasks and not for some seconds."""
    environ = {"development": DEVELOPMENT, "without prefix": WITHOUT_PREFIX, "flags": {}}.get(
        settings, STAGING
    )
    if settings == "postgresql":
        environ = environ | {"HOLDFAST_DATABASE_URL": str(request.getfixturevalue("fresh_postgres"))}
    section = TESTING_PERSISTENCE.replace("sleep 5", "until [ -e arrived ]; do sleep 0.05; done")
    section = section.replace("kill $PID", f"kill {signal} $PID; wait $PID; touch open")
    if settings == "flags":
        section = section.replace("long-workflow.yaml", f"long-workflow.yaml {' '.join(FLAGS)}")
    done = run_section(long, section, **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"last": "4"}
    assert "2 steps saved before, 2 run, 0 repeated" in done.stderr
    ran = (long.folder / "ledger").read_text().split()
    assert [ran.count(name) for name in ("one", "two", "last")] == [1, 1, 1]
    lines = lines_below(long.folder / "var/run")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (lines[0]["type"], lines[-1]["type"]) == ("WORKFLOW_STARTED", "WORKFLOW_COMPLETED")
    completed = [line["taskId"] for line in lines if line["type"] == "TASK_COMPLETED"]
    assert completed == ["one", "two", "gate", "last"]


def test_what_is_acknowledged_is_in_the_record_at_once(long: Shell) -> None:
    """Killed while the gate's body runs: both results before it are on disk, and are read back."""
    running = long.start("run", "long-workflow.yaml", *FLAGS)
    try:
        until((long.folder / "arrived").exists)
    finally:
        running.kill()
        running.communicate()
    done = [
        line["taskId"] for line in lines_below(long.folder / "var/run") if line["type"] == "TASK_COMPLETED"
    ]
    assert done == ["one", "two"]
    (shown,) = long.json("executions", "list", **DEVELOPMENT)["items"]
    assert shown["status"] == "running"
    (long.folder / "open").touch()


def test_a_second_process_is_refused_and_reading_makes_nothing(long: Shell) -> None:
    done = long("executions", "list", **DEVELOPMENT)
    assert done.returncode == 3 and "HF2003" in done.stderr
    assert not (long.folder / "var").exists()
    running = long.start("run", "long-workflow.yaml", *FLAGS)
    try:
        until((long.folder / "arrived").exists)
        done = long("run", "long-workflow.yaml", *FLAGS)
        assert done.returncode == 4 and f"process {running.pid} writes the event log" in done.stderr
    finally:
        (long.folder / "open").touch()
        running.communicate(timeout=60)


def test_export_verify_and_rebuild(long: Shell) -> None:
    (long.folder / "open").touch()
    assert long("run", "long-workflow.yaml", "--id", "x", "--event-log-dir", "log").returncode == 0
    file = (long.folder / "log/x/events.log").read_text()
    assert long("events", "export", "x").stdout == file
    assert long("events", "export", "--to", "all.ndjson").returncode == 0
    assert (long.folder / "all.ndjson").read_text() == file

    done = long("events", "verify", "--files", "log")
    assert done.returncode == 0 and "events in files agree" in done.stdout
    new = ("--storage", "sqlite:///new.db")
    made = long.json("events", "rebuild", "log", *new)
    assert (made["executions"], made["unfinished"]) == (1, 0)
    assert long("events", "verify", "--files", "log", *new).returncode == 0
    assert long.json("executions", "show", "x", *new)["status"] == "completed"
    again = long.json("events", "rebuild", "log", *new)
    assert (again["executions"], again["present"]) == (0, 1)

    assert long("run", "long-workflow.yaml", "--new", *new).returncode == 0
    done = long("events", "rebuild", "log", *new)
    assert done.returncode == 4 and "HF4071" in done.stderr


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda data: data.replace(b'"2"', b'"3"', 1), "damaged"),
        (lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "missing"),
    ],
)
def test_verify_tells_what_is_wrong_in_files(long: Shell, spoil: object, kind: str) -> None:
    (long.folder / "open").touch()
    assert long("run", "long-workflow.yaml", "--id", "x", "--event-log-dir", "log").returncode == 0
    path = long.folder / "log/x/events.log"
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    found = long.json("events", "verify", "--files", "log", code=6)
    assert found["whole"] is False and {each["kind"] for each in found["items"]} == {kind}
    done = long("events", "verify", "--files", "nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr


def test_settings_that_would_lose_something_are_refused(long: Shell) -> None:
    interval = DEVELOPMENT | {"HOLDFAST_EVENT_LOG__FSYNC": "interval"}
    done = long("run", "long-workflow.yaml", **interval)
    assert done.returncode == 2 and "event_log.fsync" in done.stderr
    done = long("run", "long-workflow.yaml", HOLDFAST_EVENT_LOG_TYPE="memory")
    assert done.returncode == 2 and "event_log.type" in done.stderr
    done = long("events", "rebuild", "nowhere", HOLDFAST_STATE_STORE_TYPE="in-memory")
    assert done.returncode == 2
    done = long("events", "rebuild", "nowhere")
    assert done.returncode == 3 and "nowhere" in done.stderr


def test_a_folder_that_can_not_be_made_is_said(long: Shell) -> None:
    (long.folder / "file").touch()
    done = long("run", "long-workflow.yaml", "--event-log-dir", "file/log", "--state-store-type", "in-memory")
    assert done.returncode == 5 and "HF2001" in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(long.folder).count("var") == 0

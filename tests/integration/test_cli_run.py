"""`holdfast run` and `resume`: to the end, killed and run again, stopped, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.integration.shell import Shell, until

# Each step appends a line to the ledger when its body runs; `gate` waits for a file.
LEDGER = """\
name: ledger
inputs: {properties: {who: {type: string, default: world}, count: {type: integer, default: 3}}}
steps:
  - {id: first, shell: "echo first >> ledger; printf '%s' one"}
  - id: items
    needs: [first]
    for_each: [a, b, c]
    env: {ITEM: "${{ item }}"}
    shell: 'echo "item $ITEM" >> ledger; printf %s "$ITEM"'
  - id: gate
    needs: [items]
    shell: 'echo gate >> ledger; touch arrived; while [ ! -e open ]; do sleep 0.02; done; printf through'
  - {id: last, needs: [gate], shell: "echo last >> ledger; printf done"}
outputs: {items: "${{ steps.items.output }}", last: "${{ steps.last.output }}"}
"""
SAVED = ["first", "item a", "item b", "item c"]
OUTPUT = {"items": ["a", "b", "c"], "last": "done"}
FAILING = """\
name: failing
steps:
  - {id: good, shell: "true"}
  - {id: bad, needs: [good], shell: "echo one >&2; echo two >&2; exit 3"}
"""
PYTHON = """\
import dataclasses
import holdfast as hf

app = hf.App()

@dataclasses.dataclass
class Order:
    id: str
    cents: int = 0

@app.step
async def note(text: str) -> str:
    with open("ledger", "a") as file:
        file.write(text + "\\n")
    return text

@app.workflow
async def typed(
    name: str, count: int, ratio: float = 1.0, flag: bool = False, order: Order | None = None
) -> list:
    return [await note(name), count, ratio, flag, order.cents if order else None]

@app.workflow
async def lists(names: list[str], ages: dict[str, int] | None = None, tag: str | None = None) -> list:
    return [names, ages, tag]

@app.workflow
async def broken() -> None:
    raise RuntimeError("no \\x1b[31mluck")
"""


@pytest.fixture
def ledger(holdfast: Shell) -> Shell:
    holdfast.write("ledger.yaml", LEDGER)
    return holdfast


def kill_at_the_gate(shell: Shell, *arguments: str, number: int = signal.SIGKILL) -> tuple[int, str, str]:
    """Send a signal while the gate's body runs; the exit code and the streams. The gate is open then."""
    process = shell.start("run", "ledger.yaml", *arguments)
    until((shell.folder / "arrived").exists)
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    (shell.folder / "arrived").unlink()
    (shell.folder / "open").touch()
    return process.returncode, out, errors


def test_a_run_prints_its_result_on_stdout_and_the_rest_on_stderr(stored: Shell) -> None:
    stored.write("ledger.yaml", LEDGER)
    (stored.folder / "open").touch()
    done = stored("run", "ledger.yaml")
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUT)
    assert done.stdout.count("\n") == 1
    progress = done.stderr.splitlines()
    assert [line.split()[1] for line in progress[:-1]] == [
        "first", "items[0]", "items[1]", "items[2]", "gate", "last",
    ] or sorted(line.split()[1] for line in progress[:-1]) == [
        "first", "gate", "items[0]", "items[1]", "items[2]", "last",
    ]  # fmt: skip
    assert progress[-1].startswith("✔ ")
    assert progress[-1].endswith("(0 steps saved before, 6 run, 0 repeated)")


def test_killed_and_run_again_it_goes_on(stored: Shell) -> None:
    stored.write("ledger.yaml", LEDGER)
    assert kill_at_the_gate(stored)[0] == -signal.SIGKILL
    record = stored.json("run", "ledger.yaml")
    assert record["status"] == "completed"
    assert record["output"] == OUTPUT
    assert (record["saved"], record["run"], record["repeated"]) == (4, 2, 0)
    assert sorted(stored.lines("ledger")[:4]) == SAVED
    # The gate was in the middle of its body: that one runs again, nothing that was saved does.
    assert stored.lines("ledger")[4:] == ["gate", "gate", "last"]
    assert len(stored.json("executions", "list")["items"]) == 1
    assert stored.json("events", "verify")["whole"] is True


def test_after_a_kill_on_this_host_nobody_waits_for_the_lease(stored: Shell) -> None:
    stored.write("ledger.yaml", LEDGER)
    kill_at_the_gate(stored)
    shown = stored.json("executions", "show", "@last")
    assert (shown["status"], shown["next"]) == ("running", f"holdfast resume {shown['id']}")
    prose = stored("executions", "show", "@last").stdout
    assert "running (its owner is dead; nobody runs it)" in prose
    assert prose.splitlines()[-1] == f"go on with: holdfast resume {shown['id']}"
    done = stored("run", "ledger.yaml")
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUT)
    assert "belongs to an owner" not in done.stderr
    assert "taken over  once since its last result" in stored("executions", "show", "@last").stdout


def test_a_time_limit_hands_back_and_says_how_to_go_on(stored: Shell) -> None:
    stored.write("ledger.yaml", LEDGER)
    done = stored("run", "ledger.yaml", "--timeout", "1s")
    assert (done.returncode, done.stdout) == (9, "")
    assert " was stopped after " in done.stderr
    shown = stored.json("executions", "show", "@last")
    assert shown["status"] == "ready"
    assert done.stderr.splitlines()[-1] == f"  resume with: holdfast resume {shown['id']}"
    again = stored.json("resume", "@last", "--timeout", "100ms", code=9)
    assert (again["status"], again["output"]) == ("interrupted", None)
    (stored.folder / "open").touch()
    assert stored.json("resume", "@last", "--timeout", "1m")["output"] == OUTPUT


def test_a_time_limit_also_ends_the_wait_for_an_owner(holdfast: Shell) -> None:
    holdfast.write("ledger.yaml", LEDGER)
    kill_at_the_gate(holdfast)
    for lock in (holdfast.folder / ".holdfast" / "owners").iterdir():
        lock.unlink()  # as if it had run on another host, with most of its lease left
    assert holdfast.problem("run", "ledger.yaml", "--timeout", "50ms", code=4)["code"] == "HF4001"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_hands_back_and_says_how_to_go_on(ledger: Shell, number: int, code: int) -> None:
    ended, result, told = kill_at_the_gate(ledger, number=number)
    assert (ended, result) == (code, "")
    id = ledger.json("executions", "list")["items"][0]["id"]
    assert told.splitlines()[-1] == f"  resume with: holdfast resume {id}"
    assert ledger.json("executions", "show", "@last")["status"] == "ready"
    done = ledger("resume", id[:20])
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUT)
    assert "(4 steps saved before, 2 run, 0 repeated)" in done.stderr
    assert ledger("resume", id).returncode == 4


def test_a_second_interrupt_does_not_wait(holdfast: Shell) -> None:
    holdfast.write(
        "slow.yaml", "name: slow\nsteps: [{id: s, shell: 'trap \"\" TERM; touch arrived; sleep 60'}]\n"
    )
    process = holdfast.start("run", "slow.yaml")
    until((holdfast.folder / "arrived").exists)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=1.9)  # less than the grace a body is given
    assert process.returncode in (130, 143)


def test_new_starts_anew_and_an_id_names_one_run(ledger: Shell) -> None:
    kill_at_the_gate(ledger, "--id", "mine")
    other = ledger.json("run", "ledger.yaml", "--new")
    assert other["id"] != "mine"
    assert other["saved"] == 0
    other_input = ledger.problem("run", "ledger.yaml", "who=Ada", "--id", "mine", code=4)
    assert other_input["code"] == "HF4004"
    mine = ledger.json("run", "ledger.yaml", "--id", "mine")
    assert (mine["id"], mine["saved"]) == ("mine", 4)
    before = ledger.lines("ledger")
    again = ledger("run", "ledger.yaml", "--id", "mine")
    assert (again.returncode, json.loads(again.stdout)) == (0, OUTPUT)
    assert "had completed before; nothing was run" in again.stderr
    assert ledger.lines("ledger") == before


def test_a_changed_definition_is_shown_and_nothing_runs(ledger: Shell) -> None:
    kill_at_the_gate(ledger)
    before = ledger.lines("ledger")
    ledger.write("ledger.yaml", LEDGER.replace("echo last", "echo changed"))
    done = ledger("run", "ledger.yaml")
    assert (done.returncode, done.stdout) == (4, "")
    assert "HF4005" in done.stderr
    assert "-  shell: echo last >> ledger" in done.stderr
    assert "+  shell: echo changed >> ledger" in done.stderr
    assert "holdfast resume " in done.stderr
    assert ledger.lines("ledger") == before
    # The stored definition goes on, whatever the file says now.
    assert ledger.json("resume", "@last")["output"] == OUTPUT
    assert ledger.lines("ledger")[-1] == "last"


def test_a_live_owner_is_a_conflict(ledger: Shell) -> None:
    process = ledger.start("run", "ledger.yaml")
    until((ledger.folder / "arrived").exists)
    problem = ledger.problem("run", "ledger.yaml", code=4)
    assert (problem["code"], problem["alive"]) == ("HF4001", True)
    (ledger.folder / "open").touch()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, json.loads(out)) == (0, OUTPUT)


def test_steal_takes_it_from_a_live_owner(ledger: Shell) -> None:
    process = ledger.start("run", "ledger.yaml")
    until((ledger.folder / "arrived").exists)
    (ledger.folder / "open").touch()
    process.send_signal(signal.SIGSTOP)
    try:
        assert ledger.json("run", "ledger.yaml", "--steal")["output"] == OUTPUT
    finally:
        process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "HF4003" in errors) == (4, True), errors
    assert ledger.json("events", "verify")["whole"] is True


def test_an_owner_of_whom_nothing_is_known_is_waited_for(holdfast: Shell) -> None:
    holdfast.write("ledger.yaml", LEDGER)
    holdfast.environ["HOLDFAST_WORKER__LEASE"] = "3s"
    kill_at_the_gate(holdfast)
    for lock in (holdfast.folder / ".holdfast" / "owners").iterdir():
        lock.unlink()  # as if it had run on another host
    done = holdfast("run", "ledger.yaml")
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUT)
    assert "taking over in" in done.stderr
    assert "(4 steps saved before, 2 run, 0 repeated)" in done.stderr


def test_a_failure_is_exit_code_7_with_the_step_and_what_it_said(stored: Shell) -> None:
    stored.write("failing.yaml", FAILING)
    done = stored("run", "failing.yaml")
    assert (done.returncode, done.stdout) == (7, "")
    assert "  step    bad\n" in done.stderr
    assert "  error   exit: the script ended with exit code 3" in done.stderr
    assert "  stderr  one\n          two\n" in done.stderr
    assert "holdfast executions show " in done.stderr
    record = stored.json("run", "failing.yaml", code=7)
    assert (record["status"], record["error"]["step"]) == ("failed", "bad")
    assert record["error"]["details"]["stderr"] == "one\ntwo\n"


def test_a_long_sleep_is_exit_code_9(stored: Shell) -> None:
    stored.write(
        "nap.yaml", "name: nap\nsteps:\n  - {id: a, shell: 'true'}\n  - {id: nap, needs: [a], sleep: 3h}\n"
    )
    done = stored("run", "nap.yaml", "--wait", "1s")
    assert (done.returncode, done.stdout) == (9, "")
    assert "waits until " in done.stderr
    assert "(in 2 h 59 min)" in done.stderr or "(in 3 h 0 min)" in done.stderr
    assert "   (0 steps saved before, 1 run, 0 repeated)\n" in done.stderr
    assert "  go on with: holdfast resume " in done.stderr
    record = stored.json("resume", "@last", "--wait", "1s", code=9)
    assert (record["status"], record["saved"]) == ("waiting", 1)
    assert record["until"].endswith("Z")
    assert (
        stored.json("executions", "wait", "@last", "--timeout", "10ms", code=9)["items"][0]["status"]
        == "waiting"
    )
    assert stored("executions", "cancel", "@last", "--reason", "enough").returncode == 0
    assert stored("executions", "wait", "@last").returncode == 8
    assert "enough" in stored("executions", "show", "@last").stdout


def test_python_workflows_take_values_by_place_and_by_name(holdfast: Shell) -> None:
    holdfast.write("flows.py", PYTHON)
    done = holdfast("run", "flows.py:typed", "007", "3", "flag=yes", 'order={"id": "x", "cents": 5}')
    assert json.loads(done.stdout) == ["007", 3, 1.0, True, 5], done.stderr
    assert holdfast.lines("ledger") == ["007"]
    given = holdfast("run", "flows:typed", "--input", '{"name": "n", "count": 1, "ratio": 2.5}')
    assert json.loads(given.stdout) == ["n", 1, 2.5, False, None], given.stderr
    holdfast.write("input.json", '{"name": "f"}')
    for source in (["--input", "@input.json"], ["--input", "-"]):
        done = holdfast("run", "flows.py:typed", *source, "count=2", stdin='{"name": "f"}')
        assert json.loads(done.stdout)[:2] == ["f", 2], done.stderr


def test_lists_and_objects_of_text_are_json_and_optional_text_is_text(holdfast: Shell) -> None:
    holdfast.write("flows.py", PYTHON)
    done = holdfast("run", "flows.py:lists", '["Ada"]', 'ages={"Ada": 36}', "tag=007")
    assert json.loads(done.stdout) == [["Ada"], {"Ada": 36}, "007"], done.stderr


def test_a_python_failure_shows_where_and_can_not_steer_the_terminal(holdfast: Shell) -> None:
    holdfast.write("flows.py", PYTHON)
    done = holdfast("run", "flows.py:broken")
    assert done.returncode == 7
    assert "RuntimeError: no" in done.stderr
    assert "flows.py:" in done.stderr
    assert "\x1b" not in done.stderr


def test_the_examples_of_init_run(holdfast: Shell) -> None:
    assert holdfast("init", "--example").returncode == 0
    yaml, python = (
        holdfast.start("run", "hello.yaml", "name=Ada"),
        holdfast.start("run", "hello.py:report", "otters"),
    )
    for process, result in (
        (yaml, {"greeting": "Hello, Ada!", "letters": "11"}),
        (python, "Notes On Otters"),
    ):
        out, errors = process.communicate(timeout=60)
        assert json.loads(out) == result, errors


def test_the_first_run_says_little_and_makes_one_folder(holdfast: Shell) -> None:
    holdfast.write("one.yaml", "name: one\nsteps: [{id: s, shell: 'true'}]\n")
    done = holdfast("run", "one.yaml")
    assert (done.returncode, done.stdout) == (0, "null\n")
    assert len(done.stderr.splitlines()) == 2
    assert {path.name for path in holdfast.folder.iterdir()} == {"one.yaml", ".holdfast"}


@pytest.mark.parametrize("type_", ["in-memory", "sqlite"])
def test_the_store_type_of_the_documents(holdfast: Shell, type_: str) -> None:
    holdfast.write("one.yaml", "name: one\nsteps: [{id: s, shell: 'true'}]\n")
    done = holdfast("run", "one.yaml", "--state-store-type", type_)
    assert done.returncode == 0, done.stderr
    assert (holdfast.folder / ".holdfast").exists() is (type_ == "sqlite")


def test_the_flag_wins_over_the_url_of_the_environment(holdfast: Shell) -> None:
    holdfast.write("one.yaml", "name: one\nsteps: [{id: s, shell: 'true'}]\n")
    done = holdfast("run", "one.yaml", "--state-store-type", "in-memory", HOLDFAST_URL="sqlite:///other.db")
    assert done.returncode == 0, done.stderr
    assert not (holdfast.folder / "other.db").exists()


def test_progress_as_json_lines(holdfast: Shell) -> None:
    holdfast.write("failing.yaml", FAILING)
    done = holdfast("run", "failing.yaml", "--progress", "json", "--json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["path"]) for line in lines] == [
        ("step_running", "good"), ("step_completed", "good"), ("step_running", "bad"), ("step_failed", "bad"),
    ]  # fmt: skip
    assert lines[-1]["error"]["type"] == "exit"
    assert json.loads(done.stdout)["status"] == "failed"


def test_many_items_are_counted_and_not_listed(holdfast: Shell) -> None:
    holdfast.write("work.py", "async def work(i): return i\n")
    holdfast.write(
        "many.yaml",
        "name: many\nsteps:\n  - id: each\n    for_each: " + str(list(range(500)))
        + "\n    python: work.py:work\n    with: {i: '${{ item }}'}\n",
    )  # fmt: skip
    done = holdfast("run", "many.yaml")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) < 20
    assert "✔ each ×500  500 done\n" in done.stderr
    assert holdfast.json("executions", "show", "@last")["steps"] == {"completed": 500}


def test_several_go_on_at_once(ledger: Shell) -> None:
    kill_at_the_gate(ledger)
    (ledger.folder / "open").unlink()
    kill_at_the_gate(ledger, "who=Ada", number=signal.SIGINT)
    done = ledger.json("resume", "--all-interrupted")
    assert [(row["status"], row["saved"]) for row in done["items"]] == [("completed", 4), ("completed", 4)]
    nothing = ledger("resume", "--all-interrupted")
    assert (nothing.returncode, nothing.stderr) == (0, "nothing is interrupted\n")


def test_a_single_interrupted_one_prints_its_result(ledger: Shell) -> None:
    kill_at_the_gate(ledger)
    done = ledger("resume", "--all-interrupted")
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUT)


def test_a_timer_that_is_due_counts_as_interrupted(stored: Shell) -> None:
    for name, time in (("short", "2s"), ("long", "3h")):
        stored.write(f"{name}.yaml", f"name: {name}\nsteps: [{{id: nap, sleep: {time}}}]\n")
        record = stored.json("run", f"{name}.yaml", "--wait", "10ms", "--id", name, code=9)
        assert record["status"] == "waiting"

    def interrupted() -> list[str]:
        rows = stored.json("resume", "--all-interrupted", "--dry-run")["items"]
        return [row["id"] for row in rows]

    until(interrupted)
    assert interrupted() == ["short"]
    done = stored.json("resume", "--all-interrupted")
    assert [(row["id"], row["status"]) for row in done["items"]] == [("short", "completed")]


def test_dry_run_says_what_and_makes_nothing(holdfast: Shell) -> None:
    holdfast.write("ledger.yaml", LEDGER)
    before = holdfast.files()
    planned = holdfast.json("run", "ledger.yaml", "who=Ada", "--dry-run")
    assert planned["input"] == {"who": "Ada", "count": 3}
    assert holdfast.files() == before


@pytest.mark.parametrize(
    ("arguments", "code", "error", "said"),
    [
        (["run"], 2, "HF1003", "missing argument"),
        (["run", "nothing.yaml"], 3, "HF3002", "nothing.yaml"),
        (["run", "nothing.py:flow"], 3, "HF3002", "nothing.py"),
        (["run", "flows.py:tped"], 3, "HF3002", "typed"),
        (["run", "nothing:flow"], 3, "HF3002", "nothing"),
        (["run", "flows.py"], 3, "HF3002", "flows.py"),
        (["run", "bad.py:flow"], 2, "HF1200", "bad.py:1"),
        (["run", "bad.yaml"], 2, "HF1200", "bad.yaml:2:1"),
        (["run", "ledger.yaml", "who"], 2, "HF1003", "name=value"),
        (["run", "ledger.yaml", "whom=x"], 2, "HF1210", "did you mean"),
        (["run", "ledger.yaml", "count=x"], 2, "HF1210", "'x' is not integer"),
        (["run", "ledger.yaml", "--input", "{"], 2, "HF1210", "not JSON"),
        (["run", "ledger.yaml", "--input", "[]"], 2, "HF1210", "not an object"),
        (["run", "ledger.yaml", "--input", "@none.json"], 2, "HF1003", "none.json"),
        (["run", "ledger.yaml", "--wait", "soon"], 2, "HF1002", "soon"),
        (["run", "ledger.yaml", "--new", "--id", "x"], 2, "HF1003", "exclude"),
        (["run", "ledger.yaml", "--state-store-type", "oracle"], 2, "HF1003", "oracle"),
        (["run", "flows.py:typed"], 2, "HF1210", "name"),
        (["run", "flows.py:typed", "n", "x"], 2, "HF1210", "'x' is not int"),
        (["run", "flows.py:typed", "n", "1", "flag=perhaps"], 2, "HF1210", "not bool"),
        (["run", "flows.py:broken", "x"], 2, "HF1210", "one argument too many"),
        (["run", "ledger.yaml", "-s", "postgresql://127.0.0.1:1/x"], 5, "HF2001", ""),
        (["resume"], 2, "HF1003", "--all-interrupted"),
        (["resume", "x", "--all-interrupted"], 2, "HF1003", "--all-interrupted"),
        (["resume", "x"], 3, "HF2003", "storage init"),
    ],
)
def test_what_can_not_run_says_why_and_makes_nothing(
    holdfast: Shell, arguments: list[str], code: int, error: str, said: str
) -> None:
    holdfast.write("ledger.yaml", LEDGER)
    holdfast.write("flows.py", PYTHON)
    holdfast.write("bad.py", "def (\n")
    holdfast.write("bad.yaml", "name: bad\nstps: []\n")
    before = holdfast.files()
    done = holdfast.inside(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(error)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert holdfast.files() == before


def test_a_store_that_is_not_migrated_is_a_conflict_when_migrating_is_off(unmade: Shell) -> None:
    unmade.write("one.yaml", "name: one\nsteps: [{id: s, shell: 'true'}]\n")
    unmade.environ["HOLDFAST_STORAGE__MIGRATIONS__AUTO_RUN"] = "false"
    done = unmade("run", "one.yaml")
    assert done.returncode == 3
    assert "storage init" in done.stderr
    assert not (unmade.folder / ".holdfast").exists()


def test_a_tree_on_a_terminal(holdfast: Shell) -> None:
    holdfast.write("failing.yaml", FAILING)
    reading, writing = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "run", "failing.yaml"],
        cwd=holdfast.folder, env=holdfast.environ | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing,
    )  # fmt: skip
    os.close(writing)
    painted = b""
    while chunk := _read(reading):
        painted += chunk
    os.close(reading)
    text = painted.decode()
    assert process.wait(timeout=30) == 7
    assert "good" in text and "bad" in text
    assert text.rstrip().endswith("holdfast executions show " + text.rstrip().rsplit(" ", 1)[1])
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is given back


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how Linux says that the other end is closed
        return b""

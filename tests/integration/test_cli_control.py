"""`executions pause|resume|retry|cancel`, by id and by filter, and `fork`, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.shell import Shell, until
from tests.integration.test_cli_executions import at_the_gate

SHAKY = """\
name: shaky
inputs: {properties: {who: {type: string, default: world}}}
steps:
  - {id: greet, env: {WHO: "${{ inputs.who }}"}, shell: 'echo greet >> ran; printf "Hello %s" "$WHO"'}
  - {id: each, needs: [greet], for_each: [1, 2, 3], max_parallel: 3, env: {ITEM: "${{ item }}"},
     shell: 'echo each >> ran; test -e fixed || test "$ITEM" != 2'}
  - {id: last, needs: [each], shell: 'echo last >> ran; printf done'}
outputs: {greeting: "${{ steps.greet.output }}", end: "${{ steps.last.output }}"}
"""
MANY = """\
name: many
steps:
  - {id: each, for_each: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], max_parallel: 1,
     shell: 'echo each >> ran; test -e open || sleep 0.3'}
"""


@pytest.fixture
def failed(stored: Shell) -> Shell:
    """One execution that failed in an item of its second step."""
    stored.write("shaky.yaml", SHAKY)
    assert stored("run", "shaky.yaml", "--id", "broken").returncode == 7
    return stored


def verified(shell: Shell) -> bool:
    return shell.inside("events", "verify").returncode == 0


def test_retry_runs_what_failed_and_nothing_else(failed: Shell) -> None:
    assert len(failed.lines("ran")) == 4
    told = failed.json("executions", "retry", "broken")
    assert told["items"] == [
        {
            "id": "broken", "workflow": "shaky", "status": "ready", "result": "retried", "error": None,
            "next": "holdfast resume broken",
        }
    ]  # fmt: skip
    failed.write("fixed", "")
    done = failed("resume", "broken")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"greeting": "Hello world", "end": "done"}
    assert failed.lines("ran")[4:] == ["each", "last"]
    assert verified(failed)


def test_retry_from_a_step_and_run_here(failed: Shell) -> None:
    failed.write("fixed", "")
    done = failed("executions", "retry", "broken", "--from", "each", "--run")
    assert done.returncode == 0, done.stderr
    assert len(failed.lines("ran")) == 8
    assert failed.problem("executions", "retry", "broken", code=4)["code"] == "HF4020"
    assert verified(failed)


def test_a_step_that_is_not_there(failed: Shell) -> None:
    problem = failed.problem("executions", "retry", "broken", "--from", "grete", code=3)
    assert problem["code"] == "HF3020"
    assert "greet" in problem["fix"]
    assert failed.problem("fork", "broken", "--at", "nowhere", code=3)["code"] == "HF3020"


def test_fork_copies_what_stood_before(failed: Shell) -> None:
    failed.write("fixed", "")
    looked = failed.json("fork", "broken", "--at", "each", "--dry-run")
    assert (looked["copied"], looked["dry_run"]) == (1, True)
    made = failed.json("fork", "broken", "--at", "each", "--id", "second")
    assert made == {
        "id": "second", "workflow": "shaky", "status": "ready", "queue": "local", "source": "broken",
        "at": "each", "copied": 1, "next": "holdfast resume second",
    }  # fmt: skip
    assert failed.json("executions", "show", "second")["trigger"] == "fork"
    assert failed("resume", "second").returncode == 0
    assert failed.lines("ran").count("greet") == 1
    assert failed.json("executions", "show", "broken")["status"] == "failed"
    assert failed.problem("fork", "broken", "--id", "second", code=4)["code"] == "HF4004"
    anew = failed("fork", "broken", "--input", '{"who": "Ada"}', "--id", "third", "--run")
    assert json.loads(anew.stdout)["greeting"] == "Hello Ada"
    wrong = failed.problem("fork", "broken", "--input", '{"who": 3}', code=2)
    assert wrong["code"] == "HF1210"
    assert verified(failed)


def test_pause_lets_the_running_step_finish_and_starts_none(stored: Shell) -> None:
    stored.write("many.yaml", MANY)
    running = stored.start("run", "many.yaml", "--id", "busy")
    until(lambda: stored.lines("ran"))
    told = stored.json("executions", "pause", "busy", "--reason", "lunch")
    assert [(row["status"], row["result"]) for row in told["items"]] == [("paused", "paused")]
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 9, errors
    begun = len(stored.lines("ran"))
    assert begun < 12
    assert stored.json("executions", "pause", "busy")["items"][0]["result"] == "paused"
    told = stored.json("executions", "resume", "busy")["items"][0]
    assert (told["status"], told["result"], told["next"]) == ("ready", "resumed", "holdfast resume busy")
    assert stored.problem("executions", "resume", "busy", code=4)["code"] == "HF4020"
    stored.write("open", "")
    assert stored("resume", "busy").returncode == 0
    assert len(stored.lines("ran")) == 12
    assert verified(stored)


def test_what_a_dead_owner_left_is_paused_and_goes_on_here(stored: Shell) -> None:
    running = at_the_gate(stored, "--id", "busy")
    running.kill()
    running.communicate(timeout=30)
    assert stored("executions", "pause", "busy").returncode == 0
    stored.write("open", "")
    assert stored("resume", "--all-interrupted").returncode == 0  # paused is not interrupted
    assert stored.json("executions", "show", "busy")["status"] == "paused"
    assert stored("resume", "busy").returncode == 0
    assert verified(stored)


def test_pause_without_waiting_and_the_pause_taken_back(stored: Shell) -> None:
    running = at_the_gate(stored, "--id", "busy")
    asked = stored.json("executions", "pause", "busy", "--no-wait", code=9)
    assert asked["items"][0]["result"] == "asked"
    assert stored.json("executions", "resume", "busy")["items"][0]["status"] == "running"
    stored.write("open", "")
    running.communicate(timeout=30)
    assert running.returncode == 0


def test_cancel_ends_by_its_deadline_what_does_not_answer(stored: Shell) -> None:
    running = at_the_gate(stored, "--id", "busy")
    running.send_signal(signal.SIGSTOP)
    try:
        done = stored.json("executions", "cancel", "busy", "--deadline", "1s")
        assert done["items"][0]["result"] == "cancelled"
    finally:
        running.send_signal(signal.SIGCONT)
    running.communicate(timeout=30)
    assert running.returncode != 0
    assert stored.json("executions", "show", "busy")["status"] == "cancelled"
    assert verified(stored)


# By filter.


@pytest.fixture
def several(failed: Shell) -> Shell:
    """Three that failed and one that completed."""
    for number in range(2):
        assert failed("run", "shaky.yaml", f"who=n{number}", "--id", f"b{number}").returncode == 7
    failed.write("fixed", "")
    assert failed("run", "shaky.yaml", "who=well", "--id", "well").returncode == 0
    return failed


def test_a_filter_shows_the_count_and_wants_an_answer(several: Shell) -> None:
    looked = several.json("executions", "retry", "--where", "workflow:shaky", "--dry-run")
    assert (looked["matched"], looked["dry_run"]) == (3, True)
    assert {row["result"] for row in looked["items"]} == {"would be retried"}
    refused = several("executions", "retry", "--where", "workflow:shaky", "--no-input")
    assert refused.returncode == 2
    assert "retry 3 executions?" in refused.stderr
    assert several.json("executions", "list", "status:failed")["items"]
    done = several.json("executions", "retry", "--where", "workflow:shaky", "--yes")
    assert (done["matched"], done["done"], done["refused"]) == (3, 3, 0)
    assert several("resume", "--all-interrupted").returncode == 0
    assert several.json("executions", "list", "status:failed")["items"] == []
    again = several("executions", "retry", "--where", "workflow:shaky", "--yes")
    assert again.returncode == 0
    assert "no execution that could be retried fits" in again.stderr
    assert verified(several)


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_an_empty_filter_is_refused(holdfast: Shell, verb: str) -> None:
    for empty in ("", "  "):
        problem = holdfast.problem("executions", verb, "--where", empty, "--yes", code=2)
        assert problem["code"] == "HF1020"
    assert holdfast.problem("executions", verb, code=2)["code"] == "HF1003"
    assert holdfast.problem("executions", verb, "x", "--where", "status:failed", code=2)["code"] == "HF1003"


def test_pause_resume_and_cancel_by_filter(several: Shell) -> None:
    several.json("executions", "retry", "--where", "status:failed", "--yes")
    paused = several.json("executions", "pause", "--where", "workflow:shaky", "--yes")
    assert (paused["matched"], paused["done"]) == (3, 3)
    resumed = several.json("executions", "resume", "--where", "workflow:shaky id:b0", "--yes")
    assert (resumed["matched"], resumed["done"]) == (1, 1)
    ended = several.json("executions", "cancel", "--where", "workflow:shaky", "--yes")
    assert (ended["matched"], ended["done"]) == (3, 3)
    assert several.json("executions", "show", "well")["status"] == "completed"
    assert verified(several)


def test_partly_done_is_told_by_the_exit_code(several: Shell) -> None:
    running = at_the_gate(several, "--id", "busy")
    several.json("executions", "retry", "b0")
    done = several.json("executions", "cancel", "--where", "-status:failed", "--no-wait", "--yes", code=10)
    assert (done["matched"], done["done"], done["asked"]) == (2, 1, 1)
    running.communicate(timeout=30)


# Replay.

CODE = """\
import holdfast as hf

app = hf.App()


@app.step
async def one() -> int:
    with open("ran", "a") as file:
        file.write("one\\n")
    return 1


@app.step
async def two(value: int) -> int:
    return value + 1


@app.workflow
async def flow() -> int:
    return await two(await one())
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("await two(await one())", "await two(await one() + 1)", "other arguments"),
        ("await two(await one())", "await one()", "no longer calls it"),
        ("await two(await one())", "await two(await two(await one()))", "'two#2'"),
        ("await two(await one())", "(await two(await one())) + 1", "another output"),
        ("await two(await one())", "await two(1)", "was 'one' and is now 'two'"),
    ],
)
def test_replay_finds_where_code_leaves_the_log(stored: Shell, old: str, new: str, says: str) -> None:
    stored.write("code.py", CODE)
    assert stored("run", "code.py:flow", "--id", "r").returncode == 0
    same = stored.json("replay", "r")
    assert (same["same"], same["replayed"], same["held_at"]) == (True, 2, [])
    stored.write("code.py", CODE.replace(old, new))
    told = stored("replay", "r", "--json")
    assert told.returncode == 4
    problem = json.loads(told.stderr)
    assert problem["code"] == "HF4021"
    assert says in problem["detail"]
    assert stored.lines("ran") == ["one"]
    assert verified(stored)


def test_replay_of_what_has_not_ended_or_was_retried(failed: Shell) -> None:
    assert failed.json("replay", "broken")["same"]
    failed.json("executions", "retry", "broken")
    assert failed.json("replay", "broken")["held_at"] == ["each[1]"]
    assert failed("resume", "broken").returncode == 7
    assert failed.json("replay", "broken")["same"]

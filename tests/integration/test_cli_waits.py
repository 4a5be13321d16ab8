"""`holdfast run` that waits for people, `holdfast signals` and `holdfast approvals`."""

from __future__ import annotations

import json

import pytest

from tests.integration.shell import Shell

HELLO = """\
import holdfast as hf

app = hf.App()


@app.step
def research(topic: str) -> str:
    return f"notes on {topic}"


@app.workflow
async def report(topic: str) -> str:
    notes = await research(topic)
    extra = await hf.wait_signal(f"approve:{topic}", timeout="3d")
    return f"{notes} {extra}"


@app.workflow
async def outer(topic: str) -> str:
    return (await report(topic)).upper()
"""
SHIP = """\
name: ship
inputs: {properties: {what: {type: string}}}
steps:
  - id: ok
    approval:
      title: "Ship ${{ inputs.what }}?"
      form: {properties: {ticket: {type: string}}, required: [ticket]}
      timeout: 3d
outputs: ${{ steps.ok.output.answer.ticket }}
"""


@pytest.fixture
def waiting(stored: Shell) -> Shell:
    stored.write("hello.py", HELLO)
    stored.write("ship.yaml", SHIP)
    return stored


def test_run_says_what_it_waits_for_and_goes_on_with_it(waiting: Shell) -> None:
    ran = waiting("run", "hello.py:report", "otters", "--id", "r1")
    assert ran.returncode == 9
    assert "⏸ r1 waiting for signal approve:otters   (1 step saved, resume any time)" in ran.stderr
    assert "holdfast signals send approve:otters" in ran.stderr
    listed = json.loads(waiting("signals", "list", "--json").stdout)["items"]
    assert [(each["name"], each["state"], each["execution"]) for each in listed] == [
        ("approve:otters", "waited for", "r1")
    ]
    sent = waiting("signals", "send", "approve:otters", '"indeed"')
    assert (sent.returncode, sent.stderr) == (
        0, "✔ approve:otters was taken by r1, step wait_signal\n",
    )  # fmt: skip
    resumed = waiting("resume", "r1")
    assert (resumed.returncode, json.loads(resumed.stdout)) == (0, "notes on otters indeed")
    assert "1 step saved before, 1 run, 0 repeated" in resumed.stderr


def test_a_run_that_waits_says_so_as_a_record(waiting: Shell) -> None:
    record = json.loads(waiting("run", "ship.yaml", "what=tea", "--id", "s1", "--json").stdout)
    assert record["status"] == "waiting"
    assert record["waits_for"] == [{"kind": "approval", "name": "s1:ok"}]
    assert record["until"] is not None


def test_a_woken_child_is_resumed_with_its_parent(waiting: Shell) -> None:
    ran = waiting("run", "hello.py:outer", "otters", "--id", "o1")
    assert ran.returncode == 9
    assert "waiting for signal approve:otters" in ran.stderr
    assert waiting("signals", "send", "approve:otters", "1").returncode == 0
    resumed = waiting("resume", "--all-interrupted")
    assert (resumed.returncode, json.loads(resumed.stdout)) == (0, "NOTES ON OTTERS 1")


def test_signals_are_kept_once_and_for_whom_they_are(waiting: Shell) -> None:
    assert waiting("run", "hello.py:report", "otters", "--id", "r1").returncode == 9
    dry = waiting.inside("signals", "send", "approve:otters", "--dry-run")
    assert "would be sent" in dry.stderr
    for _ in range(2):
        sent = waiting.inside("signals", "send", "later", "5", "--message-id", "m1")
        assert sent.returncode == 0
    assert "sent before" in sent.stderr
    own = waiting.inside("signals", "send", "own", "6", "--to", "r1", "--json")
    assert json.loads(own.stdout)["state"] == "kept"
    listed = json.loads(waiting.inside("signals", "list", "--json").stdout)["items"]
    assert [(each["name"], each["state"], each["payload"]) for each in listed] == [
        ("approve:otters", "waited for", None), ("later", "kept", 5), ("own", "kept", 6),
    ]  # fmt: skip
    assert len(json.loads(waiting.inside("signals", "list", "later", "--json").stdout)["items"]) == 1
    assert waiting.inside("signals", "send", "own", "--to", "nobody").returncode == 3
    assert waiting.inside("signals", "send", "own", "{").returncode == 2
    assert waiting.inside("signals", "send", " own").returncode == 2


def test_a_signal_to_an_ended_execution_is_refused(waiting: Shell) -> None:
    assert waiting("run", "hello.py:report", "otters", "--id", "r1").returncode == 9
    assert waiting.inside("executions", "cancel", "r1").returncode == 0
    refused = waiting.inside("signals", "send", "x", "--to", "r1")
    assert refused.returncode == 4
    assert "HF4011" in refused.stderr
    assert json.loads(waiting.inside("signals", "list", "--json").stdout)["items"] == []


def test_an_approval_is_listed_shown_and_decided_once(waiting: Shell) -> None:
    ran = waiting("run", "ship.yaml", "what=tea", "--id", "s1")
    assert ran.returncode == 9
    assert "answer with: holdfast approvals approve s1:ok" in ran.stderr
    assert waiting.inside("approvals", "list", "-q").stdout == "s1:ok\n"
    shown = json.loads(waiting.inside("approvals", "show", "s1:ok", "--json").stdout)
    assert (shown["title"], shown["status"], shown["form"]["required"]) == (
        "Ship tea?",
        "pending",
        ["ticket"],
    )
    unfit = waiting.inside("approvals", "approve", "s1:ok", "--input", '{"ticket": 5}')
    assert unfit.returncode == 2
    assert "ticket: 5 is not of type 'string'" in unfit.stderr
    dry = waiting.inside("approvals", "reject", "s1:ok", "--dry-run")
    assert "is pending and would be rejected" in dry.stderr
    waiting.write("answer.json", '{"ticket": "T1"}')
    done = waiting.inside("approvals", "approve", "s1:ok", "--input", "@answer.json", "--comment", "fine")
    assert (done.returncode, done.stderr) == (0, "✔ s1:ok is approved; s1 goes on\n")
    again = waiting.inside("approvals", "reject", "s1:ok")
    assert again.returncode == 4
    assert "was approved by" in again.stderr
    assert waiting.inside("approvals", "list", "-q").stdout == ""
    everything = json.loads(waiting.inside("approvals", "list", "--all", "--json").stdout)["items"]
    assert [(each["status"], each["comment"]) for each in everything] == [("approved", "fine")]
    assert json.loads(waiting("resume", "s1").stdout) == "T1"


def test_a_rejection_fails_the_step(waiting: Shell) -> None:
    assert waiting("run", "ship.yaml", "what=tea", "--id", "s1").returncode == 9
    assert waiting.inside("approvals", "reject", "s1:ok", "--comment", "not today").returncode == 0
    failed = waiting("resume", "s1")
    assert failed.returncode == 7
    assert "not today" in failed.stderr
    assert waiting.inside("approvals", "approve", "nothing").returncode == 3

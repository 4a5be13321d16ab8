"""`holdfast queues` as a person uses it."""

from __future__ import annotations

import json

import pytest

from tests.integration.shell import Shell

APP = """\
import asyncio
import holdfast as hf

app = hf.App()


@app.step
async def send(to: str, works: bool) -> str:
    if not works and not __import__("os").path.exists("repaired"):
        raise ValueError(f"no such address: {to}")
    with open("sent", "a") as file:
        file.write(to + "\\n")
    return to


@app.workflow
async def mail(to: str, works: bool = True) -> str:
    return await send(to, works)
"""


@pytest.fixture
def mailing(stored: Shell) -> Shell:
    """A folder with a store and an app whose workflow may fail."""
    stored.write("app.py", APP)
    assert stored("init").returncode == 0
    return stored


def leave(shell: Shell, to: str, *, works: bool = True) -> str:
    words = ("app.py:mail", f"to={to}", f"works={str(works).lower()}", "--queue", "mail", "--detach", "--new")
    return str(shell.json("run", *words)["id"])


def serve(shell: Shell, *ids: str) -> None:
    """A worker that runs until these have ended."""
    worker = shell.start("worker", "app.py", "--queues", "mail")
    try:
        assert shell.inside("executions", "wait", *ids, "--timeout", "30s").returncode != 9
    finally:
        worker.terminate()
        assert worker.communicate(timeout=30) is not None


def test_a_queue_is_limited_shown_paused_and_freed(mailing: Shell) -> None:
    done = mailing.inside("queues", "set", "mail", "--concurrency", "5", "--rate", "10/1s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "name": "mail", "is_paused": False, "concurrency": 5, "key_concurrency": None,
        "tenant_concurrency": None, "rate": "10/1s",
    }  # fmt: skip
    mailing.inside("queues", "set", "mail", "--key-concurrency", "2", "--concurrency", "none")
    mailing.inside("queues", "pause", "mail")
    shown = json.loads(mailing.inside("queues", "show", "mail", "--json").stdout)
    assert (shown["concurrency"], shown["key_concurrency"], shown["is_paused"]) == (None, 2, True)
    listed = mailing.inside("queues", "list")
    assert "paused, 2 per key, 10/1s" in listed.stdout
    mailing.inside("queues", "resume", "mail")
    assert "paused," not in mailing.inside("queues", "list").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("set", "mail"), 2, "no limit is given"),
        (("set", "mail", "--concurrency", "0"), 2, "neither a number"),
        (("set", "mail", "--rate", "10"), 2, "is not a rate"),
        (("set", "local", "--concurrency", "1"), 2, "for what a person runs here"),
        (("show", "nothing"), 3, "there is no queue"),
        (("requeue", "mail"), 2, "say which"),
        (("requeue", "mail", "--all", "x"), 2, "say which"),
        (("requeue", "mail", "--where", " "), 2, "filter is empty"),
        (("requeue", "mail", "nothing"), 3, "no execution"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(
    mailing: Shell, words: tuple[str, ...], code: int, says: str
) -> None:
    done = mailing.inside("queues", *words)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "fix" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_near_name_is_offered(mailing: Shell) -> None:
    mailing.inside("queues", "set", "mails", "--concurrency", "5")
    assert "did you mean mails" in mailing.inside("queues", "show", "mail").stderr


def test_depth_is_told_and_that_nobody_serves_it(mailing: Shell) -> None:
    for name in ("a", "b"):
        leave(mailing, name)
    done = mailing.inside("queues", "list")
    assert done.returncode == 0, done.stderr
    assert "no worker serves mail: holdfast worker --queues mail" in done.stderr
    row = next(row for row in json.loads(mailing.inside("queues", "list", "--json").stdout)["items"])
    assert (row["name"], row["ready"], row["running"], row["workers"], row["at_least"]) == (
        "mail",
        2,
        0,
        0,
        [],
    )
    assert row["oldest_ready"].endswith("Z")


def test_dry_run_changes_nothing(mailing: Shell) -> None:
    done = mailing.inside("queues", "pause", "mail", "--dry-run")
    assert "would be paused" in done.stderr
    assert json.loads(mailing.inside("queues", "list", "--json").stdout)["items"] == []


def test_dead_letters_tell_why_and_go_on_when_they_are_requeued(mailing: Shell) -> None:
    good, bad, worse = (
        leave(mailing, "good"),
        leave(mailing, "bad", works=False),
        leave(mailing, "worse", works=False),
    )
    serve(mailing, good, bad, worse)
    letters = json.loads(mailing.inside("queues", "dead-letters", "mail", "--json").stdout)["items"]
    assert [letter["id"] for letter in letters] == [worse, bad]
    assert (letters[1]["type"], letters[1]["message"]) == ("ValueError", "no such address: bad")
    assert letters[1]["step"] == "send"
    told = mailing.inside("queues", "dead-letters", "mail").stdout
    assert "no such address: worse" in told
    page = json.loads(mailing.inside("queues", "dead-letters", "mail", "--json", "--limit", "1").stdout)
    rest = mailing.inside("queues", "dead-letters", "mail", "--json", "--after", page["next_cursor"])
    assert [letter["id"] for letter in json.loads(rest.stdout)["items"]] == [bad]

    done = mailing.inside("queues", "requeue", "mail", good)
    assert done.returncode == 4
    assert "has completed" in done.stderr
    unanswered = mailing.inside("queues", "requeue", "mail", "--all")
    assert unanswered.returncode == 2
    assert "requeue 2 dead letters of mail?" in unanswered.stderr
    none = mailing.inside("queues", "requeue", "mail", "--where", "workflow:other", "--yes")
    assert (none.returncode, "0 dead letters" in none.stderr) == (0, True)
    dry = mailing.inside("queues", "requeue", "mail", "--all", "--dry-run", "--json")
    assert {row["result"] for row in json.loads(dry.stdout)["items"]} == {"would be requeued"}

    mailing.write("repaired", "")
    assert mailing.inside("queues", "requeue", "mail", "--all", "--yes").returncode == 0
    assert mailing.inside("queues", "requeue", "other", bad).returncode == 4
    serve(mailing, bad, worse)
    assert sorted(mailing.lines("sent")) == ["bad", "good", "worse"]
    assert json.loads(mailing.inside("queues", "list", "--json").stdout)["items"] == []

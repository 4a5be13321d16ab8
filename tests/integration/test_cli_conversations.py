"""Conversations on the command line: imported, read, paged, searched, archived, redacted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shell import Shell

CALL = {"id": "c1", "type": "function", "function": {"name": "get_user", "arguments": '{"id": "mia"}'}}
TRIP: dict[str, Any] = {
    "id": "trip",
    "title": "Trip to Zürich",
    "user": "mia",
    "tags": ["vip"],
    "reward": 1.0,
    "messages": [
        {"role": "system", "content": "# Policy\n\nBe kind."},
        {"role": "user", "content": "I want a refund\x1b[31m for my flight\nto Zürich"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "get_user", "content": "x" * 2100},
    ],
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "trips.json").write_text(json.dumps([TRIP, [{"role": "user", "content": "hello refund"}]]))
    assert made("storage", "init").returncode == 0
    return made


def imported(shell: Shell) -> None:
    done = shell.inside("conversations", "import", "trips.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported 2 conversations with 5 messages\n"


def test_a_conversation_is_read_as_people_do(shell: Shell) -> None:
    imported(shell)
    done = shell.inside("conversations", "show", "trip")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Trip to Zürich  trip\n"
        "active, 4 messages, user mia, tags vip\n"
        "\n"
        "1  system\n"
        "   # Policy\n"
        "\n"
        "   Be kind.\n"
        "\n"
        "2  user\n"
        "   I want a refund\\x1b[31m for my flight\n"
        "   to Zürich\n"
        "\n"
        "3  assistant\n"
        '   → get_user({"id": "mia"})\n'
        "\n"
        "4  tool  get_user\n"
        f"   {'x' * 2000}\n"
        "   … 100 more characters: --full\n"
    )
    assert "x" * 2100 in shell.inside("conversations", "show", "trip", "--full").stdout
    short = shell.inside("conversations", "show", "trip", "--limit", "1").stdout
    assert "… 3 earlier messages: holdfast conversations messages trip --before 4" in short
    found = shell.json("conversations", "show", "@last")
    assert (found["title"], found["message_count"], len(found["messages"])) == ("", 1, 1)
    assert found["messages"][0]["content"] == "hello refund"
    assert shell.inside("conversations", "show", "none").returncode == 3


def test_messages_are_paged(shell: Shell) -> None:
    imported(shell)
    found = shell.json("conversations", "messages", "trip", "--after", "1", "--limit", "2")["items"]
    assert [each["seq"] for each in found] == [2, 3]
    assert found[1]["tool_calls"] == [CALL]
    assert found[0]["content"] == TRIP["messages"][1]["content"]
    found = shell.json("conversations", "messages", "trip", "--before", "4", "--limit", "1")["items"]
    assert [each["seq"] for each in found] == [3]
    done = shell.inside("conversations", "messages", "tr", "--after", "1", "--limit", "2")
    assert "I want a refund [31m for my flight to Zürich" in done.stdout
    assert 'get_user({"id": "mia"})' in done.stdout
    assert done.stderr == "before: --before 2\nmore: --after 3\n"
    assert shell.inside("conversations", "messages", "trip", "--limit", "0").returncode == 2


def test_what_was_said_is_searched(shell: Shell) -> None:
    imported(shell)
    found = shell.json("conversations", "search", "refund")
    assert [each["seq"] for each in found["items"]] == [1, 2]
    done = shell.inside("conversations", "search", "FLIGHT", "Zürich")
    assert "refund" in done.stdout
    assert done.stdout.count("\n") == 2
    assert shell.json("conversations", "search", "flights")["items"] == []
    page = shell.json("conversations", "search", "refund", "--limit", "1")
    rest = shell.json("conversations", "search", "refund", "--limit", "1", "--cursor", page["next_cursor"])
    assert [page["items"][0]["seq"], rest["items"][0]["seq"]] == [1, 2]
    titles = shell.json("conversations", "list", "zürich")["items"]
    assert [each["id"] for each in titles] == ["trip"]


def test_an_import_is_done_again_and_says_what_is_wrong(shell: Shell) -> None:
    assert shell.inside("--dry-run", "conversations", "import", "trips.json").stderr == (
        "would import 2 conversations with 5 messages\n"
    )
    assert shell.json("conversations", "list")["items"] == []
    for _ in range(2):
        imported(shell)
    assert len(shell.json("conversations", "list")["items"]) == 2
    lines = "\n".join(json.dumps([{"role": "user", "content": word}]) for word in ("a", "b"))
    done = shell("conversations", "import", "-", stdin=f"{lines}\n\n")
    assert done.stderr == "imported 2 conversations with 2 messages\n"
    for text, code, place in (
        ('[{"role": "user"', 2, "line 1"),
        ('{"a": 1}', 2, "documents[0]"),
        ("7", 2, "documents[0]"),
        ("null", 2, "documents[0]"),
        ('[{"messages": [{"role": "robot"}]}]', 2, "documents[0].messages[0]"),
    ):
        (shell.folder / "bad.json").write_text(text)
        done = shell.inside("conversations", "import", "bad.json")
        assert (done.returncode, place in done.stderr) == (code, True), done.stderr
    assert shell.inside("conversations", "import", "missing.json").returncode == 2
    assert shell.inside("conversations", "import", "trips.json", "--quiet").stdout.splitlines()[0] == "trip"


def test_a_conversation_is_archived_and_a_message_redacted(shell: Shell) -> None:
    imported(shell)
    assert "would be archived" in shell.inside("conversations", "archive", "trip", "--dry-run").stderr
    assert shell.inside("conversations", "archive", "trip").stderr == "trip is archived\n"
    assert [each["id"] for each in shell.json("conversations", "list", "status:archived")["items"]] == [
        "trip"
    ]
    assert shell.inside("conversations", "reopen", "trip").stderr == "trip is active\n"
    assert shell.inside("conversations", "redact", "trip.2").returncode == 2  # nobody to ask
    assert (
        "would redact message 2 of trip"
        in shell.inside("conversations", "redact", "trip.2", "--dry-run").stderr
    )
    done = shell.inside("conversations", "redact", "trip.2", "--replacement", "[gone]", "--yes")
    assert done.stderr == "message 2 of trip is redacted\n"
    assert "2  user  redacted\n   [gone]\n" in shell.inside("conversations", "show", "trip").stdout
    assert [each["seq"] for each in shell.json("conversations", "search", "refund")["items"]] == [1]
    assert shell.inside("conversations", "redact", "none", "--yes").returncode == 3
    assert shell.inside("conversations", "delete", "trip").returncode == 0
    assert shell.inside("messages", "show", "trip.1").returncode == 3

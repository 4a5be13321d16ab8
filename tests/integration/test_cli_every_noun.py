"""Every noun of records, and every verb the catalogue gives it, on a store that has something of each."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from holdfast.cli.catalogue import NOUNS, Noun
from holdfast.cli.records import class_of
from holdfast.records.declare import SoftRecord, table_of
from tests.conformance.everything import WORDS, write_everything
from tests.integration.shell import Shell

VERBS = {"list", "show", "search", "create", "update", "delete", "restore"}
CHANGES = {
    "users": "name=Ana", "conversations": "title=Printer", "incidents": "title=Printer",
    "runbooks": "title=Printer", "agents": "role=smith",
}  # fmt: skip
"""What `update` sets of each kind that has it."""


@pytest.fixture
def filled(holdfast: Shell) -> Shell:
    """A store of the folder with something of every kind in it."""
    url = f"sqlite:///{holdfast.folder / 'everything.db'}"
    holdfast.environ["HOLDFAST_URL"] = url
    anyio.run(write_everything, url, 7)
    return holdfast


def told(holdfast: Shell, *arguments: str, code: int = 0) -> Any:
    done = holdfast.inside(*arguments, "--json")
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


def refused(holdfast: Shell, *arguments: str, code: str) -> str:
    """What a command that fails says, in four lines and without a traceback."""
    done = holdfast.inside(*arguments)
    assert done.returncode not in (0, 1), (arguments, done.stdout, done.stderr)
    assert done.stderr.startswith(f"{code}  "), (arguments, done.stderr)
    assert "fix  " in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def searched(noun: Noun) -> bool:
    return any(column.search for column in table_of(class_of(noun)).columns)


def test_every_verb_of_every_noun_does_what_it_says(filled: Shell) -> None:
    assert set(CHANGES) == {noun.name for noun in NOUNS if "update" in noun.verbs}
    for noun in NOUNS:
        assert set(noun.verbs) <= VERBS
        rows = told(filled, noun.name, "list")["items"]
        assert rows, noun.name
        id = rows[0]["id"]
        assert told(filled, noun.name, "show", id)["id"] == id
        assert told(filled, noun.name, "list", f"id:{id}")["items"] == rows[:1]
        if searched(noun):
            word = "restart" if noun.name == "runbooks" else "fire"
            assert told(filled, noun.name, "search", word)["items"], noun.name
    for noun in NOUNS:  # what is deleted takes its parts along
        rows = told(filled, noun.name, "list")["items"]
        if rows:
            change(filled, noun, rows[0]["id"])


def change(filled: Shell, noun: Noun, id: str) -> None:
    """Update, delete and restore a record of a kind that allows it."""
    if "update" in noun.verbs:
        name, _, value = CHANGES[noun.name].partition("=")
        before = told(filled, noun.name, "show", id)["revision"]
        changed = told(filled, noun.name, "update", id, "--set", CHANGES[noun.name])
        assert (changed[name], changed["revision"]) == (value, before + 1)
    if "delete" not in noun.verbs:
        return
    assert [row["result"] for row in told(filled, noun.name, "delete", id)["items"]] == ["deleted"]
    refused(filled, noun.name, "show", id, code="HF3060")
    if "restore" in noun.verbs:
        assert issubclass(class_of(noun), SoftRecord)
        assert told(filled, noun.name, "restore", id)["items"][0]["result"] == "restored"
        assert told(filled, noun.name, "show", id)["id"] == id


def test_every_noun_refuses_bad_input(filled: Shell) -> None:
    for noun in NOUNS:
        name = noun.name
        assert "did you mean" in refused(filled, name, "list", "creatd:<1h", code="HF1002")
        refused(filled, name, "list", "created:yesterday", code="HF1002")
        refused(filled, name, "list", "created:>0001-01-01T00:00:00+14:00", code="HF2012")
        refused(filled, name, "list", "--cursor", "bnVsbA", code="HF1002")
        refused(filled, name, "list", "--sort", "nothing", code="HF1002")
        refused(filled, name, "list", "--limit", "0", code="HF1002")
        refused(filled, name, "list", "--fields", "nothing", code="HF1003")
        refused(filled, name, "show", "x" * 300, code="HF3060")
        refused(filled, name, "show", "a\ud800b", code="HF2012")
        refused(filled, name, "no-such-verb", code="HF1003")
        if searched(noun):
            assert told(filled, name, "search", "no such words anywhere")["items"] == []
        if "update" in noun.verbs:
            id = told(filled, name, "list")["items"][0]["id"]
            refused(filled, name, "update", id, code="HF1003")
            refused(filled, name, "update", id, "--set", "nothing=x", code="HF1003")
            refused(filled, name, "update", id, "--set", "revision=7", code="HF1003")
            refused(filled, name, "update", "nobody", "--set", CHANGES[name], code="HF3060")
        if "delete" in noun.verbs:
            refused(filled, name, "delete", code="HF1003")
            refused(filled, name, "delete", "nobody", code="HF3060")
        if "restore" in noun.verbs:
            refused(filled, name, "restore", "nobody", code="HF3060")


def test_what_was_said_is_found_by_its_words(filled: Shell) -> None:
    (found, *_) = told(filled, "messages", "search", "überraschung printer")["items"]
    assert found["content"].startswith(WORDS)
    assert [each["title"] for each in told(filled, "incidents", "search", "FIRE")["items"]] == [WORDS]
    assert [each["name"] for each in told(filled, "runbooks", "search", "service")["items"]] == ["restart"]

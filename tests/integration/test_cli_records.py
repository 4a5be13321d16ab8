"""Nouns of records: their commands follow from a declaration, here from one that only the tests have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from holdfast.cli import catalogue, records
from holdfast.cli.catalogue import LOOK, Entry, Noun
from holdfast.records.declare import Record, table_of
from tests.conformance.notebooks import Note, write_migrations
from tests.integration.shell import Shell

NOTES = Noun("notes", "tests.conformance.notebooks:Note", "list, show or write notes")


@pytest.fixture
def noun(monkeypatch: pytest.MonkeyPatch) -> Noun:
    """`Note` as a noun of the command line, by the line that any other has."""
    monkeypatch.setattr(catalogue, "NOUNS", (NOTES, *catalogue.NOUNS))
    monkeypatch.setattr(catalogue, "COMMANDS", (Entry("notes", "", NOTES.help), *catalogue.COMMANDS))
    return NOTES


@pytest.fixture
def noted(noun: Noun, stored: Shell) -> Shell:
    """A store that has notes."""
    write_migrations(stored.folder / "own")
    stored.write("holdfast.yaml", "storage: {migrations: {dir: own}}\n")
    done = stored.inside("storage", "init")
    assert done.returncode == 0, done.stderr
    return stored


def told(holdfast: Shell, *arguments: str, code: int = 0) -> Any:
    """What a command answers as JSON."""
    done = holdfast.inside(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def ids(holdfast: Shell, *arguments: str) -> list[str]:
    return [row["id"] for row in told(holdfast, *arguments)["items"]]


def write_notes(holdfast: Shell, count: int) -> None:
    rows = [
        {"id": f"n{number:03}", "title": f"note {number}", "priority": number, "tags": ["odd"] * (number % 2)}
        for number in range(1, count + 1)
    ]
    holdfast.write("notes.json", json.dumps(rows))
    assert len(told(holdfast, "notes", "create", "--input", "@notes.json")["items"]) == count


def test_a_record_is_made_of_words_and_shown(noted: Shell) -> None:
    made = told(
        noted, "notes", "create", "--set", "id=first", "--set", "title=On fire", "--set", "mood=cross",
        "--set", "priority=-3", "--set", "weight=0.5", "--set", "done=true", "--set", "takes=90s",
        "--set", "due_at=2026-03-29T01:30:00", "--set", "tags=vip, a b", "--set", 'facts={"n": [1, null]}',
        "--set", "blob=00ff", "--set", "anything=[1, 2]", "--set", "owner=ana",
    )  # fmt: skip
    assert made["revision"] == 1
    shown = told(noted, "notes", "show", "fir")
    assert shown == made
    names = ("mood", "priority", "weight", "done", "due_at", "takes", "tags")
    assert {name: shown[name] for name in names} == {
        "mood": "cross", "priority": -3, "weight": 0.5, "done": True, "due_at": "2026-03-29T01:30:00Z",
        "takes": 90.0, "tags": ["vip", "a b"],
    }  # fmt: skip
    assert (shown["facts"], shown["blob"], shown["anything"]) == ({"n": [1, None]}, "00ff", [1, 2])
    assert "pin" not in shown
    assert "deleted_at" not in shown
    person = noted.inside("notes", "show", "@last")
    assert "On fire" in person.stdout
    assert "pin" not in person.stdout


def test_what_is_shown_can_be_given_back(noted: Shell) -> None:
    told(
        noted,
        "notes",
        "create",
        "--set",
        "id=a",
        "--set",
        "title=A",
        "--set",
        "takes=1500ms",
        "--set",
        "blob=ff",
    )
    shown = told(noted, "notes", "show", "a")
    store_sets = ("revision", "created_at", "updated_at")
    given = {name: value for name, value in shown.items() if name not in store_sets} | {"id": "b"}
    noted.write("one.json", json.dumps(given))
    again = told(noted, "notes", "create", "--input", "@one.json", "--set", "title=B")
    assert {name: value for name, value in again.items() if name not in store_sets} == given | {"title": "B"}


def test_a_list_is_filtered_sorted_paged_and_counted(noted: Shell) -> None:
    write_notes(noted, 7)
    assert ids(noted, "notes", "list", "--sort", "priority", "priority:>5") == ["n006", "n007"]
    assert ids(noted, "notes", "list", "-tag:odd", "--sort=-priority") == ["n006", "n004", "n002"]
    assert ids(noted, "notes", "list", "fire") == []
    seen, cursor = [], []  # type: ignore[var-annotated]
    for _ in range(4):
        page = told(noted, "notes", "list", "--limit", "2", "--sort", "id", *cursor)
        seen += [row["id"] for row in page["items"]]
        cursor = ["--cursor", page["next_cursor"]]
    assert (seen, page["next_cursor"]) == ([f"n{number:03}" for number in range(1, 8)], None)
    assert "count" not in page
    counted = told(noted, "notes", "list", "tag:odd", "--limit", "1", "--count", "exact")
    assert (counted["count"], len(counted["items"])) == (4, 1)
    assert told(noted, "notes", "list", "--count", "estimate")["count"] == 7
    assert "7 in all" in noted.inside("notes", "list", "--count", "exact", "--limit", "2").stderr


def test_all_pages_come_in_every_form(noted: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.cli.record_reading.LIMIT_MAX", 3)
    write_notes(noted, 8)
    everything = [f"n{number:03}" for number in range(1, 9)]
    assert ids(noted, "notes", "list", "--all", "--sort", "id") == everything
    lines = noted.inside("notes", "list", "--all", "--sort", "id", "-o", "ndjson").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == everything
    assert noted.inside("notes", "list", "--all", "--sort", "id", "-q").stdout.split() == everything


def test_the_columns_are_those_that_a_declaration_suggests(noted: Shell) -> None:
    write_notes(noted, 1)
    head = noted.inside("notes", "list").stdout.splitlines()[0]
    assert head.split() == ["ID", "TITLE", "MOOD", "PRIORITY", "WEIGHT", "CREATED", "AT"]
    chosen = noted.inside("notes", "list", "--fields", "owner,title,id")
    assert chosen.stdout.splitlines()[0].split() == ["OWNER", "TITLE", "ID"]
    assert told(noted, "notes", "list", "--fields", "title")["items"] == [{"title": "note 1"}]


def test_an_update_names_its_revision_or_takes_the_newest(noted: Shell) -> None:
    write_notes(noted, 1)
    changed = told(
        noted,
        "notes",
        "update",
        "n0",
        "--set",
        "title=new",
        "--set",
        "due_at=2026-01-01",
        "--if-revision",
        "1",
    )
    assert (changed["title"], changed["revision"]) == ("new", 2)
    stale = noted.problem("notes", "update", "n001", "--set", "title=late", "--if-revision", "1", code=4)
    assert (stale["code"], stale["actual"], stale["expected"]) == ("HF4008", 2, 1)
    bare = told(noted, "notes", "update", "@last", "--unset", "due_at")
    assert (bare["due_at"], bare["title"], bare["revision"]) == (None, "new", 3)


def test_named_records_are_deleted_and_restored(noted: Shell) -> None:
    write_notes(noted, 3)
    done = told(noted, "notes", "delete", "n001", "n002")
    assert [(row["id"], row["result"]) for row in done["items"]] == [("n001", "deleted"), ("n002", "deleted")]
    assert ids(noted, "notes", "list") == ["n003"]
    partly = noted.inside("notes", "delete", "n001", "n003")
    assert (partly.returncode, partly.stdout) == (10, "n003 deleted\n")
    assert "HF3060" in partly.stderr
    assert noted.inside("notes", "restore", "n001").stdout == "n001 restored\n"
    assert ids(noted, "notes", "list") == ["n001"]
    assert noted.problem("notes", "restore", "n001", code=3)["code"] == "HF3060"


def test_what_fits_a_filter_is_deleted_after_a_look(noted: Shell) -> None:
    write_notes(noted, 5)
    dry = told(noted, "notes", "delete", "--where", "tag:odd", "--dry-run")
    assert dry == {"matched": 3, "deleted": 0, "dry_run": True}
    unasked = noted.problem("notes", "delete", "--where", "tag:odd", code=2)
    assert "delete 3 records of notes?" in unasked["detail"]
    assert len(ids(noted, "notes", "list")) == 5
    assert told(noted, "notes", "delete", "--where", "tag:odd", "--yes") == {"matched": 3, "deleted": 3}
    assert noted.inside("notes", "delete", "--where", "tag:odd").stdout == "0 of 0 deleted\n"
    assert noted.problem("notes", "delete", "--where", " ", "--yes", code=2)["code"] == "HF1020"
    assert ids(noted, "notes", "list", "--sort", "id") == ["n002", "n004"]


def test_a_dry_run_writes_nothing(noted: Shell) -> None:
    write_notes(noted, 1)
    assert told(noted, "notes", "create", "--set", "title=x", "--dry-run")["dry_run"] is True
    assert told(noted, "notes", "update", "n001", "--set", "title=x", "--dry-run")["title"] == "x"
    assert told(noted, "notes", "delete", "n001", "--dry-run")["items"][0]["result"] == "would be deleted"
    taken = noted.problem("notes", "create", "--set", "id=n001", "--set", "title=x", "--dry-run", code=4)
    assert taken["code"] == "HF4060"
    assert [row["title"] for row in told(noted, "notes", "list")["items"]] == ["note 1"]


def test_words_are_searched(noted: Shell) -> None:
    for id_, title, body in (
        ("a", "Printer", "on fire"),
        ("b", "Fire drill", "at the printer"),
        ("c", "Lunch", ""),
    ):
        told(
            noted, "notes", "create", "--set", f"id={id_}", "--set", f"title={title}", "--set", f"body={body}"
        )
    assert ids(noted, "notes", "search", "fire") == ["b", "a"]
    assert ids(noted, "notes", "search", "fire", "drill") == ["b"]
    page = told(noted, "notes", "search", "printer fire", "--limit", "1")
    assert len(ids(noted, "notes", "search", "printer fire", "--cursor", page["next_cursor"])) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "exits", "named"),
    [
        (["show", "nothing"], "HF3060", 3, "nothing"),
        (["show", ""], "HF3060", 3, "no note"),
        (["show", "@last"], "HF3060", 3, "no note yet"),
        (["list", "colour:red"], "HF1002", 2, "colour"),
        (["list", "mood:angry"], "HF1002", 2, "angry"),
        (["list", "--sort", "pin"], "HF1002", 2, "pin"),
        (["list", "--limit", "0"], "HF1002", 2, "limit"),
        (["list", "--limit", "1001"], "HF1002", 2, "limit"),
        (["list", "--cursor", "x"], "HF1002", 2, "cursor"),
        (["list", "--fields", "pin"], "HF1003", 2, "pin"),
        (["list", "--count", "maybe"], "HF1003", 2, "maybe"),
        (["list", "pin:otter"], "HF1002", 2, "pin"),
        (["create"], "HF1003", 2, "title"),
        (["create", "--set", "title"], "HF1003", 2, "NAME=VALUE"),
        (["create", "--set", "titel=x"], "HF1003", 2, "titel"),
        (["create", "--set", "pin=1234"], "HF1003", 2, "secret"),
        (["create", "--set", "title=x", "--set", "revision=7"], "HF1003", 2, "the store"),
        (["create", "--set", "title=x", "--set", "priority=high"], "HF1003", 2, "whole number"),
        (["create", "--set", "title=x", "--set", f"priority={2**63}"], "HF2012", 2, "64 bits"),
        (["create", "--set", "title=x", "--set", "weight=nan"], "HF2012", 2, "finite"),
        (["create", "--set", "title=x", "--set", "done=yes"], "HF1003", 2, "true or false"),
        (["create", "--set", "title=x", "--set", "mood=angry"], "HF1003", 2, "angry"),
        (["create", "--set", "title=x", "--set", "due_at=soon"], "HF1003", 2, "a time"),
        (["create", "--set", "title=x", "--set", "takes=long"], "HF1003", 2, "a duration"),
        (["create", "--set", "title=x", "--set", "blob=zz"], "HF1003", 2, "hexadecimal"),
        (["create", "--set", "title=x", "--set", "tags=[1]"], "HF1003", 2, "list of texts"),
        (["create", "--set", "title=x", "--set", "facts=7"], "HF1003", 2, "JSON"),
        (["create", "--set", "title=x", "--set", "anything={"], "HF1003", 2, "JSON"),
        (["create", "--input", "{"], "HF1003", 2, "JSON"),
        (["create", "--input", "7"], "HF1003", 2, "object"),
        (["create", "--input", "[]"], "HF1003", 2, "nothing"),
        (["create", "--input", "@missing.json"], "HF1003", 2, "missing.json"),
        (["create", "--input", '{"title": 7}'], "HF1003", 2, "a text"),
        (["create", "--input", '{"title": null}'], "HF1003", 2, "a text"),
        (["create", "--input", '{"title": "x", "priority": true}'], "HF1003", 2, "whole number"),
        (["create", "--input", '{"title": "x", "takes": false}'], "HF1003", 2, "a duration"),
        (["create", "--input", '{"title": "a\\u0000b"}'], "HF2012", 2, "NUL"),
        (["update", "x", "--set", "title=y"], "HF3060", 3, "x"),
        (["update", "x"], "HF1003", 2, "nothing"),
        (["update", "x", "--set", "owner=eve"], "HF1003", 2, "never changes"),
        (["update", "x", "--unset", "title"], "HF1003", 2, "always has a value"),
        (["update", "x", "--set", "title=y", "--if-revision", "one"], "HF1003", 2, "one"),
        (["delete"], "HF1003", 2, "--where"),
        (["delete", "x", "--where", "tag:y"], "HF1003", 2, "--where"),
        (["delete", "--where", "colour:red"], "HF1002", 2, "colour"),
        (["delete", "x"], "HF3060", 3, "x"),
        (["restore"], "HF1003", 2, "ID"),
        (["search"], "HF1003", 2, "TEXT"),
        (["drop"], "HF1003", 2, "drop"),
    ],
)
def test_wrong_input_is_told_and_changes_nothing(
    noun: Noun, holdfast: Shell, arguments: list[str], code: str, exits: int, named: str
) -> None:
    write_migrations(holdfast.folder / "own")
    holdfast.write("holdfast.yaml", "storage: {migrations: {dir: own}}\n")
    assert holdfast.inside("storage", "init").returncode == 0
    problem = holdfast.problem("notes", *arguments, code=exits)
    assert problem["code"] == code, problem
    assert named in problem["detail"] + problem["fix"]
    assert told(holdfast, "notes", "list")["items"] == []


def test_all_of_a_list_are_made_or_none(noted: Shell) -> None:
    noted.write("two.json", '[{"id": "a", "title": "A"}, {"id": "a", "title": "again"}]')
    done = noted.inside("notes", "create", "--input", "@two.json")
    assert done.returncode == 4, done.stderr
    assert told(noted, "notes", "list")["items"] == []


def test_several_that_begin_alike_are_not_guessed_among(noted: Shell) -> None:
    write_notes(noted, 2)
    assert "several" in noted.problem("notes", "show", "n00", code=3)["detail"]
    told(noted, "notes", "create", "--set", "id=n", "--set", "title=short")
    assert told(noted, "notes", "show", "n")["title"] == "short"


def test_there_is_no_store(noun: Noun, holdfast: Shell) -> None:
    for arguments in (["list"], ["show", "x"], ["create", "--set", "title=x"], ["delete", "x"]):
        assert holdfast.problem("notes", *arguments, code=3)["code"] == "HF2003"
    assert holdfast.files() == {}


@pytest.mark.parametrize("name", [each.name for each in catalogue.NOUNS])
def test_a_registered_noun_is_complete(name: str, holdfast: Shell) -> None:
    """Its class is there, its columns exist, and every verb of it explains itself."""
    noun = catalogue.noun(name)
    table = table_of(records.class_of(noun))
    assert issubclass(records.class_of(noun), Record)
    assert set(noun.columns) <= {column.name for column in table.columns if not column.secret}
    done = holdfast.inside(name, "--help")
    assert done.returncode == 0, done.stderr
    for verb in ("list", "show"):
        assert holdfast.inside(name, verb, "--help").returncode == 0
    if table.sealed:
        assert not {"create", "update", "delete"} & set(_verbs(name))


def test_every_noun_lists_and_counts_what_is_there(stored: Shell) -> None:
    """On every kind of store: its table has the fields that the declaration names."""
    assert stored.inside("storage", "init").returncode == 0
    for noun in catalogue.NOUNS:
        page = told(stored, noun.name, "list", "created:<1h", "--count", "exact")
        assert page == {"items": [], "next_cursor": None, "count": 0}, noun.name
        assert stored.problem(noun.name, "show", "nothing", code=3)["code"] == "HF3060", noun.name


def test_a_noun_of_holdfast_is_written_to(stored: Shell) -> None:
    assert stored.inside("storage", "init").returncode == 0
    made = stored("conversations", "create", "--input", "-", "--json", stdin='{"id": "c1", "tags": ["vip"]}')
    assert (made.returncode, json.loads(made.stdout)["revision"]) == (0, 1), made.stderr
    changed = told(
        stored, "conversations", "update", "c", "--set", "title=On fire", "--set", 'metadata={"n": 1}'
    )
    assert (changed["title"], changed["metadata"], changed["revision"]) == ("On fire", {"n": 1}, 2)
    assert ids(stored, "conversations", "list", "fire") == ["c1"]
    for guarded in ("message_count=7", "status=archived"):
        problem = stored.problem("conversations", "update", "c1", "--set", guarded, code=2)
        assert problem["code"] == "HF1003"
    assert told(stored, "conversations", "delete", "--where", "tag:vip", "--yes")["deleted"] == 1


@pytest.mark.parametrize(
    ("noun", "verb"),
    [
        ("users", "delete"), ("sessions", "update"), ("api-keys", "update"), ("tasks", "delete"),
        ("audit-logs", "create"), ("audit-logs", "delete"), ("messages", "create"), ("deployments", "update"),
    ],
)  # fmt: skip
def test_what_a_rule_guards_is_not_made_from_the_declaration(noun: str, verb: str) -> None:
    assert verb not in _verbs(noun)


def _verbs(name: str) -> list[str]:
    group = records.group(name)
    return group.list_commands(click.Context(group))


def test_verbs_that_a_domain_guards_are_switched_off(
    monkeypatch: pytest.MonkeyPatch, holdfast: Shell
) -> None:
    looked_at = NOTES._replace(verbs=LOOK, columns=("id", "title"))
    monkeypatch.setattr(catalogue, "NOUNS", (looked_at,))
    monkeypatch.setattr(catalogue, "COMMANDS", (Entry("notes", "", NOTES.help),))
    assert set(_verbs("notes")) == {"list", "show", "search"}
    assert holdfast.problem("notes", "create", "--set", "title=x", code=2)["code"] == "HF1003"


def test_the_declaration_is_what_the_commands_follow() -> None:
    from holdfast.cli.record_values import default_columns, shown, writable

    table = table_of(Note)
    assert "pin" not in shown(table)
    assert default_columns(table) == ("id", "title", "mood", "priority", "weight", "created_at")
    assert "owner" in {column.name for column in writable(Note, anew=True)}
    assert not {"id", "owner", "pin", "revision"} & {column.name for column in writable(Note, anew=False)}


def test_a_noun_loads_no_store_before_it_runs(holdfast: Shell, tmp_path: Path) -> None:
    if not catalogue.NOUNS:
        pytest.skip("no noun is registered")
    import subprocess
    import sys

    program = (
        "import sys; from holdfast.cli.main import main; main(sys.argv[1:]);"
        "print('MODULES', *sorted(name for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, catalogue.NOUNS[0].name, "list", "--help"],
        capture_output=True, text=True, env=holdfast.environ, cwd=tmp_path,
    )  # fmt: skip
    loaded = set(done.stdout.partition("MODULES")[2].split())
    assert not loaded & {"apsw", "asyncpg", "asyncmy", "rich", "yaml", "asyncio"}
    assert not [name for name in loaded if name.startswith("holdfast.store")]

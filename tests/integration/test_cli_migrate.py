"""`holdfast storage migrate plan` and `resolve`, as a person meets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.shell import Shell

NOTES = "-- +migrate Up\nCREATE TABLE notes (id integer);\n-- +migrate Down\nDROP TABLE notes;\n"
MORE = "-- +migrate Up\nCREATE INDEX notes_id ON notes (id);\nUPDATE notes SET id = id + 1;\n"
FIRST, SECOND = "migrations/20260101000000_notes.sql", "migrations/20260102000000_more.sql"


@pytest.fixture
def owned(unmade: Shell) -> Shell:
    """A store with a folder of migrations of one's own, of which nothing is applied."""
    (unmade.folder / "migrations").mkdir()
    unmade.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    unmade.write(FIRST, NOTES)
    return unmade


def told(shell: Shell, *arguments: str, code: int = 0) -> Any:
    """The JSON of a command that runs in this process, which is faster."""
    done = shell.inside(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def states(shell: Shell) -> dict[str, str]:
    return {row["name"]: row["state"] for row in told(shell, "storage", "migrate", "status")["items"]}


def test_the_plan_is_made_without_a_store_and_shrinks(owned: Shell) -> None:
    before = told(owned, "storage", "migrate", "plan")
    assert {row["name"] for row in before["items"]} >= {"foundation", "fleet", "notes"}
    assert before["estimate"] > 0
    told(owned, "storage", "init")
    assert owned("storage", "migrate", "plan").stdout == "nothing to do; the schema is up to date\n"
    owned.write(SECOND, MORE)
    planned = told(owned, "storage", "migrate", "plan")["items"]
    assert [(row["line"], row["table"], row["work"]) for row in planned] == [
        (2, "notes", "builds an index"),
        (3, "notes", "changes rows"),
    ]
    assert all(row["blocks"] and row["lock"] and row["estimate"] > 0 for row in planned)
    assert states(owned)["more"] == "pending"
    shown = owned("storage", "migrate", "plan").stdout
    assert "CREATE INDEX notes_id ON notes (id);" in shown
    assert "1 migration, 2 statements, about " in shown
    told(owned, "storage", "migrate", "up")
    assert told(owned, "storage", "migrate", "plan")["items"] == []


def test_a_migration_is_recorded_without_being_run(owned: Shell) -> None:
    (owned.folder / FIRST).unlink()
    told(owned, "storage", "init")
    owned.write(FIRST, NOTES)
    said = ("storage", "migrate", "resolve", "20260101000000", "--applied")
    looked = owned.json(*said, "--dry-run")
    assert (looked["before"], looked["after"], looked["result"]) == (
        "pending",
        "applied",
        "would be recorded",
    )
    assert owned.problem(*said, "--no-input", code=2)["code"] == "HF1003"
    assert states(owned)["notes"] == "pending"
    assert told(owned, *said, "--yes")["result"] == "recorded"
    assert states(owned)["notes"] == "applied"
    assert told(owned, *said, "--yes")["result"] == "nothing to do"
    back = told(owned, "storage", "migrate", "resolve", "20260101000000", "--pending", "--yes")
    assert (back["before"], back["after"]) == ("applied", "pending")
    applied = [row["name"] for row in told(owned, "storage", "migrate", "up")["items"]]
    assert "notes" in applied, "its table was never made"


def test_an_edit_is_taken_over_on_purpose(owned: Shell) -> None:
    told(owned, "storage", "init")
    owned.write(FIRST, NOTES + "-- a word\n")
    assert owned.problem("storage", "migrate", "up", code=6)["code"] == "HF2104"
    assert states(owned)["notes"] == "changed"
    done = owned("storage", "migrate", "resolve", "20260101000000", "--applied", "--yes")
    assert done.stdout == "20260101000000 notes: changed -> applied (recorded)\n", done.stderr
    assert owned("storage", "migrate", "up").returncode == 0


def test_a_row_without_a_file_is_taken_out(owned: Shell) -> None:
    told(owned, "storage", "init")
    (owned.folder / FIRST).unlink()
    assert states(owned)["notes"] == "unknown"
    asked = ("storage", "migrate", "resolve", "20260101000000")
    assert owned.problem(*asked, "--applied", "--yes", code=3)["code"] == "HF2107"
    assert told(owned, *asked, "--pending", "--yes")["result"] == "recorded"
    assert "notes" not in states(owned)


def test_what_resolve_refuses(owned: Shell) -> None:
    told(owned, "storage", "init")
    before = states(owned)
    for arguments, code, error in (
        (["7777", "--applied"], 3, "HF2107"),
        (["7777", "--pending"], 3, "HF2107"),
        (["1", "--ran"], 2, "HF1002"),
        (["1", "--did-not-run"], 2, "HF1002"),
        (["1"], 2, "HF1003"),
        (["1", "--applied", "--pending"], 2, "HF1003"),
        (["0", "--applied"], 2, "HF1003"),
        (["x", "--applied"], 2, "HF1003"),
    ):
        refused = owned.problem("storage", "migrate", "resolve", *arguments, "--yes", code=code)
        assert refused["code"] == error, arguments
    assert states(owned) == before


def test_resolve_needs_a_store(holdfast: Shell) -> None:
    refused = holdfast.problem("storage", "migrate", "resolve", "1", "--applied", "--yes", code=3)
    assert refused["code"] == "HF2003"
    assert holdfast.files() == {}


@pytest.fixture
def halfway(holdfast: Shell, fresh_mysql: str) -> Shell:
    """A MySQL store with a migration that stopped at its second statement, by an error."""
    holdfast.environ["HOLDFAST_URL"] = fresh_mysql
    (holdfast.folder / "migrations").mkdir()
    holdfast.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    assert holdfast.inside("storage", "init").returncode == 0
    holdfast.write(FIRST, NOTES.replace("-- +migrate Down", "TRUNCATE TABLE nowhere;\n-- +migrate Down"))
    failed = holdfast.problem("storage", "migrate", "up", code=1)
    assert failed["code"] == "HF2101" and "stays and is not done again" in failed["fix"]
    return holdfast


def test_what_stopped_half_way_is_shown_and_finished(halfway: Shell) -> None:
    assert states(halfway)["notes"] == "interrupted"
    assert told(halfway, "storage", "migrate", "status", "--check", code=4)["pending"] == 1
    refused = halfway.problem("storage", "migrate", "down", code=4)
    assert refused["code"] == "HF2109"
    assert [row["line"] for row in told(halfway, "storage", "migrate", "plan")["items"]] == [3]
    halfway.write(FIRST, NOTES)
    assert [row["name"] for row in told(halfway, "storage", "migrate", "up")["items"]] == ["notes"]
    assert states(halfway)["notes"] == "applied"


@pytest.mark.parametrize(("verdict", "standing"), [("--applied", "applied"), ("--pending", "pending")])
def test_what_stopped_half_way_is_settled_by_hand(halfway: Shell, verdict: str, standing: str) -> None:
    done = told(halfway, "storage", "migrate", "resolve", "20260101000000", verdict, "--yes")
    assert (done["before"], done["after"]) == ("interrupted", standing)
    assert states(halfway)["notes"] == standing

"""`holdfast storage`: making, reaching, measuring and migrating a store, and what each exit code is."""

from __future__ import annotations

import json

import pytest

from tests.integration.shell import Shell

ONE = "name: one\nsteps: [{id: s, shell: 'printf x'}]\n"
OWN = """\
-- +migrate Up
CREATE TABLE notes (id integer);
-- +migrate Down
DROP TABLE notes;
"""


def test_a_store_is_made_checked_and_taken_back(stored: Shell) -> None:
    planned = stored.json("storage", "init", "--dry-run")
    assert ([row["action"] for row in planned["items"]], planned["dry_run"]) == (["would apply"] * 2, True)
    made = stored.json("storage", "init")
    assert [(row["version"], row["action"]) for row in made["items"]] == [(1, "applied"), (2, "applied")]
    assert stored.json("storage", "migrate", "up")["items"] == []
    status = stored.json("storage", "migrate", "status", "--check")
    assert (status["items"][0]["state"], status["pending"]) == ("applied", 0)
    probe = stored.json("storage", "test-connection")
    assert probe["pending_migrations"] == 0
    assert probe["latency_ms"] > 0
    stored.write("one.yaml", ONE)
    assert stored("run", "one.yaml").returncode == 0
    stats = stored.json("storage", "stats")
    assert stats["executions"] == {"completed": 1}
    assert stats["bytes"] == sum(row["bytes"] for row in stats["tables"]) > 0
    assert {"executions", "events", "payloads"} <= {row["table"] for row in stats["tables"]}
    refused = stored.problem("storage", "migrate", "down", code=4)
    assert refused["code"] == "HF2108"
    assert stored.json("storage", "migrate", "down", "--dry-run")["items"][0]["action"] == "would take back"
    back = stored.json("storage", "migrate", "down", "-s", "2", "--allow-data-loss")
    assert [row["action"] for row in back["items"]] == ["took back"] * 2
    assert stored.json("storage", "migrate", "status", "--check", code=4)["pending"] == 2
    assert stored("executions", "list").returncode == 3
    forth = stored.json("storage", "migrate", "to", "2", "--progress", "json")
    assert [row["action"] for row in forth["items"]] == ["applied"] * 2


def test_progress_has_a_line_for_each_migration(holdfast: Shell) -> None:
    done = holdfast("storage", "migrate", "up", "--progress", "plain")
    assert (done.returncode, done.stderr) == (0, "applying 1/2: 1 foundation\napplying 2/2: 2 fleet\n")
    assert done.stdout.startswith("applied 1 foundation in ")
    again = holdfast("storage", "migrate", "to", "0", "--progress", "json")
    assert again.returncode == 0, again.stderr
    assert [json.loads(line) for line in again.stderr.splitlines()] == [
        {"event": "migration", "version": 2, "place": 1, "total": 2},
        {"event": "migration", "version": 1, "place": 2, "total": 2},
    ]


def test_migrations_of_ones_own_share_the_ledger(stored: Shell) -> None:
    made = stored.json("storage", "migrate", "create", "Add notes")
    path = stored.folder / made["file"]
    assert path.parent.name == "migrations"
    path.write_text(OWN)
    stored.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    applied = stored.json("storage", "migrate", "up")["items"]
    assert [row["name"] for row in applied] == ["foundation", "fleet", "add_notes"]
    stored.write("one.yaml", ONE)
    assert stored("run", "one.yaml").returncode == 0
    path.write_text(OWN + "-- edited\n")
    assert stored.problem("storage", "migrate", "up", code=6)["code"] == "HF2104"
    path.write_text(OWN)
    assert [row["name"] for row in stored.json("storage", "migrate", "to", "2")["items"]] == ["add_notes"]


def test_a_failing_migration_leaves_the_database_and_names_the_statement(stored: Shell) -> None:
    (stored.folder / "migrations").mkdir()
    stored.write(
        "migrations/20260101000000_bad.sql",
        "-- +migrate Up\nCREATE TABLE a (id integer);\nINSERT INTO b VALUES (1);\n",
    )
    stored.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    problem = stored.problem("storage", "migrate", "up", code=1)
    assert problem["code"] == "HF2101"
    assert "INSERT INTO b" in problem["detail"]
    assert problem["where"].endswith("20260101000000_bad.sql:3")
    states = {row["name"]: row["state"] for row in stored.json("storage", "migrate", "status")["items"]}
    assert states == {"foundation": "applied", "fleet": "applied", "bad": "pending"}


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://nobody@nowhere/x"])
def test_sql_opens_no_database(holdfast: Shell, url: str) -> None:
    forth = holdfast("storage", "migrate", "sql", "-s", url)
    assert forth.returncode == 0, forth.stderr
    assert "CREATE TABLE" in forth.stdout
    assert "schema_migrations" in forth.stdout
    back = holdfast.json("storage", "migrate", "sql", "--down", "--from", "1", "--to", "0", "-s", url)
    assert "DROP TABLE" in back["sql"]
    assert holdfast.files() == {}


def test_create_can_be_tried_first(holdfast: Shell) -> None:
    assert holdfast.json("storage", "migrate", "create", "x", "--dir", "sub", "--dry-run")["folder"] == "sub"
    assert holdfast.files() == {}


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["storage", "test-connection"], 3, "HF2003"),
        (["storage", "stats"], 3, "HF2003"),
        (["storage", "migrate", "status"], 3, "HF2003"),
        (["storage", "migrate", "down"], 3, "HF2003"),
        (["storage", "migrate", "to", "1"], 3, "HF2003"),
        (["storage", "migrate", "to", "x"], 2, "HF1003"),
        (["storage", "migrate", "down", "-s", "0"], 2, "HF1003"),
        (["storage", "migrate", "create", "!!"], 2, "HF1002"),
        (["storage", "migrate", "create", "!!", "--dry-run"], 2, "HF1002"),
        (["storage", "migrate", "sql", "--to", "77"], 3, "HF2107"),
        (["storage", "test-connection", "-s", "postgresql://127.0.0.1:1/x"], 5, "HF2001"),
        (["storage", "init", "-s", "postgresql://127.0.0.1:1/x"], 5, "HF2001"),
        (["storage", "migrate", "upp"], 2, "HF1003"),
    ],
)
def test_wrong_words_and_absent_stores(holdfast: Shell, arguments: list[str], code: int, error: str) -> None:
    assert holdfast.problem(*arguments, code=code)["code"] == error
    assert holdfast.files() == {}


def test_a_version_that_is_not_there(holdfast: Shell) -> None:
    assert holdfast.inside("storage", "init").returncode == 0
    assert holdfast.problem("storage", "migrate", "to", "77", code=3)["code"] == "HF2107"

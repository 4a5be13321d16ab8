"""`holdfast storage`: making, reaching, measuring and migrating a store, and what each exit code is."""

from __future__ import annotations

import json

import pytest

from holdfast.store.migrations import load
from tests.integration.shell import Shell

OWN = [(migration.version, migration.name) for migration in load("sqlite").migrations]
ONE = "name: one\nsteps: [{id: s, shell: 'printf x'}]\n"
NOTES = """\
-- +migrate Up
CREATE TABLE notes (id integer);
-- +migrate Down
DROP TABLE notes;
"""


def test_a_store_is_made_checked_and_taken_back(unmade: Shell) -> None:
    planned = unmade.json("storage", "init", "--dry-run")
    assert ([row["action"] for row in planned["items"]], planned["dry_run"]) == (
        ["would apply"] * len(OWN),
        True,
    )
    made = unmade.json("storage", "init")
    assert [(row["version"], row["action"]) for row in made["items"]] == [(v, "applied") for v, _ in OWN]
    assert unmade.json("storage", "migrate", "up")["items"] == []
    status = unmade.json("storage", "migrate", "status", "--check")
    assert (status["items"][0]["state"], status["pending"]) == ("applied", 0)
    probe = unmade.json("storage", "test-connection")
    assert probe["pending_migrations"] == 0
    assert probe["latency_ms"] > 0
    unmade.write("one.yaml", ONE)
    assert unmade("run", "one.yaml").returncode == 0
    stats = unmade.json("storage", "stats")
    assert stats["executions"] == {"completed": 1}
    assert stats["bytes"] == sum(row["bytes"] for row in stats["tables"]) > 0
    assert {"executions", "events", "payloads"} <= {row["table"] for row in stats["tables"]}
    refused = unmade.problem("storage", "migrate", "down", "-s", str(len(OWN)), code=4)
    assert refused["code"] == "HF2108"
    assert unmade.json("storage", "migrate", "down", "--dry-run")["items"][0]["action"] == "would take back"
    back = unmade.json("storage", "migrate", "down", "-s", str(len(OWN)), "--allow-data-loss")
    assert [row["action"] for row in back["items"]] == ["took back"] * len(OWN)
    assert unmade.json("storage", "migrate", "status", "--check", code=4)["pending"] == len(OWN)
    assert unmade("executions", "list").returncode == 3
    forth = unmade.json("storage", "migrate", "to", "2", "--progress", "json")
    assert [row["action"] for row in forth["items"]] == ["applied"] * 2


def test_progress_has_a_line_for_each_migration(holdfast: Shell) -> None:
    done = holdfast("storage", "migrate", "up", "--progress", "plain")
    lines = [f"applying {n}/{len(OWN)}: {v} {name}\n" for n, (v, name) in enumerate(OWN, start=1)]
    assert (done.returncode, done.stderr) == (0, "".join(lines))
    assert done.stdout.startswith("applied 1 foundation in ")
    again = holdfast("storage", "migrate", "to", "0", "--progress", "json")
    assert again.returncode == 0, again.stderr
    assert [json.loads(line) for line in again.stderr.splitlines()] == [
        {"event": "migration", "version": version, "place": place, "total": len(OWN)}
        for place, (version, _) in enumerate(reversed(OWN), start=1)
    ]


def test_migrations_of_ones_own_share_the_ledger(unmade: Shell) -> None:
    made = unmade.json("storage", "migrate", "create", "Add notes")
    path = unmade.folder / made["file"]
    assert path.parent.name == "migrations"
    path.write_text(NOTES)
    unmade.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    applied = unmade.json("storage", "migrate", "up")["items"]
    assert [row["name"] for row in applied] == [*(name for _, name in OWN), "add_notes"]
    unmade.write("one.yaml", ONE)
    assert unmade("run", "one.yaml").returncode == 0
    path.write_text(NOTES + "-- edited\n")
    assert unmade.problem("storage", "migrate", "up", code=6)["code"] == "HF2104"
    path.write_text(NOTES)
    newest = str(OWN[-1][0])
    assert [row["name"] for row in unmade.json("storage", "migrate", "to", newest)["items"]] == ["add_notes"]


def test_a_failing_migration_leaves_the_database_and_names_the_statement(unmade: Shell) -> None:
    (unmade.folder / "migrations").mkdir()
    unmade.write(
        "migrations/20260101000000_bad.sql",
        "-- +migrate Up\nCREATE TABLE a (id integer);\nINSERT INTO b VALUES (1);\n",
    )
    unmade.write("holdfast.yaml", "storage: {migrations: {dir: migrations}}\n")
    problem = unmade.problem("storage", "migrate", "up", code=1)
    assert problem["code"] == "HF2101"
    assert "INSERT INTO b" in problem["detail"]
    assert problem["where"].endswith("20260101000000_bad.sql:3")
    states = {row["name"]: row["state"] for row in unmade.json("storage", "migrate", "status")["items"]}
    # MySQL keeps what the statements before it did, and says so.
    on_mysql = unmade.environ.get("HOLDFAST_URL", "").startswith("mysql")
    bad = {"bad": "interrupted" if on_mysql else "pending"}
    assert states == {name: "applied" for _, name in OWN} | bad


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

"""`holdfast config` as a person meets it, and what each block of settings does."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from holdfast.config.json_schema import json_schema
from tests.integration.shell import Shell, until

BROKEN = """\
storage:
  typ: sqlite
  postgresql:
    pool: {min: 30, max: 5, idle_timeout: 30}
    password: geheim
  retention:
    executions: {maxAge: soon}
workr:
  lease: 3s
"""
WORKFLOW = "name: hello\nsteps:\n  - {id: one, shell: 'printf hi'}\n"


def test_validate_tells_every_mistake_in_the_order_of_the_file(holdfast: Shell) -> None:
    holdfast.write("bad.yaml", BROKEN)
    done = holdfast("config", "validate", "bad.yaml")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "HF1100  5 mistakes in the configuration:"
    assert [each.split()[0] for each in lines[1:6]] == [
        "bad.yaml:2",
        "bad.yaml:4",
        "bad.yaml:4",
        "bad.yaml:7",
        "bad.yaml:8",
    ]
    assert "(did you mean storage.type?)" in lines[1]
    assert "(did you mean worker?)" in lines[5]
    assert "geheim" not in done.stderr
    problem = json.loads(holdfast("config", "validate", "bad.yaml", "--json").stderr)
    assert [each["where"].split(" ")[0] for each in problem["problems"]] == [
        each.split()[0] for each in lines[1:6]
    ]


def test_validate_lists_what_has_no_effect_yet(holdfast: Shell) -> None:
    holdfast.write("holdfast.yaml", "redis: {url: 'redis://:geheim@r'}\nbackup:\n  enabled: true\n")
    done = holdfast("config", "validate")
    assert (done.returncode, done.stdout) == (0, "holdfast.yaml is valid\n")
    assert done.stderr.splitlines() == [
        "holdfast.yaml:1: note: redis.url has no effect yet: Redis comes later",
        "holdfast.yaml:3: note: backup.enabled has no effect yet: backup comes later",
    ]


def test_show_a_section_and_what_was_changed(holdfast: Shell) -> None:
    holdfast.write(
        "holdfast.yaml", "storage: {postgresql: {pool: {maxConnections: 7}}}\ncache: {l1: {ttl: 5s}}\n"
    )
    shown = holdfast.json("config", "show", "storage.postgresql.pool")["items"]
    assert [row["key"] for row in shown] == [
        f"storage.postgresql.pool.{name}"
        for name in ("min", "max", "acquire_timeout", "idle_timeout", "max_lifetime")
    ]
    changed = holdfast("config", "show", "--changed", "--origins", HOLDFAST_LOG_LEVEL="debug").stdout
    assert [" ".join(each.split()) for each in changed.splitlines()] == [
        "KEY VALUE ORIGIN NOTE",
        "storage.postgresql.pool.max 7 holdfast.yaml:1 (storage.postgresql.pool.maxConnections)",
        "logging.level debug HOLDFAST_LOG_LEVEL",
        "logging.format text HOLDFAST_LOGGING__FORMAT",
        "cache.l1.ttl 5s holdfast.yaml:2 no effect yet",
    ]
    assert holdfast("config", "show", "storge").returncode == 3
    assert holdfast("config", "get", "storage.postgresql").returncode == 3


def test_get_a_setting_of_a_feature_to_come(holdfast: Shell) -> None:
    done = holdfast("config", "get", "redis.pool", HOLDFAST_REDIS__POOL="9")
    assert (done.stdout, done.returncode) == ("9\n", 0)
    assert "no effect yet" in done.stderr
    assert holdfast("config", "get", "redis.pool").stdout == "20\n"


def test_set_changes_one_line(holdfast: Shell) -> None:
    assert holdfast("init").returncode == 0
    before = (holdfast.folder / "holdfast.yaml").read_text()
    done = holdfast("config", "set", "storage.postgresql.pool.maxConnections", "33")
    assert (done.stdout, done.returncode) == ("storage.postgresql.pool.max is set in holdfast.yaml\n", 0)
    after = (holdfast.folder / "holdfast.yaml").read_text()
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line.split("#")[0].strip() for line in changed] == ["max: 33"]
    assert holdfast("config", "get", "storage.postgresql.pool.max").stdout == "33\n"


def test_set_for_one_profile_and_where_there_is_no_file(holdfast: Shell) -> None:
    assert holdfast("config", "set", "-p", "prod", "worker.concurrency", "3").returncode == 0
    assert yaml.safe_load((holdfast.folder / "holdfast.yaml").read_text()) == {
        "profiles": {"prod": {"worker": {"concurrency": 3}}}
    }
    assert holdfast("config", "get", "worker.concurrency").stdout == "10\n"
    assert holdfast("config", "get", "worker.concurrency", "-p", "prod").stdout == "3\n"


def test_set_says_when_something_stronger_decides(holdfast: Shell) -> None:
    done = holdfast("config", "set", "logging.level", "error", HOLDFAST_LOG_LEVEL="debug")
    assert done.returncode == 0
    assert "HOLDFAST_LOG_LEVEL is stronger and still decides" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["logging.levle", "debug"], 3, "did you mean logging.level?"),
        (["logging", "debug"], 3, "is a group of settings"),
        (["logging.level", "loud"], 2, "debug, info, warning, error"),
        (["worker.lease", "30"], 2, "has no unit"),
        (["storage.postgresql.pool.min", "900"], 2, "more than pool.max"),
        (["storage.postgresql.password", "geheim"], 2, "put it into .env"),
        (["storage.url", "postgresql://u:geheim@h/d"], 2, "put it into .env"),
        (["redis.url", "redis://:geheim@h"], 2, "put it into .env"),
    ],
)
def test_set_refuses(holdfast: Shell, words: list[str], code: int, told: str) -> None:
    holdfast.write("holdfast.yaml", "environment: staging\n")
    before = holdfast.files()
    done = holdfast("config", "set", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "geheim" not in done.stderr
    assert holdfast.files() == before


def test_set_with_a_reference_to_a_secret_and_a_dry_run(holdfast: Shell) -> None:
    words = ("config", "set", "storage.postgresql.password", "${PW}")
    assert holdfast(*words, "--dry-run", PW="x").stdout == (
        "would set storage.postgresql.password in holdfast.yaml\n"
    )
    assert holdfast.files() == {}
    assert holdfast(*words, PW="x").returncode == 0
    assert "${PW}" in (holdfast.folder / "holdfast.yaml").read_text()


def test_set_leaves_toml_to_the_hand(holdfast: Shell) -> None:
    holdfast.write("holdfast.toml", "[logging]\n")
    done = holdfast("config", "set", "logging.level", "debug")
    assert done.returncode == 2
    assert "by hand" in done.stderr


def test_schema_path_and_profiles(holdfast: Shell) -> None:
    assert json.loads(holdfast("config", "schema").stdout) == json_schema()
    assert holdfast("config", "path").stderr == "there is no configuration file; make one: holdfast init\n"
    holdfast.write("holdfast.yaml", "profiles: {quiet: {}}\n")
    holdfast.write(".env.staging", "A=1\n")
    assert holdfast("config", "path").stdout == "holdfast.yaml\n"
    looked = {row["path"]: row["state"] for row in holdfast.json("config", "path", "-p", "staging")["items"]}
    assert (looked["holdfast.yaml"], looked[".env.staging"]) == ("read", "read")
    assert looked["holdfast.toml"] == "not there"
    rows = holdfast.json("config", "profiles", "-p", "quiet")["items"]
    assert {row["profile"]: (row["active"], row["places"]) for row in rows} == {
        "dev": (False, "built in"),
        "prod": (False, "built in"),
        "quiet": (True, "holdfast.yaml:1"),
        "staging": (False, ".env.staging"),
    }


@pytest.mark.parametrize(
    "words",
    [
        ["config", "show", "--origins"],
        ["config", "get", "storage.url"],
        ["config", "validate"],
        ["config", "schema"],
        ["config", "path", "-v"],
        ["config", "profiles"],
        ["executions", "list"],
        ["storage", "health"],
        ["schedules", "list"],
    ],
)
def test_reading_changes_nothing(holdfast: Shell, words: list[str]) -> None:
    holdfast.write("holdfast.yaml", "logging: {level: debug}\nbackup: {path: kept}\nevent_log: {dir: logs}\n")
    holdfast.write(".env", "HOLDFAST_PROFILE=dev\n")
    before = holdfast.files()
    holdfast.inside(*words)
    assert holdfast.files() == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "hello.yaml"], "storage: {tenancy: {enabled: true}}"),
        (["executions", "list"], "storage: {encryption: {at_rest: aes-256-gcm}}"),
        (["init"], "storage: {partitioning: {enabled: true}}"),
        (["storage", "init"], "storage: {partitioning: {enabled: true}}"),
        (["storage", "migrate", "up"], "storage: {partitioning: {enabled: true}}"),
        (["storage", "health"], "remote: {url: 'https://h.example'}"),
    ],
)
def test_the_command_that_needs_a_feature_to_come_refuses(
    holdfast: Shell, words: list[str], text: str
) -> None:
    holdfast.write("hello.yaml", WORKFLOW)
    holdfast.write("holdfast.yaml", f"\n{text}\n")
    before = holdfast.files()
    problem = holdfast.problem(*words, code=2)
    assert (problem["code"], problem["where"].split(" ")[0]) == ("HF1101", "holdfast.yaml:2")
    assert holdfast.files() == before


def test_the_example_of_variables_loads_line_by_line(holdfast: Shell) -> None:
    assert holdfast("init").returncode == 0
    lines = (holdfast.folder / ".env.example").read_text().splitlines()
    assignments = [line[1:] for line in lines if line.startswith("#") and "=" in line.split(" ")[0]]
    assert len(assignments) > 15
    (holdfast.folder / "holdfast").write_text("geheim\n")
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        value = value.replace("/run/secrets/", "")
        holdfast.write(".env", f"{name}={value}\n")
        done = holdfast.inside("config", "show", "--changed")
        assert done.returncode == 0, (assignment, done.stderr)


# What a block does, not only that it is read.


def server_of(url: str) -> dict[str, str]:
    """The variables that lead a block to the test's own server: stronger than the file, part by part."""
    parts = urlsplit(url)
    said = {
        "HOST": parts.hostname,
        "PORT": parts.port,
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
    }
    return {f"HOLDFAST_DATABASE_{name}": str(value) for name, value in said.items() if value}


def test_a_sqlite_block_is_where_and_how_the_file_is(holdfast: Shell) -> None:
    holdfast.write(
        "holdfast.yaml",
        "storage:\n  type: sqlite\n  sqlite: {path: data/deep/x.db, walMode: true, busyTimeout: 150}\n",
    )
    assert holdfast("storage", "init").returncode == 0
    path = holdfast.folder / "data" / "deep" / "x.db"
    assert path.stat().st_mode & 0o777 == 0o600
    other = sqlite3.connect(path, isolation_level=None)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.execute("BEGIN IMMEDIATE")  # who waits 150 ms for the lock gives up; who waits 5 s would not
    holdfast.write("hello.yaml", WORKFLOW)
    # A process of its own: of SQLite's locks a process never hinders itself.
    assert holdfast("run", "hello.yaml").returncode == 5
    other.execute("ROLLBACK")
    assert holdfast("run", "hello.yaml").returncode == 0


@pytest.mark.parametrize(("form", "ending"), [("yaml", ".yaml.gz"), ("json", ".json.gz")])
def test_a_file_block_is_where_and_how_the_documents_are(holdfast: Shell, form: str, ending: str) -> None:
    holdfast.write(
        "holdfast.yaml",
        f"storage:\n  type: file\n  file: {{basePath: ./data, format: {form}, compress: true}}\n",
    )
    holdfast.write("hello.yaml", WORKFLOW)
    assert holdfast("run", "hello.yaml").returncode == 0
    written = [path.name for path in (holdfast.folder / "data").rglob("*") if path.name.endswith(ending)]
    assert written
    assert not [name for name in written if not name.endswith(ending)]


def test_a_postgresql_block_is_the_server_and_its_pool(holdfast: Shell, made_postgres: str) -> None:
    holdfast.write(
        "holdfast.yaml",
        "storage:\n  type: postgresql\n  postgresql:\n    host: db.example\n    password: ${PW:-none}\n"
        "    pool: {minConnections: 3, maxConnections: 4, idleTimeout: 60000}\n    ssl: {enabled: auto}\n",
    )
    environ = server_of(made_postgres)
    shown = holdfast.json("storage", "stats", **environ)
    assert shown["process"]["pool"]["most"] == 4
    assert holdfast("executions", "list", **environ).returncode == 0


@pytest.mark.parametrize("spelling", ["postgres", "postgresql"])
def test_a_connection_string_of_a_persistence_block_is_the_store(
    holdfast: Shell, made_postgres: str, spelling: str
) -> None:
    holdfast.write(
        "config.yaml", f'persistence:\n  backend: "{spelling}"\n  connection_string: "{made_postgres}"\n'
    )
    holdfast.write("hello.yaml", WORKFLOW)
    assert holdfast("run", "hello.yaml").returncode == 0
    listed = holdfast.json("executions", "list", HOLDFAST_URL=made_postgres)
    assert [row["workflow"] for row in listed["items"]] == ["hello"]
    assert not (holdfast.folder / ".holdfast" / "holdfast.db").exists()


def test_a_persistence_block_is_where_the_file_is(holdfast: Shell) -> None:
    holdfast.write(
        "config.yaml", 'persistence: {enabled: true, backend: "sqlite", database_path: "./d/m.db"}\n'
    )
    assert holdfast("storage", "init").returncode == 0
    assert (holdfast.folder / "d" / "m.db").is_file()


def test_migrations_that_do_not_run_by_themselves(holdfast: Shell) -> None:
    holdfast.write("holdfast.yaml", "storage: {migrations: {enabled: true, autoRun: false}}\n")
    holdfast.write("hello.yaml", WORKFLOW)
    assert holdfast("run", "hello.yaml").returncode in {3, 4}
    assert holdfast("storage", "migrate", "up").returncode == 0
    assert holdfast("run", "hello.yaml").returncode == 0


def test_state_store_type_in_memory_leaves_nothing(holdfast: Shell) -> None:
    holdfast.write(".env.development", "STATE_STORE_TYPE=in-memory\n")
    holdfast.write("hello.yaml", WORKFLOW)
    before = set(holdfast.files())
    assert holdfast("run", "hello.yaml", "-p", "development").returncode == 0
    assert set(holdfast.files()) == before


def test_a_slow_query_is_one_line_of_json(holdfast: Shell) -> None:
    holdfast.write("hello.yaml", WORKFLOW)
    holdfast.write("holdfast.yaml", "storage: {slowQuery: 1}\nlogging: {format: json}\n")
    done = holdfast("run", "hello.yaml", HOLDFAST_LOGGING__FORMAT="")
    assert done.returncode == 0
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    slow = [each for each in told if each.get("message") == "Slow query detected"]
    assert slow
    assert {"timestamp", "level", "duration", "database", "statement", "tenant"} <= slow[0].keys()


def test_level_debug_tells_what_is_done(holdfast: Shell) -> None:
    words, quiet = ("storage", "init"), ("storage", "init", "-s", "sqlite:///other.db")
    holdfast.write("holdfast.yaml", 'logging:\n  level: "debug"\n')
    told = holdfast(*words).stderr
    assert "migration 1 " in told
    (holdfast.folder / "holdfast.yaml").unlink()
    assert "migration 1 " not in holdfast(*quiet).stderr


@pytest.mark.parametrize(("form", "is_json"), [("json", True), ("auto", True), ("text", False)])
def test_what_a_worker_says_is_text_or_json(holdfast: Shell, form: str, is_json: bool) -> None:
    log = holdfast.folder / "worker.log"
    environ = holdfast.environ | {"HOLDFAST_LOGGING__FORMAT": form}
    with log.open("w") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "worker"], cwd=holdfast.folder, env=environ, stderr=errors
        )
        try:
            until(lambda: "serves default" in log.read_text(), patience_s=180)
        finally:
            worker.terminate()
            assert worker.wait(60) in {0, 143}
    lines = log.read_text().splitlines()
    if is_json:
        told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert all({"timestamp", "level", "message"} <= each.keys() for each in told)
        assert told[0]["level"] == "info"
    else:
        assert lines[0].startswith("worker ")


def test_init_writes_a_schema_that_the_file_names(holdfast: Shell) -> None:
    assert holdfast("init").returncode == 0
    first = (holdfast.folder / "holdfast.yaml").read_text().splitlines()[0]
    named = Path(first.partition("$schema=")[2])
    assert json.loads((holdfast.folder / named).read_text()) == json_schema()
    (holdfast.folder / named).write_text("{}")
    assert "renewed .holdfast/schema.json" in holdfast("init").stdout

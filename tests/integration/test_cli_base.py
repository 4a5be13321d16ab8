"""The command line as a person meets it: a process with arguments, streams and an exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from holdfast.workflows import definition
from tests.integration.shell import Shell

HEAVY = {"rich", "yaml", "apsw", "asyncpg", "msgspec", "jsonschema", "click", "asyncio", "dataclasses"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands_without_importing_them(holdfast: Shell, arguments: list[str]) -> None:
    program = (
        "import sys; from holdfast.cli.main import main; code = main(sys.argv[1:]);"
        "print('MODULES', *sorted(name for name in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=holdfast.environ
    )
    page, _, modules = done.stdout.partition("MODULES")
    assert done.returncode == 0
    for command in ("init", "config", "version", "help"):
        assert f"\n  {command} " in page
    assert "--storage URL" in page
    loaded = set(modules.split())
    assert not loaded & HEAVY
    assert not [name for name in loaded if name.startswith("holdfast.cli.commands")]


def test_a_light_command_loads_no_database_and_no_terminal_library(holdfast: Shell) -> None:
    program = (
        "import sys; from holdfast.cli.main import main; main(sys.argv[1:]);"
        "print('MODULES', *sorted(name for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "config", "show"],
        capture_output=True,
        text=True,
        env=holdfast.environ,
        cwd=holdfast.folder,
    )
    assert not set(done.stdout.partition("MODULES")[2].split()) & (HEAVY - {"click", "dataclasses"})


@pytest.mark.parametrize("arguments", [["config", "--help"], ["help", "config"], ["config", "get", "-h"]])
def test_help_of_a_command(holdfast: Shell, arguments: list[str]) -> None:
    done = holdfast(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: holdfast config")


def test_a_noun_without_a_verb_shows_its_verbs(holdfast: Shell) -> None:
    done = holdfast("config")
    assert (done.returncode, done.stdout) == (2, "")
    assert "validate" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "fix"),
    [
        (["confg"], "HF1003", "did you mean config?"),
        (["config", "shw"], "HF1003", "did you mean show?"),
        (["config", "show", "--origin"], "HF1003", "did you mean --origins"),
        (["--storge", "x", "version"], "HF1003", "did you mean --storage?"),
        (["version", "-o", "xml"], "HF1003", "see `holdfast version --help`"),
        (["config", "get"], "HF1003", "see `holdfast config get --help`"),
        (["config", "show", "--fields", "kye"], "HF1003", "choose from key, value"),
        (["config", "show", "-c", "nowhere.yaml"], "HF1100", "check --config"),
        (["config", "show", "-s", "x.db"], "HF1100", "write sqlite:///PATH"),
        (["help", "nothing"], "HF1003", "see `holdfast --help`"),
    ],
)
def test_wrong_usage_is_four_lines_and_exit_code_2(
    holdfast: Shell, arguments: list[str], code: str, fix: str
) -> None:
    done = holdfast(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    first, where, remedy, more = done.stderr.splitlines()
    assert first.startswith(f"{code}  ")
    assert where.startswith("  where   ")
    assert remedy.startswith("  fix     ")
    assert fix in remedy
    assert more == f"  more    holdfast help {code}"
    assert holdfast.files() == {}


@pytest.mark.parametrize("asked", [["--json"], ["-o", "json"], ["--output=ndjson"]])
@pytest.mark.parametrize("before", [True, False])
def test_failures_are_problem_json_when_json_is_asked_for(
    holdfast: Shell, asked: list[str], before: bool
) -> None:
    words = ["config", "get", "storage.typ"]
    done = holdfast(*asked, *words) if before else holdfast(*words, *asked)
    problem = json.loads(done.stderr)
    assert (done.returncode, done.stdout) == (3, "")
    assert problem["type"] == "/problems/hf3000"
    assert problem["fix"] == "did you mean storage.type?"
    assert problem["exit_code"] == 3


def test_even_a_line_that_does_not_parse_fails_as_json(holdfast: Shell) -> None:
    done = holdfast("confg", "--nothing", "--json")
    assert json.loads(done.stderr)["nearest"] == ["config"]


def test_flags_stand_before_and_behind_the_command_and_the_last_wins(holdfast: Shell) -> None:
    get = ("config", "get", "storage.url")
    assert holdfast("-s", "memory://", *get).stdout == "memory://\n"
    assert holdfast(*get, "-s", "memory://").stdout == "memory://\n"
    assert holdfast("-s", "sqlite:///a.db", *get, "--storage", "sqlite:///b.db").stdout == "sqlite:///b.db\n"
    assert holdfast("config", "-s", "memory://", "get", "storage.type").stdout == "memory\n"


def test_output_formats(holdfast: Shell) -> None:
    show = ("config", "show", "--fields", "key,value")
    text = holdfast(*show, "-o", "json").stdout
    items = json.loads(text)["items"]
    assert {"key": "storage.type", "value": "sqlite"} in items
    assert text.count("\n") == 1
    assert [json.loads(line) for line in holdfast(*show, "-o", "ndjson").stdout.splitlines()] == items
    assert yaml.safe_load(holdfast(*show, "-o", "yaml").stdout)["items"] == items
    rows = list(csv.DictReader(io.StringIO(holdfast(*show, "-o", "csv").stdout)))
    assert {"key": "storage.type", "value": "sqlite"} in rows
    assert len(rows) == len(items)
    assert holdfast("config", "show", "-q").stdout.split() == [item["key"] for item in items]


def test_a_table_in_a_pipe_is_plain_and_whole(holdfast: Shell) -> None:
    path = "x" * 300 + ".db"
    done = holdfast("config", "show", HOLDFAST_DATABASE_PATH=path, COLUMNS="40")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["KEY", "VALUE"]
    assert any(line.endswith(path) for line in lines)
    assert "\x1b" not in done.stdout
    assert holdfast("config", "show", "--no-headers").stdout.splitlines()[0].split() == ["profile"]


def test_data_cannot_steer_the_terminal(holdfast: Shell) -> None:
    done = holdfast("config", "show", HOLDFAST_DATABASE_NAME="a\x1b[2Jb\nc")
    assert "a\\x1b[2Jb\\nc" in done.stdout


def test_config_show_names_the_origins(holdfast: Shell) -> None:
    (holdfast.folder / "holdfast.yaml").write_text("storage:\n  sqlite: {busyTimeout: 100}\n")
    shown = holdfast.json("config", "show", "--origins", HOLDFAST_LOG_LEVEL="debug")
    origins = {item["key"]: (item["value"], item["origin"]) for item in shown["items"]}
    assert shown["file"] == "holdfast.yaml"
    assert origins["storage.sqlite.busy_timeout"] == ("100ms", "holdfast.yaml:2 (storage.sqlite.busyTimeout)")
    assert origins["logging.level"] == ("debug", "HOLDFAST_LOG_LEVEL")
    assert origins["worker.lease"] == ("30s", "default")


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_passwords_are_never_printed(holdfast: Shell, form: str) -> None:
    done = holdfast(
        "config", "show", "--origins", "-o", form, DATABASE_URL="postgresql://u:geheim@localhost/d"
    )
    assert done.returncode == 0
    assert "u:***@localhost" in done.stdout
    assert "geheim" not in done.stdout + done.stderr
    failed = holdfast("config", "show", "-vv", HOLDFAST_URL="postgresql://u:gehe/im@localhost:x/d")
    assert failed.returncode == 2
    assert "gehe" not in failed.stderr


def test_config_get(holdfast: Shell) -> None:
    assert holdfast("config", "get", "storage.postgresql.pool.idleTimeout").stdout == "10m\n"
    assert holdfast.json("config", "get", "storage.sqlite.file_mode") == {
        "key": "storage.sqlite.file_mode",
        "value": "0600",
        "origin": "default",
    }


def test_config_validate_lists_every_mistake_with_its_line(holdfast: Shell) -> None:
    (holdfast.folder / "bad.yaml").write_text("storage:\n  typ: x\n  statement_timeout: 30\n")
    done = holdfast("config", "validate", "bad.yaml")
    assert done.returncode == 2
    assert "bad.yaml:2" in done.stderr
    assert "bad.yaml:3  storage.statement_timeout: 30 has no unit" in done.stderr
    problem = json.loads(holdfast("config", "validate", "bad.yaml", "--json").stderr)
    assert [each["where"] for each in problem["problems"]] == ["bad.yaml:2", "bad.yaml:3"]
    assert problem["problems"][0]["nearest"] == "storage.type"


def test_config_validate_accepts_keys_of_features_to_come(holdfast: Shell) -> None:
    (holdfast.folder / "holdfast.yaml").write_text(
        "redis: {url: redis://r}\nstorage: {tenancy: {enabled: true}}\n"
    )
    done = holdfast("config", "validate")
    assert (done.returncode, done.stdout) == (0, "holdfast.yaml is valid\n")
    assert "redis.url has no effect yet" in done.stderr
    listed = holdfast.json("config", "validate")
    assert listed["valid"] is True
    assert [warning["where"] for warning in listed["warnings"]] == ["holdfast.yaml:1", "holdfast.yaml:2"]


def test_version(holdfast: Shell) -> None:
    versions = holdfast.json("version")
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(versions) == {"holdfast", "python", "apsw", "asyncpg", "sqlite"}
    assert holdfast("--version").stdout == holdfast("version").stdout


def test_help_explains_every_error_code(holdfast: Shell) -> None:
    shown = holdfast("help", "hf2003")
    assert shown.returncode == 0
    assert "There is no database at the configured place." in shown.stdout
    assert "holdfast storage init" in shown.stdout
    assert holdfast.json("help", "HF7001")["exit_code"] == 7
    listed = holdfast.json("help", "errors")["items"]
    assert len({row["code"] for row in listed}) == len(listed) > 30
    assert all(row["cause"] and row["fix"] for row in listed)
    assert holdfast("help", "HF9999").returncode == 3


def test_init_writes_a_project_once(holdfast: Shell) -> None:
    planned = holdfast.json("init", "--example", "--dry-run")
    assert {row["action"] for row in planned["items"]} == {"would create", "would prepare"}
    assert holdfast.files() == {}
    done = holdfast("init", "--example")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 3
    store = ".holdfast/holdfast.db"
    assert (holdfast.folder / store).stat().st_mode & 0o777 == 0o600
    written = {name: data for name, data in holdfast.files().items() if not name.startswith(".holdfast/")}
    assert set(written) == {"holdfast.yaml", ".env.example", ".gitignore", "hello.yaml", "hello.py"}
    assert b"\n  url:" not in written["holdfast.yaml"]
    definition.load(holdfast.folder / "hello.yaml")
    again = holdfast.json("init", "--example")
    actions = {row["name"]: row["action"] for row in again["items"]}
    assert actions.pop(f"sqlite:///{store}") == "prepared"
    assert set(actions.values()) == {"kept"}
    assert {name: holdfast.files()[name] for name in written} == written
    assert holdfast("config", "validate").stdout == "holdfast.yaml is valid\n"


def test_init_never_overwrites_and_completes_gitignore(holdfast: Shell) -> None:
    (holdfast.folder / "holdfast.yaml").write_text("logging: {level: error}\n")
    (holdfast.folder / ".gitignore").write_text("*.pyc\n/.holdfast")
    assert holdfast("init").returncode == 0
    assert holdfast.files()["holdfast.yaml"] == b"logging: {level: error}\n"
    assert holdfast.files()[".gitignore"] == b"*.pyc\n/.holdfast\n.env\n"


def test_the_python_example_runs(holdfast: Shell) -> None:
    assert holdfast("init", "--example").returncode == 0
    program = (
        "import asyncio, hello\n"
        "async def go():\n"
        "    async with hello.app:\n"
        "        print(await hello.report('otters'))\n"
        "asyncio.run(go())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=holdfast.folder,
        env=holdfast.environ | {"PYTHONPATH": str(holdfast.folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("Notes On Otters\n", 0), done.stderr


def test_init_leaves_the_store_alone_when_migrating_is_off(holdfast: Shell) -> None:
    assert holdfast("init", HOLDFAST_STORAGE__MIGRATIONS__AUTO_RUN="false").returncode == 0
    assert [path.name for path in (holdfast.folder / ".holdfast").iterdir()] == ["schema.json"]


def test_init_on_a_kind_of_store_there_is_not_writes_nothing(holdfast: Shell) -> None:
    done = holdfast("init", "-s", "oracle://db/x")
    assert (done.returncode, done.stderr.split()[0]) == (2, "HF1100")
    assert holdfast.files() == {}


def test_init_does_nothing_beside_a_wrong_configuration(holdfast: Shell) -> None:
    (holdfast.folder / "holdfast.yaml").write_text("loging: {}\n")
    done = holdfast("init")
    assert done.returncode == 2
    assert set(holdfast.files()) == {"holdfast.yaml"}


def test_every_line_of_the_written_file_is_a_default_that_loads(holdfast: Shell) -> None:
    holdfast("init")
    path = holdfast.folder / "holdfast.yaml"
    before = {row["key"]: row["value"] for row in holdfast.json("config", "show")["items"]}
    lines = path.read_text().splitlines()
    settings = [
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and ": " in line else line
        for line in lines
    ]
    path.write_text("\n".join(line for line in settings[3:] if line.split("#")[0].strip()) + "\n")
    shown = holdfast.json("config", "show", "--origins")["items"]
    assert {row["key"]: row["value"] for row in shown} == before
    assert sum(row["origin"].startswith("holdfast.yaml:") for row in shown) > 20


def test_reading_creates_nothing(holdfast: Shell) -> None:
    for arguments in (
        ["config", "show"],
        ["config", "get", "storage.url"],
        ["config", "validate"],
        ["version"],
    ):
        assert holdfast(*arguments).returncode == 0
    assert holdfast.files() == {}


def test_a_closed_pipe_is_quiet(holdfast: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        for arguments in (["--help"], ["config", "show"]):
            done = subprocess.run(
                [sys.executable, "-m", "holdfast.cli.main", *arguments],
                stdout=closed,
                stderr=subprocess.PIPE,
                env=holdfast.environ,
                cwd=holdfast.folder,
            )
            assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_terminated(holdfast: Shell, number: signal.Signals, code: int) -> None:
    # Reading the named pipe blocks inside the command until the signal comes.
    pipe = holdfast.folder / "holdfast.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast.cli.main", "config", "show", "-c", "holdfast.yaml"],
        env=holdfast.environ,
        cwd=holdfast.folder,
        stderr=subprocess.PIPE,
    )
    with pipe.open("wb"):  # returns when the command has opened its end
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, b"")


def test_an_unexpected_failure_is_one_code_and_a_traceback_only_on_demand(holdfast: Shell) -> None:
    program = (
        "import sys; from holdfast.cli import main, context;"
        "context.Invocation.load_config = lambda *_, **__: 1 // 0;"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    for flag, traced in (("-v", False), ("-vv", True)):
        done = subprocess.run(
            [sys.executable, "-c", program, "config", "show", flag],
            capture_output=True,
            text=True,
            env=holdfast.environ,
        )
        assert done.returncode == 1
        assert "HF9000  ZeroDivisionError" in done.stderr
        assert ("Traceback" in done.stderr) is traced

"""A password is told to nobody: not by a command, a failure, a log, an event or a file."""

from __future__ import annotations

import base64
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import CANARY, files_with_it
from tests.integration.shell import Shell

KEY = base64.b64encode(CANARY.encode().ljust(32, b"!")).decode()
SERVERS = ("postgresql", "mysql")
NOBODY = "127.0.0.1:1"  # nothing listens there
FAILING = "name: bad\nsteps:\n  - {id: one, shell: 'echo no >&2; exit 3'}\n"
WORKFLOW = "name: good\nsteps:\n  - {id: one, shell: 'printf hi'}\n"


@pytest.fixture
def secretive(holdfast: Shell) -> Shell:
    """A project whose every secret is the canary."""
    holdfast.environ |= {
        "HOLDFAST_DATABASE_PASSWORD": CANARY,
        "HOLDFAST_ENCRYPTION_KEY": f"1:{KEY}",
        "HOLDFAST_API_KEY_PEPPER": f"1:{KEY}",
        "HOLDFAST_AUDIT_KEY": f"1:{KEY}",
        "HOLDFAST_REDIS__URL": f"redis://:{CANARY}@localhost",
        "HOLDFAST_SERVER__TOKENS": f"{CANARY},{CANARY}2",
        "HOLDFAST_STORAGE__MYSQL__REPLICAS__0__URL": f"mysql://u:{CANARY}@r/d",
    }
    holdfast.write("good.yaml", WORKFLOW)
    holdfast.write("bad.yaml", FAILING)
    return holdfast


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "yaml", "csv"])
def test_no_form_of_the_configuration_shows_a_secret(secretive: Shell, form: str) -> None:
    shown = secretive("config", "show", "--origins", "-o", form)
    assert shown.returncode == 0
    assert shown.stdout.count("***") >= 7
    for key in ("security.audit_key", "redis.url", "server.tokens", "storage.mysql.replicas.0.url"):
        assert "***" in secretive("config", "get", key, "-o", form).stdout
    assert KEY not in shown.stdout


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    "words",
    [
        ["storage", "health"],
        ["storage", "test-connection"],
        ["storage", "init"],
        ["storage", "migrate", "status"],
        ["executions", "list"],
        ["run", "good.yaml"],
        ["worker"],
        ["doctor"],
        ["users", "list"],
    ],
)
def test_a_server_that_does_not_answer_is_named_without_the_password(
    secretive: Shell, kind: str, words: list[str]
) -> None:
    url = f"{kind}://anna:{CANARY}@{NOBODY}/orders"
    for more in ([], ["-vv"], ["--json"]):
        done = secretive.inside(*words, *more, "-s", url)
        assert done.returncode != 0, done.stdout


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}@h:port/d",
        f"postgresql://u:{CANARY}/more@h/d",
        f"postgresql://u:{CANARY}@more@h/d?x=1",
        f"postgresql://u:{CANARY} more@h/d?x=1",
        f"postgresql://u:a b{CANARY}@h/d?x=1",
        f"postgresql://h/d?password={CANARY}",
        f"mysql://u:{CANARY}@h/d?sslmode=no",
        f"mysq://u:{CANARY}@h/d",
        f"u:{CANARY}@h",
        f"postgresql:/u:{CANARY}@h/d",
        f"sqlite:///x.db?key={CANARY}",
    ],
)
def test_a_url_that_is_wrong_is_shown_without_its_password(secretive: Shell, url: str) -> None:
    del secretive.environ["HOLDFAST_DATABASE_PASSWORD"]
    secretive.write("holdfast.yaml", f'storage: {{url: "{url}"}}\n')
    for words in (
        ["config", "validate"],
        ["config", "show"],
        ["run", "good.yaml", "-vv"],
        ["doctor", "--json"],
    ):
        secretive.inside(*words)
    (secretive.folder / "holdfast.yaml").unlink()
    secretive.environ["HOLDFAST_URL"] = url
    secretive.inside("config", "show", "--json")
    secretive.inside("storage", "health", "--json")


def test_a_key_that_is_wrong_is_not_repeated(secretive: Shell) -> None:
    for name in ("ENCRYPTION_KEY", "API_KEY_PEPPER", "AUDIT_KEY"):
        secretive.environ[f"HOLDFAST_{name}"] = CANARY
        for words in (["config", "validate"], ["users", "create", "a@b.example"], ["audit-logs", "list"]):
            secretive.inside(*words, "-vv")


def test_runs_leave_no_secret_in_the_store_and_its_log(stored: Shell) -> None:
    """The same on SQLite and on both servers, whose passwords are canaries themselves."""
    stored.environ |= {"HOLDFAST_AUDIT_KEY": f"1:{KEY}", "HOLDFAST_LOG_LEVEL": "debug"}
    stored.write("good.yaml", WORKFLOW)
    stored.write("bad.yaml", FAILING)
    assert stored.inside("run", "good.yaml").returncode == 0
    assert stored.inside("run", "bad.yaml", "-vv").returncode == 7
    assert stored.inside("executions", "list", "--json").returncode == 0
    # The whole store as documents, which can be searched.
    target = f"file:///{stored.folder / '.holdfast' / 'copied'}"
    url = stored.environ.get("HOLDFAST_URL", "sqlite:///.holdfast/holdfast.db")
    copied = stored.inside("storage", "copy", url, target)
    assert copied.returncode == 0, copied.stderr
    assert any((stored.folder / ".holdfast" / "copied").rglob("*.yaml"))
    assert list(files_with_it(stored.folder)) == []


def test_a_step_does_not_get_the_secrets_of_the_program(secretive: Shell) -> None:
    secretive.write("env.yaml", "name: env\nsteps:\n  - {id: one, shell: env}\n")
    del secretive.environ["HOLDFAST_REDIS__URL"]
    assert secretive("run", "env.yaml").returncode == 0
    path = secretive.folder / ".holdfast" / "holdfast.db"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM executions").fetchone() == (1,)
    connection.close()
    assert list(files_with_it(secretive.folder)) == []


def test_the_library_shows_no_secret_either(tmp_path: Path) -> None:
    program = (
        "import asyncio, logging, pickle, json, holdfast as hf\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "from holdfast.stores import config_for\n"
        f"config = config_for('postgresql://u:{CANARY}@{NOBODY}/d')\n"
        "print(config, repr(config.storage), str(config.storage.url))\n"
        "print('%s' % config.storage.postgresql.password)\n"
        "for carry in (pickle.dumps, json.dumps):\n"
        "    try:\n"
        "        print(carry(config.storage.postgresql.password))\n"
        "    except TypeError as error:\n"
        "        print(error)\n"
        "async def go():\n"
        f"    async with hf.open('postgresql://u:{CANARY}@{NOBODY}/d') as platform:\n"
        "        print(platform)\n"
        "asyncio.run(go())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "***" in done.stdout
    assert "StoreUnavailable" in done.stderr
    # The last lines are Python's own and show no values; the program's text is not among them.
    assert CANARY not in done.stdout
    assert CANARY not in done.stderr

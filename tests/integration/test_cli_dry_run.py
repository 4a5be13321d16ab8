"""`--dry-run`: every command that changes something can also only say what it would do."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import anyio
import click
import pytest

from holdfast.cli.declare import Root
from tests.conformance.everything import write_everything
from tests.integration.shell import Shell

LOOKS = {"list", "show", "search"}
READS = {
    "executions steps", "executions tail", "executions wait", "events export", "events tail",
    "events verify", "workflows diff", "workflows versions", "queues dead-letters",
    "conversations messages", "incidents timeline", "runbooks diff", "runbooks editions",
    "runbooks for", "runbooks runs", "schedules firings", "schedules next", "agents find",
    "audit-logs export", "audit-logs head", "audit-logs verify", "storage health",
    "storage migrate plan", "storage migrate sql", "storage migrate status", "storage stats",
    "storage test-connection", "storage verify", "doctor", "replay", "config get", "config path",
    "config profiles", "config schema", "config validate", "completion", "version", "help",
}  # fmt: skip
CHANGES = {
    "init": "init",
    "run": "run flow.yaml",
    "resume": "resume wait-1",
    "fork": "fork done-0",
    "worker": "worker",
    "scheduler": "scheduler",
    "executions cancel": "executions cancel wait-1",
    "executions pause": "executions pause wait-1",
    "executions resume": "executions resume wait-1",
    "executions retry": "executions retry failed-1",
    "executions start": "executions start flow",
    "signals send": "signals send go:wait-1 1 --to wait-1",
    "approvals approve": "approvals approve {approval}",
    "approvals reject": "approvals reject {approval}",
    "events rebuild": "events rebuild log",
    "workflows delete": "workflows delete flow",
    "workflows mark": "workflows mark flow@{version} deprecated",
    "workflows register": "workflows register other.yaml",
    "workflows restore": "workflows restore flow@{version}",
    "queues pause": "queues pause slow",
    "queues requeue": "queues requeue default failed-1",
    "queues resume": "queues resume slow",
    "queues set": "queues set slow --concurrency 7",
    "workers stop": "workers stop {worker}",
    "users create": "users create bo@example.com",
    "users delete": "users delete {user}",
    "users restore": "users restore {user}",
    "users set-email": "users set-email ana@example.com bo@example.com",
    "users set-password": "users set-password ana@example.com",
    "users set-role": "users set-role ana@example.com admin",
    "users unlock": "users unlock ana@example.com",
    "users update": "users update {user} --set name=Bo",
    "api-keys create": "api-keys create ana@example.com phone",
    "api-keys revoke": "api-keys revoke {api-keys}",
    "sessions terminate": "sessions terminate {sessions}",
    "achievements delete": "achievements delete {achievements}",
    "conversations archive": "conversations archive {conversations}",
    "conversations create": "conversations create --set title=x",
    "conversations delete": "conversations delete {conversations}",
    "conversations import": "conversations import talk.json",
    "conversations redact": "conversations redact {messages} --replacement gone",
    "conversations reopen": "conversations reopen {conversations}",
    "conversations update": "conversations update {conversations} --set title=y",
    "incidents acknowledge": "incidents acknowledge i1",
    "incidents assign": "incidents assign i1 bo",
    "incidents close": "incidents close i1",
    "incidents delete": "incidents delete i1",
    "incidents mitigate": "incidents mitigate i1",
    "incidents note": "incidents note i1 'looked at it'",
    "incidents open": "incidents open smoke --severity high",
    "incidents raise-severity": "incidents raise-severity i1 critical",
    "incidents reopen": "incidents reopen i1",
    "incidents rescope": "incidents rescope i1 --service web",
    "incidents resolve": "incidents resolve i1",
    "incidents restore": "incidents restore i1",
    "incidents update": "incidents update i1 --set title=y",
    "runbooks create": "runbooks create stop --title Stop",
    "runbooks delete": "runbooks delete {runbooks}",
    "runbooks publish": "runbooks publish restart flow.yaml",
    "runbooks restore": "runbooks restore {runbooks}",
    "runbooks run": "runbooks run restart",
    "runbooks settle": "runbooks settle",
    "runbooks trigger": "runbooks trigger restart --on-severity high",
    "runbooks update": "runbooks update {runbooks} --set title=y",
    "schedules create": "schedules create nightly flow --cron @daily",
    "schedules delete": "schedules delete hourly",
    "schedules pause": "schedules pause hourly",
    "schedules resume": "schedules resume hourly",
    "schedules trigger": "schedules trigger hourly",
    "schedules update": "schedules update hourly --cron @daily",
    "agents delete": "agents delete a1",
    "agents update": "agents update a1 --set role=y",
    "tasks cancel": "tasks cancel {tasks}",
    "tasks create": "tasks create research --payload 1",
    "tasks requeue": "tasks requeue {tasks}",
    "deployments create": "deployments create flow@{version}",
    "deployments rollback": "deployments rollback report",
    "storage copy": "storage copy sqlite:///everything.db sqlite:///other.db",
    "storage init": "storage init",
    "storage migrate create": "storage migrate create things",
    "storage migrate down": "storage migrate down --steps 1",
    "storage migrate resolve": "storage migrate resolve 3 --applied",
    "storage migrate to": "storage migrate to 9",
    "storage migrate up": "storage migrate up",
    "storage optimize": "storage optimize",
    "config set": "config set worker.concurrency 3",
}
"""A line for each command that changes something: one that would do it here, or say why it can not."""
TALK = '[{"messages": [{"role": "user", "content": "hello"}]}]'
REFUSED = {
    "incidents acknowledge": 4,  # it is acknowledged already
    "incidents close": 4,  # only what is resolved
    "incidents reopen": 4,
    "runbooks settle": 2,  # what it would do is known when it is done
    "users set-password": 2,  # nobody is there to type one
    "workers stop": 3,  # there is none
}
"""Exit codes of what can not be done here."""


def leaves(command: click.Command, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, click.Context(found, info_name=name, parent=context), (*path, name))


def test_every_command_reads_or_stands_in_the_list() -> None:
    root = Root("holdfast")
    known = set(leaves(root, click.Context(root, info_name="holdfast")))
    looks = {name for name in known if name.split()[-1] in LOOKS}
    assert known - looks - READS == set(CHANGES)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A store of the folder with something of every kind in it; nothing may change it."""
    shell = Shell(tmp_path_factory.mktemp("dry"))
    url = f"sqlite:///{shell.folder / 'everything.db'}"
    shell.environ["HOLDFAST_URL"] = url
    anyio.run(write_everything, url, 7)
    shell.write("flow.yaml", "name: flow\nsteps: [{id: a, shell: 'true'}]\n")
    shell.write("other.yaml", "name: other\nsteps: [{id: a, shell: 'true'}]\n")
    shell.write("failing.yaml", "name: failing\nsteps: [{id: a, shell: 'false'}]\n")
    shell.write("talk.json", TALK)
    logged = shell.inside("run", "flow.yaml", "--id", "logged-1", "--event-log-dir", "log")
    assert logged.returncode == 0, logged.stderr
    assert shell.inside("workflows", "register", "flow.yaml").returncode == 0
    assert shell.inside("run", "failing.yaml", "--id", "failed-1").returncode != 0
    return shell


def known_of(shell: Shell) -> dict[str, str]:
    """Ids that the lines name."""

    def first(*command: str, key: str = "id") -> str:
        rows = json.loads(shell.inside(*command, "--json").stdout)["items"]
        return str(rows[0][key]) if rows else "none"

    nouns = ("api-keys", "sessions", "achievements", "conversations", "messages", "runbooks", "tasks")
    return {
        **{noun: first(noun, "list") for noun in nouns},
        "user": first("users", "list"),
        "approval": first("approvals", "list"),
        "version": first("workflows", "versions", "flow", key="version"),
        "worker": first("workers", "list"),
    }


def rows_of(folder: Path) -> dict[str, list[str]]:
    """What the store holds, without who is connected; and the names of all files."""
    held: dict[str, list[str]] = {}
    with sqlite3.connect(folder / "everything.db") as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in sorted(set(names) - {"workers"}):
            held[name] = sorted(map(repr, database.execute(f'SELECT * FROM "{name}"')))
    database.close()
    around = [path for path in folder.rglob("*") if "everything.db" not in path.name and path.is_file()]
    held["files"] = sorted(f"{path}: {path.read_bytes()!r}" for path in around if "owners" not in path.parts)
    return held


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_nothing_is_changed(filled: Shell, name: str) -> None:
    before = rows_of(filled.folder)
    words = shlex.split(CHANGES[name].format_map(known_of(filled)))
    done = filled.inside(*words, "--dry-run", "--yes", "--no-input", "--timeout", "5s")
    assert "Traceback" not in done.stderr
    assert done.returncode == REFUSED.get(name, 0), (words, done.stdout, done.stderr)
    assert rows_of(filled.folder) == before

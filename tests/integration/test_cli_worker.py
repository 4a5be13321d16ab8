"""`holdfast worker` and what goes with it: left to workers, drained, killed, refused, stopped."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from scripts import mariadb
from tests.integration.shell import Shell, until

# Each step appends a line to the ledger when its body runs; `gate` waits for a file.
LEDGER = """\
name: ledger
inputs: {properties: {who: {type: string, default: world}}}
steps:
  - {id: first, shell: "echo first >> ledger; printf '%s' one"}
  - id: gate
    needs: [first]
    shell: 'echo gate >> ledger; touch arrived; while [ ! -e open ]; do sleep 0.02; done; printf through'
  - {id: last, needs: [gate], shell: "echo last >> ledger; printf done"}
outputs: ${{ steps.last.output }}
"""
FAILING = """\
name: failing
steps:
  - {id: bad, shell: "exit 3"}
"""
PYTHON = """\
import holdfast as hf

app = hf.App()

@app.step
def note(text: str) -> str:
    with open("ledger", "a") as file:
        file.write(text + "\\n")
    return text

@app.workflow(version="VERSION")
async def report(name: str = "x") -> str:
    return await note(name)
"""
QUICK = {"HOLDFAST_WORKER__POLL": "100ms"}
SHORT_LEASE = {**QUICK, "HOLDFAST_WORKER__LEASE": "2s"}


class Serving:
    """One worker process. What it says goes to a file, so that it can be read while it runs."""

    def __init__(self, shell: Shell, arguments: tuple[str, ...], environ: dict[str, str], log: Path) -> None:
        self.log = log
        self.out = log.with_suffix(".out")
        with log.open("wb") as errors, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "worker", *arguments],
                cwd=shell.folder,
                env=shell.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        until(lambda: " serves " in self.said() or self.process.poll() is not None)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def is_listed(self, shell: Shell) -> bool:
        """Whether others can see what it serves."""
        return any(each["pid"] == self.process.pid and each["queues"] for each in workers(shell))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


Start = Callable[..., Serving]


@pytest.fixture
def worker(stored: Shell) -> Iterator[Start]:
    """Starts workers on the store of `stored`, and leaves none behind."""
    started: list[Serving] = []

    def start(*arguments: str, **environ: str) -> Serving:
        log = stored.folder / f"worker-{len(started)}.log"
        serving = Serving(stored, arguments, QUICK | environ, log)
        started.append(serving)
        until(lambda: serving.process.poll() is not None or serving.is_listed(stored))
        return serving

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


@pytest.fixture
def ledger(stored: Shell) -> Shell:
    stored.write("ledger.yaml", LEDGER)
    return stored


def detach(shell: Shell, *arguments: str) -> str:
    done = shell.inside("run", *arguments, "--detach", "--quiet")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(shell: Shell, id: str) -> str:
    return str(told(shell, "executions", "show", id)["status"])


def workers(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(shell, "workers", "list", *arguments)["items"]
    return found


def told(shell: Shell, *arguments: str) -> Any:
    """The JSON of a command that succeeds."""
    done = shell.inside(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def results(shell: Shell, id: str) -> list[str]:
    """The paths of the results in the log of an execution, in order."""
    told = shell.inside("executions", "tail", id, "--from-start", "--no-follow", "--json").stdout
    events = [json.loads(line) for line in told.splitlines()]
    return [each["path"] for each in events if each["type"] == "step.completed"]


def arrived(shell: Shell) -> bool:
    return (shell.folder / "arrived").exists()


def open_gate(shell: Shell) -> None:
    (shell.folder / "open").touch()


# Left to a worker.


def test_what_is_detached_is_completed_by_a_worker(ledger: Shell, worker: Start) -> None:
    queued = ledger.inside("run", "ledger.yaml", "--detach")
    id = queued.stdout.strip()
    assert queued.returncode == 0
    assert "no worker listens on `default`" in queued.stderr
    assert (status(ledger, id), ledger.lines("ledger")) == ("ready", [])
    open_gate(ledger)
    serving = worker()
    assert ledger.inside("executions", "wait", id, "--timeout", "30s").returncode == 0
    assert ledger.lines("ledger") == ["first", "gate", "last"]
    assert serving.end() == 0
    assert "1 execution claimed; 1 completed, 0 failed, 0 handed back" in serving.said()
    assert workers(ledger, "--all") == []


def test_a_python_workflow_runs_on_a_worker_that_has_its_app(stored: Shell, worker: Start) -> None:
    stored.write("reports.py", PYTHON.replace("VERSION", "1"))
    id = detach(stored, "reports.py:report", "otters")
    serving = worker("reports.py")
    assert "offers report 1 of reports.py, and YAML" in serving.said()
    assert told(stored, "executions", "wait", id, "--timeout", "30s")["items"][0]["output"] == "otters"
    assert stored.lines("ledger") == ["otters"]


def test_a_run_on_a_queue_is_followed_to_its_end(ledger: Shell, worker: Start) -> None:
    ledger.write("failing.yaml", FAILING)
    open_gate(ledger)
    worker("--queues", "fast, slow")
    done = ledger("run", "ledger.yaml", "--queue", "slow")
    assert (done.returncode, json.loads(done.stdout)) == (0, "done")
    assert [line.split()[:2] for line in done.stderr.splitlines()[:-1]] == [
        ["queued", "on"], ["✔", "first"], ["✔", "gate"], ["✔", "last"],
    ]  # fmt: skip
    assert re.fullmatch(r"✔ \S+ completed in .*", done.stderr.splitlines()[-1])
    failed = ledger("run", "failing.yaml", "--queue", "fast")
    assert failed.returncode == 7
    assert "✖ bad" in failed.stderr


def test_whoever_follows_may_leave_and_the_work_goes_on(ledger: Shell, worker: Start) -> None:
    worker()
    following = ledger.start("run", "ledger.yaml", "--queue", "default")
    until(lambda: arrived(ledger))
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=30)
    assert following.returncode == 130
    waits = next(line for line in errors.splitlines() if "holdfast executions wait" in line)
    left = ledger("run", "ledger.yaml", "--queue", "default", "--timeout", "1s", "--id", "second")
    assert left.returncode == 9
    open_gate(ledger)
    assert (
        ledger.inside("executions", "wait", waits.split()[-1], "second", "--timeout", "30s").returncode == 0
    )


def test_it_is_said_when_no_worker_listens(ledger: Shell, worker: Start) -> None:
    worker("--queues", "fast", "--classes", "io")
    served = ledger.inside("run", "ledger.yaml", "--detach", "--queue", "fast")
    assert "queued on `fast`" in served.stderr
    assert "warning" not in served.stderr
    for flags, remark in (
        (("--queue", "slow"), "no worker listens on `slow`"),
        (("--queue", "fast", "--class", "gpu"), "no worker listens on `fast` with class gpu"),
    ):
        done = ledger.inside("run", "ledger.yaml", "--detach", *flags)
        assert remark in done.stderr
        assert "holdfast worker --queues" in done.stderr
    assert told(ledger, "run", "ledger.yaml", "--detach", "--queue", "slow")["served"] is False
    assert told(ledger, "run", "ledger.yaml", "--detach", "--queue", "fast")["served"] is True


def test_it_is_said_when_the_queue_is_paused(ledger: Shell, worker: Start) -> None:
    open_gate(ledger)
    worker()
    assert ledger.inside("queues", "pause", "default").returncode == 0
    queued = ledger.inside("run", "ledger.yaml", "--detach")
    assert "the queue `default` is paused; let it go on: holdfast queues resume default" in queued.stderr
    assert ledger.inside("queues", "resume", "default").returncode == 0
    assert ledger.inside("executions", "wait", queued.stdout.strip(), "--timeout", "30s").returncode == 0


def test_a_killed_worker_does_not_count_as_a_listener(ledger: Shell, worker: Start) -> None:
    serving = worker()
    assert serving.end(signal.SIGKILL) == -signal.SIGKILL
    assert [each["state"] for each in workers(ledger)] == ["lapsed"]
    assert "no worker listens" in ledger.inside("run", "ledger.yaml", "--detach").stderr


def test_delay_priority_and_keys_are_kept(ledger: Shell, worker: Start) -> None:
    flags = ("--priority", "7", "--delay", "1h", "--dedupe-key", "k", "--limit-key", "l", "--class", "cpu")
    first = told(ledger, "run", "ledger.yaml", "--detach", *flags)
    again = told(ledger, "run", "ledger.yaml", "who=else", "--detach", "--dedupe-key", "k")
    assert (first["priority"], first["class"], first["existed"]) == (7, "cpu", False)
    assert (again["id"], again["existed"]) == (first["id"], True)
    (row,) = told(ledger, "executions", "list")["items"]
    assert (row["status"], row["queue"]) == ("waiting", "default")
    assert row["due_at"] is not None


# Draining.


def test_sigterm_lets_what_runs_end(ledger: Shell, worker: Start) -> None:
    id = detach(ledger, "ledger.yaml")
    serving = worker()
    until(lambda: arrived(ledger))
    later = detach(ledger, "ledger.yaml", "who=later")
    serving.process.send_signal(signal.SIGTERM)
    until(lambda: [each["state"] for each in workers(ledger)] == ["draining"])
    third = detach(ledger, "ledger.yaml", "who=third")
    open_gate(ledger)
    assert serving.process.wait(30) == 0
    assert status(ledger, id) == "completed"
    assert status(ledger, third) == "ready"
    assert Counter(ledger.lines("ledger"))["last"] == 1 + (status(ledger, later) == "completed")
    assert "draining" in serving.said()


def test_what_does_not_end_in_time_is_handed_back_and_goes_on_elsewhere(ledger: Shell, worker: Start) -> None:
    id = detach(ledger, "ledger.yaml")
    serving = worker("--drain-timeout", "100ms", "--json")
    until(lambda: arrived(ledger))
    assert serving.end() == 10
    report = json.loads(serving.out.read_text())
    assert (report["claimed"], report["completed"], report["handed_back"]) == (1, 0, 1)
    assert status(ledger, id) == "ready"
    open_gate(ledger)
    worker()
    assert ledger.inside("executions", "wait", id, "--timeout", "30s").returncode == 0
    assert ledger.lines("ledger") == ["first", "gate", "gate", "last"]
    assert results(ledger, id) == ["first", "gate", "last"]


def test_a_second_signal_hands_back_at_once(ledger: Shell, worker: Start) -> None:
    id = detach(ledger, "ledger.yaml")
    serving = worker("--drain-timeout", "1h")
    until(lambda: arrived(ledger))
    serving.process.send_signal(signal.SIGINT)
    until(lambda: "draining" in serving.said())
    assert serving.end(signal.SIGINT) == 10
    assert status(ledger, id) == "ready"


# Killed.


@pytest.mark.parametrize("sign", ["lock", "lease"])
def test_a_killed_worker_is_followed_by_another(ledger: Shell, worker: Start, sign: str) -> None:
    """With its lock file gone, the dead worker is as one on another host: its lease has to run out."""
    id = detach(ledger, "ledger.yaml")
    both = [worker(**SHORT_LEASE), worker(**SHORT_LEASE)]
    until(lambda: arrived(ledger))
    (holder,) = [each for each in workers(ledger) if each["running"] == 1]
    victim, other = sorted(both, key=lambda each: each.process.pid != holder["pid"])
    if sign == "lease":
        lock_file(ledger, holder["id"]).unlink()
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL
    open_gate(ledger)
    assert ledger.inside("executions", "wait", id, "--timeout", "30s").returncode == 0
    assert ledger.lines("ledger") == ["first", "gate", "gate", "last"]
    assert results(ledger, id) == ["first", "gate", "last"]
    assert other.end() == 0
    assert told(ledger, "events", "verify")["whole"] is True


def lock_file(shell: Shell, boot: str) -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"holdfast-{os.getuid()}"
    folder = base if "HOLDFAST_URL" in shell.environ else shell.folder / ".holdfast"
    return folder / "owners" / boot


# Refused.


def test_unknown_code_is_refused_once_and_left_to_who_has_it(stored: Shell, worker: Start) -> None:
    stored.write("reports.py", PYTHON.replace("VERSION", "2"))
    stored.write("others.py", PYTHON.replace("VERSION", "1").replace("def report", "def other"))
    ids = [detach(stored, "reports.py:report", name) for name in ("one", "two")]
    serving = worker("others.py")
    until(lambda: "no code for report version 2" in serving.said())
    until(lambda: [status(stored, id) for id in ids] == ["waiting"] * 2 or len(refused(stored)) == 1)
    assert serving.said().count("no code for") == 1
    assert refused(stored) == ["report version 2"]
    worker("reports.py:app")
    assert stored.inside("executions", "wait", *ids, "--timeout", "30s").returncode == 0
    assert sorted(stored.lines("ledger")) == ["one", "two"]


def refused(shell: Shell) -> list[str]:
    return [name for each in workers(shell) for name in each["refused"]]


TELLTALE = """
name: fails
steps:
  - id: fetch
    shell: "echo the-password-is-otter >&2; exit 3"
"""


def test_what_fails_is_said_at_once_and_without_the_words_of_the_failure(
    stored: Shell, worker: Start
) -> None:
    stored.write("fails.yaml", TELLTALE)
    serving = worker()
    id = detach(stored, "fails.yaml")
    until(lambda: f"fails {id} failed at fetch (exit); see: holdfast executions show {id}" in serving.said())
    assert "otter" not in serving.said()
    assert "otter" in stored.inside("executions", "show", id).stdout


def test_two_versions_side_by_side_each_get_their_own(stored: Shell, worker: Start) -> None:
    stored.write("old.py", PYTHON.replace("VERSION", "1"))
    stored.write("new.py", PYTHON.replace("VERSION", "2").replace("return text", "return text.upper()"))
    old, new = detach(stored, "old.py:report", "a"), detach(stored, "new.py:report", "b")
    worker("old.py")
    worker("new.py")
    assert stored.inside("executions", "wait", old, new, "--timeout", "30s").returncode == 0
    assert [told(stored, "executions", "show", id)["output"] for id in (old, new)] == ["a", "B"]


def test_a_worker_that_meets_a_newer_schema_ends_its_own_and_takes_no_more(
    ledger: Shell, worker: Start
) -> None:
    first = detach(ledger, "ledger.yaml")
    second = detach(ledger, "ledger.yaml", "--delay", "1h")
    serving = worker()
    until(lambda: arrived(ledger))
    change(
        ledger,
        "INSERT INTO {schema}schema_migrations (version) VALUES (9999)",
        "UPDATE {schema}executions SET status = 'ready', due_at = NULL WHERE status = 'waiting'",
    )
    open_gate(ledger)
    assert serving.process.wait(30) == 4
    assert "warning: the store has a newer schema" in serving.said()
    assert ledger.inside("run", "ledger.yaml", "--detach").returncode == 4
    change(ledger, "DELETE FROM {schema}schema_migrations WHERE version = 9999")
    assert (status(ledger, first), status(ledger, second)) == ("completed", "ready")


def change(shell: Shell, *statements: str) -> None:
    """Change the database behind everybody's back, in one transaction."""
    url = shell.environ.get("HOLDFAST_URL")
    if url is None:
        connection = apsw.Connection(str(shell.folder / ".holdfast" / "holdfast.db"))
        connection.set_busy_timeout(5000)
        with connection:
            for statement in statements:
                connection.execute(statement.format(schema=""))
        connection.close()
        return

    async def change_mysql(cursor: Any) -> None:
        await cursor.execute("START TRANSACTION")
        for statement in statements:
            await cursor.execute(statement.format(schema=""))
        await cursor.execute("COMMIT")

    async def execute() -> None:
        if url.startswith("mysql"):
            await mariadb.asking(url, change_mysql)
            return
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement.format(schema="holdfast."))
        await connection.close()

    asyncio.run(execute())


# The list of workers, and stopping one.


def test_workers_are_listed_shown_and_stopped(ledger: Shell, worker: Start) -> None:
    id = detach(ledger, "ledger.yaml")
    serving = worker("--queues", "default,slow", "--classes", "cpu,io", "--concurrency", "3")
    until(lambda: arrived(ledger))
    (row,) = workers(ledger)
    assert (row["state"], row["pid"], row["program"]) == ("active", serving.process.pid, "worker")
    assert (row["queues"], row["classes"]) == (["default", "slow"], ["cpu", "io"])
    assert (row["concurrency"], row["running"]) == (3, 1)
    assert 0 < row["lease_left"] <= 30
    line = ledger("workers", "list").stdout.splitlines()[1]
    assert line.split()[:2] == [row["id"][:8], "active"]
    shown = told(ledger, "workers", "show", row["id"][:8])
    assert [each["id"] for each in shown["executions"]] == [id]
    would = ledger("workers", "stop", row["id"][:8], "--dry-run")
    assert "would be stopped" in would.stderr
    asked = ledger("workers", "stop", row["id"][:8], "--timeout", "100ms")
    assert asked.returncode == 9
    open_gate(ledger)
    assert serving.process.wait(30) == 0
    assert status(ledger, id) == "completed"
    assert ledger.problem("workers", "show", row["id"], code=3)["code"] == "HF3041"


def test_a_worker_that_is_not_proven_to_be_here_is_not_stopped(ledger: Shell, worker: Start) -> None:
    serving = worker()
    (row,) = workers(ledger)
    lock_file(ledger, row["id"]).rename(ledger.folder / "aside")
    assert ledger.problem("workers", "stop", row["id"], code=4)["code"] == "HF4040"
    # Another file of that name, held by another process: the process id alone proves nothing.
    lock_file(ledger, row["id"]).write_text(f"{serving.process.pid} holdfast\n")
    with lock_file(ledger, row["id"]).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert ledger.problem("workers", "stop", row["id"], code=4)["code"] == "HF4040"
    lock_file(ledger, row["id"]).unlink()
    assert serving.process.poll() is None
    assert serving.end() == 0


# Starting by name.


def test_a_registered_workflow_is_started_by_name(ledger: Shell, worker: Start) -> None:
    assert ledger.inside("workflows", "register", "ledger.yaml").returncode == 0
    open_gate(ledger)
    worker("--queues", "slow")
    started = told(ledger, "executions", "start", "ledger", "who=you", "--queue", "slow", "--id", "named")
    assert (started["id"], started["workflow"], started["served"]) == ("named", "ledger", True)
    assert ledger.inside("executions", "wait", "named", "--timeout", "30s").returncode == 0
    assert told(ledger, "executions", "show", "named")["input"] == {"who": "you"}
    again = ledger.inside("executions", "start", f"ledger@{started['version']}", "who=you", "--id", "named")
    assert again.returncode == 0
    assert "nothing was queued" in again.stderr
    assert ledger.problem("executions", "start", "ledgr", code=3)["fix"] == "did you mean ledger?"
    assert ledger.problem("executions", "start", "ledger@7", code=3)["code"] == "HF3002"
    assert ledger.problem("executions", "start", "ledger", "who", code=2)["code"] == "HF1003"
    assert (
        ledger.problem("executions", "start", "ledger", "--input", '{"who": 3}', code=2)["code"] == "HF1210"
    )


# What is refused before anything happens.


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("worker", "missing.py"), "HF3002", 3),
        (("worker", "no.such.module"), "HF3002", 3),
        (("worker", "empty.py"), "HF1040", 2),
        (("worker", "reports.py:nothing"), "HF3040", 3),
        (("worker", "broken.py"), "HF1200", 2),
        (("worker", "ledger.yaml"), "HF1003", 2),
        (("worker", "--queues", "local"), "HF1003", 2),
        (("worker", "--queues", " , "), "HF1100", 2),
        (("worker", "--classes", "io,tpu"), "HF1100", 2),
        (("worker", "--concurrency", "0"), "HF1100", 2),
        (("worker", "--drain-timeout", "5"), "HF1100", 2),
        (("worker", "--storage", "memory://"), "HF1003", 2),
        (("run", "ledger.yaml", "--detach", "--storage", "memory://"), "HF1003", 2),
        (("run", "ledger.yaml", "--detach", "--queue", "local"), "HF1003", 2),
        (("run", "ledger.yaml", "--detach", "--steal"), "HF1003", 2),
        (("run", "ledger.yaml", "--detach", "--delay", "soon"), "HF1002", 2),
        (("run", "ledger.yaml", "--detach", "--priority", "99999"), "HF1002", 2),
        (("run", "ledger.yaml", "--dedupe-key", "k"), "HF1003", 2),
        (("executions", "start", "ledger", "--queue", "local"), "HF1003", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_can_not_be_is_refused_and_makes_no_file(
    holdfast: Shell, arguments: tuple[str, ...], code: str, exit_code: int
) -> None:
    holdfast.write("ledger.yaml", LEDGER)
    holdfast.write("reports.py", PYTHON)
    holdfast.write("empty.py", "")
    holdfast.write("broken.py", "1 / 0")
    before = holdfast.files().keys()
    assert holdfast.problem(*arguments, code=exit_code)["code"] == code
    assert holdfast.files().keys() == before


def test_a_dry_run_says_what_would_be_served(holdfast: Shell) -> None:
    holdfast.write("reports.py", PYTHON.replace("VERSION", "3"))
    row = holdfast.json("worker", "reports.py", "--dry-run", HOLDFAST_WORKER__QUEUES="a, b")
    assert row["queues"] == ["a", "b"]
    assert row["offers"] == [{"name": "report", "version": "3"}]
    holdfast.write("ledger.yaml", LEDGER)
    queued = holdfast.json("run", "ledger.yaml", "--detach", "--queue", "q", "--dry-run")
    assert (queued["queue"], queued["dry_run"]) == ("q", True)
    assert not (holdfast.folder / ".holdfast").exists()


def test_reading_the_list_makes_nothing(holdfast: Shell) -> None:
    assert holdfast.problem("workers", "list", code=3)["code"] == "HF2003"
    assert not (holdfast.folder / ".holdfast").exists()

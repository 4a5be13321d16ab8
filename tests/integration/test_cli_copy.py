"""`holdfast storage copy` as a person meets it."""

from __future__ import annotations

import json

import pytest

from tests.integration.shell import Shell

WORKFLOW = """\
name: pair
steps:
  - {id: first, shell: "echo one"}
  - {id: second, needs: [first], shell: "echo two"}
"""


@pytest.fixture
def filled(holdfast: Shell) -> Shell:
    holdfast.write("pair.yaml", WORKFLOW)
    assert holdfast.inside("run", "pair.yaml", "--id", "p1").returncode == 0
    return holdfast


def urls(shell: Shell, name: str = "copy") -> tuple[str, str]:
    return f"sqlite:///{shell.folder / '.holdfast/holdfast.db'}", f"sqlite:///{shell.folder / name}.db"


def test_a_store_is_copied_and_compared(filled: Shell) -> None:
    here, there = urls(filled)
    done = filled.inside("storage", "copy", here, there)
    assert done.returncode == 0, done.stderr
    assert "both stores hold the same" in done.stdout
    assert "events" in done.stdout
    shown = filled.inside("--storage", there, "executions", "show", "p1", "--json")
    assert json.loads(shown.stdout)["status"] == "completed"
    same = filled.inside("storage", "copy", here, there, "--verify", "--json")
    told = json.loads(same.stdout)
    assert (told["equal"], told["copied_rows"]) == (True, 0)
    assert {each["table"]: each["rows"] for each in told["tables"]}["executions"] == 1


def test_what_differs_is_found_and_mended(filled: Shell) -> None:
    here, there = urls(filled)
    assert filled.inside("storage", "copy", here, there).returncode == 0
    again = filled.inside("storage", "copy", here, there)
    assert (again.returncode, "--resume" in again.stderr) == (4, True)
    assert filled.inside("run", "pair.yaml", "--id", "p2").returncode == 0
    differs = filled.inside("storage", "copy", here, there, "--verify")
    assert differs.returncode == 6
    assert "executions" in differs.stderr
    mended = filled.inside("storage", "copy", here, there, "--resume")
    assert mended.returncode == 0
    assert "put right" in mended.stdout
    assert filled.inside("storage", "copy", here, there, "--verify").returncode == 0


def test_a_part_and_a_plan(filled: Shell) -> None:
    here, there = urls(filled)
    plan = filled.inside("--dry-run", "storage", "copy", here, there, "--only", "workflows,queues", "--json")
    assert set(json.loads(plan.stdout)["tables"]) == {"definitions", "workflows", "queues", "slots"}
    assert not (filled.folder / "copy.db").exists()
    part = filled.inside("storage", "copy", here, there, "--only", "workflows", "--since", "1d", "--json")
    assert json.loads(part.stdout)["copied_rows"] == 1


def test_progress_is_told_to_programs(filled: Shell) -> None:
    here, there = urls(filled)
    done = filled.inside("--progress", "json", "storage", "copy", here, there)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["event"] for line in lines} == {"copying", "comparing"}


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("none.db", "copy.db"), 3, "No database"),
        (("here", "here"), 2, "one store"),
        (("here", "memory://"), 2, "ends with this command"),
        (("here", "copy.db", "--only", "exections"), 2, "executions"),
        (("here", "copy.db", "--since", "soon"), 2, "neither a date nor an age"),
        (("here", "ftp://x"), 2, "ftp"),
    ],
)
def test_a_wrong_call_says_what_is_meant(filled: Shell, argv: tuple[str, ...], code: int, words: str) -> None:
    here, _ = urls(filled)

    def place(text: str) -> str:
        return f"sqlite:///{filled.folder / text}" if text.endswith(".db") else text.replace("here", here)

    done = filled.inside("storage", "copy", place(argv[0]), place(argv[1]), *argv[2:])
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (filled.folder / "copy.db").exists()

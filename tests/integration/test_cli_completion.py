"""What Tab offers: commands, flags, and the ids and names of the store, which is only read."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from holdfast.cli import completion
from holdfast.cli.completion import SHELLS, complete
from holdfast.cli.declare import Root
from tests.integration.shell import Shell

FLOW = "name: {name}\nsteps: [{{id: a, shell: 'true'}}]\n"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for a machine that does much else."""
    monkeypatch.setattr(completion, "_BUDGET_S", 20.0)


def offered(holdfast: Shell, *words: str, shell: str = "bash") -> list[str]:
    """The words that bash is answered when `words` stand behind `holdfast` and Tab is pressed."""
    environ = {"COMP_WORDS": " ".join(("holdfast", *words)), "COMP_CWORD": str(len(words))}
    out = io.StringIO()
    with (
        contextlib.chdir(holdfast.folder),
        mock.patch.dict(os.environ, {**holdfast.environ, **environ}, clear=True),
        contextlib.redirect_stdout(out),
    ):
        assert complete(f"{shell}_complete", Root("holdfast")) == 0
    return [line.partition(",")[2] for line in out.getvalue().split("\n") if line]


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["ex"], ["executions"]),
        (["executions", ""], ["list", "show", "wait"]),
        (["incidents", "ac"], ["acknowledge"]),
        (["executions", "list", "--o"], ["--output"]),
        (["executions", "list", "--output", "n"], ["ndjson"]),
        (["completion", "z"], ["zsh"]),
        (["incidents", "open", "title", "--severity", "cri"], ["critical"]),
    ],
)
def test_commands_flags_and_choices(holdfast: Shell, words: list[str], some: list[str]) -> None:
    assert set(some) <= set(offered(holdfast, *words))


@pytest.mark.parametrize(
    "words", [["nonsense", "x"], ["executions", "nonsense", ""], ["storage", "copy", ""]]
)
def test_nothing_is_offered_where_nothing_is_known(holdfast: Shell, words: list[str]) -> None:
    assert offered(holdfast, *words) == []


def test_files_are_the_business_of_the_shell(holdfast: Shell) -> None:
    environ = {"COMP_WORDS": "holdfast run f", "COMP_CWORD": "2", "_HOLDFAST_COMPLETE": "bash_complete"}
    assert holdfast(**environ).stdout == "file,f\n"


def test_ids_and_names_of_the_store(stored: Shell) -> None:
    for name in ("alpha", "beta"):
        stored.write(f"{name}.yaml", FLOW.format(name=name))
        assert stored.inside("run", f"{name}.yaml", "--id", f"{name}-1").returncode == 0
    assert stored.inside("workflows", "register", "alpha.yaml").returncode == 0
    assert stored.inside("queues", "set", "slow", "--concurrency", "2").returncode == 0
    opened = stored.inside("incidents", "open", "the printer burns", "--severity", "high", "-q")
    incident = opened.stdout.strip()
    assert offered(stored, "executions", "show", "") == ["beta-1", "alpha-1", "@last"]
    assert offered(stored, "executions", "cancel", "beta-1", "al") == ["alpha-1"]
    assert offered(stored, "fork", "be") == ["beta-1"]
    assert offered(stored, "queues", "show", "s") == ["slow"]
    assert offered(stored, "workflows", "show", "") == ["alpha", "beta"]
    assert offered(stored, "incidents", "show", incident[:4]) == [incident]
    assert offered(stored, "incidents", "show", "no such beginning") == []


def test_a_flag_before_the_command_chooses_the_store(holdfast: Shell) -> None:
    elsewhere = f"sqlite:///{holdfast.folder}/elsewhere.db"
    holdfast.write("flow.yaml", FLOW.format(name="flow"))
    assert holdfast.inside("-s", elsewhere, "run", "flow.yaml", "--id", "there").returncode == 0
    assert offered(holdfast, "-s", elsewhere, "executions", "show", "") == ["there", "@last"]
    assert offered(holdfast, "executions", "show", "") == []


@pytest.mark.parametrize("settings", [None, "storage: {url: sqlite:///none.db}\n", "storage: [\n"])
def test_what_can_not_be_read_is_neither_told_nor_made(holdfast: Shell, settings: str | None) -> None:
    if settings is not None:
        holdfast.write("holdfast.yaml", settings)
    before = everything_below(holdfast.folder)
    environ = {"COMP_WORDS": "holdfast executions show ", "COMP_CWORD": "3"}
    done = holdfast(**environ, _HOLDFAST_COMPLETE="bash_complete")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert everything_below(holdfast.folder) == before


def test_a_store_that_does_not_answer_is_not_waited_for(
    holdfast: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> list[str]:
        await asyncio.sleep(3600)
        raise AssertionError

    holdfast.write("flow.yaml", FLOW.format(name="flow"))
    assert holdfast.inside("run", "flow.yaml", "--id", "there").returncode == 0
    monkeypatch.setitem(completion._BY_NOUN, "executions", never)
    monkeypatch.setattr(completion, "_BUDGET_S", 0.2)
    assert offered(holdfast, "executions", "show", "") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script(holdfast: Shell, shell: str) -> None:
    done = holdfast.inside("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{shell}_complete" in done.stdout


def test_bash_completes_with_its_script(holdfast: Shell) -> None:
    script = holdfast.write("completion.bash", holdfast("completion", "bash").stdout)
    program = holdfast.write("holdfast", f'#!/bin/sh\nexec "{sys.executable}" -m holdfast "$@"\n')
    program.chmod(0o700)
    asked = (
        f"source {script}; COMP_WORDS=(holdfast incidents ack); COMP_CWORD=2; _holdfast_completion holdfast; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environ = {**holdfast.environ, "PATH": f"{holdfast.folder}:{holdfast.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", asked], env=environ, cwd=holdfast.folder, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("acknowledge\n", "")


def test_powershell_is_answered_by_lines(holdfast: Shell) -> None:
    environ = {"COMP_WORDS": "holdfast\nexecutions\nli", "COMP_CWORD": "li"}
    done = holdfast(**environ, _HOLDFAST_COMPLETE="powershell_complete")
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["list"]
    done = holdfast(COMP_WORDS="holdfast", COMP_CWORD="", _HOLDFAST_COMPLETE="powershell_complete")
    assert "executions\tlist, show, follow, await, cancel executions" in done.stdout.splitlines()


def test_an_unknown_shell_is_refused(holdfast: Shell) -> None:
    assert holdfast(_HOLDFAST_COMPLETE="tcsh_complete").returncode == 2
    done = holdfast.inside("completion", "tcsh")
    assert done.returncode == 2
    assert "powershell" in done.stderr

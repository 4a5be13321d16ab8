"""The shell step: arguments stay data, the environment is an allowlist, output is bounded, groups die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import BodyFailed
from holdfast.workflows.steps import processes
from holdfast.workflows.steps.base import StepContext
from holdfast.workflows.steps.shell import TAIL_CHARACTERS, ShellKind

pytestmark = pytest.mark.anyio
Run = Callable[..., Any]


@pytest.fixture
def shell(tmp_path: Path) -> Run:
    async def run(spec: Any, env: dict[str, str] | None = None, **arguments: Any) -> Any:
        context = StepContext(
            execution_id="ex-1", path="build[3]", step="build", attempt=2, spec=spec,
            arguments=arguments, env=env or {}, folder=tmp_path,
        )  # fmt: skip
        return await ShellKind().run(context)

    return run


HOSTILE = [
    "; touch owned",
    "$(touch owned)",
    "`touch owned`",
    "'\"\\",
    "a b  c",
    "-n",
    "*",
    "é\n\t",
    "",
    "$HOME",
    "&& false",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_an_argument_stays_one_argument(shell: Run, tmp_path: Path, value: str) -> None:
    output = await shell(
        ["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", value, "end"], output="json"
    )
    assert output == [value, "end"]
    assert await shell('printf %s "$VALUE"', {"VALUE": value}) == value.rstrip("\n")
    assert list(tmp_path.iterdir()) == []


async def test_numbers_and_booleans_become_text_and_structures_are_refused(shell: Run) -> None:
    assert await shell(["echo", 3, True, 1.5]) == "3 true 1.5"
    for value in (None, [1], {"a": 1}):
        with pytest.raises(BodyFailed, match="argument 1 is") as caught:
            await shell(["echo", value])
        assert caught.value.retry_type == "expression"


async def test_the_environment_is_an_allowlist(shell: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "canary-secret")
    monkeypatch.setenv("LC_TIME", "C")
    printed = await shell(["env"], {"MINE": "yes", "LANG": "C.UTF-8"})
    found = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert "canary-secret" not in printed
    assert found["PATH"] == os.environ["PATH"]
    assert (found["LC_TIME"], found["MINE"], found["LANG"]) == ("C", "yes", "C.UTF-8")
    assert found["HOLDFAST_EXECUTION_ID"] == "ex-1"
    assert found["HOLDFAST_STEP"] == "build[3]"
    assert found["HOLDFAST_ATTEMPT"] == "2"
    assert found["HOLDFAST_IDEMPOTENCY_KEY"] == "ex-1:build[3]"


async def test_the_output_is_text_json_or_everything(shell: Run) -> None:
    assert await shell("echo a; echo b; echo") == "a\nb"
    assert await shell("echo '{\"a\": [1, 2.5, null]}'", output="json") == {"a": [1, 2.5, None]}
    assert await shell("echo out; echo err >&2", output="full") == {
        "exit_code": 0,
        "stdout": "out\n",
        "stderr": "err\n",
        "truncated": False,
    }
    assert await shell(["printf", "\\377"]) == "\ufffd"


@pytest.mark.parametrize("text", ["", "{", "[1] x", "NaN", "[Infinity]", "\\377", "[" * 100_000])
async def test_output_that_is_not_json_fails_with_the_position(shell: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").write_text(text)
    with pytest.raises(BodyFailed, match="stdout is not JSON") as caught:
        await shell(["cat", "out"], output="json")
    assert caught.value.retry_type == "output"


async def test_a_position_of_bad_json_is_told(shell: Run) -> None:
    with pytest.raises(BodyFailed, match=r"line 2 column 5"):
        await shell(["printf", "[1,\n  2 3]"], output="json")


async def test_a_failing_command_tells_its_code_and_the_end_of_stderr(shell: Run) -> None:
    with pytest.raises(BodyFailed, match="the script ended with exit code 3: why") as caught:
        await shell("echo out; echo why >&2; exit 3")
    assert caught.value.retry_type == "exit"
    assert caught.value.details["exit_code"] == 3
    assert caught.value.details["stderr"] == "why\n"
    with pytest.raises(BodyFailed, match="exit code 1") as caught:
        await shell(["python3", "-c", "import sys; sys.stderr.write('x' * 100000 + 'end'); sys.exit(1)"])
    assert len(caught.value.details["stderr"]) == TAIL_CHARACTERS
    assert caught.value.cause.endswith("end")
    with pytest.raises(BodyFailed, match="was killed by SIGKILL"):
        await shell("kill -9 $$")


async def test_a_failing_line_of_a_script_ends_it(shell: Run) -> None:
    with pytest.raises(BodyFailed, match="exit code 1"):
        await shell("false\necho after")


async def test_a_command_that_can_not_start_fails_as_spawn(shell: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a program")
    for spec, cause in (
        (["no-such-command-here"], "was not found"),
        (["./file"], "can not be started"),
        (["echo", "a\x00b"], "can not be started"),
        (["echo", "x" * 3_000_000], "can not be started"),
        (["echo", "\ud800"], "can not be started"),
    ):
        with pytest.raises(BodyFailed, match=cause) as caught:
            await shell(spec)
        assert caught.value.retry_type == "spawn"
    with pytest.raises(BodyFailed, match=r"the folder .* does not exist"):
        await shell(["pwd"], cwd="missing")


async def test_the_folder_is_the_definitions_or_cwd(shell: Run, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    assert await shell(["pwd"]) == str(tmp_path)
    assert await shell(["pwd"], cwd="inner") == str(tmp_path / "inner")
    assert await shell(["pwd"], cwd="/") == "/"


async def test_standard_input_is_empty(shell: Run) -> None:
    assert await shell("cat; echo done") == "done"


async def test_endless_output_is_cut_and_marked(shell: Run) -> None:
    full = await shell("head -c 5000000 /dev/zero | tr '\\0' x; echo e >&2", output="full")
    assert full["truncated"]
    assert full["stderr"] == "e\n"
    assert full["stdout"].startswith("x" * processes.OUTPUT_MAX)
    assert len(full["stdout"]) < processes.OUTPUT_MAX + 100
    assert full["stdout"].endswith(f"… [cut at {processes.OUTPUT_MAX} bytes]")
    with pytest.raises(BodyFailed, match="longer than"):
        await shell("head -c 2000000 /dev/zero | tr '\\0' 1", output="json")


async def ended(pid: int) -> bool:
    """Whether the process is gone or a zombie within two seconds."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        await asyncio.sleep(0.01)
    return False


async def started(file: Path) -> list[int]:
    """The process ids that the script has written by now, as soon as it has."""
    async with asyncio.timeout(10):
        while not file.exists() or not file.read_text().endswith("\n"):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.005)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


TREE = 'sleep 300 & child=$!; echo "[$$, $child]" > pids.part; mv pids.part pids; wait'


async def test_cancelling_kills_the_whole_group(shell: Run, tmp_path: Path) -> None:
    task = asyncio.create_task(shell(TREE))
    pids = await started(tmp_path / "pids")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await ended(pid) for pid in pids] == [True, True]


@pytest.mark.parametrize("turns", range(8))
async def test_cancelling_while_it_starts_leaves_nothing_behind(shell: Run, turns: int) -> None:
    """However far the start has come: asyncio itself would wait until the last child lets go of the pipes."""
    mark = f"300.{time.monotonic_ns()}"
    task = asyncio.create_task(shell(f"sleep {mark} & wait"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
        while any(mark in command for command in command_lines()):  # noqa: ASYNC110 - other processes end
            await asyncio.sleep(0.01)


def command_lines() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


async def test_a_group_that_ignores_sigterm_is_killed_after_the_grace(
    shell: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    task = asyncio.create_task(shell("trap '' TERM; " + TREE + "; wait; sleep 300"))
    pids = await started(tmp_path / "pids")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await ended(pid) for pid in pids] == [True, True]


async def test_a_timeout_around_the_step_kills_the_group(shell: Run, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await shell(TREE)
    assert [await ended(pid) for pid in await started(tmp_path / "pids")] == [True, True]


async def test_children_left_holding_the_pipes_do_not_hold_the_step(shell: Run, tmp_path: Path) -> None:
    output = await shell('sleep 300 & echo "[$!]" > pids; echo done')
    assert output == "done"
    assert [await ended(pid) for pid in await started(tmp_path / "pids")] == [True]


async def test_many_commands_at_once_leave_no_descriptor_behind(shell: Run) -> None:
    await shell(["true"])
    before = len(os.listdir("/proc/self/fd"))
    outputs = await asyncio.gather(*(shell(["echo", number]) for number in range(40)))
    assert outputs == [str(number) for number in range(40)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1

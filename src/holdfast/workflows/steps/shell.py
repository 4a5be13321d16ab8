"""`shell:` runs a command: an argv list, or a literal script for `/bin/sh -e`.

No value is ever spliced into a script: `${{ }}` there is refused when the definition is loaded, and values
go through `env`, where a shell reads them as data. An item of an argv list may be a template and stays
exactly one argument, whatever it holds.

The environment is an allowlist of the caller's (paths, language, terminal), then the declared `env`, then
`HOLDFAST_EXECUTION_ID`, `_STEP`, `_ATTEMPT` and `_IDEMPOTENCY_KEY`. `with: {cwd: …}` is relative to the
folder of the definition, which is the default.

The output of the step is what the command printed, by `with: {output: …}`:
`text` (default): stdout as a string without its final newlines; `json`: stdout parsed as JSON;
`full`: `{exit_code, stdout, stderr, truncated}`. A non-zero exit fails the step with the type `exit`,
bad JSON with `output`, a command that can not be started with `spawn`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import BodyFailed
from holdfast.workflows.expressions import OPENING, json_text
from holdfast.workflows.problems import DocumentPath, Report, nearest
from holdfast.workflows.steps import processes
from holdfast.workflows.steps.base import BodyKind, StepContext

OUTPUTS = ("text", "json", "full")
TAIL_CHARACTERS = 2_000
"""How much of stderr an error carries."""
_INHERITED = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM", "TZ"}
)


class ShellKind(BodyKind):
    """A command in a process group of its own."""

    name = "shell"
    parameters = frozenset({"output", "cwd"})
    takes_env = True

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The form of the command, and that no script has a template."""
        if isinstance(spec, str):
            if not spec.strip():
                report.add(path, "the script is empty", "write a command")
            if OPENING in spec:
                report.add(
                    path,
                    "a script takes no ${{ }}: a value would become part of the program",
                    'pass it through env: {NAME: "${{ … }}"} and write "$NAME", or use an argv list',
                )
        elif not isinstance(spec, list) or not spec:
            report.add(path, "`shell` is a list of arguments or a script", "write shell: [echo, hello]")
        else:
            for index, item in enumerate(spec):
                if isinstance(item, list | dict) or item is None:
                    report.add((*path, index), "an argument is a string or a number", "quote it")
        output = arguments.get("output", "text")
        if output not in OUTPUTS:
            report.add((*path[:-1], "with", "output"), f"output is {output!r}", nearest(str(output), OUTPUTS))

    async def run(self, context: StepContext) -> Any:
        """Run the command once and read its output as the step says."""
        argv = _argv(context.spec)
        cwd = context.folder / str(context.arguments.get("cwd") or "")
        try:
            done = await processes.run(argv, _environment(context), cwd)
        except (OSError, ValueError) as error:
            raise _not_started(argv, cwd, error) from error
        if done.exit_code != 0:
            raise _ended_badly(argv, done)
        return _output(str(context.arguments.get("output", "text")), done)


def _argv(spec: Any) -> list[str]:
    if isinstance(spec, str):
        return ["/bin/sh", "-e", "-c", spec]
    argv = []
    for index, item in enumerate(spec):
        if item is None or isinstance(item, list | dict):
            raise BodyFailed(
                f"argument {index} is {json_text(item)[:60]}, not one string",
                fix="check the field's name; join lists in a step, or pass JSON with to_string(…)",
                kind="expression",
            )
        argv.append(item if isinstance(item, str) else json_text(item))
    return argv


def _environment(context: StepContext) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")
    }
    return {
        **inherited,
        **context.env,
        "HOLDFAST_EXECUTION_ID": context.execution_id,
        "HOLDFAST_STEP": context.path,
        "HOLDFAST_ATTEMPT": str(context.attempt),
        "HOLDFAST_IDEMPOTENCY_KEY": context.idempotency_key,
    }


def _output(mode: str, done: processes.Finished) -> Any:
    if mode == "json":
        return _json(done)
    stdout = _text(done.stdout, done.stdout_cut)
    if mode == "text":
        return stdout.rstrip("\n")
    return {
        "exit_code": done.exit_code,
        "stdout": stdout,
        "stderr": _text(done.stderr, done.stderr_cut),
        "truncated": done.stdout_cut or done.stderr_cut,
    }


def _text(data: bytes, cut: bool) -> str:
    text = data.decode("utf-8", "replace")
    return f"{text}\n… [cut at {processes.OUTPUT_MAX} bytes]" if cut else text


def _json(done: processes.Finished) -> Any:
    if done.stdout_cut:
        raise BodyFailed(
            f"the JSON on stdout is longer than {processes.OUTPUT_MAX} bytes",
            fix="write it to a file and print the file's name",
            kind="output",
        )
    try:
        return json.loads(done.stdout, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BodyFailed(
            f"stdout is not JSON: {str(error) or 'nested too deep'}; it begins {_head(done.stdout)!r}",
            fix="print JSON and nothing else to stdout; messages belong on stderr",
            kind="output",
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _head(data: bytes) -> str:
    return data[:80].decode("utf-8", "replace")


def _ended_badly(argv: list[str], done: processes.Finished) -> BodyFailed:
    stderr = _text(done.stderr, done.stderr_cut)
    said = (stderr.strip() or _text(done.stdout, done.stdout_cut).strip())[-TAIL_CHARACTERS:]
    if done.exit_code < 0:
        how = f"was killed by {_signal_name(-done.exit_code)}"
    else:
        how = f"ended with exit code {done.exit_code}"
    return BodyFailed(
        f"{_shown(argv)} {how}" + (f": {said}" if said else ""),
        fix="run the command by hand, or add `retry` if it may pass later",
        kind="exit",
        exit_code=done.exit_code,
        stderr=stderr[-TAIL_CHARACTERS:],
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _not_started(argv: list[str], cwd: Path, error: Exception) -> BodyFailed:
    if isinstance(error, OSError) and not cwd.is_dir():
        return BodyFailed(f"the folder {str(cwd)!r} does not exist", fix="correct `cwd`", kind="spawn")
    missing = isinstance(error, FileNotFoundError)
    cause = f"{argv[0]!r} was not found" if missing else f"{_shown(argv)} can not be started: {error}"
    fix = "install it, or write its full path" if missing else "pass large values through a file"
    return BodyFailed(cause, fix=fix, kind="spawn")


def _shown(argv: list[str]) -> str:
    return "the script" if argv[:3] == ["/bin/sh", "-e", "-c"] else repr(argv[0])

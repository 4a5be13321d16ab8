"""What is printed when a command fails, and the exit code that goes with it.

Expected failures are four lines (code and cause, where, fix, more) or one line of problem+json with
`--json`; never a traceback, unless `-vv` asks for it. Everything goes to stderr, with passwords removed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from holdfast.errors import (
    AccessDenied,
    HoldfastError,
    InvalidUsage,
    MigrationsPending,
    NoStore,
    RetryLater,
    SchemaTooNew,
)

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.cli.flags import GlobalFlags

INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141
_MORE_PROBLEMS = 20
_OF_THE_STORE = (NoStore, AccessDenied, MigrationsPending, SchemaTooNew, RetryLater)
"""Failures whose place is the store itself."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`: nothing on the way may take it for a failure."""


class Stopped(BaseException):
    """A signal ended a command that runs an event loop, after it had cleaned up; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def peek_flags(arguments: Sequence[str], flags: GlobalFlags) -> None:
    """Set what decides how a failure looks, before the arguments are parsed, for they may not parse."""
    spelled = {f"{name}{form}": form for form in ("json", "ndjson") for name in ("-o", "--output=")}
    before = ""
    for argument in arguments:
        if argument == "--":
            break
        if argument == "--json":
            flags.output = "json"
        elif argument in spelled:
            flags.output = spelled[argument]
        elif before in {"-o", "--output"} and argument in {"json", "ndjson"}:
            flags.output = argument
        before = argument


def report(error: BaseException, invocation: Invocation) -> int:
    """Print `error` and give the exit code."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if isinstance(error, Terminated):
        return TERMINATED
    if isinstance(error, Stopped):
        return 128 + error.number
    if invocation.flags.verbose > 1:
        import traceback

        print(_redact("".join(traceback.format_exception(error))), file=invocation.stderr, end="")
    failure = _expected(error)
    if failure.where is None and isinstance(failure, _OF_THE_STORE) and invocation.storage_origin:
        failure.where = f"{invocation.command}   (storage from {invocation.storage_origin})"
    if invocation.flags.wants_json:
        text = json.dumps(failure.as_problem(), ensure_ascii=False, default=str)
    else:
        text = _lines(failure, colored=invocation.colored(invocation.stderr))
    print(_redact(text), file=invocation.stderr, flush=True)
    return failure.exit_code


def _redact(text: str) -> str:
    from holdfast.config.secrets import redact_url

    return redact_url(text)


def _expected(error: BaseException) -> HoldfastError:
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return InvalidUsage(error.format_message())
    return HoldfastError(f"{type(error).__name__}: {error}")


def _usage(error: click.UsageError) -> InvalidUsage:
    command = error.ctx.command_path if error.ctx else "holdfast"
    possibilities: list[str] = list(getattr(error, "possibilities", None) or [])
    if possibilities:
        message, fix = error.message, f"did you mean {' or '.join(possibilities)}?"
    else:
        message, fix = error.format_message(), f"see `{command} --help`"
    cause = message.strip().rstrip(".")
    return InvalidUsage(cause[:1].lower() + cause[1:], where=command, fix=fix, nearest=possibilities[:1])


def _lines(failure: HoldfastError, *, colored: bool) -> str:
    code = f"\x1b[1;31m{failure.code}\x1b[0m" if colored else failure.code
    lines = [f"{code}  {failure.cause}"]
    if failure.where:
        lines.append(f"  where   {failure.where}")
    lines.append(f"  fix     {failure.fix}")
    problems = failure.details.get("problems")
    # A cause of several lines has listed them itself.
    if isinstance(problems, list) and len(problems) > 1 and "\n" not in failure.cause:
        lines += [f"  also    {_problem(problem)}" for problem in problems[1 : _MORE_PROBLEMS + 1]]
        if len(problems) > _MORE_PROBLEMS + 1:
            lines.append(f"  also    {len(problems) - _MORE_PROBLEMS - 1} more; --json lists them all")
    lines.append(f"  more    holdfast help {failure.code}")
    return "\n".join(lines)


def _problem(problem: object) -> str:
    if not isinstance(problem, dict):
        return str(problem)
    place = f"{problem['where']}: " if problem.get("where") else ""
    fix = f"  ({problem['hint']})" if problem.get("hint") else ""
    return f"{place}{problem.get('message', '')}{fix}"

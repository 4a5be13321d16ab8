"""The entry of the command line: `main()` runs one command and returns its exit code.

The page of `--help` needs nothing but the catalogue and is answered before anything else is imported.
Every other failure path ends here too: what a command raises becomes lines on stderr and an exit code,
Ctrl-C becomes 130, SIGTERM 143, and a reader who closes the pipe early is no error.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from holdfast.cli import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cli.context import Invocation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default those of the process) name; its exit code."""
    if arguments is None and (instruction := os.environ.get("_HOLDFAST_COMPLETE")):
        return _complete(instruction)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in {"-h", "--help"}:
        return _print_help()
    if given[0] == "--version":
        given[0] = "version"
    return _run(given)


def _complete(instruction: str) -> int:
    from holdfast.cli.completion import complete
    from holdfast.cli.declare import Root

    return complete(instruction, Root("holdfast"))


def _print_help() -> int:
    try:
        sys.stdout.write(catalogue.render_help())
        sys.stdout.flush()
    except BrokenPipeError:
        return _close_stdout()
    return 0


def _run(arguments: list[str]) -> int:
    import signal
    from pathlib import Path

    from holdfast.cli import failures
    from holdfast.cli.context import Invocation

    def terminate(*_: object) -> NoReturn:
        raise failures.Terminated

    signal.signal(signal.SIGTERM, terminate)
    invocation = Invocation(environ=os.environ, cwd=Path())
    failures.peek_flags(arguments, invocation.flags)
    try:
        code = _dispatch(arguments, invocation)
        sys.stdout.flush()
    except BrokenPipeError:
        return _close_stdout()
    except BaseException as error:
        return failures.report(error, invocation)
    return code


def _dispatch(arguments: list[str], invocation: Invocation) -> int:
    """Call the command. Click's own `main` is not used: it ends the process itself when a pipe closes."""
    from click.exceptions import Exit

    from holdfast.cli.declare import Root

    root = Root("holdfast")
    try:
        with root.make_context("holdfast", arguments, obj=invocation) as context:
            code = root.invoke(context)
    except Exit as ended:
        return ended.exit_code
    return code if isinstance(code, int) else 0


def _close_stdout() -> int:
    """Keep the interpreter from complaining about the closed pipe when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


if __name__ == "__main__":
    sys.exit(main())

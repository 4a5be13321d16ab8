"""`holdfast executions start`: a registered workflow, by name, for the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command
from holdfast.cli.filing import Filing, filing_options


@click.command("start", cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE…]")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="the input as a JSON object")
@click.option("--id", "id_", metavar="ID", help="the id of the execution; one that exists is left as it is")
@filing_options
@click.pass_obj
def start(
    invocation: Invocation,
    /,
    name: str,
    arguments: tuple[str, ...],
    given: str | None,
    id_: str | None,
    **filed: Any,
) -> int:
    """Start a registered workflow by its name, and print the id of the execution.

    It is left to the workers of --queue (`default` without it): nothing runs here. Without a version it is
    the newest registered one, else the newest that ever ran. Values are read as the workflow declares its
    inputs; those of a Python workflow are JSON, or else text, and are checked by the worker.
    """
    from holdfast.cli.enqueuing import origin_of, start_registered
    from holdfast.cli.targets import read_input

    wanted, _, version = name.partition("@")
    config = invocation.load_config().config
    origin = origin_of(config, Filing(**filed), id_)
    values = read_input(given, invocation.stdin, Path.cwd())
    return start_registered(invocation, config, (wanted, version or None), (values, arguments), origin)

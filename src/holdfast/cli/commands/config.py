"""`holdfast config`: what is configured, where each value comes from, and whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.config.loader import LoadedConfig


@click.group("config", cls=Group)
def command() -> None:
    """Show, get or validate the configuration."""


@command.command()
@click.option("--origins", is_flag=True, help="where each value comes from")
@click.pass_obj
def show(invocation: Invocation, origins: bool) -> None:
    """Show every setting; passwords are hidden."""
    loaded = invocation.load_config(inspect=True)
    columns = ["key", "value", "origin"] if origins else ["key", "value"]
    rows = [_row(loaded, path, origins=origins) for path in loaded.values]
    invocation.output.records(rows, columns, key="key", file=loaded.file, profile=loaded.config.profile)


@command.command()
@click.argument("key")
@click.pass_obj
def get(invocation: Invocation, key: str) -> None:
    """Print the value of one setting.

    KEY is a path like storage.postgresql.pool.max; camelCase will do.
    """
    from holdfast.config.known import look_up, nearest
    from holdfast.config.schema import SETTINGS
    from holdfast.errors import NotFound

    path = look_up(key).path
    if path not in SETTINGS:
        meant = nearest(path)
        fix = f"did you mean {meant}?" if meant else "list them: holdfast config show"
        raise NotFound(f"there is no setting {key!r}", where="config get", fix=fix)
    row = _row(invocation.load_config(inspect=True), path, origins=True)
    if invocation.output.is_table:
        invocation.output.text("" if row["value"] is None else str(row["value"]))
    else:
        invocation.output.record(row, key="value")


@command.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.pass_obj
def validate(invocation: Invocation, file: str | None) -> None:
    """Check the configuration.

    FILE stands in for the configuration file in use; the environment is checked with it. Mistakes are
    printed with their lines, and the exit code is 2. Keys whose feature comes later are right, and are
    listed.
    """
    loaded = invocation.load_config(file=file, inspect=True)
    notices = [*loaded.warnings, *loaded.notes]
    if not invocation.output.is_table:
        listed = [notice._asdict() for notice in notices]
        invocation.output.record({"valid": True, "file": loaded.file, "warnings": listed}, key="valid")
        return
    for notice in notices:
        invocation.say(f"warning: {notice.message} ({notice.where})")
    invocation.output.text(f"{loaded.file or 'no configuration file; the environment'} is valid")


def _row(loaded: LoadedConfig, path: str, *, origins: bool) -> dict[str, Any]:
    from holdfast.config.convert import show as shown
    from holdfast.config.schema import SETTINGS

    row = {"key": path, "value": shown(SETTINGS[path].rule, loaded.values[path])}
    return row | {"origin": str(loaded.origins[path])} if origins else row

"""`holdfast config`: what is configured, where each value comes from, whether it is right; changing it."""

from __future__ import annotations

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group


@click.group("config", cls=Group)
def command() -> None:
    """Show, check or change the configuration."""


@command.command()
@click.argument("section", required=False, metavar="[SECTION]")
@click.option("--origins", is_flag=True, help="where each value comes from")
@click.option("--changed", is_flag=True, help="leave out what is at its default")
@click.pass_obj
def show(invocation: Invocation, section: str | None, origins: bool, changed: bool) -> None:
    """Show the settings; passwords are hidden.

    SECTION is a beginning of their paths, like storage.postgresql. What is set of features that come later
    stands at the end. JSON has the origins in any case.
    """
    from holdfast.cli import configuring

    loaded = invocation.load_config(inspect=True)
    rows = configuring.rows(loaded, section, changed=changed)
    if invocation.output.is_table and invocation.stdout.isatty() and not invocation.flags.no_headers:
        colored = invocation.colored(invocation.stdout)
        invocation.output.text(configuring.grouped(rows, origins=origins, colored=colored))
        return
    columns = ["key", "value", *(["origin"] if origins else [])]
    columns += ["note"] if any(row["note"] for row in rows) else []
    invocation.output.records(rows, columns, key="key", file=loaded.file, profile=loaded.config.profile)


@command.command()
@click.argument("key")
@click.pass_obj
def get(invocation: Invocation, key: str) -> None:
    """Print the value of one setting.

    KEY is a path like storage.postgresql.pool.max; camelCase will do.
    """
    from holdfast.cli import configuring

    path = configuring.known_path(key, "config get")
    row = configuring.row(invocation.load_config(inspect=True), path)
    if note := row.pop("note"):
        invocation.say(f"{path} has {note}: its feature comes later")
    if invocation.output.is_table:
        invocation.output.text("" if row["value"] is None else str(row["value"]))
    else:
        invocation.output.record(row, key="value")


@command.command("set")
@click.argument("key")
@click.argument("value")
@click.pass_obj
def set_(invocation: Invocation, key: str, value: str) -> None:
    """Set KEY to VALUE in the configuration file.

    The rest of the file stays as it is, remarks too; a line that `init` commented out is put in use. With
    --profile the value is for that profile alone. A value that is wrong, and a password, is refused.
    """
    from holdfast.cli import configuring

    done = configuring.change(invocation, key, value)
    if invocation.output.is_table:
        invocation.output.text(done)
    else:
        invocation.output.record(
            {"key": configuring.known_path(key, "config set"), "value": value}, key="key"
        )


@command.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.pass_obj
def validate(invocation: Invocation, file: str | None) -> None:
    """Check the configuration.

    FILE stands in for the configuration file in use; the environment is checked with it. Mistakes are
    printed with their lines, and the exit code is 2. Keys whose feature comes later are right, and are
    listed.
    """
    from holdfast.cli import configuring

    loaded = invocation.load_config(file=file, inspect=True)
    notices = [*loaded.warnings, *loaded.notes]
    if not invocation.output.is_table:
        listed = [notice._asdict() for notice in notices]
        invocation.output.record({"valid": True, "file": loaded.file, "warnings": listed}, key="valid")
        return
    for line in configuring.listing(notices):
        invocation.say(line)
    invocation.output.text(f"{loaded.file or 'no configuration file; the environment'} is valid")


@command.command()
@click.pass_obj
def schema(invocation: Invocation) -> None:
    """Print the JSON Schema of the configuration file, for editors.

    `holdfast init` writes it to .holdfast/schema.json and names it in the first line of holdfast.yaml.
    """
    import json

    from holdfast.config.json_schema import json_schema

    invocation.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


@command.command()
@click.pass_obj
def path(invocation: Invocation) -> None:
    """Print which configuration file is read, and with --json or -v what was looked for."""
    from holdfast.cli import configuring

    loaded = invocation.load_config(inspect=True)
    if invocation.output.is_table and not invocation.flags.verbose:
        if loaded.file:
            invocation.output.text(loaded.file)
        else:
            invocation.say("there is no configuration file; make one: holdfast init")
        return
    rows = configuring.places(loaded, invocation.cwd)
    invocation.output.records(rows, ["path", "state"], key="path", file=loaded.file)


@command.command()
@click.pass_obj
def profiles(invocation: Invocation) -> None:
    """List the profiles that --profile can choose."""
    from holdfast.cli import configuring

    loaded = invocation.load_config(inspect=True)
    rows = configuring.profiles(loaded, invocation.cwd)
    invocation.output.records(rows, ["profile", "active", "places"], key="profile")

"""`holdfast init`: the files and the store of a new project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

if TYPE_CHECKING:
    from holdfast.config.schema import Config

_DONE = {
    "create": "created",
    "append": "changed",
    "refresh": "renewed",
    "keep": "kept",
    "prepare": "prepared",
}
_PLANNED = {
    "create": "would create",
    "append": "would change",
    "refresh": "would renew",
    "keep": "would keep",
    "prepare": "would prepare",
}


@click.command("init", cls=Command)
@click.option("--example", is_flag=True, help="write hello.yaml and hello.py too")
@click.pass_obj
def command(invocation: Invocation, example: bool) -> None:
    """Make the configuration file and the store of a project.

    Writes holdfast.yaml, .env.example, the lines of .gitignore that are missing and .holdfast/schema.json,
    from which editors know the settings, and brings the store to the schema of this version, unless
    storage.migrations.auto_run is off. What exists is kept as it is; running it again does no harm.
    """
    from holdfast.cli import project

    # A configuration that is wrong already is reported before anything is written beside it.
    loaded = invocation.load_config()
    loaded.refuse("storage.partitioning.enabled")
    config = loaded.config
    steps = project.plan(invocation.cwd, example=example)
    done: list[tuple[str, str]] = [(step.file, step.action) for step in steps]
    migrations = config.storage.migrations
    if config.storage.type != "memory" and migrations.enabled and migrations.auto_run:
        done.append((str(config.storage.url), "prepare"))
    if not invocation.flags.dry_run:
        project.carry_out(steps, invocation.cwd)
        if done[-1][1] == "prepare":
            _prepare(config)
    _report(done, invocation)


def _prepare(config: Config) -> None:
    import asyncio

    from holdfast.stores import open_store

    async def prepare() -> None:
        async with open_store(config, migrate=True):
            pass

    asyncio.run(prepare())


def _report(done: list[tuple[str, str]], invocation: Invocation) -> None:
    words = _PLANNED if invocation.flags.dry_run else _DONE
    if not invocation.output.is_table:
        rows = [{"name": name, "action": words[action]} for name, action in done]
        invocation.output.records(rows, ["name", "action"], key="name", dry_run=invocation.flags.dry_run)
        return
    for action, word in words.items():
        if names := [name for name, what in done if what == action]:
            invocation.output.text(f"{word} {', '.join(names)}")

"""`holdfast workflows`: what is registered or ever ran, and registering."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

if TYPE_CHECKING:
    from holdfast.records.workflows import StoredDefinition, WorkflowVersion
    from holdfast.store.store import Store


@click.group("workflows", cls=Group)
def command() -> None:
    """List, show or register workflows."""


@command.command("list")
@click.pass_obj
def list_(invocation: Invocation) -> None:
    """List every workflow that was registered or ever ran, with the definition that was stored last."""
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> list[dict[str, Any]]:
        return await store.list_workflows()

    columns = ["name", "version", "kind", "registered_versions", "executions", "updated_at"]
    invocation.output.records(with_store(invocation, read), columns, key="name")


@command.command()
@click.argument("name")
@click.option("--version", "version", metavar="V", help="a registered version instead of the newest")
@click.pass_obj
def show(invocation: Invocation, name: str, version: str | None) -> None:
    """Show a workflow and its definition: the newest registered one, else the one that ran last."""
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> dict[str, Any]:
        return await _describe(store, name, version)

    row = with_store(invocation, read)
    if not invocation.output.is_table:
        invocation.output.record(row, key="name")
        return
    import yaml

    facts = {key: value for key, value in row.items() if key != "document" and value not in (None, [])}
    invocation.output.record(facts, key="name")
    invocation.output.text(
        "\n" + yaml.safe_dump(row["document"], sort_keys=False, allow_unicode=True).rstrip()
    )


async def _describe(store: Store, name: str, version: str | None) -> dict[str, Any]:
    registered = await store.workflow_versions(name)
    chosen = next((each for each in registered if version in (None, each.version)), None)
    stored = await store.get_definition(chosen.definition) if chosen else None
    if stored is None and version is None:
        stored = await store.newest_definition(name)
    if stored is None:
        raise await _unknown(store, name, version, registered)
    return {
        "name": stored.name,
        "version": stored.version,
        "kind": stored.kind,
        "definition": bytes(stored.hash).hex(),
        "stored_at": stored.created_at,
        "registered": chosen is not None,
        "description": chosen.description if chosen else None,
        "author": chosen.author if chosen else None,
        "tags": list(chosen.tags) if chosen else [],
        "versions": [each.version for each in registered],
        "document": stored.document,
    }


async def _unknown(
    store: Store, name: str, version: str | None, registered: list[WorkflowVersion]
) -> Exception:
    import difflib

    from holdfast.errors import WorkflowNotFound

    if registered:
        known = ", ".join(each.version for each in registered[:10])
        return WorkflowNotFound(f"{name} has no version {version}", where=name, fix=f"choose from {known}")
    near = difflib.get_close_matches(name, [row["name"] for row in await store.list_workflows()], 1)
    fix = f"did you mean {near[0]}?" if near else None
    return WorkflowNotFound(f"no workflow {name!r} was registered or ever ran", where="workflows", fix=fix)


@command.command()
@click.argument("name")
@click.pass_obj
def versions(invocation: Invocation, name: str) -> None:
    """List the registered versions of a workflow, newest first."""
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> list[WorkflowVersion]:
        found = await store.workflow_versions(name)
        if not found and await store.newest_definition(name) is None:
            raise await _unknown(store, name, None, [])
        return found

    rows = [
        {
            "name": each.name,
            "version": each.version,
            "definition": bytes(each.definition).hex(),
            "description": each.description,
            "author": each.author,
            "tags": list(each.tags),
            "registered_at": each.created_at,
        }
        for each in with_store(invocation, read)
    ]
    invocation.output.records(rows, ["version", "definition", "author", "registered_at"], key="version")


@command.command()
@click.argument("file", metavar="FILE.yaml | FILE.py:WORKFLOW | MODULE:WORKFLOW")
@click.option("--description", metavar="TEXT", help="instead of the one in the file")
@click.option("--author", metavar="NAME", help="who answers for this version")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="may be given several times")
@click.pass_obj
def register(
    invocation: Invocation, file: str, description: str | None, author: str | None, tags: tuple[str, ...]
) -> None:
    """Register a version of a workflow, so that others can start it by name.

    A registered version never changes: another definition under the same version is refused with exit code 4,
    the same one again is no error. Makes and migrates the store like `run`.
    """
    from holdfast.cli.reading import with_store

    definition, told = _definition(file)
    row = {"name": definition.name, "version": definition.version, "definition": bytes(definition.hash).hex()}
    if invocation.flags.dry_run:
        invocation.output.record({**row, "result": "would be registered"}, key="name")
        return

    async def write(store: Store) -> bool:
        return await store.register_workflow(
            definition, description=description or told, author=author, tags=tags
        )

    new = with_store(invocation, write, migrate=True)
    result = "registered" if new else "was registered before"
    if invocation.output.is_table:
        invocation.output.text(f"{definition.name} {definition.version} {result}")
    else:
        invocation.output.record({**row, "result": result}, key="name")


def _definition(file: str) -> tuple[StoredDefinition, str | None]:
    from holdfast.cli.targets import YAML_SUFFIXES, load_python

    if file.endswith(YAML_SUFFIXES):
        from holdfast.programs import yaml_program
        from holdfast.workflows.definition import load

        loaded = load(Path(file))
        return yaml_program(loaded).definition, loaded.description
    from holdfast.workflows.python_program import program_of

    workflow = load_python(file, Path.cwd())
    described = (workflow.fn.__doc__ or "").strip().partition("\n")[0]
    return program_of(workflow).definition, described or None

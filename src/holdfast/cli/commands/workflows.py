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
    """List, show, register, compare, mark or delete workflows.

    A registered version never changes; what a bare name starts is decided by deployments, and else by how
    versions are marked.
    """


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

    hidden = ("document", "parameters")
    facts = {key: value for key, value in row.items() if key not in hidden and value not in (None, [])}
    invocation.output.record(facts, key="name")
    invocation.output.text(
        "\n" + yaml.safe_dump(row["document"], sort_keys=False, allow_unicode=True).rstrip()
    )


async def _describe(store: Store, name: str, version: str | None) -> dict[str, Any]:
    from holdfast.fleet import versions

    registered = await store.workflow_versions(name)
    chosen = next((each for each in registered if version in (None, each.version)), None)
    stored = await store.get_definition(chosen.definition) if chosen else None
    if stored is None and version is None:
        stored = await store.newest_definition(name)
    if stored is None:
        raise await versions.unknown(store, name, version, registered)
    return {
        "name": stored.name,
        "version": stored.version,
        "kind": stored.kind,
        "definition": bytes(stored.hash).hex(),
        "stored_at": stored.created_at,
        "registered": chosen is not None,
        "status": chosen.status if chosen else None,
        "deployed": await versions.deployed_version(store, name),
        "description": chosen.description if chosen else None,
        "author": chosen.author if chosen else None,
        "tags": list(chosen.tags) if chosen else [],
        "environment": chosen.environment if chosen else None,
        "triggers": list(chosen.triggers) if chosen else [],
        "parameters": chosen.parameters if chosen else {},
        "versions": [each.version for each in registered],
        "document": stored.document,
    }


@command.command()
@click.argument("name")
@click.pass_obj
def versions(invocation: Invocation, name: str) -> None:
    """List the registered versions of a workflow, newest first."""
    from holdfast.cli.reading import with_store
    from holdfast.fleet.versions import unknown

    async def read(store: Store) -> list[WorkflowVersion]:
        found = await store.workflow_versions(name)
        if not found and await store.newest_definition(name) is None:
            raise await unknown(store, name, None, [])
        return found

    rows = [
        {
            "name": each.name,
            "version": each.version,
            "definition": bytes(each.definition).hex(),
            "status": each.status,
            "description": each.description,
            "author": each.author,
            "tags": list(each.tags),
            "environment": each.environment,
            "registered_at": each.created_at,
        }
        for each in with_store(invocation, read)
    ]
    invocation.output.records(
        rows, ["version", "status", "definition", "author", "registered_at"], key="version"
    )


@command.command()
@click.argument("file", metavar="FILE.yaml | FILE.py:WORKFLOW | MODULE:WORKFLOW")
@click.option("--description", metavar="TEXT", help="instead of the one in the file")
@click.option("--author", metavar="NAME", help="who answers for this version")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="may be given several times")
@click.option("--draft", is_flag=True, help="started by name and version alone, until it is marked active")
@click.option("--trigger", "triggers", multiple=True, metavar="JSON", help="what is meant to start it")
@click.option("--environment", metavar="NAME", help="where it is deployed unless said otherwise")
@click.pass_obj
def register(
    invocation: Invocation,
    /,
    file: str,
    description: str | None,
    draft: bool,
    triggers: tuple[str, ...],
    **facts: Any,
) -> None:
    """Register a version of a workflow, so that others can start it by name.

    A registered version never changes: another definition under the same version is refused with exit code 4,
    the same one again is no error. Makes and migrates the store like `run`.
    """
    from holdfast.cli.json_options import json_object
    from holdfast.cli.reading import with_store
    from holdfast.records.workflows import WorkflowStatus

    definition, told, parameters = _definition(file)
    wanted = [json_object("--trigger", text) or {} for text in triggers]
    row = {"name": definition.name, "version": definition.version, "definition": bytes(definition.hash).hex()}
    if invocation.flags.dry_run:
        invocation.output.record({**row, "result": "would be registered"}, key="name")
        return

    async def write(store: Store) -> bool:
        return await store.register_workflow(
            definition, description=description or told, parameters=parameters, triggers=wanted,
            status=WorkflowStatus.DRAFT if draft else WorkflowStatus.ACTIVE, **facts,
        )  # fmt: skip

    new = with_store(invocation, write, migrate=True)
    result = "registered" if new else "was registered before"
    if invocation.output.is_table:
        invocation.output.text(f"{definition.name} {definition.version} {result}")
    else:
        invocation.output.record({**row, "result": result}, key="name")


@command.command()
@click.argument("name")
@click.argument("old", metavar="V1")
@click.argument("new", metavar="V2")
@click.pass_obj
def diff(invocation: Invocation, name: str, old: str, new: str) -> None:
    """Show what changed in a workflow from one registered version to another."""
    from holdfast.cli.reading import with_store
    from holdfast.domain.workflows import Workflows

    text = with_store(invocation, lambda store: Workflows(store).diff(name, old, new))
    if invocation.output.is_table:
        invocation.output.text(text or f"{name} {old} and {new} are the same")
    else:
        invocation.output.record({"name": name, "old": old, "new": new, "diff": text}, key="name")


@command.command()
@click.argument("text", nargs=-1, required=True, metavar="TEXT…")
@click.option("--limit", type=int, default=50, show_default=True, help="at most this many, 1 to 1000")
@click.option("--cursor", metavar="CURSOR", help="go on behind the page that gave this next_cursor")
@click.pass_obj
def search(invocation: Invocation, text: tuple[str, ...], limit: int, cursor: str | None) -> None:
    """Search names, descriptions and tags of registered versions for all words of TEXT, best first."""
    from holdfast.cli.reading import with_store
    from holdfast.cli.record_values import printed
    from holdfast.domain.workflows import Workflows

    found = with_store(
        invocation, lambda store: Workflows(store).search(" ".join(text), limit=limit, cursor=cursor)
    )
    rows = [printed(each) for each in found.items]
    columns = ["name", "version", "status", "description", "tags"]
    invocation.output.records(rows, columns, key="name", next_cursor=found.cursor)
    if found.cursor and invocation.output.is_table:
        invocation.say(f"more: --cursor {found.cursor}")


@command.command()
@click.argument("workflow", metavar="NAME@VERSION")
@click.argument("status", type=click.Choice(["draft", "active", "deprecated", "archived"]))
@click.pass_obj
def mark(invocation: Invocation, workflow: str, status: str) -> None:
    """Say how far along a version is, which decides what the bare name starts.

    It starts the deployed version, else the newest active one, else the newest deprecated one. A draft is
    started by name and version alone, and an archived version starts nothing new; neither can be deployed.
    """
    from holdfast.cli.reading import with_store
    from holdfast.domain.workflows import Workflows
    from holdfast.records.workflows import WorkflowStatus

    name, version = _named(workflow)

    async def work(store: Store) -> WorkflowVersion:
        workflows = Workflows(store)
        if invocation.flags.dry_run:
            return await workflows.version(name, version)
        return await workflows.mark(name, version, WorkflowStatus(status))

    with_store(invocation, work)
    _tell(invocation, name, [version], status)


@command.command()
@click.argument("workflow", metavar="NAME[@VERSION]")
@click.pass_obj
def delete(invocation: Invocation, workflow: str) -> None:
    """Delete a version, or all versions of a workflow; `workflows restore` takes it back.

    What ran stays and can be read and resumed. Exit code 4 while an execution of it has not ended, or while
    it is deployed.
    """
    from holdfast.cli.reading import with_store
    from holdfast.domain.workflows import Workflows

    name, _, version = workflow.partition("@")

    async def work(store: Store) -> list[str]:
        if invocation.flags.dry_run:
            known = await store.workflow_versions(name)
            return [each.version for each in known if version in ("", each.version)]
        return await Workflows(store).delete(name, version or None)

    _tell(invocation, name, with_store(invocation, work), "deleted")


@command.command()
@click.argument("workflow", metavar="NAME@VERSION")
@click.pass_obj
def restore(invocation: Invocation, workflow: str) -> None:
    """Take the deletion of a version back."""
    from holdfast.cli.reading import with_store
    from holdfast.domain.workflows import Workflows

    name, version = _named(workflow)
    if not invocation.flags.dry_run:
        with_store(invocation, lambda store: Workflows(store).restore(name, version))
    _tell(invocation, name, [version], "restored")


def _named(workflow: str) -> tuple[str, str]:
    from holdfast.errors import InvalidUsage

    name, _, version = workflow.partition("@")
    if not version:
        raise InvalidUsage(
            f"{workflow!r} names no version", where="NAME@VERSION", fix=f"holdfast workflows versions {name}"
        )
    return name, version


def _tell(invocation: Invocation, name: str, versions: list[str], done: str) -> None:
    dry = invocation.flags.dry_run
    result = f"would be {done}" if dry else done
    if invocation.output.is_table:
        invocation.output.text("\n".join(f"{name} {version} {result}" for version in versions))
        return
    rows = [{"name": name, "version": version, "result": result} for version in versions]
    invocation.output.records(rows, ["name", "version", "result"], key="version")


def _definition(file: str) -> tuple[StoredDefinition, str | None, dict[str, Any]]:
    """The definition in a file, what it says of itself, and the schema of its inputs."""
    from holdfast.cli.targets import YAML_SUFFIXES, load_python

    if file.endswith(YAML_SUFFIXES):
        from holdfast.programs import yaml_program
        from holdfast.workflows.definition import load

        loaded = load(Path(file))
        return yaml_program(loaded).definition, loaded.description, dict(loaded.inputs or {})
    from holdfast.workflows.python_program import program_of

    workflow = load_python(file, Path.cwd())
    described = (workflow.fn.__doc__ or "").strip().partition("\n")[0]
    return program_of(workflow).definition, described or None, workflow.signature.schema

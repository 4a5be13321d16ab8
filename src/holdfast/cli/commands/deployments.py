"""`holdfast deployments`: which version of a workflow an environment runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group

if TYPE_CHECKING:
    from holdfast.records.workflows import Deployment
    from holdfast.store.store import Store

command = group("deployments")
_ENVIRONMENT = click.option(
    "--environment", metavar="NAME", help="instead of the version's own, or else the configured one"
)


@command.command()
@click.argument("workflow", metavar="NAME@VERSION")
@_ENVIRONMENT
@click.option("--by", metavar="WHO", help="who deploys it  [default: the user of this process]")
@click.pass_obj
def create(invocation: Invocation, workflow: str, environment: str | None, by: str | None) -> None:
    """Deploy a registered version: from now on the bare name starts it in that environment.

    What runs goes on with the version it began with. Exit code 4 for a draft or an archived version.
    """
    from holdfast.cli.reading import with_store
    from holdfast.cli.running import user
    from holdfast.domain.deployments import Deployments
    from holdfast.domain.workflows import Workflows
    from holdfast.errors import InvalidUsage
    from holdfast.records.workflows import Deployment

    name, _, version = workflow.partition("@")
    if not version:
        raise InvalidUsage(
            f"{workflow!r} names no version", where="NAME@VERSION", fix=f"holdfast workflows versions {name}"
        )

    async def work(store: Store) -> Deployment:
        if invocation.flags.dry_run:
            known = await Workflows(store).version(name, version)
            place = environment or known.environment or store.options.environment
            return Deployment(workflow=name, version=version, environment=place, deployed_by=by)
        return await Deployments(store).deploy(name, version, environment, by=by or user())

    _tell(invocation, with_store(invocation, work), "deployed")


@command.command()
@click.argument("workflow", metavar="NAME")
@_ENVIRONMENT
@click.option("--by", metavar="WHO", help="who takes it back  [default: the user of this process]")
@click.pass_obj
def rollback(invocation: Invocation, workflow: str, environment: str | None, by: str | None) -> None:
    """Take the active deployment of a workflow back, and return to the one before it.

    Without one before it, the bare name means the newest active version again.
    """
    from holdfast.cli.reading import with_store
    from holdfast.cli.running import user
    from holdfast.domain.deployments import Deployments
    from holdfast.errors import DeploymentNotFound

    async def work(store: Store) -> tuple[Deployment, Deployment | None]:
        deployments = Deployments(store)
        active = await deployments.active(workflow, environment)
        if active is None:
            place = environment or store.options.environment
            raise DeploymentNotFound(f"no version of {workflow} is deployed in {place}", where=workflow)
        if invocation.flags.dry_run:
            return active, active
        return active, await deployments.rollback(workflow, environment, by=by or user())

    ended, now = with_store(invocation, work)
    if now is not None and not invocation.flags.dry_run:
        _tell(invocation, now, "deployed again")
    elif invocation.output.is_table:
        would = "would be " if invocation.flags.dry_run else ""
        invocation.output.text(f"{ended.workflow} {ended.version} {would}rolled back in {ended.environment}")
    else:
        dry = {"dry_run": True} if invocation.flags.dry_run else {}
        facts = {"workflow": ended.workflow, "environment": ended.environment, "rolled_back": ended.version}
        invocation.output.record({**facts, "active": None, **dry}, key="workflow")


def _tell(invocation: Invocation, deployment: Deployment, done: str) -> None:
    from holdfast.cli.record_values import printed

    dry = invocation.flags.dry_run
    if invocation.output.is_table:
        would = "would be " if dry else ""
        told = f"{deployment.workflow} {deployment.version} {would}{done} in {deployment.environment}"
        invocation.output.text(told)
    else:
        invocation.output.record({**printed(deployment), **({"dry_run": True} if dry else {})})

"""Deployments: which version of a workflow an environment runs.

The active one is what a bare name starts in processes of that environment (`environment` in the
configuration). The database lets there be one at most for each workflow and environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import DeploymentNotFound, InvalidArgument, WorkflowNotFound, WorkflowUnavailable
from holdfast.records.declare import table_of
from holdfast.records.workflows import Deployment, DeploymentStatus, WorkflowStatus, WorkflowVersion
from holdfast.store.drivers.base import Transaction
from holdfast.store.filters import Condition, Query
from holdfast.store.pages import Page
from holdfast.store.repository import Repository
from holdfast.store.store import Store

_DEPLOYABLE = (WorkflowStatus.ACTIVE, WorkflowStatus.DEPRECATED)
_BYTES_MAX = 255
_LOOKED_AT = 100
"""How many superseded deployments a rollback looks through, at most."""


class Deployments:
    """The deployments of a store's tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def deploy(
        self, name: str, version: str, environment: str | None = None, *, by: str | None = None
    ) -> Deployment:
        """Have a version run in an environment from now on; what runs there already goes on as it began.

        The environment is by default the version's own, else that of this store. Deploying the version that
        is active there changes nothing. Raises `WorkflowNotFound`, `WorkflowUnavailable` for a draft or an
        archived version, and `InvalidArgument` for what is no name of an environment.
        """
        if environment is not None and not (environment.isprintable() and _fits(environment)):
            raise InvalidArgument(
                f"{environment[:60]!r} can not be an environment",
                fix=f"use 1 to {_BYTES_MAX} bytes of printable text",
            )
        async with self._store.transaction() as transaction:
            known = (await self._lock(transaction, name)).get(version)
            if known is None:
                raise WorkflowNotFound(f"{name} has no version {version}", where=name)
            if known.status not in _DEPLOYABLE:
                raise WorkflowUnavailable(f"version {version} of {name} is {_told(known.status)}", where=name)
            place = environment or known.environment or self._store.options.environment
            deployments = self._store.repo(Deployment, within=transaction, unsealed=True)
            for each in await self._of(deployments, name, place, DeploymentStatus.ACTIVE):
                if each.version == version:
                    return each
                await self._end(transaction, each, DeploymentStatus.SUPERSEDED, by)
            made = Deployment(workflow=name, version=version, environment=place, deployed_by=by)
            return await deployments.create(made)

    async def rollback(
        self, name: str, environment: str | None = None, *, by: str | None = None
    ) -> Deployment | None:
        """Go back to what was deployed before the active one; None when there was nothing to go back to.

        Versions that were deleted or archived since are passed over. Raises `DeploymentNotFound` when
        nothing is deployed there.
        """
        place = environment or self._store.options.environment
        async with self._store.transaction() as transaction:
            versions = await self._lock(transaction, name)
            deployments = self._store.repo(Deployment, within=transaction)
            active = await self._of(deployments, name, place, DeploymentStatus.ACTIVE)
            if not active:
                raise DeploymentNotFound(f"no version of {name} is deployed in {place}", where=name)
            before = await self._of(deployments, name, place, DeploymentStatus.SUPERSEDED)
            await self._end(transaction, active[0], DeploymentStatus.ROLLED_BACK, by)
            for each in before:
                known = versions.get(each.version)
                if known is not None and known.status in _DEPLOYABLE:
                    await transaction.fetch("deployments.reactivate", self._store.tenant, each.id)
                    return await deployments.get(each.id)
        return None

    async def active(self, name: str, environment: str | None = None) -> Deployment | None:
        """What is deployed in an environment, by default this store's; None if nothing is."""
        place = environment or self._store.options.environment
        found = await self._of(self._store.repo(Deployment), name, place, DeploymentStatus.ACTIVE, limit=1)
        return found[0] if found else None

    async def find(self, query: str | Sequence[str] = "", **page: Any) -> Page[Deployment]:
        """A page of the deployments that fit, such as `workflow:report status:active`, newest first."""
        return await self._store.repo(Deployment).find(query, **page)

    async def _lock(self, transaction: Transaction, name: str) -> dict[str, WorkflowVersion]:
        """The registered versions of a name, locked: of two who deploy it one comes after the other."""
        await transaction.fetch("workflows.lock", self._store.tenant, name)
        found = await self._store.repo(WorkflowVersion, within=transaction).get_by("name", [name])
        return {each.version: each for each in found[name]}

    @staticmethod
    async def _of(
        deployments: Repository[Deployment],
        name: str,
        environment: str,
        status: DeploymentStatus,
        *,
        limit: int = _LOOKED_AT,
    ) -> list[Deployment]:
        """Newest first; behind the lock it is what the one before has left."""
        column = table_of(Deployment).column
        asked = Query((
            Condition(column("workflow"), "=", name),
            Condition(column("environment"), "=", environment),
            Condition(column("status"), "=", status),
        ))  # fmt: skip
        return (await deployments.find(asked, limit=limit)).items

    async def _end(
        self, transaction: Transaction, deployment: Deployment, status: DeploymentStatus, by: str | None
    ) -> None:
        await transaction.fetch("deployments.end", self._store.tenant, deployment.id, status, by)


def _fits(text: str) -> bool:
    return 1 <= len(text.encode()) <= _BYTES_MAX


def _told(status: WorkflowStatus) -> str:
    return "a draft" if status is WorkflowStatus.DRAFT else str(status)

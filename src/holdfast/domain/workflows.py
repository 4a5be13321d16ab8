"""Registered versions of workflows: which one a name means, what changed between two, and how each stands."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from holdfast.errors import InvalidArgument, WorkflowInUse, WorkflowNotFound
from holdfast.fleet import versions
from holdfast.records.workflows import (
    Deployment,
    DeploymentStatus,
    StoredDefinition,
    WorkflowStatus,
    WorkflowVersion,
)
from holdfast.store.drivers.base import Transaction
from holdfast.store.pages import Page
from holdfast.store.store import Store
from holdfast.workflows.definition import FOLDER_KEY


class Workflows:
    """The registered versions of a store's tenant; `Store.register_workflow` makes them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Looking.

    async def version(self, name: str, version: str | None = None) -> WorkflowVersion:
        """One registered version; without a `version` the one that the bare name starts.

        Raises `WorkflowNotFound`, and `WorkflowUnavailable` when the bare name starts none of them.
        """
        known = await self._store.workflow_versions(name)
        chosen = await versions.choose(self._store, name, version, known)
        if chosen is None:
            raise await versions.unknown(self._store, name, version, known)
        return chosen

    async def resolve(self, name: str, version: str | None = None) -> StoredDefinition:
        """The definition that a start by name means; see `fleet.versions.resolve`."""
        return await versions.resolve(self._store, name, version)

    async def deployed_version(self, name: str, environment: str | None = None) -> str | None:
        """The version that is deployed in an environment, by default this store's; None without one."""
        return await versions.deployed_version(self._store, name, environment)

    async def search(self, text: str, **page: Any) -> Page[WorkflowVersion]:
        """The versions whose name, description and tags have all words of `text`; see `Repository.search`."""
        return await self._store.repo(WorkflowVersion).search(text, **page)

    async def diff(self, name: str, old: str, new: str) -> str:
        """What changed from one version to another, as a unified diff of readable YAML; empty if nothing.

        Raises `WorkflowNotFound`.
        """
        sides = []
        for version in (old, new):
            known = await self.version(name, version)
            stored = await self._store.get_definition(known.definition)
            if stored is None:
                raise WorkflowNotFound(f"the definition of {name} {version} is not stored", where=name)
            sides.append((f"{name} {version}", _readable(known, stored)))
        (old_title, before), (new_title, after) = sides
        return "\n".join(difflib.unified_diff(before, after, old_title, new_title, lineterm=""))

    # Changing.

    async def mark(self, name: str, version: str, status: WorkflowStatus) -> WorkflowVersion:
        """Say how far along a version is. Raises `WorkflowInUse` when it is deployed and would not start."""
        async with self._store.transaction() as transaction:
            known = await self._locked(transaction, name, version)
            if status not in versions.STARTED_BY_NAME:
                await self._check_not_deployed(transaction, name, version)
            workflows = self._store.repo(WorkflowVersion, within=transaction, unsealed=True)
            return await workflows.update(replace(known, status=WorkflowStatus(status)))

    async def describe(self, name: str, version: str, /, **changes: Any) -> WorkflowVersion:
        """Change `description`, `tags`, `triggers` or `environment` of a version; nothing else can change."""
        allowed = ("description", "tags", "triggers", "environment")
        for field in changes:
            if field not in allowed:
                raise InvalidArgument(
                    f"{field} of a version can not be changed this way",
                    where=field,
                    fix=f"change {', '.join(allowed)}",
                )
        async with self._store.transaction() as transaction:
            known = await self._locked(transaction, name, version)
            workflows = self._store.repo(WorkflowVersion, within=transaction, unsealed=True)
            return await workflows.update(replace(known, **changes))

    async def delete(self, name: str, version: str | None = None) -> list[str]:
        """Delete a version, or all versions of a name; which ones it were.

        What ran stays, with its definition, and so does what is running: only nothing new is started by
        this name. `restore` takes it back, and no other definition gets the version. Raises `WorkflowInUse`
        while an execution of it has not ended or it is deployed; one that starts at this very moment goes
        on.
        """
        async with self._store.transaction() as transaction:
            if version is not None:
                chosen = [await self._locked(transaction, name, version)]
            else:
                chosen = await self._lock(transaction, name)
                if not chosen:
                    raise await versions.unknown(self._store, name, None, [])
            await self._check_not_deployed(transaction, name, version)
            rows = await transaction.fetch("workflows.used_by", self._store.tenant, name, version)
            if rows:
                told = f"version {version} of {name}" if version else name
                raise WorkflowInUse(
                    f"execution {rows[0][0]} of {told} has not ended", where=name, execution=rows[0][0]
                )
            workflows = self._store.repo(WorkflowVersion, within=transaction, unsealed=True)
            for each in chosen:
                await workflows.delete(each.id)
        return [each.version for each in chosen]

    async def restore(self, name: str, version: str) -> WorkflowVersion:
        """Take the deletion of a version back. Raises `WorkflowNotFound` when it was not deleted."""
        rows = await self._store.driver.fetch("workflows.deleted", self._store.tenant, name, version)
        if not rows:
            raise WorkflowNotFound(f"no version {version} of {name} was deleted", where=name)
        return await self._store.repo(WorkflowVersion, unsealed=True).restore(rows[0][0])

    # What these have in common.

    async def _lock(self, transaction: Transaction, name: str) -> list[WorkflowVersion]:
        await transaction.fetch("workflows.lock", self._store.tenant, name)
        found = await self._store.repo(WorkflowVersion, within=transaction).get_by("name", [name])
        return found[name]

    async def _locked(self, transaction: Transaction, name: str, version: str) -> WorkflowVersion:
        known = await self._lock(transaction, name)
        for each in known:
            if each.version == version:
                return each
        raise await versions.unknown(self._store, name, version, known)

    async def _check_not_deployed(self, transaction: Transaction, name: str, version: str | None) -> None:
        deployments = self._store.repo(Deployment, within=transaction)
        for each in (await deployments.get_by("workflow", [name]))[name]:
            if each.status is DeploymentStatus.ACTIVE and version in (None, each.version):
                raise WorkflowInUse(
                    f"version {each.version} of {name} is deployed in {each.environment}",
                    where=name,
                    fix=f"holdfast deployments rollback {name} --environment {each.environment}",
                    environment=each.environment,
                )


def _readable(known: WorkflowVersion, stored: StoredDefinition) -> list[str]:
    import yaml

    document = {key: value for key, value in stored.document.items() if key != FOLDER_KEY}
    if stored.kind == "python" and known.parameters:
        document["parameters"] = known.parameters
    text: str = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=100)
    return text.splitlines()

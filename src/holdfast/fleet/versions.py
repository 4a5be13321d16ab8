"""Which stored definition a workflow's name means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from holdfast.errors import WorkflowNotFound, WorkflowUnavailable
from holdfast.records.workflows import StoredDefinition, WorkflowStatus, WorkflowVersion
from holdfast.store.store import Store

_NAMED_MAX = 10
STARTED_BY_NAME = (WorkflowStatus.ACTIVE, WorkflowStatus.DEPRECATED)
"""What a bare name can mean, the better first."""


async def resolve(store: Store, name: str, version: str | None = None) -> StoredDefinition:
    """The definition that a start by name means.

    Without a `version` it is the one deployed in this store's environment, else the newest active one, else
    the newest deprecated one; of a name that was never registered what ran last. Raises `WorkflowNotFound`,
    and `WorkflowUnavailable` for an archived version and when all are drafts or archived.
    """
    versions = await store.workflow_versions(name)
    chosen = await choose(store, name, version, versions)
    if chosen is not None and chosen.status is WorkflowStatus.ARCHIVED:
        raise WorkflowUnavailable(f"version {chosen.version} of {name} is archived", where=name)
    found = await store.get_definition(chosen.definition) if chosen else None
    if found is None and version is None:
        found = await store.newest_definition(name)
    if found is None:
        raise await unknown(store, name, version, versions)
    return found


async def deployed_version(store: Store, name: str, environment: str | None = None) -> str | None:
    """The version that is deployed in an environment, by default the store's; None without one."""
    asked = environment or store.options.environment
    rows = await store.driver.fetch("deployments.active_version", store.tenant, name, asked)
    return str(rows[0][0]) if rows else None


async def choose(
    store: Store, name: str, version: str | None, versions: Sequence[WorkflowVersion]
) -> WorkflowVersion | None:
    """The one of all registered versions that is meant; None when it is not among them.

    Raises `WorkflowUnavailable` when a bare name means none of them.
    """
    if version is not None:
        return next((each for each in versions if each.version == version), None)
    if not versions:
        return None
    deployed = await deployed_version(store, name)
    for each in versions:
        if each.version == deployed:
            return each
    for status in STARTED_BY_NAME:
        for each in versions:
            if each.status is status:
                return each
    raise WorkflowUnavailable(
        f"all versions of {name} are drafts or archived",
        where=name,
        fix=f"name a version, or: holdfast workflows mark {name}@{versions[0].version} active",
    )


async def unknown(
    store: Store, name: str, version: str | None, versions: Sequence[WorkflowVersion]
) -> WorkflowNotFound:
    """The error for a name or a version that is not there; it names what is near."""
    if versions:
        known = ", ".join(each.version for each in versions[:_NAMED_MAX])
        return WorkflowNotFound(f"{name} has no version {version}", where=name, fix=f"choose from {known}")
    near = difflib.get_close_matches(name, [row["name"] for row in await store.list_workflows()], 1)
    return WorkflowNotFound(
        f"no workflow {name!r} was registered or ever ran",
        where=name,
        fix=f"did you mean {near[0]}?" if near else "holdfast workflows register FILE",
    )

"""Versions of workflows and their deployments: what a name starts, what changed, who may go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.deployments import Deployments
from holdfast.domain.workflows import Workflows
from holdfast.errors import (
    ConstraintViolated,
    DeploymentNotFound,
    InvalidArgument,
    SealedRecord,
    VersionTaken,
    WorkflowInUse,
    WorkflowNotFound,
    WorkflowUnavailable,
)
from holdfast.records.workflows import (
    Deployment,
    DeploymentStatus,
    StoredDefinition,
    WorkflowStatus,
    WorkflowVersion,
)
from holdfast.store import codec
from holdfast.store.store import Store
from tests.conformance.hands import hand
from tests.conformance.test_store import opened, put

pytestmark = pytest.mark.anyio


def flow(version: str, said: str = "hello", name: str = "flow") -> StoredDefinition:
    document = {"name": name, "steps": [{"id": "s", "shell": f"printf {said}"}], "version": version}
    return StoredDefinition(
        hash=codec.digest(repr(document).encode())[:16], name=name, version=version, kind="yaml",
        document=document, created_at=datetime.now(UTC),
    )  # fmt: skip


async def register(store: Store, *versions: str, name: str = "flow", **facts: Any) -> None:
    for version in versions:
        assert await store.register_workflow(flow(version, name=name), **facts)


async def meant(store: Store, name: str = "flow", version: str | None = None) -> str:
    return (await Workflows(store).resolve(name, version)).version


async def test_a_version_has_all_that_was_said_of_it(store_url: str) -> None:
    async with hand(store_url) as store:
        facts: dict[str, Any] = {
            "description": "Says hello", "author": "ana", "tags": ("a", "ß"), "status": WorkflowStatus.DRAFT,
            "triggers": ({"cron": "0 2 * * *"}, {"signal": "go"}), "environment": "staging",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
        }  # fmt: skip
        await register(store, "1", **facts)
        (known,) = await store.workflow_versions("flow")
        assert {name: getattr(known, name) for name in facts} == facts
        assert (known.revision, known.definition) == (1, flow("1").hash)
        assert not await store.register_workflow(flow("1"), description="another")
        assert (await store.workflow_version("flow", "1")) == known
        with pytest.raises(VersionTaken):
            await store.register_workflow(flow("1", "bye"))
        with pytest.raises(SealedRecord):
            await store.repo(WorkflowVersion).update(known)
        changed = await Workflows(store).describe("flow", "1", description="Greets", tags=("b",))
        assert (changed.description, changed.tags, changed.revision) == ("Greets", ("b",), 2)
        for field in ("definition", "author", "status", "name"):
            with pytest.raises(InvalidArgument, match="can not be changed"):
                await Workflows(store).describe("flow", "1", **{field: "x"})


async def test_a_bare_name_means_the_deployed_version_else_the_newest_active_one(store_url: str) -> None:
    async with hand(store_url) as store:
        workflows, deployments = Workflows(store), Deployments(store)
        await register(store, "1", "2", "3")
        assert await meant(store) == "3"
        await workflows.mark("flow", "3", WorkflowStatus.DRAFT)
        assert (await meant(store), await meant(store, version="3")) == ("2", "3")
        await workflows.mark("flow", "2", WorkflowStatus.DEPRECATED)
        assert await meant(store) == "1"
        await workflows.mark("flow", "1", WorkflowStatus.ARCHIVED)
        assert await meant(store) == "2"
        await deployments.deploy("flow", "2", by="ana")
        await workflows.mark("flow", "3", WorkflowStatus.ACTIVE)
        assert (await meant(store), await workflows.deployed_version("flow")) == ("2", "2")
        await deployments.deploy("flow", "3", "staging")
        assert await meant(store) == "2"
        with pytest.raises(WorkflowUnavailable, match="archived"):
            await meant(store, version="1")
        with pytest.raises(WorkflowNotFound, match="no version 9"):
            await meant(store, version="9")
        with pytest.raises(WorkflowNotFound) as near:
            await meant(store, "flw")
        assert near.value.fix == "did you mean flow?"
    async with opened(store_url, environment="staging") as store:
        if not store_url.startswith("memory"):
            assert await meant(store) == "3"


async def test_without_a_startable_version_a_bare_name_says_so(store_url: str) -> None:
    async with hand(store_url) as store:
        await register(store, "1", "2", status=WorkflowStatus.DRAFT)
        with pytest.raises(WorkflowUnavailable, match="drafts or archived") as refused:
            await meant(store)
        assert "flow@2 active" in refused.value.fix
        await store.put_definition(flow("7", name="ran"))
        assert await meant(store, "ran") == "7"  # never registered: what ran last


async def test_deployments_supersede_and_roll_back_in_turn(store_url: str) -> None:
    async with hand(store_url) as store:
        deployments = Deployments(store)
        await register(store, "1", "2", "3")
        first = await deployments.deploy("flow", "1", by="ana")
        assert (first.environment, first.deployed_by, first.ended_at) == ("production", "ana", None)
        assert await deployments.deploy("flow", "1") == first
        await deployments.deploy("flow", "2", by="bob")
        await deployments.deploy("flow", "3", by="bob")
        ended = await store.repo(Deployment).get(first.id)
        assert (ended.status, ended.ended_by) == (DeploymentStatus.SUPERSEDED, "bob")
        assert ended.ended_at is not None
        back = await deployments.rollback("flow", by="eve")
        assert back is not None
        assert (back.version, back.status, back.ended_at, back.ended_by) == (
            "2",
            DeploymentStatus.ACTIVE,
            None,
            None,
        )
        assert await deployments.active("flow") == back
        assert await meant(store) == "2"
        await Workflows(store).mark("flow", "1", WorkflowStatus.ARCHIVED)
        assert await deployments.rollback("flow") is None  # "1" is archived, and passed over
        assert await deployments.active("flow") is None
        assert await meant(store) == "3"
        with pytest.raises(DeploymentNotFound):
            await deployments.rollback("flow")
        told = await deployments.find("workflow:flow", sort="created_at")
        assert [(each.version, str(each.status)) for each in told.items] == [
            ("1", "superseded"), ("2", "rolled_back"), ("3", "rolled_back"),
        ]  # fmt: skip


async def test_a_deployment_goes_where_its_version_belongs(store_url: str) -> None:
    async with hand(store_url) as store:
        deployments = Deployments(store)
        await register(store, "1", environment="staging")
        assert (await deployments.deploy("flow", "1")).environment == "staging"
        assert (await deployments.deploy("flow", "1", "eu")).environment == "eu"
        assert await deployments.active("flow") is None
        await register(store, "2", status=WorkflowStatus.DRAFT)
        for version, error in (("2", WorkflowUnavailable), ("9", WorkflowNotFound)):
            with pytest.raises(error):
                await deployments.deploy("flow", version)
        for wrong in ("e" * 256, "a\0", ""):
            with pytest.raises(InvalidArgument, match="can not be an environment"):
                await deployments.deploy("flow", "1", wrong)


async def test_the_database_lets_one_be_active(store_url: str) -> None:
    async with hand(store_url) as store:
        raw = store.repo(Deployment, unsealed=True)
        made = await raw.create(Deployment(workflow="w", version="1", environment="e"))
        await raw.create(Deployment(workflow="w", version="1", environment="E"))
        with pytest.raises(ConstraintViolated):
            await raw.create(Deployment(workflow="w", version="2", environment="e"))
        with pytest.raises(ConstraintViolated):  # ended, and yet active
            await raw.update(replace(made, ended_at=datetime.now(UTC)))


async def test_of_those_who_deploy_at_once_one_is_active(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        versions = [str(number) for number in range(8)]
        await register(mine, *versions)
        await asyncio.gather(
            *(
                Deployments(store).deploy("flow", version)
                for version, store in zip(versions, (mine, theirs) * 4, strict=True)
            )
        )
        found = (await Deployments(mine).find("workflow:flow")).items
        assert len(found) == 8
        assert [str(each.status) for each in found].count("active") == 1
        taken = await asyncio.gather(
            *(Deployments(store).rollback("flow") for store in (mine, theirs) * 4), return_exceptions=True
        )
        assert [each for each in taken if isinstance(each, Exception)] == []
        assert await Deployments(mine).active("flow") is None


async def test_deleting_and_deploying_at_once_gives_one_of_both(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        for number in range(8):
            name = f"flow{number}"
            await register(mine, "1", name=name)
            gone, there = await asyncio.gather(
                Workflows(mine).delete(name, "1"),
                Deployments(theirs).deploy(name, "1"),
                return_exceptions=True,
            )
            if isinstance(there, Deployment):
                assert isinstance(gone, WorkflowInUse)
                assert await meant(mine, name) == "1"
            else:
                assert (gone, type(there)) == (["1"], WorkflowNotFound)
                assert await Deployments(mine).active(name) is None


async def test_a_version_in_use_stays_and_what_ran_is_kept(store_url: str) -> None:
    async with hand(store_url) as store:
        workflows = Workflows(store)
        await register(store, "1", "2")
        await put(store, "runs", workflow="flow")  # of version 1
        with pytest.raises(WorkflowInUse, match="execution runs"):
            await workflows.delete("flow", "1")
        with pytest.raises(WorkflowInUse, match="execution runs"):
            await workflows.delete("flow")
        await Deployments(store).deploy("flow", "2")
        with pytest.raises(WorkflowInUse, match="deployed in production"):
            await workflows.delete("flow", "2")
        with pytest.raises(WorkflowInUse, match="deployed in production"):
            await workflows.mark("flow", "2", WorkflowStatus.ARCHIVED)
        await workflows.mark("flow", "2", WorkflowStatus.DEPRECATED)
        await Deployments(store).rollback("flow")
        assert await workflows.delete("flow", "2") == ["2"]
        assert await meant(store) == "1"
        with pytest.raises(WorkflowNotFound):
            await meant(store, version="2")
        assert await store.get_definition(flow("2").hash) is not None
        with pytest.raises(VersionTaken):
            await store.register_workflow(flow("2", "another"))
        assert await store.register_workflow(flow("2"))  # the same one is there again
        assert await workflows.delete("flow", "2") == ["2"]
        assert (await workflows.restore("flow", "2")).deleted_at is None
        for wrong in (
            workflows.restore("flow", "2"),
            workflows.delete("flow", "9"),
            workflows.delete("nothing"),
        ):
            with pytest.raises(WorkflowNotFound):
                await wrong


async def test_a_deleted_name_starts_nothing_though_it_ran(store_url: str) -> None:
    async with hand(store_url) as store:
        await register(store, "1", "2")
        await put(store, "ran", workflow="flow", status="completed")
        await register(store, "1", name="unused")
        assert await Workflows(store).delete("flow") == ["1", "2"]
        assert await Workflows(store).delete("unused") == ["1"]
        with pytest.raises(WorkflowNotFound):
            await meant(store)
        listed = await store.list_workflows()
        assert [(row["name"], row["registered_versions"], row["executions"]) for row in listed] == [
            ("flow", 0, 1)
        ]
        assert (await store.get_execution("ran")).workflow == "flow"


async def test_versions_are_compared_line_by_line(store_url: str) -> None:
    async with hand(store_url) as store:
        await store.register_workflow(flow("1"))
        await store.register_workflow(flow("2", "bye"))
        told = await Workflows(store).diff("flow", "1", "2")
        assert told.splitlines()[:2] == ["--- flow 1", "+++ flow 2"]
        assert {"-  shell: printf hello", "+  shell: printf bye"} <= set(told.splitlines())
        assert await Workflows(store).diff("flow", "1", "1") == ""
        with pytest.raises(WorkflowNotFound):
            await Workflows(store).diff("flow", "1", "9")


async def test_versions_are_found_by_their_words(store_url: str) -> None:
    async with hand(store_url) as store:
        await register(store, "1", name="daily-report", description="Counts the otters", tags=("Zürich",))
        await register(store, "2", name="daily-report", description="Counts the beavers")
        await register(store, "1", name="otters", description="All about the daily swim")
        workflows = Workflows(store)

        async def found(text: str) -> list[str]:
            return [f"{each.name} {each.version}" for each in (await workflows.search(text)).items]

        assert await found("otters") == ["otters 1", "daily-report 1"]  # in the name before elsewhere
        assert await found("daily report") == ["daily-report 2", "daily-report 1"]
        assert await found("ZÜRICH otters") == ["daily-report 1"]
        await workflows.describe("daily-report", "1", tags=("Genève",))
        assert (await found("zürich"), await found("genève")) == ([], ["daily-report 1"])
        await workflows.delete("otters")
        assert await found("otters") == ["daily-report 1"]


async def test_a_step_that_names_a_workflow_runs_the_deployed_version(shared_url: str, tmp_path: Any) -> None:
    text = "name: greet\nversion: '{}'\nsteps: [{{id: s, shell: 'printf {}'}}]\n"
    text += "outputs: '${{{{ steps.s.output }}}}'\n"
    parent = tmp_path / "parent.yaml"
    parent.write_text(
        "name: parent\nsteps: [{id: call, workflow: greet}]\noutputs: '${{ steps.call.output }}'\n"
    )
    async with hand(shared_url) as store, asyncio.timeout(60), hf.Orchestrator(store) as orchestrator:
        from holdfast.programs import yaml_program
        from holdfast.workflows.definition import parse

        for version, said in (("1", "one"), ("2", "two")):
            definition = parse(text.format(version, said), source="greet", folder=tmp_path)
            await store.register_workflow(yaml_program(definition).definition)

        async def says(new: bool = True) -> Any:
            outcome = await orchestrator.run(parent, new=new)
            assert outcome.error is None, outcome.error
            return codec.decode(outcome.output or b"")

        assert await says() == "two"
        await Deployments(store).deploy("greet", "1")
        assert await says() == "one"
        await Deployments(store).rollback("greet")
        assert await says() == "two"

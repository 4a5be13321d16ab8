"""What the migration of workflows, deployments and schedules makes of rows that are there before it."""

from __future__ import annotations

import pytest

from holdfast.domain.workflows import Workflows
from holdfast.errors import DowngradeRefused
from holdfast.records.workflows import WorkflowStatus
from holdfast.store.migrations import load, to, up
from holdfast.stores import build_store, config_for
from tests.migration.sessions import dialect_of, opened

pytestmark = pytest.mark.anyio

BEFORE = 6
ROWS = """
INSERT INTO {s}definitions (tenant_id, hash, name, version, kind, document, created_at)
VALUES ('default', {hash}, 'daily-report', '1', 'yaml', {hash}, {at});
INSERT INTO {s}workflows (tenant_id, name, version, definition, description, author, tags, created_at)
VALUES ('default', 'daily-report', '1', {hash}, 'd', 'ana', {tags}, {at})
"""
SPELLED = {
    "sqlite": {"s": "", "hash": "x'00ff'", "tags": "'[\"t\"]'", "at": "1000000"},
    "postgresql": {"s": "{schema}.", "hash": "'\\x00ff'", "tags": "'{t}'", "at": "'1970-01-01 00:00:01+00'"},
    "mysql": {"s": "", "hash": "x'00ff'", "tags": "'[\"t\"]'", "at": "'1970-01-01 00:00:01'"},
}


async def test_registered_versions_become_records(url: str) -> None:
    known = load(dialect_of(url))
    async with opened(url) as session:
        await to(session, known, BEFORE)
        text = ROWS.format(**SPELLED[dialect_of(url)]).replace("{schema}", f'"{session.schema}"')
        for statement in text.split(";\n"):
            await session.execute(statement)
        await up(session, known)
    store = build_store(config_for(url))
    async with store:
        (version,) = await store.workflow_versions("daily-report")
        assert (version.version, version.author, version.tags, version.status) == (
            "1", "ana", ("t",), WorkflowStatus.ACTIVE,
        )  # fmt: skip
        assert (version.revision, version.updated_at, version.triggers, version.parameters) == (
            1, version.created_at, (), {},
        )  # fmt: skip
        assert version.created_at.year == 1970
        assert [each.version for each in (await Workflows(store).search("report daily")).items] == ["1"]
        described = await Workflows(store).describe("daily-report", "1", description="Counts otters")
        assert described.revision == 2
        assert (await Workflows(store).search("otters")).items == [described]
    async with opened(url) as session:
        with pytest.raises(DowngradeRefused):
            await to(session, known, BEFORE)

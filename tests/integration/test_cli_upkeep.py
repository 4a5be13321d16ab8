"""`storage verify` and `storage optimize` on every kind of store, sound and damaged."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.store.dialects import dialect_of
from holdfast.stores import build_store, config_for
from tests.conformance.everything import write_everything
from tests.databases import empty_store

AREAS = ["database", "rows", "owners", "events", "messages", "audit"]


def run(url: str, *statements: tuple[str, ...]) -> None:
    """Change a store behind the library's back; `{table}` names are put in."""

    async def work() -> None:
        store = build_store(config_for(url))
        await store.driver.open()
        try:
            for text, *names in statements:
                spelled = [dialect_of(store.driver).table(name) for name in names]
                await store.driver.fetch_text(text.format(*spelled))
        finally:
            await store.driver.close()

    asyncio.run(work())


@pytest.fixture(params=["sqlite", "file", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store with something of every kind, on every kind that outlives a command."""
    place = empty_store(request, tmp_path)
    asyncio.run(write_everything(place, 7))
    return place


def verified(holdfast: Any, url: str) -> tuple[int, dict[str, Any]]:
    done = holdfast.inside("--storage", url, "storage", "verify", "--json")
    return done.returncode, json.loads(done.stdout)


def test_a_sound_store_is_called_so(holdfast: Any, url: str) -> None:
    code, told = verified(holdfast, url)
    assert (code, told["sound"], told["faults"]) == (0, True, [])
    checks = [each["check"] for each in told["items"]]
    assert checks == AREAS + (["documents"] if url.startswith("file:") else [])
    assert next(each for each in told["items"] if each["check"] == "rows")["looked_at"] > 50
    shown = holdfast.inside("--storage", url, "storage", "verify")
    assert (shown.returncode, shown.stdout.count("✔")) == (0, len(checks))


@pytest.mark.parametrize(
    ("statement", "tables", "area"),
    [
        ("UPDATE {} SET message_count = message_count + 1", ("conversations",), "messages"),
        ("DELETE FROM {} WHERE type = 'execution.completed'", ("events",), "events"),
        ("UPDATE {} SET facts = '{{'", ("context_snapshots",), "rows"),
        ("DELETE FROM {}", ("queues",), "owners"),
    ],
)
def test_what_was_changed_behind_its_back_is_found(
    holdfast: Any, url: str, statement: str, tables: tuple[str, ...], area: str
) -> None:
    if area == "rows":
        statement, tables = "UPDATE {} SET metadata = '{{'", ("conversations",)
        if url.startswith("postgresql"):
            statement, tables = "UPDATE {} SET payload = 'x'::bytea WHERE path IS NULL", ("tasks",)
    run(url, (statement, *tables))
    code, told = verified(holdfast, url)
    assert (code, told["sound"]) == (6, False)
    assert area in {each["check"] for each in told["faults"]}
    shown = holdfast.inside("--storage", url, "storage", "verify")
    assert (shown.returncode, "✖" in shown.stdout, shown.stderr) == (6, True, "")


def test_optimizing_says_what_it_did(holdfast: Any, url: str) -> None:
    plan = json.loads(holdfast.inside("--dry-run", "--storage", url, "storage", "optimize", "--json").stdout)
    done = holdfast.inside("--storage", url, "storage", "optimize", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, plan["dry_run"], told["dry_run"]) == (0, True, False)
    assert [each["step"] for each in told["items"]] == [each["step"] for each in plan["items"]]
    assert any("ANALYZE" in each["step"] for each in told["items"])
    assert verified(holdfast, url)[0] == 0


def test_no_store_is_no_fault(holdfast: Any) -> None:
    done = holdfast.inside("storage", "verify")
    assert (done.returncode, holdfast.files()) == (3, {})

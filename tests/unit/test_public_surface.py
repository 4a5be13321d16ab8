"""What `import holdfast` offers, and what it costs: counted in modules, since time varies by machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import holdfast

HEAVY = ("apsw", "asyncpg", "asyncio", "rich", "yaml", "click", "msgspec", "jsonschema", "pydantic")
OWN_MODULES_MAX = 1


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; import json; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_names_are_these() -> None:
    assert sorted(holdfast.__all__) == [
        "Agent",
        "App",
        "Approval",
        "ApprovalExpired",
        "ExecutionCancelled",
        "ExecutionFailed",
        "FileSystemEventLog",
        "Handle",
        "HoldfastError",
        "InMemoryEventLog",
        "Orchestrator",
        "Platform",
        "Record",
        "SignalTimeout",
        "SoftRecord",
        "StepFailed",
        "Store",
        "agent_task",
        "approval",
        "deprecate_patch",
        "field",
        "gather",
        "open",
        "patched",
        "record",
        "scope",
        "sleep",
        "wait_signal",
    ]
    assert dir(holdfast) == sorted(holdfast.__all__)


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_name_leads_somewhere_and_is_documented(name: str) -> None:
    found = getattr(holdfast, name)
    assert found.__name__ == name
    assert (found.__doc__ or "").strip()


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = holdfast.nothing


def test_importing_the_package_loads_next_to_nothing() -> None:
    loaded = modules_after("import holdfast")
    assert not roots(loaded).intersection(HEAVY)
    assert len([name for name in loaded if name.startswith("holdfast")]) <= OWN_MODULES_MAX


def test_an_app_is_made_without_any_database_or_face() -> None:
    loaded = roots(modules_after("import holdfast; app = holdfast.App('sqlite:///none.db')"))
    assert not loaded & {"apsw", "asyncpg", "rich", "click", "pydantic"}


def test_a_sqlite_store_needs_no_postgresql_library() -> None:
    loaded = roots(
        modules_after(
            "from holdfast.stores import build_store, config_for; build_store(config_for('memory://'))"
        )
    )
    assert "apsw" in loaded
    assert "asyncpg" not in loaded

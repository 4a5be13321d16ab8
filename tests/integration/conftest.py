"""The command line in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import empty_store
from tests.integration.shell import Shell


@pytest.fixture
def holdfast(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def stored(request: pytest.FixtureRequest, holdfast: Shell, tmp_path: Path) -> Shell:
    """The same, once on the SQLite file of the folder and once on an empty store of each server."""
    if request.param != "sqlite":
        holdfast.environ["HOLDFAST_URL"] = empty_store(request, tmp_path, is_made=True)
    return holdfast


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def unmade(request: pytest.FixtureRequest, holdfast: Shell, tmp_path: Path) -> Shell:
    """The same where no table was made yet."""
    if request.param != "sqlite":
        holdfast.environ["HOLDFAST_URL"] = empty_store(request, tmp_path)
    return holdfast

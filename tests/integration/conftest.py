"""The command line in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.shell import Shell


@pytest.fixture
def holdfast(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, holdfast: Shell) -> Shell:
    """The same, once on the SQLite file of the folder and once on an empty PostgreSQL database."""
    if request.param == "postgresql":
        holdfast.environ["HOLDFAST_URL"] = request.getfixturevalue("fresh_postgres")
    return holdfast

"""The databases that several processes can share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import empty_store


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of this test alone."""
    return empty_store(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def undoing_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same where a rollback undoes DDL."""
    return empty_store(request, tmp_path)

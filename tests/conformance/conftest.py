"""Stores that two connections can share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import empty_store


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store that several processes can open."""
    return empty_store(request, tmp_path, is_made=True)


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store on a server, where several connections write at once."""
    return empty_store(request, tmp_path, is_made=True)

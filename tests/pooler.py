"""The tests' way through a real PgBouncer in transaction mode."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

import pytest

VARIABLE = "HOLDFAST_TEST_PGBOUNCER_URL"


def behind_pooler(url: str, *, direct: bool = True) -> str:
    """The database at `url` by way of the pooler; with `direct`, the URL names the server itself as well."""
    pooler = os.environ.get(VARIABLE)
    if not pooler:
        pytest.fail(f"no PgBouncer; run `make test`, or `make services` and set {VARIABLE}", pytrace=False)
    through = urlsplit(pooler)._replace(path=urlsplit(url).path, query="").geturl()
    return f"{through}?direct_url={quote(url, safe='')}" if direct else through

"""Where a measured store is: the database of a request, as each driver spells it."""

from __future__ import annotations

import getpass
from urllib.parse import urlsplit

from benchmarks.systems.meter import Request


def with_user(url: str) -> str:
    """A PostgreSQL URL with its user: the server's own default is the name of the system's user."""
    parts = urlsplit(url)
    netloc = parts.netloc if "@" in parts.netloc else f"{getpass.getuser()}@{parts.netloc}"
    return parts._replace(netloc=netloc).geturl()


def store_url(request: Request) -> str:
    """The URL of a Holdfast store."""
    return f"sqlite:///{request.database}" if request.backend == "sqlite" else with_user(request.database)


def engine_url(request: Request) -> str:
    """The URL of an asynchronous SQLAlchemy engine."""
    if request.backend == "sqlite":
        return f"sqlite+aiosqlite:///{request.database}"
    return with_user(request.database).replace("postgresql://", "postgresql+asyncpg://", 1)

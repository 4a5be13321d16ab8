"""What people run into: each has the code, the cause and the fix that the page on troubles names."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.integration.shell import Shell

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshoot.md"
FLOW = "name: flow\nsteps: [{id: a, shell: 'true'}]\n"


def execute(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def named_on_the_page(code: str) -> bool:
    return f"[{code}](../reference/errors.md#{code.lower()}" in PAGE.read_text()


@pytest.fixture
def troubled(fresh_postgres: str) -> str:
    """The URL of an empty database for a role that may connect no time at all."""
    parts = urlsplit(fresh_postgres)
    role = f"troubled_{parts.path.strip('/')}"
    execute(fresh_postgres, f"CREATE ROLE {role} LOGIN PASSWORD 'x1' CONNECTION LIMIT 0")
    yield urlunsplit(parts._replace(netloc=f"{role}:x1@{parts.hostname}:{parts.port}"))  # type: ignore[misc]
    execute(fresh_postgres, f"DROP ROLE {role}")


def test_too_many_clients(holdfast: Shell, troubled: str) -> None:
    told = holdfast.problem("-s", troubled, "storage", "test-connection", code=5)
    assert (told["code"], "max_connections" in told["fix"]) == ("HF2001", True)
    assert "takes no more connections (53300)" in told["detail"]
    assert named_on_the_page("HF2001")


def test_no_right_to_make_tables(holdfast: Shell, fresh_postgres: str, troubled: str) -> None:
    role = urlsplit(troubled).username
    execute(fresh_postgres, f"ALTER ROLE {role} CONNECTION LIMIT 5")
    told = holdfast.problem("-s", troubled, "storage", "init", code=1)
    assert (told["code"], "42501" in told["detail"]) == ("HF2101", True)
    assert named_on_the_page("HF2101")


def test_a_locked_database(holdfast: Shell) -> None:
    assert holdfast.inside("storage", "init").returncode == 0
    holdfast.write("flow.yaml", FLOW)
    holdfast.environ["HOLDFAST_STORAGE__SQLITE__BUSY_TIMEOUT"] = "100ms"
    other = sqlite3.connect(holdfast.folder / ".holdfast" / "holdfast.db")
    other.execute("BEGIN IMMEDIATE")
    # In a process of its own: locks of files are a process's, and not a connection's.
    done = holdfast("workflows", "register", "flow.yaml", "--json")
    other.close()
    told = json.loads(done.stderr)
    assert (done.returncode, told["code"], "busy_timeout" in told["fix"]) == (5, "HF2001", True)
    assert holdfast.inside("workflows", "register", "flow.yaml").returncode == 0


def test_a_file_in_the_way_of_the_store(holdfast: Shell) -> None:
    in_the_way = holdfast.write("taken", "")
    for place in (in_the_way / "x.db", Path("/proc/x.db")):
        told = holdfast.problem("-s", f"sqlite:///{place}", "storage", "init", code=2)
        assert (told["code"], "path" in told["fix"]) == ("HF2010", True)
    assert named_on_the_page("HF2010")
    told = holdfast.problem("-s", f"file:///{in_the_way / 'x'}", "storage", "init", code=5)
    assert told["code"] == "HF2001"
    assert in_the_way.read_text() == ""


def test_a_file_in_the_way_of_the_event_log(holdfast: Shell) -> None:
    holdfast.write("taken", "")
    holdfast.write("flow.yaml", FLOW)
    holdfast.environ |= {"HOLDFAST_EVENT_LOG_TYPE": "filesystem", "HOLDFAST_EVENT_LOG_DIR": "taken/events"}
    done = holdfast.inside("run", "flow.yaml", "--json")
    told = json.loads(done.stderr.splitlines()[-1])  # behind the lines of the log
    assert (done.returncode, told["code"], "taken" in told["where"]) == (5, "HF2001", True)

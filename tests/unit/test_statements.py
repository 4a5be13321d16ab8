"""Named statements: the same names in every dialect, each used, each accepted by its database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import apsw
import asyncmy
import asyncpg
import pytest

import holdfast
from holdfast.store import sql
from holdfast.store.drivers.mysql_server import server_of
from holdfast.store.drivers.mysql_text import compiled, literal
from holdfast.store.sql import Statements
from holdfast.stores import build_store, config_for

PACKAGE = Path(holdfast.__file__).parent
NAME = re.compile(r"[a-z_]+\.[a-z_]+")

# How each database writes a batch is its own business; one of them has partitions, and one eras.
OWN = {
    "sqlite": {
        "journal.fence", "journal.free_slots", "journal.id_taken", "journal.insert_details",
        "journal.insert_event", "journal.insert_execution", "journal.insert_message",
        "journal.insert_payload", "journal.recorded", "journal.stands", "journal.take_message",
        "journal.transition", "journal.wake",
    },
    "postgresql": {"journal.append", "journal.examine", "journal.flush", "store.ensure_partitions",
        "diagnosis.partitions", "diagnosis.snapshots",
    },
    "mysql": {
        "events.begin_era", "events.end_eras", "events.eras", "events.remove_eras",
        "journal.era", "journal.fence", "journal.free_slots", "journal.id_taken", "journal.insert_details",
        "journal.insert_event", "journal.insert_execution", "journal.insert_message",
        "journal.insert_payload", "journal.left_out", "journal.recorded", "journal.stands",
        "journal.take_message", "journal.transition", "journal.wake",
    },
}  # fmt: skip


def strings() -> Iterator[str]:
    """Every string in the code; names are always spelled out, never put together."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_dialects_have_the_same_statements_apart_from_their_own() -> None:
    names = {dialect: sql.names(dialect) - own for dialect, own in OWN.items()}
    assert names["sqlite"] == names["postgresql"] == names["mysql"]
    for dialect, own in OWN.items():
        assert own <= sql.names(dialect)


def test_every_statement_is_asked_for_somewhere() -> None:
    used = {text for text in strings() if NAME.fullmatch(text)}
    unused = set().union(*map(sql.names, OWN)) - used
    assert not unused


def test_every_statement_that_is_asked_for_exists() -> None:
    known = set().union(*map(sql.names, OWN))
    subjects = {name.partition(".")[0] for name in known}
    asked = set[str]()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fetch" and node.args
            first = node.args[0] if called and isinstance(node, ast.Call) else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                asked.add(first.value)
    asked = {name for name in asked if name.partition(".")[0] in subjects}
    assert asked
    assert asked <= known


def test_a_file_is_split_at_its_names() -> None:
    source = (
        "-- about the file\n\n-- name: a.one\n-- why\nSELECT 1\n-- inside\n, 2\n\n-- name: a.two\nSELECT 3\n"
    )
    assert sql.split(source) == {"a.one": "SELECT 1\n-- inside\n, 2", "a.two": "SELECT 3"}
    with pytest.raises(KeyError):
        Statements("sqlite", now="1")["events.nothing"]


async def _migrated(url: str) -> None:
    store = build_store(config_for(url), create=True)
    await store.open(migrate=True)
    await store.close()


@pytest.mark.anyio
async def test_every_statement_prepares_on_sqlite(tmp_path: Path) -> None:
    await _migrated(f"sqlite:///{tmp_path}/x.db")
    connection = apsw.Connection(str(tmp_path / "x.db"))
    connection.create_scalar_function("hf_now", lambda: 0, 0)
    statements = Statements("sqlite", now="hf_now()")
    for name in sorted(sql.names("sqlite")):
        # EXPLAIN compiles it and runs nothing; what is not given is bound as null.
        for wanted in sql.steps(statements[name]):
            assert list(connection.execute(f"EXPLAIN {wanted}", (None,) * _highest(wanted))), name
    connection.close()


@pytest.mark.anyio
async def test_every_statement_prepares_on_postgresql(fresh_postgres: str) -> None:
    await _migrated(fresh_postgres)
    connection = await asyncpg.connect(fresh_postgres)
    try:
        statements = Statements("postgresql", schema='"holdfast"', now="now()")
        for name in sorted(sql.names("postgresql")):
            await connection.prepare(statements[name])
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_every_statement_prepares_on_mysql(fresh_mysql: str) -> None:
    await _migrated(fresh_mysql)
    place = urlsplit(fresh_mysql)
    connection = await asyncmy.connect(
        host=place.hostname, port=place.port or 3306, user=unquote(place.username or ""),
        password=unquote(place.password or ""), database=place.path[1:], charset="utf8mb4",
    )  # fmt: skip
    server = server_of(connection.get_server_info(), "test")
    statements = Statements("mysql", now="UTC_TIMESTAMP(6)")
    async with connection.cursor() as cursor:
        for name in sorted(sql.names("mysql")):
            for step in compiled(statements[name].replace("{binary}", server.binary)).steps:
                # Names are looked up and kinds compared; nothing runs.
                text = b"".join(piece if isinstance(piece, bytes) else b"?" for piece in step.pieces)
                await cursor.execute(b"PREPARE wanted FROM " + literal(text.decode()))
    await connection.ensure_closed()


def test_no_column_on_mysql_is_named_after_a_value() -> None:
    """A column without a name is named by its text, and a client can not read bytes as a name."""
    statements = Statements("mysql", now="1")
    for name in sorted(sql.names("mysql")):
        last = sql.steps(statements[name])[-1]
        assert not re.match(r"SELECT \?\d+(?! AS )", last), name


def test_sqlite_and_mysql_take_the_same_number_of_values() -> None:
    """MySQL's are those of SQLite, but for the one that may look past what is in order already."""
    sqlite, mysql = Statements("sqlite", now="1"), Statements("mysql", now="1")
    for name in sorted(sql.names("sqlite") - OWN["sqlite"] - {"events.whole"}):
        assert _highest(mysql[name]) == _highest(sqlite[name]), name


def _highest(text: str) -> int:
    return max(map(int, re.findall(r"\?(\d+)", text)), default=text.count("?"))

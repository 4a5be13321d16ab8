"""Every index of users, API keys, sessions and achievements is what its query reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.records.declare import Record, table_of
from holdfast.records.identity import Achievement, ApiKey, Role, Session, Termination, User
from holdfast.store.filters import Condition, Query
from holdfast.store.pages import Pages
from holdfast.store.sql import Statements
from holdfast.store.store import Store
from tests.conformance.test_plans import nodes
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

MANY = 2_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def filled(store: Store) -> None:
    """Enough rows, of which each query wants few."""
    await store.repo(User).create_many(
        User(
            id=f"u{number}",
            email=f"u{number}@example.com",
            role=Role.ADMIN if number % 200 == 0 else Role.USER,
            locked_until=NOW if number % 400 == 0 else None,
            mfa_secret="v1.k.x" if number % 300 == 0 else None,
        )
        for number in range(MANY)
    )
    await store.repo(ApiKey).create_many(
        ApiKey(
            id=f"k{number}", user_id=f"u{number % 500}", name="k", prefix=f"{number:012x}", hash="sha256.x"
        )
        for number in range(MANY)
    )
    await store.repo(Session).create_many(
        Session(
            id=f"s{number}",
            user_id=f"u{number % 500}",
            token_hash=number.to_bytes(32, "big"),
            expires_at=NOW + timedelta(days=3_650 if number % 200 else 0),
            last_seen_at=NOW,
            terminated_at=NOW if number % 3 else None,
            termination=Termination.LOGOUT if number % 3 else None,
        )
        for number in range(MANY)
    )
    await store.repo(Achievement).create_many(
        Achievement(holder=f"u{number % 500}", key=f"a{number // 500}{number % 50}", title="A")
        for number in range(MANY)
    )
    tables = [store.repo(cls).mapping.dialect.table(table_of(cls).name) for cls in KINDS]
    for table in tables:
        analyze = f"ANALYZE TABLE {table}" if store.driver.dialect == "mysql" else f"ANALYZE {table}"
        await store.driver.fetch_text(analyze)


KINDS: tuple[type[Record], ...] = (User, ApiKey, Session, Achievement)

PAGES: list[tuple[type[Record], str, str, str]] = [
    (User, "", "-created_at", "users_by_age"),
    (User, "role:admin", "-created_at", "users_by_role"),
    (User, "has:locked_until", "-created_at", "users_locked"),
    (ApiKey, "", "-created_at", "api_keys_by_age"),
    (ApiKey, "user:u7", "-created_at", "api_keys_by_user"),
    (Session, "", "-created_at", "sessions_by_age"),
    (Session, "user:u7", "-created_at", "sessions_by_user"),
    (Achievement, "", "-created_at", "achievements_by_age"),
    (Achievement, "key:a17", "-created_at", "achievements_by_key"),
    (Achievement, "holder:u7", "key", "achievements_by_holder"),
]
FEW_ARE_SORTED = {("mysql", "users_locked"), ("mysql", "achievements_by_holder")}
"""Where an index finds the few rows that there are, and the database sorts these."""

STATEMENTS: list[tuple[str, tuple[Any, ...], str]] = [
    ("users.by_email", ("default", "u7@example.com"), "users_email"),
    ("users.with_mfa", ("default", "u1", 50), "users_with_mfa"),
    ("api_keys.by_prefix", ("default", f"{7:012x}"), "api_keys_by_prefix"),
    ("sessions.by_token", ("default", (7).to_bytes(32, "big")), "sessions_token"),
    ("achievements.get", ("default", "u7", "a07"), "achievements_by_holder"),
]


async def indexes(store: Store, text: str, *values: Any) -> set[str]:
    """The indexes that a statement reads, and what it sorts or reads whole."""
    match store.driver.dialect:
        case "sqlite":
            # A statement that begins so runs where only reading is allowed.
            rows = await store.driver.fetch_text(f"EXPLAIN QUERY PLAN {text}", *values)
            lines = [str(row[3]) for row in rows]
            bad = {line for line in lines if line.startswith("SCAN") or "TEMP B-TREE" in line}
            return {word for line in lines for word in line.split()} | bad
        case "postgresql":
            (row,) = await store.driver.fetch_text(f"EXPLAIN (FORMAT JSON) {text}", *values)
            plan = list(nodes(json.loads(row[0])[0]["Plan"]))
            bad = {node["Node Type"] for node in plan if node["Node Type"] in ("Seq Scan", "Sort")}
            return {str(node.get("Index Name")) for node in plan} | bad
        case _:
            rows = await store.driver.fetch_text(f"EXPLAIN {text}", *values)
            bad = {str(row[-1]) for row in rows if "filesort" in str(row[-1]) or row[3] == "ALL"}
            return {str(row[5]) for row in rows} | bad


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with opened(shared_url) as store:
        await filled(store)
        yield store


def page_of(store: Store, cls: type[Record], query: str, sort: str) -> tuple[str, list[Any]]:
    repo = store.repo(cls)
    pages = Pages(repo.mapping, store.tenant, repo.parsed(query))
    return pages.select(sort=sort, limit=20, cursor=None, offset=0)


async def test_pages_and_statements_read_their_index(store: Store) -> None:
    found = {}
    for cls, query, sort, index in PAGES:
        text, values = page_of(store, cls, query, sort)
        found[f"{cls.__name__} {query} by {sort}"] = (index, await indexes(store, text, *values))
    sql = Statements(store.driver.dialect, schema=store.driver.schema, now=store.driver.now)
    for name, given, index in STATEMENTS:
        found[name] = (index, await indexes(store, sql[name], *given))
    few = {index for dialect, index in FEW_ARE_SORTED if dialect == store.driver.dialect}
    slow = {name for name, (index, plan) in found.items() if _is_slow(plan) and index not in few}
    assert not {name: found[name] for name in slow}
    assert not {name: plan for name, (index, plan) in found.items() if index not in plan}


async def test_ending_and_removing_sessions_read_their_index(store: Store) -> None:
    column = table_of(Session).column
    query = Query((Condition(column("user_id"), "=", "u7"), Condition(column("terminated_at"), "unset")))
    repo = store.repo(Session)
    text, values = Pages(repo.mapping, store.tenant, query).count()
    assert "sessions_by_user" in await indexes(store, text, *values)
    table = repo.mapping.dialect.table("sessions")
    mark = repo.mapping.dialect.mark
    old = f"SELECT id FROM {table} WHERE tenant_id = {mark(1)} AND expires_at <= {mark(2)} "
    bound = repo.mapping.dialect.writer(column("expires_at"))(NOW)
    plan = await indexes(store, f"{old} ORDER BY expires_at LIMIT 10", "default", bound)
    assert "sessions_by_expiry" in plan
    assert not _is_slow(plan)


def _is_slow(plan: set[str]) -> bool:
    return any(
        part in ("Seq Scan", "Sort", "ALL") or "filesort" in part or part.startswith("SCAN") or "TEMP" in part
        for part in plan
    )

"""Every index of conversations, messages and context snapshots is what its query reads."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest

from holdfast.domain.conversations import Conversations
from holdfast.records.conversations import (
    ContextSnapshot,
    Conversation,
    ConversationStatus,
    Message,
    MessageRole,
)
from holdfast.records.declare import Record, table_of
from holdfast.store.pages import Pages
from holdfast.store.query import bound_list
from holdfast.store.sql import Statements, steps
from holdfast.store.store import Store
from tests.conformance.test_plans import nodes
from tests.conformance.test_plans_identity import page_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

MANY = 1_500
LONG = "c7"
KINDS: tuple[type[Record], ...] = (Conversation, Message, ContextSnapshot)


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[Store]:
    async with opened(shared_url) as store:
        await filled(store)
        yield store


async def filled(store: Store) -> None:
    """Enough rows, of which each query wants few."""
    await store.repo(Conversation).create_many(
        Conversation(
            id=f"c{number}",
            title=f"w{number % 300}",
            status=ConversationStatus.ARCHIVED if number % 100 == 0 else ConversationStatus.ACTIVE,
            user_id=f"u{number % 200}" if number % 2 else None,
            agent_id=f"a{number % 150}" if number % 3 else None,
            tags=(f"t{number % 300}",),
        )
        for number in range(MANY)
    )
    conversations = Conversations(store)
    for id in (LONG, "c8", "c9"):
        await conversations.append(
            id, *(Message(id=f"{id}.{n}", role=MessageRole.USER, content=f"w{n % 300}") for n in range(1000))
        )
    for number in range(0, 1000, 100):
        await conversations.feedback(f"{LONG}.{number}", -1)
    await store.repo(ContextSnapshot, unsealed=True).create_many(
        ContextSnapshot(
            conversation_id=f"c{n % 3}", number=n // 3 + 1, seq=n // 3, base=n // 27 * 9 + 1, digest=bytes(16)
        )
        for n in range(MANY)
    )
    for cls in KINDS:
        table = store.repo(cls).mapping.dialect.table(table_of(cls).name)
        verb = {"mysql": "ANALYZE TABLE", "postgresql": "VACUUM ANALYZE"}.get(store.driver.dialect, "ANALYZE")
        await store.driver.fetch_text(f"{verb} {table}")


PAGES: list[tuple[type[Record], str, str, str]] = [
    (Conversation, "", "-created_at", "conversations_by_age"),
    (Conversation, "status:archived", "-created_at", "conversations_by_status"),
    (Conversation, "user:u7", "-created_at", "conversations_of_user"),
    (Conversation, "agent:a7", "-created_at", "conversations_of_agent"),
    (Message, "", "-created_at", "messages_by_age"),
    (Message, "rating:-1", "-created_at", "messages_rated"),
    (ContextSnapshot, "", "-created_at", "context_snapshots_by_age"),
]

IN_ORDER = {
    "sqlite": "sqlite_autoindex_messages_2",
    "postgresql": "messages_tenant_id_conversation_id_seq_key",
    "mysql": "messages_in_order",
}
NUMBERED = {
    "sqlite": "sqlite_autoindex_context_snapshots_2",
    "postgresql": "context_snapshots_tenant_id_conversation_id_number_key",
    "mysql": "context_snapshots_in_order",
}


async def plan_of(store: Store, text: str, *values: object) -> set[str]:
    """The indexes that a statement reads, `SCAN table` for each that it reads whole, and `sort`."""
    match store.driver.dialect:
        case "sqlite":
            rows = await store.driver.fetch_text(f"EXPLAIN QUERY PLAN {text}", *values)
            lines = [str(row[3]) for row in rows]
            found = {word for line in lines for word in line.split()} - {"SCAN"}
            found |= {" ".join(line.split()[:2]) for line in lines if line.startswith("SCAN")}
            return found | {"sort" for line in lines if "TEMP B-TREE" in line}
        case "postgresql":
            (row,) = await store.driver.fetch_text(f"EXPLAIN (FORMAT JSON) {text}", *values)
            plan = list(nodes(json.loads(row[0])[0]["Plan"]))
            found = {str(node["Index Name"]) for node in plan if "Index Name" in node}
            found |= {f"SCAN {node['Relation Name']}" for node in plan if node["Node Type"] == "Seq Scan"}
            return found | {"sort" for node in plan if "Sort" in node["Node Type"]}
        case _:
            rows = await store.driver.fetch_text(f"EXPLAIN {text}", *values)
            found = {str(row[5]) for row in rows} | {f"SCAN {row[2]}" for row in rows if row[3] == "ALL"}
            return found | {"sort" for row in rows if "filesort" in str(row[-1])}


TABLES = {f"SCAN {name}" for name in ("conversations", "messages", "context_snapshots", "c", "m", "s")}
"""What must not be read whole; lists that are bound, and what one row was made of, may be."""


async def test_pages_read_their_index(store: Store) -> None:
    found = {}
    for cls, query, sort, index in PAGES:
        text, values = page_of(store, cls, query, sort)
        found[f"{cls.__name__} {query}"] = (index, await plan_of(store, text, *values))
    assert not {name: plan for name, (_, plan) in found.items() if plan & {*TABLES, "sort"}}
    assert not {name: plan for name, (index, plan) in found.items() if index not in plan}


async def test_messages_are_read_in_their_order(store: Store) -> None:
    dialect = store.driver.dialect
    sql = Statements(dialect, schema=store.driver.schema, now=store.driver.now)
    for name, values in (
        ("conversations.messages_after", ("default", LONG, 500, 2**62, 20)),
        ("conversations.messages_before", ("default", LONG, 500, 20)),
    ):
        plan = await plan_of(store, sql[name], *values)
        assert IN_ORDER[dialect] in plan, (name, plan)
        assert not plan & {*TABLES, "sort"}, (name, plan)


async def test_the_newest_messages_of_many_are_read_by_number(store: Store) -> None:
    dialect = store.driver.dialect
    sql = Statements(dialect, schema=store.driver.schema, now=store.driver.now)
    listed = bound_list(dialect, [LONG, "c8", "c12"])
    plan = await plan_of(store, sql["conversations.newest_messages"], "default", listed, 10)
    assert IN_ORDER[dialect] in plan, plan
    assert not plan & TABLES, plan
    if dialect == "postgresql":
        (row,) = await store.driver.fetch_text(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {sql['conversations.newest_messages']}", "default", listed, 10
        )
        assert json.loads(row[0])[0]["Plan"]["Actual Rows"] == 20


async def test_a_context_is_read_by_its_chain(store: Store) -> None:
    dialect = store.driver.dialect
    sql = Statements(dialect, schema=store.driver.schema, now=store.driver.now)
    parts = steps(sql["conversations.context_chain"])
    plan: set[str] = set()
    for part in parts if len(parts) == 1 else parts[1:]:
        # What a step before it has found.
        text = (
            re.sub(r"INTO [@\w, ]+ FROM", "FROM", part)
            .replace("@hf_base", "300")
            .replace("@hf_number", "303")
        )
        found = await plan_of(store, text, "default", "c1", 300)
        assert not found & TABLES, found
        plan |= found
    assert {"context_snapshots_by_seq", NUMBERED[dialect]} <= plan, plan


async def test_words_and_tags_are_looked_up(store: Store) -> None:
    asked: list[tuple[type[Record], str, dict[str, str]]] = [
        (
            Message,
            "w7",
            {"postgresql": "messages_search", "mysql": "messages_words", "sqlite": "messages_words"},
        ),
        (
            Conversation,
            "w7",
            {
                "postgresql": "conversations_search",
                "mysql": "conversations_words",
                "sqlite": "conversations_words",
            },
        ),
        (Conversation, "tag:t7", {"postgresql": "conversations_tags"}),
    ]
    for cls, query, index in asked:
        if store.driver.dialect not in index:
            continue
        repo = store.repo(cls)
        text, values = Pages(repo.mapping, store.tenant, repo.parsed(query)).count()
        plan = await plan_of(store, text, *values)
        assert index[store.driver.dialect] in plan, (query, plan)


async def test_an_append_changes_no_index_of_the_conversation(fresh_postgres: str) -> None:
    """Its row is written anew on the same page: no index gets an entry for it."""
    async with opened(fresh_postgres) as store:
        conversations = Conversations(store)
        await conversations.start(Conversation(id="c", title="some words", tags=("t",), user_id="u"))
        await store.driver.fetch_text("VACUUM holdfast.conversations")
        async with store.transaction() as transaction:
            for number in range(20):
                row = {"id": f"m{number}", "role": "user", "tool_calls": "[]", "metadata": "{}"}
                row |= {"words_first": "", "words_rest": ""}
                row |= dict.fromkeys(("prompt_tokens", "completion_tokens", "cost_micros"), 0)
                await transaction.fetch("conversations.append", "default", "c", json.dumps([row]), 1, 0, 0, 0)
            ((updates, on_page),) = await transaction.fetch_text(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables "
                "WHERE relname = 'conversations'"
            )
        assert (updates, on_page) == (20, 20)

"""The stores of records and conversations that are measured, and what is measured of them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.declarations import POSTGRESQL, SQLITE, Mode, Scenario, System

_CORE = "best: Core, autocommit, no reset, pool of 20"

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="holdfast",
            module="benchmarks.systems.holdfast_records",
            environment=None,
            modes={SQLITE: Mode(text="default"), POSTGRESQL: Mode(text="default")},
        ),
        System(
            name="raw",
            module="benchmarks.systems.raw_records",
            environment=None,
            modes={
                SQLITE: Mode(text="bare apsw in the caller's thread"),
                POSTGRESQL: Mode(text="bare asyncpg, prepared statement on a held connection"),
            },
        ),
        System(
            name="sqlalchemy",
            module="benchmarks.systems.sqlalchemy_records",
            environment="sqlalchemy",
            modes={SQLITE: Mode(text=f"{_CORE}, aiosqlite"), POSTGRESQL: Mode(text=f"{_CORE}, asyncpg")},
        ),
    )
}

CONVERSATIONS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="holdfast",
            module="benchmarks.systems.holdfast_conversation",
            environment=None,
            modes={SQLITE: Mode(text="default"), POSTGRESQL: Mode(text="default")},
        ),
        System(
            name="openai-agents",
            module="benchmarks.systems.openai_agents",
            environment="openai-agents",
            modes={
                SQLITE: Mode(text="SQLAlchemySession, aiosqlite, WAL"),
                POSTGRESQL: Mode(text="SQLAlchemySession, asyncpg"),
            },
        ),
        System(
            name="langgraph",
            module="benchmarks.systems.langgraph_conversation",
            environment="langgraph",
            modes={
                SQLITE: Mode(text='default: AsyncSqliteSaver, durability="sync", a list of messages'),
                POSTGRESQL: Mode(text='default: AsyncPostgresSaver, durability="sync", a list of messages'),
            },
        ),
        System(
            name="langgraph-delta",
            module="benchmarks.systems.langgraph_conversation",
            environment="langgraph",
            modes={
                SQLITE: Mode(
                    text='best: AsyncSqliteSaver, durability="sync", DeltaChannel', options={"delta": "on"}
                ),
                POSTGRESQL: Mode(
                    text='best: AsyncPostgresSaver, durability="sync", DeltaChannel', options={"delta": "on"}
                ),
            },
        ),
    )
}

_OPERATION = Scenario(
    name="records-get",
    title="a record by its id, one of 10,000",
    unit="records/s",
    contest="records",
    request={"scenario": "get"},
)

SCENARIOS: tuple[Scenario, ...] = (
    _OPERATION,
    replace(
        _OPERATION, name="records-create", title="a new record, committed", request={"scenario": "create"}
    ),
    replace(
        _OPERATION,
        name="records-find",
        title="the newest 50 records of a filter",
        unit="pages/s",
        request={"scenario": "find"},
    ),
    Scenario(
        name="bulk",
        title="50,000 records in one transaction",
        unit="rows/s",
        contest="records",
        request={"scenario": "bulk", "rows": 50_000},
        setup_s=240,
    ),
    Scenario(
        name="conversation",
        title="a conversation of 500 turns, each message recorded when it is said",
        unit="turns/s",
        contest="conversations",
        request={"turns": 500},
        setup_s=240,
    ),
    Scenario(
        name="copy",
        title="`storage copy` of 100,000 events from SQLite into PostgreSQL and back",
        unit="rows/s",
        contest="records",
        systems=("holdfast",),
        backends=(POSTGRESQL,),
        module="benchmarks.systems.holdfast_copy",
        request={"rows": 100_000},
        rounds=1,
        setup_s=400,
    ),
)

OPERATIONS = ("records-get", "records-create", "records-find")
"""The scenarios that `python -m benchmarks records` runs."""

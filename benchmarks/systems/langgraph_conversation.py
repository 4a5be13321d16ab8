"""LangGraph's checkpoint savers, `durability="sync"`: a graph of one node that answers, one call per turn.

The messages are one channel. By default its reducer adds to a list, and a checkpoint holds all of it; with
the option `delta` a checkpoint holds what has changed.
"""

from __future__ import annotations

import asyncio
import operator
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypedDict

import aiosqlite
import psycopg
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row

from benchmarks.systems import turns
from benchmarks.systems.meter import Request, report, require

request = Request.from_arguments()
CONFIG: dict[str, Any] = {"configurable": {"thread_id": "bench"}}
answers: list[str] = []


def joined(before: list[Any], writes: list[list[Any]]) -> list[Any]:
    return [*before, *(each for write in writes for each in write)]


reducer: Any = DeltaChannel(joined) if request.options.get("delta") else operator.add


class Talk(TypedDict):
    messages: Annotated[list[dict[str, str]], reducer]


async def answer(state: Talk) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": answers.pop()}]}


def graph(saver: Any) -> Any:
    builder = StateGraph(Talk)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


async def sqlite_saver(stack: AsyncExitStack) -> tuple[Any, Any, str]:
    connection = await stack.enter_async_context(aiosqlite.connect(request.database))
    saver = AsyncSqliteSaver(connection)
    await saver.setup()
    async with connection.execute("PRAGMA synchronous") as cursor:
        row = await cursor.fetchone()
    assert row is not None
    settings = require("synchronous", row[0], 2)

    async def size() -> int:
        async with connection.execute("PRAGMA wal_checkpoint(TRUNCATE)") as cursor:
            await cursor.fetchone()
        return turns.file_size(request.database)

    return saver, size, settings


async def postgresql_saver(stack: AsyncExitStack) -> tuple[Any, Any, str]:
    connection = await stack.enter_async_context(
        await psycopg.AsyncConnection.connect(
            request.database, autocommit=True, prepare_threshold=0, row_factory=dict_row
        )
    )
    row: Any = await (await connection.execute("SHOW synchronous_commit")).fetchone()
    saver = AsyncPostgresSaver(connection)
    await saver.setup()

    async def size() -> int:
        found: Any = await (await connection.execute(turns.SERVER_SIZE)).fetchone()
        return int(found["sum"])

    return saver, size, require("synchronous_commit", row["synchronous_commit"], "on")


async def main() -> None:
    async with AsyncExitStack() as stack:
        opener = sqlite_saver if request.backend == "sqlite" else postgresql_saver
        saver, size, settings = await opener(stack)
        compiled = graph(saver)

        async def turn(user: str, assistant: str) -> None:
            answers.append(assistant)
            given = {"messages": [{"role": "user", "content": user}]}
            await compiled.ainvoke(given, CONFIG, durability="sync")

        figures = await turns.converse(request, turn, size)
        state = await compiled.aget_state(CONFIG)
        assert len(state.values["messages"]) == 2 * request.turns
        report(durability=settings, **figures)


asyncio.run(main())

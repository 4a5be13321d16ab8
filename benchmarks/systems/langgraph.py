"""LangGraph's checkpoint savers, `durability="sync"`: a graph that is a chain of trivial nodes.

A node that begins knows that the checkpoint of the one before it is on disk, so an ack is counted there, and
for the last node when the graph returns. A thousand steps are one node that is gone round a thousand times.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any, TypedDict

import aiosqlite
import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row

from benchmarks.systems.meter import Meter, Request, measure, report, require

request = Request.from_arguments()
meter = Meter(request)
clocks: dict[str, float] = {}


LONGEST_CHAIN = 50


class State(TypedDict):
    run: str
    number: int


async def step(state: State) -> dict[str, int]:
    if state["number"]:
        clocks[state["run"]] = meter.ack(clocks[state["run"]])
    return {"number": state["number"] + 1}


def more(state: State) -> str:
    return "step" if state["number"] < request.steps else END


def circle(saver: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", more, ["step", END])
    return builder.compile(checkpointer=saver)


def chain(saver: Any) -> Any:
    builder = StateGraph(State)
    names = [f"step{number}" for number in range(request.steps)]
    for name in names:
        builder.add_node(name, step)
    for before, after in itertools.pairwise([START, *names, END]):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=saver)


async def sqlite_saver(stack: AsyncExitStack) -> tuple[AsyncSqliteSaver, str]:
    connection = await stack.enter_async_context(aiosqlite.connect(request.database))
    saver = AsyncSqliteSaver(connection)
    await saver.setup()
    facts = []
    for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2)):
        async with connection.execute(f"PRAGMA {pragma}") as cursor:
            row = await cursor.fetchone()
        assert row is not None
        facts.append(require(pragma, row[0], wanted))
    return saver, " ".join(facts)


async def postgresql_saver(stack: AsyncExitStack) -> tuple[AsyncPostgresSaver, str]:
    connection = await stack.enter_async_context(
        await psycopg.AsyncConnection.connect(
            request.database, autocommit=True, prepare_threshold=0, row_factory=dict_row
        )
    )
    cursor = await connection.execute("SHOW synchronous_commit")
    row = await cursor.fetchone()
    assert row is not None
    saver = AsyncPostgresSaver(connection)
    await saver.setup()
    return saver, require("synchronous_commit", row["synchronous_commit"], "on")


async def main() -> None:
    opener = sqlite_saver if request.backend == "sqlite" else postgresql_saver
    async with AsyncExitStack() as stack:
        savers = min(int(request.options.get("savers", "1")), request.concurrency)
        opened = [await opener(stack) for _ in range(savers)]
        build = chain if request.steps <= LONGEST_CHAIN else circle
        graphs = itertools.cycle([build(saver) for saver, _ in opened])

        async def workflow() -> None:
            run = uuid.uuid4().hex
            clocks[run] = time.perf_counter()
            config = {"configurable": {"thread_id": run}, "recursion_limit": request.steps + 10}
            await next(graphs).ainvoke({"run": run, "number": 0}, config, durability="sync")
            meter.ack(clocks.pop(run))

        report(durability=opened[0][1], **await measure(meter, workflow))


if __name__ == "__main__":
    asyncio.run(main())

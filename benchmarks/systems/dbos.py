"""DBOS Transact: workflows of trivial steps called in this process, system database on SQLite or PostgreSQL.

Without options it is what the first page of its documentation shows: blocking functions, one thread each,
the SQLite file in the journal mode a new file has. The options are what its best mode was looked for with.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSConfig

from benchmarks.systems.meter import Meter, Request, measure, measure_threads, report, require

request = Request.from_arguments()
meter = Meter(request)
facts: set[str] = set()


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.workflow()
def workflow() -> None:
    now = time.perf_counter()
    for number in range(request.steps):
        step(number)
        now = meter.ack(now)


@DBOS.step()
async def step_async(number: int) -> int:
    return number


@DBOS.workflow()
async def workflow_async() -> None:
    now = time.perf_counter()
    for number in range(request.steps):
        await step_async(number)
        now = meter.ack(now)


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def check_durability(connection: Any, _: Any) -> None:
    """Ask every connection that DBOS opens what it promises."""
    cursor = connection.cursor()
    if request.backend == "sqlite":
        wal = request.options.get("journal") == "wal"
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        facts.add(require("journal_mode", mode, "wal" if wal else "delete"))
        facts.add(require("synchronous", cursor.execute("PRAGMA synchronous").fetchone()[0], 2))
    else:
        facts.add(
            require("synchronous_commit", cursor.execute("SHOW synchronous_commit").fetchone()[0], "on")
        )
        connection.rollback()
    cursor.close()


def configuration() -> DBOSConfig:
    options = request.options
    config: DBOSConfig = {"name": "bench", "log_level": "ERROR"}
    config["system_database_url"] = request.database
    if request.backend == "sqlite":
        config["system_database_url"] = f"sqlite:///{request.database}"
        if options.get("journal") == "wal":
            # Remembered by the file, so it holds for every connection DBOS makes.
            sqlite3.connect(request.database).execute("PRAGMA journal_mode=WAL").close()
    if "pool" in options:
        config["sys_db_pool_size"] = int(options["pool"])
    if "threads" in options:
        config["max_executor_threads"] = int(options["threads"])
    if options.get("notify") == "off":
        config["use_listen_notify"] = False
    if options.get("ping") == "off":
        config["db_engine_kwargs"] = {"pool_pre_ping": False}
    return config


async def run_async() -> dict[str, Any]:
    DBOS(config=configuration())
    DBOS.launch()
    return await measure(meter, workflow_async)


def run() -> dict[str, Any]:
    DBOS(config=configuration())
    DBOS.launch()
    return measure_threads(meter, workflow)


def main() -> None:
    figures = asyncio.run(run_async()) if request.options.get("calls") == "async" else run()
    report(durability=" ".join(sorted(facts)), **figures)


if __name__ == "__main__":
    main()

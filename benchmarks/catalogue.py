"""The systems that can be measured and the scenarios they are measured in."""

from __future__ import annotations

from benchmarks import queues, records
from benchmarks.declarations import BACKENDS, POSTGRESQL, SQLITE, Mode, Scenario, System

__all__ = ["ALIASES", "BACKENDS", "GROUPS", "POSTGRESQL", "SCENARIOS", "SQLITE", "SYSTEMS", "systems_for"]

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="holdfast",
            module="benchmarks.systems.holdfast",
            environment=None,
            modes={backend: Mode(text="default") for backend in BACKENDS},
        ),
        System(
            name="raw",
            module="benchmarks.systems.raw",
            environment=None,
            modes={
                SQLITE: Mode(text="bare group commit, apsw, one thread"),
                POSTGRESQL: Mode(text="bare group commit, asyncpg, one connection"),
            },
        ),
        System(
            name="dbos",
            module="benchmarks.systems.dbos",
            environment="dbos",
            modes={
                SQLITE: Mode(text="default: blocking calls, a thread per caller, rollback journal"),
                POSTGRESQL: Mode(text="default: blocking calls, a thread per caller, pool of 20"),
            },
        ),
        System(
            name="dbos-best",
            module="benchmarks.systems.dbos",
            environment="dbos",
            modes={
                SQLITE: Mode(
                    text="best: blocking calls, WAL, one pooled connection, no pre-ping",
                    options={"journal": "wal", "pool": "1", "ping": "off"},
                ),
                POSTGRESQL: Mode(
                    text="best: blocking calls, a thread per caller, pool of 20, no pre-ping",
                    options={"ping": "off"},
                ),
            },
        ),
        System(
            name="langgraph",
            module="benchmarks.systems.langgraph",
            environment="langgraph",
            modes={
                SQLITE: Mode(text='best: AsyncSqliteSaver, durability="sync", chain of nodes'),
                POSTGRESQL: Mode(
                    text='best: AsyncPostgresSaver × 4, durability="sync", chain of nodes',
                    options={"savers": "4"},
                ),
            },
        ),
        System(
            name="absurd",
            module="benchmarks.systems.absurd",
            environment="absurd",
            modes={
                POSTGRESQL: Mode(
                    text="best: asyncio, up to 25 connections, spawn + work_batch",
                    options={"connections": "25"},
                )
            },
        ),
    )
}

CONTESTS: dict[str, dict[str, System]] = {
    "workflows": SYSTEMS,
    "queues": queues.SYSTEMS,
    "records": records.SYSTEMS,
    "conversations": records.CONVERSATIONS,
}
ALIASES: dict[str, tuple[str, ...]] = {
    "dbos": ("dbos", "dbos-best"),
    "langgraph": ("langgraph", "langgraph-delta"),
    "all": tuple(name for systems in CONTESTS.values() for name in systems),
}
"""Names that stand for several systems on the command line; `dbos` is measured in both of its modes."""

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="steps",
            title="durable workflows of 10 trivial steps",
            unit="steps/s",
            concurrency=(1, 50, 200),
            request={"steps": 10},
        ),
        Scenario(
            name="long",
            title="200 executions of 1,000 steps at once",
            unit="steps/s",
            concurrency=(200,),
            request={"steps": 1000, "executions": 200},
        ),
        Scenario(
            name="slow-disk",
            title="workflows of 10 steps, 2 ms added to every disk sync",
            unit="steps/s",
            backends=(SQLITE,),
            concurrency=(1, 50, 200),
            slow_disk=True,
            request={"steps": 10},
        ),
        Scenario(
            name="cpu",
            title="client CPU time per step",
            unit="µs/step",
            value="cpu_us_per_step",
            concurrency=(50,),
            more_is_better=False,
            request={"steps": 10},
        ),
        Scenario(
            name="resume",
            title="going on with an execution of 10,000 recorded steps",
            unit="s",
            systems=("holdfast",),
            more_is_better=False,
            request={"steps": 10_000, "scenario": "resume"},
        ),
        Scenario(
            name="fanout",
            title="peak memory of `holdfast run` with a 10,000-step fan-out",
            unit="MB",
            value="peak_mb",
            systems=("holdfast",),
            more_is_better=False,
            request={"steps": 10_000, "scenario": "fanout"},
        ),
        *queues.SCENARIOS,
        *records.SCENARIOS,
        Scenario(
            name="start",
            title="start-up time",
            unit="ms",
            backends=(SQLITE,),
            systems=(),
            more_is_better=False,
        ),
    )
}


GROUPS: dict[str, tuple[str, ...]] = {
    "queue": queues.DEPTHS,
    "fleet": tuple(each.name for each in queues.SCENARIOS),
    "records": records.OPERATIONS,
}
"""Names that stand for several scenarios on the command line."""


def system_names() -> set[str]:
    """Every name that `--peers` knows."""
    return {name for systems in CONTESTS.values() for name in systems} | set(ALIASES)


def systems_for(scenario: Scenario, names: list[str]) -> list[System]:
    """The named systems that take part in `scenario`, in the order of the catalogue."""
    systems = CONTESTS[scenario.contest]
    wanted = {single for name in names for single in ALIASES.get(name, (name,))}
    allowed = set(systems) if scenario.systems is None else set(scenario.systems)
    return [system for name, system in systems.items() if name in wanted & allowed]

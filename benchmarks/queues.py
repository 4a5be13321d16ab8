"""The queues that are measured, and what is measured of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.declarations import POSTGRESQL, SQLITE, Mode, Scenario, System

_DBOS_BEST = {"worker_concurrency": "100", "polling": "0.01", "ping": "off"}

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="holdfast",
            module="benchmarks.systems.holdfast_queue",
            environment=None,
            modes={
                SQLITE: Mode(text="worker --concurrency 1000", options={"concurrency": "1000"}, rate=30_000),
                POSTGRESQL: Mode(
                    text="worker --concurrency 1000", options={"concurrency": "1000"}, rate=50_000
                ),
            },
        ),
        System(
            name="raw",
            module="benchmarks.systems.raw_queue",
            environment=None,
            modes={
                SQLITE: Mode(text="bare claim loop, apsw, batches of 1,000", rate=300_000),
                POSTGRESQL: Mode(text="bare claim loop, asyncpg × 2, batches of 1,000", rate=120_000),
            },
        ),
        System(
            name="pgqueuer",
            module="benchmarks.systems.pgqueuer",
            environment="pgqueuer",
            modes={
                POSTGRESQL: Mode(
                    text="best: asyncpg pool of 5, uvloop, batch_size=500",
                    options={"connections": "5", "batch": "500"},
                    rate=30_000,
                )
            },
        ),
        System(
            name="procrastinate",
            module="benchmarks.systems.procrastinate",
            environment="procrastinate",
            modes={
                POSTGRESQL: Mode(
                    text="best: async worker, concurrency=50, pool of 10",
                    options={"concurrency": "50", "connections": "10"},
                    rate=2_000,
                )
            },
        ),
        System(
            name="dbos",
            module="benchmarks.systems.dbos_queue",
            environment="dbos",
            modes={
                SQLITE: Mode(text="default: polled each second, worker_concurrency=100", rate=1_000),
                POSTGRESQL: Mode(text="default: polled each second, worker_concurrency=100", rate=1_000),
            },
        ),
        System(
            name="dbos-best",
            module="benchmarks.systems.dbos_queue",
            environment="dbos",
            modes={
                SQLITE: Mode(
                    text="best: polled each 10 ms, worker_concurrency=100, WAL, one pooled connection",
                    options=_DBOS_BEST | {"journal": "wal", "pool": "1"},
                    rate=2_000,
                ),
                POSTGRESQL: Mode(
                    text="best: polled each 10 ms, worker_concurrency=100, no pre-ping",
                    options=_DBOS_BEST,
                    rate=3_000,
                ),
            },
        ),
    )
}

_DEPTH = Scenario(
    name="queue",
    title="no-op jobs processed by one worker, nothing else waiting",
    unit="jobs/s",
    contest="queues",
    request={"scenario": "queue"},
    rounds=1,
    setup_s=400,
)

_MILLION = 1_000_000
_DEEP = ("holdfast", "raw", "pgqueuer", "procrastinate", "dbos-best")
_FLEET = "benchmarks.systems.holdfast_fleet"

SCENARIOS: tuple[Scenario, ...] = (
    replace(_DEPTH, name="queue-0"),
    replace(
        _DEPTH,
        name="queue-100k",
        title="the same, 100,000 more waiting",
        request={"scenario": "queue", "waiting": 100_000},
    ),
    replace(
        _DEPTH,
        name="queue-1m",
        title="the same, 1,000,000 more waiting",
        systems=_DEEP,
        request={"scenario": "queue", "waiting": _MILLION},
    ),
    replace(
        _DEPTH,
        name="queue-done",
        title="the same, 1,000,000 more waiting and 1,000,000 finished behind",
        systems=_DEEP,
        request={"scenario": "queue", "waiting": _MILLION, "finished": _MILLION},
    ),
    Scenario(
        name="enqueue",
        title="jobs enqueued one by one, each acknowledged",
        unit="jobs/s",
        contest="queues",
        concurrency=(50,),
        request={"scenario": "enqueue"},
    ),
    Scenario(
        name="dispatch",
        title="from the call that enqueues to the start on an idle worker, another process; p50",
        unit="ms",
        contest="queues",
        systems=("holdfast", "pgqueuer", "procrastinate", "dbos", "dbos-best"),
        more_is_better=False,
        request={"scenario": "dispatch"},
    ),
    Scenario(
        name="takeover",
        title="from SIGKILL of a worker to the start of its execution on another host, lease 2 s; median",
        unit="s",
        contest="queues",
        systems=("holdfast",),
        more_is_better=False,
        backends=(POSTGRESQL,),
        module=_FLEET,
        rounds=1,
        request={"scenario": "takeover"},
    ),
    Scenario(
        name="takeover-here",
        title="the same on one host",
        unit="s",
        contest="queues",
        systems=("holdfast",),
        more_is_better=False,
        module=_FLEET,
        rounds=1,
        request={"scenario": "takeover-here"},
    ),
    Scenario(
        name="idle",
        title="statements sent by 50 idle workers of 100 queues",
        unit="queries/s",
        contest="queues",
        systems=("holdfast",),
        more_is_better=False,
        backends=(POSTGRESQL,),
        module=_FLEET,
        rounds=1,
        request={"scenario": "idle"},
    ),
)

DEPTHS = ("queue-0", "queue-100k", "queue-1m", "queue-done")
"""The scenarios that `python -m benchmarks queue` runs."""

QUICK = 20
"""By how much `--quick` divides what waits and what is finished."""


def shortened(scenario: Scenario) -> Scenario:
    """The scenario as `--quick` runs it; its title says so."""
    sizes: dict[str, Any] = {
        key: value // QUICK
        for key, value in scenario.request.items()
        if key in ("waiting", "finished", "rows")
    }
    if not sizes:
        return scenario
    return replace(
        scenario, title=f"{scenario.title} ÷ {QUICK}", request=dict(scenario.request) | sizes, setup_s=120
    )

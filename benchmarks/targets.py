"""What Holdfast has to reach: ratios against the systems beside it in the same run, and absolute limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.declarations import BACKENDS, POSTGRESQL, SQLITE
from benchmarks.measurement import Row
from benchmarks.queues import DEPTHS
from benchmarks.records import OPERATIONS


@dataclass(frozen=True, slots=True)
class Ratio:
    """Holdfast's value must be at least `times` that of the fastest of `beside`."""

    scenario: str
    backend: str
    concurrency: tuple[int, ...]
    beside: tuple[str, ...]
    times: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Holdfast's `figure` of a row must be at most `times` that of `beside`."""

    scenario: str
    backend: str
    figure: str
    beside: str
    times: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The value of `system` must be at most `most`."""

    scenario: str
    system: str
    most: float


@dataclass(frozen=True, slots=True)
class Flat:
    """The greatest value of Holdfast in `scenarios` must be at most `times` the least."""

    scenarios: tuple[str, ...]
    times: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target, what was measured for it, and whether it is reached."""

    what: str
    wanted: str
    measured: float
    reached: bool


_ONE, _MANY = (1,), (50, 200)
_DBOS = ("dbos", "dbos-best")

RATIOS = (
    Ratio("steps", SQLITE, _ONE, _DBOS, 4),
    Ratio("steps", SQLITE, _ONE, ("langgraph",), 3),
    Ratio("steps", SQLITE, _ONE, ("raw",), 0.5),
    Ratio("steps", SQLITE, _MANY, ("dbos",), 40),
    Ratio("steps", SQLITE, _MANY, ("dbos-best",), 20),
    Ratio("steps", SQLITE, _MANY, ("langgraph",), 20),
    Ratio("steps", SQLITE, _MANY, ("raw",), 0.4),
    Ratio("steps", POSTGRESQL, _ONE, _DBOS, 4),
    Ratio("steps", POSTGRESQL, _ONE, ("absurd",), 1.7),
    Ratio("steps", POSTGRESQL, _ONE, ("raw",), 0.5),
    Ratio("steps", POSTGRESQL, _MANY, _DBOS, 40),
    Ratio("steps", POSTGRESQL, _MANY, ("absurd",), 8),
    Ratio("steps", POSTGRESQL, _MANY, ("raw",), 0.2),
    Ratio("long", SQLITE, (200,), ("dbos",), 40),
    Ratio("long", SQLITE, (200,), ("dbos-best",), 20),
    Ratio("long", SQLITE, (200,), ("langgraph",), 20),
    Ratio("long", SQLITE, (200,), ("raw",), 0.4),
    Ratio("long", POSTGRESQL, (200,), _DBOS, 40),
    Ratio("long", POSTGRESQL, (200,), ("absurd",), 8),
    Ratio("long", POSTGRESQL, (200,), ("raw",), 0.2),
    Ratio("slow-disk", SQLITE, _ONE, _DBOS, 3),
    Ratio("slow-disk", SQLITE, _MANY, ("dbos",), 100),
    Ratio("slow-disk", SQLITE, _MANY, ("dbos-best",), 100),
    *(
        ratio
        for depth in DEPTHS
        for ratio in (
            Ratio(depth, POSTGRESQL, _ONE, ("pgqueuer",), 1.5),
            Ratio(depth, POSTGRESQL, _ONE, ("procrastinate",), 50),
            Ratio(depth, POSTGRESQL, _ONE, ("dbos",), 50),
            Ratio(depth, POSTGRESQL, _ONE, ("dbos-best",), 50),
            Ratio(depth, SQLITE, _ONE, ("dbos",), 50),
            Ratio(depth, SQLITE, _ONE, ("dbos-best",), 50),
        )
    ),
    Ratio("enqueue", POSTGRESQL, (50,), ("pgqueuer",), 5),
    *(
        Ratio(scenario, backend, _ONE, ("sqlalchemy",), 1.5)
        for scenario in OPERATIONS
        for backend in BACKENDS
    ),
    *(Ratio("bulk", backend, _ONE, ("raw",), 0.5) for backend in BACKENDS),
)

COSTS = (Cost("records-get", POSTGRESQL, "cpu_us_per_step", "raw", 2),)

FLAT = (Flat(DEPTHS, 1.5),)

LIMITS = (
    Limit("cpu", "holdfast", 50),
    Limit("resume", "holdfast", 1),
    Limit("fanout", "holdfast", 200),
    Limit("start", "holdfast --help", 150),
    Limit("start", "import holdfast", 80),
    Limit("dispatch", "holdfast", 5),
    Limit("takeover", "holdfast", 6),
    Limit("takeover-here", "holdfast", 4),
    Limit("idle", "holdfast", 50),
)


def verdicts(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Every target that `rows` say something about."""
    values = {
        (row["scenario"], row["backend"], row["concurrency"], row["system"]): row["value"]
        for row in rows
        if row["value"] is not None
    }
    for ratio in RATIOS:
        for callers in ratio.concurrency:
            place = (ratio.scenario, ratio.backend, callers)
            ours = values.get((*place, "holdfast"))
            theirs = [(values[*place, name], name) for name in ratio.beside if (*place, name) in values]
            if ours is None or not theirs:
                continue
            fastest, name = max(theirs)
            what = f"{ratio.scenario} {ratio.backend} {callers}: holdfast / {name}"
            yield Verdict(what, f"≥ {ratio.times:g} ×", ours / fastest, ours >= ratio.times * fastest)
    yield from _costs(rows)
    for flat in FLAT:
        for backend in BACKENDS:
            ours = [
                value for (scenario, where, _, system), value in values.items()
                if (where, system) == (backend, "holdfast") and scenario in flat.scenarios
            ]  # fmt: skip
            if len(ours) > 1:
                spread = max(ours) / min(ours)
                what = f"{flat.scenarios[0]} to {flat.scenarios[-1]} {backend}: greatest / least"
                yield Verdict(what, f"≤ {flat.times:g} ×", spread, spread <= flat.times)
    for limit in LIMITS:
        for (scenario, backend, _, system), value in values.items():
            if (scenario, system) == (limit.scenario, limit.system):
                what = f"{scenario} {backend}: {system}"
                yield Verdict(what, f"≤ {limit.most:g}", value, value <= limit.most)


def _costs(rows: Sequence[Row]) -> Iterator[Verdict]:
    for cost in COSTS:
        for ours in rows:
            if (ours["scenario"], ours["backend"], ours["system"]) != (
                cost.scenario,
                cost.backend,
                "holdfast",
            ):
                continue
            for theirs in rows:
                place = (theirs["scenario"], theirs["backend"], theirs["concurrency"], theirs["system"])
                if place != (cost.scenario, cost.backend, ours["concurrency"], cost.beside):
                    continue
                if cost.figure in ours and cost.figure in theirs:
                    times = ours[cost.figure] / theirs[cost.figure]
                    what = f"{cost.scenario} {cost.backend}: {cost.figure} / {cost.beside}"
                    yield Verdict(what, f"≤ {cost.times:g} ×", times, times <= cost.times)

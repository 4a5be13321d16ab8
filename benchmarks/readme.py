"""The figures in the README: one line per comparison, each with the command that measures it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measurement import Row

README = Path(__file__).parents[1] / "README.md"
_BEGIN, _END = "<!-- numbers:begin -->", "<!-- numbers:end -->"
_PEERS = (
    ("dbos", "DBOS"),
    ("dbos-best", "DBOS, best mode"),
    ("langgraph", "LangGraph"),
    ("absurd", "Absurd"),
)
_COMPARED = ("steps", "long", "slow-disk")
_QUEUE_PEERS = (
    ("pgqueuer", "PGQueuer"),
    ("procrastinate", "Procrastinate"),
    ("dbos", "DBOS queues"),
    ("dbos-best", "DBOS queues, best mode"),
)
_QUEUES = {
    "queue-0": "a queue, nothing else waiting",
    "queue-100k": "100,000 more waiting",
    "queue-1m": "1,000,000 more waiting",
    "queue-done": "and 1,000,000 finished behind",
    "enqueue": "enqueued one by one",
}
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def block(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """The Markdown between the marks."""
    values = {
        (row["scenario"], row["backend"], row["concurrency"], row["system"]): row["value"] for row in rows
    }
    steps = _table(values, "steps/s", _PEERS, {name: _title(name) for name in _COMPARED})
    queues = _table(values, "jobs/s", _QUEUE_PEERS, _QUEUES)
    return "\n".join([*steps, "", *([*queues, ""] if queues else []), _conditions(facts), "", *_single(rows)])


Place = tuple[str, str, int, str]


def _table(
    values: Mapping[Place, float | None],
    unit: str,
    peers: Sequence[tuple[str, str]],
    titles: Mapping[str, str],
) -> list[str]:
    """One table of what is compared with the same peers; none without a line."""
    head = ["scenario", "at once", unit, "of the raw limit", *(name for _, name in peers), "measured by"]
    lines = []
    for (scenario, backend, callers, system), ours in values.items():
        if system != "holdfast" or not ours or scenario not in titles:
            continue
        place = (scenario, backend, callers)
        raw = values.get((*place, "raw"))
        cells = [
            f"{_NAMES[backend]}, {titles[scenario]}",
            str(callers),
            f"{ours:,.0f}",
            f"{ours / raw:.2f}" if raw else "–",
            *(_times(ours, values.get((*place, peer))) for peer, _ in peers),
            f"`{_command(scenario, backend, callers)}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return []
    return [f"| {' | '.join(head)} |", "| --- | --- | --- | --- |" + " --- |" * (len(peers) + 1), *lines]


def _command(scenario: str, backend: str, callers: int) -> str:
    at_once = "" if scenario.startswith("queue-") else f" --concurrency {callers}"
    return f"python -m benchmarks {scenario} --backend {backend}{at_once} --peers all"


def _times(ours: float, theirs: float | None) -> str:
    if not theirs:
        return "–"
    return f"{ours / theirs:,.0f} ×" if ours >= 10 * theirs else f"{ours / theirs:.1f} ×"


def _title(scenario: str) -> str:
    return {"steps": "10 steps each", "long": "1,000 steps each", "slow-disk": "2 ms added to every sync"}[
        scenario
    ]


def _conditions(facts: Mapping[str, Any]) -> str:
    disk = facts.get("fdatasync_ms") or {}
    sync = f", fdatasync {disk['median']:.2f} ms" if "median" in disk else ""
    return (
        f"Medians of interleaved rounds on {facts.get('cores')} cores, {facts.get('file_system')}{sync}, "
        f"Python {facts.get('python')}. ![plot](benchmarks/results/all.svg)"
    )


def _single(rows: Sequence[Row]) -> list[str]:
    wanted = {
        "cpu": "client CPU per step at 50: {value:.0f} µs on {backend}",
        "resume": "going on with 10,000 recorded steps: {value:.2f} s on {backend}",
        "fanout": "a 10,000-step fan-out in `holdfast run`: {value:.0f} MB at most on {backend}",
        "start": "`{system}`: {value:.0f} ms",
        "dispatch": "enqueued to running, idle worker: p50 {value:.1f} ms, p99 {p99_ms:.1f} ms on {backend}",
        "takeover": "killed to running on another host, lease 2 s: {value:.1f} s, at most {most_s:.1f} s",
        "takeover-here": "the same on one host: {value:.1f} s, at most {most_s:.1f} s on {backend}",
        "idle": "50 idle workers of 100 queues: {value:.0f} queries/s on {backend}",
        "records-get": "a record by its id: {value:,.0f} records/s on {backend}, {detail}",
        "records-create": "a new record: {value:,.0f} records/s on {backend}, {detail}",
        "records-find": "a page of 50 records: {value:,.0f} pages/s on {backend}, {detail}",
        "bulk": "50,000 records in one transaction: {value:,.0f} rows/s on {backend}",
        "conversation": "a conversation of 500 turns: {value:,.0f} turns/s on {backend}, {detail}",
        "copy": "`storage copy` from SQLite into PostgreSQL and back: {detail}",
    }
    return [
        "* " + wanted[row["scenario"]].format(**row) + f" (`python -m benchmarks {row['scenario']}`)"
        for row in rows
        if row["scenario"] in wanted
        and row["value"] is not None
        and row["system"] in ("holdfast", "holdfast --help", "import holdfast")
    ]


def update(rows: Sequence[Row], facts: Mapping[str, Any], readme: Path = README) -> None:
    """Replace the block in the README."""
    text = readme.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    readme.write_text(f"{before}{_BEGIN}\n{block(rows, facts)}\n{_END}{after}")

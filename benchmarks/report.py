"""From rows to what is read: medians over rounds, the table, the targets, the JSON file and its plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import databases, disk, plot
from benchmarks.measurement import Row
from benchmarks.targets import verdicts

RESULTS = Path(__file__).with_name("results")


def medians(rows: Sequence[Row]) -> list[Row]:
    """One row per scenario, backend, concurrency and system: the round whose value is the (lower) median.

    A whole round is kept, so that latency and CPU belong to the value they stand beside; `least` and `most`
    give the spread over the rounds.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["scenario"], row["backend"], row["concurrency"], row["system"])
        groups.setdefault(key, []).append(row)
    kept = []
    for group in groups.values():
        measured = sorted(
            (row for row in group if row["value"] is not None), key=lambda row: float(row["value"])
        )
        if not measured:
            kept.append(group[-1])
            continue
        middle = measured[(len(measured) - 1) // 2]
        spread = {"rounds": len(measured), "least": measured[0]["value"], "most": measured[-1]["value"]}
        kept.append(middle | spread)
    return kept


def table(rows: Sequence[Row]) -> str:
    """The rows as text, grouped by scenario, with Holdfast's multiple of each other system."""
    lines: list[str] = []
    group = None
    ours = {
        (row["scenario"], row["backend"], row["concurrency"]): row["value"]
        for row in rows
        if row["system"] == "holdfast" and row["value"]
    }
    for row in rows:
        place = (row["scenario"], row["backend"], row["concurrency"])
        if place != group:
            group = place
            lines += ["", f"{place[0]}, {place[1]}, {place[2]} at once ({row['unit']})"]
        if row["value"] is None:
            lines.append(f"  {row['system']:<16} {'–':>12}  {row.get('note', '')}")
            continue
        base = ours.get(place)
        beside = f"{base / row['value']:>8.2f} ×" if base and row["system"] != "holdfast" else " " * 10
        latency = f"p50 {row['p50_ms']:8.2f} ms  p99 {row['p99_ms']:8.2f} ms" if "p50_ms" in row else ""
        detail = f"{row['detail']}  " if "detail" in row else ""
        lines.append(
            f"  {row['system']:<16} {row['value']:>12,.1f} {beside}  {latency}  {detail}{row['mode']}"
        )
    return "\n".join(lines).strip("\n")


def targets_table(rows: Sequence[Row]) -> str:
    """Every target the rows speak of, with what was measured."""
    lines = []
    for verdict in verdicts(rows):
        word = "reached" if verdict.reached else f"MISSED by {_missing(verdict.wanted, verdict.measured)}"
        lines.append(f"  {verdict.what:<52} {verdict.wanted:>9} {verdict.measured:>10.2f}  {word}")
    return "\n".join(lines)


def _missing(wanted: str, measured: float) -> str:
    target = float(wanted.split()[1])
    return f"{abs(target - measured) / target:.0%}"


def host(folder: Path, *, with_server: bool) -> dict[str, Any]:
    """What the figures belong to: processor, disk, versions, and how busy the machine was at the start."""
    fastest, usual = disk.sync_ms(folder)
    facts: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "file_system": disk.file_system(folder),
        "fdatasync_ms": {"fastest": round(fastest, 3), "median": round(usual, 3)},
    }
    return facts | ({"postgresql": databases.server_facts()} if with_server else {})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def save(name: str, facts: dict[str, Any], rounds: Sequence[Row], rows: Sequence[Row]) -> tuple[Path, Path]:
    """Write `results/<name>.json` and `results/<name>.svg`; returns both paths."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "host": facts,
        "rows": list(rows),
        "targets": [
            {"what": v.what, "wanted": v.wanted, "measured": v.measured, "reached": v.reached}
            for v in verdicts(rows)
        ],
        "rounds": list(rounds),
    }
    data, picture = RESULTS / f"{name}.json", RESULTS / f"{name}.svg"
    data.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    picture.write_text(plot.svg(rows))
    return data, picture

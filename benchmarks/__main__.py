"""`python -m benchmarks`: one scenario, short and alone, or `all` of them in rounds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import disk, measurement, readme, report
from benchmarks.catalogue import BACKENDS, GROUPS, SCENARIOS, system_names, systems_for
from benchmarks.declarations import Scenario, System
from benchmarks.measurement import Row
from benchmarks.queues import QUICK, shortened

_SPELLINGS = {"postgres": "postgresql", "pg": "postgresql"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Holdfast beside the raw limit and its peers, at equal durability.",
        epilog="; ".join(
            [f"{each.name}: {each.title}" for each in SCENARIOS.values()]
            + [f"{name}: {', '.join(members)}" for name, members in GROUPS.items()]
        ),
    )
    made.add_argument("scenario", choices=[*SCENARIOS, *GROUPS, "all"])
    made.add_argument("--backend", choices=[*BACKENDS, *_SPELLINGS], help="only this one (default: all)")
    made.add_argument("--concurrency", type=_count, help="callers at once (default: those of the scenario)")
    made.add_argument("--seconds", type=_seconds, help="measured per row (default: 5; 3 in `all`)")
    made.add_argument(
        "--peers",
        help="systems beside holdfast, by comma, or all (default: raw; all in `all`)",
    )
    made.add_argument("--only", help="in `all`: only these scenarios, by comma")
    made.add_argument(
        "--rounds",
        type=_count,
        help="rounds, systems taking turns (default: 1; in `all` 3, or 1 for queues that are filled first)",
    )
    made.add_argument(
        "--quick", action="store_true", help=f"1 s per row, one round, queues {QUICK} times shorter"
    )
    made.add_argument("--folder", type=Path, help="where SQLite databases are made (default: /var/tmp)")
    made.add_argument("--name", help="save results/NAME.json and .svg (default: only `all`, as all)")
    made.add_argument("--json", action="store_true", help="print a list of rows and nothing else")
    return made


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _seconds(text: str) -> float:
    if not 0.1 <= (number := float(text)) <= 600:
        raise argparse.ArgumentTypeError("must be between 0.1 and 600")
    return number


def names(text: str, known: set[str]) -> list[str]:
    """A comma list of names; a name that is not known ends the program."""
    given = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := set(given) - known:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return given


def turns(
    scenario: Scenario, systems: list[System], options: argparse.Namespace, rounds: int
) -> Iterator[tuple[System, str, int]]:
    """Who is measured when: systems one after another, each round beginning with another one."""
    backend = _SPELLINGS.get(options.backend, options.backend)
    for each_backend in [backend] if backend else scenario.backends:
        named = options.peers not in (None, "all")  # who was named and can not run is told so
        able = [system for system in systems if each_backend in system.modes or named]
        for callers in [options.concurrency] if options.concurrency else scenario.concurrency:
            for turn in range(rounds):
                shift = turn % max(1, len(able))
                for system in able[shift:] + able[:shift]:
                    yield system, each_backend, callers


def run(scenario: Scenario, options: argparse.Namespace, rounds: int, folder: Path) -> list[Row]:
    """All rounds of one scenario."""
    if scenario.name == "start":
        return measurement.start_up(options.seconds)
    rows = []
    wanted = options.peers or ("all" if options.scenario == "all" else "raw")
    systems = systems_for(scenario, ["holdfast", *names(wanted, system_names())])
    for system, backend, callers in turns(scenario, systems, options, rounds):
        row = measurement.measure(scenario, system, backend, callers, options.seconds, folder)
        rows.append(row)
        value = f"{row['value']:,.1f} {row['unit']}" if row["value"] is not None else row["note"]
        print(f"{scenario.name} {backend} {callers} {system.name}: {value}", file=sys.stderr, flush=True)
    return rows


def chosen_by(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that the command line asks for."""
    if options.scenario == "all":
        known = set(SCENARIOS) | set(GROUPS)
        wanted = names(options.only, known) if options.only else list(SCENARIOS)
    else:
        wanted = [options.scenario]
    single = [name for each in wanted for name in GROUPS.get(each, (each,))]
    scenarios = [SCENARIOS[name] for name in dict.fromkeys(single)]
    return [shortened(each) for each in scenarios] if options.quick else scenarios


def main() -> int:
    """Measure, print, save; 0 when every row has a value, else 1. Missed targets are news, not an error."""
    options = parser().parse_args()
    everything = options.scenario == "all"
    chosen = chosen_by(options)
    options.seconds = options.seconds or (1.0 if options.quick else 3.0 if everything else 5.0)
    try:
        folder = disk.folder_for_databases(options.folder)
    except disk.UnusableDisk as error:
        sys.exit(str(error))
    uses_server = _SPELLINGS.get(options.backend, options.backend) != "sqlite" and any(
        "postgresql" in scenario.backends for scenario in chosen
    )
    facts = report.host(folder, with_server=uses_server)
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in facts.items()))
    measured = []
    for scenario in chosen:
        rounds = options.rounds or (scenario.rounds if everything and not options.quick else 1)
        measured += run(scenario, options, rounds, folder)
    rows = report.medians(measured)
    if name := options.name or ("all" if everything else None):
        for path in report.save(name, facts, measured, rows):
            print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}",
                  file=sys.stderr)  # fmt: skip
    if everything and not options.only and not options.quick:
        readme.update(rows, facts)
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print(report.table(rows), report.targets_table(rows), sep="\n\n")
    return 0 if all(row["value"] is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

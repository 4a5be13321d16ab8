"""What `storage health` prints, and the figures of one process in `storage stats`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.cli.loop import until_stopped
from holdfast.cli.output import seconds_text
from holdfast.store.figures import BOUNDS_S, Figures
from holdfast.store.health import Check, State, examine
from holdfast.stores import build_store

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation

CHECK_LIMIT = timedelta(seconds=10)
_SIGNS = {State.OK: "✔", State.WARNING: "!", State.FAILED: "✖"}
_COLUMNS = ["name", "state", "latency_ms", "detail"]


def show_health(invocation: Invocation) -> int:
    """Look at the configured store, print what was found; the exit code."""
    config = invocation.load_config().config
    limit = invocation.timeout or CHECK_LIMIT

    async def look() -> list[Check]:
        return await examine(build_store(config, create=False), limit=limit)

    checks = until_stopped(look)
    code = next((each.exit_code for each in checks if each.exit_code), 0)
    if invocation.output.is_table:
        invocation.output.text("\n".join(map(_line, checks)))
        for check in checks:
            if check.error is not None:
                invocation.say(f"{check.error.code}  {check.error.cause}\n  fix     {check.error.fix}")
    else:
        place = {"store": str(config.storage.url), "type": config.storage.type}
        rows = [_record(check) for check in checks]
        invocation.output.records(rows, _COLUMNS, key="name", **place, healthy=code == 0)
    return code


def _line(check: Check) -> str:
    took = seconds_text(check.took.total_seconds())
    return f"{_SIGNS[check.state]} {check.name:<12} {took:>8}  {check.detail}".rstrip()


def _record(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "state": str(check.state),
        "latency_ms": round(check.took / timedelta(milliseconds=1), 3),
        "detail": check.detail,
        "error": None if check.error is None else check.error.as_problem(),
    }


def process_record(figures: Figures) -> dict[str, Any]:
    """The figures of this process as JSON; a histogram has a count per bound and one for what is above."""
    return {
        "statements": [asdict(each) for each in figures.statements],
        "bounds_s": list(BOUNDS_S),
        "slow": figures.slow,
        "pool": asdict(figures.pool),
    }

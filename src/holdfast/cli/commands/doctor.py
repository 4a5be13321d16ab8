"""`holdfast doctor`: what is wrong with the store and its workers, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

if TYPE_CHECKING:
    from holdfast.fleet.diagnosis import Finding


@click.command("doctor", cls=Command)
@click.option("--production", is_flag=True, help="warnings count as findings too")
@click.pass_obj
def command(invocation: Invocation, production: bool) -> int:
    """Look for what stands still or may be lost. Reads only.

    Checks migrations, executions that wait for a version nobody offers, queues without a worker, executions
    of dead owners, long transactions, partitions and the settings of the database.

    Exit codes: 0 all well, 1 something was found.
    """
    from holdfast.fleet.diagnosis import Level

    findings = _look(invocation)
    matters = {Level.PROBLEM, Level.WARNING} if production else {Level.PROBLEM}
    found = [each for each in findings if each.level in matters]
    if invocation.output.is_table:
        for each in findings:
            invocation.output.text(f"{each.level:<8} {each.check:<11} {each.message}")
            if each.fix:
                invocation.output.text(f"{'':<20} {each.fix}")
    else:
        columns = ["check", "level", "message", "fix"]
        invocation.output.records(map(_record, findings), columns, key="message", healthy=not found)
    return 1 if found else 0


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "level": str(finding.level),
        "message": finding.message,
        "fix": finding.fix or None,
        "details": dict(finding.details),
    }


def _look(invocation: Invocation) -> list[Finding]:
    from holdfast.cli.loop import until_stopped
    from holdfast.fleet.diagnosis import diagnose
    from holdfast.stores import build_store

    config = invocation.load_config().config

    async def look() -> list[Finding]:
        # Not opened as a store is: a schema that is missing or of another version is a finding.
        store = build_store(config, create=False)
        await store.driver.open()
        try:
            return await diagnose(store)
        finally:
            await store.driver.close()

    return until_stopped(look)

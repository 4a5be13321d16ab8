"""What `storage verify` and `storage optimize` do: a line per check or step, and a count while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.cli.output import counted
from holdfast.cli.reading import with_store
from holdfast.domain.keyrings import keyring_of
from holdfast.upkeep.optimizing import Done, optimize, steps
from holdfast.upkeep.verifying import Checked, verify

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

INTEGRITY = 6


def verify_store(invocation: Invocation) -> int:
    """Run every check and print what it found; the exit code."""
    keys = keyring_of(invocation.load_config().config.security.audit_key)

    async def run(store: Store) -> list[Checked]:
        done = []
        async for each in verify(store, audit_keys=keys, report=_counting(invocation)):
            done.append(each)
            if invocation.output.is_table:
                _show(invocation, each)
        return done

    done = with_store(invocation, run)
    faults = [fault for each in done for fault in each.faults]
    if not invocation.output.is_table:
        rows = [
            {"check": str(each.area), "looked_at": each.looked_at, "faults": len(each.faults)}
            for each in done
        ]
        listed = [{"check": str(each.area), "place": each.place, "message": each.message} for each in faults]
        invocation.output.records(
            rows, ["check", "looked_at", "faults"], key="check", sound=not faults, faults=listed
        )
    return INTEGRITY if faults else 0


def _show(invocation: Invocation, checked: Checked) -> None:
    sign, amount = ("✖", len(checked.faults)) if checked.faults else ("✔", checked.looked_at)
    said = counted(amount, "fault", "faults") if checked.faults else (f"{amount:,}" if amount else "")
    invocation.output.text(f"{sign} {checked.area:<10} {said}".rstrip())
    for fault in checked.faults:
        invocation.output.text(f"  {fault.place}: {fault.message}")


def _counting(invocation: Invocation) -> Any:
    def tell(table: str, rows: int) -> None:
        if invocation.flags.progress == "plain" and rows:
            invocation.say(f"read {rows:,} rows of {table}")

    return tell


def optimize_store(invocation: Invocation) -> None:
    """Do each step, with a line for it; with `--dry-run` name the steps."""

    async def run(store: Store) -> list[Done]:
        if invocation.flags.dry_run:
            return [Done(what, 0.0) for what in steps(store)]
        return [each async for each in optimize(store, report=_telling(invocation))]

    done = with_store(invocation, run)
    rows = [{"step": each.what, "seconds": round(each.took_s, 3)} for each in done]
    columns = ["step"] if invocation.flags.dry_run else ["step", "seconds"]
    invocation.output.records(rows, columns, key="step", dry_run=invocation.flags.dry_run)


def _telling(invocation: Invocation) -> Any:
    shows = invocation.flags.progress == "plain" or (
        invocation.flags.progress == "auto" and invocation.stderr.isatty()
    )
    return invocation.say if shows else (lambda what: None)

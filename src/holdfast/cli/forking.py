"""What `holdfast fork` does: the input checked as the definition says, the new execution, and the way on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.cli.reading import with_store
from holdfast.cli.running import resume, user
from holdfast.cli.targets import read_input
from holdfast.events.log import EventLog
from holdfast.fleet.forking import fork
from holdfast.fleet.resets import Log
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.records.executions import Execution
from holdfast.store import codec

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store


def fork_execution(
    invocation: Invocation, source: str, *, at: str | None, given: str | None, id: str | None, run: bool
) -> int:
    """Fork `source`; with `run` go on with it here. The exit code."""
    values = None if given is None else read_input(given, invocation.stdin, invocation.cwd)

    async def work(store: Store) -> dict[str, Any]:
        execution = await store.get_execution(source)
        input = None if values is None else await _encoded(store, execution, values)
        if invocation.flags.dry_run:
            log = Log(await store.driver.fetch("events.history", execution.key))
            first = log.first_of(at) if at is not None else 0
            copied = sum(line.seq < first for line in log.results())
            return _record(execution, execution, at, copied) | {"id": id, "dry_run": True}
        made = await fork(store, execution, at=at, input=input, id=id, started_by=user())
        copied = len(await EventLog(store).page(made, limit=1_000)) - 1
        return _record(made, execution, at, copied)

    row = with_store(invocation, work)
    if run and not invocation.flags.dry_run:
        return resume(invocation, [row["id"]], steal=False, wait=timedelta(minutes=10))
    _show(invocation, row)
    return 0


async def _encoded(store: Store, execution: Execution, values: dict[str, Any]) -> bytes:
    """Another input, with the defaults of a YAML definition; a Python one checks it when it runs."""
    stored = await store.get_definition(execution.definition)
    if stored is not None and stored.kind == "yaml":
        from holdfast.workflows.definition import from_document

        values = from_document(stored.document).check_input(values)
    return codec.encode(values, what="input")


def _record(made: Execution, source: Execution, at: str | None, copied: int) -> dict[str, Any]:
    return {
        "id": made.id,
        "workflow": made.workflow,
        "status": str(made.status),
        "queue": made.queue,
        "source": source.id,
        "at": at,
        "copied": copied,
        "next": f"holdfast resume {made.id}" if made.queue == LOCAL_QUEUE else None,
    }


def _show(invocation: Invocation, row: dict[str, Any]) -> None:
    if not invocation.output.is_table:
        invocation.output.record(row)
        return
    results = f"{row['copied']:,} {'result' if row['copied'] == 1 else 'results'}"
    if row.get("dry_run"):
        invocation.say(f"{row['source']} would be forked with {results}")
        return
    invocation.output.text(row["id"])
    begins = f" at {row['at']}" if row["at"] else ""
    invocation.say(f"⑂ forked from {row['source']}{begins}, with {results}")
    where = f"go on with: {row['next']}" if row["next"] else f"it waits for a worker of queue {row['queue']}"
    invocation.say(f"  {where}")

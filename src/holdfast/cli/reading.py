"""Opening a store for a command that reads it, or changes a row or two, but never makes or migrates one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cli.loop import until_stopped

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.records.executions import Execution, ExecutionKey
    from holdfast.store.store import Store

T = TypeVar("T")


def with_store(invocation: Invocation, work: Callable[[Store], Awaitable[T]], *, migrate: bool = False) -> T:
    """What `work` gives on the configured store; `NoStore` when there is none.

    With `migrate` it is made and brought up to date first, unless the configuration says otherwise.
    """
    from holdfast.stores import open_store

    config = invocation.load_config().config
    migrations = config.storage.migrations
    wanted = migrate and migrations.enabled and migrations.auto_run

    async def run() -> T:
        async with open_store(config, migrate=wanted) as store:
            return await work(store)

    return until_stopped(run)


def cursor_key(cursor: str) -> ExecutionKey:
    """The key behind a `next_cursor`; `InvalidUsage` for anything else."""
    from holdfast.errors import InvalidUsage
    from holdfast.records.executions import ExecutionKey

    try:
        key = bytes.fromhex(cursor)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise InvalidUsage(
            f"{cursor[:40]!r} is not a cursor", where="--after", fix="pass the next_cursor of an earlier page"
        )
    return ExecutionKey(key)


def execution_record(execution: Execution) -> dict[str, Any]:
    """An execution as `executions list` and the others print it."""
    from holdfast.records.executions import key_text

    return {
        "id": execution.id,
        "workflow": execution.workflow,
        "version": execution.version,
        "status": str(execution.status),
        "queue": execution.queue,
        "started_at": execution.created_at,
        "finished_at": execution.finished_at,
        "duration": execution.duration,
        "due_at": execution.due_at,
        "recoveries": execution.recoveries,
        "parent": None if execution.parent is None else key_text(execution.parent),
        "definition": bytes(execution.definition).hex(),
    }

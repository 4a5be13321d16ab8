"""The tables of the engine, which no record class stands for, in the order in which they can be filled.

What a database keeps for itself is not named here: the order of commits in `events` and `stream_events`, the
words of a search.
"""

from __future__ import annotations

from holdfast.records.tables import Column, Kind, Table

_KINDS = {
    "k": Kind.BYTES, "t": Kind.TEXT, "i": Kind.INTEGER, "r": Kind.REAL, "b": Kind.BOOLEAN, "m": Kind.MOMENT,
    "l": Kind.TEXTS, "j": Kind.JSON,
}  # fmt: skip


def _table(name: str, columns: str, *, key: str, owner: tuple[str, tuple[str, ...]] | None = None) -> Table:
    """`columns` are `name:kind` words; a `?` behind the kind's letter says that it may be empty."""
    made = []
    for word in columns.split():
        column, _, kind = word.partition(":")
        made.append(Column(name=column, kind=_KINDS[kind[0]], nullable=kind.endswith("?")))
    return Table(name=name, columns=tuple(made), key=tuple(key.split()), owner=owner)


_EXECUTION = ("executions", ("execution",))

DEFINITIONS = _table(
    "definitions",
    "tenant_id:t hash:k name:t version:t kind:t document:k created_at:m",
    key="tenant_id hash",
)
QUEUES = _table(
    "queues",
    "name:t paused:b concurrency:i? key_concurrency:i? tenant_concurrency:i? rate_count:i? rate_period_us:i? "
    "rate_tokens:r rate_at:m? created_at:m",
    key="name",
)
EXECUTIONS = _table(
    "executions",
    "key:k tenant_id:t id:t workflow:t version:t definition:k fingerprint:k status:t queue:t class:t "
    "priority:i due_at:m? owner:k? epoch:i recoveries:i wakes:i parent:k? parent_path:t? schedule:t? "
    "created_at:m "
    "finished_at:m? limit_key:t? dedupe_key:t? blocked_on:t? detached:b",
    key="key",
)
EXECUTION_DETAILS = _table(
    "execution_details",
    "execution:k tenant_id:t tags:l trigger_source:t started_by:t? metadata:j context:j",
    key="execution",
    owner=_EXECUTION,
)
PAYLOADS = _table(
    "payloads", "execution:k digest:k tenant_id:t body:k", key="execution digest", owner=_EXECUTION
)
EVENTS = _table(
    "events",
    "execution:k seq:i tenant_id:t epoch:i type:t path:t? generation:i ordinal:i? attempt:i result:b at:m "
    "duration_us:i? input_digest:k? input:k? payload:k? payload_ref:k?",
    key="execution seq",
    owner=_EXECUTION,
)
INBOX = _table(
    "inbox",
    "execution:k message:k tenant_id:t kind:t name:t? payload:k? created_at:m",
    key="execution message",
    owner=_EXECUTION,
)
WAITS = _table(
    "waits", "execution:k path:t tenant_id:t name:t created_at:m", key="execution path", owner=_EXECUTION
)
APPROVALS = _table(
    "approvals",
    "tenant_id:t id:t execution:k path:t title:t form:k? status:t deadline:m? decided_by:t? decided_at:m? "
    "answer:k? created_at:m",
    key="tenant_id id",
    owner=_EXECUTION,
)
TASK_DEPENDENCIES = _table(
    "task_dependencies",
    "tenant_id:t task:t dependency:t",
    key="tenant_id task dependency",
    owner=("tasks", ("tenant_id", "task")),
)
SLOTS = _table("slots", "queue:t scope:t no:i holder:k?", key="queue scope no", owner=("queues", ("queue",)))
MAILBOXES = _table("mailboxes", "tenant_id:t name:t created_at:m", key="tenant_id name")
SIGNALS = _table(
    "signals", "tenant_id:t name:t message:k payload:k? created_at:m", key="tenant_id name message"
)
STREAMS = _table("streams", "tenant_id:t name:t head:i created_at:m", key="tenant_id name")
STREAM_EVENTS = _table(
    "stream_events",
    "tenant_id:t stream:t seq:i type:t payload:k at:m",
    key="tenant_id stream seq",
    owner=("streams", ("tenant_id", "stream")),
)
WORKERS = _table(
    "workers", "boot_id:k program:t host:t pid:i started_at:m lease_until:m details:t", key="boot_id"
)

ENGINE_TABLES = (
    DEFINITIONS, QUEUES, EXECUTIONS, EXECUTION_DETAILS, PAYLOADS, EVENTS, INBOX, WAITS, APPROVALS,
    SLOTS, MAILBOXES, SIGNALS, STREAMS, STREAM_EVENTS, WORKERS,
)  # fmt: skip
LINK_TABLES = (TASK_DEPENDENCIES,)
"""Those that say how records belong together: they are filled last."""

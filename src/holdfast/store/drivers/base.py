"""The port between the store and a database: connect, run named statements, transact, flush.

A driver is the only code that imports a database library. It takes statements by name from
`holdfast.store.sql`, binds values, and translates every error by code into `holdfast.errors`, so that
nothing above it can tell databases apart except by what a driver declares.

The journal's batches come as `Batch` (what to write) and go back as one `Reply` per entry. How a driver
writes a batch is its own business, within this contract:

* all rows of a batch are written in one transaction that is durable before `flush` returns;
* an entry is written whole or not at all, and only while the execution's epoch is the entry's epoch,
  compared under the row's lock in that same transaction;
* a row that is locked elsewhere is never waited for: its entries are answered `BUSY`;
* any exception means that nothing is known about the batch (`UnknownOutcome`, connection errors) or that
  nothing of it was written (data errors); the same batch may be passed again unchanged in both cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from holdfast.records.executions import BootId, ExecutionKey
from holdfast.store.drivers.tls import Encryption
from holdfast.store.figures import PoolFigures
from holdfast.store.hints import HintSource
from holdfast.store.migrations.session import MigrationSession

Row = Sequence[Any]
"""One result row; columns by position, in the order the statement names them."""


class Isolation(StrEnum):
    """Isolation of a transaction. SQLite gives all of them the strongest, since it has one writer."""

    READ_COMMITTED = "read_committed"
    REPEATABLE_READ = "repeatable_read"
    SERIALIZABLE = "serializable"


class Answer(Enum):
    """What became of one journal entry."""

    WRITTEN = "written"
    RECORDED = "recorded"  # its place is taken: a result for this path, or this sequence number, exists
    FENCED = "fenced"  # the epoch is no longer ours
    BUSY = "busy"  # a row it needs is locked elsewhere; send it again
    WOKEN = "woken"  # a suspend that lost against a message: read the inbox first


class EventRow(NamedTuple):
    """The columns of one event that its writer chooses; `at`, `tenant_id` and `xid` are the database's."""

    execution: ExecutionKey
    seq: int
    epoch: int
    type: str
    path: str | None
    generation: int
    ordinal: int | None
    attempt: int
    result: bool
    duration_us: int | None
    input_digest: bytes | None
    input: bytes | None
    payload: bytes | None
    payload_ref: bytes | None


class NewExecution(NamedTuple):
    """The row of an execution that an entry creates: owned by the writer, or left for a worker.

    One that is left has no owner and epoch 0, and is `ready`, or `waiting` with `due_in_us` from the
    database's now.
    """

    key: ExecutionKey
    tenant_id: str
    id: str
    workflow: str
    version: str
    definition: bytes
    fingerprint: bytes
    status: str
    queue: str
    class_: str
    priority: int
    due_in_us: int | None
    owner: BootId | None
    epoch: int
    parent: ExecutionKey | None = None
    parent_path: str | None = None
    limit_key: str | None = None
    dedupe_key: str | None = None
    detached: bool = False
    tags: tuple[str, ...] = ()
    trigger_source: str = "api"
    started_by: str | None = None
    metadata: str = "{}"  # JSON objects
    context: str = "{}"

    @property
    def is_described(self) -> bool:
        """Whether anything about it stands in `execution_details`."""
        said = self.metadata != "{}" or self.context != "{}"
        return said or bool(self.tags) or self.started_by is not None

    @property
    def row(self) -> tuple[Any, ...]:
        """The columns of `executions`, in the order of `flush_start`."""
        return self[:19]


class Transition(NamedTuple):
    """A change of the execution row that goes with an entry.

    The row gives up its owner unless the new status is `running`. `expect_wakes` makes it a
    compare-and-set: with a message in between, the whole entry is answered `WOKEN`. `frees_slots` gives back
    the places it held in a queue with limits.
    """

    status: str
    final: bool
    due_in: timedelta | None = None  # from the database's now
    expect_wakes: int | None = None
    frees_slots: bool = False


class Post(NamedTuple):
    """A message that an entry leaves in the inbox of another execution, waking it."""

    target: ExecutionKey
    message: bytes
    kind: str
    name: str | None
    payload: bytes | None


class Write:
    """One entry as a driver sees it: one event, and what happens with it or not at all.

    `event` is filled in when the batch is built, since sequence numbers are given then.
    """

    __slots__ = ("body", "create", "event", "is_plain", "post", "take", "transition")
    event: EventRow

    def __init__(
        self,
        *,
        create: NewExecution | None = None,
        transition: Transition | None = None,
        take: bytes | None = None,
        post: Post | None = None,
        body: bytes | None = None,
    ) -> None:
        self.create = create
        self.transition = transition
        self.take = take  # the inbox message that is removed with it
        self.post = post
        self.body = body  # goes to `payloads` under the digest in `event.payload_ref`
        # Only an event: the hot path.
        self.is_plain = (
            create is None and transition is None and take is None and post is None and body is None
        )


@dataclass(slots=True)
class Batch:
    """What one flush writes.

    No two entries of it create an execution or change its status, and none does so to one that gets a message
    from another; several may leave messages for the same execution.
    """

    writes: Sequence[Write]


class Reply(NamedTuple):
    """The answer to one entry, and the execution's `wakes` as the flush saw it (None if not seen)."""

    answer: Answer
    wakes: int | None


class Executor(Protocol):
    """What runs named statements: a driver (each its own transaction) or a transaction."""

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named statement and return its rows.

        Raises: `RetryLater` branches (unreachable, timeout, conflict), `ConstraintViolated`,
        `InvalidData`, `AccessDenied`, `DamagedData`.
        """
        ...

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """The same for text generated by `holdfast.store.query`; never for text from outside."""
        ...


class Transaction(Executor, Protocol):
    """An open transaction. Statements run in the order they are awaited."""

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows of a table by the fastest way the database has; all of them or none.

        Values are as `holdfast.store.dialects` writes them. Raises what `fetch` raises.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A nested block: an exception undoes what it did and leaves the transaction usable."""
        ...


class Heartbeat(Protocol):
    """A connection of its own for one thread, so that a busy event loop can not let a lease lapse."""

    def renew(self, boot: BootId, lease: timedelta) -> bool:
        """Extend the lease by the database's clock. False: it had run out and stays so."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Driver(Executor, Protocol):
    """A database that can be a store."""

    dialect: Literal["sqlite", "postgresql", "mysql"]
    schema: str
    """The quoted schema that statements name; empty where a database has none."""
    now: str
    """The expression for the present by the store's clock, for generated statements."""
    shared: bool
    """Whether another process can see this store: false for memory."""
    path: Path | None
    """The file of a database that lives on this host's disk; None in memory and on a server."""
    flushes_here: bool
    """Whether a flush competes with this process for its processor, as an embedded database does."""

    async def open(self) -> None:
        """Connect. Creates nothing unless the driver was made with `create=True`; `NoStore` otherwise."""
        ...

    async def settle(self) -> None:
        """What this database needs beside its schema, once that is current and the store is to be written."""
        ...

    async def close(self) -> None:
        """Close all connections; safe twice."""
        ...

    def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractAsyncContextManager[Transaction]:
        """A block that commits at its end and rolls back on any exception.

        Raises on leaving: `TransactionConflict` (nothing happened), `UnknownOutcome` (the connection was
        lost while COMMIT was under way).
        """
        ...

    async def flush(self, batch: Batch) -> list[Reply]:
        """Write a batch; see the module's contract. One caller at a time."""
        ...

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """Write a large value durably, apart from the flushes; writing the same one again is harmless."""
        ...

    def migrations(self) -> AbstractAsyncContextManager[MigrationSession]:
        """A direct connection for migrations."""
        ...

    def heartbeat(self) -> Heartbeat | None:
        """A connection for the lease thread; None where nobody else could take over."""
        ...

    def hints(self) -> HintSource | None:
        """A way to hear of other processes and to tell them; None where there are none."""
        ...

    async def encryption(self) -> list[Encryption]:
        """How the connections are protected: to the address, then the direct one; none without a server."""
        ...

    def pool_figures(self) -> PoolFigures:
        """How many connections there are for reads and transactions, and who waits for one; asks nobody."""
        ...

"""The front door of the store: what may be asked of it and done to it, whatever database is behind.

Reading is by named statements and generated pages; what happens to a running execution goes through the
journal and nowhere else. Opening looks at the schema first: a store that is too old, too new or not there is
said so before anything is read.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from holdfast.errors import ConstraintViolated, ExecutionNotFound, NoStore, TransactionConflict, VersionTaken
from holdfast.records.declare import Record
from holdfast.records.executions import Execution, ExecutionDetails, ExecutionKey
from holdfast.records.workflows import StoredDefinition, WorkflowStatus, WorkflowVersion
from holdfast.store import codec, migrations
from holdfast.store.backoff import Backoff
from holdfast.store.dialects import dialect_of
from holdfast.store.drivers.base import Driver, Isolation, Transaction
from holdfast.store.figures import Figures
from holdfast.store.filters import Query
from holdfast.store.hints import Hints
from holdfast.store.journal import Journal
from holdfast.store.metrics import Meter, Metered
from holdfast.store.options import StoreOptions
from holdfast.store.query import (
    executions_count,
    executions_count_up_to,
    executions_estimate,
    executions_page,
    parse_query,
)
from holdfast.store.repository import Count, Repository
from holdfast.store.rows import execution_of, moment, tags_of
from holdfast.store.statements import COUNTED, estimated

CONFLICT_REST_MAX_S = 2.0

P = ParamSpec("P")
R = TypeVar("R")
Recorded = TypeVar("Recorded", bound=Record)


@dataclass(frozen=True, slots=True)
class Message:
    """One message in an execution's inbox."""

    id: bytes
    kind: str
    name: str | None
    payload: bytes | None


class Beside(Protocol):
    """What goes along with a store while a process runs executions on it; each `start` wants its `stop`."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """Do what is left, and end. Raises what prevents it."""
        ...


class Store:
    """An open store. Use as `async with`, or `open` and `close`; both belong to one event loop."""

    def __init__(self, driver: Driver, options: StoreOptions | None = None, *, place: str = "") -> None:
        self.options = options or StoreOptions()
        self.place = place
        self._meter = Meter(driver.dialect, self.options.tenant, self.options.slow_query)
        self.driver: Driver = Metered(driver, self._meter)
        self.journal = Journal(self.driver)
        self.hints = Hints(driver.hints() if self.options.hints else None)
        self.journal.on_ready = self.hints.message
        self.beside: list[Beside] = []

    @property
    def tenant(self) -> str:
        """Whose records this handle reads and writes."""
        return self.options.tenant

    async def open(self, *, migrate: bool = False) -> None:
        """Connect and check the schema; with `migrate`, bring it up to date first.

        Raises `NoStore`, `MigrationsPending`, `SchemaTooNew`, `MigrationFailed`, `StoreUnavailable`.
        """
        await self.driver.open()
        try:
            await self.check_schema(migrate=migrate)
        except BaseException:
            await self.driver.close()
            raise
        self.journal.start()

    async def check_schema(self, *, migrate: bool = False) -> None:
        """Compare the schema with what this version knows; with `migrate`, bring it up to date.

        Raises what `open` raises.
        """
        known = migrations.load(self.driver.dialect, self.options.migrations_folder)
        async with self.driver.migrations() as session:
            if migrate:
                if await migrations.pending(session, known):
                    timeout = self.options.migrate_lock_timeout
                    await migrations.up(session, known, lock_timeout=timeout)
            else:
                missing = await migrations.pending(session, known)
                if len(missing) == len(known.migrations):
                    raise NoStore(f"No Holdfast tables at {self.place or self.driver.dialect}")
                await migrations.require_current(session, known)
        if migrate:
            await self.driver.settle()

    async def close(self) -> None:
        """Write what the journal still holds, tell other processes, then disconnect. Safe twice."""
        try:
            await self.journal.close()
        finally:
            try:
                await self.hints.close()
            finally:
                await self.driver.close()

    async def __aenter__(self) -> Store:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Transactions.

    def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractAsyncContextManager[Transaction]:
        """A block that runs once and commits at its end; see `Driver.transaction`."""
        return self.driver.transaction(isolation=isolation)

    def transactional(
        self, *, isolation: Isolation = Isolation.SERIALIZABLE, retries: int | None = None
    ) -> Callable[[Callable[Concatenate[Transaction, P], Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """A function whose body is one transaction and runs again after a deadlock or serialization failure.

        The function gets the transaction first; it has to be free of other effects, since it may run up to
        `retries` + 1 times (default: `storage.retry.on_conflict`). An unknown outcome is never retried.
        """
        limit = self.options.retry_on_conflict if retries is None else retries
        backoff = Backoff(first_s=self.options.retry_backoff.total_seconds(), most_s=CONFLICT_REST_MAX_S)

        def decorate(
            function: Callable[Concatenate[Transaction, P], Awaitable[R]],
        ) -> Callable[P, Awaitable[R]]:
            @functools.wraps(function)
            async def run(*args: P.args, **kwargs: P.kwargs) -> R:
                attempt = 0
                while True:
                    try:
                        async with self.driver.transaction(isolation=isolation) as transaction:
                            return await function(transaction, *args, **kwargs)
                    except TransactionConflict:
                        attempt += 1
                        if attempt > limit:
                            raise
                    await asyncio.sleep(backoff.rest_s(attempt))

            return run

        return decorate

    # Records.

    def repo(
        self, cls: type[Recorded], *, within: Transaction | None = None, unsealed: bool = False
    ) -> Repository[Recorded]:
        """The records of one declared kind, of this handle's tenant; see `holdfast.records.declare`.

        `within` is a transaction that their reads and writes belong to. `unsealed` is for the verbs of a
        sealed kind, which alone may write it.
        """
        return Repository(cls, self.driver, dialect_of(self.driver), self.tenant, within, unsealed=unsealed)

    # Executions.

    async def find_execution(self, id: str) -> Execution | None:
        """The execution with exactly this id, or None."""
        rows = await self.driver.fetch("executions.get", self.tenant, id)
        return execution_of(rows[0]) if rows else None

    async def get_execution(self, id: str) -> Execution:
        """The execution with this id, with this unique beginning of an id, or the newest for `@last`.

        Raises `ExecutionNotFound`, also when several begin with `id`.
        """
        if id == "@last":
            rows = await self.driver.fetch("executions.newest", self.tenant)
            if not rows:
                raise ExecutionNotFound("there is no execution yet", where="@last")
            return execution_of(rows[0])
        exact = await self.find_execution(id)
        if exact is not None:
            return exact
        rows = await self.driver.fetch("executions.by_prefix", self.tenant, id) if id else []
        if len(rows) == 1:
            return execution_of(rows[0])
        many = "several executions begin" if rows else "no execution begins"
        raise ExecutionNotFound(f"{many} with {id!r}", id=id)

    async def execution_by_key(self, key: ExecutionKey) -> Execution | None:
        """The execution with this internal key, or None."""
        rows = await self.driver.fetch("executions.by_key", key)
        return execution_of(rows[0]) if rows else None

    async def list_executions(
        self, query: str | Sequence[str] | Query = (), *, before: ExecutionKey | None = None, limit: int = 50
    ) -> list[Execution]:
        """A page of executions, newest first; pass the last key as `before` for the next page.

        `query` is in the query language of `holdfast.store.filters`. Raises `InvalidArgument`.
        """
        text, values = executions_page(
            dialect_of(self.driver), self.tenant, parse_query(query), before=before, limit=limit
        )
        return [execution_of(row) for row in await self.driver.fetch_text(text, *values)]

    async def count_executions(self, query: str | Sequence[str] = ()) -> int:
        """How many executions fit a query, without reading them. Raises `InvalidArgument`."""
        text, values = executions_count(dialect_of(self.driver), self.tenant, parse_query(query))
        return int((await self.driver.fetch_text(text, *values))[0][0])

    async def estimate_executions(self, query: str | Sequence[str] = ()) -> Count:
        """About how many executions fit, as fast for many as for few: exact up to 10,000.

        More are the planner's estimate; on SQLite, which has none, the number is a lower bound. Raises
        `InvalidArgument`.
        """
        dialect, asked = dialect_of(self.driver), parse_query(query)
        text, values = executions_count_up_to(dialect, self.tenant, asked, COUNTED)
        rows = int((await self.driver.fetch_text(text, *values))[0][0])
        if rows < COUNTED:
            return Count(rows, True)
        estimate = executions_estimate(dialect, self.tenant, asked)
        if estimate is None:
            return Count(rows, False)
        told = await self.driver.fetch_text(estimate[0], *estimate[1])
        return Count(max(rows, estimated(dialect, told)), False)

    async def unfinished_twins(self, fingerprint: bytes) -> list[Execution]:
        """The unfinished executions of one workflow name and input, newest first."""
        rows = await self.driver.fetch("executions.unfinished_twins", self.tenant, fingerprint)
        return [execution_of(row) for row in rows]

    async def interrupted(self) -> list[Execution]:
        """Executions that are running, ready, or waiting with their timer due, oldest first.

        Children are left out: they go on with their parents. Those that a live process runs are among them.
        """
        rows = await self.driver.fetch("executions.interrupted", self.tenant)
        return [execution_of(row) for row in rows]

    async def execution_details(self, key: ExecutionKey) -> ExecutionDetails:
        """What was said about an execution when it was started."""
        rows = await self.driver.fetch("executions.details", key)
        if not rows:
            return ExecutionDetails()
        tags, trigger, started_by, metadata, context = rows[0]
        return ExecutionDetails(
            tags=tags_of(tags), trigger=trigger, started_by=started_by, metadata=codec.from_json(metadata),
            context=codec.from_json(context),
        )  # fmt: skip

    async def inbox(self, key: ExecutionKey) -> list[Message]:
        """The messages that wait for an execution, in order of arrival."""
        return [Message(*row) for row in await self.driver.fetch("inbox.read", key)]

    # Definitions.

    async def put_definition(self, definition: StoredDefinition) -> None:
        """Store a definition under its hash; storing it again is harmless."""
        document = codec.encode(definition.document, what=f"definition of {definition.name}")
        await self.driver.fetch(
            "workflows.put_definition",
            self.tenant, definition.hash, definition.name, definition.version, definition.kind, document,
        )  # fmt: skip

    async def get_definition(self, hash: bytes, *, tenant: str | None = None) -> StoredDefinition | None:
        """The definition with this hash, or None; of this handle's tenant, unless another is named."""
        rows = await self.driver.fetch("workflows.get_definition", tenant or self.tenant, hash)
        return _definition(rows[0]) if rows else None

    async def newest_definition(self, name: str) -> StoredDefinition | None:
        """The definition of this name that was stored last, or None."""
        rows = await self.driver.fetch("workflows.newest_definition", self.tenant, name)
        return _definition(rows[0]) if rows else None

    async def register_workflow(
        self,
        definition: StoredDefinition,
        *,
        description: str | None = None,
        author: str | None = None,
        tags: Sequence[str] = (),
        status: WorkflowStatus = WorkflowStatus.ACTIVE,
        triggers: Sequence[dict[str, Any]] = (),
        parameters: dict[str, Any] | None = None,
        environment: str | None = None,
    ) -> bool:
        """Register a name and version; False if exactly this was registered before, and is as it was.

        One that was deleted is there again. Raises `VersionTaken` when the version stands for another
        definition, also when that was deleted.
        """
        await self.put_definition(definition)
        made = WorkflowVersion(
            name=definition.name, version=definition.version, definition=definition.hash, author=author,
            description=description, tags=tuple(tags), status=status, triggers=tuple(triggers),
            parameters=parameters or {}, environment=environment,
        )  # fmt: skip
        workflows = self.repo(WorkflowVersion, unsealed=True)
        try:
            await workflows.create(made)
        except ConstraintViolated:
            known = await self.workflow_version(definition.name, definition.version)
            if known is not None and known.definition == definition.hash:
                return False
            asked = (self.tenant, definition.name, definition.version)
            deleted = await self.driver.fetch("workflows.deleted", *asked)
            if deleted and bytes(deleted[0][1]) == definition.hash:
                await workflows.restore(deleted[0][0])
                return True
            if known is None and not deleted:
                raise  # what is wrong is another thing
            raise VersionTaken(
                f"version {definition.version} of {definition.name} is registered with another definition",
                registered=(known.definition if known else bytes(deleted[0][1])).hex(),
                offered=definition.hash.hex(),
            ) from None
        return True

    async def workflow_version(self, name: str, version: str) -> WorkflowVersion | None:
        """One registered version, or None."""
        return next((each for each in await self.workflow_versions(name) if each.version == version), None)

    async def workflow_versions(self, name: str) -> list[WorkflowVersion]:
        """The registered versions of a name, newest first."""
        found = await self.repo(WorkflowVersion).get_by("name", [name], sort="-created_at")
        return found[name]

    async def list_workflows(self) -> list[dict[str, Any]]:
        """Every name that is registered or ever ran: its newest definition, and its executions counted."""
        rows = await self.driver.fetch("workflows.list", self.tenant)
        columns = ("name", "version", "kind", "updated_at", "registered_versions", "executions")
        return [dict(zip(columns, (*row[:3], moment(row[3]), *row[4:]), strict=True)) for row in rows]

    # The whole store.

    def figures(self) -> Figures:
        """What this process did with the store so far: statements, their times, connections. Asks nobody."""
        return self._meter.figures(self.driver.pool_figures())

    async def counts(self) -> dict[str, int]:
        """Executions by status."""
        return {row[0]: row[1] for row in await self.driver.fetch("executions.counts")}

    async def sizes(self) -> list[tuple[str, int, int]]:
        """Tables with their rows (an estimate on PostgreSQL) and bytes."""
        return [(row[0], int(row[1]), int(row[2])) for row in await self.driver.fetch("store.sizes")]


def _definition(row: Sequence[Any]) -> StoredDefinition:
    return StoredDefinition(
        hash=row[0],
        name=row[1],
        version=row[2],
        kind=row[3],
        document=codec.decode(row[4], dict[str, Any], what=f"definition of {row[1]}"),
        created_at=moment(row[5]),
    )

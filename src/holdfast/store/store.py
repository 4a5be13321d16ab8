"""The front door of the store: what may be asked of it and done to it, whatever database is behind.

Reading is by named statements and generated pages; what happens to a running execution goes through the
journal and nowhere else. Opening looks at the schema first: a store that is too old, too new or not there is
said so before anything is read.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from holdfast.errors import ExecutionNotFound, NoStore, TransactionConflict, VersionTaken
from holdfast.records.executions import Execution, ExecutionKey
from holdfast.records.workflows import StoredDefinition, WorkflowVersion
from holdfast.store import codec, migrations
from holdfast.store.drivers.base import Driver, Isolation, Transaction
from holdfast.store.hints import Hints
from holdfast.store.journal import Journal
from holdfast.store.query import executions_count, executions_page, parse_query
from holdfast.store.rows import execution_of, moment, tags_of, workflow_of

DEFAULT_TENANT = "default"
PARTITIONS_AHEAD = 3

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How the store behaves, apart from where it is."""

    tenant: str = DEFAULT_TENANT
    retry_on_conflict: int = 5
    retry_backoff: timedelta = timedelta(milliseconds=50)
    migrate_lock_timeout: timedelta = timedelta(seconds=60)
    migrations_folder: Path | None = None
    hints: bool = True  # off: other processes' changes are noticed by polling alone


@dataclass(frozen=True, slots=True)
class Message:
    """One message in an execution's inbox."""

    id: bytes
    kind: str
    name: str | None
    payload: bytes | None


class Store:
    """An open store. Use as `async with`, or `open` and `close`; both belong to one event loop."""

    def __init__(self, driver: Driver, options: StoreOptions | None = None, *, place: str = "") -> None:
        self.driver = driver
        self.options = options or StoreOptions()
        self.place = place
        self.journal = Journal(driver)
        self.hints = Hints(driver.hints() if self.options.hints else None)
        self.journal.on_ready = self.hints.message

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
        if migrate and self.driver.dialect == "postgresql":
            await self.driver.fetch("store.ensure_partitions", PARTITIONS_AHEAD)

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
                    ceiling_s = self.options.retry_backoff.total_seconds() * 2**attempt
                    await asyncio.sleep(random.uniform(0, min(ceiling_s, 2.0)))

            return run

        return decorate

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
        self, query: str | Sequence[str] = (), *, before: ExecutionKey | None = None, limit: int = 50
    ) -> list[Execution]:
        """A page of executions, newest first; pass the last key as `before` for the next page.

        `query` is in the query language of `holdfast.store.query`. Raises `InvalidArgument`.
        """
        text, values = executions_page(
            self.driver.dialect,
            self.driver.schema,
            self.tenant,
            parse_query(query),
            before=before,
            limit=limit,
        )
        return [execution_of(row) for row in await self.driver.fetch_text(text, *values)]

    async def count_executions(self, query: str | Sequence[str] = ()) -> int:
        """How many executions fit a query, without reading them. Raises `InvalidArgument`."""
        text, values = executions_count(
            self.driver.dialect, self.driver.schema, self.tenant, parse_query(query)
        )
        return int((await self.driver.fetch_text(text, *values))[0][0])

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

    async def execution_details(self, key: ExecutionKey) -> tuple[tuple[str, ...], str, str | None]:
        """Tags, trigger source, and who started it."""
        rows = await self.driver.fetch("executions.details", key)
        return (tags_of(rows[0][0]), rows[0][1], rows[0][2]) if rows else ((), "api", None)

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
    ) -> bool:
        """Register a name and version; False if exactly this was registered before.

        Raises `VersionTaken` when the version stands for another definition.
        """
        await self.put_definition(definition)
        made = await self.driver.fetch(
            "workflows.register",
            self.tenant, definition.name, definition.version, definition.hash, description, author,
            json.dumps(list(tags), ensure_ascii=False),
        )  # fmt: skip
        if made:
            return True
        known = await self.workflow_version(definition.name, definition.version)
        if known is None or known.definition != definition.hash:
            raise VersionTaken(
                f"version {definition.version} of {definition.name} is registered with another definition",
                registered=known.definition.hex() if known else None,
                offered=definition.hash.hex(),
            )
        return False

    async def workflow_version(self, name: str, version: str) -> WorkflowVersion | None:
        """One registered version, or None."""
        rows = await self.driver.fetch("workflows.get_version", self.tenant, name, version)
        return workflow_of(rows[0]) if rows else None

    async def workflow_versions(self, name: str) -> list[WorkflowVersion]:
        """The registered versions of a name, newest first."""
        return [workflow_of(row) for row in await self.driver.fetch("workflows.versions", self.tenant, name)]

    async def list_workflows(self) -> list[dict[str, Any]]:
        """Every name that was registered or ever ran: its newest definition, and its executions counted."""
        rows = await self.driver.fetch("workflows.list", self.tenant)
        columns = ("name", "version", "kind", "updated_at", "registered_versions", "executions")
        return [dict(zip(columns, (*row[:3], moment(row[3]), *row[4:]), strict=True)) for row in rows]

    # The whole store.

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

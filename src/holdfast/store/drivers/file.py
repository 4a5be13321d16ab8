"""The file backend's driver: a SQLite index that is the commit point, and documents that follow it.

One process at a time has it, by a lock of the operating system. Reading changes nothing; the first thing that
is written makes the documents catch up, and takes in what people have changed in them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from holdfast.errors import NoStore, RetryLater, StoreInUse, StoreUnavailable
from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers import sqlite_place
from holdfast.store.drivers.base import Batch, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.sqlite import SqliteDriver, SqliteOptions
from holdfast.store.files import edits, schema
from holdfast.store.files.lock import FolderLock
from holdfast.store.files.mirror import Mirror
from holdfast.store.files.place import Form, make_folder
from holdfast.store.files.rebuilding import fill_if_new

INDEX = ".index.db"


class FileDriver(SqliteDriver):
    """A store in a folder of documents."""

    def __init__(
        self,
        base: Path,
        form: Form,
        options: SqliteOptions | None = None,
        *,
        create: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(base / INDEX, options, create=create, **more)
        self.base = base
        self.form = form
        self._mirror: Mirror | None = None
        self._lock = FolderLock(base)
        self._is_behind = False
        self.problems: list[edits.Problem] = []
        """Documents that were not taken in when the store was opened for work."""

    async def open(self) -> None:
        """Take the folder, and connect. Raises `StoreInUse` when another process has it."""
        with self._files():
            self._take_folder()
        try:
            await super().open()
        except BaseException:
            self._lock.leave()
            raise

    async def settle(self) -> None:
        """Once the schema is current: fill an index that was lost, take in edits, begin to follow."""
        async with super().transaction() as transaction:
            for text in schema.statements():
                await transaction.fetch_text(text)
        await fill_if_new(self._plain, self.base)
        self.problems = await edits.look(self._plain, self.base, self.form, apply=True)
        self._mirror = Mirror(self._plain, self.base, self.form)
        self._mirror.start()

    async def close(self) -> None:
        """Write what is noted, then leave the folder to others.

        Raises `RetryLater` when that can not be written: it stays noted until the store is opened again.
        """
        try:
            if self._mirror is None and self._is_behind:
                await self.settle()
            mirror, self._mirror = self._mirror, None
            if mirror is not None:
                with self._files():
                    await mirror.stop()
        finally:
            await super().close()
            self._lock.leave()

    async def look(self) -> list[edits.Problem]:
        """Documents that would not be taken in, and why. Changes nothing."""
        return await edits.look(self._plain, self.base, self.form, apply=False)

    @property
    def _plain(self) -> SqliteDriver:
        """This driver without the waking: for what keeps the documents."""
        return _Unwoken(self)  # type: ignore[return-value]

    def _wake(self) -> None:
        if self._mirror is not None:
            self._mirror.wake()
        else:
            self._is_behind = True  # opened for a moment: the documents catch up when it is closed

    # What is written wakes the follower.

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        rows = await super().fetch_text(text, *args)
        if not text.startswith(("SELECT", "WITH")):
            self._wake()
        return rows

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[Transaction]:
        """See `Driver.transaction`."""
        async with super().transaction(isolation=isolation) as transaction:
            yield transaction
        self._wake()

    async def flush(self, batch: Batch) -> list[Reply]:
        """See `Driver.flush`."""
        replies = await super().flush(batch)
        self._wake()
        return replies

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """See `Driver.put_payload`."""
        await super().put_payload(execution, digest, tenant, body)
        self._wake()

    @contextmanager
    def _files(self) -> Iterator[None]:
        """Translate what the system says about files."""
        try:
            yield
        except OSError as error:
            kind = RetryLater if error.errno == errno.ENOSPC else StoreUnavailable
            cause = os.strerror(error.errno) if error.errno else type(error).__name__
            raise kind(f"a file can not be written: {cause}", where=f"file://{self.base}") from error

    # One process.

    def _take_folder(self) -> None:
        sqlite_place.refuse_network(self.base)
        if not self.base.exists():
            if not self._create:
                raise NoStore(f"No store at file://{self.base}")
            make_folder(self.base)
        elif not self._create and not (self.base / INDEX).exists():
            raise NoStore(f"No store at file://{self.base}")
        self._lock.take(self._in_use)

    def _in_use(self, holder: str) -> StoreInUse:
        return StoreInUse(
            f"process {holder} has the store in {self.base}",
            where=f"file://{self.base}",
            fix="wait until it has ended; for several processes use sqlite:/// or a server",
        )


class _Unwoken:
    """The plain driver below a file driver."""

    def __init__(self, driver: FileDriver) -> None:
        self._driver = driver

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        return await SqliteDriver.fetch_text(self._driver, text, *args)

    def transaction(self) -> Any:
        return SqliteDriver.transaction(self._driver)

"""An open transaction on MySQL or MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from holdfast.errors import HoldfastError, StatementTimeout, TransactionConflict, UnknownOutcome
from holdfast.store.drivers.base import Isolation, Row
from holdfast.store.drivers.mysql_connection import COMMIT, START, MysqlConnection
from holdfast.store.drivers.mysql_errors import FAILURES, ends_transaction, is_connection_lost, translate
from holdfast.store.drivers.mysql_text import Script, Scripts, literal, rows_of

_LEVELS = {
    Isolation.READ_COMMITTED: [],
    Isolation.REPEATABLE_READ: [b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
    Isolation.SERIALIZABLE: [b"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
}


_LOGS = frozenset({"events", "stream_events"})


class MysqlTransaction:
    """See `Transaction`. It begins with its first statement, in one packet with it.

    The server goes on after an error with whatever part of the transaction it has kept, or outside of any
    transaction; so after one nothing more is sent until a savepoint or the whole is rolled back.
    """

    def __init__(
        self, connection: MysqlConnection, scripts: Scripts, timeout_s: float, isolation: Isolation
    ) -> None:
        self._connection = connection
        self._scripts = scripts
        self._timeout_s = timeout_s
        self._opening = [*_LEVELS[isolation], START]
        self._failure: BaseException | None = None
        self._depth = 0

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self._run(self._scripts.named(name, self._connection.server.binary), args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        return await self._run(self._scripts.of(text, self._connection.server.binary), args)

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Transaction.load`: as many rows in one statement as fit well into a packet."""
        values = [literal(tuple(row)) for row in rows]
        if table in _LOGS:
            await self.fetch("journal.era")
        named = ", ".join(f"`{column}`" for column in columns)
        head = f"INSERT INTO `{table}` ({named}) VALUES ".encode()
        for part in rows_of(values):
            await self._send([head + part])

    async def _run(self, script: Script, args: tuple[Any, ...]) -> list[Row]:
        return await self._send(script.render(args))

    async def _send(self, statements: list[bytes]) -> list[Row]:
        self._refuse_failed()
        opening, self._opening = self._opening, []
        try:
            return (await self._connection.run([*opening, *statements], self._timeout_s))[-1]
        except FAILURES as error:
            self._failure = translate(error, "statement in a transaction")
            raise self._failure from error
        except HoldfastError:
            self._opening = opening  # refused before it was sent
            raise
        except BaseException as error:
            self._failure = error
            raise

    def _refuse_failed(self) -> None:
        if self._failure is not None:
            raise TransactionConflict(
                "the transaction is rolled back, since a statement of it failed", where="transaction"
            ) from self._failure

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        self._depth += 1
        name = b"hf_%d" % self._depth
        try:
            await self._send([b"SAVEPOINT " + name])
            try:
                yield
            except BaseException:
                await self._undo_to(name)
                raise
            await self._send([b"RELEASE SAVEPOINT " + name])
        finally:
            self._depth -= 1

    async def _undo_to(self, name: bytes) -> None:
        """Undo a nested block, unless the server or a lost connection has undone more than that."""
        failure = self._failure
        if failure is not None and not _is_of_statement(failure):
            return
        self._failure = None
        try:
            await self._send([b"ROLLBACK TO SAVEPOINT " + name, b"RELEASE SAVEPOINT " + name])
        except HoldfastError as error:
            self._failure = error

    async def commit(self) -> None:
        """Commit; see `Driver.transaction`. One that never began has nothing to commit."""
        self._refuse_failed()
        if self._opening:
            return
        try:
            await self._connection.run([COMMIT], self._timeout_s)
        except FAILURES as error:
            if is_connection_lost(error):
                raise UnknownOutcome(
                    "the connection was lost while COMMIT was under way", where="commit"
                ) from error
            raise translate(error, "commit") from error

    async def roll_back(self) -> None:
        """Undo everything; never raises `FAILURES`."""
        if not self._opening:
            await self._connection.roll_back()


def _is_of_statement(failure: BaseException) -> bool:
    """Whether the server has undone the failed statement alone, and its session goes on."""
    if isinstance(failure, StatementTimeout) and isinstance(failure.__cause__, TimeoutError):
        return False
    return isinstance(failure, HoldfastError) and not ends_transaction(failure)

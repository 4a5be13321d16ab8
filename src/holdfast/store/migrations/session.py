"""The port through which migrations reach a database.

A driver gives one out for the time of a command. It stands for one dedicated connection: what a
statement sets stays set for the next one, and the lock of `exclusive` dies with the connection, so a
killed process never leaves the database locked.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Protocol


class MigrationSession(Protocol):
    """One dedicated connection for reading and changing the schema; not safe for concurrent calls.

    On a server it is a direct connection (a lock taken through a pooler in transaction mode would
    belong to nobody), without a statement timeout, and with a bound on how long a statement queues for a
    table others are using.
    """

    @property
    def dialect(self) -> str:
        """`"sqlite"`, `"postgresql"` or `"mysql"`."""
        ...

    @property
    def schema(self) -> str | None:
        """The PostgreSQL schema, unquoted, that `{schema}` stands for; None elsewhere."""
        ...

    @property
    def binary(self) -> str | None:
        """The collation of a MySQL or MariaDB server that `{binary}` stands for; None elsewhere."""
        ...

    @property
    def undoes_ddl(self) -> bool:
        """Whether a rollback undoes DDL; where it does not, DDL also commits what came before it."""
        ...

    def exclusive(self, timeout: timedelta) -> AbstractAsyncContextManager[None]:
        """Hold the one migration lock of this database (and schema).

        Not a transaction: several are opened and closed while it is held. It excludes other migrating
        processes only; readers and writers go on. Raises `MigrationLocked` when another process holds
        it for longer than `timeout`. Released on leaving, and by the death of the process.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """One writing transaction (`BEGIN IMMEDIATE` on SQLite): commit on leaving, rollback on any error.

        A refused COMMIT raises the translated error; a connection lost during COMMIT `UnknownOutcome`.
        """
        ...

    async def execute(self, statement: str, *args: object) -> None:
        """Run one statement, inside or outside `transaction`.

        Without `args` the text may also be a whole `StatementBegin` block, which may hold several.
        Errors are translated to `HoldfastError` subclasses.
        """
        ...

    async def fetch(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """All rows of one query. Placeholders are `$1 …` on PostgreSQL, `?1 …` elsewhere."""
        ...

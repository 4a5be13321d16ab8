"""Executions that only have to be there, copied by SQL from one that Holdfast wrote itself."""

from __future__ import annotations

from typing import Any

from benchmarks.systems.queueing import copies


class Filling:
    """Copies, made by SQL of this benchmark on a connection of its own."""

    def __init__(self, backend: str, database: str) -> None:
        self.is_server = backend == "postgresql"
        self.database = database
        self.schema = "holdfast." if self.is_server else ""

    async def run(self, statements: list[str]) -> list[Any]:
        """The first column of the last statement's rows."""
        if self.is_server:
            import asyncpg

            connection = await asyncpg.connect(self.database)
            for statement in statements[:-1]:
                await connection.execute(statement)
            found = [row[0] for row in await connection.fetch(statements[-1])]
            await connection.close()
            return found
        import apsw

        file = apsw.Connection(self.database)
        file.set_busy_timeout(30_000)
        for statement in statements[:-1]:
            file.execute(statement)
        return [row[0] for row in file.execute(statements[-1])]

    async def columns(self, table: str) -> list[str]:
        question = f"SELECT name FROM pragma_table_info('{table}') WHERE name <> 'position'"
        if self.is_server:
            question = (
                "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'holdfast' "
                f"AND table_name = '{table}' AND column_name <> 'xid'"
            )
        return await self.run([question])

    async def copy(
        self,
        id: str,
        count: int,
        mark: int,
        *,
        since: str | None = None,
        first: int = 1,
        stride: int = 1,
        **changes: str,
    ) -> None:
        """`count` copies of execution `id`; `mark` keeps the keys of two templates apart.

        Keys begin with the time of execution `since` (default: `id`), and are in the order of their numbers,
        which begin with `first` and go up by `stride`. `changes` are columns of `executions` that differ from
        the template, as SQL.
        """
        time = (since or id).replace("-", "")[:12]
        last = first + (count - 1) * stride
        numbers = f"generate_series({first}, {last}, {stride}) AS n"
        key = f"'\\x{time}'::bytea || int8send(n) || int2send({mark}::int2)"
        text, random = "encode({}, 'hex')", "decode(md5(n::text), 'hex')"
        template = f"'\\x{id.replace('-', '')}'"
        if not self.is_server:
            numbers = (
                f"(WITH RECURSIVE c (n) AS (SELECT {first} UNION ALL SELECT n + {stride} FROM c "
                f"WHERE n < {last}) SELECT n FROM c WHERE n <= {last})"
            )
            key = f"unhex('{time}' || printf('%016x%04x', n, {mark}))"
            text, random = "lower(hex({}))", "randomblob(16)"
            template = f"x'{id.replace('-', '')}'"
        if count < 1:
            return
        statements = []
        for table, column in (
            ("executions", "key"),
            ("execution_details", "execution"),
            ("events", "execution"),
        ):
            changed = {column: key}
            if table == "executions":
                changed |= {"id": text.format(key), "fingerprint": random, **changes}
            names = await self.columns(table)
            statements.append(
                copies(f"{self.schema}{table}", names, changed, numbers, f"t.{column} = {template}")
            )
        # One transaction, as a start is one: what is written by several looks like something touched since.
        await self.run(["BEGIN", *statements, "COMMIT", "SELECT 1"])

    async def settle(self) -> None:
        """What a server does by itself in time, done before the measurement: statistics and visibility."""
        if not self.is_server:
            await self.run(["ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"])
            return
        for table in ("executions", "execution_details", "events"):
            await self.run([f"VACUUM ANALYZE {self.schema}{table}", "SELECT 1"])
        await self.run(["CHECKPOINT", "SELECT 1"])

    async def finished(self) -> int:
        """How many executions are completed."""
        [count] = await self.run([f"SELECT count(*) FROM {self.schema}executions WHERE status = 'completed'"])
        return int(count)

"""Planted defects: each takes one protection out of the running process, so that a test has to turn red.

They patch the library in the process that calls them and never its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from holdfast.store.drivers.base import Answer


def acknowledge_before_commit() -> None:
    """Callers are answered when their entry is queued, not when it is on disk."""
    from holdfast.store.entries import Entry
    from holdfast.store.journal import Journal

    append = Journal.append

    def append_and_lie(self: Journal, entry: Entry) -> asyncio.Future[Answer]:
        waiter = append(self, entry)
        if waiter.done() or entry.create is not None:
            return waiter
        lie: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        lie.set_result(Answer.WRITTEN)
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        return lie

    Journal.append = append_and_lie  # type: ignore[method-assign]


def forget_epoch() -> None:
    """The fence locks and does not compare the epoch."""
    from holdfast.store import sql
    from holdfast.store.drivers import mysql_flush, sqlite_flush

    def lenient(judge: Callable[[Any, Any], Any], write: Any, fence: Any) -> Any:
        held = fence.get(write.event.execution)
        if held is not None:
            fence = fence | {write.event.execution: (write.event.epoch, *held[1:])}
        return judge(write, fence)

    sqlite_flush._judge = partial(lenient, sqlite_flush._judge)
    mysql_flush._judge = partial(lenient, mysql_flush._judge)
    _edit(
        sql,
        "postgresql",
        {
            "journal.append": [(" AND e.epoch = asked.epoch", ""), (" AND fence.epoch = v.epoch", "")],
            "journal.flush": [(" AND e.epoch = asked.epoch", ""), (" AND held.epoch = v.epoch", "")],
            "journal.examine": [("e.epoch IS NOT NULL AND e.epoch = v.epoch", "e.epoch IS NOT NULL")],
        },
    )


def remove_fence() -> None:
    """No lock and no comparison: whoever writes, writes."""
    from holdfast.store import sql
    from holdfast.store.drivers.sqlite_flush import SqliteFlush

    forget_epoch()

    def write_loosely(self: Any, connection: Any, batch: Any, write: Any) -> Any:
        return write(connection, batch, self._clock())

    SqliteFlush._transact = write_loosely  # type: ignore[method-assign]
    lock = ("FOR NO KEY UPDATE OF e SKIP LOCKED", "")
    _edit(sql, "postgresql", {"journal.append": [lock], "journal.flush": [lock]})
    _edit(sql, "mysql", {"journal.fence": [("FOR UPDATE SKIP LOCKED", "")]})


def do_not_sync() -> None:
    """SQLite hands its pages to the system and does not wait for the disk."""
    from holdfast.store.drivers.sqlite import SqliteDriver

    connect = SqliteDriver._connect

    def connect_carelessly(self: SqliteDriver) -> Any:
        connection = connect(self)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    SqliteDriver._connect = connect_carelessly  # type: ignore[method-assign]


def _edit(sql: Any, dialect: str, edits: dict[str, list[tuple[str, str]]]) -> None:
    read = sql.Statements._read

    def read_and_edit(self: Any, subject: str) -> None:
        read(self, subject)
        if self._dialect == dialect and subject == "journal":
            for name, replacements in edits.items():
                for old, new in replacements:
                    assert old in self._texts[name], f"{name} has no {old!r}: the plant has to follow it"
                    self._texts[name] = self._texts[name].replace(old, new)

    sql.Statements._read = read_and_edit


PLANTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "acknowledge-before-commit": acknowledge_before_commit,
    "epoch-not-compared": forget_epoch,
    "fence-removed": remove_fence,
    "synchronous-off": do_not_sync,
}

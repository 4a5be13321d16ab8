"""The follower that keeps the documents of a file store equal to its rows.

A change notes itself in its own transaction; the follower renders what was noted, puts it on disk, and then
takes the note away, unless there was another change meanwhile. What it is about to write is recorded before,
so that a process that dies in between does not take its own file for a person's edit. Killed at any point,
the notes are still there when the store is opened again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.store.backoff import Backoff
from holdfast.store.drivers.base import Driver, Transaction
from holdfast.store.files.aggregates import Aggregate, aggregates
from holdfast.store.files.documents import dump
from holdfast.store.files.place import Form, digest_of, write_all
from holdfast.store.files.rendering import document_of, key_of, path_of, read_rows
from holdfast.store.table_rows import Plain

PASS_DOCUMENTS = 100
"""So many documents are written at once: one note of it before, and one after."""
_REST_S = 0.2
_RETRY = Backoff(first_s=0.2, most_s=10.0)
_READS_MAX = 5
_logger = logging.getLogger("holdfast.files")


@dataclass(slots=True)
class Noted:
    """One change that is to be written: the document's key as noted, its file, and those it had before."""

    aggregate: Aggregate
    spelled: str
    change: int
    path: Path | None = None  # none: it is gone
    data: bytes = b""
    before: list[Path] = field(default_factory=list)


class Mirror:
    """Follows one index. `wake` after every commit; `drain` before closing."""

    def __init__(self, driver: Driver, base: Path, form: Form) -> None:
        self._driver, self._base, self._form = driver, base, form
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.set_aside: list[Path] = []
        """Files that a person had changed and that were in the way; each was kept under the name given."""

    def start(self) -> None:
        """Begin to follow."""
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def wake(self) -> None:
        """Something was committed."""
        self._changed.set()

    async def stop(self) -> None:
        """Write what is left, and end. Raises `OSError` when that can not be; the notes stay."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        await self.drain()

    async def drain(self) -> None:
        """Write until nothing is noted."""
        while await self._pass():
            continue

    async def _follow(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.drain()
                failures = 0
            except (OSError, HoldfastError) as error:
                failures += 1
                _logger.error("documents below %s can not be written: %s", self._base, error)
                self._changed.set()
                await asyncio.sleep(_RETRY.rest_s(failures))
            # What changes all the time is written so often, and not for each change.
            await asyncio.sleep(_REST_S)

    async def _pass(self) -> bool:
        """Write up to `PASS_DOCUMENTS` documents; False when there was nothing to write."""
        rows = await self._driver.fetch_text(
            "SELECT aggregate, key, change FROM mirror_pending LIMIT ?1", PASS_DOCUMENTS
        )
        known = aggregates()
        noted = [Noted(known[name], key, change) for name, key, change in rows]
        for each in noted:
            await self._render(each)
        if noted:
            await self._write(noted)
        return bool(noted)

    async def _render(self, noted: Noted) -> None:
        """Read a document's rows as they stood together."""
        key = key_of(noted.aggregate, noted.spelled)
        for _ in range(_READS_MAX):
            found = await read_rows(self._driver, noted.aggregate, key)
            now = await self._change_of(noted)
            if now == noted.change:
                return await self._take(noted, found)
            noted.change = now
        async with self._driver.transaction() as transaction:  # it changes all the time: hold it still
            found = await read_rows(transaction, noted.aggregate, key)
            rows = await transaction.fetch_text(_CHANGE, noted.aggregate.name, noted.spelled)
            noted.change = rows[0][0] if rows else noted.change
        await self._take(noted, found)

    async def _take(self, noted: Noted, found: dict[str, list[Plain]]) -> None:
        aggregate, root = noted.aggregate, found[noted.aggregate.root.name]
        if root:
            noted.path = path_of(aggregate, root[0], self._form)
            noted.data = self._form.packed(dump(document_of(aggregate, found), self._form.format))
        rows = await self._driver.fetch_text(_FILES, aggregate.name, noted.spelled)
        noted.before = [Path(path) for (path,) in rows if Path(path) != noted.path]

    async def _change_of(self, noted: Noted) -> int:
        rows = await self._driver.fetch_text(_CHANGE, noted.aggregate.name, noted.spelled)
        return int(rows[0][0]) if rows else noted.change

    async def _write(self, noted: list[Noted]) -> None:
        gone = [self._base / path for each in noted for path in each.before]
        files = [(self._base / each.path, each.data) for each in noted if each.path is not None]
        # Before the new contents are recorded, which takes the place of what an interrupted pass recorded.
        for path in (*gone, *(path for path, _ in files)):
            await self._make_way(path)
        async with self._driver.transaction() as transaction:
            for each in noted:
                if each.path is not None:
                    digest = digest_of(each.data)
                    place = (str(each.path), each.aggregate.name, each.spelled)
                    await transaction.fetch_text(_INTEND, *place, digest)
        await asyncio.to_thread(write_all, files, gone)
        async with self._driver.transaction() as transaction:
            for each in noted:
                await self._settle(transaction, each)

    async def _settle(self, transaction: Transaction, noted: Noted) -> None:
        for path in noted.before:
            await transaction.fetch_text("DELETE FROM mirror_files WHERE path = ?1", str(path))
        if noted.path is not None:
            about = await asyncio.to_thread((self._base / noted.path).stat)
            await transaction.fetch_text(_DONE, str(noted.path), about.st_size, about.st_mtime_ns)
        await transaction.fetch_text(_CLEAR, noted.aggregate.name, noted.spelled, noted.change)

    async def _make_way(self, path: Path) -> None:
        """Set aside what a person has made of a file that is about to be replaced; it is never lost."""
        if await is_ours(self._driver, self._base, path):
            return await self._recall(path)
        aside = _free_name(path)
        await asyncio.to_thread(path.rename, aside)
        self.set_aside.append(aside)
        _logger.warning("%s was changed by hand and not taken in; it is kept as %s", path, aside.name)

    async def _recall(self, path: Path) -> None:
        """Have a file that an interrupted pass put in its place count as written."""
        place = str(path.relative_to(self._base))
        rows = await self._driver.fetch_text(_INTERRUPTED, place)
        is_there = await asyncio.to_thread(path.exists)
        if rows and is_there:
            found = digest_of(await asyncio.to_thread(path.read_bytes))
            await self._driver.fetch_text(_RECALL, place, found)


_CHANGE = "SELECT change FROM mirror_pending WHERE aggregate = ?1 AND key = ?2"
_INTEND = (
    "INSERT INTO mirror_files (path, aggregate, key, next_digest) VALUES (?1, ?2, ?3, ?4) "
    "ON CONFLICT (path) DO UPDATE SET next_digest = excluded.next_digest"
)
_INTERRUPTED = "SELECT 1 FROM mirror_files WHERE path = ?1 AND next_digest IS NOT digest"
_RECALL = "UPDATE mirror_files SET digest = next_digest, size = NULL WHERE path = ?1 AND next_digest = ?2"
_DONE = "UPDATE mirror_files SET size = ?2, mtime_ns = ?3, digest = next_digest WHERE path = ?1"
_CLEAR = "DELETE FROM mirror_pending WHERE aggregate = ?1 AND key = ?2 AND change = ?3"
_FILES = "SELECT path FROM mirror_files WHERE aggregate = ?1 AND key = ?2"
_RECORDED = "SELECT size, mtime_ns, digest, next_digest FROM mirror_files WHERE path = ?1"


async def is_ours(driver: Driver, base: Path, path: Path) -> bool:
    """Whether a file is as it was written here, or is not there at all."""
    try:
        about = await asyncio.to_thread(path.stat)
    except FileNotFoundError:
        return True
    rows = await driver.fetch_text(_RECORDED, str(path.relative_to(base)))
    if not rows:
        return False
    size, mtime_ns, digest, next_digest = rows[0]
    if (size, mtime_ns) == (about.st_size, about.st_mtime_ns) and digest == next_digest:
        return True
    found = digest_of(await asyncio.to_thread(path.read_bytes))
    return found in (digest, next_digest)


def _free_name(path: Path) -> Path:
    """A name beside `path` for what was set aside; it is no document any more."""
    number = 1
    while (aside := path.with_name(f"{path.name}.edited-{number}")).exists():
        number += 1
    return aside

"""What a follower writes to: files below a folder, or the memory of this process."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from holdfast.errors import DamagedData, HoldfastError, UnsupportedStorage
from holdfast.events.cursors import BEGINNING
from holdfast.events.files.layout import POSITION, STORE, LogLock, LogOptions, folder_name, told
from holdfast.events.files.lines import About, LoggedEvent, spell
from holdfast.events.files.writing import LogFiles
from holdfast.store.files.place import write_all

_INTERVAL_S = 1.0
_logger = logging.getLogger("holdfast.events")


class CopiedFiles:
    """A copy of the log below a folder; see `Told`.

    An execution whose files are damaged, or tell another history than the store, is left as it is and named
    in the log, and again when all is closed; the others go on.
    """

    def __init__(self, base: Path, options: LogOptions) -> None:
        self._base = base
        self._options = options
        self._lock = LogLock(base)
        self._files = LogFiles(base, options)
        self._problems: dict[str, HoldfastError] = {}
        self._noted: tuple[str, str] | None = None
        self._synced_at = monotonic()

    def take(self) -> None:
        """See `Told.take`."""
        with told(self._base):
            self._lock.take()
        if (self._base / STORE).exists():
            self._lock.leave()
            raise UnsupportedStorage(
                f"{self._base} is the record of a store in memory",
                where=str(self._base),
                fix="name another folder with event_log.dir",
            )

    def position(self, birth: str) -> str:
        """See `Told.position`."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads((self._base / POSITION).read_bytes())
            if noted["store"] == birth:
                return str(noted["position"])
        return BEGINNING

    def last(self, event: LoggedEvent) -> int | None:
        """See `Told.last`."""
        if folder_name(event.id, event.tenant) in self._problems:
            return None
        with told(self._base):
            try:
                return self._files.file(event.id, event.tenant, event.execution).last
            except DamagedData as error:
                self._give_up(event, error)
        return None

    def write(self, events: Sequence[tuple[LoggedEvent, About | None]]) -> None:
        """See `Told.write`."""
        first = events[0][0]
        if self.last(first) is None:
            return
        with told(self._base):
            file = self._files.file(first.id, first.tenant, first.execution)
            lines = []
            for event, about in events:
                line = spell(event, about)
                if event.seq > file.last:
                    lines.append((event.seq, line))
                elif event.seq > 1 and file.marks.get(event.seq, line[-11:-3]) != line[-11:-3]:
                    return self._give_up(event, self._another_history(event))
            if lines and lines[0][0] != file.last + 1:
                return self._give_up(first, self._incomplete(first, file.last, lines[0][0]))
            while lines:
                count = file.fitting(lines)
                file.append(lines[:count])
                lines = lines[count:]

    def note(self, birth: str, position: str) -> None:
        """See `Told.note`. With `fsync: interval` it is done about once a second."""
        self._noted = (birth, position)
        if self._options.fsync == "always" or monotonic() - self._synced_at >= _INTERVAL_S:
            self._settle()

    def _settle(self) -> None:
        if self._noted is None:
            return
        birth, position = self._noted
        with told(self._base):
            self._files.sync()
            self._files.tidy()
            noted = json.dumps({"store": birth, "position": position}).encode()
            write_all([(self._base / POSITION, noted)], ())
        self._noted = None
        self._synced_at = monotonic()

    def close(self) -> None:
        """See `Told.close`."""
        try:
            self._settle()
        finally:
            self._noted = None
            self._files.close()
            self._lock.leave()
        problems, self._problems = self._problems, {}
        for error in problems.values():
            raise error

    def _give_up(self, event: LoggedEvent, error: HoldfastError) -> None:
        name = folder_name(event.id, event.tenant)
        if name not in self._problems:
            self._problems[name] = error
            _logger.error("the event log of %s is not written any more: %s", event.id, error)

    def _another_history(self, event: LoggedEvent) -> DamagedData:
        folder = self._base / folder_name(event.id, event.tenant)
        return DamagedData(
            f"event {event.seq} of {event.id} is another one in the files than in the store",
            where=str(folder),
            fix="move the folder away: it is written anew from the store",
        )

    def _incomplete(self, event: LoggedEvent, last: int, next: int) -> DamagedData:
        folder = self._base / folder_name(event.id, event.tenant)
        return DamagedData(
            f"the files of {event.id} end with event {last}, and the store has none before {next} any more",
            where=str(folder),
            fix="restore the folder from a backup",
        )


class InMemoryEventLog:
    """The log of a run in the memory of this process: for tests, and for those who want no files.

    `events` has what the lines of a file would say, in order. Example::

        log = hf.InMemoryEventLog()
        async with hf.Orchestrator("memory://", events=log) as orchestrator: ...
        assert log.events[-1]["type"] == "WORKFLOW_COMPLETED"
    """

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self._last: dict[bytes, int] = {}

    def take(self) -> None:
        """See `Told.take`: nobody else has it."""

    def position(self, birth: str) -> str:
        """See `Told.position`."""
        del birth
        return BEGINNING

    def last(self, event: LoggedEvent) -> int:
        """See `Told.last`."""
        return self._last.get(event.execution, 0)

    def write(self, events: Sequence[tuple[LoggedEvent, About | None]]) -> None:
        """See `Told.write`."""
        for event, about in events:
            if event.seq > self.last(event):
                self._last[event.execution] = event.seq
                self.events.append(json.loads(spell(event, about)))

    def note(self, birth: str, position: str) -> None:
        """See `Told.note`: nothing of it lasts."""

    def close(self) -> None:
        """See `Told.close`: what was told stays."""

"""Transactions that hold their connection for long: each is reported once, with where it was taken.

One timer watches all of them, and only while any is open: a transaction costs two dictionary operations, and
an idle store costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from pathlib import Path
from time import perf_counter

HELD_S = 60.0
Place = tuple[str, int, str]
"""A file, a line and the name of a function."""

_PASSED_OVER = (str(Path(__file__).parent), contextlib.__file__)
"""Frames of these files say nothing about who wanted a transaction."""
_logger = logging.getLogger("holdfast.held")


class Hold:
    """One open transaction. `statement` is the one it ran last."""

    __slots__ = ("began", "place", "statement", "told")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.began = perf_counter()
        self.statement: str | None = None
        self.told = False


class Holds:
    """The transactions that are open now, the oldest first."""

    def __init__(self, database: str, tenant: str, limit_s: float = HELD_S) -> None:
        self._database, self._tenant, self._limit_s = database, tenant, limit_s
        self._open: dict[Hold, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def taken(self, place: Place) -> Hold:
        """A connection was taken at `place`."""
        hold = Hold(place)
        self._open[hold] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._look)
        return hold

    def given_back(self, hold: Hold) -> None:
        """It is free again."""
        self._open.pop(hold, None)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = perf_counter()
        for hold in self._open:
            if hold.told:
                continue
            left_s = hold.began + self._limit_s - now
            if left_s > 0:
                # The next to be reported: all that follow were taken later.
                self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
                return
            hold.told = True
            self._tell(hold, now - hold.began)

    def _tell(self, hold: Hold, seconds: float) -> None:
        file, line, function = hold.place
        told = {
            "level": "warn",
            "message": "Connection held for long",
            "duration": round(seconds * 1000),
            "database": self._database,
            "taken": f"{file}:{line} in {function}",
            "statement": hold.statement,
            "tenant": self._tenant,
        }
        _logger.warning("%s", json.dumps(told, ensure_ascii=False))


def caller() -> Place:
    """Where the store was called from: the nearest frame outside of it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname

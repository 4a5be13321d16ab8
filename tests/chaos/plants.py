"""Planted defects: each takes one protection out of a worker, so that the judge has to turn red.

They patch the library in the process that calls them and never its files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.crash.plants import forget_epoch


def take_from_the_living() -> None:
    """The sweep does not look at locks: whoever else is registered on this host counts as dead."""
    from holdfast.fleet import sweeps
    from holdfast.fleet.ownership import Life

    def look(folder: Path, boot: bytes) -> Life:
        # One that took itself for dead as well would never come to claim anything.
        return Life.ALIVE if _is_open_here(folder / boot.hex()) else Life.GONE

    sweeps.look_at = look  # type: ignore[attr-defined]


def _is_open_here(file: Path) -> bool:
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink() == file:
                return True
    return False


def keep_the_epoch() -> None:
    """The sweep gives executions of the dead back under their old epoch."""
    _edit("fleet.recover", (" e.epoch + 1", " e.epoch"), ("epoch = epoch + 1", "epoch = epoch"))


def lose_timers() -> None:
    """The sweep forgets a timer that is due instead of waking what waits for it."""
    _edit(
        "fleet.wake_due",
        ("SET status = 'ready'", "SET due_at = NULL"),
        ("SET e.status = 'ready'", "SET e.due_at = NULL"),
    )


def suspend_blindly() -> None:
    """An execution is suspended without looking whether a message came meanwhile."""
    from holdfast.store.drivers import mysql_flush, sqlite_flush

    def blind(judge: Callable[[Any, Any], Any], write: Any, fence: Any) -> Any:
        if write.transition is not None:
            write.transition = write.transition._replace(expect_wakes=None)
        return judge(write, fence)

    sqlite_flush._judge = partial(blind, sqlite_flush._judge)
    mysql_flush._judge = partial(blind, mysql_flush._judge)
    _edit("journal.flush", ("effect.expect_wakes IS NOT NULL AND", "false AND"))


def _edit(name: str, *replacements: tuple[str, str]) -> None:
    """Change a statement of every dialect; where it is, one of the texts has to be in it."""
    from holdfast.store import sql

    read = sql.Statements._read

    def read_and_edit(self: Any, subject: str) -> None:
        read(self, subject)
        if name not in self._texts or not name.startswith(f"{subject}."):
            return
        fitting = [(old, new) for old, new in replacements if old in self._texts[name]]
        assert fitting, f"{name} has none of {replacements}: the plant has to follow it"
        for old, new in fitting:
            self._texts[name] = self._texts[name].replace(old, new)

    sql.Statements._read = read_and_edit  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "epoch-not-compared": forget_epoch,
    "taken-from-the-living": take_from_the_living,
    "epoch-not-raised": keep_the_epoch,
    "timers-lost": lose_timers,
    "suspended-blindly": suspend_blindly,
}

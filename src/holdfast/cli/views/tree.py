"""A run as a tree, painted in place on a terminal: ten times a second at most, and only when it changed.

What fits is shown: rows that have ended are folded away first, from the top.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, TextIO

from holdfast.cli.views.board import ACTIVE, Board, Item, Row, State
from holdfast.cli.views.lines import SIGNS, item_text, row_text
from holdfast.workflows.progress import Progress

if TYPE_CHECKING:
    from rich.text import Text

_PERIOD_S = 0.1
_IDLE_PERIOD_S = 1.0
"""How often clocks of running steps move on when nothing else does."""
_STYLES = {
    State.DONE: "green",
    State.SAVED: "dim",
    State.FAILED: "red",
    State.SKIPPED: "dim",
    State.RUNNING: "cyan",
    State.RETRYING: "yellow",
    State.WAITING: "blue",
}


class Tree:
    """The live tree."""

    def __init__(self, stream: TextIO, *, colored: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        colors: Literal["standard"] | None = "standard" if colored else None
        self._console = Console(file=stream, color_system=colors, highlight=False, force_terminal=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._board = Board()
        self._timer: asyncio.TimerHandle | None = None
        self._painted_at = 0.0
        self._remark = ""
        self._started = False

    def begin(self) -> None:
        """See `View.begin`."""
        if not self._started:
            self._started = True
            self._live.start()
            self._tick()

    def note(self, progress: Progress) -> None:
        """See `View.note`."""
        self._board.note(progress)

    def end(self) -> None:
        """See `View.end`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._started:
            self._started = False
            self._live.update(self._painting(final=True), refresh=True)
            self._live.stop()

    def remark(self, text: str) -> None:
        """See `View.remark`."""
        self._remark = text
        self._board.changed = True

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_PERIOD_S, self._tick)
        if self._board.changed or loop.time() - self._painted_at >= _IDLE_PERIOD_S:
            self._board.changed = False
            self._painted_at = loop.time()
            self._live.update(self._painting(), refresh=True)

    def _painting(self, *, final: bool = False) -> Text:
        from rich.text import Text

        now = self._board.clock()
        lines: list[tuple[str, State]] = []
        for row in self._board.rows.values():
            lines += _row_lines(row, now)
        room = max(self._console.size.height - 3, 5)
        painting = Text(no_wrap=True, overflow="ellipsis")
        if len(lines) > room:
            lines = _fold(lines, room)
        width = self._console.size.width - 1
        for text, state in lines:
            sign, _, rest = text.partition(" ")
            painting.append(f"  {sign} ", style=_STYLES[state])
            style = "dim" if state in (State.SAVED, State.SKIPPED) else ""
            painting.append(rest[: max(width - 4, 10)] + "\n", style=style)
        if self._remark and not final:
            painting.append(self._remark[:width] + "\n", style="yellow")
        painting.rstrip()
        return painting


def _row_lines(row: Row, now: float) -> list[tuple[str, State]]:
    if row.items is not None:
        return [_item_line(item, now) for item in row.items.values()]
    state = State.FAILED if row.counts[State.FAILED] else State.DONE
    if row.active:
        state = State.RUNNING
    lines = [(row_text(row), state)]
    # Of many items only what is not going as usual gets a line.
    slow = [item for item in row.active.values() if item.state is State.RETRYING]
    return lines + [_item_line(item, now) for item in slow[:3]]


def _item_line(item: Item, now: float) -> tuple[str, State]:
    return f"{SIGNS[item.state]} {item_text(item, now)}", item.state


def _fold(lines: list[tuple[str, State]], room: int) -> list[tuple[str, State]]:
    """At most `room` lines: ended ones from the top make way, then whatever does not fit."""
    surplus = len(lines) - room + 1
    kept, folded = [], 0
    for line in lines:
        if folded < surplus and line[1] not in ACTIVE and line[1] is not State.FAILED:
            folded += 1
        else:
            kept.append(line)
    head = [(f"{SIGNS[State.DONE]} {folded} steps above have ended", State.SAVED)] if folded else []
    rest = len(kept) - (room - 1)
    if rest > 0:
        return [*head, *kept[: room - 2], (f"… {rest + 1} more", State.RUNNING)]
    return [*head, *kept]

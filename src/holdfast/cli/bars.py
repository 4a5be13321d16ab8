"""The bar of a long command on a terminal: it goes when the command ends, and the answer stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation

Draw = Callable[[str, int, int | None], None]
"""Shows what is done now, how much of it is done, and of how much (None: nobody knows)."""


@contextmanager
def drawn(invocation: Invocation) -> Iterator[Draw]:
    """A bar on stderr for as long as the block lasts."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=invocation.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("opening", total=None)

        def draw(what: str, done: int, total: int | None) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield draw

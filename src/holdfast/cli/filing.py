"""How an execution that workers shall run is filed: the flags that `run` and `executions start` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.json_options import json_object
from holdfast.errors import InvalidUsage

if TYPE_CHECKING:
    from holdfast.fleet.starts import Origin

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_QUEUE = "default"
_CLASSES = ("cpu", "io", "gpu")
_ANYWHERE = ("metadata", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """What was said about the execution; nothing is None."""

    queue: str | None = None
    class_: str | None = None
    priority: int | None = None
    delay: str | None = None
    dedupe_key: str | None = None
    limit_key: str | None = None
    metadata: str | None = None
    context: str | None = None

    @property
    def flags(self) -> list[str]:
        """The flags that were given and that only mean something to workers."""
        given = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        return [f"--{name.rstrip('_').replace('_', '-')}" for name in given if name not in _ANYWHERE]

    def here(self, *, id: str | None, started_by: str | None) -> Origin:
        """The same for an execution that runs in this process."""
        from holdfast.fleet.starts import Origin

        return Origin(id=id, trigger="cli", started_by=started_by, **self._said())

    def _said(self) -> dict[str, Any]:
        return {name: json_object(f"--{name}", getattr(self, name)) for name in _ANYWHERE}

    def origin(self, *, id: str | None, started_by: str | None) -> Origin:
        """The same for the launcher. `InvalidUsage` for the queue that workers do not serve."""
        from holdfast.durations import parse_duration
        from holdfast.fleet.starts import LOCAL_QUEUE, Origin

        if self.queue == LOCAL_QUEUE:
            raise InvalidUsage(
                f"no worker serves the queue {LOCAL_QUEUE!r}",
                where="--queue",
                fix="name another queue, or run it here without --queue and --detach",
            )
        return Origin(
            id=id,
            queue=self.queue or DEFAULT_QUEUE,
            class_=self.class_ or "io",
            priority=self.priority or 0,
            delay=None if self.delay is None else parse_duration(self.delay),
            dedupe_key=self.dedupe_key,
            limit_key=self.limit_key,
            trigger="cli",
            started_by=started_by,
            **self._said(),
        )


_OPTIONS = (
    click.option("--queue", metavar="Q", help="leave it to the workers of this queue"),
    click.option(
        "--class", "class_", type=click.Choice(_CLASSES), help="what it mostly needs  [default: io]"
    ),
    click.option("--priority", type=int, metavar="N", help="higher ones are taken first  [default: 0]"),
    click.option("--delay", metavar="DURATION", help="not before this long from now"),
    click.option(
        "--dedupe-key", metavar="KEY", help="at most one unfinished execution of the queue has this key"
    ),
    click.option("--limit-key", metavar="KEY", help="counted by the queue's limit per key"),
    click.option("--metadata", metavar="JSON", help="an object to find with the execution"),
    click.option("--context", metavar="JSON", help="an object that tells where it was started from"),
)


def filing_options(command: F) -> F:
    """Add the flags; the command gets their values by the names of `Filing`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command

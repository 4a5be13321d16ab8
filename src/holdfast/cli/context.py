"""One invocation of the command line: its flags, its streams, and the configuration it reads.

The environment, the folder and the terminal are read here and nowhere below. Commands get the
`Invocation` with `@click.pass_obj`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from holdfast.cli.flags import GlobalFlags
from holdfast.errors import InvalidUsage

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.config.loader import LoadedConfig


SERVICES = frozenset({"worker", "scheduler", "serve"})
"""Commands whose stderr is a log that somebody else collects, unless it is a terminal."""


@dataclass(slots=True)
class Invocation:
    """The surroundings of one command."""

    environ: Mapping[str, str]
    cwd: Path
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    flags: GlobalFlags = field(default_factory=GlobalFlags)
    command: str = ""  # the words of the command, once they are parsed
    storage_origin: str = ""  # where the place of the store comes from, once the configuration is read
    logs_json: bool = False  # whether lines of the log are for machines, once the configuration is read

    def load_config(
        self, *, settings: Mapping[str, str] | None = None, file: str | None = None, inspect: bool = False
    ) -> LoadedConfig:
        """The configuration; `settings` are values by path from the command's own flags.

        `file` stands in for --config. With `inspect` the caller only looks: notes and warnings are left
        to it. Otherwise warnings go to stderr.
        """
        from holdfast.config.loader import load
        from holdfast.config.urls import IDENTITY

        flags = dict(settings or {})
        for path, value in (("storage.url", self.flags.storage), ("profile", self.flags.profile)):
            if value is not None:
                flags[path] = value
        loaded = load(
            environ=self.environ,
            cwd=self.cwd,
            flags=flags,
            file=file or self.flags.config,
            bare=True,
            inspect=inspect,
        )
        places = (loaded.origins[path] for path in ("storage.url", *IDENTITY))
        said = (str(place) for place in places if place.source not in {"derived", "default"})
        self.storage_origin = next(said, "the defaults")
        if not inspect:
            self._begin_log(loaded)
        for warning in () if inspect else loaded.warnings:
            self.tell("warning", f"{warning.message} ({warning.where})")
        return loaded

    def _begin_log(self, loaded: LoadedConfig) -> None:
        """A command tells what it does itself; of the log it shows warnings, unless more is asked for."""
        from holdfast.cli import log_lines

        settings, command = loaded.config.logging, self.command.partition(" ")[0]
        asked = self.flags.verbose or loaded.origins["logging.level"].source != "default"
        self.logs_json = settings.format == "json" or (
            command in SERVICES and log_lines.is_json(settings, self.stderr)
        )
        least = "debug" if self.flags.verbose > 1 else settings.level if asked else "warning"
        log_lines.set_up(self.stderr, least, as_json=self.logs_json)

    @property
    def output(self) -> Output:
        """Where the command's data go."""
        from holdfast.cli.output import Output

        return Output(self.stdout, self.flags, color=self.colored(self.stdout))

    @property
    def timeout(self) -> timedelta | None:
        """The value of --timeout."""
        from holdfast.durations import parse_duration

        return None if self.flags.timeout is None else parse_duration(self.flags.timeout)

    def tell(self, level: str, text: str) -> None:
        """A line of the log, on stderr; none with --quiet."""
        from datetime import UTC, datetime

        from holdfast.cli.log_lines import line

        if self.logs_json:
            self.say(line(level, text, as_json=True, moment=datetime.now(UTC)))
        else:
            self.say(f"{level}: {text}" if level == "warning" else text)

    def say(self, text: str) -> None:
        """A remark for a person, on stderr; none with --quiet."""
        if not self.flags.quiet:
            print(text, file=self.stderr, flush=True)

    def confirm(self, question: str) -> bool:
        """The answer of the person at the terminal; yes with --yes.

        `InvalidUsage` when nobody can be asked: --no-input, or stdin is not a terminal.
        """
        if self.flags.yes:
            return True
        if self.flags.no_input or not self.stdin.isatty():
            raise InvalidUsage(f"this needs an answer: {question}", fix="add --yes, or run it in a terminal")
        print(f"{question} [y/N] ", end="", file=self.stderr, flush=True)
        return self.stdin.readline().strip().lower() in {"y", "yes"}

    def colored(self, stream: TextIO) -> bool:
        """Whether to colour what goes to `stream`."""
        if self.flags.color != "auto":
            return self.flags.color == "always"
        plain = self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb"
        return stream.isatty() and not plain

"""Command and group classes that every command is declared with.

They add the global flags of `catalogue.FLAGS` to each command, so that a flag may stand before or behind
the command's name. A name that a command uses for an option of its own (`-s` of `migrate down`) means
that option there. What was given is collected in the `GlobalFlags` of the invocation; the last one wins.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import catalogue
from holdfast.cli.catalogue import Flag
from holdfast.cli.context import Invocation

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# -status:failed: a filter turned round, and no option.
_NEGATED = re.compile(r"-[A-Za-z_]\w*:")


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    if given:
        invocation = context.find_object(Invocation)
        if invocation is not None:
            invocation.flags.set((parameter.name or "").removeprefix("global_"), value)


def _option(flag: Flag, names: Sequence[str]) -> click.Option:
    shape: dict[str, Any] = {"metavar": flag.metavar}
    if flag.choices:
        shape["type"] = click.Choice(flag.choices)
    elif flag.counts:
        shape = {"count": True}
    elif not flag.metavar:
        shape = {"is_flag": True}
    return click.Option(
        [*names, f"global_{flag.dest}"],
        help=flag.help,
        expose_value=False,
        hidden=True,
        callback=_remember,
        **shape,
    )


def global_options(own: Sequence[click.Parameter]) -> list[click.Parameter]:
    """The global flags as options, without the names that the options in `own` take."""
    taken = {name for parameter in own for name in (*parameter.opts, *parameter.secondary_opts)}
    free = [(flag, [name for name in flag.names if name not in taken]) for flag in catalogue.FLAGS]
    # A flag whose long name is taken is that command's own flag in all its spellings.
    return [_option(flag, names) for flag, names in free if flag.names[-1] in names]


class _Live(click.ParamType):  # type: ignore[type-arg]
    """A text that Tab completes from what is in the store."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as it is."""
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See `holdfast.cli.completion`."""
        from holdfast.cli.completion import live

        return live(ctx, param, incomplete)


_LIVE = _Live()
_LIVE_NAMES = frozenset(
    {"id_", "ids", "source", "name", "user", "incident", "workflow", "queue", "target", "file", "apps"}
)


class _TakesGlobalFlags(click.Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = {
            "help_option_names": ["-h", "--help"],
            **kwargs.get("context_settings", {}),
        }
        kwargs.setdefault("epilog", "The flags of `holdfast --help` may be given too.")
        super().__init__(*args, **kwargs)
        self._global: list[click.Parameter] | None = None
        for parameter in self.params:
            if parameter.name in _LIVE_NAMES and parameter.type is click.STRING:
                parameter.type = _LIVE

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, which failures are told to have happened in."""
        invocation = ctx.find_object(Invocation)
        if invocation is not None:
            invocation.command = ctx.command_path.partition(" ")[2]
        return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What click offers, and the global flags, which are in no command's help."""
        from click.shell_completion import CompletionItem

        offered = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            names = [(flag.names[-1], flag.help) for flag in catalogue.FLAGS]
            offered += [
                CompletionItem(name, help=help) for name, help in names if name.startswith(incomplete)
            ]
        return offered

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own options, then the global ones."""
        own = super().get_params(ctx)
        if self._global is None:
            self._global = global_options(self.params)
        return [*own, *self._global]


class Command(_TakesGlobalFlags):
    """One command; declare it with `@click.command(cls=Command)` or `@group.command()`."""


class Group(_TakesGlobalFlags, click.Group):
    """A noun with its verbs."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the group; without any, its help goes to stderr and the exit code is 2."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; `NoSuchCommand` when it is unknown."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            if name.startswith("-"):
                raise click.NoSuchOption(name, ctx=ctx)
            raise UnknownCommand(name, self.list_commands(ctx), ctx)
        return command.name, command, args[1:]


class UnknownCommand(click.UsageError):
    """A word that is no command here. `possibilities` are the near ones."""

    def __init__(self, name: str, known: Sequence[str], ctx: click.Context) -> None:
        from difflib import get_close_matches

        super().__init__(f"there is no command {name!r}", ctx)
        self.possibilities = get_close_matches(name, known, n=3, cutoff=0.5)


class Root(Group):
    """`holdfast` itself: imports the module of a command when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the catalogue, in its order."""
        return [entry.name for entry in catalogue.COMMANDS]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names of the catalogue; click would import every command to ask whether it is hidden."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(entry.name, help=entry.help)
            for entry in catalogue.COMMANDS
            if entry.name.startswith(incomplete)
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name or alias."""
        name = catalogue.ALIASES.get(cmd_name, cmd_name)
        for entry in catalogue.COMMANDS:
            if entry.name == name:
                return _command(entry)
        return None

    def get_help(self, ctx: click.Context) -> str:
        """The page of the catalogue."""
        return catalogue.render_help().rstrip("\n")


def _command(entry: catalogue.Entry) -> click.Command:
    if entry.module:
        command: click.Command = importlib.import_module(entry.module).command
        return command
    from holdfast.cli.records import group

    return group(entry.name)


class TakesQuery(Command):
    """A command whose filters may begin with a -, which click would take for options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put negated filters where click looks for no options."""
        negated = [word for word in args if _NEGATED.match(word)]
        rest = [word for word in args if not _NEGATED.match(word)]
        if negated and "--" not in rest:
            rest.append("--")
        return super().parse_args(ctx, [*rest, *negated])

"""Writes the pages of docs/reference that the program knows best, or says which of them are out of date.

    python -m scripts.reference            write cli.md, configuration.md, errors.md and python.md
    python -m scripts.reference --check    exit 1 and name the pages that differ from the program

Everything is taken from where the program takes it: the tree of click commands, the table of settings, the
classes of errors, the docstrings of what `import holdfast` offers. A test runs the check.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
_NOTE = "<!-- Made by `python -m scripts.reference`; changes by hand are overwritten. -->\n"
_CLI = """\
Data goes to stdout, everything else to stderr. [Exit codes](exit-codes.md) and [error codes](errors.md) have
pages of their own. An ID may be shortened to a unique beginning; `@last` is the newest execution.
In JSON a time is ISO 8601 in UTC, and a `duration` is seconds as a number.
"""
_CONFIGURATION = """\
Read from the first of {files} in the current folder (a `config.yaml` if it holds settings of Holdfast,
`pyproject.toml` if it has a table `[tool.holdfast]`), from the environment, and from `.env` and
`.env.<profile>`. Strongest first: flag, `HOLDFAST_…` variable, `.env.<profile>`, `.env`, `profiles` block
of the file, file, bare variable, default. `VAR_FILE` names a file that holds the value of the secret
`VAR`. In the file `${{VAR}}`, `${{VAR:-default}}` and `${{file:PATH}}` are filled in; `$$` is a dollar
sign. `holdfast config show --origins` prints what is in effect and where it comes from; [how to
configure](../how-to/configure-holdfast.md) has examples.

Durations need a unit (`250ms`, `30s`, `5m`, `12h`, `30d`), sizes too (`64MiB`, `10kB`). camelCase keys
are read as well; behind them a bare integer is milliseconds. A name that ends in a unit (`…_ms`, `…_sec`,
`…_days`) may stand for that of a duration. An unknown key is an error that names the nearest right one.
"""
_LATER = """\
## Known, without effect in this version

Checked like all others, and accepted with a note by `holdfast config validate`, so that a file written
for a later version is neither called wrong nor believed. Those marked with † are refused with
[`HF1101`](errors.md#hf1101-settingunavailable) by every command that opens the store. `*` stands for a
place in a list, or for a name of your own.
"""
_ERRORS = """\
Every expected failure has a code that never changes. The command line prints code, cause, place and fix;
`--json` gives the same as a problem document on stderr; in Python the code is `error.code`. `holdfast help
HF2003` explains one, `holdfast help errors` lists all.
"""
_PYTHON = """\
The names below are the public ones. `import holdfast` loads them when they are first used. Durations are
`"30s"`, seconds as a number, or a `timedelta`. How to use them:
[Python workflows](../how-to/write-python-workflows.md).
"""


def pages() -> dict[str, str]:
    """The text of every generated page, by file name."""
    made = {
        "cli.md": cli_page(),
        "configuration.md": configuration_page(),
        "errors.md": errors_page(),
        "python.md": python_page(),
    }
    return {name: _NOTE + text for name, text in made.items()}


def stale(folder: Path = FOLDER) -> list[str]:
    """The generated pages that are missing or say something else than the program."""
    return [
        name
        for name, text in pages().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


# The command line.


def command_tree() -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Every command with its words, parents before children, in the order of the help page."""
    from holdfast.cli.declare import Root

    root = Root(name="holdfast")
    yield from _below((), root, click.Context(root, info_name="holdfast"))


def _below(
    words: tuple[str, ...], command: click.Command, context: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    if words:
        yield words, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                inside = click.Context(inner, info_name=name, parent=context)
                yield from _below((*words, name), inner, inside)


def cli_page() -> str:
    """Every command and flag, in the words of `--help`."""
    from holdfast.cli import catalogue

    parts = [
        "# Command line\n",
        _CLI,
        "## Flags of every command\n",
        "They may stand before or behind the command. The variable in the last column does the same.\n",
    ]
    rows = [
        (f"`{', '.join(flag.names)}`{_value(flag.metavar, flag.choices)}", flag.help, _code(flag.env))
        for flag in catalogue.FLAGS
    ]
    parts.append(_table(("flag", "meaning", "variable"), rows))
    for words, command, context in command_tree():
        parts.append(_command_text(words, command, context))
    return "\n".join(parts)


def _command_text(words: tuple[str, ...], command: click.Command, context: click.Context) -> str:
    own = [parameter for parameter in command.params if not _is_hidden(parameter)]
    level = "##" if len(words) == 1 else "###"
    text = [f"{level} holdfast {' '.join(words)}\n"]
    if isinstance(command, click.Group):
        names = ", ".join(f"`{name}`" for name in command.list_commands(context))
        return "\n".join([*text, f"{_prose(command.help)}\n\nCommands: {names}.\n"])
    arguments = [each.make_metavar(context) for each in own if isinstance(each, click.Argument)]
    options = [each for each in own if isinstance(each, click.Option)]
    usage = " ".join(["holdfast", *words, *(["[OPTIONS]"] if options else []), *arguments])
    text += [f"```text\n{usage}\n```\n", _prose(command.help), ""]
    if options:
        rows = [(_spelled(option), _prose(option.help) + _default(option)) for option in options]
        text.append(_table(("option", "meaning"), rows))
    return "\n".join(text)


def _is_hidden(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.hidden


def _spelled(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return f"`{names}`"
    choices = tuple(option.type.choices) if isinstance(option.type, click.Choice) else ()
    metavar = option.metavar or ("" if choices else option.type.name.upper())
    return f"`{names}`{_value(metavar, choices)}"


def _value(metavar: str, choices: tuple[str, ...]) -> str:
    shown = "\\|".join(choices) if choices else metavar.replace("|", "\\|")
    return f" {shown}" if shown else ""


def _default(option: click.Option) -> str:
    return f" (default `{option.default}`)" if option.show_default and option.default is not None else ""


# The configuration.


def configuration_page() -> str:
    """Every setting with its default and its environment variable."""
    from holdfast.config.files import FILES
    from holdfast.config.known import ALIASES, BARE, BLOCKS, ENVIRONMENT
    from holdfast.config.later import LATER
    from holdfast.config.schema import SETTINGS

    parts = [
        "# Configuration\n",
        _CONFIGURATION.format(files=_listed(FILES)),
        "## Settings\n",
    ]
    rows = []
    for path, setting in SETTINGS.items():
        name = "HOLDFAST_" + path.upper().replace(".", "__")
        rows.append((f"`{path}`", *_setting_cells(setting.rule, setting.default), f"`{name}`"))
    parts.append(_table(("key", "value", "default", "meaning", "variable"), rows))
    parts.append("## Short variables\n\nEach with the prefix `HOLDFAST_`.\n")
    parts.append(
        _table(("variable", "setting"), [(f"`HOLDFAST_{k}`", f"`{v}`") for k, v in _named(ENVIRONMENT)])
    )
    parts.append(
        "## Bare variables\n\nRead by the command line only, and only where nothing else sets the value.\n"
    )
    parts.append(_table(("variable", "setting"), [(f"`{k}`", f"`{v}`") for k, v in _named(BARE)]))
    parts.append("## Other spellings\n\nBehind these a bare integer is milliseconds.\n")
    others = {**ALIASES, **{f"{block}.…": f"{path}.…" for block, path in BLOCKS.items()}}
    parts.append(_table(("spelling", "setting"), [(f"`{k}`", f"`{v}`") for k, v in _named(others)]))
    parts.append(_LATER)
    later_rows = [
        (
            f"`{path}`{' †' if later.binding else ''}",
            *_setting_cells(later.rule, later.default),
            later.feature,
        )
        for path, later in LATER.items()
    ]
    parts.append(_table(("key", "value", "default", "meaning", "feature"), later_rows))
    return "\n".join(parts)


def _setting_cells(rule: Any, default: Any) -> tuple[str, str, str]:
    """What a setting may be, its default, and what it means."""
    from holdfast.config.convert import show

    allowed = _listed(rule.choices) if rule.choices else rule.kind
    if default is None or default == ():
        return allowed, "", rule.doc
    shown = show(rule, default)
    return allowed, _code(str(shown).lower() if isinstance(shown, bool) else str(shown)), rule.doc


def _named(table: Any) -> list[tuple[str, str]]:
    items = table.items() if isinstance(table, dict) else ((each, "") for each in table)
    return sorted((str(name), str(value)) for name, value in items)


# Errors.


def error_classes() -> list[type[Any]]:
    """Every class of `holdfast.errors`, by code."""
    from holdfast import errors

    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.HoldfastError)
    ]
    return sorted(found, key=lambda each: each.code)


def errors_page() -> str:
    """Every code with its cause, its fix and its exit code."""
    parts = [
        "# Error codes\n",
        _ERRORS,
    ]
    for kind in error_classes():
        parts.append(
            f"## {kind.code} {kind.__name__}\n\n{_prose(kind.__doc__)}\n\n"
            f"* **fix** {kind.default_fix}\n* **exit code** {kind.exit_code}\n"
        )
    return "\n".join(parts)


# The Python API.


def python_page() -> str:
    """What `import holdfast` offers, from its docstrings."""
    import holdfast

    parts = [
        "# Python API\n",
        _PYTHON,
    ]
    from holdfast.events.streams import Streams
    from holdfast.store.repository import Repository
    from holdfast.workflows.functions import Step, Workflow

    named: list[tuple[str, Any]] = [
        (f"holdfast.{name}", getattr(holdfast, name)) for name in holdfast.__all__
    ]
    named += [("What @app.step makes", Step), ("What @app.workflow makes", Workflow)]
    named += [("What platform.repo makes", Repository), ("holdfast.events.streams.Streams", Streams)]
    named += [(f"What platform.{name} is", service) for name, service in services().items()]
    for title, thing in named:
        parts.append(_thing(title, thing))
    return "\n".join(parts)


def services() -> dict[str, type[Any]]:
    """What a platform has by a name: the verbs of each family of records."""
    import holdfast.domain
    from holdfast.platform import Platform

    names = [each.name for each in iter_modules(holdfast.domain.__path__, "holdfast.domain.")]
    classes = {
        each.__name__: each
        for name in names
        for each in vars(import_module(name)).values()
        if isinstance(each, type) and each.__module__ == name
    }
    getters = {name: each.fget for name, each in vars(Platform).items() if isinstance(each, property)}
    kinds = {name: inspect.get_annotations(getter)["return"] for name, getter in getters.items() if getter}
    return {name: classes[kind] for name, kind in kinds.items() if kind in classes and name[0] != "_"}


def _thing(title: str, thing: Any) -> str:
    doc = inspect.getdoc(thing) or ""
    if not isinstance(thing, type):
        signature = _signature(title.rpartition(".")[2], thing)
        return f"## {title}\n\n```text\n{signature}\n```\n\n{_paragraphs(doc)}\n"
    if issubclass(thing, Exception):
        code = getattr(thing, "code", "")
        anchor = f"{code}-{thing.__name__}".lower()
        return f"## {title}\n\n{_paragraphs(doc)}\n\nCode: [`{code}`](errors.md#{anchor}).\n"
    text = [f"## {title}\n", f"```text\n{_signature(thing.__name__, thing)}\n```\n", _paragraphs(doc), ""]
    for name, member in vars(thing).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        if (inspect.getdoc(member) or "").startswith("See "):
            continue  # a port's method, for the other side of that port
        if isinstance(member, property):
            text.append(f"**`{name}`** (property): {_prose(inspect.getdoc(member))}\n")
        else:
            prefix = "await " if inspect.iscoroutinefunction(member) else ""
            signature = f"{prefix}{_signature(name, member)}".replace("(self, ", "(").replace("(self)", "()")
            text.append(f"```text\n{signature}\n```\n\n{_paragraphs(inspect.getdoc(member) or '')}\n")
    return "\n".join(text)


def _signature(name: str, thing: Any) -> str:
    # Annotations are kept as text and come in quotes; the quotes of defaults stay.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
    text = re.sub(r" = <dataclasses\._MISSING_TYPE[^>]*>", "", text)  # its text is an address
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text).replace("datetime.timedelta", "timedelta")
    return f"{name}{text}".removesuffix(" -> None")


def _paragraphs(doc: str) -> str:
    """A docstring as Markdown: an indented example becomes a block of code."""
    text: list[str] = []
    example: list[str] = []
    inside = False
    for line in [*doc.splitlines(), ""]:
        if line.startswith("    ") or (inside and not line and example):
            inside = True
            example.append(line.removeprefix("    "))
            continue
        if example:
            text.append("```text\n" + "\n".join(example).rstrip() + "\n```\n")
            example, inside = [], False
        text.append(line.replace("Example::", "Example:"))
    if example:
        text.append("```text\n" + "\n".join(example).rstrip() + "\n```")
    return "\n".join(text).strip()


# Forms.


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _prose(text: str | None) -> str:
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a page is out of date"
    )
    old = stale()
    if parser.parse_args().check:
        for name in old:
            print(f"docs/reference/{name} is out of date: python -m scripts.reference", file=sys.stderr)
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        if name in old:
            (FOLDER / name).write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

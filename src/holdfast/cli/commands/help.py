"""`holdfast help`: a command's page, or what an error code means; the texts are those of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

import click

from holdfast import errors
from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command, UnknownCommand

_CODE = re.compile(r"(?i)HF\d{1,4}")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@click.command("help", cls=Command)
@click.argument("topic", nargs=-1, metavar="[COMMAND… | HF-CODE | errors]")
@click.pass_context
def command(context: click.Context, topic: tuple[str, ...]) -> None:
    """Explain a command, or an error by its HF code.

    `holdfast help errors` lists every code.
    """
    invocation = context.ensure_object(Invocation)
    if topic == ("errors",):
        invocation.output.records(_explained(), ["code", "exit_code", "title", "fix"], key="code")
    elif len(topic) == 1 and _CODE.fullmatch(topic[0]):
        _show(_find(topic[0].upper()), invocation)
    else:
        invocation.output.text(_page(context.find_root(), topic))


def _classes(
    parent: type[errors.HoldfastError] = errors.HoldfastError,
) -> Iterator[type[errors.HoldfastError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from _classes(child)


def _explain(kind: type[errors.HoldfastError]) -> dict[str, object]:
    return {
        "code": kind.code,
        "title": _WORDS.sub(" ", kind.__name__).capitalize(),
        "cause": " ".join((kind.__doc__ or "").split()),
        "fix": kind.default_fix,
        "exit_code": kind.exit_code,
    }


def _explained() -> list[dict[str, object]]:
    return sorted(map(_explain, _classes()), key=lambda row: str(row["code"]))


def _find(code: str) -> dict[str, object]:
    known = {str(row["code"]): row for row in _explained()}
    if code in known:
        return known[code]
    meant = get_close_matches(code, known, n=1, cutoff=0.5)
    fix = f"did you mean {meant[0]}? `holdfast help errors` lists all" if meant else "holdfast help errors"
    raise errors.NotFound(f"there is no error code {code}", where="help", fix=fix)


def _show(row: dict[str, object], invocation: Invocation) -> None:
    if not invocation.output.is_table:
        invocation.output.record(row, key="code")
        return
    invocation.output.text(
        f"{row['code']}  {row['title']}\n"
        f"  cause   {row['cause']}\n"
        f"  fix     {row['fix']}\n"
        f"  exit    {row['exit_code']}\n"
    )


def _page(context: click.Context, names: tuple[str, ...]) -> str:
    found = context.command
    for name in names:
        inner = found.get_command(context, name) if isinstance(found, click.Group) else None
        if inner is None:
            known = found.list_commands(context) if isinstance(found, click.Group) else []
            raise UnknownCommand(name, known, context)
        found = inner
        context = click.Context(found, info_name=name, parent=context)
    return found.get_help(context)

"""What a shell asks for when somebody presses Tab: commands, flags, and the ids and names in the store.

The scripts of `holdfast completion` call the program again with `_HOLDFAST_COMPLETE` set, and `complete`
answers. A store is only read, and only for a moment: what does not come in time is not offered. Nothing that
fails here is told, since it would be written into the line that is being typed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from holdfast.cli.catalogue import NOUNS
from holdfast.cli.context import Invocation
from holdfast.store.lookup import LAST

if TYPE_CHECKING:
    from holdfast.cli.catalogue import Noun
    from holdfast.store.store import Store

VARIABLE = "_HOLDFAST_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")
_BUDGET_S = 0.2
_MOST = 100
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:COMP_WORDS = ($commandAst.CommandElements | ForEach-Object { $_.ToString() }) -join "`n"
    $env:COMP_CWORD = $wordToComplete
    $env:%(complete_var)s = "powershell_complete"
    try {
        %(prog_name)s | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, "ParameterValue", $help)
        }
    } finally {
        Remove-Item Env:COMP_WORDS, Env:COMP_CWORD, Env:%(complete_var)s
    }
}
"""

Offers = Callable[["Store", str], Awaitable[list[str]]]
"""Reads the ids or names that begin with a text, the likeliest first."""


@add_completion_class
class PowerShellComplete(ShellComplete):
    """Completion for PowerShell: a word a line going in, `value TAB help` a line coming out."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is being typed, and that one."""
        words, incomplete = os.environ["COMP_WORDS"].split("\n")[1:], os.environ.get("COMP_CWORD", "")
        return (words[:-1] if incomplete and words else words), incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """One line of the answer."""
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


def script(shell: str, root: click.Command) -> str:
    """What a shell has to read so that Tab asks `holdfast`."""
    made = get_completion_class(shell)
    assert made is not None
    return made(root, {}, "holdfast", VARIABLE).source()


def complete(instruction: str, root: click.Command) -> int:
    """Answer a shell; `instruction` is the value of the variable, such as `bash_complete`."""
    shell, _, wish = instruction.partition("_")
    made = get_completion_class(shell)
    if made is None or wish != "complete":
        return 2
    invocation = Invocation(environ=os.environ, cwd=Path())
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), suppress(Exception):
        print(made(root, {"obj": invocation}, "holdfast", VARIABLE).complete())
    return 0


def live(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids, names or files that the word of a command may become; empty when it can not be told."""
    if parameter.name in _FILES:
        is_file = not context.command_path.startswith("holdfast storage ")  # these are URLs
        return [CompletionItem(incomplete, type="file")] if is_file else []
    invocation, offers = context.find_object(Invocation), _offers(context, parameter)
    if invocation is None or offers is None:
        return []
    with suppress(Exception):
        found = asyncio.run(_read(invocation, offers, incomplete))
        words = [*found, LAST] if parameter.name in _IDS else found
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]
    return []


async def _read(invocation: Invocation, offers: Offers, incomplete: str) -> list[str]:
    from holdfast.stores import open_store

    config = invocation.load_config(inspect=True).config
    async with asyncio.timeout(_BUDGET_S), open_store(config, migrate=False) as store:
        return await offers(store, incomplete)


def _offers(context: click.Context, parameter: click.Parameter) -> Offers | None:
    noun = context.command_path.split()[1]
    name = parameter.name or ""
    if name in ("queue", "queues") or (noun, name) == ("queues", "name"):
        return _queues
    if name == "workflow" or (name == "name" and noun in ("workflows", "executions")):
        return _workflows
    record = {"user": "users", "incident": "incidents"}.get(name, noun)
    if name == "name" and noun == "runbooks":
        return _records("runbooks", "name")
    if name in _IDS or record != noun:
        return _BY_NOUN.get(record) or (_records(record, "id") if record in _NOUNS else None)
    return None


def _records(noun: str, column: str) -> Offers:
    async def read(store: Store, start: str) -> list[str]:
        from holdfast.cli.records import class_of
        from holdfast.store.filters import Condition, Query
        from holdfast.store.lookup import BEHIND_ALL

        records = store.repo(class_of(_NOUNS[noun]))
        named = records.mapping.table.column(column)
        bounds = (Condition(named, ">=", start), Condition(named, "<", start + BEHIND_ALL)) if start else ()
        return [str(getattr(each, column)) for each in (await records.find(Query(bounds), limit=_MOST)).items]

    return read


async def _executions(store: Store, start: str) -> list[str]:
    newest = await store.list_executions("", limit=_MOST)
    older = await store.driver.fetch("executions.by_prefix", store.tenant, start) if start else []
    return list(dict.fromkeys([*(each.id for each in newest), *(row[1] for row in older)]))


async def _queues(store: Store, _: str) -> list[str]:
    return [row[0] for row in await store.driver.fetch("queues.names", store.tenant)]


async def _workflows(store: Store, start: str) -> list[str]:
    name, at, _ = start.partition("@")
    if at:
        return [f"{name}@{each.version}" for each in await store.workflow_versions(name)]
    return [str(each["name"]) for each in await store.list_workflows()]


async def _workers(store: Store, _: str) -> list[str]:
    from holdfast.fleet.roster import read_roster

    return [bytes(each.boot).hex() for each in await read_roster(store)]


async def _approvals(store: Store, _: str) -> list[str]:
    from holdfast.fleet.approvals import listed

    return [each.id for each in await listed(store, limit=_MOST)]


_FILES = ("target", "file", "apps")
_IDS = ("id_", "ids", "source")
_NOUNS: Mapping[str, Noun] = {noun.name: noun for noun in NOUNS}
_BY_NOUN: dict[str, Any] = {
    **dict.fromkeys(("executions", "resume", "fork", "replay", "events"), _executions),
    "workers": _workers,
    "approvals": _approvals,
}

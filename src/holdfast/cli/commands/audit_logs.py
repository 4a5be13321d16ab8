"""`holdfast audit-logs`: read the audit log, check its chain, and take it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.context import Invocation
from holdfast.cli.records import group

if TYPE_CHECKING:
    from holdfast.domain.audit import Audit
    from holdfast.domain.audit_chain import Head, Verdict

T = TypeVar("T")

command = group("audit-logs")
_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


@command.command()
@click.pass_obj
def head(invocation: Invocation) -> None:
    """Print the end of the chain, NUMBER:HASH, to be kept where the database's users can not write."""
    found = _with_audit(invocation, lambda audit: audit.head())
    if invocation.output.is_table:
        invocation.output.text(f"{found.seq}:{found.hash.hex()}")
    else:
        invocation.output.record({"seq": found.seq, "hash": found.hash.hex()}, key="hash")


@command.command()
@click.option("--known", metavar="NUMBER:HASH", help="an end that was kept: the chain has to run through it")
@click.option(
    "--keyed-from",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="where a chain that was begun without security.audit_key has its first keyed entry",
)
@click.pass_obj
def verify(invocation: Invocation, known: str | None, keyed_from: int) -> None:
    """Read the whole chain, and name the first entry that is not as it was written: exit code 6.

    With security.audit_key every entry has to have a keyed hash.
    """
    from holdfast.cli.output import counted
    from holdfast.errors import AuditBroken

    wanted = None if known is None else _read_head(known)

    async def work(audit: Audit) -> Verdict:
        return await audit.verify(known=wanted, keyed_from=keyed_from)

    found = _with_audit(invocation, work)
    problem = found.problem
    if problem is not None:
        raise AuditBroken(
            f"{problem.text}; {counted(found.good, 'entry is', 'entries are')} good before it",
            where=f"entry {problem.seq}",
            seq=problem.seq,
            fault=str(problem.fault),
            good=found.good,
        )
    row: dict[str, Any] = {"entries": found.good, "seq": found.head.seq, "hash": found.head.hash.hex()}
    if invocation.output.is_table:
        invocation.output.text(f"{counted(found.good, 'entry', 'entries')}, and the chain holds")
    else:
        invocation.output.record(row, key="hash")


@command.command()
@click.argument("query", nargs=-1, metavar="[QUERY…]")
@click.pass_obj
def export(invocation: Invocation, query: tuple[str, ...]) -> None:
    """Print entries in the order of the chain, one JSON object per line, hashes in hexadecimal.

    QUERY is that of `audit-logs list`. Whoever keeps all lines can check later that none was changed.
    """
    import json

    from holdfast.cli.output import plain
    from holdfast.cli.record_values import printed

    async def work(audit: Audit) -> None:
        async for each in audit.export(query):
            invocation.output.text(json.dumps(plain(printed(each)), ensure_ascii=False))

    _with_audit(invocation, work)


def _with_audit(invocation: Invocation, work: Callable[[Audit], Awaitable[T]]) -> T:
    from holdfast.cli.reading import with_store
    from holdfast.domain.audit import Audit
    from holdfast.domain.keyrings import keyring_of

    keys = keyring_of(invocation.load_config(inspect=True).config.security.audit_key)
    return with_store(invocation, lambda store: work(Audit(store, keys)))


def _read_head(text: str) -> Head:
    from holdfast.domain.audit_chain import Head
    from holdfast.errors import InvalidUsage

    found = _HEAD.fullmatch(text)
    if found is None:
        raise InvalidUsage(
            f"{text[:80]!r} is not NUMBER:HASH", where="--known", fix="pass what `audit-logs head` printed"
        )
    return Head(int(found[1]), bytes.fromhex(found[2]))

"""What `storage copy` does: two stores open at once, a bar while it lasts, a line per table at the end."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli.bars import drawn
from holdfast.cli.loop import until_stopped
from holdfast.config.loader import load
from holdfast.durations import parse_duration
from holdfast.errors import HoldfastError, InvalidArgument, InvalidUsage
from holdfast.stores import build_store
from holdfast.upkeep.copying import Compared, Copied, Copy, Progress, Report
from holdfast.upkeep.selection import Selection

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store


def copy_store(
    invocation: Invocation, source: str, target: str, selection: Selection, *, resume: bool, verify: bool
) -> None:
    """Copy `source` into `target` (or only compare them, with `verify`), and report it."""
    if source == target:
        raise InvalidUsage("source and target are one store", where="TO", fix="name another target")
    selection.tables()  # a wrong name is said before anything is opened
    if invocation.flags.dry_run:
        _report_plan(invocation, selection)
        return

    async def run() -> Copied:
        async with _opened(source, make=False) as here, _opened(target, make=not verify) as there:
            with _bar(invocation) as report:
                copy = Copy(here, there, selection, report)
                if verify:
                    return Copied(tables=await copy.compare())
                return await copy.run(resume=resume)

    _report(invocation, until_stopped(run), verify=verify)


def parse_since(text: str) -> datetime:
    """A date, or an age such as `30d`. Raises `InvalidUsage`."""
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        try:
            return datetime.now(UTC) - parse_duration(text)
        except HoldfastError as error:
            raise InvalidUsage(
                f"{text[:40]!r} is neither a date nor an age", where="--since", fix="write 2026-01-31 or 30d"
            ) from error


@asynccontextmanager
async def _opened(url: str, *, make: bool) -> AsyncIterator[Store]:
    config = load(environ=os.environ, cwd=Path.cwd(), flags={"storage.url": url}).config
    if config.storage.type == "memory":
        raise InvalidArgument(
            "a store in memory ends with this command", where=url, fix="name a file or server"
        )
    store = build_store(config, create=make)
    await store.open(migrate=make)
    try:
        yield store
    finally:
        await store.close()


def _report_plan(invocation: Invocation, selection: Selection) -> None:
    tables = [table.name for table in selection.tables()]
    if invocation.output.is_table:
        invocation.output.text(f"would copy {', '.join(tables)}")
    else:
        invocation.output.record({"tables": tables, "dry_run": True}, key="tables")


def _report(invocation: Invocation, done: Copied, *, verify: bool) -> None:
    rows = [_row(each) for each in done.tables]
    if not invocation.output.is_table:
        told = {"tables": rows, "copied_rows": done.rows, "repaired_rows": done.repaired, "equal": True}
        invocation.output.record(told, key="copied_rows")
        return
    invocation.output.records([row for row in rows if row["rows"]], ["table", "rows", "digest"], key="table")
    total = sum(each.rows for each in done.tables)
    if verify:
        invocation.output.text(f"equal: {total:,} rows compared")
    else:
        mended = f", {done.repaired:,} of them put right" if done.repaired else ""
        invocation.output.text(f"copied {done.rows:,} rows{mended}; both stores hold the same {total:,}")


def _row(compared: Compared) -> dict[str, object]:
    return {"table": compared.table, "rows": compared.rows, "digest": compared.digest}


@contextmanager
def _bar(invocation: Invocation) -> Iterator[Report]:
    """What shows how far a copy is: a bar on a terminal, lines of JSON, or nothing."""
    form = invocation.flags.progress
    if form == "json":

        def tell(progress: Progress) -> None:
            place = {"table": progress.table, "rows": progress.rows, "total": progress.total}
            line = {"event": progress.stage, **place}
            print(json.dumps(line), file=invocation.stderr, flush=True)

        yield tell
    elif form == "plain" or (form == "auto" and invocation.stderr.isatty()):
        with drawn(invocation) as draw:
            yield lambda progress: draw(
                f"{progress.stage} {progress.table}", progress.rows, progress.total or None
            )
    else:
        yield lambda progress: None

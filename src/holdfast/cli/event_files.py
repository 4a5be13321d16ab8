"""`events verify`, `export` and `rebuild`: the event log in files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli.loop import until_stopped
from holdfast.cli.reading import with_store
from holdfast.errors import InvalidUsage, StoreUnavailable
from holdfast.events.files.checking import Compared, compare
from holdfast.events.files.rebuilding import Rebuilding, Rebuilt
from holdfast.events.files.stored import execution_keys, exported
from holdfast.events.log import EventLog, Finding
from holdfast.stores import config_for, ends_with_its_process, open_store

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

DAMAGED = 6
_COLUMNS = ["execution", "seq", "kind", "message"]
_TOLD_EVERY = 500


def verify_log(invocation: Invocation, id: str | None, files: str | None) -> int:
    """Check the log in the store, and in files where there are some; the exit code."""
    log = invocation.load_config(inspect=True).config.event_log
    base = Path(files) if files else log.dir if log.type == "filesystem" else None
    if files and not Path(files).is_dir():
        raise InvalidUsage(
            f"there is no folder {files}", where="--files", fix="name the folder of an event log"
        )

    async def run(store: Store) -> tuple[list[Finding], Compared | None]:
        execution = None if id is None else await store.get_execution(id)
        findings = await EventLog(store).verify(execution)
        return findings, None if base is None else await compare(store, base, execution)

    findings, compared = with_store(invocation, run)
    findings += [] if compared is None else compared.findings
    if findings or not invocation.output.is_table:
        rows = [asdict(finding) for finding in findings]
        invocation.output.records(rows, _COLUMNS, key="execution", whole=not findings)
    else:
        more = f"; {compared.events:,} events in files agree" if compared is not None else ""
        invocation.output.text(f"the log is whole{more}")
    return DAMAGED if findings else 0


def export_log(invocation: Invocation, id: str | None, target: str | None) -> None:
    """Print the lines of one execution or of all, or write them into a file."""

    async def lines(store: Store) -> AsyncIterator[bytes]:
        if id is not None:
            async for line in exported(store, [(await store.get_execution(id)).key]):
                yield line
            return
        async for page in execution_keys(store):
            async for line in exported(store, [key for key, _, _ in page]):
                yield line

    async def run(store: Store) -> None:
        if target is None:
            async for line in lines(store):
                invocation.stdout.write(line.decode())
            return
        path = Path(target)
        temporary = path.with_name(f".{path.name}.part")
        try:
            with temporary.open("wb") as file:
                async for line in lines(store):
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError as error:
            raise StoreUnavailable(f"the file can not be written: {error.strerror}", where=target) from error
        finally:
            temporary.unlink(missing_ok=True)

    with_store(invocation, run)


def rebuild_store(invocation: Invocation, folder: str) -> None:
    """Make the configured store of the files below `folder`; a dry run makes one in memory, and leaves it."""
    config = config_for("memory://") if invocation.flags.dry_run else invocation.load_config().config
    if ends_with_its_process(config) and not invocation.flags.dry_run:
        raise InvalidUsage(
            "a store in memory ends with this command", where="--storage", fix="name a file or server"
        )

    def report(done: Rebuilt) -> None:
        if (done.executions + done.present) % _TOLD_EVERY == 0:
            invocation.say(f"{done.executions + done.present:,} executions")

    async def run() -> Rebuilt:
        async with open_store(config, migrate=True) as store:
            return await Rebuilding(store, Path(folder), report).run()

    done = until_stopped(run)
    if not invocation.output.is_table:
        dry = {"dry_run": True} if invocation.flags.dry_run else {}
        invocation.output.record({**asdict(done), **dry}, key="executions")
        return
    present = f", {done.present:,} were there" if done.present else ""
    would = "would be " if invocation.flags.dry_run else ""
    invocation.output.text(
        f"{would}{done.executions:,} executions with {done.events:,} events, "
        f"{done.unfinished:,} unfinished{present}"
    )

"""Whether the files of a log say what the store says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import DamagedData
from holdfast.events.files.layout import execution_folders, folder_name
from holdfast.events.files.lines import Logged, LoggedEvent
from holdfast.events.files.reading import lines_below
from holdfast.events.files.stored import execution_keys, stored_events
from holdfast.events.log import Finding
from holdfast.records.executions import Execution
from holdfast.store import codec
from holdfast.store.store import Store

BEHIND_S = 1.0
"""So far behind the store the files of a running execution may be."""
_LOOKS = 5


@dataclass(slots=True)
class Compared:
    """What was compared, and what is wrong."""

    executions: int
    events: int
    findings: list[Finding]


async def compare(store: Store, base: Path, execution: Execution | None = None) -> Compared:
    """Compare the files below a folder with a store, event by event, for one execution or for all.

    Files of executions that the store does not have any more only have to be whole.
    """
    done = Compared(0, 0, [])
    stored: dict[bytes, tuple[str, str]] = {}
    if execution is not None:
        stored[execution.key] = (execution.id, execution.tenant)
        folders = [base / folder_name(execution.id, execution.tenant)]
    else:
        async for page in execution_keys(store):
            stored.update((key, (id, tenant)) for key, id, tenant in page)
        folders = await asyncio.to_thread(execution_folders, base)
    for folder in folders:
        key = await _compare_folder(store, folder, set(stored), done)
        if key is not None:
            stored.pop(key, None)
    for id, tenant in stored.values():
        if not (base / folder_name(id, tenant)).exists():
            done.findings.append(Finding(id, None, "missing", f"no file of it is below {base}"))
    return done


async def _compare_folder(store: Store, folder: Path, stored: set[bytes], done: Compared) -> bytes | None:
    """Add what is wrong with one folder; whose it is, if that can be told."""
    for look in range(_LOOKS):
        try:
            logged = await asyncio.to_thread(lambda: list(lines_below(folder)))
        except DamagedData as error:
            done.findings.append(Finding(folder.name, None, "damaged", error.cause))
            return None
        if not logged:
            return None
        first = logged[0].event
        findings = await _compare_events(store, first, logged) if first.execution in stored else []
        if all(each.kind != "missing" for each in findings) or look == _LOOKS - 1:
            break
        await asyncio.sleep(BEHIND_S / (_LOOKS - 1))  # the follower may be about to write it
    done.executions += 1
    done.events += len(logged)
    done.findings += findings
    return first.execution


async def _compare_events(store: Store, first: LoggedEvent, logged: list[Logged]) -> list[Finding]:
    findings: list[Finding] = []
    there = {each.event.seq: each.event for each in logged}
    async for event in stored_events(store, first.execution):
        written = there.pop(event.seq, None)
        if written is None:
            findings.append(Finding(event.id, event.seq, "missing", f"event {event.seq} is in no file"))
        elif _compared(written) != _compared(event):
            findings.append(
                Finding(event.id, event.seq, "differs", f"event {event.seq} is another one in the files")
            )
    findings += [
        Finding(event.id, seq, "extra", f"event {seq} is in the files and not in the store")
        for seq, event in there.items()
    ]
    return findings


def _compared(event: LoggedEvent) -> tuple[object, ...]:
    """What has to be equal: values by their content, however they are compressed."""
    values = (None if value is None else codec.digest(value) for value in (event.input, event.value))
    return (*event[:13], *values, event.ref, event.id)

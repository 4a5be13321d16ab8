"""Replays a golden history: the program runs on what was recorded, and anything it would do is noted instead.

Nothing runs here: no body, no child, no write. What the program asks for beyond its history ends the replay
and is told as `next`; for an execution that has ended it has to be nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from holdfast.errors import Conflict, StepFailed
from holdfast.programs import load_program
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.entries import Entry, Holding
from holdfast.store.journal import Journal
from holdfast.workflows.driving import describe_end
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Happening, Progress
from holdfast.workflows.replay import History

FOLDER = Path(__file__).parent
_PLAIN = b"\x10\x00\x00"
"""How the codec begins a value that is stored as it is; the rest is JSON that people can read."""
_FAR = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Golden:
    """A recorded execution: its events as rows of `events.history`, and its definition."""

    name: str
    id: str
    status: str
    recorded_with: str
    definition: StoredDefinition
    rows: Sequence[Row]
    next: list[list[Any]]

    @property
    def results(self) -> list[str]:
        """Paths of the recorded results."""
        return sorted({str(row[2]) for row in self.rows if row[7]})

    @property
    def end(self) -> Any:
        """The value of the event that ended the execution."""
        return codec.decode(self.rows[-1][11])


@dataclass(slots=True)
class Replayed:
    """What a replay came to."""

    used: list[str] = field(default_factory=list)
    next: list[list[Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    status: str = "stopped"
    value: Any = None


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> Golden:
    stored = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    definition = stored["definition"]
    return Golden(
        name=name,
        id=stored["id"],
        status=stored["status"],
        recorded_with=stored["recorded_with"],
        definition=StoredDefinition(
            hash=bytes.fromhex(definition["hash"]),
            name=definition["name"],
            version=definition["version"],
            kind=definition["kind"],
            document=definition["document"],
            created_at=datetime.fromisoformat(definition["created_at"]),
        ),
        rows=[_row(event) for event in stored["events"]],
        next=stored["next"],
    )


def write(golden: Golden) -> None:
    definition = golden.definition
    stored = {
        "id": golden.id,
        "status": golden.status,
        "recorded_with": golden.recorded_with,
        "definition": {
            "hash": definition.hash.hex(),
            "name": definition.name,
            "version": definition.version,
            "kind": definition.kind,
            "document": definition.document,
            "created_at": definition.created_at.isoformat(),
        },
        "next": golden.next,
    }
    head = json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True)[:-2]
    events = ",\n  ".join(json.dumps(_event(row), ensure_ascii=False) for row in golden.rows)
    (FOLDER / f"{golden.name}.json").write_text(f'{head},\n "events": [\n  {events}\n ]\n}}\n', "utf-8")


def _row(event: dict[str, Any]) -> Row:
    payload, digest = event["payload"], event["input_digest"]
    if payload is not None:
        payload = _PLAIN + payload.encode() if isinstance(payload, str) else base64.b64decode(payload[0])
    return (
        event["seq"], event["type"], event["path"], event["generation"], event["ordinal"], event["attempt"],
        event["epoch"], event["result"], datetime.fromisoformat(event["at"]), event["duration_us"],
        None if digest is None else bytes.fromhex(digest), payload,
    )  # fmt: skip


def _event(row: Row) -> dict[str, Any]:
    payload: Any = row[11]
    if payload is not None:
        data = bytes(payload)
        plain = data[3:].decode() if data.startswith(_PLAIN) else None
        payload = plain if plain is not None else [base64.b64encode(data).decode()]
    return {
        "seq": row[0], "type": row[1], "path": row[2], "generation": row[3], "ordinal": row[4],
        "attempt": row[5], "epoch": row[6], "result": bool(row[7]), "at": row[8].isoformat(),
        "duration_us": row[9], "input_digest": None if row[10] is None else bytes(row[10]).hex(),
        "payload": payload,
    }  # fmt: skip


class Stopped(Conflict):
    """The program went beyond its history."""

    code = "HF0000"


class _Silent:
    """A journal that notes what it is given and takes nothing."""

    place_small = staticmethod(Journal.place_small)

    def __init__(self, seen: Replayed) -> None:
        self.seen = seen
        self.runtime: Any = None

    async def place(self, holding: Holding, data: bytes) -> Any:
        return Journal.place_small(data)

    def append_soon(self, entry: Entry) -> None:
        self.seen.next.append([entry.fields[0], entry.fields[1]])

    def append(self, entry: Entry) -> NoReturn:
        self.append_soon(entry)
        self.runtime.stop(Stopped(f"{entry.fields[0]} {entry.fields[1]}"))
        raise AssertionError


class _Still(Engine):
    """An engine in which nothing runs."""

    def __init__(self, journal: _Silent, seen: Replayed) -> None:
        def observe(progress: Progress) -> None:
            if progress.kind is Happening.STEP_REPLAYED:
                seen.used.append(progress.path)

        super().__init__(
            journal,  # type: ignore[arg-type]
            _Nothing(),  # type: ignore[arg-type]
            children=_Childless(seen),
            outside=_Nobody(journal),
            observer=observe,
        )
        self._seen = seen

    def step_begins(self, runtime: ExecutionRuntime, path: str, attempt: int, ordinal: int | None) -> int:
        self._seen.next.append(["run", path, attempt, ordinal])
        runtime.stop(Stopped(f"run {path}"))


class _Nothing:
    async def fetch(self, name: str, *args: Any) -> list[Row]:
        assert name == "events.input", name
        return []


class _Nobody:
    """Nobody outside is asked anything."""

    def __init__(self, journal: _Silent) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        async def ask(holding: Holding, path: str, *_: Any) -> NoReturn:
            self._journal.seen.next.append([name, path])
            self._journal.runtime.stop(Stopped(f"{name} {path}"))
            raise AssertionError

        return ask


class _Childless:
    def __init__(self, seen: Replayed) -> None:
        self._seen = seen

    async def run(self, parent: ExecutionRuntime, path: str, *_: Any) -> NoReturn:
        self._seen.next.append(["child", path])
        parent.stop(Stopped(f"child {path}"))

    start = run


async def replay(
    golden: Golden, program: Program | None = None, rows: Sequence[Row] | None = None
) -> Replayed:
    """Run `program`, by default the stored definition's, on the golden history.

    Raises `DefinitionChanged` when it does not follow it.
    """
    if program is None:
        program = load_program(golden.definition)
    history = History.read(golden.rows if rows is None else rows)
    seen = Replayed()
    journal = _Silent(seen)
    holding = Holding(ExecutionKey(bytes(16)), golden.id, "default", epoch=99, next_seq=history.last_seq + 1)
    # Long after all that was recorded: every timer is due.
    runtime = ExecutionRuntime(_Still(journal, seen), holding, history, clock_offset=_FAR)
    journal.runtime = runtime
    try:
        value = await program.execute(runtime, history.input or b"")
    except Stopped:
        pass
    except StepFailed as error:
        seen.status, seen.value = "failed", describe_end(error)
    else:
        if runtime.fatal is None:
            encoded = codec.encode(value, program.annotation)
            seen.status, seen.value = "completed", codec.decode(encoded)
    finally:
        runtime.engine.close()
    if runtime.fatal is not None and not isinstance(runtime.fatal, Stopped):
        raise runtime.fatal
    if seen.status == "completed":
        history.check_consumed()
    seen.left, seen.used = sorted(history.results), sorted(seen.used)
    seen.next.sort(key=str)
    return seen


def has_ended(golden: Golden) -> bool:
    return golden.rows[-1][1] in (EventType.EXECUTION_COMPLETED, EventType.EXECUTION_FAILED)

"""Records golden histories: `python -m tests.golden.record NAME…`; without a name it lists those there are.

What is recorded is what this version of the library writes, so a history is recorded once, when its case is
new. Recording one again throws away what it proves: that later versions replay what earlier ones wrote.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import holdfast as hf
from holdfast.errors import ExecutionFailed
from holdfast.records.workflows import StoredDefinition
from holdfast.store.rows import moment
from holdfast.store.store import Store
from tests.golden import workflows
from tests.golden.replaying import Golden, has_ended, replay, write
from tests.golden.workflows import Order, app

_ROOT = str(Path(__file__).parents[2])
_ELSEWHERE = "/srv/holdfast"
"""What stands for the folder of whoever records; nothing depends on it."""
_FLOWS = Path(__file__).parent / "flows"
Case = Callable[[str], Awaitable[Any]]


def _start(workflow: Any, *args: Any, failures: dict[str, int] | None = None) -> Case:
    async def case(id: str) -> None:
        workflows.failures = dict(failures or {})
        with suppress(ExecutionFailed):
            await workflow.options(id=id)(*args)

    return case


def _flow(file: str, failures: dict[str, int] | None = None, **input: Any) -> Case:
    async def case(id: str) -> None:
        workflows.failures = dict(failures or {})
        async with hf.Orchestrator(app.store) as orchestrator:
            from holdfast.programs import file_program

            fan = file_program(_FLOWS / "fan.yaml").definition
            await app.store.put_definition(fan)
            await orchestrator.run(_FLOWS / file, input, id=id)

    return case


async def _cancelled(id: str) -> None:
    workflows.failures, workflows.arrived = {"x": 1}, asyncio.Event()
    handle: Any = await workflows.stopped.options(id=id).start("x")
    await workflows.arrived.wait()
    await asyncio.sleep(0.2)  # long enough for its start to be in the log
    await handle.cancel("changed my mind")
    await handle.outcome()


async def _interrupted(id: str) -> None:
    workflows.failures, workflows.arrived = {"x": 1}, asyncio.Event()
    handle: Any = await workflows.stopped.options(id=id).start("x")
    await workflows.arrived.wait()
    await asyncio.sleep(0.2)
    handle._started.task.cancel()
    await asyncio.wait([handle._started.task])


async def _resumed(id: str) -> None:
    await _interrupted(id)
    await (await app.resume(id))


def _left(workflow: Any, *args: Any) -> Case:
    """Leave it in a wait that is far longer than this takes."""

    async def case(id: str) -> None:
        handle: Any = await workflow.options(id=id).start(*args)
        await asyncio.sleep(0.2)
        handle._started.task.cancel()
        await asyncio.wait([handle._started.task])

    return case


async def _unpatched(id: str) -> None:
    workflows.before_the_patch = True
    try:
        await _start(workflows.patched, "x")(id)
    finally:
        workflows.before_the_patch = False


async def _retried(id: str) -> None:
    from holdfast.fleet.retrying import retry

    await _start(workflows.retried, "x", failures={"x": 1})(id)
    await retry(app.store, await app.store.get_execution(id))
    await (await app.resume(id))


async def _signalled(id: str) -> None:
    await app.signal("early-x", {"n": 1})
    handle: Any = await workflows.signalled.options(id=id).start("x")
    await asyncio.sleep(0.2)  # so that it waits when the signal comes
    await app.signal("order-x", Order("tea", 4, Decimal("0.5")))
    await handle


async def _approved(id: str) -> None:
    from holdfast.fleet.approvals import decide, listed

    async def asked() -> str:
        while not (found := await listed(app.store)):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
        return found[0].id

    handle: Any = await workflows.approved.options(id=id).start("tea")
    await decide(app.store, await asked(), approved=True, by="Ann", answer={"price": 1.5})
    await asked()
    await decide(app.store, "second-tea", approved=False, by="Bob", comment="enough tea")
    await handle


_CASES: dict[str, Case] = {
    "python-values": _start(workflows.values, Order("tea", 3, Decimal("2.50"))),
    "python-branches": _start(workflows.branches, [1, 2, 3]),
    "python-retries": _start(workflows.retries, failures={"one": 2, "two": 1}),
    "python-timers": _start(workflows.naps),
    "python-children": _start(workflows.whole, [1, 2, 3]),
    "python-patched": _start(workflows.patched, "x"),
    "python-before-patch": _unpatched,
    "python-failed": _start(workflows.fails),
    "python-caught": _start(workflows.catches),
    "python-cancelled": _cancelled,
    "python-interrupted": _interrupted,
    "python-resumed": _resumed,
    "python-asleep": _left(workflows.asleep),
    "python-between-attempts": _left(workflows.tries, "tea"),
    "python-retried": _retried,
    "python-signals": _signalled,
    "python-approvals": _approved,
    "python-waiting": _left(workflows.signalled, "y"),
    "yaml-dag": _flow("dag.yaml", target="site"),
    "yaml-fan-out": _flow("fan.yaml", failures={"fan": 2}, numbers=[1, 2, 3]),
    "yaml-child-and-timer": _flow("family.yaml"),
    "yaml-failed": _flow("broken.yaml"),
}


async def _history(store: Store, id: str) -> list[Any]:
    execution = await store.get_execution(id)
    return await store.driver.fetch("events.history", execution.key)


def _clean(data: bytes | None) -> bytes | None:
    return None if data is None else bytes(data).replace(_ROOT.encode(), _ELSEWHERE.encode())


def _clean_definition(definition: StoredDefinition) -> StoredDefinition:
    document = dict(definition.document)
    if definition.kind == "python":
        document["path"] = None  # found by its module, wherever that lies
    else:
        document["x-folder"] = document["x-folder"].replace(_ROOT, _ELSEWHERE)
    return dataclasses.replace(definition, document=document)


async def record(name: str) -> None:
    """Run the case `name` on a store in memory and write its history."""
    async with app:
        await _CASES[name](name)
        execution = await app.store.get_execution(name)
        definition = await app.store.get_definition(execution.definition)
        assert definition is not None
        rows = [
            (*row[:8], moment(row[8]), row[9], row[10], _clean(row[11]))
            for row in await _history(app.store, name)
        ]
    golden = Golden(
        name, name, str(execution.status), version("holdfast"), _clean_definition(definition), rows, []
    )
    replayed = await replay(golden)
    assert not has_ended(golden) or not replayed.next, replayed.next
    write(dataclasses.replace(golden, next=replayed.next))


def main(wanted: list[str]) -> int:
    """Record what is named."""
    unknown = [name for name in wanted if name not in _CASES]
    if not wanted or unknown:
        print("name some of:", *_CASES, sep="\n  ")
        return 2
    for name in wanted:
        asyncio.run(record(name))
        print(f"recorded {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Histories that earlier versions recorded replay on this one: same calls, same arguments, nothing runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import DamagedData, DefinitionChanged
from holdfast.programs import load_program
from holdfast.workflows.definition import from_document, identity
from holdfast.workflows.program import Program
from holdfast.workflows.python_program import program_of
from tests.golden import replaying, workflows
from tests.golden.replaying import Golden, Replayed, has_ended, replay

pytestmark = pytest.mark.anyio


def test_there_are_histories_of_every_sort() -> None:
    golden = [replaying.read(name) for name in replaying.names()]
    assert len(golden) >= 12
    assert {each.definition.kind for each in golden} == {"python", "yaml"}
    assert {each.status for each in golden} >= {"completed", "failed", "cancelled", "ready"}
    types = {row[1] for each in golden for row in each.rows}
    assert types >= {
        "attempt.failed", "child.completed", "execution.resumed", "step.failed", "step.skipped",
        "step.started", "timer.fired", "timer.started",
    }  # fmt: skip


@pytest.mark.parametrize("name", replaying.names())
async def test_a_history_replays(name: str) -> None:
    golden = replaying.read(name)
    replayed = await replay(golden)
    assert replayed.next == golden.next
    assert replayed.left == []
    # A mark of `patched` is no call, and is asked for without one.
    assert replayed.used == [path for path in golden.results if "patch:" not in path]
    if golden.rows[-1][1] == "execution.completed":
        assert (replayed.status, replayed.value) == ("completed", golden.end)
        assert golden.next == []
    elif has_ended(golden):
        assert replayed.status == "failed"
        assert {**replayed.value, "trace": None} == {**golden.end, "trace": None}
        assert golden.next == []
    else:
        assert replayed.status == "stopped"
        assert golden.next


@pytest.mark.parametrize("name", replaying.names())
def test_a_definition_keeps_its_identity(name: str) -> None:
    """Executions name their definition by this hash; if it changed, none would find its code again."""
    definition = replaying.read(name).definition
    assert load_program(definition).definition.hash == definition.hash
    if definition.kind == "yaml":
        read = from_document(definition.document)
        assert identity(read.normalised) == definition.hash
        assert read.version == definition.version


# Planted: changed workflows do not pass.


def changed_python(name: str) -> tuple[hf.App, dict[str, Any]]:
    """An app with steps that are called and named as those of `workflows`."""
    app = hf.App("memory://")

    @app.step
    async def double(number: int) -> int:
        raise AssertionError(number)

    @app.step
    async def triple(number: int) -> int:
        raise AssertionError(number)

    @app.step
    async def flaky(name: str) -> str:
        raise AssertionError(name)

    return app, {"double": double, "triple": triple, "flaky": flaky}


def _another_name(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        await hf.sleep("5ms")
        number: int = await steps["triple"](4)
        await hf.sleep("5ms")
        return number

    return naps


def _another_argument(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        await hf.sleep("5ms")
        number: int = await steps["double"](5)
        await hf.sleep("5ms")
        return number

    return naps


def _a_call_less(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        await hf.sleep("5ms")
        number: int = await steps["double"](4)
        return number

    return naps


def _another_order(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        number: int = await steps["double"](4)
        await hf.sleep("5ms")
        await hf.sleep("5ms")
        return number

    return naps


def _a_call_more(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        await hf.sleep("5ms")
        number: int = await steps["double"](4)
        await hf.sleep("5ms")
        return number + int(await steps["double"](number))

    return naps


def _another_result(app: hf.App, steps: dict[str, Any]) -> Any:
    @app.workflow
    async def naps() -> int:
        await hf.sleep("5ms")
        number: int = await steps["double"](4)
        await hf.sleep("5ms")
        return number + 1

    return naps


Change = Callable[[hf.App, dict[str, Any]], Any]


async def passes(golden: Golden, program: Program) -> bool:
    """Whether the judgement of `test_a_history_replays` on a completed history would be good."""
    try:
        replayed: Replayed = await replay(golden, program)
    except (DefinitionChanged, DamagedData):
        return False
    return (replayed.next, replayed.left, replayed.value) == ([], [], golden.end)


@pytest.mark.parametrize(
    "change",
    [_another_name, _another_argument, _a_call_less, _another_order, _a_call_more, _another_result],
)
async def test_changed_code_is_found(change: Change) -> None:
    app, steps = changed_python("naps")
    golden = replaying.read("python-timers")
    assert await passes(golden, program_of(workflows.naps))
    assert not await passes(golden, program_of(change(app, steps)))


def _rename(document: dict[str, Any]) -> None:
    document["steps"][0]["id"] = "every"
    document["steps"][1]["needs"] = ["every"]
    document["outputs"] = "${{ steps.every.output }}"


def _other_argument(document: dict[str, Any]) -> None:
    document["steps"][0]["with"]["number"] = "${{ index }}"


def _remove(document: dict[str, Any]) -> None:
    del document["steps"][1]


def _add(document: dict[str, Any]) -> None:
    document["steps"].append({"id": "more", "shell": ["true"]})


def _other_function(document: dict[str, Any]) -> None:
    document["steps"][0]["python"] = "tests.golden.functions:flaky"


@pytest.mark.parametrize("change", [_rename, _other_argument, _remove, _add, _other_function])
async def test_a_changed_file_is_found(change: Callable[[dict[str, Any]], None]) -> None:
    golden = replaying.read("yaml-fan-out")
    document = copy.deepcopy(golden.definition.document)
    assert await passes(golden, load_program(replace(golden.definition, document=document)))
    change(document)
    assert not await passes(golden, load_program(replace(golden.definition, document=document)))


async def test_a_damaged_history_is_found() -> None:
    golden = replaying.read("python-values")
    program = program_of(workflows.values)
    assert await passes(golden, program)
    for broken in (
        [*golden.rows[:2], *golden.rows[3:]],
        [(*row[:10], bytes(16), row[11]) if row[7] else row for row in golden.rows],
    ):
        assert not await passes(replace(golden, rows=broken), program)


async def test_models_come_back_as_models() -> None:
    """A result that came back as something else would break the code behind it."""
    golden = replaying.read("python-values")
    app = hf.App("memory://")
    seen: list[object] = []

    @app.step
    async def total(order: workflows.Order, *, currency: str = "EUR") -> Decimal:
        raise AssertionError

    @app.workflow
    async def values(order: workflows.Order) -> None:
        seen.extend([order, await total(order)])
        raise LookupError

    with pytest.raises(LookupError):
        await replay(golden, program_of(values))
    assert seen == [workflows.Order("tea", 3, Decimal("2.50")), Decimal("7.50")]
    assert isinstance(seen[1], Decimal)

"""Several versions of one workflow: who runs what, and how code changes under unfinished executions."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    DefinitionChanged,
    ExecutionFailed,
    InvalidArgument,
    InvalidDefinition,
    WorkflowNotFound,
)
from holdfast.events.steps import read_steps
from holdfast.fleet.offers import Offers
from holdfast.fleet.retrying import retry
from holdfast.programs import file_program
from holdfast.records.executions import ExecutionStatus
from holdfast.workflows import branches, patching
from holdfast.workflows.python_program import program_of
from tests.conformance.hands import hand, log_of, rows, until

pytestmark = pytest.mark.anyio


@dataclass
class Deployment:
    """What the steps of one test did, over all apps that are made in it, and a place to stop them."""

    url: str
    ran: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self, *versions: str) -> hf.App:
        """An app that offers these versions of `report`; each does its own second step."""
        app = hf.App(self.url)

        @app.step
        async def work(name: str) -> str:
            self.ran.append(name)
            if name == "wait":
                self.arrived.set()
                await self.go_on.wait()
            return name

        def declare(version: str) -> None:
            @app.workflow(name="report", version=version)
            async def report() -> str:
                await work("wait")
                return await work(f"second of {version}")

        for version in versions:
            declare(version)
        return app

    async def interrupted(self, *versions: str) -> None:
        """Start execution `x` with the newest of these versions, and stop it in its first step."""
        app = self.app(*versions)
        async with app, asyncio.timeout(20):
            await app.workflows["report"].options(id="x").start()
            await self.arrived.wait()
        self.go_on.set()


async def test_the_version_declared_last_starts_new_executions(shared_url: str) -> None:
    place = Deployment(shared_url)
    place.go_on.set()
    app = place.app("1", "2")
    async with app, asyncio.timeout(20):
        assert await app.workflows["report"]() == "second of 2"
        older = app.versions["report", "1"]
        assert await older() == "second of 1"  # who calls a version by its function means that version
        assert (await older.options(id="x").start()) is not None
        assert (await app.store.get_execution("x")).version == "1"


async def test_an_execution_goes_on_with_the_version_it_began_with(shared_url: str) -> None:
    place = Deployment(shared_url)
    await place.interrupted("1")
    app = place.app("1", "2")
    async with app, asyncio.timeout(20):
        assert await (await app.resume("x")) == "second of 1"
        assert place.ran == ["wait", "wait", "second of 1"]


async def test_an_execution_whose_version_is_gone_is_left_alone(shared_url: str) -> None:
    place = Deployment(shared_url)
    await place.interrupted("1")
    app = place.app("2")
    async with app, asyncio.timeout(20):
        before = await app.store.get_execution("x")
        with pytest.raises((DefinitionChanged, WorkflowNotFound)):
            await app.resume("x")
        after = await app.store.get_execution("x")
        assert (after.status, after.epoch) == (ExecutionStatus.READY, before.epoch)
        assert place.ran == ["wait"]


async def test_the_same_version_twice_in_one_app_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="version '1' of 'report'"):
        Deployment("memory://").app("1", "1")


async def test_a_child_called_by_its_function_is_of_that_version(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow(name="part")
    async def part_1() -> str:
        return "part 1"

    @app.workflow(name="part", version="2")
    async def part_2() -> str:
        return "part 2"

    @app.workflow
    async def whole() -> list[str]:
        return [await part_1(), await part_2()]

    async with app, asyncio.timeout(20):
        assert await whole.options(id="x")() == ["part 1", "part 2"]
        versions = [(await app.store.get_execution(id)).version for id in ("x.part", "x.part#2")]
        assert versions == ["1", "2"]


# What a worker offers.


async def test_offers_hold_the_versions_of_all_apps_and_nothing_else() -> None:
    one, two = Deployment("memory://").app("1", "2"), hf.App("memory://")

    @two.workflow
    async def other() -> None: ...

    offers = Offers([one, other])
    assert offers.describe() == [("other", "1"), ("report", "1"), ("report", "2")]
    for workflow in (*one.versions.values(), other):
        definition = program_of(workflow).definition
        assert definition.hash in offers.hashes()
        assert offers.has(definition)
        assert offers.load(definition).definition.hash == definition.hash
    newest = offers.find("report")
    assert newest is not None
    assert newest.definition.version == "2"
    assert offers.find("report", "3") is None


async def test_offers_refuse_other_versions_and_other_names() -> None:
    offers = Offers([Deployment("memory://").app("2", "3")])
    gone = program_of(Deployment("memory://").app("1").versions["report", "1"]).definition
    with pytest.raises(DefinitionChanged, match=r"version 1 .* offered: 2, 3"):
        offers.load(gone)
    with pytest.raises(WorkflowNotFound, match="not offered here"):
        Offers([hf.App("memory://")]).load(gone)
    assert not offers.has(gone)


async def test_offers_of_a_module_know_which_version_was_declared_last(tmp_path: Path) -> None:
    module = ModuleType("shop")
    app = Deployment("memory://").app("1", "2")
    module.report = app.versions["report", "1"]  # type: ignore[attr-defined]
    module.app = app  # type: ignore[attr-defined]
    newest = Offers([module]).find("report")
    assert newest is not None
    assert newest.definition.version == "2"


async def test_yaml_runs_as_stored_whatever_is_offered(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: flow\nsteps:\n  - id: a\n    sleep: 0s\n")
    definition = file_program(path).definition
    offers = Offers([hf.App("memory://")])
    assert offers.load(definition).definition.hash == definition.hash
    foreign = {**definition.document, "steps": [{"id": "a", "plugged_in_elsewhere": 1}]}
    with pytest.raises(WorkflowNotFound, match="does not load here"):
        offers.load(replace(definition, document=foreign))


_SHOP = """
import holdfast as hf
app = hf.App("memory://")

@app.workflow(name="report", version="1")
async def report() -> str: return "1"

@app.workflow(name="report", version="2")
async def report_2() -> str: return "2"
"""


async def test_a_worker_without_apps_looks_where_the_code_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.programs import python_workflow

    (tmp_path / "shop_of_versions.py").write_text(_SHOP)
    (tmp_path / "broken_shop.py").write_text(_SHOP + "\nraise ValueError('boo')\n")
    monkeypatch.syspath_prepend(tmp_path)
    newest = python_workflow("shop_of_versions.py:report", tmp_path)
    exact = python_workflow("shop_of_versions.py:report_2", tmp_path)
    assert (newest.version, exact.version) == ("2", "2")
    offers = Offers()
    for version in ("1", "2"):
        workflow: Any = newest.beside(version)
        definition = program_of(workflow).definition
        assert offers.load(definition).definition.version == version
    document = {**definition.document, "module": "broken_shop", "path": str(tmp_path / "broken_shop.py")}
    broken = replace(definition, document=document)
    with pytest.raises(WorkflowNotFound, match="does not load here: ValueError: boo"):
        offers.load(broken)
    assert not offers.has(broken)
    sys.modules.pop("shop_of_versions", None)


# Gradual change.


class Shop:
    """One workflow through its life: each release is an app with its own body, on the same store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ran: list[str] = []
        self.block: str | None = None
        self.fails: str | None = None
        self.arrived = asyncio.Event()

    def release(self, body: Body) -> tuple[hf.App, Any]:
        app = hf.App(self.url)

        @app.step
        async def work(name: str) -> str:
            self.ran.append(name)
            if name == self.fails:
                raise ValueError(name)
            if name == self.block:
                self.arrived.set()
                await asyncio.Event().wait()
            return name

        @app.workflow
        async def sale() -> str:
            return await body(work)

        return app, sale

    async def run(self, body: Body, id: str, *, until: str | None = None) -> str:
        """Start `id`, or go on with it, to its end, or until the step `until` runs, and interrupt it."""
        app, sale = self.release(body)
        self.block, self.arrived = until, asyncio.Event()
        self.ran.clear()
        async with app, asyncio.timeout(20):
            handle = await sale.options(id=id).start()
            if until is None:
                result: str = await handle
                return result
            await self.arrived.wait()
            # Its start, too, has to be in the log: a body that was begun counts as passed.
            await events_of(app, id, "step.started", until)
        return ""


Work = Callable[[str], Awaitable[str]]
Body = Callable[[Work], Awaitable[str]]


async def events_of(app: hf.App, id: str, kind: str, path: str) -> None:
    key = (await app.store.get_execution(id)).key

    async def there() -> bool:
        return any(row[1] == kind for row in await log_of(app.store, key))

    await until(there, f"no {kind} of {path}")


async def release_1(work: Work) -> str:
    return "".join([await work("a"), await work("old"), await work("z")])


async def release_2(work: Work) -> str:
    first = await work("a")
    middle = await work("new") + await work("newer") if hf.patched("renew") else await work("old")
    return first + middle + await work("z")


async def release_3(work: Work) -> str:
    first = await work("a")
    hf.deprecate_patch("renew")
    return first + await work("new") + await work("newer") + await work("z")


async def release_4(work: Work) -> str:
    return "".join([await work("a"), await work("new"), await work("newer"), await work("z")])


async def test_executions_that_passed_the_point_keep_the_old_code(shared_url: str) -> None:
    shop = Shop(shared_url)
    await shop.run(release_1, "behind", until="z")
    await shop.run(release_1, "in", until="old")
    await shop.run(release_1, "before", until="a")
    assert await shop.run(release_2, "behind") == "aoldz"
    assert shop.ran == ["z"]
    assert await shop.run(release_2, "in") == "aoldz"  # the old step had begun
    assert await shop.run(release_2, "before") == "anewnewerz"
    assert await shop.run(release_2, "fresh") == "anewnewerz"


@pytest.mark.parametrize("stop", ["a", "new", "newer", "z"])
async def test_an_answer_stays_the_same_in_every_run(shared_url: str, stop: str) -> None:
    shop = Shop(shared_url)
    await shop.run(release_2, "x", until=stop)
    assert await shop.run(release_2, "x") == "anewnewerz"


async def test_the_life_of_a_patch(shared_url: str) -> None:
    """Add it, drop the old code, drop the mark; and what happens to who does it too early."""
    shop = Shop(shared_url)
    await shop.run(release_1, "oldest", until="z")
    await shop.run(release_2, "marked", until="z")
    await shop.run(release_2, "marked too", until="z")
    with pytest.raises(DefinitionChanged, match="other arguments"):
        await shop.run(release_3, "oldest")
    assert await shop.run(release_2, "oldest") == "aoldz"

    assert await shop.run(release_3, "marked") == "anewnewerz"
    await shop.run(release_3, "unmarked", until="z")
    with pytest.raises(DefinitionChanged) as caught:
        await shop.run(release_4, "marked too")
    assert "patch:renew" in str(caught.value)
    assert caught.value.fix == "call deprecate_patch('renew') where patched() stood"
    assert await shop.run(release_3, "marked too") == "anewnewerz"

    assert await shop.run(release_4, "unmarked") == "anewnewerz"
    # Going back one release is safe: what has no mark and has passed the point counts as old.
    await shop.run(release_3, "back", until="a")
    assert await shop.run(release_2, "back") == "anewnewerz"


async def test_a_mark_leaves_the_numbers_of_the_calls_alone(shared_url: str) -> None:
    shop = Shop(shared_url)
    assert await shop.run(release_2, "x") == "anewnewerz"
    async with hand(shared_url) as store:
        found = await rows(store, "SELECT path, ordinal FROM {events} WHERE result ORDER BY seq")
        assert [tuple(row) for row in found] == [
            ("work", 1), ("patch:renew", None), ("work#2", 2), ("work#3", 3), ("work#4", 4),
        ]  # fmt: skip
        steps = await read_steps(store, await store.get_execution("x"))
        assert ("patch:renew", "completed", True) in [(each.name, each.status, each.output) for each in steps]


async def old_parts(work: Work) -> str:
    async def part(name: str) -> str:
        async with hf.scope("inner"):
            return await work(name)

    parts = await hf.gather(part("p"), part("q"))
    return "".join(parts) + await work("z")


async def new_parts(work: Work) -> str:
    async def part(name: str) -> str:
        async with hf.scope("inner"):
            done = await work(name)
            return done + (await work(f"{name}+") if hf.patched("more") else "")

    parts = await hf.gather(part("p"), part("q"))
    return "".join(parts) + (await work("y") if hf.patched("more") else "") + await work("z")


async def test_branches_decide_for_themselves_and_a_passed_gather_decides_for_them(shared_url: str) -> None:
    shop = Shop(shared_url)
    assert await shop.run(new_parts, "fresh") == "pp+qq+yz"
    assert await shop.run(new_parts, "fresh") == "pp+qq+yz"
    # The workflow went on behind the gather: its parts are of the old code, though they end at the question.
    await shop.run(old_parts, "behind", until="z")
    assert await shop.run(new_parts, "behind") == "pqz"
    await shop.run(old_parts, "within", until="q")
    for _ in range(2):
        assert await shop.run(new_parts, "within") == "pp+qq+yz"


@pytest.mark.parametrize("stop", ["p", "q", "p+", "q+", "y", "z"])
async def test_answers_in_branches_stay_the_same_in_every_run(shared_url: str, stop: str) -> None:
    shop = Shop(shared_url)
    await shop.run(new_parts, "x", until=stop)
    await shop.run(new_parts, "x", until="z")
    assert await shop.run(new_parts, "x") == "pp+qq+yz"


async def looping(work: Work) -> str:
    return "".join([await work("n") if hf.patched("loop") else await work(each) for each in "abc"])


async def not_looping(work: Work) -> str:
    return "".join([await work(each) for each in "abc"])


async def test_a_loop_gets_one_answer(shared_url: str) -> None:
    shop = Shop(shared_url)
    await shop.run(not_looping, "x", until="b")
    assert await shop.run(looping, "x") == "abc"
    assert await shop.run(looping, "y") == "nnn"


async def test_a_retry_may_take_the_new_code(shared_url: str) -> None:
    """What a retry takes back is as if it were not there, so nothing stands behind the question any more."""
    shop = Shop(shared_url)
    shop.fails = "old"
    with pytest.raises(ExecutionFailed):
        await shop.run(release_1, "x")
    shop.fails = None
    async with hand(shared_url) as store:
        assert await retry(store, await store.get_execution("x")) == ["work#2"]
    await shop.run(release_2, "x", until="newer")
    assert await shop.run(release_2, "x") == "anewnewerz"
    assert "a" not in shop.ran


async def test_a_retry_from_a_step_before_it_asks_anew(shared_url: str) -> None:
    shop = Shop(shared_url)
    shop.fails = "z"
    with pytest.raises(ExecutionFailed):
        await shop.run(release_2, "x")
    shop.fails = None
    async with hand(shared_url) as store:
        taken = await retry(store, await store.get_execution("x"), from_step="work")
        assert "patch:renew" in taken
    await shop.run(release_2, "x", until="z")
    assert await shop.run(release_2, "x") == "anewnewerz"


async def test_outside_a_workflow_the_new_code_runs(shared_url: str) -> None:
    assert hf.patched("anything")
    hf.deprecate_patch("anything")
    with pytest.raises(InvalidArgument):
        hf.patched("no spaces")

    async def from_a_foreign_task(work: Work) -> str:
        async def ask() -> bool:
            return hf.patched("x")

        return str(await asyncio.create_task(ask()))

    with pytest.raises(ExecutionFailed, match="gather or scope"):
        await Shop(shared_url).run(from_a_foreign_task, "x")


async def test_a_mark_that_numbered_calls_would_be_found(shared_url: str) -> None:
    """Planted: a question that counts as a call breaks the histories that have none."""

    async def counting(work: Work) -> str:
        first = await work("a")
        branch = branches.current.get()
        assert branch is not None
        branch.calls += 1
        return first + await work("old") + await work("z")

    shop = Shop(shared_url)
    await shop.run(release_1, "x", until="z")
    with pytest.raises(DefinitionChanged):
        await shop.run(counting, "x")


async def test_an_answer_from_what_is_unfinished_elsewhere_would_be_found(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: asking only the branch itself runs new steps in the middle of a finished past."""

    def only_here(branch: branches.Branch) -> bool:
        return branch.runtime.history.goes_on(branch.path, branch.calls, branch.names)

    monkeypatch.setattr(patching, "_has_passed", only_here)
    shop = Shop(shared_url)
    await shop.run(old_parts, "behind", until="z")
    assert await shop.run(new_parts, "behind") != "pqz"

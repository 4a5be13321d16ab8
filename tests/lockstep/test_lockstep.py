"""Every kind of store does the same: one machine of rules drives all of them, and compares every answer.

Each store lives in a process of its own behind a pipe. A process is closed and started anew, or killed with
SIGKILL and started anew, at any point between two commands; nothing that was answered may be missing then.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.conformance.notebooks import write_migrations

KINDS = ("memory", "sqlite", "file", "postgresql", "mysql")
ROOT = Path(__file__).parents[2]
_TENANTS = itertools.count(1)


class Remote:
    """A store in a process of its own."""

    def __init__(self, kind: str, url: str, migrations: Path, actor: str = "honest") -> None:
        self.kind = kind
        self._argv = [sys.executable, "-m", "tests.lockstep.actor", url, str(migrations), actor]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._read() == {"answer": "ready"}

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the {self.kind} store ended by itself"
        return json.loads(line)

    def send(self, command: str, given: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, given]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        return self._read()

    def restart(self, *, kill: bool) -> None:
        """End the process, politely or not, and start it anew. What is in memory can not come back."""
        if self.kind == "memory":
            return
        self.end(kill=kill)
        self._start()

    def end(self, *, kill: bool = False) -> None:
        if kill:
            os.kill(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def remotes(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, mysql_url: str
) -> Iterator[list[Remote]]:
    folder = tmp_path_factory.mktemp("lockstep")
    write_migrations(folder / "own")
    urls = {
        "memory": "memory://", "sqlite": f"sqlite:///{folder / 'holdfast.db'}",
        "file": f"file:///{folder / 'documents'}", "postgresql": postgres_url, "mysql": mysql_url,
    }  # fmt: skip
    made = [Remote(kind, urls[kind], folder / "own") for kind in KINDS]
    yield made
    for each in made:
        each.end()


IDS = st.sampled_from(["a", "A", "a ", "b", "ä", "x.y", "n/1", "Ω" * 60])
TITLES = st.sampled_from(["fire", "Fire in Büro", "smoke", "", " fire ", "FIRE smoke", "x_y", "'; --"])
TAGS = st.lists(st.sampled_from(["vip", "ß", "a b", ""]), max_size=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NOTES = st.fixed_dictionaries(
    {"id": IDS, "title": TITLES},
    optional={
        "body": st.none() | TITLES, "mood": st.sampled_from(["calm", "cross"]),
        "priority": st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2),
        "weight": st.floats(allow_nan=False, allow_infinity=False), "done": st.booleans(), "tags": TAGS,
        "owner": TITLES, "facts": st.dictionaries(st.sampled_from(["a", "b"]), JSON, max_size=2),
        "anything": JSON,
    },
)  # fmt: skip
CHANGES = st.fixed_dictionaries(
    {}, optional={"title": TITLES, "priority": st.integers(-2, 2), "done": st.booleans(), "tags": TAGS}
)
SETS = st.fixed_dictionaries({"priority": st.integers(-2, 2)}, optional={"done": st.booleans(), "tags": TAGS})
QUERIES = st.sampled_from(
    ["", "mood:calm", "-mood:calm priority:>=0", "tag:vip", "-tag:vip", "done:true", "title:fire", "fire",
     "priority:<0 done:false", "has:due", "weight:>0", "id:a", "nothing:here", "mood:blue"]
)  # fmt: skip
SORTS = st.sampled_from(["id", "-id", "priority", "-priority", "title", "-title", "weight", "revision"])
NAMES = st.sampled_from(["one", "two"])


class Lockstep(RuleBasedStateMachine):
    """The same commands to every store; the answers have to be the same."""

    stores: list[Remote]

    @initialize()
    def begin(self) -> None:
        self.tenant, self.boot = f"t{next(_TENANTS)}", secrets.token_hex(16)
        self.held: dict[str, list[int]] = {}
        self.executions_made = 0
        self._begin()

    def _begin(self) -> None:
        self.ask("begin", tenant=self.tenant, boot=self.boot, held=self.held)

    def ask(self, command: str, **given: Any) -> Any:
        for each in self.stores:
            each.send(command, given)
        answers = [(each.kind, each.answer()) for each in self.stores]
        first = answers[0][1]
        for kind, told in answers[1:]:
            assert told == first, f"{command} {given}: {answers[0][0]} {first}, {kind} {told}"
        return first

    @rule(note=NOTES)
    def create(self, note: dict[str, Any]) -> None:
        self.ask("create", **note)

    @rule(notes=st.lists(NOTES, max_size=3))
    def create_many(self, notes: list[dict[str, Any]]) -> None:
        self.ask("create_many", notes=notes)

    @rule(id=IDS, revision=st.integers(0, 3), changes=CHANGES)
    def update(self, id: str, revision: int, changes: dict[str, Any]) -> None:
        self.ask("update", id=id, revision=revision, changes=changes)

    @rule(note=NOTES)
    def upsert(self, note: dict[str, Any]) -> None:
        self.ask("upsert", **note)

    @rule(id=IDS, if_revision=st.none() | st.integers(1, 3))
    def delete(self, id: str, if_revision: int | None) -> None:
        self.ask("delete", id=id, if_revision=if_revision)

    @rule(id=IDS)
    def restore(self, id: str) -> None:
        self.ask("restore", id=id)

    @rule(query=QUERIES, changes=SETS)
    def update_many(self, query: str, changes: dict[str, Any]) -> None:
        self.ask("update_many", query=query, changes=changes)

    @rule(query=QUERIES)
    def delete_many(self, query: str) -> None:
        self.ask("delete_many", query=query)

    @rule(query=QUERIES, sort=SORTS, limit=st.integers(1, 4))
    def find(self, query: str, sort: str, limit: int) -> None:
        self.ask("find", query=query, sort=sort, limit=limit)
        self.ask("count", query=query)

    @rule(text=TITLES)
    def search(self, text: str) -> None:
        self.ask("search", text=text)

    @rule(stream=NAMES, payloads=st.lists(JSON, max_size=3), expect=st.none() | st.integers(0, 4))
    def append(self, stream: str, payloads: list[Any], expect: int | None) -> None:
        self.ask("append", stream=stream, payloads=payloads, expect=expect)
        self.ask("read", stream=stream, after=0)

    @rule(queue=NAMES, priority=st.integers(-1, 2), key=st.none() | st.just("k"), again=st.booleans())
    def enqueue(self, queue: str, priority: int, key: str | None, again: bool) -> None:
        self.executions_made += not again
        self.ask("enqueue", id=f"e{self.executions_made}", queue=queue, priority=priority, dedupe_key=key)

    @rule(queue=NAMES, limit=st.integers(1, 3))
    def claim(self, queue: str, limit: int) -> None:
        for id, epoch, next_seq in self.ask("claim", queue=queue, limit=limit)["answer"]:
            self.held[id] = [epoch, next_seq]

    @rule(data=st.data(), status=st.sampled_from(["completed", "failed"]))
    def finish(self, data: st.DataObject, status: str) -> None:
        if self.held:
            id = data.draw(st.sampled_from(sorted(self.held)))
            del self.held[id]
            self.ask("finish", id=id, status=status)

    @rule(name=NAMES, payload=JSON, message_id=st.none() | st.just("m"))
    def send(self, name: str, payload: Any, message_id: str | None) -> None:
        self.ask("send", name=name, payload=payload, message_id=message_id)
        self.ask("kept", name=name)

    @rule(data=st.data(), kill=st.booleans())
    def reopen(self, data: st.DataObject, kill: bool) -> None:
        one = data.draw(st.sampled_from(range(1, len(self.stores))))
        self.stores[one].restart(kill=kill)
        self._begin()

    @invariant()
    def all_hold_the_same(self) -> None:
        if hasattr(self, "tenant"):
            self.ask("find", query="", sort="id", limit=50)
            self.ask("executions", query="")


def drive(remotes: list[Remote], examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    class Driven(Lockstep):
        stores = remotes

    run_state_machine_as_test(
        Driven,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, database=None, phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip


def test_all_stores_answer_alike(remotes: list[Remote]) -> None:
    drive(remotes, 25)


@pytest.mark.parametrize("defect", ["forgetful", "unfenced"])
def test_a_store_with_a_defect_is_found(tmp_path: Path, defect: str) -> None:
    write_migrations(tmp_path / "own")
    url = f"sqlite:///{tmp_path / 'holdfast.db'}"
    stores = [
        Remote("memory", "memory://", tmp_path / "own"),
        Remote("sqlite", url, tmp_path / "own", defect),
    ]
    try:
        with pytest.raises(AssertionError, match="sqlite"):
            drive(stores, 100, (Phase.generate,))
    finally:
        for each in stores:
            each.end(kill=True)

"""Real scientific workflows through the command line: killed at random, run again until done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.crash import wfinstances
from tests.crash.harness import (
    PATIENCE_S,
    ROOT,
    Tally,
    Wrong,
    environment,
    judge_documents,
    rerun,
    seed_of_today,
)
from tests.crash.wfinstances import Instance
from tests.databases import empty_store

pytestmark = pytest.mark.crash

KILLS = {"sample": 3, "all": 15}
FILES = [path.stem for path in wfinstances.instances()]


class Dag:
    """One instance, its store and its ledger, and the command that runs it."""

    def __init__(self, instance: Instance, url: str, folder: Path, ledgers: Path) -> None:
        self.instance = instance
        self.folder = folder
        self.ledger = ledgers / "ledger"
        self.progress = ledgers / "progress"
        self._url = url
        (folder / "dag.yaml").write_text(instance.document(self.ledger))

    def start(self) -> subprocess.Popen[bytes]:
        flags = ["--storage", self._url, "--progress", "json"]
        with self.progress.open("ab") as progress:
            return subprocess.Popen(
                [sys.executable, "-m", "holdfast", *flags, "run", "dag.yaml", "--id", "dag"],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=progress,
            )

    def acknowledged(self) -> list[str]:
        """The steps that the command said were completed, in that order, over all runs."""
        text = self.progress.read_text(errors="replace") if self.progress.exists() else ""
        told = []
        for line in text.splitlines():
            with suppress(ValueError):  # a summary, or a line that a kill cut off
                event = json.loads(line)
                if event["event"] == "step_completed":
                    told.append(str(event["path"]))
        return told

    def bodies(self) -> list[tuple[str, str]]:
        """Task and token of every body that ran, in order."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [(line.split(" ")[0], line.split(" ")[1]) for line in text.splitlines()]

    def results(self) -> dict[str, str]:
        """What the store has recorded, as the command line tells it."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "holdfast",
                "--storage",
                self._url,
                "--json",
                "executions",
                "steps",
                "dag",
            ],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr.decode()
        steps = json.loads(done.stdout)["items"]
        return {step["path"]: step["output"] for step in steps if step["status"] == "completed"}

    def kill_after(self, count: int, pause_s: float) -> bool:
        """Run until `count` steps in all were acknowledged, then kill; False: it had ended by then."""
        process = self.start()
        deadline = time.monotonic() + PATIENCE_S
        while len(self.acknowledged()) < count and process.poll() is None:
            assert time.monotonic() < deadline, "the workflow does not get on"
            time.sleep(0.005)
        with suppress(subprocess.TimeoutExpired):
            process.wait(pause_s)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not alive and process.returncode:
            raise Wrong(f"the run failed with {process.returncode}: {self.progress.read_text()[-1000:]}")
        self._await_orphans()
        return alive

    def _await_orphans(self) -> None:
        """Shells that outlive their killed parent still write; what they do belongs to before."""
        deadline = time.monotonic() + PATIENCE_S
        while any(_works_in(entry, self.folder) for entry in Path("/proc").iterdir()):
            assert time.monotonic() < deadline, "a step of the killed process does not end"
            time.sleep(0.01)

    def finish(self) -> None:
        process = self.start()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Wrong("the workflow did not end") from None
        if process.returncode:
            raise Wrong(f"the run failed with {process.returncode}: {self.progress.read_text()[-1000:]}")

    def check(self) -> int:
        """Order of dependencies, one result per task, no body after its acknowledgement. Raises `Wrong`."""
        tasks = self.instance.parents
        first: dict[str, int] = {}
        last: dict[str, tuple[int, str]] = {}
        for number, (task, token) in enumerate(self.bodies()):
            first.setdefault(task, number)
            last[task] = (number, token)
        results = self.results()
        if set(results) != set(tasks):
            raise Wrong(f"results are missing or unknown: {sorted(set(results) ^ set(tasks))}")
        for task, parents in tasks.items():
            if results[task] != last[task][1]:
                raise Wrong(f"{task}: its result is not that of its last body")
            for parent in parents:
                # A child runs when its parent's result is acknowledged; from then on the parent never does.
                if last[parent][0] > first[task]:
                    raise Wrong(f"{task} ran before {parent}, or {parent} again after it")
        told = self.acknowledged()
        if len(told) != len(set(told)):
            raise Wrong("a step was acknowledged twice")
        return len(results)


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return process.name.isdigit() and os.readlink(process / "cwd") == str(folder)
    except OSError:
        return False


def test_there_are_instances() -> None:
    if not FILES:
        pytest.skip(f"no instances in {os.path.relpath(wfinstances.FOLDER, ROOT)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every workflow on SQLite and PostgreSQL, the smallest one on the others too; in the long form all."""
    if "name" in metafunc.fixturenames:
        is_sample = metafunc.config.getoption("--crash") == "sample"
        chosen = [
            (name, kind)
            for kind in ("sqlite", "postgresql", "mysql", "file")
            for name in (FILES[:1] if is_sample and kind in ("mysql", "file") else FILES)
        ]
        metafunc.parametrize(("name", "url"), chosen, indirect=["url"])


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of the kind that is asked for."""
    return empty_store(request, tmp_path, is_made=True)


def test_a_real_workflow_survives_kills(
    name: str, url: str, tmp_path: Path, ledgers: Path, crash_scope: str, tally: Tally
) -> None:
    instance = wfinstances.read(wfinstances.FOLDER / f"{name}.json")
    kind = urlsplit(url).scheme
    seed = seed_of_today()
    chance = random.Random(f"{seed}{name}{kind}")
    dag = Dag(instance, url, tmp_path, ledgers)
    size = len(instance.parents)
    try:
        for count in sorted(chance.choices(range(1, size), k=KILLS[crash_scope])):
            tally.add(kills=dag.kill_after(count, chance.uniform(0, 0.03)))
        dag.finish()
        tally.add(acknowledged_results_checked=dag.check(), real_workflows=1)
        if kind == "file":
            judge_documents(url, finished=True)
    except Wrong as wrong:
        again = rerun(f"real_workflow and {kind} and {name}", seed=seed, scope=crash_scope)
        pytest.fail(f"{wrong}\nagain: {again}", pytrace=False)
    tally.require("kills", "acknowledged_results_checked")


def test_the_checks_of_a_real_workflow_can_fail(tmp_path: Path, ledgers: Path) -> None:
    instance = Instance("pair", {"parent": (), "child": ("parent",)}, {"parent": 0.0, "child": 0.0})
    dag = Dag(instance, f"sqlite:///{tmp_path / 'holdfast.db'}", tmp_path, ledgers)
    dag.finish()
    assert dag.check() == 2
    honest = dag.ledger.read_text()
    parent, child = honest.splitlines(keepends=True)
    for forged, reason in (
        (honest + parent, "again after it"),
        (child + parent, "ran before"),
        (honest + "child other\n", "last body"),
    ):
        dag.ledger.write_text(forged)
        with pytest.raises(Wrong, match=reason):
            dag.check()
    dag.ledger.write_text(honest)
    progress = dag.progress.read_text()
    dag.progress.write_text(progress + progress)
    with pytest.raises(Wrong, match="acknowledged twice"):
        dag.check()
    dag.instance.parents["unknown"] = ()
    with pytest.raises(Wrong, match="missing"):
        dag.check()

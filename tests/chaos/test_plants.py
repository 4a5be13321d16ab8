"""Scenes in which one protection alone decides: sound without a defect, and red with the one it is about."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.fleet.queues import Queues
from holdfast.records.executions import ExecutionStatus
from tests.chaos.judge import read_history
from tests.chaos.program import Settings
from tests.chaos.seeds import Seeded, seed_of_today
from tests.chaos.team import Client, finish, team
from tests.conformance.hands import rows, until
from tests.crash.harness import Tally, Wrong
from tests.databases import empty_store

pytestmark = pytest.mark.chaos

SOUND_S = 60.0
"""What a scene may take whose protections all hold, on a busy machine."""
PLANTED_S = 8.0
"""How long is waited for executions that a defect keeps from ending."""


async def calm(settings: Settings, folder: Path, tally: Tally, chance: random.Random) -> None:
    """Nothing is broken: timers and signals alone."""
    async with Client(settings, tally) as client, team(settings, folder, tally, 2) as workers:
        for _ in range(12):
            await client.start(chance)
        await finish(client, workers, patience_s=patience_of(settings))


async def message_in_between(settings: Settings, folder: Path, tally: Tally, chance: random.Random) -> None:
    """Each signal is sent when its execution has decided to wait for it and has not yet written so."""
    client = Client(settings, tally, signals_within_s=None)
    async with client, team(settings, folder, tally, 2) as workers:
        left = {await client.start(chance) for _ in range(8)}
        deadline = time.monotonic() + SOUND_S
        while left:
            assert time.monotonic() < deadline, f"{left} never came to their signal"
            history = read_history(Path(settings.history))
            for id in [line["execution"] for line in history if line["kind"] == "suspends"]:
                if id in left:
                    await client.signal(id)
                    left.discard(id)
                    tally.add(messages_in_between=1)
            await asyncio.sleep(0.02)
        await finish(client, workers, patience_s=patience_of(settings))


async def arrival(settings: Settings, folder: Path, tally: Tally, chance: random.Random) -> None:
    """A worker comes to one that is in the middle of its work."""
    async with Client(settings, tally) as client, team(settings, folder, tally, 1) as workers:
        for _ in range(8):
            await client.start(chance)

        def are_owned() -> bool:
            return sum(line["kind"] == "owns" for line in read_history(Path(settings.history))) >= 8

        await watch(are_owned, "the first worker never took all executions")
        await workers.fill(1)
        await finish(client, workers, patience_s=SOUND_S)  # also with the defect all of it ends


async def zombie(settings: Settings, folder: Path, tally: Tally, chance: random.Random) -> None:
    """A worker stands still in the middle of a step, is swept, and goes on before anybody claims its work.

    It does not hear that its lease is over: what it writes then is refused by its epoch alone.
    """
    async with Client(settings, tally) as client, team(settings, folder, tally, 0) as workers:
        (late,) = await workers.fill(1, deaf=True, stop_at="merge")
        await workers.fill(1, queues=("elsewhere",))  # it sweeps, and claims nothing of this
        id = await client.start(chance)
        await watch(lambda: stands_still(late.pid), "the worker never came to the step that stops it")
        workers.kill(late, signal.SIGSTOP)  # it did so itself; now it is noted as well
        await Queues(client.store).pause("default")

        async def swept() -> bool:
            execution = await client.store.get_execution(id)
            return execution.status is ExecutionStatus.READY

        await until(swept, "nobody took the work of the one that stands still")
        before = await log_length(client)
        continued = time.monotonic()  # taken first: it may have written before this process goes on
        workers.kill(late, signal.SIGCONT)
        tally.add(zombies_woken=1)

        def has_heard() -> bool:
            lines = read_history(Path(settings.history))
            return any(line["kind"] in ("lost", "told") and line["t"] > continued for line in lines)

        await watch(has_heard, "the late worker was told nothing")
        if written := await log_length(client) - before:
            raise Wrong(f"the zombie wrote {written} events after its work was swept")
        workers.kill(late)
        await Queues(client.store).resume("default")
        await workers.fill(1)
        await finish(client, workers, patience_s=patience_of(settings))


def patience_of(settings: Settings) -> float:
    return SOUND_S if settings.plant == "none" else PLANTED_S


async def log_length(client: Client) -> int:
    return len(await rows(client.store, "SELECT 1 FROM {events}"))


async def watch(condition: Callable[[], bool], otherwise: str) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds, otherwise)


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


SCENES = {
    "taken-from-the-living": (arrival, {"rest_s": 1.0}, "taken from a live owner"),
    "epoch-not-compared": (zombie, {"locks": False}, "zombie wrote"),
    "epoch-not-raised": (zombie, {"locks": False}, "zombie wrote"),
    "timers-lost": (calm, {}, "have not ended"),
    "suspended-blindly": (message_in_between, {"lingers": True}, "have not ended"),
}


def settings_for(url: str, folder: Path, defect: str, *, plant: str) -> Settings:
    return Settings(url=url, history=str(folder / "history.jsonl"), plant=plant, **SCENES[defect][1])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scene on SQLite and PostgreSQL, a rotating one on MariaDB; in the long form all."""
    if "defect" in metafunc.fixturenames:
        is_short = metafunc.config.getoption("--chaos") == "short"
        rotating = [list(SCENES)[seed_of_today() % len(SCENES)]]
        chosen = [
            (store, defect)
            for store in ("sqlite", "postgresql", "mysql")
            for defect in (rotating if is_short and store == "mysql" else SCENES)
        ]
        metafunc.parametrize(("url", "defect"), chosen, indirect=["url"])


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of the kind that is asked for."""
    return empty_store(request, tmp_path, is_made=True)


def test_a_scene_without_its_defect_is_sound(
    url: str, folder: Path, tally: Tally, seeded: Seeded, defect: str
) -> None:
    settings = settings_for(url, folder, defect, plant="none")
    with seeded() as chance:
        asyncio.run(SCENES[defect][0](settings, folder, tally, chance))
    tally.require("executions_checked")


def test_a_planted_defect_is_caught(url: str, folder: Path, tally: Tally, defect: str) -> None:
    settings = settings_for(url, folder, defect, plant=defect)
    with pytest.raises(Wrong, match=SCENES[defect][2]):
        asyncio.run(SCENES[defect][0](settings, folder, Tally(), random.Random(1)))
    tally.add(plants_caught=1)

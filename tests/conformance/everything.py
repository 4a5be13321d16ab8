"""A store with something of every kind in it: what is copied or rebuilt has to bring all of it along."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import holdfast as hf
from holdfast.events.streams import Streams
from holdfast.fleet.queues import Queues
from holdfast.records.conversations import Message, MessageRole
from holdfast.records.incidents import Incident, Severity
from holdfast.records.runbooks import Runbook
from holdfast.records.schedules import Schedule
from tests.conformance.test_runbooks import FIRST

WORDS = "Überraschung: the printer is on fire 🔥"


def noise(text: str) -> str:
    """A value that is too large for its row, and does not compress."""
    return "".join(hashlib.sha512(f"{text}{number}".encode()).hexdigest() for number in range(1_500))


async def write_executions(url: str, count: int) -> None:
    """Executions that ended, wait for signals and people, and are queued; a child; values of every size."""
    app = hf.App(url)

    @app.step
    async def shout(text: str) -> str:
        return noise(text) if text.endswith("7") else text.upper()

    @app.workflow
    async def child(text: str) -> str:
        return await shout(text)

    @app.workflow
    async def report(text: str) -> str:
        loud = await shout(text)
        if text.startswith("wait"):
            await hf.wait_signal(f"go:{text}")
        if text.startswith("ask"):
            await hf.approval(f"may {text}?")
        if text.startswith("child"):
            await child(text)
        return loud

    async with app:
        for number in range(count):
            kind = ("done", "wait", "done", "ask", "child", "done", "queued")[number % 7]
            run = report.options(id=f"{kind}-{number}", tags=["vip", "ß"])
            if kind == "queued":
                await report.options(id=f"{kind}-{number}", queue="slow", limit_key="k").enqueue("later")
                continue
            handle = await run.start(f"{kind} {number}")
            if kind in ("done", "child"):
                await handle
        await app.signal("early", {"n": 1e20, "text": WORDS, "bytes": b"\0\xff"})


async def write_records(url: str) -> None:
    """At least one row of every record, and of what belongs to the fleet."""
    async with hf.open(url) as platform:
        ana = await platform.users.create("ana@example.com", password="correct horse battery")
        await platform.api_keys.create(ana.id, name="laptop")
        await platform.sessions.open(ana.id)
        await platform.achievements.progress(ana.id, "first-run", to=1.0, title="First run")
        talk = await platform.conversations.start()
        await platform.conversations.append(
            talk.id,
            *(
                Message(role=role, content=f"{WORDS} {number}")
                for number, role in enumerate(list(MessageRole)[:3])
            ),
        )
        await platform.conversations.snapshot(talk.id, {"facts": [WORDS], "n": 1})
        await platform.conversations.snapshot(talk.id, {"facts": [WORDS, "two"], "n": 2})
        await platform.incidents.open(Incident(id="i1", title=WORDS, severity=Severity.HIGH), by="pager")
        await platform.incidents.acknowledge("i1", by="ana")
        await platform.runbooks.create(Runbook(name="restart", title="Restart a service"))
        await platform.runbooks.publish("restart", FIRST, author="ana")
        await platform.runbooks.run("restart", incident="i1", inputs={"service": "web"}, id="r1")
        await platform.schedules.create(Schedule(id="nightly", workflow="restart", cron="0 4 * * *"))
        await platform.schedules.create(
            Schedule(
                id="hourly", workflow="report", cron="@hourly", inputs={"text": WORDS},
                jitter=timedelta(minutes=1),
            )
        )  # fmt: skip
        await platform.schedules.trigger("hourly", by="ana")
        await platform.agents.register("a1", capabilities=["research"], metadata={"model": "x", "n": 1e20})
        first = await platform.tasks.create("research", {"topic": WORDS})
        await platform.tasks.create("research", {"after": first.id}, depends_on=[first.id])
        from holdfast.domain.audit import Act

        await platform.audit.append(Act(action="create", actor="root", after=ana))
        await write_fleet(platform)


async def write_fleet(platform: hf.Platform) -> None:
    store = platform.store
    await Queues(store).set_limits("slow", concurrency=2, key_concurrency=1)
    async with store.transaction() as transaction:  # what a claim would make
        await transaction.load("slots", ("queue", "scope", "no", "holder"), [("slow", "queue", 1, None)])
    await Streams(store).append("orders", [("paid", {"cents": 900, "note": WORDS})])
    definition = await store.newest_definition("report")
    assert definition is not None
    await store.register_workflow(definition, description=WORDS, author="ana", tags=["vip"])
    await platform.deployments.deploy("report", definition.version, by="ana")


async def write_everything(url: str, executions: int = 21) -> None:
    """Fill the store at `url`."""
    await write_executions(url, executions)
    await write_records(url)

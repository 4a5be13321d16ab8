"""The judge and the proxy on their own: each broken promise has its verdict, each cut its effect."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncmy.errors import MySQLError

from scripts import mariadb
from tests.chaos.judge import Event, Record, Row, judge, read_history, takeover_times
from tests.chaos.proxy import Place, Proxy
from tests.crash.harness import Wrong

pytestmark = pytest.mark.chaos


def line(t: float, kind: str, pid: int = 1, **fields: Any) -> dict[str, Any]:
    return {"t": t, "kind": kind, "pid": pid} | fields


def about(t: float, kind: str, epoch: int, pid: int, **fields: Any) -> dict[str, Any]:
    return line(t, kind, pid, execution="x", path="work", attempt=1, epoch=epoch, **fields)


def honest() -> Record:
    """Worker 1 is killed in the middle of a step, worker 2 takes over and finishes it."""
    value = "work:new"
    history = [
        line(0.0, "spawned", 9, worker=1, place=0),
        line(0.1, "renewed", 1, boot="a", asked=0.1),
        line(0.2, "owns", 1, execution="x", epoch=1, boot="a", key="00"),
        about(0.3, "body", 1, 1),
        line(1.0, "killed", 9, worker=1),
        line(1.1, "died", 9, worker=1, status=-9),
        line(2.0, "owns", 2, execution="x", epoch=3, boot="b"),
        about(2.1, "body", 3, 2),
        about(2.2, "left", 3, 2, value=value),
        line(2.3, "told", 2, execution="x", epoch=3, value=value),
    ]
    events = [
        Event(1, 1, "execution.started", None, 0, 0, False, 0, {}),
        Event(2, 3, "lease.taken", None, 0, 0, False, 1, {}),
        Event(3, 3, "step.completed", "work", 0, 1, True, 2, value),
        Event(4, 3, "execution.completed", None, 0, 0, False, 3, value),
    ]
    return Record(history, {"x": Row("x", "completed", 3, 1, False, False)}, {"x": events})


def test_an_honest_record_passes_and_is_measured() -> None:
    record = honest()
    assert judge(record)["takeovers"] == 1
    assert takeover_times(record) == [1.0]


def test_what_its_owner_gave_back_was_not_taken_from_it() -> None:
    record = honest()
    robbed(record)
    record.history.insert(4, line(1.9, "gives_back", 1, key="00", epoch=1))
    assert judge(record)["takeovers"] == 0


def test_a_claim_that_was_under_way_at_a_lapse_was_not_robbed() -> None:
    record = honest()
    robbed(record)
    record.history[:2] = [line(0.1, "lapsed", 1, boot="0"), line(0.25, "boots", 1, boot="a")]
    assert judge(record)["takeovers"] == 1
    record.history[1]["t"] = 0.15
    with pytest.raises(Wrong, match="live owner"):
        judge(record)


def two_results(record: Record) -> None:
    record.events["x"].insert(3, record.events["x"][2]._replace(seq=4))


def foreign_result(record: Record) -> None:
    record.history[-2]["epoch"] = 1


def untold(record: Record) -> None:
    record.history[-1]["value"] = "work:other"


def runs_again(record: Record) -> None:
    record.history += [about(3.0, "body", 3, 2), about(3.1, "left", 3, 2, value=None)]


def runs_twice_at_once(record: Record) -> None:
    record.history.insert(-2, about(2.15, "body", 3, 3))


def unrecorded_epoch(record: Record) -> None:
    record.history.insert(-2, about(2.15, "body", 5, 3))


def zombie_writes(record: Record) -> None:
    record.events["x"].insert(3, Event(4, 1, "step.started", "work", 0, 1, False, 2, None))


def two_owners(record: Record) -> None:
    record.history.insert(7, line(2.05, "owns", 3, execution="x", epoch=3, boot="c"))


def robbed(record: Record) -> None:
    record.history = [each for each in record.history if each["kind"] not in ("killed", "died")]
    record.history.insert(3, line(1.8, "renewed", 1, boot="a", asked=1.8))


def lost_start(record: Record) -> None:
    record.history.append(line(4.0, "acknowledged", 9, execution="y"))


def unfinished(record: Record) -> None:
    record.history.append(line(4.0, "acknowledged", 9, execution="x"))
    record.rows["x"] = record.rows["x"]._replace(status="waiting")


def owned(record: Record) -> None:
    record.rows["x"] = record.rows["x"]._replace(is_owned=True)


def unheard(record: Record) -> None:
    record.history.append(line(4.0, "signalled", 9, execution="x", value="go"))


def no_predecessor(record: Record) -> None:
    record.history.insert(-2, about(2.21, "body", 3, 2) | {"attempt": 2, "path": "other"})


def early(record: Record) -> None:
    record.history += [line(3.0, "rests", execution="x"), line(3.1, "rested", execution="x")]


@pytest.mark.parametrize(
    ("forge", "verdict"),
    [
        (two_results, "two results"),
        (foreign_result, "its body ran in 1"),
        (untold, "is not stored"),
        (runs_again, "ran again"),
        (runs_twice_at_once, "at once in epoch 3"),
        (unrecorded_epoch, "not recorded"),
        (zombie_writes, "behind epoch 3"),
        (two_owners, "two owners"),
        (robbed, "from a live owner"),
        (lost_start, "not there"),
        (unfinished, "it is waiting"),
        (owned, "still owned"),
        (unheard, "signal go was sent"),
        (no_predecessor, "no predecessor"),
        (early, "instead of"),
    ],
)
def test_a_broken_promise_is_seen(forge: Callable[[Record], None], verdict: str) -> None:
    record = copy.deepcopy(honest())
    forge(record)
    with pytest.raises(Wrong, match=verdict):
        judge(record)


def test_a_line_that_a_kill_cut_off_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"t": 2, "kind": "b"}\n{"t": 1, "kind": "a"}\n{"t": 3, "ki')
    assert [each["kind"] for each in read_history(path)] == ["a", "b"]


@pytest.mark.parametrize(("place", "arrives"), [(Place.BEFORE, False), (Place.REPLIED, True)])
@pytest.mark.parametrize("transaction", [False, True], ids=["autocommit", "commit"])
def test_the_proxy_cuts_where_it_says(
    postgres_url: str, place: Place, arrives: bool, transaction: bool
) -> None:
    async def cut() -> int:
        direct = await asyncpg.connect(postgres_url)
        await direct.execute('DROP TABLE IF EXISTS "cut"; CREATE TABLE "cut" (n integer)')
        async with Proxy(postgres_url).running() as proxy:
            client = await asyncpg.connect(proxy.url_for(postgres_url), ssl=False)
            try:
                if transaction:
                    begun = client.transaction()
                    await begun.start()
                    await client.fetch('INSERT INTO "cut" VALUES ($1)', 1)
                    proxy.cut_next(place)
                    with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
                        await begun.commit()
                else:
                    proxy.cut_next(place)
                    with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
                        await client.fetch('INSERT INTO "cut" VALUES ($1)', 1)
            finally:
                client.terminate()
            assert proxy.counts[f"cuts_{place}"] == 1
        found = int(await direct.fetchval('SELECT count(*) FROM "cut"'))
        await direct.close()
        return found

    assert asyncio.run(cut()) == int(arrives)


@pytest.mark.parametrize(
    ("place", "arrives"), [(Place.BEFORE, 0), (Place.REPLIED, 1)], ids=["before", "replied"]
)
@pytest.mark.parametrize(
    "packet",
    [
        "INSERT INTO cut VALUES (1)",
        "START TRANSACTION;\nINSERT INTO cut VALUES (1);\nCOMMIT",
        "START TRANSACTION;\nSELECT n FROM cut;\nINSERT INTO cut VALUES (1);\nCOMMIT",
        "START TRANSACTION;\nSELECT n FROM cut;\nSELECT sleep(0.1);\nINSERT INTO cut VALUES (1);\nCOMMIT",
    ],
    ids=["autocommit", "commit", "one-result", "two-results"],
)
def test_the_proxy_cuts_mariadb_where_it_says(
    mysql_url: str, place: Place, arrives: int, packet: str
) -> None:
    async def ask(url: str, *texts: str) -> list[Any]:
        async def run(cursor: Any) -> list[Any]:
            for text in texts:
                await cursor.execute(text)
                while await cursor.nextset():
                    continue
            return list(await cursor.fetchall())

        return await mariadb.asking(url, run)

    async def cut() -> int:
        await ask(mysql_url, "CREATE OR REPLACE TABLE cut (n integer)")
        async with Proxy(mysql_url).running() as proxy:
            proxy.cut_next(place)
            with pytest.raises((MySQLError, OSError)) as told:
                async with asyncio.timeout(20):
                    await ask(proxy.url_for(mysql_url), packet)
            assert not isinstance(told.value, TimeoutError), "the proxy did not see where the answer ends"
            assert proxy.counts[f"cuts_{place}"] == 1
        found = (await ask(mysql_url, "SELECT count(*) FROM cut"))[0][0]
        await ask(mysql_url, "DROP TABLE cut")
        return int(found)

    assert asyncio.run(cut()) == arrives

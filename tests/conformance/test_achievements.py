"""Achievements on every store: progress that only grows, and is earned once."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.achievements import Achievements
from holdfast.errors import ConstraintViolated, InvalidArgument
from holdfast.records.identity import Achievement
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio


async def test_progress_grows_until_it_is_earned(store_url: str) -> None:
    async with opened(store_url) as store:
        achievements = Achievements(store)
        assert await achievements.get("ana", "first") is None
        made = await achievements.progress("ana", "first", to=0.25, title="First steps")
        assert (made.achievement.progress, made.achievement.title) == (0.25, "First steps")
        assert (made.achievement.revision, made.achievement.earned_at, made.earned_now) == (1, None, False)
        assert await store.repo(Achievement).get(made.achievement.id) == made.achievement
        grown = await achievements.progress("ana", "first", by=0.5)
        assert (grown.achievement.progress, grown.achievement.revision) == (0.75, 2)
        assert (grown.achievement.title, grown.achievement.id) == ("First steps", made.achievement.id)
        lower = await achievements.progress("ana", "first", to=0.1)
        assert lower.achievement.progress == 0.75
        earned = await achievements.progress("ana", "first", by=0.5, title="Done")
        assert (earned.achievement.progress, earned.earned_now) == (1.0, True)
        assert (earned.achievement.title, earned.achievement.revision) == ("Done", 4)
        assert earned.achievement.earned_at is not None
        assert abs(earned.achievement.earned_at - datetime.now(UTC)) < timedelta(minutes=1)
        again = await achievements.progress("ana", "first", to=1, title="Again")
        assert (again.achievement, again.earned_now) == (earned.achievement, False)
        assert await achievements.get("ana", "first") == earned.achievement


async def test_it_can_be_earned_at_once_and_tenths_add_up(store_url: str) -> None:
    async with opened(store_url) as store:
        achievements = Achievements(store)
        at_once = await achievements.progress("ana", "one", to=1)
        assert (at_once.earned_now, at_once.achievement.title, at_once.achievement.revision) == (
            True,
            "one",
            1,
        )
        steps = [await achievements.progress("ana", "ten", by=0.1) for _ in range(11)]
        assert [each.earned_now for each in steps] == [False] * 9 + [True, False]
        assert [each.achievement.progress for each in steps[:3]] == [0.1, 0.2, 0.3]
        nothing = await achievements.progress("ana", "none", to=0)
        assert (nothing.achievement.progress, nothing.achievement.revision) == (0.0, 1)
        assert (await achievements.progress("ana", "none", by=0)).achievement.revision == 2


async def test_of_many_at_once_every_step_counts_and_one_earns(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        sides = [Achievements(one), Achievements(two)]
        for key in ("a", "b", "c"):
            answers = await asyncio.gather(
                *(sides[number % 2].progress("ana", key, by=0.05) for number in range(24))
            )
            assert sum(each.earned_now for each in answers) == 1
            after = await sides[0].get("ana", key)
            assert after is not None
            assert (after.progress, after.revision) == (1.0, 20)
            assert {each.achievement.earned_at for each in answers} == {None, after.earned_at}
        assert (await one.repo(Achievement).count()).rows == 3


async def test_holders_and_keys_are_kept_apart(store_url: str) -> None:
    async with opened(store_url) as store:
        achievements = Achievements(store)
        for holder in ("ana", "Ana", "ana "):
            for key in ("k", "K"):
                await achievements.progress(holder, key, to=0.5)
        await achievements.progress("ana", "z", to=1)
        page = await achievements.of("ana", limit=2)
        assert [each.key for each in page.items] == ["K", "k"]
        rest = await achievements.of("ana", limit=2, cursor=page.cursor)
        assert ([each.key for each in rest.items], rest.cursor) == (["z"], None)
        assert [each.key for each in (await achievements.of("ana", earned=True)).items] == ["z"]
        assert [each.key for each in (await achievements.of("ana", earned=False)).items] == ["K", "k"]
        assert (await achievements.of("nobody")).items == []


@pytest.mark.parametrize(
    "given",
    [{}, {"to": 0.5, "by": 0.5}, {"to": 1.1}, {"by": -0.1}, {"to": math.nan}, {"by": math.inf}, {"to": 50}],
)
async def test_progress_is_a_number_from_nothing_to_one(store_url: str, given: dict[str, Any]) -> None:
    async with opened(store_url) as store:
        with pytest.raises(InvalidArgument):
            await Achievements(store).progress("ana", "k", **given)
        assert (await store.repo(Achievement).count()).rows == 0


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "x" * 256, "ä" * 128])
async def test_names_have_to_fit(store_url: str, name: str) -> None:
    async with opened(store_url) as store:
        for asked in (
            Achievements(store).progress(name, "k", to=1),
            Achievements(store).progress("ana", name, to=1),
            Achievements(store).get(name, "k"),
        ):
            with pytest.raises(InvalidArgument):
                await asked


async def test_the_database_holds_what_earned_means(store_url: str) -> None:
    async with opened(store_url) as store:
        repo, now = store.repo(Achievement), datetime.now(UTC)
        for wrong in (
            Achievement(holder="a", key="k", title="t", progress=1.0),
            Achievement(holder="a", key="k", title="t", progress=0.5, earned_at=now),
            Achievement(holder="a", key="k", title="t", progress=1.5, earned_at=now),
        ):
            with pytest.raises(ConstraintViolated):
                await repo.create(wrong)
        await repo.create(Achievement(holder="a", key="k", title="t"))
        with pytest.raises(ConstraintViolated):
            await repo.create(Achievement(holder="a", key="k", title="t"))

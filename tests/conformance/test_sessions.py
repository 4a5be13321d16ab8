"""Sessions on every store: tokens, idle time that slides, ends with their reasons, and what is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain import sessions as module
from holdfast.domain.sessions import SessionPolicy, Sessions
from holdfast.errors import InvalidArgument, RecordNotFound, SessionRefused, UnsupportedValue
from holdfast.records.identity import Session, Termination
from holdfast.store.store import Store
from tests.conformance.people import somebody, users_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

OFTEN = SessionPolicy(seen_every=timedelta(0))


async def reason(sessions: Sessions, token: str, **given: Any) -> str:
    with pytest.raises(SessionRefused) as refused:
        await sessions.check(token, **given)
    assert not token or token not in repr(refused.value.as_problem())
    return str(refused.value.details["reason"])


async def aged(store: Store, session: Session, age: timedelta) -> None:
    """As if the session had been opened and heard of so much earlier."""
    now = await store.repo(Session).get(session.id)
    await store.repo(Session).update(
        replace(now, expires_at=now.expires_at - age, last_seen_at=now.last_seen_at - age)
    )


async def test_a_token_opens_its_session(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(
            user.id, device="laptop-1", ip="2001:db8::1", user_agent="Mozilla/5.0 ©", context={"cart": [1]}
        )
        token = made.token.reveal()
        assert len(token) >= 43
        stored = await store.repo(Session).get(made.session.id)
        assert stored == made.session
        assert stored.token_hash != token.encode()
        assert len(stored.token_hash) == 32
        assert abs(stored.expires_at - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)
        checked = await sessions.check(token, device="laptop-1")
        assert checked == stored
        assert (checked.context, checked.ip) == ({"cart": [1]}, "2001:db8::1")
        listed = await store.repo(Session).find(f"user:{user.id} device:laptop-1 -has:terminated")
        assert [each.id for each in listed.items] == [stored.id]


async def test_what_is_no_token_is_unknown(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id)
        token = made.token.reveal()
        for wrong in ("", token[:-1], token + "x", token.upper(), "ä", "\ud800", "x" * 10_000):
            assert await reason(sessions, wrong) == "unknown"
        assert await reason(sessions, made.session.token_hash.hex()) == "unknown"


async def test_a_session_needs_a_user_who_is_there(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        with pytest.raises(RecordNotFound):
            await sessions.open("nobody")
        for wrong in ({"lifetime": "0s"}, {"idle_timeout": "0s"}, {"lifetime": "soon"}):
            with pytest.raises(InvalidArgument):
                await sessions.open(user.id, **wrong)  # type: ignore[arg-type]
        with pytest.raises(UnsupportedValue):
            await sessions.open(user.id, context={"x": object()})
        assert (await store.repo(Session).count()).rows == 0


async def test_a_session_ends_when_its_time_is_over(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id, lifetime="1h", idle_timeout="2h")
        await aged(store, made.session, timedelta(minutes=59))
        await sessions.check(made.token.reveal())
        await aged(store, made.session, timedelta(minutes=1))
        assert await reason(sessions, made.token.reveal()) == "expired"


async def test_a_session_ends_when_nothing_is_heard_of_it(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id, idle_timeout="30m")
        for _ in range(3):  # longer than the timeout, but never at once
            await aged(store, made.session, timedelta(minutes=29))
            checked = await sessions.check(made.token.reveal())
            assert abs(checked.last_seen_at - datetime.now(UTC)) < timedelta(minutes=1)
            assert checked == await store.repo(Session).get(made.session.id)
        await aged(store, made.session, timedelta(minutes=30))
        assert await reason(sessions, made.token.reveal()) == "idle"
        assert await reason(sessions, made.token.reveal()) == "idle"  # asking does not revive it


async def test_being_seen_is_written_once_in_a_while(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id, idle_timeout="30m")
        for _ in range(5):
            assert (await sessions.check(made.token.reveal())).revision == 1
        await aged(store, made.session, timedelta(seconds=61))
        assert (await sessions.check(made.token.reveal())).revision == 3
        assert (await sessions.check(made.token.reveal())).revision == 3
        # A short timeout is kept to a tenth of itself.
        short = await sessions.open(user.id, idle_timeout="60s")
        await aged(store, short.session, timedelta(seconds=7))
        assert (await sessions.check(short.token.reveal())).revision == 3


async def test_of_many_who_check_at_once_all_are_answered(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        made = await Sessions(one).open(user.id)
        sides = [Sessions(one, OFTEN), Sessions(two, OFTEN)]
        checked = await asyncio.gather(
            *(sides[number % 2].check(made.token.reveal()) for number in range(12))
        )
        assert {each.id for each in checked} == {made.session.id}
        after = await one.repo(Session).get(made.session.id)
        assert 2 <= after.revision <= 13
        assert after.last_seen_at > made.session.last_seen_at


async def test_being_seen_does_not_take_an_end_back(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        for _ in range(5):
            made = await Sessions(one).open(user.id)
            await asyncio.gather(
                *(Sessions(two, OFTEN).check(made.token.reveal()) for _ in range(3)),
                Sessions(one).terminate(made.session.id),
                *(Sessions(one, OFTEN).check(made.token.reveal()) for _ in range(3)),
                return_exceptions=True,
            )
            assert await reason(Sessions(two), made.token.reveal()) == "terminated"


async def test_a_session_keeps_to_its_device(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        bound, free = await sessions.open(user.id, device="laptop-1"), await sessions.open(user.id)
        for wrong in ("laptop-2", "", "laptop-1 ", "Laptop-1", "\ud800"):
            assert await reason(sessions, bound.token.reveal(), device=wrong) == "device"
        await sessions.check(bound.token.reveal(), device="laptop-1")
        await sessions.check(bound.token.reveal())
        await sessions.check(free.token.reveal(), device="laptop-2")


# Ending.


async def test_an_end_keeps_its_first_reason(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id)
        ended = await sessions.terminate(made.session.id)
        assert (ended.termination, ended.terminated_at is not None) == (Termination.LOGOUT, True)
        assert await sessions.terminate(made.session.id, Termination.REVOKED) == ended
        assert await reason(sessions, made.token.reveal()) == "terminated"
        with pytest.raises(RecordNotFound):
            await sessions.terminate("nothing")


async def test_all_sessions_of_a_user_are_ended_but_one(store_url: str) -> None:
    async with opened(store_url) as store:
        ana, bo, sessions = await somebody(store), await somebody(store, "bo@x.org"), Sessions(store)
        mine = [await sessions.open(ana.id) for _ in range(4)]
        theirs = await sessions.open(bo.id)
        await sessions.terminate(mine[3].session.id)
        assert await sessions.terminate_all(ana.id, keep=mine[0].session.id) == 2
        assert await sessions.terminate_all(ana.id, keep=mine[0].session.id) == 0
        await sessions.check(mine[0].token.reveal())
        await sessions.check(theirs.token.reveal())
        kinds = [(await store.repo(Session).get(each.session.id)).termination for each in mine]
        assert kinds == [None, Termination.REVOKED, Termination.REVOKED, Termination.LOGOUT]
        assert await sessions.terminate_all(ana.id) == 1
        assert await sessions.terminate_all("nobody") == 0


async def test_sessions_end_with_their_user(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        before = await Sessions(one).open(user.id)
        answers = await asyncio.gather(
            *(Sessions(two).open(user.id) for _ in range(4)),
            users_of(one).delete(user.id),
            *(Sessions(two).open(user.id) for _ in range(4)),
            return_exceptions=True,
        )
        assert {type(each) for each in answers} <= {module.OpenedSession, RecordNotFound, type(None)}
        tokens = [each.token for each in (before, *answers) if isinstance(each, module.OpenedSession)]
        await users_of(one).restore(user.id)
        for token in tokens:
            assert await reason(Sessions(one), token.reveal()) == "terminated"


async def test_a_session_whose_user_was_deleted_beside_the_verbs_is_refused(store_url: str) -> None:
    from holdfast.records.identity import User

    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id)
        await store.repo(User).delete(user.id)
        assert await reason(sessions, made.token.reveal()) == "user_deleted"


# Changing.


async def test_a_new_token_takes_the_place_of_the_old_one(store_url: str) -> None:
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        made = await sessions.open(user.id, device="d", context={"step": 1})
        with pytest.raises(SessionRefused):
            await sessions.rotate(made.token.reveal(), device="other")
        renewed = await sessions.rotate(made.token.reveal(), device="d")
        assert (renewed.session.id, renewed.session.context) == (made.session.id, {"step": 1})
        assert await reason(sessions, made.token.reveal()) == "unknown"
        assert (await sessions.check(renewed.token.reveal())).id == made.session.id
        await sessions.terminate(made.session.id)
        with pytest.raises(SessionRefused) as refused:
            await sessions.rotate(renewed.token.reveal())
        assert refused.value.details["reason"] == "terminated"


async def test_of_two_who_rotate_at_once_one_does(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        made = await Sessions(one).open(user.id)
        answers = await asyncio.gather(
            *(Sessions(store).rotate(made.token.reveal()) for store in (one, two, one, two)),
            return_exceptions=True,
        )
        renewed = [each for each in answers if isinstance(each, module.OpenedSession)]
        assert len(renewed) == 1
        assert sum(isinstance(each, SessionRefused) for each in answers) == 3
        await Sessions(two).check(renewed[0].token.reveal())


async def test_what_a_session_carries_is_changed_by_all(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        made = await Sessions(one).open(user.id, context={"step": 1, "old": True})
        await asyncio.gather(
            *(
                Sessions(store).set_context(made.session.id, **{f"n{number}": number})
                for number, store in enumerate((one, two) * 4)
            )
        )
        changed = await Sessions(one).set_context(made.session.id, old=None, step={"deep": [None]})
        wanted = {f"n{number}": number for number in range(8)}
        assert changed.context == {"step": {"deep": [None]}, **wanted}
        with pytest.raises(RecordNotFound):
            await Sessions(one).set_context("nothing", a=1)


# Leaving nothing behind.


async def test_what_has_expired_is_removed(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PURGED_AT_ONCE", 3)
    async with opened(store_url) as store:
        user, sessions = await somebody(store), Sessions(store)
        old = [await sessions.open(user.id, lifetime="1h") for _ in range(7)]
        for made in old:
            await aged(store, made.session, timedelta(hours=3))
        ended = await sessions.open(user.id)
        await sessions.terminate(ended.session.id)
        alive = await sessions.open(user.id)
        assert await sessions.purge(expired_for="3h") == 0
        assert await sessions.purge(expired_for="1h") == 7
        assert await sessions.purge() == 0
        assert {each.id async for each in store.repo(Session).stream()} == {
            ended.session.id,
            alive.session.id,
        }
        assert await reason(sessions, old[0].token.reveal()) == "unknown"


async def test_two_who_remove_at_once_share_the_work(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PURGED_AT_ONCE", 2)
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        for _ in range(9):
            await aged(one, (await Sessions(one).open(user.id, lifetime="1h")).session, timedelta(hours=3))
        removed = await asyncio.gather(Sessions(one).purge(), Sessions(two).purge())
        left = await Sessions(one).purge()
        assert sum(removed) + left == 9

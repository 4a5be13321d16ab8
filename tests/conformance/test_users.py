"""Users on every store: e-mails, passwords, lockout, deletion, and second factors."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import holdfast as hf
from holdfast.domain.api_keys import ApiKeys
from holdfast.domain.keyrings import Keyring
from holdfast.domain.mfa import MfaSecrets
from holdfast.domain.passwords import PASSWORD_BYTES_MAX, HashCost
from holdfast.domain.sessions import Sessions
from holdfast.domain.users import LoginPolicy, Users
from holdfast.errors import (
    ConstraintViolated,
    DamagedData,
    EmailTaken,
    HoldfastError,
    InvalidArgument,
    KeyMissing,
    LoginRefused,
    RecordExists,
    RecordNotFound,
    SealBroken,
    SessionRefused,
)
from holdfast.records.identity import Role, Session, Termination, User
from holdfast.store.store import Store
from tests.conformance.people import CHEAP, PASSWORD, somebody, users_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

MFA_SECRET = "JBSWY3DPEHPK3PXP-canary"
KEY = Keyring.new_key("k1")


async def refused(users: Users, email: str, password: str) -> LoginRefused:
    with pytest.raises(LoginRefused) as error:
        await users.verify(email, password)
    return error.value


async def locked_out(users: Users, user: User) -> None:
    for _ in range(3):
        await refused(users, user.email, "wrong")


async def lock_ran_out(store: Store, user: User) -> None:
    now = await store.repo(User).get(user.id)
    assert now.locked_until is not None
    await store.repo(User).update(replace(now, locked_until=now.locked_until - timedelta(hours=1)))


@asynccontextmanager
async def shared(url: str) -> AsyncIterator[tuple[Store, Store]]:
    async with opened(url) as one, opened(url) as two:
        yield one, two


# Accounts.


async def test_a_user_is_made_and_found(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        made = await users.create(
            "Ana@Example.com", password=PASSWORD, name="Ana", role=Role.ADMIN, preferences={"theme": "dark"}
        )
        assert (made.email, made.email_key) == ("Ana@Example.com", "ana@example.com")
        assert made.password_hash is not None
        assert made.password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert await users.by_email("aNA@EXAMPLE.COM") == made
        assert await store.repo(User).get(made.id) == made
        for missing in ("ana@example.co", "", "x", "a\0b@c", "\ud800@c", "%@%"):
            assert await users.by_email(missing) is None
        page = await store.repo(User).find("role:admin email:Ana@Example.com")
        assert [user.id for user in page.items] == [made.id]
        bare = await users.create("bo@example.com", id="bo")
        assert (bare.id, bare.role, bare.password_hash, bare.preferences) == ("bo", Role.USER, None, {})


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ana",
        "@",
        "a@",
        "@b",
        "a b@c",
        "a\n@b",
        "a\0@b",
        "\ud800@b",
        "x" * 250 + "@b.com",
        "\u0149" * 100 + "@b.org",  # longer in small letters
    ],
    ids=range(11),
)
async def test_what_is_no_email_is_refused(store_url: str, email: str) -> None:
    async with opened(store_url) as store:
        with pytest.raises(InvalidArgument):
            await users_of(store).create(email)
        user = await somebody(store)
        with pytest.raises(InvalidArgument):
            await users_of(store).change_email(user.id, email)


async def test_an_email_belongs_to_one_user(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        ana, bo = await users.create("ana@example.com"), await users.create("bo@example.com")
        with pytest.raises(EmailTaken) as taken:
            await users.create("ANA@example.com")
        assert taken.value.details["id"] == ana.id
        with pytest.raises(EmailTaken):
            await users.change_email(bo.id, "Ana@example.com")
        with pytest.raises(RecordExists):
            await users.create("new@example.com", id=ana.id)
        with pytest.raises((EmailTaken, ConstraintViolated)):
            await store.repo(User).create(User(email="ana@EXAMPLE.com"))
        # However letters are composed, and whatever is said about the key.
        await users.create("andr\u00e9@example.com")
        with pytest.raises(EmailTaken):
            await users.create("ANDRE\u0301@example.com")
        moved = await users.change_email(ana.id, "ANA@example.com")
        assert (moved.email, moved.revision) == ("ANA@example.com", 2)
        assert User(email="Zoe@x.org", email_key="other").email_key == "zoe@x.org"
        assert replace(ana, email="Eve@x.org").email_key == "eve@x.org"


async def test_of_two_who_register_one_email_at_once_one_gets_it(shared_url: str) -> None:
    async with shared(shared_url) as stores:
        tries = [users_of(stores[number % 2]).create(f"Ana{number}@x.org") for number in (1, 1, 1, 1, 1, 1)]
        tries += [users_of(stores[number % 2]).create("bo@x.org") for number in range(6)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        made = [each for each in answers if isinstance(each, User)]
        assert len(made) == 2
        assert {type(each) for each in answers} == {User, EmailTaken}


async def test_a_deleted_user_is_gone_and_comes_back_unless_the_email_is_taken(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        ana = await users.create("ana@example.com", password=PASSWORD)
        with pytest.raises(RecordNotFound):
            await users.restore(ana.id)
        await users.delete(ana.id)
        with pytest.raises(RecordNotFound):
            await users.delete(ana.id)
        assert await users.by_email("ana@example.com") is None
        await refused(users, "ana@example.com", PASSWORD)
        other = await users.create("Ana@Example.com")
        with pytest.raises(EmailTaken):
            await users.restore(ana.id)
        await users.delete(other.id)
        assert (await users.restore(ana.id)).deleted_at is None
        assert (await users.verify("ana@example.com", PASSWORD)).id == ana.id
        with pytest.raises(EmailTaken):
            await users.restore(other.id)


async def test_verbs_on_a_user_who_is_not_there_say_so(store_url: str) -> None:
    async with opened(store_url) as store:
        users, keys = users_of(store), MfaSecrets(store, Keyring.parse(KEY))
        for asked in (
            users.unlock("x"),
            users.set_role("x", Role.USER),
            users.set_password("x", PASSWORD),
            users.change_password("x", PASSWORD, PASSWORD),
            users.change_email("x", "a@b"),
            users.delete("x"),
            users.restore("x"),
            keys.set("x", "s"),
            keys.secret("x"),
            keys.remove("x"),
        ):
            with pytest.raises(RecordNotFound):
                await asked


async def test_a_role_is_one_of_four(store_url: str) -> None:
    async with opened(store_url) as store:
        user = await somebody(store)
        assert (await users_of(store).set_role(user.id, Role.VIEWER)).role is Role.VIEWER
        with pytest.raises(ValueError, match="adnim"):
            await users_of(store).set_role(user.id, "adnim")  # type: ignore[arg-type]


# Logging in.


async def test_the_right_password_lets_in_and_nothing_else_does(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        ana = await users.create("ana@example.com", password=PASSWORD)
        await users.create("bare@example.com")
        await refused(users, ana.email, "wrong")
        inside = await users.verify("ANA@example.com", PASSWORD)
        assert (inside.id, inside.failed_logins) == (ana.id, 0)
        assert inside.last_login_at is not None
        assert abs(datetime.now(UTC) - inside.last_login_at) < timedelta(minutes=1)
        assert await store.repo(User).get(ana.id) == inside
        wrong = [PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper(), "", "\0", "\ud800", "x" * 5_000]
        unlocked = users_of(store, failures=100)
        answers = [await refused(unlocked, ana.email, each) for each in wrong]
        answers += [await refused(unlocked, "bare@example.com", each) for each in ("", PASSWORD)]
        answers += [await refused(unlocked, "nobody@example.com", PASSWORD)]
        answers += [await refused(unlocked, "\ud800", PASSWORD)]
        # One answer for all, or the answer would tell who exists.
        assert len({(str(each), each.fix, repr(each.details)) for each in answers}) == 1


async def test_letters_count_however_they_are_composed(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        await users.create("a@b.org", password="caf\u00e9 canary")
        await users.verify("a@b.org", "cafe\u0301 canary")


@pytest.mark.parametrize(
    "password", ["", "short", "1234567", "x" * (PASSWORD_BYTES_MAX + 1), "long enough \ud800"]
)
async def test_a_password_has_to_be_one(store_url: str, password: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        with pytest.raises(InvalidArgument) as weak:
            await users.create("a@b.org", password=password)
        if password:
            assert password not in repr(weak.value.as_problem())
        assert await users.by_email("a@b.org") is None
        user = await users.create("a@b.org")
        with pytest.raises(InvalidArgument):
            await users.set_password(user.id, password)


async def test_failures_lock_the_account_for_a_time(store_url: str) -> None:
    async with opened(store_url) as store:
        users, repo = users_of(store), store.repo(User)
        ana = await users.create("ana@example.com", password=PASSWORD)
        await refused(users, ana.email, "wrong")
        await refused(users, ana.email, "wrong")
        assert (await repo.get(ana.id)).failed_logins == 2
        await users.verify(ana.email, PASSWORD)
        assert (await repo.get(ana.id)).failed_logins == 0  # in a row means in a row
        await locked_out(users, ana)
        locked = await repo.get(ana.id)
        assert locked.locked_until is not None
        assert timedelta(minutes=14) < locked.locked_until - datetime.now(UTC) < timedelta(minutes=16)
        assert [user.id for user in (await repo.find("has:locked_until")).items] == [ana.id]
        await refused(users, ana.email, PASSWORD)
        await refused(users, ana.email, "wrong")
        assert await repo.get(ana.id) == locked  # it neither counts on nor gets longer
        await lock_ran_out(store, ana)
        await refused(users, ana.email, "wrong")
        assert (await repo.get(ana.id)).failed_logins == 1  # from nothing
        assert (await repo.get(ana.id)).locked_until is None
        inside = await users.verify(ana.email, PASSWORD)
        assert (inside.failed_logins, inside.locked_until) == (0, None)


async def test_an_account_is_unlocked_by_word_and_by_a_new_password(store_url: str) -> None:
    async with opened(store_url) as store:
        users = users_of(store)
        ana = await users.create("ana@example.com", password=PASSWORD)
        await locked_out(users, ana)
        assert (await users.unlock(ana.id)).failed_logins == 0
        await users.verify(ana.email, PASSWORD)
        await locked_out(users, ana)
        await users.set_password(ana.id, "another canary")
        assert (await users.verify(ana.email, "another canary")).locked_until is None
        await refused(users, ana.email, PASSWORD)


async def test_of_many_guesses_at_once_no_more_count_than_are_allowed(shared_url: str) -> None:
    async with shared(shared_url) as stores:
        ana = await users_of(stores[0]).create("ana@example.com", password=PASSWORD)
        sides = [users_of(store, failures=4) for store in stores]
        await asyncio.gather(*(refused(sides[number % 2], ana.email, "wrong") for number in range(16)))
        after = await stores[0].repo(User).get(ana.id)
        assert (after.failed_logins, after.revision) == (4, 5)
        assert after.locked_until is not None
        await refused(sides[0], ana.email, PASSWORD)
        # A guess that is right comes too late as well: all that can be learnt lies in the first four answers.
        await sides[0].unlock(ana.id)
        guesses = ["wrong"] * 8 + [PASSWORD]
        await asyncio.gather(
            *(sides[number % 2].verify(ana.email, guess) for number, guess in enumerate(guesses)),
            return_exceptions=True,
        )
        assert (await stores[1].repo(User).get(ana.id)).failed_logins <= 4


async def test_many_right_logins_at_once_lock_nobody_out(shared_url: str) -> None:
    async with shared(shared_url) as stores:
        ana = await users_of(stores[0]).create("ana@example.com", password=PASSWORD)
        dearer = replace(CHEAP, passes=2)  # so that each would renew the hash, too
        sides = [users_of(store, cost=dearer) for store in stores]
        inside = await asyncio.gather(*(sides[number % 2].verify(ana.email, PASSWORD) for number in range(8)))
        assert {user.id for user in inside} == {ana.id}


async def test_the_hash_is_made_anew_when_it_costs_another_amount(store_url: str) -> None:
    async with opened(store_url) as store:
        ana = await users_of(store).create("ana@example.com", password=PASSWORD)
        dearer = users_of(store, cost=replace(CHEAP, passes=2))
        await refused(dearer, ana.email, "wrong")
        assert (await store.repo(User).get(ana.id)).password_hash == ana.password_hash
        inside = await dearer.verify(ana.email, PASSWORD)
        assert inside.password_hash is not None
        assert ",t=2," in inside.password_hash
        again = await dearer.verify(ana.email, PASSWORD)
        assert again.password_hash == inside.password_hash
        # Also one that would be too short today.
        strict = Users(store, LoginPolicy(shortest_password=100, cost=CHEAP))
        assert (await strict.verify(ana.email, PASSWORD)).id == ana.id


async def test_a_stored_hash_that_is_none_says_so(store_url: str) -> None:
    async with opened(store_url) as store:
        ana = await somebody(store)
        await store.repo(User).update(replace(ana, password_hash="md5:canary"))
        with pytest.raises(DamagedData) as damaged:
            await users_of(store).verify(ana.email, PASSWORD)
        assert "canary" not in str(damaged.value)


async def test_an_unknown_email_takes_as_long_as_a_wrong_password() -> None:
    """Hashes that cost something, and no waiting: the work alone has to be the same."""
    costly = HashCost(passes=2, memory_kib=16_384, lanes=1)
    async with opened("memory://") as store:
        users = users_of(store, cost=costly, failures=1_000)
        await users.create("ana@example.com", password=PASSWORD)
        await users.create("bare@example.com")
        await refused(users, "nobody@example.com", "wrong")  # makes the decoy

        async def shortest_s(email: str) -> float:
            took = []
            for _ in range(8):
                began = time.perf_counter()
                await refused(users, email, "wrong")
                took.append(time.perf_counter() - began)
            return min(took)  # what else runs on the machine only adds

        known, unknown, bare = [
            await shortest_s(email) for email in ("ana@example.com", "nobody@example.com", "bare@example.com")
        ]
        assert unknown > known / 2
        assert bare > known / 2


async def test_a_refusal_is_told_after_the_same_time() -> None:
    async with opened("memory://") as store:
        users = Users(store, LoginPolicy(cost=CHEAP, refuse_after=timedelta(milliseconds=300)))
        await users.create("ana@example.com", password=PASSWORD)
        for email in ("ana@example.com", "nobody@example.com"):
            began = time.monotonic()
            await refused(users, email, "wrong")
            assert time.monotonic() - began >= 0.29
        began = time.monotonic()
        await users.verify("ana@example.com", PASSWORD)
        assert time.monotonic() - began < 0.25


# Changing the password.


async def test_a_new_password_ends_the_other_sessions(store_url: str) -> None:
    async with opened(store_url) as store:
        users, sessions = users_of(store), Sessions(store)
        ana = await users.create("ana@example.com", password=PASSWORD)
        bo = await users.create("bo@example.com")
        mine, other = await sessions.open(ana.id), await sessions.open(ana.id)
        theirs = await sessions.open(bo.id)
        with pytest.raises(LoginRefused):
            await users.change_password(ana.id, "wrong", "another canary")
        assert (await store.repo(User).get(ana.id)).failed_logins == 1
        changed = await users.change_password(
            ana.id, PASSWORD, "another canary", keep_session=mine.session.id
        )
        assert changed.password_changed_at is not None
        await sessions.check(mine.token.reveal())
        await sessions.check(theirs.token.reveal())
        with pytest.raises(SessionRefused) as ended:
            await sessions.check(other.token.reveal())
        assert ended.value.details["reason"] == "terminated"
        assert (await store.repo(Session).get(other.session.id)).termination is Termination.PASSWORD_CHANGED
        await users.set_password(ana.id, "a third canary", end_sessions=False)
        await sessions.check(mine.token.reveal())
        await users.set_password(ana.id, "a fourth canary")
        with pytest.raises(SessionRefused):
            await sessions.check(mine.token.reveal())


async def test_a_login_with_the_old_password_beside_its_change_does_not_bring_it_back(
    shared_url: str,
) -> None:
    async with shared(shared_url) as (one, two):
        ana = await users_of(one).create("ana@example.com", password=PASSWORD)
        dearer = users_of(two, cost=replace(CHEAP, passes=2), failures=50)
        await asyncio.gather(
            *(dearer.verify(ana.email, PASSWORD) for _ in range(4)),
            users_of(one).set_password(ana.id, "another canary"),
            return_exceptions=True,
        )
        await users_of(one, failures=50).verify(ana.email, "another canary")
        await refused(users_of(one, failures=50), ana.email, PASSWORD)


# Second factors.


async def test_the_second_factor_is_encrypted_and_bound_to_its_user(store_url: str) -> None:
    async with opened(store_url) as store:
        mfa, repo = MfaSecrets(store, Keyring.parse(KEY)), store.repo(User)
        ana, bo = await somebody(store, "ana@x.org"), await somebody(store, "bo@x.org")
        assert await mfa.secret(ana.id) is None
        await mfa.set(ana.id, MFA_SECRET)
        secret = await mfa.secret(ana.id)
        assert secret is not None
        assert (secret.reveal(), str(secret)) == (MFA_SECRET, "***")
        stored = (await repo.get(ana.id)).mfa_secret
        assert stored is not None
        assert MFA_SECRET not in stored
        await repo.update(replace(bo, mfa_secret=stored))
        with pytest.raises(SealBroken) as moved:
            await mfa.secret(bo.id)
        assert MFA_SECRET not in repr(moved.value.as_problem())
        await mfa.remove(ana.id)
        assert await mfa.secret(ana.id) is None
        for wrong in ("", "x" * 2_000, MFA_SECRET + "\ud800"):
            with pytest.raises(InvalidArgument):
                await mfa.set(ana.id, wrong)


async def test_without_a_key_no_second_factor_is_stored(store_url: str) -> None:
    async with opened(store_url) as store:
        ana = await somebody(store)
        with pytest.raises(KeyMissing):
            await MfaSecrets(store, Keyring()).set(ana.id, MFA_SECRET)
        assert (await store.repo(User).get(ana.id)).mfa_secret is None
        await MfaSecrets(store, Keyring.parse(KEY)).set(ana.id, MFA_SECRET)
        with pytest.raises(KeyMissing):
            await MfaSecrets(store, Keyring()).secret(ana.id)


async def test_keys_are_changed_also_for_those_who_are_deleted(store_url: str) -> None:
    async with opened(store_url) as store:
        newer = f"{KEY},{Keyring.new_key('k2')}"
        users, old = users_of(store), MfaSecrets(store, Keyring.parse(KEY))
        people = [await somebody(store, f"u{number}@x.org") for number in range(4)]
        for user in people[:3]:
            await old.set(user.id, MFA_SECRET)
        await users.delete(people[2].id)
        both = MfaSecrets(store, Keyring.parse(newer))
        await both.set(people[1].id, MFA_SECRET)
        assert await both.rotate() == 2
        assert await both.rotate() == 0
        await users.restore(people[2].id)
        new = MfaSecrets(store, Keyring.parse(newer.partition(",")[2]))
        for user in people[:3]:
            secret = await new.secret(user.id)
            assert secret is not None
            assert secret.reveal() == MFA_SECRET
        with pytest.raises(KeyMissing):
            await old.secret(people[0].id)


# Secrets.


async def test_no_secret_is_shown_logged_or_told(
    store_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    secrets = [PASSWORD, "wrong-canary", MFA_SECRET, KEY[3:]]
    async with opened(store_url, storage__slow_query="1ms") as store:
        users, sessions = users_of(store), Sessions(store)
        keys, mfa = ApiKeys(store, Keyring.parse(KEY)), MfaSecrets(store, Keyring.parse(KEY))
        ana = await users.create("ana@example.com", password=PASSWORD)
        key, session = await keys.create(ana.id, "ci"), await sessions.open(ana.id)
        await mfa.set(ana.id, MFA_SECRET)
        secrets += [
            key.secret.reveal(),
            session.token.reveal(),
            key.key.hash,
            repr(session.session.token_hash),
        ]
        user = await users.verify("ana@example.com", PASSWORD)
        assert user.password_hash is not None
        assert user.mfa_secret is not None
        secrets += [user.password_hash, user.mfa_secret]
        shown += [repr(each) for each in (users, keys, mfa, user, key, session, key.key, session.session)]
        shown += [str(key.secret), f"{session.token}", repr(await mfa.secret(ana.id))]
        asked = (
            users.verify("ana@example.com", "wrong-canary"),
            users.create("Ana@example.com", password=PASSWORD),
            users.create("new@example.com", password=PASSWORD, id=ana.id),
            users.create("x" * 300 + "@x", password=PASSWORD),
            users.set_password("nobody", PASSWORD),
            keys.authenticate(key.secret.reveal() + "x"),
            keys.authenticate(key.secret.reveal()[:-1] + "-"),
            sessions.check(session.token.reveal() + "x"),
            mfa.set("nobody", MFA_SECRET),
            store.repo(User).create(replace(user, id="other")),
            store.repo(User).update(replace(user, name="x" * 300)),
            store.repo(Session).create(replace(session.session, id="other")),
        )
        for each in asked:
            with pytest.raises(HoldfastError) as told:
                await each
            shown += [str(told.value), repr(told.value.as_problem())]
            shown += traceback.format_exception(told.value)
        shown += [
            repr(row) for row in await store.driver.fetch_text(f"SELECT count(*) FROM {_events(store)}")
        ]
    output = capfd.readouterr()
    everything = "\n".join([*shown, caplog.text, output.out, output.err])
    lines = re.sub(r"^    .*$", "", everything, flags=re.MULTILINE)  # the source that a traceback quotes
    for secret in secrets:
        assert secret not in lines


def _events(store: Store) -> str:
    return f"{store.driver.schema}.events" if store.driver.schema else "events"


async def test_a_platform_has_its_services(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_ENCRYPTION_KEY", KEY)
    monkeypatch.setenv("HOLDFAST_API_KEY_PEPPER", KEY)
    async with hf.open(store_url) as platform:
        user = await platform.users.create("ana@example.com", password=PASSWORD)
        assert (await platform.users.verify("ana@example.com", PASSWORD)).id == user.id
        assert platform.users is platform.users
        await platform.mfa.set(user.id, MFA_SECRET)
        made = await platform.api_keys.create(user.id, "ci")
        assert made.key.hash.startswith("hmac-sha256.k1.")
        assert (await platform.api_keys.authenticate(made.secret.reveal())).id == made.key.id
        opened_session = await platform.sessions.open(user.id)
        assert (await platform.sessions.check(opened_session.token.reveal())).user_id == user.id
        assert (await platform.achievements.progress(user.id, "first-login", to=1)).earned_now

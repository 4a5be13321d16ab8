"""API keys on every store: shown once, hashed, refused for a reason, rotated, and cheap to use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.domain.api_keys import USED_EVERY, ApiKeys
from holdfast.domain.keyrings import Keyring
from holdfast.errors import ApiKeyRefused, InvalidArgument, KeyMissing, RecordNotFound
from holdfast.records.identity import ApiKey, User
from holdfast.store.repository import Repository
from holdfast.store.store import Store
from tests.conformance.people import somebody, users_of
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

PEPPER = Keyring.new_key("p1")


async def reason(keys: ApiKeys, text: str) -> str:
    with pytest.raises(ApiKeyRefused) as refused:
        await keys.authenticate(text)
    assert not text or text not in repr(refused.value.as_problem())
    return str(refused.value.details["reason"])


async def unused_for(store: Store, key: ApiKey, age: timedelta) -> None:
    now = await store.repo(ApiKey).get(key.id)
    assert now.last_used_at is not None
    await store.repo(ApiKey).update(replace(now, last_used_at=now.last_used_at - age))


async def test_a_key_is_shown_once_and_lets_in(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        made = await keys.create(user.id, "ci", scopes=["read", "operate", "read"])
        text = made.secret.reveal()
        assert re.fullmatch(r"hf_[0-9a-f]{12}_[\w-]{48}", text)
        assert text[3:15] == made.key.prefix
        stored = await store.repo(ApiKey).get(made.key.id)
        assert stored == made.key
        assert (stored.scopes, stored.last_used_at) == (("read", "operate"), None)
        assert text[16:] not in stored.hash
        found = await keys.authenticate(text)
        assert (found.id, found.scopes, found.user_id) == (made.key.id, ("read", "operate"), user.id)
        assert found == await store.repo(ApiKey).get(made.key.id)
        listed = await store.repo(ApiKey).find(f"user:{user.id} scope:operate")
        assert [each.id for each in listed.items] == [made.key.id]


async def test_what_is_no_key_of_ours_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        one, two = [(await keys.create(user.id, "k")).secret.reveal() for _ in range(2)]
        last = "A" if one[-1] != "A" else "B"
        swapped = one[:15] + two[15:]
        for wrong in (
            "",
            "hf_",
            one[:-1],
            one + "=",
            one[:-1] + last,
            one.upper(),
            swapped,
            "\ud800",
            "x" * 9_999,
        ):
            assert await reason(keys, wrong) == "unknown"
        # Whole, but of another store.
        async with opened("memory://") as other:
            person = await somebody(other)
            foreign = await ApiKeys(other).create(person.id, "k")
        assert await reason(keys, foreign.secret.reveal()) == "unknown"


async def test_a_key_that_is_made_up_around_a_known_prefix_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        prefix = (await keys.create(user.id, "k")).key.prefix
        secret = b"s" * 32
        sum_of = zlib.crc32(prefix.encode() + secret).to_bytes(4, "big")
        forged = f"hf_{prefix}_{base64.urlsafe_b64encode(secret + sum_of).decode()}"
        assert await reason(keys, forged) == "unknown"
        assert (await store.repo(ApiKey).find()).items[0].last_used_at is None


async def test_a_key_of_the_same_prefix_is_not_taken_for_another(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        first, second = await keys.create(user.id, "a"), await keys.create(user.id, "b")
        clash = replace(second.key, id="clash", prefix=first.key.prefix)
        await store.repo(ApiKey).create(clash)
        assert (await keys.authenticate(first.secret.reveal())).id == first.key.id


async def test_a_revoked_key_is_refused_at_once(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        made = await keys.create(user.id, "ci")
        await keys.authenticate(made.secret.reveal())
        revoked = await keys.revoke(made.key.id)
        assert revoked.revoked_at is not None
        assert await reason(keys, made.secret.reveal()) == "revoked"
        assert await keys.revoke(made.key.id) == revoked
        with pytest.raises(RecordNotFound):
            await keys.revoke("nothing")


async def test_a_key_expires_by_the_clock_of_the_store(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        made = await keys.create(user.id, "ci", expires_in="30d")
        assert made.key.expires_at is not None
        assert abs(made.key.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
        await keys.authenticate(made.secret.reveal())
        current = await store.repo(ApiKey).get(made.key.id)
        await store.repo(ApiKey).update(replace(current, expires_at=current.created_at))
        assert await reason(keys, made.secret.reveal()) == "expired"
        for wrong in ("0s", "-1h", "soon"):
            with pytest.raises(InvalidArgument):
                await keys.create(user.id, "ci", expires_in=wrong)


async def test_a_key_needs_a_user_and_a_name(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        with pytest.raises(RecordNotFound):
            await keys.create("nobody", "ci")
        with pytest.raises(InvalidArgument):
            await keys.create(user.id, " ")


async def test_keys_rest_while_their_user_is_deleted(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, users, user = ApiKeys(store), users_of(store), await somebody(store)
        made = await keys.create(user.id, "ci")
        await users.delete(user.id)
        assert await reason(keys, made.secret.reveal()) == "user_deleted"
        with pytest.raises(RecordNotFound):
            await keys.create(user.id, "another")
        await users.restore(user.id)
        await keys.authenticate(made.secret.reveal())


async def test_the_last_use_is_written_once_in_a_while(store_url: str) -> None:
    async with opened(store_url) as store:
        keys, user = ApiKeys(store), await somebody(store)
        made = await keys.create(user.id, "ci")
        first = await keys.authenticate(made.secret.reveal())
        assert first.last_used_at is not None
        assert first.revision == 2
        assert await keys.authenticate(made.secret.reveal()) == first
        await unused_for(store, made.key, USED_EVERY + timedelta(seconds=1))
        later = await keys.authenticate(made.secret.reveal())
        assert later.last_used_at is not None
        assert (later.last_used_at >= first.last_used_at, later.revision) == (True, 4)


async def test_of_many_uses_at_once_one_is_written(shared_url: str) -> None:
    async with opened(shared_url) as one, opened(shared_url) as two:
        user = await somebody(one)
        made = await ApiKeys(one).create(user.id, "ci")
        sides = [ApiKeys(one), ApiKeys(two)]
        await asyncio.gather(*(sides[number % 2].authenticate(made.secret.reveal()) for number in range(12)))
        assert (await one.repo(ApiKey).get(made.key.id)).revision == 2


async def test_hashes_are_keyed_and_follow_the_newest_pepper(store_url: str) -> None:
    async with opened(store_url) as store:
        user, repo = await somebody(store), store.repo(ApiKey)
        plain, keyed = ApiKeys(store), ApiKeys(store, Keyring.parse(PEPPER))
        older = await plain.create(user.id, "before")
        newer = await keyed.create(user.id, "after")
        assert older.key.hash.startswith("sha256.")
        assert newer.key.hash.startswith("hmac-sha256.p1.")
        assert hashlib.sha256(newer.secret.reveal().encode()).hexdigest() not in newer.key.hash
        with pytest.raises(KeyMissing):
            await plain.authenticate(newer.secret.reveal())
        # A key of before is good, and gets a keyed hash when it is used.
        found = await keyed.authenticate(older.secret.reveal())
        assert found.hash.startswith("hmac-sha256.p1.")
        assert (await repo.get(older.key.id)).hash == found.hash
        both = ApiKeys(store, Keyring.parse(f"{PEPPER},{Keyring.new_key('p2')}"))
        await both.authenticate(newer.secret.reveal())
        await unused_for(store, older.key, USED_EVERY)
        await both.authenticate(older.secret.reveal())
        hashes = [each.hash for each in (await repo.find()).items]
        assert all(each.startswith("hmac-sha256.p2.") for each in hashes)


async def test_keys_of_another_tenant_are_unknown(store_url: str) -> None:
    async with opened(store_url) as store:
        user = await somebody(store)
        made = await ApiKeys(store).create(user.id, "ci")
        theirs = Repository(User, store.driver, store.repo(User).mapping.dialect, "other")
        await theirs.create(User(id=user.id, email="ana@example.com"))
        moved = Repository(ApiKey, store.driver, store.repo(ApiKey).mapping.dialect, "other")
        await store.repo(ApiKey).delete(made.key.id)
        await moved.create(made.key)
        assert await reason(ApiKeys(store), made.secret.reveal()) == "unknown"


async def test_keys_go_with_their_user_for_good(store_url: str) -> None:
    """Not a verb of users: what erasing a person will do."""
    async with opened(store_url) as store:
        user = await somebody(store)
        await ApiKeys(store).create(user.id, "ci")
        table = store.repo(User).mapping.dialect.table("users")
        await store.driver.fetch_text(f"DELETE FROM {table}")
        assert (await store.repo(ApiKey).count()).rows == 0

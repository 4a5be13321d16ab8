"""Users for the tests of what they do, at a cost that a test can pay."""

from __future__ import annotations

from datetime import timedelta

from holdfast.domain.passwords import HashCost
from holdfast.domain.users import LoginPolicy, Users
from holdfast.records.identity import User
from holdfast.store.store import Store

PASSWORD = "correct horse canary-Passw0rd"
CHEAP = HashCost(passes=1, memory_kib=8, lanes=1)
AT_ONCE = timedelta(0)


def users_of(store: Store, *, cost: HashCost = CHEAP, failures: int = 3) -> Users:
    return Users(store, LoginPolicy(failures=failures, refuse_after=AT_ONCE, cost=cost))


async def somebody(store: Store, email: str = "ana@example.com", *, password: str | None = None) -> User:
    return await users_of(store).create(email, password=password)

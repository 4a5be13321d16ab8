"""The audit log: only added to, in one chain per tenant, and what was done to it behind its back is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.domain.audit import Act, Audit, Request
from holdfast.domain.audit_chain import BEGINNING, Fault, Head, Verdict
from holdfast.domain.audit_changes import SECRET
from holdfast.domain.keyrings import Keyring
from holdfast.errors import (
    ConstraintViolated,
    InvalidArgument,
    InvalidData,
    RecordNotFound,
    SealedRecord,
    UnsupportedValue,
)
from holdfast.records.audit import ActorKind, AuditEntry, AuditHead
from holdfast.records.identity import User
from holdfast.records.incidents import Incident, Severity
from holdfast.store.options import StoreOptions
from holdfast.store.store import Store
from tests.conformance.test_store import opened

pytestmark = pytest.mark.anyio

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
LOGIN = Act(action="login", actor="ana", resource_kind="sessions", resource_id="s1")


@asynccontextmanager
async def written(
    url: str, count: int = 6, keys: Keyring | None = None
) -> AsyncIterator[tuple[Store, Audit]]:
    async with opened(url) as store:
        audit = Audit(store, keys)
        await audit.append_many(
            [replace(LOGIN, resource_id=f"s{n}", details={"n": n, "at": [1.5]}) for n in range(1, count + 1)]
        )
        yield store, audit


def table(store: Store, name: str) -> str:
    return store.repo(AuditEntry).mapping.dialect.table(name)


async def execute(store: Store, text: str) -> None:
    async with store.transaction() as transaction:
        await transaction.fetch_text(text)


async def unlock(store: Store) -> None:
    """What somebody does who owns the tables: switch off the triggers and drop the unique numbers."""
    dialect = store.driver.dialect
    for name, triggers in (
        ("audit_logs", ("audit_logs_never_change", "audit_logs_stay")),
        ("audit_heads", ("audit_heads_go_forward", "audit_heads_stay")),
    ):
        for trigger in triggers:
            on = f" ON {table(store, name)}" if dialect == "postgresql" else ""
            await execute(store, f"DROP TRIGGER {trigger}{on}")
    on = f" ON {table(store, 'audit_logs')}" if dialect == "mysql" else ""
    place = "holdfast." if dialect == "postgresql" else ""
    await execute(store, f"DROP INDEX {place}audit_logs_seq{on}")


async def test_an_entry_says_who_did_what_to_what_from_where(store_url: str) -> None:
    async with opened(store_url) as store:
        audit = Audit(store)
        assert await audit.head() == Head(0, BEGINNING)
        before = await store.repo(Incident).create(
            Incident(id="i1", title="x", detected_at=datetime(2026, 1, 1, tzinfo=UTC))
        )
        after = await store.repo(Incident).update(replace(before, severity=Severity.HIGH, tags=("vip",)))
        made = await audit.append(
            Act(
                action="incident.update", actor="key-7", actor_kind=ActorKind.KEY, before=before, after=after,
                details={"why": "a\0b", "big": 2**70},
                request=Request(ip="::ffff:10.0.0.1", user_agent="curl/8 ß", request_id="r-1"),
            )
        )  # fmt: skip
        assert (made.seq, made.resource_kind, made.resource_id) == (1, "incidents", "i1")
        assert made.before == {"severity": "medium", "tags": []}
        assert made.after == {"severity": "high", "tags": ["vip"]}
        assert made.ip == "::ffff:a00:1" or made.ip == "::ffff:10.0.0.1"
        assert abs(datetime.now(UTC) - made.at) < timedelta(minutes=1)
        second = await audit.append(
            Act(action="sweep", actor="upkeep", actor_kind=ActorKind.SYSTEM, before=after)
        )
        assert second.previous == made.hash
        assert (second.before or {})["detected_at"] == "2026-01-01T00:00:00Z"
        assert [each async for each in audit.export()] == [made, second]
        assert await store.repo(AuditEntry).get(made.id) == made
        assert await audit.head() == Head(2, second.hash)
        assert await audit.verify() == Verdict(2, await audit.head(), None)
        for query, count in (
            ("actor:key-7", 1),
            ("action:sweep", 1),
            ("resource:incidents", 2),
            ("request:r-1", 1),
        ):
            assert (await store.repo(AuditEntry).count(query)).rows == count


async def test_secrets_never_get_into_it(store_url: str) -> None:
    async with opened(store_url) as store:
        audit = Audit(store)
        user = User(id="u1", email="ana@example.com", password_hash="$argon2id$otter")
        made = await audit.append(Act(action="user.create", actor="ana", after=user))
        assert (made.after or {})["password_hash"] == SECRET
        changed = await audit.append(
            Act(
                action="user.password", actor="ana", before=user, after=replace(user, password_hash="$otter2")
            )
        )
        assert (changed.before, changed.after) == ({"password_hash": SECRET}, {"password_hash": SECRET})
        plain = await audit.append(
            replace(
                LOGIN,
                before={"user": {"password_hash": "otter", "email": "x"}},
                details={"rows": [{"password_hash": "otter"}], "password_hash": None},
            )
        )
        assert plain.before == {"user": {"password_hash": SECRET, "email": "x"}}
        assert plain.details == {"rows": [{"password_hash": SECRET}], "password_hash": None}
        assert "otter" not in repr([each async for each in audit.export()])


BAD: list[tuple[Act, type[Exception]]] = [
    (replace(LOGIN, actor=""), InvalidArgument),
    (replace(LOGIN, actor="a" * 256), InvalidArgument),
    (replace(LOGIN, action="a\nb"), InvalidArgument),
    (replace(LOGIN, action="a" * 101), InvalidArgument),
    (replace(LOGIN, resource_kind=None), InvalidArgument),
    (replace(LOGIN, resource_id=" x"), InvalidArgument),
    (replace(LOGIN, request=Request(ip="10.0.0.256")), InvalidArgument),
    (replace(LOGIN, request=Request(user_agent="a\0b")), InvalidData),
    (replace(LOGIN, details={"x": float("nan")}), UnsupportedValue),
    (replace(LOGIN, details={"x": object()}), UnsupportedValue),
]


@pytest.mark.parametrize(("act", "error"), BAD)
async def test_bad_acts_are_refused_and_leave_no_gap(act: Act, error: type[Exception]) -> None:
    async with opened("memory://") as store:
        audit = Audit(store)
        with pytest.raises(error):
            await audit.append_many([LOGIN, act])
        assert (await audit.append(LOGIN)).seq == 1
        assert (await audit.verify()).holds
        with pytest.raises(InvalidArgument):
            await audit.append_many([])


async def test_nothing_changes_or_removes_an_entry(store_url: str) -> None:
    async with written(store_url) as (store, audit):
        entries, heads = store.repo(AuditEntry), store.repo(AuditHead)
        first = (await entries.find(sort="seq")).items[0]
        for change in (
            entries.update(replace(first, actor="eve")),
            entries.upsert(first),
            entries.create(replace(first, id="x", seq=99)),
            entries.create_many([first]),
            entries.update_many("actor:ana", actor="eve"),
            entries.delete(first.id),
            entries.delete_many("actor:ana"),
            entries.restore(first.id),
            heads.delete("head"),
        ):
            with pytest.raises(SealedRecord):
                await change
        logs, ends = table(store, "audit_logs"), table(store, "audit_heads")
        for text in (
            f"UPDATE {logs} SET actor = 'eve' WHERE seq = 2",
            f"UPDATE {logs} SET actor = actor",
            f"DELETE FROM {logs} WHERE seq = 6",
            f"DELETE FROM {logs}",
            f"UPDATE {ends} SET seq = 5",
            f"DELETE FROM {ends}",
        ):
            with pytest.raises(ConstraintViolated):
                await execute(store, text)
        if store.driver.dialect == "postgresql":
            for name in (logs, ends):
                with pytest.raises(ConstraintViolated):
                    await execute(store, f"TRUNCATE {name}")
        assert (await audit.verify()).good == 6


ALTERED: list[tuple[str, int, Fault]] = [
    ("UPDATE {logs} SET actor = 'eve' WHERE seq = 3", 3, Fault.ALTERED),
    ("UPDATE {logs} SET resource_id = NULL WHERE seq = 3", 3, Fault.ALTERED),
    ('UPDATE {logs} SET details = \'{{"n":4,"at":[1.5]}}\' WHERE seq = 3', 3, Fault.ALTERED),
    ("UPDATE {logs} SET {after} = '{{}}' WHERE seq = 3", 3, Fault.ALTERED),
    ("UPDATE {logs} SET id = 'other' WHERE seq = 6", 6, Fault.ALTERED),
    ("DELETE FROM {logs} WHERE seq = 1", 1, Fault.MISSING),
    ("DELETE FROM {logs} WHERE seq IN (3, 4)", 3, Fault.MISSING),
    ("DELETE FROM {logs} WHERE seq = 6", 6, Fault.MISSING),
    ("UPDATE {logs} SET seq = 2 WHERE seq = 3", 2, Fault.REPEATED),
    ("UPDATE {logs} SET seq = seq + 1 WHERE seq >= 3", 3, Fault.MISSING),
    ("UPDATE {logs} SET seq = 7 - seq", 1, Fault.UNLINKED),
    ("UPDATE {logs} SET details = 'no json' WHERE seq = 4", 4, Fault.UNREADABLE),
    ("UPDATE {logs} SET sealed_by = 'k9' WHERE seq = 4", 4, Fault.UNKNOWN_KEY),
    ("DELETE FROM {heads}", 1, Fault.UNCHAINED),
    ("UPDATE {heads} SET seq = 4", 4, Fault.OTHER_HEAD),
    ("UPDATE {heads} SET seq = 9", 7, Fault.MISSING),
    ("UPDATE {heads} SET hash = {zeros}", 6, Fault.OTHER_HEAD),
]


@pytest.mark.parametrize(("text", "seq", "fault"), ALTERED, ids=[each[0] for each in ALTERED])
async def test_what_was_done_behind_its_back_is_found(text: str, seq: int, fault: Fault) -> None:
    async with written("memory://") as (store, audit):
        await unlock(store)
        assert (await audit.verify()).holds
        await execute(
            store, text.format(logs="audit_logs", heads="audit_heads", after="after", zeros="zeroblob(32)")
        )
        found = await audit.verify()
        assert found.problem is not None
        # Of two with one number either may come first.
        assert (found.problem.seq, found.problem.fault) == (seq, fault) or fault is Fault.REPEATED
        assert found.problem.seq == seq
        assert found.good <= seq
        assert found.problem.text


async def test_on_every_database_a_change_and_a_gap_are_found(store_url: str) -> None:
    async with written(store_url) as (store, audit):
        await unlock(store)
        logs = table(store, "audit_logs")
        await execute(store, f"UPDATE {logs} SET actor = 'eve' WHERE seq = 5")
        found = await audit.verify()
        assert (found.good, found.problem and found.problem.fault) == (4, Fault.ALTERED)
        await execute(store, f"DELETE FROM {logs} WHERE seq = 2")
        found = await audit.verify()
        assert (found.good, found.problem and found.problem.text) == (1, "entry 2 is missing")


async def test_an_entry_put_in_or_exchanged_with_another_tenant_is_found(store_url: str) -> None:
    async with written(store_url) as (store, audit):
        other = Store(store.driver, StoreOptions(tenant="other"))
        beside = Audit(other)
        await beside.append_many([LOGIN] * 6)
        assert (await beside.verify()).holds
        await unlock(store)
        logs = table(store, "audit_logs")
        await execute(
            store,
            f"UPDATE {logs} SET tenant_id = CASE tenant_id WHEN 'other' THEN 'default' ELSE 'other' END "
            "WHERE seq = 4",
        )
        for each in (audit, beside):
            found = await each.verify()
            assert (found.good, found.problem and found.problem.seq) == (3, 4)
        # A whole chain under another tenant's name links, and its hashes do not hold.
        await execute(store, f"DELETE FROM {logs} WHERE tenant_id = 'other'")
        await execute(store, f"UPDATE {logs} SET tenant_id = 'other'")
        found = await beside.verify()
        assert (found.good, found.problem and found.problem.fault) == (0, Fault.ALTERED)


async def test_a_forged_end_is_found_by_a_head_that_was_kept_elsewhere(store_url: str) -> None:
    async with written(store_url) as (store, audit):
        kept = await audit.head()
        await audit.append(LOGIN)
        assert (await audit.verify(known=kept)).holds
        await unlock(store)
        logs, ends = table(store, "audit_logs"), table(store, "audit_heads")
        await execute(store, f"DELETE FROM {logs} WHERE seq > 4")
        await execute(store, f"UPDATE {ends} SET seq = 4, hash = (SELECT hash FROM {logs} WHERE seq = 4)")
        assert (await audit.verify()).holds  # whoever may write everything can cut it off
        found = await audit.verify(known=kept)
        assert (found.good, found.problem and found.problem.fault) == (4, Fault.MISSING)
        await audit.append_many([LOGIN] * 3)  # and write on
        assert (await audit.verify()).holds
        found = await audit.verify(known=kept)
        assert (found.problem and found.problem.seq, found.problem and found.problem.fault) == (
            6,
            Fault.OTHER_HEAD,
        )


async def test_with_a_key_nobody_without_it_can_write_the_chain_anew(store_url: str) -> None:
    keys = Keyring({"k1": OLD})
    async with written(store_url, 3, keys) as (store, audit):
        assert (await audit.verify()).holds
        rotated = Audit(store, Keyring({"k1": OLD, "k2": NEW}))
        assert (await rotated.append(LOGIN)).sealed_by == "k2"
        assert (await rotated.verify()).holds
        found = await audit.verify()
        assert (found.good, found.problem and found.problem.fault) == (3, Fault.UNKNOWN_KEY)
        found = await Audit(store, Keyring({"k1": NEW, "k2": NEW})).verify()
        assert (found.good, found.problem and found.problem.fault) == (0, Fault.ALTERED)

        await unlock(store)  # and forge the whole chain without a key
        await execute(store, f"DELETE FROM {table(store, 'audit_logs')}")
        await execute(store, f"DELETE FROM {table(store, 'audit_heads')}")
        await Audit(store).append_many([LOGIN] * 4)
        assert (await Audit(store).verify()).holds
        found = await rotated.verify()
        assert (found.good, found.problem and found.problem.fault) == (0, Fault.UNKEYED)


async def test_a_chain_may_get_its_key_later(store_url: str) -> None:
    async with written(store_url, 3) as (store, _):
        keyed = Audit(store, Keyring({"k1": OLD}))
        await keyed.append(LOGIN)
        assert (await keyed.verify(keyed_from=4)).holds
        found = await keyed.verify()
        assert (found.good, found.problem and found.problem.fault) == (0, Fault.UNKEYED)


async def test_an_entry_is_there_if_and_only_if_its_change_is(store_url: str) -> None:
    async with opened(store_url) as store:
        audit = Audit(store)
        incident = Incident(id="i1", title="x", detected_at=datetime.now(UTC))

        async def make(*, fail: bool) -> None:
            async with store.transaction() as transaction:
                made = await store.repo(Incident, within=transaction).create(incident)
                await audit.append(Act(action="make", actor="ana", after=made), within=transaction)
                if fail:
                    raise LookupError

        with pytest.raises(LookupError):
            await make(fail=True)
        with pytest.raises(RecordNotFound):
            await store.repo(Incident).get("i1")
        assert await audit.head() == Head(0, BEGINNING)
        await make(fail=False)
        assert (await audit.head()).seq == 1
        assert (await audit.verify()).holds


async def test_many_who_append_at_once_keep_the_chain_whole(shared_url: str) -> None:
    async with opened(shared_url) as here, opened(shared_url) as there:
        audits = [Audit(here), Audit(there)]

        async def work(audit: Audit, who: str) -> None:
            for _ in range(6):
                await audit.append_many([replace(LOGIN, actor=who)] * 2)

        async def check() -> None:
            for _ in range(5):
                found = await audits[0].verify()  # while they write
                assert found.holds, found

        await asyncio.gather(*(work(audits[n % 2], f"w{n}") for n in range(4)), check())
        found = await audits[1].verify()
        assert (found.good, found.problem) == (48, None)
        entries = [each async for each in audits[0].export()]
        assert [each.at for each in entries] == sorted(each.at for each in entries)
        assert {each.actor for each in entries} == {"w0", "w1", "w2", "w3"}

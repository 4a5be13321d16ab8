"""The audit log: who did what, when, to what, from where. It is only added to.

Every tenant has one chain (`holdfast.domain.audit_chain`). Whoever appends locks the row that holds its end
until the transaction ends, so that numbers have no gaps and every entry follows the one before, however many
write at once; the price is that a tenant's entries are written one after the other. An entry that is
appended `within` a transaction is there if and only if what it tells of is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.domain.audit_chain import BEGINNING, Fault, Head, Problem, Verdict, hash_of, problem_of
from holdfast.domain.audit_changes import Shown, redacted, shown
from holdfast.domain.clock import present
from holdfast.domain.keyrings import Keyring
from holdfast.domain.timeline import check_name
from holdfast.errors import DamagedData, InvalidArgument, RecordNotFound, UnsupportedValue
from holdfast.records.audit import HEAD, ActorKind, AuditEntry, AuditHead
from holdfast.records.declare import Record, table_of
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.mapping import STORES_OWN
from holdfast.store.repository import Repository
from holdfast.store.store import Store

BATCH = 500
NAME_BYTES_MAX = 100
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where an act came from."""

    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be remembered: somebody (`actor`, of `actor_kind`) did `action` to a resource.

    `before` and `after` are records or dicts; secrets are left out, and of two records of one kind what did
    not change. A resource that is a record needs no name of its own: it is the record's table and id.
    """

    action: str
    actor: str
    actor_kind: ActorKind = ActorKind.USER
    resource_kind: str | None = None
    resource_id: str | None = None
    before: Shown = None
    after: Shown = None
    details: Mapping[str, Any] = field(default_factory=dict)
    request: Request = Request()


class Audit:
    """The audit log of a store's tenant. Reading by query and page: `store.repo(AuditEntry)`.

    With `keys` the hashes are keyed, by the newest of them; older ones are still checked.
    """

    def __init__(self, store: Store, keys: Keyring | None = None) -> None:
        self._store = store
        self._keys = keys or Keyring()

    # Appending.

    async def append(self, act: Act, *, within: Transaction | None = None) -> AuditEntry:
        """Add one entry; see `append_many`."""
        return (await self.append_many([act], within=within))[0]

    async def append_many(
        self, acts: Sequence[Act], *, within: Transaction | None = None
    ) -> list[AuditEntry]:
        """Add entries in this order, all or none; at most `BATCH` at once.

        `within` a transaction they are part of it, and other appenders of the tenant wait for its end: append
        last. Raises `InvalidArgument`, `UnsupportedValue`.
        """
        if not 1 <= len(acts) <= BATCH:
            raise InvalidArgument(f"{len(acts)} entries at once", fix=f"append 1 to {BATCH}")
        drafts = [self._draft(act) for act in acts]
        if within is not None:
            return await self._append(within, drafts)

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> list[AuditEntry]:
            return await self._append(transaction, drafts)

        return await run()

    def _draft(self, act: Act) -> dict[str, Any]:
        """The columns of an entry that its act decides."""
        kind, id = _resource(act)
        check_name(act.actor, "actor")
        check_name(act.action, "action", bytes_max=NAME_BYTES_MAX)
        check_name(kind, "kind of a resource", bytes_max=NAME_BYTES_MAX)
        for name, value in (("id of a resource", id), ("request id", act.request.request_id)):
            if value is not None:
                check_name(value, name)
        before, after = shown(act.before, act.after)
        return {
            "actor_kind": ActorKind(act.actor_kind), "actor": act.actor, "action": act.action,
            "resource_kind": kind, "resource_id": id, "before": before, "after": after,
            "details": redacted(act.details), "ip": _address(act.request.ip),
            "user_agent": act.request.user_agent, "request_id": act.request.request_id,
            "sealed_by": self._keys.newest if self._keys else "",
        }  # fmt: skip

    async def _append(self, transaction: Transaction, drafts: list[dict[str, Any]]) -> list[AuditEntry]:
        head = await self._locked(transaction)
        # A database may give the time at which the transaction began, which may lie before the last entry.
        at = max(head.at, await present(transaction))
        made: list[AuditEntry] = []
        seq, previous = head.seq, head.hash
        for draft in drafts:
            seq += 1
            entry = AuditEntry(
                **draft, seq=seq, at=at, previous=previous, hash=b"", revision=1, created_at=at, updated_at=at
            )
            made.append(replace(entry, hash=hash_of(entry, self._store.tenant, self._keys)))
            previous = made[-1].hash
        await self._insert(transaction, made)
        heads = self._store.repo(AuditHead, within=transaction, unsealed=True)
        await heads.update(replace(head, seq=seq, hash=previous, at=at))
        return made

    async def _insert(self, transaction: Transaction, entries: list[AuditEntry]) -> None:
        """The rows with exactly the times that were hashed, which the store would set otherwise."""
        mapping = self._store.repo(AuditEntry).mapping
        write = mapping.dialect.writer(mapping.table.column("at"))
        rows = [
            (self._store.tenant, each.id, 1, write(each.at), write(each.at), *mapping.values(each))
            for each in entries
        ]
        await transaction.load(mapping.table.name, (*STORES_OWN, *mapping.written), rows)

    async def _locked(self, transaction: Transaction) -> AuditHead:
        heads = self._store.repo(AuditHead, within=transaction)
        try:
            return await heads.get_locked(HEAD)
        except RecordNotFound:
            await transaction.fetch("audit.begin", self._store.tenant, BEGINNING)
            return await heads.get_locked(HEAD)

    # Checking.

    async def head(self) -> Head:
        """The end of the chain, to be kept where nobody who can write to the database can reach it."""
        found = await self._store.repo(AuditHead).find_by_id(HEAD)
        return Head(0, BEGINNING) if found is None else Head(found.seq, found.hash)

    async def verify(self, *, known: Head | None = None, keyed_from: int = 1) -> Verdict:
        """Read the whole chain and find the first entry that is not as it was written.

        `known` is an end that was kept elsewhere: the chain has to run through it, which finds also what was
        cut off at the end. With keys every entry from `keyed_from` on must have a keyed hash. What is
        appended meanwhile is no fault.
        """
        head, last = await self.head(), Head(0, BEGINNING)
        async for each in _rows(self._store.repo(AuditEntry)):
            if isinstance(each, Problem):
                return Verdict(last.seq, head, each)
            if each.seq > head.seq and (await self.head()).seq < each.seq:
                text = f"entry {each.seq} lies behind the end of the chain, {head.seq}"
                return Verdict(last.seq, head, Problem(each.seq, Fault.UNCHAINED, text))
            keyed = bool(self._keys) and each.seq >= keyed_from
            problem = problem_of(each, last, self._store.tenant, self._keys, keyed=keyed)
            here = Head(each.seq, each.hash)
            problem = problem or _other(here, head) or _other(here, known)
            if problem is not None:
                return Verdict(last.seq, head, problem)
            last = here
        return Verdict(last.seq, head, _ends_early(last, head) or _ends_early(last, known))

    async def export(self, query: str | Sequence[str] = "") -> AsyncIterator[AuditEntry]:
        """The entries that fit a query, in the order of the chain."""
        async for each in self._store.repo(AuditEntry).stream(query, sort="seq"):
            yield each


async def _rows(entries: Repository[AuditEntry]) -> AsyncIterator[AuditEntry | Problem]:
    """All entries in the order of their numbers; a row that is none ends them with the problem."""
    cursor, limit = None, _PAGE
    while True:
        try:
            page = await entries.find(sort="seq", limit=limit, cursor=cursor)
        except (DamagedData, UnsupportedValue, ValueError, TypeError, ArithmeticError):
            if limit > 1:
                limit = 1  # one by one, up to the bad one
                continue
            bad = await entries.find_fields(["seq"], sort="seq", limit=1, cursor=cursor)
            seq = int(bad.items[0]["seq"])
            yield Problem(seq, Fault.UNREADABLE, f"entry {seq} does not read as an entry")
            return
        for each in page.items:
            yield each
        if page.cursor is None:
            return
        cursor = page.cursor


def _other(here: Head, noted: Head | None) -> Problem | None:
    """The problem of an entry whose number is that of a noted end, and whose hash is another."""
    if noted is None or here.seq != noted.seq or here.hash == noted.hash:
        return None
    return Problem(here.seq, Fault.OTHER_HEAD, f"entry {here.seq} is not the one that was noted as the end")


def _ends_early(last: Head, noted: Head | None) -> Problem | None:
    if noted is None or last.seq >= noted.seq:
        return None
    return Problem(
        last.seq + 1, Fault.MISSING, f"the chain ends at {last.seq}, and {noted.seq} was noted as its end"
    )


def _resource(act: Act) -> tuple[str, str | None]:
    """The kind and id of what an act is about."""
    kind, id = act.resource_kind, act.resource_id
    for side in (act.after, act.before):
        if isinstance(side, Record):
            kind, id = kind or table_of(type(side)).name, id or side.id
    if kind is None:
        raise InvalidArgument("an act is about something", where="resource_kind", fix="name its kind")
    return kind, id


def _address(ip: str | None) -> str | None:
    """An IP address in its usual spelling. Raises `InvalidArgument`."""
    try:
        return None if ip is None else str(ipaddress.ip_address(ip))
    except ValueError:
        raise InvalidArgument(f"{ip!r} is not an IP address", where="request.ip") from None

"""Signals: messages by name for whichever execution waits for that name.

Sender and waiter lock the name's mailbox first, so that one of them always sees the other: a signal that
comes early is kept, one that comes late finds the step that waits longest. It is matched once; from then on
it lies in that execution's inbox until the step's result takes it. Does the execution end before, it goes on.

A signal for one execution is kept under a name of its own, which no caller can spell. It outlives a
failure, for a retry may wait for it, and is dropped when the execution completes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.errors import InvalidArgument, SignalUndeliverable
from holdfast.fleet.ownership import hold
from holdfast.fleet.starts import new_key
from holdfast.records.executions import Execution, ExecutionKey
from holdfast.store import codec
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.entries import Holding
from holdfast.store.rows import moment
from holdfast.store.store import Store
from holdfast.workflows.parking import NAME_SEPARATOR
from holdfast.workflows.requests import check_signal_name

MESSAGE_ID_BYTES_MAX = 255
LISTED_MAX = 1_000
_SENT = "\x1d"  # a row that remembers that an id was used
_ADDRESSED = "\x1e"  # a row that is for one execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a signal: who got it, or that it is kept. `repeated`: its id was used before."""

    name: str
    execution: str | None = None
    path: str | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A signal that nobody has waited for yet; `execution` is the key of the only one that may have it."""

    name: str
    execution: ExecutionKey | None
    payload: Any
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A step that waits for a signal."""

    name: str
    execution: str
    path: str
    since: datetime


async def send(
    store: Store,
    name: str,
    payload: object = None,
    *,
    annotation: Any = Any,
    to: Execution | None = None,
    message_id: str | None = None,
) -> Sent:
    """Send a signal; on disk when this returns.

    With `to` only that execution's wait for the name may have it. Sending with a `message_id` that was used
    for the name within the last week does nothing. Raises `SignalUndeliverable` when `to` has ended.
    """
    check_signal_name(name)
    if message_id is not None and not 1 <= len(_bytes_of(message_id)) <= MESSAGE_ID_BYTES_MAX:
        raise InvalidArgument("a message id is 1 to 255 bytes long", where=message_id[:60])
    encoded = codec.encode(payload, annotation, what=f"signal {name}")
    message, target = bytes(new_key()), None if to is None else to.key

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> tuple[ExecutionKey, str] | bool | None:
        await _lock(transaction, store.tenant, name)
        if to is not None and await transaction.fetch("signals.lock_ended", to.key):
            raise SignalUndeliverable(f"execution {to.id} has ended", where=to.id, id=to.id)
        if message_id is not None:
            used = (store.tenant, f"{_SENT}{name}", message_id.encode(), None)
            if not await transaction.fetch("signals.keep", *used):
                return False
        return await _hand_over(transaction, store.tenant, name, message, encoded, target)

    found = await run()
    store.hints.message()
    if not isinstance(found, tuple):
        return Sent(name=name, repeated=found is False)
    execution = await store.execution_by_key(found[0])
    return Sent(name=name, execution=execution.id if execution else None, path=found[1])


def _bytes_of(message_id: str) -> bytes:
    try:
        return message_id.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("a message id holds half of a surrogate pair", where="message_id") from None


async def return_unclaimed(store: Store, key: ExecutionKey) -> int:
    """Send on the signals that an ended execution never took; how many.

    What was sent to it alone stays in its inbox for a retry, until it has completed: then it is dropped.
    """
    returned = 0
    for message, tenant, name in await store.driver.fetch("signals.unclaimed", key):
        returned += await _return(store, key, bytes(message), tenant, name)
    if returned:
        store.hints.message()
    return returned


async def _return(store: Store, key: ExecutionKey, message: bytes, tenant: str, place: str) -> bool:
    name = place.rpartition(NAME_SEPARATOR)[2]
    addressed = name.startswith(_ADDRESSED)
    plain = name.rpartition(_ADDRESSED)[2]

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> bool:
        await _lock(transaction, tenant, plain)
        if not await transaction.fetch("signals.lock_ended", key):
            return False
        rows = await transaction.fetch("signals.take_back", key, message)
        if rows and not addressed:
            await _hand_over(transaction, tenant, plain, message, rows[0][0], None)
        return bool(rows)

    return await run()


async def forget_sent(store: Store) -> None:
    """Forget the ids of messages that were sent more than a week ago."""
    await store.driver.fetch("signals.forget_sent", store.tenant)


async def drop_addressed(store: Store, after: str, limit: int) -> tuple[str, int]:
    """Drop what is kept for executions that have completed and will never wait for it.

    Looks at `limit` names behind `after`; where to go on, which is "" after the last, and how many were
    dropped.
    """
    rows = await store.driver.fetch("signals.addressed", store.tenant, after, limit)
    dropped = 0
    for name in (name for name, is_over in rows if is_over):
        dropped += len(await store.driver.fetch("signals.drop_addressed", store.tenant, name))
    return (rows[-1][0] if len(rows) == limit else ""), dropped


async def _lock(transaction: Transaction, tenant: str, name: str) -> None:
    """Hold the mailbox until the transaction ends."""
    while not await transaction.fetch("signals.lock_mailbox", tenant, name):
        await transaction.fetch("signals.open_mailbox", tenant, name)


async def _hand_over(
    transaction: Transaction,
    tenant: str,
    name: str,
    message: bytes,
    payload: bytes | None,
    target: ExecutionKey | None,
) -> tuple[ExecutionKey, str] | None:
    """Give a message to the step that waits longest, or keep it. The mailbox is locked."""
    stored = name if target is None else _address(target, name)
    while rows := await transaction.fetch("signals.first_wait", tenant, name, target):
        key, path = ExecutionKey(bytes(rows[0][0])), rows[0][1]
        await transaction.fetch("signals.remove_wait", key, path)
        if await _deliver(transaction, key, path, stored, message, payload):
            return key, path
        # That execution has ended: whoever comes next in the line.
    await transaction.fetch("signals.keep", tenant, stored, message, payload)
    return None


async def _deliver(
    transaction: Transaction, key: ExecutionKey, path: str, stored: str, message: bytes, payload: bytes | None
) -> bool:
    if not await transaction.fetch("executions.wake", key):
        return False
    await transaction.fetch("inbox.post", key, message, "signal", _place(path, stored), payload)
    return True


def _address(key: ExecutionKey, name: str) -> str:
    return f"{_ADDRESSED}{bytes(key).hex()}{_ADDRESSED}{name}"


def _place(path: str, stored: str) -> str:
    return f"{path}{NAME_SEPARATOR}{stored}"


# The waiting side.


async def wait_for_signal(store: Store, holding: Holding, path: str, name: str) -> bool:
    """See `Outside.wait_for_signal`."""

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> bool:
        await _lock(transaction, holding.tenant, name)
        await hold(transaction, holding)
        if await _is_delivered(transaction, holding.key, path, name):
            return True
        own = _address(holding.key, name)
        rows = await transaction.fetch("signals.first_kept", holding.tenant, name, own)
        if not rows:
            await transaction.fetch("signals.wait", holding.key, path, holding.tenant, name)
            return False
        stored, message, payload = rows[0]
        await transaction.fetch("signals.take_kept", holding.tenant, stored, message)
        await transaction.fetch("signals.remove_wait", holding.key, path)
        return await _deliver(transaction, holding.key, path, stored, bytes(message), payload)

    return await run()


async def stop_waiting_for_signal(store: Store, holding: Holding, path: str, name: str) -> bool:
    """See `Outside.stop_waiting_for_signal`."""

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> bool:
        await _lock(transaction, holding.tenant, name)
        await hold(transaction, holding)
        if await _is_delivered(transaction, holding.key, path, name):
            return False
        await transaction.fetch("signals.remove_wait", holding.key, path)
        return True

    return await run()


async def _is_delivered(transaction: Transaction, key: ExecutionKey, path: str, name: str) -> bool:
    for stored in (name, _address(key, name)):
        if await transaction.fetch("signals.delivered", key, _place(path, stored)):
            return True
    return False


# Looking.


async def kept(store: Store, name: str | None = None, *, limit: int = LISTED_MAX) -> Sequence[Kept]:
    """The signals that nobody has taken yet, oldest first."""
    rows = await store.driver.fetch("signals.kept", store.tenant, name, limit)
    return [_kept(*row) for row in rows]


def _kept(stored: str, message: bytes, payload: bytes | None, at: Any) -> Kept:
    _, key, name = stored.split(_ADDRESSED) if stored.startswith(_ADDRESSED) else ("", "", stored)
    value = None if payload is None else codec.decode(payload, what=f"signal {name}")
    execution = ExecutionKey(bytes.fromhex(key)) if key else None
    return Kept(name=name, execution=execution, payload=value, since=moment(at))


async def waiters(store: Store, name: str | None = None, *, limit: int = LISTED_MAX) -> Sequence[Waiter]:
    """The steps that wait for a signal, in the order in which they will get one."""
    rows = await store.driver.fetch("signals.waiting", store.tenant, name, limit)
    return [Waiter(name=row[0], execution=row[1], path=row[2], since=moment(row[3])) for row in rows]

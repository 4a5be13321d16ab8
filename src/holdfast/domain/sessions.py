"""Sessions: a token that its holder shows, of which the store has the hash alone.

Every time a session is looked at, its idle time begins anew; that is written only once in a while, so that a
busy session costs a read. Times are compared by the database's clock.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from holdfast.config.secrets import Secret
from holdfast.domain.clock import present
from holdfast.domain.ending_sessions import end_sessions_of
from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument, SessionRefused
from holdfast.records.identity import Session, Termination, User
from holdfast.store.drivers.base import Row
from holdfast.store.rows import moment
from holdfast.store.store import Store

TOKEN_BYTES = 32
TOKEN_LENGTH_MAX = 256
PURGED_AT_ONCE = 500
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """How long sessions last.

    `seen_every` is how often `last_seen_at` is written, at most; a session may fall idle that much too early,
    and never too late, so no more than a tenth of its idle timeout is taken.
    """

    lifetime: timedelta = timedelta(hours=24)
    idle_timeout: timedelta = timedelta(minutes=30)
    seen_every: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session and its token, which goes to its holder now and is not stored."""

    session: Session
    token: Secret


class Sessions:
    """The sessions of a store's tenant. Reading by query and page: `store.repo(Session)`."""

    def __init__(self, store: Store, policy: SessionPolicy | None = None) -> None:
        self._store = store
        self._policy = policy or SessionPolicy()

    async def open(
        self,
        user_id: str,
        *,
        device: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
        context: dict[str, Any] | None = None,
        lifetime: Duration | None = None,
        idle_timeout: Duration | None = None,
    ) -> OpenedSession:
        """A new session of a user, who has proved who they are. `device` is what names it, such as a hash.

        Raises `RecordNotFound` for an unknown or deleted user, `InvalidArgument`.
        """
        lasts = _positive("lifetime", lifetime, self._policy.lifetime)
        idle = _positive("idle_timeout", idle_timeout, self._policy.idle_timeout)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        async with self._store.transaction() as transaction:
            # Under the lock of the user's row: who deletes the user sees what is made here, or comes first.
            await self._store.repo(User, within=transaction).get_locked(user_id)
            now = await present(transaction)
            session = Session(
                user_id=user_id, token_hash=_hash(token), device=device, ip=ip, user_agent=user_agent,
                context=context or {}, expires_at=now + lasts, idle_timeout=idle, last_seen_at=now,
            )  # fmt: skip
            made = await self._store.repo(Session, within=transaction).create(session)
        return OpenedSession(made, Secret(token))

    async def check(self, token: str, *, device: str | None = None) -> Session:
        """The session of a token, which is heard of now.

        With `device`, a session that was opened on another one is refused. Raises `SessionRefused`, whose
        `details['reason']` is `unknown`, `terminated`, `expired`, `idle`, `user_deleted` or `device`.
        """
        session, now, is_deleted = await self._found(token)
        _refuse(session, now, is_deleted, device)
        if now - session.last_seen_at < min(self._policy.seen_every, session.idle_timeout / 10):
            return session
        rows = await self._store.driver.fetch(
            "sessions.seen", self._store.tenant, session.id, session.revision
        )
        if not rows:  # seen, changed or ended by somebody else just now
            return session
        revision, seen_at, updated_at = rows[0]
        return replace(
            session, revision=revision, last_seen_at=moment(seen_at), updated_at=moment(updated_at)
        )

    async def rotate(self, token: str, *, device: str | None = None) -> OpenedSession:
        """Give a session another token; the old one is unknown from now on.

        For a change of rights, such as after a second factor. Raises what `check` raises; of two who rotate
        at once, the second is refused.
        """
        renewed = secrets.token_urlsafe(TOKEN_BYTES)
        found, _, is_deleted = await self._found(token)
        async with self._store.transaction() as transaction:
            sessions = self._store.repo(Session, within=transaction)
            session = await sessions.get_locked(found.id)
            now = await present(transaction)
            if not hmac.compare_digest(session.token_hash, found.token_hash):
                raise SessionRefused("there is no such session", reason="unknown")
            _refuse(session, now, is_deleted, device)
            changed = replace(session, token_hash=_hash(renewed), last_seen_at=now)
            return OpenedSession(await sessions.update(changed), Secret(renewed))

    async def set_context(self, id: str, **changes: Any) -> Session:
        """Set values in what a session carries; None removes one. Raises `RecordNotFound`."""
        async with self._store.transaction() as transaction:
            sessions = self._store.repo(Session, within=transaction)
            session = await sessions.get_locked(id)
            context = {
                name: value for name, value in {**session.context, **changes}.items() if value is not None
            }
            return await sessions.update(replace(session, context=context))

    # Ending.

    async def terminate(self, id: str, reason: Termination = Termination.LOGOUT) -> Session:
        """End a session; one that has been ended keeps its first reason. Raises `RecordNotFound`."""
        async with self._store.transaction() as transaction:
            sessions = self._store.repo(Session, within=transaction)
            session = await sessions.get_locked(id)
            if session.terminated_at is not None:
                return session
            now = await present(transaction)
            return await sessions.update(replace(session, terminated_at=now, termination=reason))

    async def terminate_all(
        self, user_id: str, reason: Termination = Termination.REVOKED, *, keep: str | None = None
    ) -> int:
        """End all sessions of a user, but the one with the id `keep`; how many were open."""
        async with self._store.transaction() as transaction:
            return await end_sessions_of(self._store, transaction, user_id, reason, keep=keep)

    async def purge(self, *, expired_for: Duration = "0s") -> int:
        """Remove sessions whose time was over so long ago, however they ended; how many.

        In batches, each a transaction of its own: may be interrupted and run again.
        """
        since_us = parse_duration(expired_for) // _MICROSECOND
        removed = 0
        while True:
            rows = await self._store.driver.fetch(
                "sessions.purge", self._store.tenant, since_us, PURGED_AT_ONCE
            )
            removed += len(rows)
            if len(rows) < PURGED_AT_ONCE:
                return removed

    async def _found(self, token: str) -> tuple[Session, datetime, bool]:
        """The session, the present, and whether its user is deleted."""
        rows: list[Row] = []
        if 0 < len(token) <= TOKEN_LENGTH_MAX and token.isascii():
            rows = await self._store.driver.fetch("sessions.by_token", self._store.tenant, _hash(token))
        if not rows:
            raise SessionRefused("there is no such session", reason="unknown")
        *columns, now, is_deleted = rows[0]
        return self._store.repo(Session).mapping.record(columns), moment(now), bool(is_deleted)


def _refuse(session: Session, now: datetime, is_deleted: bool, device: str | None) -> None:
    """Raise for a session that is not good any more, or not here."""
    reasons = {
        "terminated": session.terminated_at is not None,
        "user_deleted": is_deleted,
        "expired": session.expires_at <= now,
        "idle": session.last_seen_at + session.idle_timeout <= now,
        "device": device is not None and session.device is not None
        and not hmac.compare_digest(_bytes(device), _bytes(session.device)),
    }  # fmt: skip
    for reason, holds in reasons.items():
        if holds:
            raise SessionRefused(_CAUSES[reason], reason=reason, id=session.id)


_CAUSES = {
    "terminated": "the session was ended",
    "user_deleted": "the user of the session is deleted",
    "expired": "the session has expired",
    "idle": "nothing was heard of the session for too long",
    "device": "the session belongs to another device",
}


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _hash(token: str) -> bytes:
    # 256 random bits: nothing to be guessed, so no slow or keyed hash is needed.
    return hashlib.sha256(token.encode()).digest()


def _positive(name: str, given: Duration | None, usual: timedelta) -> timedelta:
    length = usual if given is None else parse_duration(given)
    if length <= timedelta(0):
        raise InvalidArgument(f"{name} {length} is not more than nothing", where=name)
    return length

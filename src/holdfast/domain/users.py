"""Users: who may come in, with which password, and when an account is locked.

A login is decided in one transaction that holds the user's row, by the database's clock; the hash is computed
before it, outside of it. So of many guesses at once no more count than the policy allows, whoever asks and on
how many hosts. What a failed login answers, and when, is the same for a wrong password, an unknown e-mail and
a locked account.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from holdfast.domain.clock import present
from holdfast.domain.ending_sessions import end_sessions_of
from holdfast.domain.passwords import HashCost, Passwords
from holdfast.errors import (
    ConstraintViolated,
    EmailTaken,
    InvalidArgument,
    LoginRefused,
    RecordNotFound,
)
from holdfast.records.identity import Role, Termination, User, email_key
from holdfast.store.drivers.base import Transaction
from holdfast.store.store import Store

EMAIL_BYTES_MAX = 255
_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPolicy:
    """How strict logins are.

    After `failures` wrong passwords in a row an account is locked for `locked_for`; then it starts from
    nothing. A refusal is told no sooner than `refuse_after` from the question on, so that its time tells
    nothing: it has to be more than a hash and two transactions take.
    """

    failures: int = 5
    locked_for: timedelta = timedelta(minutes=15)
    shortest_password: int = 8
    refuse_after: timedelta = timedelta(seconds=1)
    cost: HashCost = field(default_factory=HashCost)


def after_failure(user: User, policy: LoginPolicy, now: datetime) -> User:
    """The user after one more wrong password; one whose lock has run out starts from nothing."""
    failed = 1 if user.locked_until is not None else user.failed_logins + 1
    locked_until = now + policy.locked_for if failed >= policy.failures else None
    return replace(user, failed_logins=failed, locked_until=locked_until)


def is_locked(user: User, now: datetime) -> bool:
    """Whether no password lets the user in."""
    return user.locked_until is not None and user.locked_until > now


class Users:
    """The users of a store's tenant. Reading by query and page: `store.repo(User)`."""

    def __init__(self, store: Store, policy: LoginPolicy | None = None) -> None:
        self._store = store
        self._policy = policy or LoginPolicy()
        self._passwords = Passwords(self._policy.cost, shortest=self._policy.shortest_password)

    # Accounts.

    async def create(
        self,
        email: str,
        *,
        password: str | None = None,
        name: str = "",
        role: Role = Role.USER,
        preferences: dict[str, Any] | None = None,
        id: str | None = None,
    ) -> User:
        """A new user; without a password nobody can log in with one.

        Raises `EmailTaken`, `RecordExists` for the id, `InvalidArgument`.
        """
        hashed = None if password is None else await self._passwords.hash(password)
        since = None if hashed is None else await present(self._store.driver)
        given: dict[str, Any] = {} if id is None else {"id": id}
        user = User(
            email=checked_email(email), name=name, role=Role(role), password_hash=hashed,
            password_changed_at=since, preferences=preferences or {}, **given,
        )  # fmt: skip
        try:
            return await self._store.repo(User).create(user)
        except ConstraintViolated as error:
            await self._refuse_taken(user, error)
            raise

    async def by_email(self, email: str) -> User | None:
        """The user with this e-mail, however it is capitalised; None if there is none."""
        found = await self._look_up(email)
        return None if found is None else await self._store.repo(User).find_by_id(found[0])

    async def change_email(self, id: str, email: str) -> User:
        """Give a user another e-mail. Raises `EmailTaken`, `RecordNotFound`, `InvalidArgument`."""
        checked = checked_email(email)
        try:
            async with self._store.transaction() as transaction:
                user = replace(await self._locked(transaction, id), email=checked)
                return await self._update(transaction, user)
        except ConstraintViolated as error:
            await self._refuse_taken(user, error)
            raise

    async def set_role(self, id: str, role: Role) -> User:
        """Give a user another role. Raises `RecordNotFound`."""
        async with self._store.transaction() as transaction:
            user = await self._locked(transaction, id)
            return await self._update(transaction, replace(user, role=Role(role)))

    async def delete(self, id: str) -> None:
        """Mark a user as deleted and end all their sessions; their API keys are refused from now on.

        The e-mail is free for others. Raises `RecordNotFound`.
        """
        async with self._store.transaction() as transaction:
            await self._locked(transaction, id)
            await self._store.repo(User, within=transaction).delete(id)
            await end_sessions_of(self._store, transaction, id, Termination.USER_DELETED)

    async def restore(self, id: str) -> User:
        """Take a deletion back; API keys work again, sessions stay ended.

        Raises `EmailTaken` if somebody else has the e-mail now, and `RecordNotFound`.
        """
        try:
            return await self._store.repo(User).restore(id)
        except ConstraintViolated as error:
            raise EmailTaken(f"the e-mail of user {id!r} belongs to another user now", id=id) from error

    # Logging in.

    async def verify(self, email: str, password: str) -> User:
        """The user who proved with a password who they are; failures are forgotten then.

        Raises `LoginRefused` for an unknown e-mail, a wrong password and a locked account alike. A hash that
        was made at another cost is replaced.
        """
        asked_at = time.monotonic()
        user = await self._decide(email, password)
        if user is None:
            left_s = self._policy.refuse_after.total_seconds() - (time.monotonic() - asked_at)
            await asyncio.sleep(max(left_s, 0.0))
            raise LoginRefused("e-mail and password do not belong together, or the account is locked")
        return user

    async def change_password(
        self, id: str, current: str, new: str, *, end_sessions: bool = True, keep_session: str | None = None
    ) -> User:
        """Replace a password by whoever knows it; ends the other sessions.

        A wrong `current` counts as a failed login. Raises `LoginRefused`, `RecordNotFound`,
        `InvalidArgument`.
        """
        user = await self._store.repo(User).get(id)
        await self.verify(user.email, current)
        return await self.set_password(id, new, end_sessions=end_sessions, keep_session=keep_session)

    async def set_password(
        self, id: str, password: str, *, end_sessions: bool = True, keep_session: str | None = None
    ) -> User:
        """Give a user a password, whatever there was before, and open the account.

        Ends all sessions but `keep_session`, in the same transaction; with `end_sessions` false none. Raises
        `RecordNotFound`, `InvalidArgument`.
        """
        hashed = await self._passwords.hash(password)
        async with self._store.transaction() as transaction:
            user = await self._locked(transaction, id)
            now = await present(transaction)
            if end_sessions:
                await end_sessions_of(
                    self._store, transaction, id, Termination.PASSWORD_CHANGED, keep=keep_session
                )
            return await self._update(
                transaction,
                replace(
                    user, password_hash=hashed, password_changed_at=now, failed_logins=0, locked_until=None
                ),
            )

    async def unlock(self, id: str) -> User:
        """Open a locked account and forget its failed logins. Raises `RecordNotFound`."""
        async with self._store.transaction() as transaction:
            user = await self._locked(transaction, id)
            return await self._update(transaction, replace(user, failed_logins=0, locked_until=None))

    # Inside.

    async def _decide(self, email: str, password: str) -> User | None:
        """The outcome of a login; None: refused."""
        for _ in range(_LOOKS):
            found = await self._look_up(email)
            id, stored = (None, None) if found is None else found
            right = await self._passwords.matches(password, stored)
            if id is None or stored is None:
                return None
            renewed = None
            if right and self._passwords.is_outdated(stored):
                renewed = await self._passwords.hash_again(password)
            is_settled, user = await self._settle(id, stored, right, renewed)
            if is_settled:
                return user
        return None

    async def _settle(
        self, id: str, stored: str, right: bool, renewed: str | None
    ) -> tuple[bool, User | None]:
        """Count a failure or let the user in; false: the password is another one than was looked at."""
        async with self._store.transaction() as transaction:
            try:
                user = await self._locked(transaction, id)
            except RecordNotFound:  # deleted in the meantime
                return True, None
            now = await present(transaction)
            if is_locked(user, now):
                return True, None
            if user.password_hash != stored:
                return False, None
            if not right:
                # Returned, not raised: leaving the block by an exception would undo the count.
                await self._update(transaction, after_failure(user, self._policy, now))
                return True, None
            user = replace(user, failed_logins=0, locked_until=None, last_login_at=now)
            return True, await self._update(transaction, replace(user, password_hash=renewed or stored))

    async def _look_up(self, email: str) -> tuple[str, str | None] | None:
        if not _is_text(email):
            return None
        rows = await self._store.driver.fetch("users.by_email", self._store.tenant, email_key(email))
        return (rows[0][0], rows[0][1]) if rows else None

    async def _locked(self, transaction: Transaction, id: str) -> User:
        return await self._store.repo(User, within=transaction).get_locked(id)

    async def _update(self, transaction: Transaction, user: User) -> User:
        return await self._store.repo(User, within=transaction).update(user)

    async def _refuse_taken(self, user: User, error: ConstraintViolated) -> None:
        """Raise `EmailTaken` if that is why a user could not be written."""
        found = await self._look_up(user.email)
        if found is not None and found[0] != user.id:
            raise EmailTaken("another user has this e-mail", id=found[0]) from error


def _is_text(value: str) -> bool:
    """Whether a database can be asked for it."""
    return "\0" not in value and value.isprintable()


def checked_email(email: str) -> str:
    """An e-mail as it is stored. Raises `InvalidArgument`; whether mail arrives there is not looked at."""
    before, at, behind = email.rpartition("@")
    sizes = (len(each.encode(errors="replace")) for each in (email, email_key(email)))
    if not (before and at and behind) or not _is_text(email) or " " in email or max(sizes) > EMAIL_BYTES_MAX:
        raise InvalidArgument(
            f"{email[:80]!r} is not an e-mail address",
            where="email",
            fix=f"write it as NAME@HOST, without spaces, in at most {EMAIL_BYTES_MAX} bytes",
        )
    return email

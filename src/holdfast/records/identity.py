"""Who uses a platform: users, their API keys, their sessions, and what they have achieved.

No secret stands here in a form that lets anybody in: passwords, tokens and keys are hashes, the secret of the
second factor is encrypted. The verbs are in `holdfast.domain`.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, SoftRecord, field, record


class Role(StrEnum):
    """What a user is to the platform."""

    ADMIN = "admin"
    OPERATOR = "operator"
    USER = "user"
    VIEWER = "viewer"


class Termination(StrEnum):
    """Why a session was ended before its time."""

    LOGOUT = "logout"
    REVOKED = "revoked"  # by somebody else
    PASSWORD_CHANGED = "password_changed"
    USER_DELETED = "user_deleted"


def email_key(email: str) -> str:
    """The form in which e-mails are compared: `Ana@Example.com` and `ana@example.com` are the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).casefold())


@record(table="users")
class User(SoftRecord):
    """One person. The e-mail is unique among the users of a tenant who are not deleted.

    `email_key` follows from `email`, whatever is given for it. `password_hash` and `mfa_secret` are made and
    read by their services alone.
    """

    email: str = field(personal=True)
    email_key: str = field(default="", personal=True, filter=None)
    name: str = field(default="", personal=True)
    role: Role = Role.USER
    password_hash: str | None = field(default=None, secret=True)
    password_changed_at: datetime | None = None
    mfa_secret: str | None = field(default=None, secret=True)
    failed_logins: int = 0
    locked_until: datetime | None = None
    last_login_at: datetime | None = field(default=None, filter="last_login")
    preferences: dict[str, Any] = field(default_factory=dict, personal=True)

    def __post_init__(self) -> None:
        if isinstance(self.email, str):  # what else it may be is refused when it is stored
            object.__setattr__(self, "email_key", email_key(self.email))


@record(table="api_keys")
class ApiKey(Record):
    """A key that a program shows instead of a password. `prefix` names it, in lists and in the key itself."""

    user_id: str = field(filter="user", immutable=True)
    name: str = field()
    prefix: str = field(immutable=True)
    hash: str = field(secret=True)
    scopes: tuple[str, ...] = field(default=(), filter="scope")
    expires_at: datetime | None = field(default=None, filter="expires")
    last_used_at: datetime | None = field(default=None, filter="last_used")
    revoked_at: datetime | None = field(default=None, filter="revoked")


@record(table="sessions")
class Session(Record):
    """Somebody's stay: it ends at `expires_at`, when nothing is heard for `idle_timeout`, or by word.

    `last_seen_at` is exact to the interval at which it is written; see `SessionPolicy`.
    """

    user_id: str = field(filter="user", immutable=True)
    token_hash: bytes = field(secret=True)
    device: str | None = field(default=None, personal=True)
    ip: str | None = field(default=None, personal=True)
    user_agent: str | None = field(default=None, personal=True, filter=None)
    context: dict[str, Any] = field(default_factory=dict)
    expires_at: datetime = field(filter="expires")
    idle_timeout: timedelta = field(default=timedelta(minutes=30), filter=None)
    last_seen_at: datetime = field(filter="last_seen")
    terminated_at: datetime | None = field(default=None, filter="terminated")
    termination: Termination | None = None


@record(table="achievements")
class Achievement(Record):
    """How far somebody has come with one thing, from 0 to 1; earned at 1, once and for all.

    The holder is a user, an agent or whatever else a platform gives achievements to.
    """

    holder: str = field(immutable=True)
    key: str = field(immutable=True)
    title: str = field()
    progress: float = 0.0
    earned_at: datetime | None = field(default=None, filter="earned")

"""API keys: shown once, stored as a keyed hash, found by their prefix.

A key is `hf_PREFIX_SECRET`: twelve hexadecimal digits that name it, then 32 random bytes and a checksum, so
that a mistyped one is refused without asking the database. A hash of so many random bits needs no slow
function; the pepper, a key that is not in the database, makes a stolen table worthless for guessing.
"""

from __future__ import annotations

import base64
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from holdfast.config.secrets import Secret
from holdfast.domain.clock import present
from holdfast.domain.keyrings import Keyring
from holdfast.durations import Duration, parse_duration
from holdfast.errors import ApiKeyRefused, InvalidArgument
from holdfast.records.identity import ApiKey, User
from holdfast.store.drivers.base import Row
from holdfast.store.rows import moment
from holdfast.store.store import Store

USED_EVERY = timedelta(minutes=1)
"""How exact `last_used_at` is."""
_MICROSECOND = timedelta(microseconds=1)
_SECRET_BYTES = 32
_FORM = re.compile(r"hf_([0-9a-f]{12})_([A-Za-z0-9_-]{48})")
_NOTHING = "sha256." + "0" * 64


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made. `secret` is shown to its owner now and never again."""

    key: ApiKey
    secret: Secret


class ApiKeys:
    """The API keys of a store's tenant. Reading by query and page: `store.repo(ApiKey)`."""

    def __init__(self, store: Store, peppers: Keyring | None = None) -> None:
        self._store = store
        self._peppers = peppers or Keyring()

    async def create(
        self, user_id: str, name: str, *, scopes: Sequence[str] = (), expires_in: Duration | None = None
    ) -> NewApiKey:
        """A new key for a user. Raises `RecordNotFound` for the user, `InvalidArgument`."""
        if not name.strip():
            raise InvalidArgument("a key needs a name to be known by", where="name")
        await self._store.repo(User).get(user_id)
        expires_at = None
        if expires_in is not None:
            expires_at = await present(self._store.driver) + _positive(parse_duration(expires_in))
        prefix, secret = secrets.token_hex(6), secrets.token_bytes(_SECRET_BYTES)
        key = ApiKey(
            user_id=user_id, name=name, prefix=prefix, hash=self._peppers.digest(secret),
            scopes=tuple(dict.fromkeys(scopes)), expires_at=expires_at,
        )  # fmt: skip
        made = await self._store.repo(ApiKey).create(key)
        return NewApiKey(made, Secret(f"hf_{prefix}_{_written(secret, prefix)}"))

    async def authenticate(self, text: str) -> ApiKey:
        """The key that was shown; its scopes are the caller's to check.

        Raises `ApiKeyRefused` for one that is unknown, revoked or expired, or whose user is deleted, and
        `KeyMissing` if its hash needs a pepper that was not given. Looks into the database each time: a
        revocation counts at once. `last_used_at` is written once in `USED_EVERY` at most.
        """
        prefix, secret = _read(text)
        rows = await self._store.driver.fetch("api_keys.by_prefix", self._store.tenant, prefix)
        for row in rows:
            key, now, is_deleted = self._key(row)
            if self._peppers.matches(secret, key.hash):
                _refuse(key, now, is_deleted)
                return await self._used(key, secret, now)
        self._peppers.matches(secret, _NOTHING)
        raise ApiKeyRefused("there is no such API key", reason="unknown")

    async def revoke(self, id: str) -> ApiKey:
        """Refuse a key from now on; one that is revoked already stays as it is. Raises `RecordNotFound`."""
        async with self._store.transaction() as transaction:
            keys = self._store.repo(ApiKey, within=transaction)
            key = await keys.get_locked(id)
            if key.revoked_at is not None:
                return key
            return await keys.update(replace(key, revoked_at=await present(transaction)))

    async def _used(self, key: ApiKey, secret: bytes, now: datetime) -> ApiKey:
        if key.last_used_at is not None and now - key.last_used_at < USED_EVERY:
            return key
        # A hash that was made with another pepper, or with none, is made anew while the key is at hand.
        renewed = None if self._peppers.digests_newest(key.hash) else self._peppers.digest(secret)
        rows = await self._store.driver.fetch(
            "api_keys.used", self._store.tenant, key.id, USED_EVERY // _MICROSECOND, renewed
        )
        if not rows:
            return key
        revision, used_at, updated_at = rows[0]
        return replace(
            key, hash=renewed or key.hash, revision=revision, last_used_at=moment(used_at),
            updated_at=moment(updated_at),
        )  # fmt: skip

    def _key(self, row: Row) -> tuple[ApiKey, datetime, bool]:
        *columns, now, is_deleted = row
        return self._store.repo(ApiKey).mapping.record(columns), moment(now), bool(is_deleted)


def _refuse(key: ApiKey, now: datetime, is_deleted: bool) -> None:
    """Raise for a key that is right, and not good any more."""
    if key.revoked_at is not None:
        raise ApiKeyRefused(f"the API key {key.prefix} is revoked", reason="revoked", id=key.id)
    if key.expires_at is not None and key.expires_at <= now:
        raise ApiKeyRefused(f"the API key {key.prefix} has expired", reason="expired", id=key.id)
    if is_deleted:
        raise ApiKeyRefused(
            f"the user of the API key {key.prefix} is deleted", reason="user_deleted", id=key.id
        )


def _positive(length: timedelta) -> timedelta:
    if length <= timedelta(0):
        raise InvalidArgument("a key can not expire before it is made", where="expires_in")
    return length


def _written(secret: bytes, prefix: str) -> str:
    """Secret and checksum as they stand in a key."""
    return base64.urlsafe_b64encode(secret + _checksum(secret, prefix)).decode()


def _checksum(secret: bytes, prefix: str) -> bytes:
    return zlib.crc32(prefix.encode() + secret).to_bytes(4, "big")


def _read(text: str) -> tuple[str, bytes]:
    """Prefix and secret of a key. Raises `ApiKeyRefused` for what is none, without repeating it."""
    match = _FORM.fullmatch(text)
    data = base64.urlsafe_b64decode(match[2]) if match else b""
    if match is None or data[_SECRET_BYTES:] != _checksum(data[:_SECRET_BYTES], match[1]):
        raise ApiKeyRefused("this is no API key, or it was not copied whole", reason="unknown")
    return match[1], data[:_SECRET_BYTES]

"""The secret of a user's second factor: stored encrypted, bound to its user, refused without a key."""

from __future__ import annotations

from dataclasses import replace

from holdfast.config.secrets import Secret
from holdfast.domain.keyrings import Keyring
from holdfast.errors import InvalidArgument
from holdfast.records.identity import User
from holdfast.store.store import Store

_BATCH = 200
_LENGTH_MAX = 1024


class MfaSecrets:
    """Sets and reads the secrets; checking a code against one is the caller's.

    Every verb raises `KeyMissing` without the key it needs.
    """

    def __init__(self, store: Store, keys: Keyring) -> None:
        self._store = store
        self._keys = keys

    async def set(self, user_id: str, secret: str) -> None:
        """Store a secret in place of the one there may be. Raises `RecordNotFound`, `InvalidArgument`."""
        if not 0 < len(secret) <= _LENGTH_MAX:
            raise InvalidArgument(f"the secret does not have 1 to {_LENGTH_MAX} characters", where="secret")
        sealed = self._keys.seal(secret, bound_to=self._place(user_id))
        await self._write(user_id, sealed)

    async def secret(self, user_id: str) -> Secret | None:
        """The secret; None if the user has no second factor. Raises `RecordNotFound`, `SealBroken`."""
        user = await self._store.repo(User).get(user_id)
        if user.mfa_secret is None:
            return None
        return Secret(self._keys.open(user.mfa_secret, bound_to=self._place(user_id)))

    async def remove(self, user_id: str) -> None:
        """Take the second factor away. Raises `RecordNotFound`."""
        await self._write(user_id, None)

    async def rotate(self) -> int:
        """Encrypt anew, by the newest key, what older keys have encrypted; how many there were.

        Deleted users are among them. Afterwards the older keys are not needed any more. May be interrupted
        and run again at any time. Raises `SealBroken` at one that does not open; those before it are done.
        """
        behind, done = "", 0
        while True:
            rows = await self._store.driver.fetch("users.with_mfa", self._store.tenant, behind, _BATCH)
            for id, sealed in rows:
                if not self._keys.is_newest(sealed):
                    done += await self._reseal(id, sealed)
            if len(rows) < _BATCH:
                return done
            behind = rows[-1][0]

    async def _reseal(self, id: str, sealed: str) -> int:
        place = self._place(id)
        renewed = self._keys.seal(self._keys.open(sealed, bound_to=place), bound_to=place)
        return len(await self._store.driver.fetch("users.reseal", self._store.tenant, id, sealed, renewed))

    async def _write(self, user_id: str, sealed: str | None) -> None:
        async with self._store.transaction() as transaction:
            users = self._store.repo(User, within=transaction)
            await users.update(replace(await users.get_locked(user_id), mfa_secret=sealed))

    def _place(self, user_id: str) -> tuple[str, ...]:
        return (self._store.tenant, "users", user_id, "mfa_secret")

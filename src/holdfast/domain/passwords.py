"""Passwords: hashed with argon2id in a thread, few at a time, and compared without telling who exists.

A hash takes tens of megabytes and a good part of a second by design, so it never runs on the event loop, and
no more than `HASHES_AT_ONCE` run in a process.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.errors import DamagedData, InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from argon2 import PasswordHasher

HASHES_AT_ONCE = 4
PASSWORD_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HashCost:
    """What one hash costs, by the parameters of argon2id; the defaults are RFC 9106's for little memory."""

    passes: int = 3
    memory_kib: int = 65_536
    lanes: int = 4


class Passwords:
    """Makes and checks the hashes of passwords."""

    def __init__(self, cost: HashCost, *, shortest: int) -> None:
        self._cost = cost
        self._shortest = shortest
        self._places = asyncio.Semaphore(HASHES_AT_ONCE)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """The hash of a new password. Raises `InvalidArgument` for one of the wrong length, or no text."""
        text = self._given(password)
        if text is None or len(password) < self._shortest:
            raise InvalidArgument(
                f"the password does not have {self._shortest} characters to {PASSWORD_BYTES_MAX} bytes",
                where="password",
                fix="choose a longer one, such as four random words",
            )
        return await self._hashed(text)

    async def hash_again(self, password: str) -> str | None:
        """The hash of a password that is right, at today's cost, whatever length is asked for by now."""
        text = self._given(password)
        return None if text is None else await self._hashed(text)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether this is the password behind a hash. Without a hash it takes as long, and is none."""
        if self._decoy is None:
            self._decoy = await self._hashed(secrets.token_bytes(32))
        text = self._given(password)
        right = await self._verified(stored or self._decoy, b"" if text is None else text)
        return right and stored is not None and text is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made at another cost than is asked for now."""
        return self._hasher().check_needs_rehash(stored)

    async def _hashed(self, text: bytes) -> str:
        async with self._places:
            return await asyncio.to_thread(self._hasher().hash, text)

    async def _verified(self, stored: str, text: bytes) -> bool:
        async with self._places:
            return await asyncio.to_thread(_verify, self._hasher(), stored, text)

    def _hasher(self) -> PasswordHasher:
        try:
            from argon2 import PasswordHasher
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"passwords need the package {error.name}", fix='pip install "holdfast[identity]"'
            ) from error
        cost = self._cost
        return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)

    def _given(self, password: str) -> bytes | None:
        """The bytes that are hashed, however a keyboard composes letters. None: no password at all."""
        try:
            text = unicodedata.normalize("NFC", password).encode()
        except UnicodeEncodeError:
            return None
        return text if 0 < len(text) <= PASSWORD_BYTES_MAX else None


def _verify(hasher: PasswordHasher, stored: str, text: bytes) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

    try:
        return hasher.verify(stored, text)
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        raise DamagedData("a stored password hash can not be read", fix="set the password anew") from error

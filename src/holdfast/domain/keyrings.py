"""Keys that the program holds and the database does not: for encrypting secrets and for keyed hashes.

A keyring has several keys by their ids; the last one is used for what is written, and every one for what is
read, so that keys can be changed without a moment at which something can not be read.

An encrypted value is the text `v1.KEY.DATA`: the id of its key, then nonce, ciphertext and tag in base64.
AES-256-GCM binds it to the tenant, table, row and column it was made for: moved elsewhere it does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from holdfast.config.secrets import Secret
from holdfast.errors import InvalidArgument, KeyMissing, MissingExtra, SealBroken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = "v1"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Keyring:
    """Keys by id, oldest first; the last one writes. Shown without the keys."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        for id, key in (keys or {}).items():
            if not _ID.fullmatch(id):
                raise InvalidArgument(
                    f"{id[:80]!r} can not be the id of a key", fix="use up to 64 letters, digits, _ and -"
                )
            if len(key) != KEY_BYTES:
                raise InvalidArgument(
                    f"the key {id!r} has {len(key)} bytes and needs {KEY_BYTES}", fix="see `Keyring.new_key`"
                )
        self._keys = dict(keys or {})

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """`ID:BASE64`, several separated by commas. Raises `InvalidArgument`, without the text."""
        keys: dict[str, bytes] = {}
        for number, part in enumerate(filter(None, (each.strip() for each in text.split(","))), 1):
            id, colon, encoded = part.partition(":")
            try:
                key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not colon or not key or id in keys:
                raise InvalidArgument(
                    f"key {number} of the keyring is not ID:BASE64, or its id stands twice",
                    fix="make one with `Keyring.new_key`",
                )
            keys[id] = key
        return cls(keys)

    @staticmethod
    def new_key(id: str) -> str:
        """A new random key as `parse` reads it."""
        return f"{id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its keys, oldest first."""
        return tuple(self._keys)

    @property
    def newest(self) -> str:
        """The id of the key that writes. Raises `KeyMissing` if there is none."""
        if not self._keys:
            raise KeyMissing("there is no key to write a secret with")
        return list(self._keys)[-1]

    def key(self, id: str) -> bytes:
        """The key with this id. Raises `KeyMissing`."""
        if id not in self._keys:
            raise KeyMissing(f"the key {id[:64]!r} is not among those that were given", key=id[:64])
        return self._keys[id]

    # Encryption.

    def seal(self, text: str, *, bound_to: tuple[str, ...]) -> str:
        """`text` encrypted by the newest key, to be opened at the same place only. Raises `KeyMissing`."""
        id, nonce = self.newest, secrets.token_bytes(_NONCE_BYTES)
        try:
            plain = text.encode()
        except UnicodeEncodeError:
            plain = None  # the error would carry the secret with it
        if plain is None:
            raise InvalidArgument("a secret holds half of a surrogate pair", where="/".join(bound_to))
        box = _cipher(self.key(id)).encrypt(nonce, plain, _associated(bound_to, id))
        return f"{_VERSION}.{id}.{base64.urlsafe_b64encode(nonce + box).decode()}"

    def open(self, sealed: str, *, bound_to: tuple[str, ...]) -> str:
        """What `seal` was given. Raises `KeyMissing`, and `SealBroken` for anything but its answer."""
        version, _, rest = sealed.partition(".")
        id, _, encoded = rest.partition(".")
        cipher = _cipher(self.key(id))
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.b64decode(encoded, altchars=b"-_", validate=True)
            if version != _VERSION or len(data) <= _NONCE_BYTES:
                raise ValueError("not a sealed value")
            nonce, box = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return cipher.decrypt(nonce, box, _associated(bound_to, id)).decode()
        except (InvalidTag, ValueError) as error:
            place = "/".join(bound_to)
            raise SealBroken("an encrypted value does not open", where=place) from error

    def is_newest(self, sealed: str) -> bool:
        """Whether a value was sealed by the key that writes."""
        return sealed.startswith(f"{_VERSION}.{self.newest}.")

    # Keyed hashes.

    def digest(self, secret: bytes) -> str:
        """The hash under which a random secret is stored: keyed by the newest key, if there is one."""
        if not self._keys:
            return f"sha256.{hashlib.sha256(secret).hexdigest()}"
        return f"hmac-sha256.{self.newest}.{self._keyed(secret, self.newest)}"

    def matches(self, secret: bytes, digest: str) -> bool:
        """Whether `digest` is the hash of `secret`, in constant time. Raises `KeyMissing`."""
        scheme, _, rest = digest.partition(".")
        if scheme == "sha256":
            return hmac.compare_digest(hashlib.sha256(secret).hexdigest(), rest)
        id, _, wanted = rest.partition(".")
        return scheme == "hmac-sha256" and hmac.compare_digest(self._keyed(secret, id), wanted)

    def digests_newest(self, digest: str) -> bool:
        """Whether a hash was made the way `digest` makes them now."""
        scheme = f"hmac-sha256.{self.newest}." if self._keys else "sha256."
        return digest.startswith(scheme)

    def _keyed(self, secret: bytes, id: str) -> str:
        return hmac.new(self.key(id), secret, hashlib.sha256).hexdigest()


def keyring_of(setting: Secret | None) -> Keyring:
    """The keyring in a setting; an empty one if it is not set. Raises `InvalidArgument`."""
    return Keyring() if setting is None else Keyring.parse(setting.reveal())


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"encrypting secrets needs the package {error.name}", fix='pip install "holdfast[identity]"'
        ) from error
    return AESGCM(key)


def _associated(bound_to: tuple[str, ...], id: str) -> bytes:
    # JSON keeps the parts apart: ("ab", "c") and ("a", "bc") are different places.
    return json.dumps(["holdfast", *bound_to, id], ensure_ascii=False).encode()

"""HF5xxx: who asks could not prove who they are; and what passwords, keys and secrets need.

None of these says a secret, and what an attacker could learn from is the same for every cause.
"""

from __future__ import annotations

from holdfast.errors.root import Conflict, DamagedData, HoldfastError, Misuse


class Refused(HoldfastError):
    """Who asks has not proved who they are; the same proof will not do the next time either."""

    code = "HF5000"
    default_fix = "prove who you are anew"


class LoginRefused(Refused):
    """No user has this e-mail with this password, or the account is locked; which of it is not told."""

    code = "HF5001"
    default_fix = "check both; a locked account opens by itself after a while, or: holdfast users unlock ID"


class ApiKeyRefused(Refused):
    """An API key is unknown, revoked or expired, or its user is deleted; `details['reason']` says which."""

    code = "HF5002"
    default_fix = "use another key, or make a new one: holdfast api-keys create"


class SessionRefused(Refused):
    """A session is unknown, over, or another device's; `details['reason']` says which."""

    code = "HF5003"
    default_fix = "log in again"


class EmailTaken(Conflict):
    """Another user of the tenant has this e-mail, however it is capitalised."""

    code = "HF4061"
    default_fix = "choose another e-mail, or delete or rename the user who has it"


class KeyMissing(Misuse):
    """The key that a secret is to be encrypted, decrypted or hashed with was not given."""

    code = "HF1120"
    default_fix = (
        "set security.encryption_key (HOLDFAST_ENCRYPTION_KEY) or security.api_key_pepper to ID:BASE64"
    )


class SealBroken(DamagedData):
    """An encrypted value does not open: it was changed, moved, or sealed with another key."""

    code = "HF6020"
    default_fix = "set the secret anew; if it happens to many, check that the keys are the right ones"

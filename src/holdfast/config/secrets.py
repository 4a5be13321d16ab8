"""Values that must not be shown: passwords, and URLs that carry them.

A secret gives its text only to `reveal()`. Everything that shows values by accident (`str`, `repr`,
formatting, `dataclasses.asdict`) gets `***`; everything that would carry it away (pickle, JSON) fails.
`redact_url` is the one place that knows how to take secrets out of a text, `redact_whole` out of a URL
that may be wrong.
"""

from __future__ import annotations

import re
from typing import NoReturn

HIDDEN = "***"
_SECRET_WORDS = "password|passwd|pwd|sslpassword|token|secret|api_?key|direct_url"
# Greedy up to the last `@`: a password with an unescaped `@`, `/` or `#` must not be shown in part.
_USERINFO = re.compile(r"(://[^\s/?#:@]*):[^\s]*@")
_PARAMETER = re.compile(rf"(?i)\b({_SECRET_WORDS})=[^\s&;]+")


def redact_url(text: str) -> str:
    """`text` with the passwords of all URLs and `password=…` parameters in it replaced by `***`."""
    return _PARAMETER.sub(rf"\1={HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", text))


def redact_whole(text: str) -> str:
    """`text`, which is meant to be one URL, without its password, however malformed it is."""
    userinfo, at, place = text.rpartition("@")
    scheme, separator, rest = userinfo.partition("://")
    user, colon, _ = (rest if separator else userinfo).partition(":")
    if at and colon:
        text = f"{scheme}{separator}{user}:{HIDDEN}@{place}" if separator else f"{user}:{HIDDEN}@{place}"
    return redact_url(text)


class Secret:
    """A text that is shown as `***`. Equal secrets are equal; there is no order, no length, no JSON."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._text

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((type(self), self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: pass the configuration's source instead")


class SecretUrl(Secret):
    """A URL that is shown without its password."""

    __slots__ = ()

    def __str__(self) -> str:
        return redact_whole(self._text)

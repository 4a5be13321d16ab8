"""Words as full-text search sees them: the same on every database, since they are cut here.

Databases cut text into words in ways of their own: some drop short words, some fold accents, some split at an
underscore. So what they index is made here: words in lower case, in letters and digits of ASCII; every other
word is spelled in hexadecimal, which nobody but the index sees.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_WORD = re.compile(r"\w+")
_LENGTH_MAX = 60


def words_of(text: str) -> Iterator[str]:
    """The words of a text, in order: compatibility forms and case folded, nothing stemmed or left out."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    for found in _WORD.finditer(folded):
        for part in found[0].split("_"):
            if part:
                word = part if part.isascii() else f"x{part.encode().hex()}"
                yield word[:_LENGTH_MAX]

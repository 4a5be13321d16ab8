"""File names for ids: readable, reversible, and never two ids for one file, whatever the file system folds.

Lower-case letters, digits, `_`, `-` and inner dots stand for themselves; every other byte is `%` and two
digits. So names differ also where upper and lower case do not, and none is special to any system.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_PLAIN = re.compile(rb"[a-z0-9_-]")
_DOT = ord(".")
_LENGTH_MAX = 180
_CUT = "~"
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)")


def file_name(id: str) -> str:
    """The name of an id, without an extension. A long one is cut and told apart by a digest."""
    spelled = "".join(_spell(byte, place, id) for place, byte in enumerate(id.encode()))
    if _RESERVED.match(spelled):
        spelled = f"%{ord(spelled[0]):02x}{spelled[1:]}"
    if len(spelled) <= _LENGTH_MAX:
        return spelled or "%"
    digest = hashlib.blake2b(id.encode(), digest_size=16).hexdigest()
    return f"{spelled[: _LENGTH_MAX - 40].rstrip('%')}{_CUT}{digest}"


def joined_name(parts: Iterable[str]) -> str:
    """The name of a document whose key has several parts, each spelled; cut like that of a long id."""
    spelled = "=".join(parts)
    if len(spelled) <= _LENGTH_MAX:
        return spelled
    digest = hashlib.blake2b(spelled.encode(), digest_size=16).hexdigest()
    return f"{spelled[: _LENGTH_MAX - 40].rstrip('%')}{_CUT}{digest}"


def _spell(byte: int, place: int, id: str) -> str:
    inner_dot = byte == _DOT and 0 < place < len(id.encode()) - 1
    return chr(byte) if inner_dot or _PLAIN.match(bytes([byte])) else f"%{byte:02x}"


def id_of(name: str) -> str | None:
    """The id that a name stands for; None for a name that was cut, or that `file_name` did not make."""
    if _CUT in name:
        return None
    try:
        id = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), name.encode()).decode()
    except UnicodeDecodeError:
        return None
    if name == "%":
        id = ""
    return id if file_name(id) == name else None

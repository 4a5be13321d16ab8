"""A canary in the passwords of the tests: what the suites print, log and leave behind is searched for it.

The private servers of a test run have long random passwords, which stand in the URL of every store on them.
Whatever shows one of these words has shown a password. `Shell` searches what a command prints, the hooks in
`conftest.py` what a test has printed and logged, and the files that the program made in the test's folder.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

CANARY = "kanarienvogel-Zq7"
"""A password for tests that name one; long and odd enough to mean nothing else."""

_SERVERS = ("HOLDFAST_TEST_POSTGRES_URL", "HOLDFAST_TEST_MYSQL_URL", "HOLDFAST_TEST_PGBOUNCER_URL")
_SHORTEST = 12  # a shorter password of somebody's own server may be an ordinary word
_LARGEST_BYTES = 16 << 20
_MADE_HERE = {".db", ".db-wal", ".log", ".jsonl", ".gz"}


def words() -> tuple[str, ...]:
    """The passwords in use, as they are and as a URL spells them."""
    found = {CANARY: None}
    for name in _SERVERS:
        password = unquote(urlsplit(os.environ.get(name, "")).password or "")
        if len(password) >= _SHORTEST:
            found |= {password: None, quote(password, safe=""): None}
    return tuple(found)


def is_in(text: str) -> bool:
    """Whether one of the passwords stands in `text`."""
    return any(word in text for word in words())


def search(text: str, where: str) -> None:
    """Fail if one of the passwords stands in `text`; the text itself is not shown again."""
    assert not is_in(text), f"a password of the tests stands in {where}"


def files_with_it(folder: Path) -> Iterator[Path]:
    """The files below `folder` that the program made and that have one of the passwords in them."""
    wanted = [word.encode() for word in words()]
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may be gone in the meantime
            if _is_made_by_us(path, folder) and any(word in _content(path) for word in wanted):
                yield path


def _is_made_by_us(path: Path, folder: Path) -> bool:
    """Tests write URLs into configuration files and programs of their own; those are not looked at."""
    inside = ".holdfast" in path.relative_to(folder).parts
    return (inside or path.suffix in _MADE_HERE) and path.is_file() and path.stat().st_size < _LARGEST_BYTES


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        with suppress(OSError, EOFError, zlib.error):
            return gzip.decompress(data)
    return data

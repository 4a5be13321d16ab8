"""Named SQL statements, one file per subject and dialect.

A file holds statements that begin with `-- name: subject.verb` and end where the next one begins; comments
above a statement say why it is written that way. Two tokens are replaced when a file is read: `{schema}` by
the quoted schema (PostgreSQL only), `{now}` by the dialect's clock, which tests can shift. A third,
`{binary}`, stands in statements for MySQL and MariaDB until their server is known: its collation that
compares byte by byte.

On MySQL, MariaDB and SQLite a statement may be a script: SQL statements, separated by lines `-- then`. They
run in this order in one transaction, and the rows of the last are the script's.
"""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"^-- name: ([a-z_]+\.[a-z_]+)$", re.MULTILINE)
_LEADING_COMMENTS = re.compile(r"\A(?:\s*--[^\n]*\n)+")
_THEN = re.compile(r"^-- then$", re.MULTILINE)


class Statements:
    """The statements of one dialect, read from their files when first asked for."""

    def __init__(self, dialect: str, *, schema: str = "", now: str) -> None:
        self._dialect = dialect
        self._schema = schema
        self._now = now
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The text of statement `name`; `KeyError` for a name no file of the dialect has."""
        text = self._texts.get(name)
        if text is None:
            self._read(name.partition(".")[0])
            text = self._texts[name]
        return text

    def _read(self, subject: str) -> None:
        source = (_FOLDER / self._dialect / f"{subject}.sql").read_text("utf-8")
        for name, text in split(source).items():
            self._texts[name] = text.replace("{schema}", self._schema).replace("{now}", self._now)


def split(source: str) -> dict[str, str]:
    """The statements of one file by name, without the comments that stand before the first word."""
    parts = _NAME.split(source)
    return {
        name: _LEADING_COMMENTS.sub("", body).strip()
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def steps(text: str) -> list[str]:
    """The SQL statements of a script, in their order; a plain statement is a script of one."""
    return [_LEADING_COMMENTS.sub("", part).strip().removesuffix(";") for part in _THEN.split(text)]


def names(dialect: str) -> set[str]:
    """All statement names of a dialect, for the test that compares dialects and use."""
    return {
        name for path in sorted((_FOLDER / dialect).glob("*.sql")) for name in split(path.read_text("utf-8"))
    }

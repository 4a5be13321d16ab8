"""Finds, reads and creates migration files.

A file is `NUMBER_name.sql`; its number is its version, for good. Holdfast's own files lie in the package,
one folder per dialect, and use the numbers 1 to 9999. A user's folder uses larger ones (10001, 20260115,
20260115093000 …), so no release of Holdfast ever takes a number the user has taken; its `*.sql` are
for every dialect and those in `FOLDER/sqlite`, `FOLDER/postgresql` and `FOLDER/mysql` for that one. Both
share one ledger and are applied in the order of their numbers.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import InvalidArgument, InvalidMigration

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from holdfast.store.migrations.parser import Script, Section
    from holdfast.store.migrations.splitter import Dialect

OWN_VERSION_MAX = 9999
"""The largest version Holdfast uses for its own migrations."""

_FILE_NAME = re.compile(r"(\d{1,18})_([\w.-]+)\.sql")
_FILE_BYTES_MAX = 16 * 1024 * 1024
_TEMPLATE = """\
-- +migrate Up

-- +migrate Down
-- Remove this section if the change cannot be taken back.
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file. `source` is its path for people; `checksum` the SHA-256 of its text in hex."""

    version: int
    name: str
    source: str
    checksum: str
    dialect: Dialect
    text: str = field(repr=False)

    @property
    def script(self) -> Script:
        """Its statements; `InvalidMigration` when the text breaks the grammar."""
        return _script(self.text, self.dialect, self.source)

    @property
    def up(self) -> Section:
        """The statements that apply it."""
        return self.script.up

    @property
    def down(self) -> Section | None:
        """The statements that take it back; None when there are none."""
        return self.script.down

    @property
    def label(self) -> str:
        """Number and name, for messages."""
        return f"{self.version} ({self.name})"


@dataclass(frozen=True, slots=True)
class MigrationSet:
    """Everything a program knows how to apply to one dialect, in ascending order of version."""

    dialect: Dialect
    migrations: tuple[Migration, ...]

    def get(self, version: int) -> Migration | None:
        """The migration with this version, or None."""
        return next((known for known in self.migrations if known.version == version), None)

    def is_beyond(self, version: int) -> bool:
        """Whether `version` is newer than everything known in its range (Holdfast's own, or the user's)."""
        own = version <= OWN_VERSION_MAX
        peers = [m.version for m in self.migrations if (m.version <= OWN_VERSION_MAX) == own]
        return version > max(peers, default=0)


@functools.lru_cache(maxsize=256)
def _script(text: str, dialect: Dialect, source: str) -> Script:
    # Read when it is first needed: a store that is up to date is opened by checksums alone.
    from holdfast.store.migrations.parser import parse

    return parse(text, dialect=dialect, source=source)


def load(dialect: Dialect, extra_folder: Path | None = None) -> MigrationSet:
    """Holdfast's own migrations for `dialect`, and those of the user's folder.

    Raises `InvalidMigration` on the first file that is misnamed, unreadable, against the grammar, or
    takes a version another file has.
    """
    from importlib.resources import files

    own = files("holdfast.store.migrations") / dialect
    found = [
        _read(file, dialect, f"holdfast:{dialect}/{file.name}", trusted=True) for file in _sql_files(own)
    ]
    if extra_folder is not None:
        found += _read_folder(extra_folder, dialect)
    return collect(dialect, found)


def collect(dialect: Dialect, migrations: Iterable[Migration]) -> MigrationSet:
    """A set of migrations in order; `InvalidMigration` when two have the same version."""
    by_version: dict[int, Migration] = {}
    for migration in migrations:
        other = by_version.setdefault(migration.version, migration)
        if other is not migration:
            raise InvalidMigration(
                f"version {migration.version} is taken by {other.source}",
                where=migration.source,
                fix="give one of the two files another number",
            )
    return MigrationSet(dialect, tuple(by_version[version] for version in sorted(by_version)))


def read_text(
    data: bytes, *, file_name: str, dialect: Dialect, source: str, trusted: bool = False
) -> Migration:
    """The migration in a file's bytes. Line ends and a byte order mark do not count for the checksum.

    The grammar of a `trusted` one, which came with this package, is not checked before it is needed.
    """
    match = _FILE_NAME.fullmatch(file_name)
    if match is None or int(match[1]) == 0:
        raise InvalidMigration(
            f"{file_name!r} is not the name of a migration",
            where=source,
            fix="name it NUMBER_name.sql, for example 20260115093000_add_tags.sql",
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidMigration(
            "the file is not UTF-8", where=f"{source}:{line}", fix="save it as UTF-8"
        ) from error
    checksum = hashlib.sha256(text.encode()).hexdigest()
    migration = Migration(int(match[1]), match[2], source, checksum, dialect, text)
    if not trusted:
        _ = migration.script
    return migration


def create(folder: Path, name: str, *, now: datetime | None = None) -> Path:
    """Write an empty migration into `folder` (made when missing) and return its path.

    The number goes on from the folder's newest file: the next one, or for time stamps `now` in UTC. An
    empty folder starts with a time stamp, which two branches rarely choose alike.
    """
    slug = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    if not slug:
        raise InvalidArgument(f"{name!r} is no name for a migration", fix="use letters, digits and _")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_next_number(folder, now or datetime.now(UTC))}_{slug}.sql"
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(_TEMPLATE)
    return path


def _next_number(folder: Path, now: datetime) -> str:
    stamp = now.astimezone(UTC).strftime("%Y%m%d%H%M%S")
    numbers = [match[1] for path in folder.rglob("*.sql") if (match := _FILE_NAME.fullmatch(path.name))]
    if not numbers:
        return stamp
    newest = max(numbers, key=int)
    if len(newest) == len(stamp):
        return str(max(int(stamp), int(newest) + 1))
    return str(int(newest) + 1).zfill(len(newest))


def _read_folder(folder: Path, dialect: Dialect) -> Iterator[Migration]:
    if not folder.is_dir():
        raise InvalidMigration(
            "the folder of migrations does not exist",
            where=str(folder),
            fix="holdfast storage migrate create NAME        or correct the setting",
        )
    special = folder / dialect
    for path in [*_sql_files(folder), *(_sql_files(special) if special.is_dir() else ())]:
        migration = _read(path, dialect, str(path))
        if migration.version <= OWN_VERSION_MAX:
            raise InvalidMigration(
                f"version {migration.version} is one of Holdfast's own (1 to {OWN_VERSION_MAX})",
                where=migration.source,
                fix="name the file with a date or a time stamp: 20260115093000_add_tags.sql",
            )
        yield migration


def _sql_files(folder: Traversable) -> list[Traversable]:
    return sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql") and file.is_file()),
        key=lambda file: file.name,
    )


def _read(file: Traversable, dialect: Dialect, source: str, *, trusted: bool = False) -> Migration:
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidMigration(f"cannot read the file: {error.strerror}", where=source) from error
    if len(data) > _FILE_BYTES_MAX:
        raise InvalidMigration(
            "the file is larger than 16 MiB", where=source, fix="load data with a program, not a migration"
        )
    return read_text(data, file_name=file.name, dialect=dialect, source=source, trusted=trusted)

"""Every other key that is right: other spellings, settings of features to come, environment names.

The whole configuration schema is known from the first release, so that a file written for a later one
is not called wrong: a key of `holdfast.config.later` is checked like any other, `config validate` says
that it has no effect yet, and the command that needs its feature refuses. What is in neither table is a
mistake, and `nearest` says what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal, NamedTuple

from holdfast.config.later import FAMILIES, LATER, template
from holdfast.config.rules import Rule
from holdfast.config.schema import SETTINGS

_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
UNITS = {
    "ms": "ms", "millis": "ms", "milliseconds": "ms", "sec": "s", "secs": "s", "seconds": "s",
    "minutes": "m", "hours": "h", "days": "d",
}  # fmt: skip
"""Endings that name the unit of a bare integer: `flush_interval_sec`, `retention_days`."""
_MILLISECONDS = "ms"

# Other names of whole paths, in snake_case. Values behind them follow the documents' units: a bare
# integer is milliseconds, unless the name ends in a unit (`…_sec`, `…_days`).
ALIASES = {
    **{
        f"storage.{kind}.{spelled}": f"storage.{kind}.{path}"
        for kind in ("postgresql", "mysql")
        for spelled, path in {
            "user": "username",
            "dbname": "database",
            "pool.min_connections": "pool.min",
            "pool.max_connections": "pool.max",
            "pool.max_idle_time": "pool.idle_timeout",
            "pool.connection_timeout": "pool.acquire_timeout",
            "replicas.*.user": "replicas.*.username",
        }.items()
    },
    "storage.sqlite.wal_mode": "storage.sqlite.wal",
    "storage.retry_on_conflict": "storage.retry.on_conflict",
    "persistence.backend": "storage.type",
    "persistence.database_path": "storage.sqlite.path",
    "persistence.connection_string": "storage.url",
    "persistence.vector_db_path": "vectors.path",
    "persistence.enable_vector_db": "vectors.enabled",
    "persistence.backup_enabled": "backup.enabled",
    "persistence.backup_path": "backup.path",
    "persistence.retention": "storage.retention.executions.max_age",
}

# Other beginnings of paths.
BLOCKS = {
    "storage.postgres": "storage.postgresql",
    "storage.mariadb": "storage.mysql",
    "storage.postgresql.primary": "storage.postgresql",
    "storage.mysql.primary": "storage.mysql",
    "external_database": "storage.postgresql",
}

# A block that can only mean one kind of store says so, unless the same source names a kind itself.
IMPLIED_TYPE = {"external_database": "postgresql"}

FIXED = {
    "persistence.enabled": (
        frozenset({"true", "yes", "on", "1"}),
        "leave it out: everything is kept; `storage: {type: memory}` keeps nothing",
    ),
    "storage.sqlite.wal": (
        frozenset({"true", "yes", "on", "1"}),
        "leave it out: the store is always in write-ahead mode, because several processes share the file",
    ),
}
"""Keys that may only say what is so anyway: the accepted texts, and the remedy for any other."""

# Environment names (behind the prefix HOLDFAST_) that are not paths. All are spellings of the documents
# or short forms; a bare integer in a duration is milliseconds. Those of a database name no kind of server:
# where the store is a MySQL or MariaDB server they mean that one, see `serving`.
ENVIRONMENT = {
    "URL": "storage.url",
    "DATABASE_URL": "storage.url",
    "STORAGE_TYPE": "storage.type",
    "STATE_STORE_TYPE": "storage.type",
    "DATABASE_HOST": "storage.postgresql.host",
    "DATABASE_PORT": "storage.postgresql.port",
    "DATABASE_NAME": "storage.postgresql.database",
    "DATABASE_USER": "storage.postgresql.username",
    "DATABASE_PASSWORD": "storage.postgresql.password",
    "DATABASE_PATH": "storage.sqlite.path",
    "DATABASE_POOL_MIN": "storage.postgresql.pool.min",
    "DATABASE_POOL_MAX": "storage.postgresql.pool.max",
    "DATABASE_SSL": "storage.postgresql.ssl.enabled",
    "DATABASE_TIMEOUT": "storage.postgresql.connect_timeout",
    "DATABASE_IDLE_TIMEOUT": "storage.postgresql.pool.idle_timeout",
    "EVENT_LOG_TYPE": "event_log.type",
    "EVENT_LOG_DIR": "event_log.dir",
    "LOG_LEVEL": "logging.level",
    "ENVIRONMENT": "environment",
    "ENCRYPTION_KEY": "security.encryption_key",
    "API_KEY_PEPPER": "security.api_key_pepper",
    "AUDIT_KEY": "security.audit_key",
    "VECTOR_DB_PATH": "vectors.path",
    "SERVER": "remote.url",
    "TOKEN": "remote.token",
}
CONSUMED = frozenset({"CONFIG", "PROFILE"})
"""Environment names that say where to look; they are no settings themselves."""
RESERVED = "TEST_"
"""Environment names that begin so belong to the test suites."""

# Names without our prefix: read for the command line only, and only for what nothing else sets.
BARE = {
    **{
        name: path
        for name, path in ENVIRONMENT.items()
        if name.startswith(("DATABASE_", "STATE_STORE_", "EVENT_LOG_"))
    },
    "PGHOST": "storage.postgresql.host",
    "PGPORT": "storage.postgresql.port",
    "PGDATABASE": "storage.postgresql.database",
    "PGUSER": "storage.postgresql.username",
    "PGPASSWORD": "storage.postgresql.password",
    "PGSSLMODE": "storage.postgresql.ssl.mode",
    "MYSQL_HOST": "storage.mysql.host",
    "MYSQL_TCP_PORT": "storage.mysql.port",
    "MYSQL_DATABASE": "storage.mysql.database",
    "MYSQL_USER": "storage.mysql.username",
    "MYSQL_PASSWORD": "storage.mysql.password",
    "MYSQL_PWD": "storage.mysql.password",
    "REDIS_URL": "redis.url",
    "QDRANT_URL": "vectors.url",
}

FLAGS = {"storage.url": "--storage", "storage.type": "--state-store-type", "profile": "--profile"}
"""Settings that have a flag of their own on the command line."""


def serving(path: str, variable: str, kind: str) -> str:
    """What the variable for the setting `path` means where the store is of this kind."""
    if kind != "mysql" or not variable.removeprefix("HOLDFAST_").startswith("DATABASE_"):
        return path
    return path.replace("storage.postgresql.", "storage.mysql.", 1)


class Key(NamedTuple):
    """What a key means. `unit` is the one of a bare integer; None where a unit has to be written."""

    path: str
    meaning: Literal["setting", "fixed", "later", "group", "unknown"]
    unit: str | None


def _groups() -> tuple[str, ...]:
    paths = [*SETTINGS, *ALIASES, *FIXED, *LATER]
    beginnings = (path[:dot] for path in paths for dot, letter in enumerate(path) if letter == ".")
    return tuple(dict.fromkeys((*beginnings, *BLOCKS)))


GROUPS = _groups()
"""Paths that hold other keys and have no value of their own; those of settings first, in their order."""


def snake(key: str) -> str:
    """`idleTimeout` as `idle_timeout`."""
    return _CAMEL.sub(r"_\1", key).lower().replace("-", "_")


def look_up(spelled: str) -> Key:
    """What the dotted path `spelled` means, in any of its spellings."""
    path = snake_path(spelled)
    found = _resolve(path, None if path == spelled else _MILLISECONDS)
    if found.meaning == "unknown":
        shorter, _, ending = path.rpartition("_")
        if (unit := UNITS.get(ending)) and (key := _resolve(shorter, unit)).meaning in {"setting", "later"}:
            return key._replace(unit=unit) if rule_of(key.path).kind == "duration" else found
    return found


def snake_path(spelled: str) -> str:
    """A dotted path in snake_case; names that the user chooses stay as they are."""
    parts = spelled.split(".")
    made: list[str] = []
    for part in parts:
        made.append(part if ".".join(made) in FAMILIES else snake(part))
    return ".".join(made)


def _resolve(path: str, unit: str | None) -> Key:
    """`path` with its other names replaced, longest first, until none is left."""
    while template(path) not in LATER:
        if (known := template(path)) in ALIASES:
            path, unit = _like(ALIASES[known], path), _MILLISECONDS
            continue
        block = next((each for each in _BLOCKS if path == each or path.startswith(f"{each}.")), None)
        if block is None:
            break
        path = BLOCKS[block] + path.removeprefix(block)
    if path in SETTINGS:
        return Key(path, "setting", unit)
    if path in FIXED:
        return Key(path, "fixed", unit)
    if template(path) in LATER:
        return Key(path, "later", unit)
    return Key(path, "group" if template(path) in GROUPS else "unknown", unit)


_BLOCKS = sorted(BLOCKS, key=len, reverse=True)


def _like(pattern: str, path: str) -> str:
    """`pattern` with the element or chosen name that `path` has in the place of its `*`."""
    parts = path.split(".")
    return ".".join(parts[at] if part == "*" else part for at, part in enumerate(pattern.split(".")))


def rule_of(path: str) -> Rule:
    """The rule of a setting, of today or of a feature to come."""
    return SETTINGS[path].rule if path in SETTINGS else LATER[template(path)].rule


@cache
def flattened() -> Mapping[str, str]:
    """Paths by the variable they would have with one underscore each, which is how they are mistyped.

    `SERVER_…` is left out: a cluster sets such names for a service called holdfast-server.
    """
    found = {path.upper().replace(".", "_"): path for path in (*SETTINGS, *LATER) if "*" not in path}
    return {name: path for name, path in found.items() if not name.startswith("SERVER_")}


def nearest(path: str) -> str | None:
    """The right path that `path` was probably meant to be: a sibling, a namesake elsewhere, or neither."""
    from difflib import get_close_matches

    # What has an effect comes first: of equally near names it is the better advice.
    known = [*SETTINGS, *ALIASES, *GROUPS, *LATER]
    path = template(path)
    parent, _, name = path.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == parent}
    if close := get_close_matches(name, siblings, n=1, cutoff=0.6):
        return siblings[close[0]]
    if namesakes := [other for other in known if other.rpartition(".")[2] == name]:
        return max(namesakes, key=lambda other: len({*other.split(".")} & {*path.split(".")}))
    return next(iter(get_close_matches(path, known, n=1, cutoff=0.75)), None)


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is very close to `name`."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(names), n=1, cutoff=0.8)), None)

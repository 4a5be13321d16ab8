"""Every other key that is right: other spellings, settings of features to come, environment names.

The whole configuration schema is known from the first release, so that a file written for a later one
is not called wrong: a key listed here is accepted, `config validate` says that it has no effect yet, and
the command that needs its feature refuses. What is in neither table is a mistake, and `nearest` says
what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from holdfast.config.schema import SETTINGS

_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")

# Other names of whole paths (in snake_case) or of their beginnings. Values behind them follow the
# documents' units: a bare integer is milliseconds.
ALIASES = {
    "storage.postgres": "storage.postgresql",
    "storage.postgresql.user": "storage.postgresql.username",
    "storage.postgresql.pool.min_connections": "storage.postgresql.pool.min",
    "storage.postgresql.pool.max_connections": "storage.postgresql.pool.max",
    "storage.postgresql.pool.max_idle_time": "storage.postgresql.pool.idle_timeout",
    "storage.sqlite.wal_mode": "storage.sqlite.wal",
    "storage.retry_on_conflict": "storage.retry.on_conflict",
    "persistence.backend": "storage.type",
    "persistence.database_path": "storage.sqlite.path",
    "persistence.connection_string": "storage.url",
    "external_database.host": "storage.postgresql.host",
    "external_database.port": "storage.postgresql.port",
    "external_database.database": "storage.postgresql.database",
    "external_database.username": "storage.postgresql.username",
    "external_database.password": "storage.postgresql.password",
}

# A block that can only mean one kind of store says so, unless the same source names a kind itself.
IMPLIED_TYPE = {"external_database": "postgresql"}

FIXED = {
    "storage.sqlite.wal": (
        frozenset({"true", "yes", "on", "1"}),
        "leave it out: the store is always in write-ahead mode, because several processes share the file",
    ),
}
"""Keys that may only say what is so anyway: the accepted texts, and the remedy for any other."""

_LATER = """
storage: slow_query
storage.postgresql: primary replicas read_preference balance max_lag
storage.mysql: host port database username password schema pool ssl primary replicas read_preference max_lag
storage.file: base_path format compress
storage.partitioning: enabled by ahead tables
storage.retention: executions audit_logs events checkpoints sessions cleanup_schedule batch
storage.tenancy: enabled column row_level_security
storage.encryption: at_rest key
event_log: dir fsync rotate compress
redis: url cache_url backup_url cluster prefix pool tls
cache: l1 l2 invalidation
locks: backend ttl
rate_limits: window
breakers: failures timeout
vectors: enabled backend url path hnsw optimizer collections
backup: enabled path full incremental retention remote compression encryption verify alerts
scheduler: enabled timezone tick catch_up
server: host port base_path tokens cors read_only
health: interval failure_threshold
logging: format
telemetry: prometheus otlp
persistence: enabled vector_db_path enable_vector_db backup_enabled backup_path retention_days
external_database: existing_secret existing_secret_password_key
"""
LATER = frozenset(
    f"{block}.{key}"
    for block, _, keys in (line.partition(": ") for line in _LATER.strip().splitlines())
    for key in keys.split()
)
"""Paths of features to come; what stands below one of them is not looked at yet."""

# Environment names (behind the prefix HOLDFAST_) that are not paths. All are spellings of the documents
# or short forms; a bare integer in a duration is milliseconds.
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
    "VECTOR_DB_PATH": "vectors.path",
}
CONSUMED = frozenset({"CONFIG", "PROFILE"})
"""Environment names that say where to look; they are no settings themselves."""
ENVIRONMENT_LATER = frozenset({"SERVER", "TOKEN"})
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
}

FLAGS = {"storage.url": "--storage", "storage.type": "--state-store-type", "profile": "--profile"}
"""Settings that have a flag of their own on the command line."""


class Key(NamedTuple):
    """What a key means. `native` is False for a spelling of the documents."""

    path: str
    meaning: Literal["setting", "fixed", "later", "group", "unknown"]
    native: bool


def _groups() -> frozenset[str]:
    paths = [*SETTINGS, *LATER, *ALIASES, *FIXED]
    return frozenset(
        path[:dot] for path in paths for dot in (i for i, letter in enumerate(path) if letter == ".")
    )


GROUPS = _groups() | {"storage.postgres"}
"""Paths that hold other keys and have no value of their own."""


def snake(key: str) -> str:
    """`idleTimeout` as `idle_timeout`."""
    return _CAMEL.sub(r"_\1", key).lower().replace("-", "_")


def look_up(spelled: str) -> Key:
    """What the dotted path `spelled` means, in any of its spellings."""
    path = ".".join(snake(part) for part in spelled.split("."))
    native = spelled == path
    if path == "storage.postgres" or path.startswith("storage.postgres."):
        path = path.replace("storage.postgres", ALIASES["storage.postgres"], 1)
    if path in ALIASES:
        path, native = ALIASES[path], False
    if path in SETTINGS:
        return Key(path, "setting", native)
    if path in FIXED:
        return Key(path, "fixed", native)
    if path in LATER:
        return Key(path, "later", native)
    return Key(path, "group" if path in GROUPS else "unknown", native)


def nearest(path: str) -> str | None:
    """The right path that `path` was probably meant to be: a sibling, a namesake elsewhere, or neither."""
    from difflib import get_close_matches

    # What has an effect comes first: of equally near names it is the better advice.
    known = [*SETTINGS, *ALIASES, *sorted(GROUPS), *sorted(LATER)]
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

"""Settings whose feature comes later: their names, kinds, limits and defaults.

They are read, checked and shown like every other setting, so that a file written for a later version is
neither called wrong nor believed blindly; they have no effect, and `config validate` says so. `binding`
ones are promises about every record (who may see it, whether it is encrypted): a command that opens the
store refuses rather than break them.

A `*` in a path stands for one element of a list (`0`, `1` …) or for a name that the user chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.config.rules import Kind, Rule

_MOST = 1_000_000_000
_MOMENT = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


class Later(NamedTuple):
    """A setting of a feature to come."""

    rule: Rule
    default: Any
    feature: str = ""
    binding: bool = False


def _key(kind: Kind, default: Any, doc: str, **limits: Any) -> Later:
    return Later(Rule(kind, doc, **limits), default)


def _flag(default: bool, doc: str) -> Later:
    return _key("boolean", default, doc)


def _count(default: int | None, doc: str, low: int = 0, high: int = _MOST) -> Later:
    return _key("integer", default, doc, low=low, high=high)


def _time(default: timedelta | None, doc: str) -> Later:
    return _key("duration", default, doc, low=_MOMENT)


def _one_of(default: str, doc: str, *choices: str, **spellings: str) -> Later:
    return _key("choice", default, doc, choices=choices, spellings=spellings)


def _text(default: str | None, doc: str) -> Later:
    return _key("text", default, doc)


def _url(doc: str) -> Later:
    return _key("url", None, doc)


def _names(default: tuple[str, ...], doc: str, **limits: Any) -> Later:
    return _key("names", default, doc, low=0, **limits)


def _block(path: str, feature: str, /, *, binding: str = "", **keys: Later) -> dict[str, Later]:
    return {
        f"{path}.{name}": key._replace(feature=feature, binding=name == binding) for name, key in keys.items()
    }


def _replicas(block: str) -> dict[str, Later]:
    feature = "reading from replicas"
    return {
        **_block(
            block,
            feature,
            read_preference=_one_of("primary", "where reads go", "primary", "replica", "any"),
            balance=_one_of(
                "round_robin",
                "how a replica is chosen",
                "round_robin",
                "least_connections",
                **{"round-robin": "round_robin", "least-connections": "least_connections"},
            ),
            max_lag=_time(timedelta(seconds=10), "a replica further behind is left out"),
        ),
        **_block(
            f"{block}.replicas.*",
            feature,
            url=_url("the replica; what it leaves out is as for the primary"),
            host=_text(None, "name or address"),
            port=_count(None, "TCP port", 1, 65535),
            database=_text(None, "name of the database"),
            username=_text(None, "role to log in as"),
            password=_key("secret", None, "password of that role"),
        ),
    }


_STORAGE: dict[str, Later] = {
    **_replicas("storage.postgresql"),
    **_replicas("storage.mysql"),
    **_block(
        "storage.partitioning",
        "partitioning",
        enabled=_flag(False, "whether large tables are split"),
        by=_one_of("month", "how long one partition is", "month", monthly="month"),
        ahead=_count(3, "partitions made in advance", 1, 120),
        tables=_names(("executions", "audit_logs"), "tables that are split"),
    ),
    **_block(
        "storage.retention.executions",
        "retention",
        enabled=_flag(True, "whether ended executions are removed"),
        max_age=_time(30 * _DAY, "remove those that ended longer ago"),
        max_count=_count(100_000, "remove the oldest beyond so many", 1),
        archive_to=_text(None, "write them here first: a folder or s3://…"),
    ),
    **_block(
        "storage.retention.audit_logs",
        "retention",
        enabled=_flag(True, "whether old audit entries are removed"),
        max_age=_time(365 * _DAY, "remove entries older than this"),
        archive_to=_text(None, "write them here first: a folder or s3://…"),
    ),
    **_block(
        "storage.retention.events",
        "retention",
        enabled=_flag(True, "whether old events are removed"),
        max_age=_time(90 * _DAY, "remove events of streams older than this"),
        archive_to=_text(None, "write them here first: a folder or s3://…"),
    ),
    **_block(
        "storage.retention.checkpoints",
        "retention",
        keep_last=_count(10, "checkpoints kept of each thread", 1),
        max_age=_time(30 * _DAY, "remove older ones beyond those"),
    ),
    **_block(
        "storage.retention.sessions", "retention", idle=_time(_DAY, "remove sessions unused for this long")
    ),
    **_block(
        "storage.retention",
        "retention",
        cleanup_schedule=_key("cron", "0 4 * * *", "when it is done, in UTC"),
        batch=_count(1000, "rows removed in one transaction", 1, 100_000),
    ),
    **_block(
        "storage.tenancy",
        "tenancy",
        binding="enabled",
        enabled=_flag(False, "whether each tenant sees only its own"),
        column=_text("tenant_id", "column that names the tenant"),
        row_level_security=_flag(True, "whether PostgreSQL enforces it"),
    ),
    **_block(
        "storage.encryption",
        "encryption of payloads",
        binding="at_rest",
        at_rest=_key("choice", None, "how payloads are encrypted", choices=("aes-256-gcm",)),
        key=_key("secret", None, "ID:BASE64 of 32 bytes, several separated by commas, the newest last"),
    ),
}

_FAST: dict[str, Later] = {
    **_block(
        "redis",
        "Redis",
        url=_url("redis://…, rediss://… for TLS"),
        cache_url=_url("another server for the cache, which may evict"),
        backup_url=_url("used while the first is down"),
        cluster=_names((), "nodes of a cluster, as HOST:PORT"),
        prefix=_text("", "begins every key"),
        pool=_count(20, "connections at most", 1, 1000),
        tls=_one_of("auto", "auto: on for hosts other than this machine", "auto", "true", "false"),
    ),
    **_block(
        "cache.l1",
        "the cache",
        items=_count(500, "entries in this process", 0, 10_000_000),
        ttl=_time(timedelta(seconds=60), "their lifetime"),
    ),
    **_block(
        "cache.l2",
        "the cache",
        backend=_one_of("auto", "auto: Redis where it is configured", "auto", "redis", "database", "none"),
        ttl=_time(timedelta(minutes=10), "lifetime of shared entries"),
    ),
    **_block(
        "cache", "the cache", invalidation=_one_of("tags", "how entries are dropped", "tags", "keys", "ttl")
    ),
    **_block(
        "locks",
        "locks",
        backend=_one_of("database", "where locks are kept", "database", "redis"),
        ttl=_time(timedelta(seconds=30), "a lock that is not renewed ends after this long"),
    ),
    **_block("rate_limits", "rate limits", window=_time(timedelta(seconds=60), "the sliding window")),
    **_block(
        "breakers",
        "circuit breakers",
        failures=_count(5, "failures in a row that open one", 1, 10_000),
        timeout=_time(timedelta(seconds=30), "how long it stays open"),
    ),
}

_VECTORS: dict[str, Later] = {
    **_block(
        "vectors",
        "vectors",
        enabled=_flag(True, "whether collections are kept"),
        backend=_one_of(
            "builtin",
            "where vectors are kept",
            "builtin",
            "pgvector",
            "qdrant",
            embedded="builtin",
            chromem="builtin",
        ),
        url=_url("the Qdrant server"),
        path=_key("path", Path(".holdfast/vectors.db"), "file of the builtin index"),
    ),
    **_block(
        "vectors.hnsw",
        "vectors",
        m=_count(16, "edges of a node", 4, 128),
        ef_construct=_count(100, "candidates looked at while the index is built", 4, 10_000),
        full_scan_threshold=_count(10_000, "smaller collections are scanned"),
        max_indexing_threads=_count(0, "0: as many as there are processors", 0, 1024),
        on_disk=_flag(False, "whether the index stays on disk"),
    ),
    **_block(
        "vectors.optimizer",
        "vectors",
        deleted_threshold=_key("number", 0.2, "part of a segment that is deleted", low=0, high=1),
        max_segment_size=_count(200_000, "vectors of one segment", 1),
        indexing_threshold=_count(20_000, "build an index from so many vectors on"),
        flush_interval=_time(timedelta(seconds=5), "time between writes to disk"),
    ),
    **_block(
        "vectors.collections.*",
        "vectors",
        size=_count(1536, "length of a vector", 1, 65_536),
        distance=_one_of("cosine", "how vectors are compared", "cosine", "dot", "euclid"),
        payload_index=_names((), "fields that filters use"),
        on_disk=_flag(False, "whether vectors stay on disk"),
    ),
}

_BACKUP: dict[str, Later] = {
    **_block(
        "backup",
        "backup",
        enabled=_flag(False, "whether backups are made by schedule"),
        path=_key("path", Path("backups"), "folder of the backups"),
        full=_key("cron", "0 2 * * *", "when the whole store is backed up, in UTC"),
        incremental=_text("every 6h", "what is saved in between; on PostgreSQL the WAL, continuously"),
        remote=_text(None, "where copies go: s3://…"),
        encryption=_one_of("aes-256-gcm", "how backups are encrypted", "aes-256-gcm", "none", off="none"),
        verify=_one_of(
            "monthly", "how often a backup is restored as a test", "daily", "weekly", "monthly", "never"
        ),
    ),
    **_block(
        "backup.retention",
        "backup",
        local=_time(30 * _DAY, "backups kept in path"),
        remote=_time(90 * _DAY, "copies kept in remote"),
    ),
    **_block(
        "backup.compression",
        "backup",
        algorithm=_one_of("zstd", "how backups are compressed", "zstd", "gzip", "none"),
        level=_count(6, "higher is smaller and slower", 1, 22),
    ),
    **_block(
        "backup.alerts",
        "backup",
        archive_lag=_time(timedelta(minutes=5), "warn when the WAL archive is further behind"),
        backup_age=_time(timedelta(hours=36), "warn when the last good backup is older"),
        verified_restore_age=_time(35 * _DAY, "warn when the last tested restore is older"),
    ),
}

_SERVER: dict[str, Later] = {
    **_block(
        "server",
        "the server",
        host=_text("127.0.0.1", "address to listen on"),
        port=_count(7077, "TCP port", 1, 65535),
        base_path=_text("", "path that every address begins with"),
        tokens=_key("secrets", (), "tokens that are accepted"),
        cors=_names((), "origins that browsers may call from"),
        read_only=_flag(False, "whether changes are refused"),
    ),
    **_block(
        "health",
        "health checks",
        interval=_time(timedelta(seconds=30), "time between checks"),
        failure_threshold=_count(3, "failures in a row that count as down", 1, 1000),
    ),
    **_block(
        "telemetry",
        "telemetry",
        prometheus=_flag(True, "whether the server shows metrics"),
        otlp=_url("where traces and metrics are sent"),
    ),
}

_REMOTE: dict[str, Later] = _block(
    "remote",
    "commands that act on a running server",
    binding="url",
    url=_url("act on this server instead of a store"),
    token=_key("secret", None, "token for that server"),
)

# What the documents write beside the settings for the chart that deploys the program.
_CHART: dict[str, Later] = {
    **_block(
        "external_database",
        "the Helm chart",
        existing_secret=_text(None, "Kubernetes secret with the password"),
        existing_secret_password_key=_text(None, "key of the password in that secret"),
    ),
    **_block("postgresql", "the Helm chart", enabled=_flag(False, "whether the chart deploys PostgreSQL")),
    **_block(
        "postgresql.auth",
        "the Helm chart",
        username=_text("holdfast", "role that the chart makes"),
        password=_key("secret", None, "password of that role"),
        database=_text("holdfast", "database that the chart makes"),
        existing_secret=_text(None, "Kubernetes secret with the password"),
    ),
    **_block(
        "postgresql.primary",
        "the Helm chart",
        configuration=_text(None, "lines of postgresql.conf"),
    ),
    **_block(
        "postgresql.primary.persistence",
        "the Helm chart",
        enabled=_flag(True, "whether the data outlive the pod"),
        size=_text(None, "size of the volume, as Kubernetes writes it"),
        storage_class=_text(None, "storage class of the volume"),
    ),
    **_block(
        "postgresql.read_replicas",
        "the Helm chart",
        replica_count=_count(0, "read replicas that the chart deploys", 0, 100),
    ),
}

LATER: Mapping[str, Later] = {**_STORAGE, **_FAST, **_VECTORS, **_BACKUP, **_SERVER, **_REMOTE, **_CHART}
"""Every setting of a feature to come, by dotted path; `*` stands for one element or a chosen name."""


def template(path: str) -> str:
    """`path` with its elements and chosen names as `*`: `storage.postgresql.replicas.*.host`."""
    for family in FAMILIES:
        if path.startswith(f"{family}."):
            _, _, rest = path.removeprefix(f"{family}.").partition(".")
            return f"{family}.*.{rest}" if rest else f"{family}.*"
    return path


FAMILIES = tuple(dict.fromkeys(path.partition(".*")[0] for path in LATER if ".*" in path))
"""Paths that hold a list of blocks, or blocks under names of the user's own."""
LISTS = frozenset(path for path in FAMILIES if path.endswith(".replicas"))
"""Those that are lists."""

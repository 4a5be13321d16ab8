"""Every configuration block and environment list of the requirement documents loads, and says what it said.

The documents are read where they lie beside the repository; what is written out here has the same keys with
other values, orders and spellings, so that nothing can be matched by its looks.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.config.convert import convert
from holdfast.config.known import FIXED, look_up, rule_of
from holdfast.config.later import LATER
from holdfast.config.loader import LoadedConfig, load
from holdfast.config.schema import SETTINGS
from holdfast.config.secrets import Secret, SecretUrl

SEEDS = Path(__file__).parents[3] / "shared" / "seeds"
OURS = {path.split(".")[0] for path in (*SETTINGS, *LATER)} | {"persistence", "externalDatabase"}
PASSWORD = "s3cret: #1"
Reader = Callable[..., LoadedConfig]

_FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_NAMES = re.compile(r"parallax|aureus|mimir", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"^ *(?:export |- )?[A-Z][A-Z_]+=.*$", re.MULTILINE)


def renamed(text: str) -> str:
    """A text of the documents with the product's name in the place of theirs."""

    def name(match: re.Match[str]) -> str:
        return "HOLDFAST" if match[0].isupper() else "holdfast"

    return _NAMES.sub(name, text)


def fences(language: str) -> Iterator[tuple[str, str]]:
    for path in sorted(SEEDS.glob("*.txt")):
        text = renamed(path.read_text(encoding="utf-8"))
        for match in _FENCE.finditer(text):
            if match[1] == language:
                yield f"{path.name[:3]}:{text[: match.start()].count(chr(10)) + 1}", match[2]


def configuration_blocks() -> list[tuple[str, str]]:
    """The YAML blocks whose every top key is a setting's; the others are manifests, alerts and prose."""
    found = []
    for place, text in fences("yaml"):
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError:  # prose that looks like YAML
            continue
        # A list below `environment` is a fragment of a compose file; see the lists of variables.
        if isinstance(tree, dict) and tree and set(tree) <= OURS - {"environment"}:
            found.append((place, text))
    return found


def variable_lists() -> list[tuple[str, dict[str, str]]]:
    """The environment lists; a later line for the same variable is another way to say it."""
    found = []
    for place, text in (*fences("bash"), *fences("yaml")):
        words = (shlex.split(line.strip(), comments=True) for line in _ASSIGNMENT.findall(text))
        pairs = dict(line[-1].split("=", 1) for line in words)
        pairs.pop("PID", None)
        if pairs:
            found.append((place, pairs))
    return found


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    def run(text: str = "", name: str = "holdfast.yaml", /, **environ: str) -> LoadedConfig:
        if text:
            (tmp_path / name).write_text(text, encoding="utf-8")
        return load(environ=environ, cwd=tmp_path, bare=True)

    return run


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, list) and not any(isinstance(each, dict) for each in tree):  # an empty one too
        yield path, ",".join(map(str, tree))
    elif isinstance(tree, list):
        for at, value in enumerate(tree):
            yield from leaves(value, f"{path}.{at}")
    elif tree not in (None, ""):
        yield path, str(tree).lower() if isinstance(tree, bool) else str(tree)


def assert_said(loaded: LoadedConfig, text: str) -> None:
    """Every value of the block is in effect, or kept for the feature that will need it."""
    values = {**loaded.values, **loaded.later}
    tree = yaml.safe_load(text.replace("${POSTGRES_PASSWORD}", f'"{PASSWORD}"'))
    for spelled, written in leaves(tree):
        key = look_up(spelled)
        if key.path in FIXED:
            continue
        expected = convert(rule_of(key.path), written, unit=key.unit, base=Path())
        if isinstance(expected, SecretUrl):
            assert loaded.origins["storage.type"].name == spelled
            continue
        assert values[key.path] == expected, spelled
        assert loaded.origins[key.path].source == "file", spelled


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the requirement documents are not here")
@pytest.mark.parametrize(("place", "text"), configuration_blocks(), ids=lambda each: str(each)[:8])
def test_a_block_of_the_documents_says_what_it_says(read: Reader, place: str, text: str) -> None:
    assert_said(read(text, POSTGRES_PASSWORD=PASSWORD), text)


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the requirement documents are not here")
def test_no_block_of_the_documents_is_missed() -> None:
    places = [place for place, _ in configuration_blocks()]
    assert len([place for place in places if place.startswith("000")]) == 10
    assert len([place for place in places if place.startswith("003")]) == 3
    assert len(variable_lists()) == 8


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the requirement documents are not here")
@pytest.mark.parametrize(("place", "pairs"), variable_lists(), ids=lambda each: str(each)[:8])
def test_a_list_of_variables_of_the_documents_loads(read: Reader, place: str, pairs: dict[str, str]) -> None:
    if "host:port" in pairs.get("DATABASE_URL", ""):
        pairs = pairs | {"DATABASE_URL": pairs["DATABASE_URL"].replace("host:port", "host:5432")}
    loaded = read(**pairs)
    sources = {origin.name for origin in loaded.origins.values()}
    # Beside a URL its parts say nothing; everything else is in effect.
    beside_url = {f"DATABASE_{part}" for part in ("HOST", "PORT", "NAME", "USER", "PASSWORD")}
    beside_url.add("STATE_STORE_TYPE")
    assert set(pairs) - (beside_url if "DATABASE_URL" in pairs else set()) <= sources


# The same keys with other values, orders and spellings.

BLOCKS = [
    pytest.param(
        """\
storage:
  postgresql:
    ssl: {ca: ca.pem, mode: verify-ca, enabled: true}
    pool:
      idleTimeout: 45000
      maxConnections: 7
      minConnections: 3
    password: ${PGPASS_OF_OURS}
    username: anna
    database: orders
    port: 6432
    host: db.internal.example
  type: postgresql
""",
        {
            "storage.type": "postgresql",
            "storage.postgresql.host": "db.internal.example",
            "storage.postgresql.port": 6432,
            "storage.postgresql.database": "orders",
            "storage.postgresql.username": "anna",
            "storage.postgresql.password": Secret("from the variable"),
            "storage.postgresql.pool.min": 3,
            "storage.postgresql.pool.max": 7,
            "storage.postgresql.pool.idle_timeout": timedelta(seconds=45),
            "storage.postgresql.ssl.enabled": "true",
            "storage.postgresql.ssl.mode": "verify-ca",
            "storage.postgresql.ssl.ca": Path("ca.pem"),
        },
        id="postgresql, upside down",
    ),
    pytest.param(
        "storage: {type: Postgres, postgres: {user: u, pool: {max_connections: 9, min_connections: 1,"
        " max_idle_time: 1500, acquireTimeout: 2500}}}",
        {
            "storage.type": "postgresql",
            "storage.postgresql.username": "u",
            "storage.postgresql.pool.max": 9,
            "storage.postgresql.pool.min": 1,
            "storage.postgresql.pool.idle_timeout": timedelta(milliseconds=1500),
            "storage.postgresql.pool.acquire_timeout": timedelta(milliseconds=2500),
        },
        id="postgresql, snake_case and on one line",
    ),
    pytest.param(
        "storage:\n  sqlite:\n    busyTimeout: 1234\n    walMode: yes\n    path: a b/c.db\n  type: SQLite\n",
        {
            "storage.type": "sqlite",
            "storage.sqlite.path": Path("a b/c.db"),
            "storage.sqlite.busy_timeout": timedelta(milliseconds=1234),
        },
        id="sqlite",
    ),
    pytest.param(
        'storage: {file: {compress: "on", format: json, basePath: /srv/x}, type: file}',
        {
            "storage.type": "file",
            "storage.file.base_path": Path("/srv/x"),
            "storage.file.format": "json",
            "storage.file.compress": True,
        },
        id="file",
    ),
    pytest.param(
        "externalDatabase: {existingSecretPasswordKey: k, existingSecret: s, username: u, database: d,"
        " port: 6543, host: h.example}\npostgresql: {enabled: false}\npersistence: {enabled: true}\n",
        {
            "storage.type": "postgresql",
            "storage.postgresql.host": "h.example",
            "storage.postgresql.port": 6543,
            "storage.postgresql.database": "d",
            "storage.postgresql.username": "u",
            "external_database.existing_secret": "s",
            "external_database.existing_secret_password_key": "k",
            "postgresql.enabled": False,
        },
        id="an external database",
    ),
    pytest.param(
        "postgresql:\n  readReplicas: {replicaCount: 3}\n  primary: {persistence: {storageClass: slow,"
        " size: 5Gi, enabled: false}, configuration: 'wal_level = logical'}\n"
        "  auth: {database: d, password: geheim, username: u}\n",
        {
            "storage.type": "sqlite",
            "postgresql.auth.username": "u",
            "postgresql.auth.password": Secret("geheim"),
            "postgresql.primary.persistence.size": "5Gi",
            "postgresql.primary.persistence.enabled": False,
            "postgresql.primary.configuration": "wal_level = logical",
            "postgresql.read_replicas.replica_count": 3,
        },
        id="values of the chart",
    ),
    pytest.param(
        "storage: {retention: {cleanupSchedule: '30 1 * * 6', auditLogs: {maxAge: 400d, enabled: no},"
        " executions: {maxCount: 17, maxAge: 12h, enabled: true}}}",
        {
            "storage.retention.executions.max_age": timedelta(hours=12),
            "storage.retention.executions.max_count": 17,
            "storage.retention.audit_logs.enabled": False,
            "storage.retention.audit_logs.max_age": timedelta(days=400),
            "storage.retention.cleanup_schedule": "30 1 * * 6",
        },
        id="retention",
    ),
    pytest.param(
        "storage: {migrations: {autoRun: false, enabled: false}}",
        {"storage.migrations.auto_run": False, "storage.migrations.enabled": False},
        id="migrations",
    ),
    pytest.param(
        "storage: {type: postgresql, postgresql: {readPreference: any, replicas: [{host: r1, port: 1},"
        " {host: r2}, {host: r3, username: reader}], primary: {host: p.example, port: 7}}}",
        {
            "storage.postgresql.host": "p.example",
            "storage.postgresql.port": 7,
            "storage.postgresql.read_preference": "any",
            "storage.postgresql.replicas.0.host": "r1",
            "storage.postgresql.replicas.0.port": 1,
            "storage.postgresql.replicas.1.host": "r2",
            "storage.postgresql.replicas.2.username": "reader",
        },
        id="replicas",
    ),
    pytest.param(
        "persistence: {retention_days: 7, backup_path: /b, backup_enabled: true, enable_vector_db: false,"
        ' vector_db_path: v.db, connection_string: "", database_path: d/x.db, backend: sqlite, enabled: yes}',
        {
            "storage.type": "sqlite",
            "storage.sqlite.path": Path("d/x.db"),
            "vectors.path": Path("v.db"),
            "vectors.enabled": False,
            "backup.enabled": True,
            "backup.path": Path("/b"),
            "storage.retention.executions.max_age": timedelta(days=7),
        },
        id="persistence",
    ),
    pytest.param(
        "persistence: {connection_string: 'mysql://u:p@h:3307/d', backend: mysql}",
        {
            "storage.type": "mysql",
            "storage.mysql.host": "h",
            "storage.mysql.port": 3307,
            "storage.mysql.password": Secret("p"),
            "storage.mysql.database": "d",
        },
        id="persistence on MySQL",
    ),
    pytest.param(
        "persistence: {enabled: true, databasePath: x.db, retentionDays: 3, vectorDbPath: v}",
        {
            "storage.sqlite.path": Path("x.db"),
            "vectors.path": Path("v"),
            "storage.retention.executions.max_age": timedelta(days=3),
        },
        id="persistence in camelCase",
    ),
    pytest.param(
        "vectors: {optimizer: {flush_interval_sec: 8, indexing_threshold: 5, max_segment_size: 6,"
        " deleted_threshold: 0.5}, hnsw: {on_disk: true, max_indexing_threads: 2, full_scan_threshold: 3,"
        " ef_construct: 50, m: 8}}",
        {
            "vectors.optimizer.flush_interval": timedelta(seconds=8),
            "vectors.optimizer.indexing_threshold": 5,
            "vectors.optimizer.max_segment_size": 6,
            "vectors.optimizer.deleted_threshold": 0.5,
            "vectors.hnsw.on_disk": True,
            "vectors.hnsw.m": 8,
            "vectors.hnsw.ef_construct": 50,
        },
        id="figures of the vector index",
    ),
    pytest.param("logging: {level: 'ERROR'}", {"logging.level": "error"}, id="logging"),
]


@pytest.mark.parametrize(("text", "expected"), BLOCKS)
def test_a_variant_of_a_block_says_what_it_says(read: Reader, text: str, expected: dict[str, Any]) -> None:
    loaded = read(text, PGPASS_OF_OURS="from the variable")
    values = {**loaded.values, **loaded.later}
    assert {path: values.get(path) for path in expected} == expected


@pytest.mark.parametrize(("text", "expected"), BLOCKS)
def test_a_variant_says_the_same_in_a_profile(read: Reader, text: str, expected: dict[str, Any]) -> None:
    nested = "profiles:\n  other:\n" + "".join(f"    {line}\n" for line in text.splitlines())
    loaded = read(nested, PGPASS_OF_OURS="from the variable", HOLDFAST_PROFILE="other")
    values = {**loaded.values, **loaded.later}
    assert {path: values.get(path) for path in expected} == expected


VARIABLES = [
    (
        {"STATE_STORE_TYPE": "postgres", "DATABASE_HOST": "h", "DATABASE_PORT": "6000", "DATABASE_NAME": "n"},
        {"storage.type": "postgresql", "storage.postgresql.host": "h", "storage.postgresql.port": 6000},
    ),
    (
        {"DATABASE_URL": "postgresql://u:p%20w@h/d", "DATABASE_POOL_MIN": "1", "DATABASE_TIMEOUT": "1500"},
        {
            "storage.type": "postgresql",
            "storage.postgresql.password": Secret("p w"),
            "storage.postgresql.pool.min": 1,
            "storage.postgresql.connect_timeout": timedelta(milliseconds=1500),
        },
    ),
    (
        {"STORAGE_TYPE": "mysql", "DATABASE_HOST": "h", "DATABASE_IDLE_TIMEOUT": "7000", "DATABASE_SSL": "1"},
        {
            "storage.type": "mysql",
            "storage.mysql.host": "h",
            "storage.mysql.pool.idle_timeout": timedelta(seconds=7),
            "storage.mysql.ssl.enabled": "true",
        },
    ),
    (
        {"DATABASE_PATH": "/srv/x.db", "VECTOR_DB_PATH": "/srv/v.db"},
        {"storage.sqlite.path": Path("/srv/x.db"), "vectors.path": Path("/srv/v.db")},
    ),
    (
        {"EVENT_LOG_TYPE": "filesystem", "EVENT_LOG_DIR": "/srv/events", "STATE_STORE_TYPE": "in-memory"},
        {"event_log.type": "filesystem", "event_log.dir": Path("/srv/events"), "storage.type": "memory"},
    ),
]
_BARE_TOO = [pair for pair in VARIABLES if not {"STORAGE_TYPE", "VECTOR_DB_PATH"} & pair[0].keys()]


@pytest.mark.parametrize(("pairs", "expected"), VARIABLES)
@pytest.mark.parametrize("way", ["environment", ".env", ".env.profile"])
def test_variables_with_our_prefix(
    read: Reader, tmp_path: Path, pairs: dict[str, str], expected: dict[str, Any], way: str
) -> None:
    named = {f"HOLDFAST_{name}": value for name, value in pairs.items()}
    environ = named if way == "environment" else {}
    if way != "environment":
        file = ".env" if way == ".env" else ".env.staging"
        (tmp_path / file).write_text("".join(f'{name}="{value}"\n' for name, value in named.items()))
        environ = {} if way == ".env" else {"HOLDFAST_PROFILE": "staging"}
    loaded = read(**environ)
    values = {**loaded.values, **loaded.later}
    assert {path: values.get(path) for path in expected} == expected


@pytest.mark.parametrize(("pairs", "expected"), _BARE_TOO)
def test_variables_without_a_prefix(read: Reader, pairs: dict[str, str], expected: dict[str, Any]) -> None:
    loaded = read(**pairs)
    assert {path: loaded.values.get(path) for path in expected} == expected


def test_a_profile_of_the_environment_lists_is_one_file(read: Reader, tmp_path: Path) -> None:
    """`.env.staging` as the documents have it: bare names, and a URL that decides."""
    (tmp_path / ".env.staging").write_text(
        "STATE_STORE_TYPE=postgres\nDATABASE_URL=postgresql://a:pw@staging-db:5432/a\nDATABASE_POOL_MAX=11\n"
    )
    loaded = read(HOLDFAST_PROFILE="staging")
    assert loaded.config.storage.postgresql.host == "staging-db"
    assert loaded.config.storage.postgresql.pool.max == 11
    assert str(loaded.origins["storage.type"]) == ".env.staging:2 (DATABASE_URL)"


DESIGN = SEEDS.parent / "design" / "UX.md"


@pytest.mark.skipif(not DESIGN.is_file(), reason="the design is not here")
def test_the_whole_schema_of_the_design_loads(read: Reader, tmp_path: Path) -> None:
    section = DESIGN.read_text(encoding="utf-8").partition("### 3.6")[2]
    text = section.partition("```yaml\n")[2].partition("```")[0]
    text = text.replace("ca: certs/ca.crt} ", "ca: certs/ca.crt}, ")  # its comma stands in a remark
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "holdfast.key").write_text("1:abc\n")
    loaded = read(text)
    values = {**loaded.values, **loaded.later}
    tree = yaml.safe_load(text)
    tree.pop("profile")
    said = 0
    for spelled, written in leaves(tree):
        key = look_up(spelled)
        assert key.meaning != "unknown", spelled
        if "${" in written or key.meaning in {"fixed", "group"}:
            continue
        said += 1
        assert values[key.path] == convert(rule_of(key.path), written, unit=key.unit, base=Path()), spelled
    assert said > 90

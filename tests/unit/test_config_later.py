"""Settings of features to come: read and checked like all others, and refused where they would be broken."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.convert import convert, show
from holdfast.config.later import FAMILIES, LATER, LISTS, template
from holdfast.config.loader import LoadedConfig, load
from holdfast.config.secrets import Secret
from holdfast.errors import InvalidConfiguration, SettingUnavailable


def read(folder: Path, text: str = "", *, inspect: bool = False, **environ: str) -> LoadedConfig:
    (folder / "holdfast.yaml").write_text(text, encoding="utf-8")
    return load(environ=environ, cwd=folder, inspect=inspect)


@pytest.mark.parametrize("path", LATER)
def test_every_default_is_read_back_from_how_it_is_shown(path: str) -> None:
    rule, default = LATER[path].rule, LATER[path].default
    if default is None:
        return
    text = str(show(rule, default)).lower() if isinstance(default, bool) else str(show(rule, default))
    assert convert(rule, text, unit=None, base=Path()) == default


@pytest.mark.parametrize("path", LATER)
def test_every_key_says_what_it_is_and_whose(path: str) -> None:
    assert LATER[path].rule.doc
    assert LATER[path].feature


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("vectors.hnsw.m", 16),
        ("vectors.hnsw.ef_construct", 100),
        ("vectors.hnsw.full_scan_threshold", 10_000),
        ("vectors.hnsw.max_indexing_threads", 0),
        ("vectors.hnsw.on_disk", False),
        ("vectors.optimizer.deleted_threshold", 0.2),
        ("vectors.optimizer.max_segment_size", 200_000),
        ("vectors.optimizer.indexing_threshold", 20_000),
        ("vectors.optimizer.flush_interval", timedelta(seconds=5)),
        ("vectors.collections.*.size", 1536),
        ("vectors.collections.*.distance", "cosine"),
        ("storage.retention.executions.max_age", timedelta(days=30)),
        ("storage.retention.executions.max_count", 100_000),
        ("storage.retention.audit_logs.max_age", timedelta(days=365)),
        ("cache.l1.items", 500),
        ("cache.l1.ttl", timedelta(seconds=60)),
        ("cache.l2.ttl", timedelta(minutes=10)),
        ("locks.ttl", timedelta(seconds=30)),
        ("backup.full", "0 2 * * *"),
        ("backup.compression.level", 6),
        ("backup.retention.local", timedelta(days=30)),
        ("backup.retention.remote", timedelta(days=90)),
        ("backup.alerts.backup_age", timedelta(hours=36)),
        ("health.interval", timedelta(seconds=30)),
        ("health.failure_threshold", 3),
        ("server.port", 7077),
    ],
)
def test_the_figures_of_the_requirements_are_the_defaults(path: str, default: object) -> None:
    assert LATER[path].default == default


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("redis: {url: 'redis://:pw@r:6380/1'}", "redis.url", "redis://:***@r:6380/1"),
        ("redis: {cluster: [a:1, b:2]}", "redis.cluster", "a:1, b:2"),
        ("redis: {tls: true}", "redis.tls", "true"),
        ("server: {tokens: [one, two]}", "server.tokens", "***, ***"),
        ("server: {cors: []}", "server.cors", ""),
        ("cache: {l2: {ttl: 90s}}", "cache.l2.ttl", "1m30s"),
        ("cache: {l2: {ttlSeconds: 90}}", "cache.l2.ttl", "1m30s"),
        ("vectors: {optimizer: {deletedThreshold: 0.25}}", "vectors.optimizer.deleted_threshold", 0.25),
        ("vectors: {collections: {mine: {payload_index: [a, b]}}}",
         "vectors.collections.mine.payload_index", "a, b"),
        ("storage: {partitioning: {by: monthly, tables: executions}}", "storage.partitioning.by", "month"),
        ("backup: {encryption: off}", "backup.encryption", "none"),
        ("storage: {mysql: {replicas: [{password: geheim}]}}", "storage.mysql.replicas.0.password", "***"),
    ],
)  # fmt: skip
def test_a_value_is_kept_and_shown(tmp_path: Path, text: str, path: str, value: Any) -> None:
    loaded = read(tmp_path, text)
    assert show(LATER[template(path)].rule, loaded.later[path]) == value
    notes = [note for note in loaded.notes if note.message.startswith(path)]
    assert [note.where.split(" ")[0] for note in notes] == ["holdfast.yaml:1"]
    assert "no effect yet" in notes[0].message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cache: {l1: {ttl: 60}}", "has no unit"),
        ("cache: {l1: {items: many}}", "not a whole number"),
        ("locks: {backend: zookeeper}", "database, redis"),
        ("vectors: {optimizer: {deleted_threshold: 1.5}}", "from 0 to 1"),
        ("vectors: {optimizer: {deleted_threshold: nan}}", "not a number"),
        ("vectors: {collections: {mine: {sizes: 3}}}", "did you mean vectors.collections.*.size?"),
        ("vectors: {collections: {mine: {size: 0}}}", "out of range"),
        ("vectors: {collections: [a]}", "group of settings"),
        (
            "storage: {postgresql: {replicas: [{hots: a}]}}",
            "did you mean storage.postgresql.replicas.*.host?",
        ),
        ("storage: {postgresql: {replicas: [a]}}", "group of settings"),
        ("storage: {retention: {cleanup_schedule: '61 * * * *'}}", "not a cron expression"),
        ("storage: {retention: {executions: {maxAge: soon}}}", "not a duration"),
        ("health: {failure_threshold: 0}", "out of range"),
        ("server: {port: 70000}", "out of range"),
        ("redis: {urll: x}", "did you mean redis.url?"),
        ("breakers: 5", "group of settings"),
    ],
)
def test_a_wrong_value_is_a_mistake_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read(tmp_path, f"\n{text}\n")
    problem = caught.value.details["problems"][0]
    assert problem["where"].startswith("holdfast.yaml:2")
    assert told in f"{problem['message']} {problem['hint']}"


BINDING = {
    "storage.tenancy.enabled": "true",
    "storage.encryption.at_rest": "aes-256-gcm",
    "remote.url": "https://x.example",
}


def test_these_are_the_promises_that_are_refused() -> None:
    assert {path for path, later in LATER.items() if later.binding} == set(BINDING)


@pytest.mark.parametrize("path", BINDING)
def test_a_promise_is_refused_by_what_would_break_it(tmp_path: Path, path: str) -> None:
    variable = "HOLDFAST_" + path.upper().replace(".", "__")
    with pytest.raises(SettingUnavailable) as caught:
        read(tmp_path, **{variable: BINDING[path]})
    assert (caught.value.code, caught.value.where) == ("HF1101", variable)
    looked = read(tmp_path, inspect=True, **{variable: BINDING[path]})
    assert "is not part of this version" in looked.notes[0].message


def test_a_promise_that_is_not_made_is_not_refused(tmp_path: Path) -> None:
    read(tmp_path, "storage: {tenancy: {enabled: false, column: owner}, encryption: {at_rest: null}}")


def test_a_command_refuses_the_feature_it_would_need(tmp_path: Path) -> None:
    loaded = read(tmp_path, "storage: {partitioning: {enabled: true}}")
    with pytest.raises(SettingUnavailable, match="partitioning is not part of this version"):
        loaded.refuse("storage.partitioning.enabled")
    loaded.refuse("storage.retention")
    off = read(tmp_path, "storage: {partitioning: {enabled: false, by: month}}")
    off.refuse("storage.partitioning.enabled")


def test_stronger_sources_win_here_too(tmp_path: Path) -> None:
    text = "redis: {prefix: file}\nprofiles: {p: {redis: {prefix: profile}}}"
    assert read(tmp_path, text).later["redis.prefix"] == "file"
    assert read(tmp_path, text, HOLDFAST_PROFILE="p").later["redis.prefix"] == "profile"
    loaded = read(tmp_path, text, HOLDFAST_PROFILE="p", HOLDFAST_REDIS__PREFIX="variable")
    assert loaded.later["redis.prefix"] == "variable"
    assert [note.where for note in loaded.notes] == ["HOLDFAST_REDIS__PREFIX"]


def test_an_element_of_a_list_may_be_a_variable(tmp_path: Path) -> None:
    text = "storage: {postgresql: {replicas: [{host: a}]}}"
    loaded = read(tmp_path, text, HOLDFAST_STORAGE__POSTGRESQL__REPLICAS__0__PASSWORD="geheim")
    assert loaded.later == {
        "storage.postgresql.replicas.0.host": "a",
        "storage.postgresql.replicas.0.password": Secret("geheim"),
    }


def test_a_secret_of_a_feature_to_come_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("1:abc\n")
    loaded = read(tmp_path, HOLDFAST_STORAGE__ENCRYPTION__KEY_FILE="key")
    assert loaded.later["storage.encryption.key"] == Secret("1:abc")


def test_an_ambient_variable_of_others_is_no_remark(tmp_path: Path) -> None:
    loaded = load(environ={"REDIS_URL": "redis://r"}, cwd=tmp_path, bare=True)
    assert loaded.later["redis.url"].reveal() == "redis://r"
    assert not loaded.notes


def test_families() -> None:
    assert set(FAMILIES) == {
        "storage.postgresql.replicas",
        "storage.mysql.replicas",
        "vectors.collections",
    }
    assert set(FAMILIES) >= LISTS
    assert template("vectors.collections.a b.size") == "vectors.collections.*.size"
    assert template("vectors.path") == "vectors.path"

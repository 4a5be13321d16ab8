"""`config set` changes one value of a file and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.cli.project import config_file
from holdfast.config.editing import with_value, write
from holdfast.config.files import read_root
from holdfast.config.loader import load
from holdfast.config.schema import SETTINGS
from holdfast.config.yaml_lines import Mapping, Scalar, read_yaml
from holdfast.errors import InvalidArgument, InvalidConfiguration

LEVEL, MAX = "logging.level", "storage.postgresql.pool.max"


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ("", LEVEL, "debug", "logging:\n  level: debug\n"),
        ("# only a remark\n", LEVEL, "debug", "# only a remark\nlogging:\n  level: debug\n"),
        ("logging:\n  level: info # why\n", LEVEL, "debug", "logging:\n  level: debug # why\n"),
        ("logging: {level: info}\n", LEVEL, "debug", "logging: {level: debug}\n"),
        ("logging: {}\n", LEVEL, "debug", "logging: {level: debug}\n"),
        ("logging:\n", LEVEL, "debug", "logging:\n  level: debug\n"),
        ("logging:\n  level:\n", LEVEL, "debug", "logging:\n  level: debug\n"),
        (
            "logging:\n  # level: info     # least\n\nworker:\n  lease: 3s\n",
            LEVEL,
            "debug",
            "logging:\n  level: debug      # least\n\nworker:\n  lease: 3s\n",
        ),
        ("logging:\n  #level: info\n", LEVEL, "debug", "logging:\n  level: debug\n"),
        (
            "storage:\n    postgresql:\n        host: a\n\n# end\n",
            MAX,
            "7",
            "storage:\n    postgresql:\n        host: a\n        pool:\n          max: 7\n\n# end\n",
        ),
        (
            "storage: {postgres: {pool: {maxConnections: 5}}}\n",
            MAX,
            "7",
            "storage: {postgres: {pool: {maxConnections: 7}}}\n",
        ),
        (
            "storage: {postgresql: {host: a}}\n",
            MAX,
            "7",
            "storage: {postgresql: {host: a, pool: {max: 7}}}\n",
        ),
        (
            "worker:\n  queues:\n    - a\n    - b\n  lease: 3s\n",
            "worker.queues",
            "c",
            "worker:\n  queues:\n    c\n  lease: 3s\n",
        ),
        ("environment: x\n", "environment", "a: b #c", 'environment: "a: b #c"\n'),
        ("environment: x\n", "environment", "true", "environment: true\n"),
        ("environment: x\n", "environment", "null", 'environment: "null"\n'),
        ("environment: x\n", "environment", "${ENV:-x}", 'environment: "${ENV:-x}"\n'),
        ("# a\r\nlogging:\r\n  level: info\r\n", LEVEL, "debug", "# a\r\nlogging:\r\n  level: debug\r\n"),
        ("a\n", LEVEL, "debug", None),
        ("logging: &x {level: info}\nworker: *x\n", "worker.lease", "3s", None),
        ("logging: {level: info}\nLogging: {level: info}\n", LEVEL, "debug", None),
        ("storage: {postgresql: {replicas: [{host: a}]}}\n", "storage.postgresql.replicas.0.host", "b", None),
    ],
)
def test_one_value(before: str, path: str, value: str, after: str | None) -> None:
    if after is None:
        with pytest.raises((InvalidConfiguration, InvalidArgument)):
            with_value(before, "holdfast.yaml", path, value)
    else:
        assert with_value(before, "holdfast.yaml", path, value) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "profiles:\n  prod:\n    logging:\n      level: debug\n"),
        (
            "logging: {level: info}\nprofiles:\n  dev: {}\n",
            "logging: {level: info}\nprofiles:\n  dev: {}\n  prod:\n    logging:\n      level: debug\n",
        ),
        ("profiles: {prod: {logging: {level: a}}}\n", "profiles: {prod: {logging: {level: debug}}}\n"),
        ("profiles:\n  prod:\n", "profiles:\n  prod:\n    logging:\n      level: debug\n"),
    ],
)
def test_a_value_of_a_profile(before: str, after: str) -> None:
    assert with_value(before, "holdfast.yaml", LEVEL, "debug", scope=("profiles", "prod")) == after


@pytest.mark.parametrize("path", [path for path in SETTINGS if path != "storage.url"])
def test_every_line_that_init_writes_can_be_put_in_use(path: str) -> None:
    before = config_file()
    after = with_value(before, "holdfast.yaml", path, "x")
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    name = path.rpartition(".")[2]
    assert changed[0][0].lstrip().startswith(f"# {name}:")
    assert changed[0][1].lstrip().startswith(f"{name}: x")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_value_is_read_back(value: str) -> None:
    try:
        text = with_value("logging: {level: info}\n", "holdfast.yaml", "environment", value)
    except InvalidConfiguration:  # what YAML can not hold
        return
    root = read_yaml(text, "holdfast.yaml")
    assert isinstance(root, Mapping)
    assert root.items["environment"][1] == Scalar(value, 2)


def test_all_values_one_after_the_other_give_a_file_that_loads(tmp_path: Path) -> None:
    text = config_file()
    values = {
        LEVEL: "debug",
        MAX: "9",
        "storage.type": "postgresql",
        "storage.postgresql.replicas": "",
        "worker.queues": "a,b",
        "storage.retention.executions.max_age": "3d",
        "vectors.collections.mine.size": "3",
    }
    values.pop("storage.postgresql.replicas")
    for path, value in values.items():
        text = with_value(text, "holdfast.yaml", path, value)
    (tmp_path / "holdfast.yaml").write_text(text)
    loaded = load(environ={}, cwd=tmp_path)
    assert loaded.config.storage.postgresql.pool.max == 9
    assert loaded.config.worker.queues == ("a", "b")
    assert loaded.later["vectors.collections.mine.size"] == 3


def test_a_folder_that_takes_no_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be written"):
        write(tmp_path / "missing" / "holdfast.yaml", "a")


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "real.yaml", tmp_path / "holdfast.yaml"
    path.write_text("a")
    path.chmod(0o640)
    link.symlink_to(path)
    write(link, "environment: b\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("environment: b\n", 0o640)
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["holdfast.yaml", "real.yaml"]
    assert read_root(path, "x", required=True) is not None

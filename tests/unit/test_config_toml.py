"""TOML says the same as YAML, with lines, and the first file that holds settings is the one that is read."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.files import FILES
from holdfast.config.loader import LoadedConfig, load
from holdfast.config.secrets import Secret
from holdfast.config.toml_lines import read_toml
from holdfast.config.yaml_lines import Mapping, Node, Scalar, Sequence
from holdfast.errors import InvalidConfiguration

TEXT = '''\
# remark
profile = "quiet"

[storage]
type = "postgresql"
slow_query = "${SLOW:-2s}"

[storage.postgresql]
host = "db.example"    # = not "this"
port = 6432
password = """
s = 1
"""
pool = { min = 3, max = 7 }
ssl.mode = "verify-ca"
"read_preference" = 'any'

[[storage.postgresql.replicas]]
host = "r1"
[[storage.postgresql.replicas]]
host = "r2"
port = 6433

[worker]
queues = [
  "a",
  "b",
]

[profiles.quiet.logging]
level = "error"
'''
PYPROJECT = (
    '[project]\nname = "x"\n\n[tool.holdfast]\nlogging.level = "debug"\n\n[tool.holdfast.worker]\nlease = 3\n'
)


def read(folder: Path, **environ: str) -> LoadedConfig:
    return load(environ=environ, cwd=folder)


def test_every_form_is_read_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(TEXT)
    loaded = read(tmp_path)
    places = {path: str(origin) for path, origin in loaded.origins.items() if origin.source != "default"}
    assert places == {
        "profile": "holdfast.toml:2",
        "storage.url": "derived",
        "storage.type": "holdfast.toml:5",
        "storage.slow_query": "holdfast.toml:6",
        "storage.postgresql.host": "holdfast.toml:9",
        "storage.postgresql.port": "holdfast.toml:10",
        "storage.postgresql.password": "holdfast.toml:11",
        "storage.postgresql.pool.min": "holdfast.toml:14",
        "storage.postgresql.pool.max": "holdfast.toml:14",
        "storage.postgresql.ssl.mode": "holdfast.toml:15",
        "storage.postgresql.read_preference": "holdfast.toml:16",
        "storage.postgresql.replicas.0.host": "holdfast.toml:19",
        "storage.postgresql.replicas.1.host": "holdfast.toml:21",
        "storage.postgresql.replicas.1.port": "holdfast.toml:22",
        "worker.queues": "holdfast.toml:25",
        "logging.level": "holdfast.toml:31 (profile quiet)",
    }
    server = loaded.config.storage.postgresql
    assert (server.host, server.port, server.pool.max, server.ssl.mode) == (
        "db.example",
        6432,
        7,
        "verify-ca",
    )
    assert server.password == Secret("s = 1\n")
    assert loaded.config.worker.queues == ("a", "b")
    assert loaded.later["storage.postgresql.replicas.1.port"] == 6433


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("[storage]\ntyp = 'sqlite'\n", "holdfast.toml:2", "did you mean storage.type?"),
        ("\nstorage = 1\n", "holdfast.toml:2", "group of settings"),
        ("[storage]\nstatement_timeout = 30\n", "holdfast.toml:2", "has no unit"),
        ("[storage]\ntype = \n", "holdfast.toml:2", "not TOML"),
        ("a = 1\na = 2\n", "holdfast.toml:2", "not TOML"),
        ("[worker]\nconcurrency = 1.5\n", "holdfast.toml:2", "not a whole number"),
        ("[storage.postgresql.pool]\nmin = 9\nmax = 3\n", "holdfast.toml:2", "more than pool.max"),
        ("a = " + "[" * 3000, "holdfast.toml", "not TOML"),
    ],
)
def test_mistakes_have_their_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    (tmp_path / "holdfast.toml").write_text(text)
    with pytest.raises(InvalidConfiguration) as caught:
        read(tmp_path)
    assert str(caught.value.where).startswith(where)
    assert words in f"{caught.value.cause} {caught.value.fix}"


def test_a_table_of_pyproject_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    with pytest.raises(InvalidConfiguration, match="has no unit") as caught:
        read(tmp_path)
    assert caught.value.where == "pyproject.toml:8"
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.replace("lease = 3", 'lease = "3s"'))
    loaded = read(tmp_path)
    assert (loaded.file, loaded.config.logging.level) == ("pyproject.toml", "debug")
    assert str(loaded.origins["logging.level"]) == "pyproject.toml:5"


@pytest.mark.parametrize("text", ["[project]\nname = 'x'\n", "[tool]\nholdfast_not = 1\n", "[tool.ruff]\n"])
def test_a_pyproject_of_others_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    loaded = read(tmp_path)
    assert (loaded.file, loaded.notes) == (None, ())


def test_the_first_file_is_read_and_the_others_are_told_of(tmp_path: Path) -> None:
    for name in FILES:
        text = "[tool.holdfast]\n" if name == "pyproject.toml" else "[logging]\n"
        (tmp_path / name).write_text(text if name.endswith(".toml") else "logging: {level: error}\n")
    loaded = read(tmp_path)
    assert loaded.file == "holdfast.yaml"
    told = ["holdfast.yml", "holdfast.toml", "holdfast.config.yaml"]
    assert sorted(warning.where for warning in loaded.warnings) == sorted(told)
    for name in FILES:
        assert read(tmp_path).file == name
        (tmp_path / name).unlink()
    assert read(tmp_path).file is None


def test_a_named_file_may_be_toml(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "x.toml").write_text("[storage.sqlite]\npath = 'a.db'\n")
    loaded = read(tmp_path, HOLDFAST_CONFIG="conf/x.toml")
    assert loaded.config.storage.sqlite.path == Path("conf/a.db")


def test_a_config_yaml_of_known_keys_alone_is_ours(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("logging: {level: debug}\n")
    assert read(tmp_path).config.logging.level == "debug"
    (tmp_path / "config.yaml").write_text("logging: {level: debug, handlers: [a]}\n")
    loaded = read(tmp_path)
    assert (loaded.file, [note.where for note in loaded.notes]) == (None, ["config.yaml"])


def plain(node: Node | None) -> object:
    match node:
        case Mapping(items):
            return {key: plain(inner) for key, (_, inner) in items.items()}
        case Sequence(items):
            return [plain(item) for item in items]
        case Scalar(text):
            return text
    return None


def test_values_are_the_texts_that_yaml_gives() -> None:
    text = 'a = true\nb = 1_000\nc = 1.5\nd = 2020-01-02\ne = ["x", 2]\n[f]\n"g.h" = {i = "j"}\n'
    assert plain(read_toml(text, "x.toml")) == {
        "a": "true",
        "b": "1000",
        "c": "1.5",
        "d": "2020-01-02",
        "e": ["x", "2"],
        "f": {"g.h": {"i": "j"}},
    }


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidConfiguration):
        read_toml(text, "x.toml")

"""What the text of a setting may be: units, choices, variables in files, and keys with their lines."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.convert import convert, show
from holdfast.config.interpolate import interpolate
from holdfast.config.known import look_up, nearest
from holdfast.config.later import LATER
from holdfast.config.loader import load
from holdfast.config.schema import SETTINGS, Config
from holdfast.config.secrets import Secret, SecretUrl, redact_url, redact_whole
from holdfast.config.yaml_lines import read_yaml
from holdfast.errors import InvalidArgument, InvalidConfiguration

LEASE = SETTINGS["worker.lease"].rule
POOL_MAX = SETTINGS["storage.postgresql.pool.max"].rule
MODE = SETTINGS["storage.sqlite.file_mode"].rule
ON_CONFLICT = SETTINGS["storage.retry.on_conflict"].rule
AUTO_RUN = SETTINGS["storage.migrations.auto_run"].rule


@pytest.mark.parametrize(
    ("rule", "text", "native", "value"),
    [
        (LEASE, "30s", True, timedelta(seconds=30)),
        (LEASE, "PT1M", True, timedelta(minutes=1)),
        (LEASE, "30000", False, timedelta(seconds=30)),
        (LEASE, "30s", False, timedelta(seconds=30)),
        (POOL_MAX, " 7 ", True, 7),
        (MODE, "0600", True, 0o600),
        (MODE, "660", True, 0o660),
        (MODE, "0o600", True, 0o600),
        (ON_CONFLICT, "true", False, 5),
        (ON_CONFLICT, "false", False, 0),
        (AUTO_RUN, "Yes", True, True),
        (AUTO_RUN, "off", True, False),
    ],
)
def test_texts_that_are_read(rule: object, text: str, native: bool, value: object) -> None:
    assert convert(rule, text, unit=None if native else "ms", base=Path()) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "text", "fix"),
    [
        (LEASE, "30", "30s if seconds"),
        (LEASE, "10ms", "at least 1s"),
        (LEASE, "soon", "number with a unit"),
        (POOL_MAX, "0", "from 1 to 1000"),
        (POOL_MAX, "1e3", "from 1 to 1000"),
        (POOL_MAX, "9" * 30, "from 1 to 1000"),
        (MODE, "rw", "0600"),
        (MODE, "0777", "0600"),
        (MODE, "0400", "0600"),
        (AUTO_RUN, "maybe", "true or false"),
        (SETTINGS["storage.type"].rule, "oracle", "sqlite, postgresql, mysql, file, memory"),
        (SETTINGS["storage.sqlite.synchronous"].rule, "off", "full, extra"),
    ],
)
def test_texts_that_are_refused(rule: object, text: str, fix: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert(rule, text, unit=None, base=Path())  # type: ignore[arg-type]
    assert fix in caught.value.fix


@pytest.mark.parametrize("path", SETTINGS)
def test_every_default_is_read_back_from_how_it_is_shown(path: str) -> None:
    rule, default = SETTINGS[path].rule, SETTINGS[path].default
    if default is None:
        return
    text = str(show(rule, default)).lower() if isinstance(default, bool) else str(show(rule, default))
    assert convert(rule, text, unit=None, base=Path()) == default


def test_every_default_of_the_table_is_the_one_of_the_value() -> None:
    config: object = Config()
    for path, setting in SETTINGS.items():
        value = config
        for part in path.split("."):
            value = getattr(value, part)
        assert value == setting.default, path


def test_no_key_has_two_meanings() -> None:
    assert not set(SETTINGS) & set(LATER)


@pytest.mark.parametrize(
    ("spelled", "path", "meaning", "native"),
    [
        ("storage.postgresql.pool.idleTimeout", "storage.postgresql.pool.idle_timeout", "setting", False),
        ("storage.postgres.pool.max", "storage.postgresql.pool.max", "setting", True),
        ("storage.postgresql.pool.max_connections", "storage.postgresql.pool.max", "setting", False),
        ("storage.retryOnConflict", "storage.retry.on_conflict", "setting", False),
        ("storage.sqlite.walMode", "storage.sqlite.wal", "fixed", False),
        ("storage.slowQuery", "storage.slow_query", "setting", False),
        ("storage.retention.auditLogs", "storage.retention.audit_logs", "group", False),
        ("storage.retention.cleanupSchedule", "storage.retention.cleanup_schedule", "later", False),
        ("storage.mariadb.host", "storage.mysql.host", "setting", True),
        ("storage.postgresql.primary.host", "storage.postgresql.host", "setting", True),
        ("externalDatabase.user", "storage.postgresql.username", "setting", False),
        ("storage.postgres.replicas.0.host", "storage.postgresql.replicas.0.host", "later", True),
        (
            "vectors.collections.myDocs.payloadIndex",
            "vectors.collections.myDocs.payload_index",
            "later",
            False,
        ),
        ("storage.postgresql", "storage.postgresql", "group", True),
        ("storage.nothing", "storage.nothing", "unknown", True),
    ],
)
def test_keys(spelled: str, path: str, meaning: str, native: bool) -> None:
    assert look_up(spelled) == (path, meaning, None if native else "ms")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("storage.typ", "storage.type"),
        ("storge", "storage"),
        ("storage.pool", "storage.postgresql.pool"),
        ("storage.postgresql.pool.mx", "storage.postgresql.pool.max"),
        ("redis.urll", "redis.url"),
        ("storage.postgresql.replicas.3.hots", "storage.postgresql.replicas.*.host"),
        ("event_log.compres", "event_log.compress"),
        ("zzzzzz", None),
    ],
)
def test_the_nearest_right_key(wrong: str, right: str | None) -> None:
    assert nearest(wrong) == right


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("storage:\n  typ: sqlite\n", "holdfast.yaml:2", "did you mean storage.type?"),
        ("\nstorage: sqlite\n", "holdfast.yaml:2", "is a group of settings"),
        ("storage:\n  type: [sqlite]\n", "holdfast.yaml:2", "takes one value"),
        ("storage:\n  type: sqlite\n  type: memory\n", "holdfast.yaml:3", "on line 2"),
        ("storage:\n  type: memory\n  Type: sqlite\n", "holdfast.yaml:3", "contradict"),
        ("storage:\n  sqlite:\n    wal: false\n", "holdfast.yaml:3", "write-ahead"),
        ("storage:\n\n  statement_timeout: 30\n", "holdfast.yaml:3", "has no unit"),
        (
            "storage:\n  statement_timeout: ${TIME}\n",
            "holdfast.yaml:2",
            "statement_timeout: the variable TIME",
        ),
        ("- a\n", "holdfast.yaml:1", "not a mapping"),
        ("a: 1\n b: 2\n", "holdfast.yaml:2", "not YAML"),
        ("a: !!python/object:os.system x\n", "holdfast.yaml:1", "the tag"),
        ("a: !mine x\n", "holdfast.yaml:1", "the tag"),
        ("? [1]\n: 2\n", "holdfast.yaml:1", "plain word"),
        ("a: &x 1\n<<: *x\n", "holdfast.yaml:2", "plain word"),
        ("a: 1\n---\nb: 2\n", "holdfast.yaml:2", "not YAML"),
        ("a: &a [*a]\n", "holdfast.yaml:1", "nested too deeply"),
        ("a: " + "[" * 5000, "holdfast.yaml", "not YAML"),
    ],
)
def test_mistakes_in_the_file_have_their_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    (tmp_path / "holdfast.yaml").write_text(text)
    with pytest.raises(InvalidConfiguration) as caught:
        load(environ={}, cwd=tmp_path)
    error = caught.value
    assert str(error.where).split(" ")[0].startswith(where)
    assert words in f"{error.cause} {error.fix}"


def test_an_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(InvalidConfiguration, match="holds too much"):
        read_yaml("\n".join(lines), "holdfast.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidConfiguration):
        read_yaml(text, "x.yaml")


@pytest.mark.parametrize("text", ["", "# only a remark\n", "storage:\n  # type: memory\n"])
def test_a_file_that_says_nothing_is_right(tmp_path: Path, text: str) -> None:
    (tmp_path / "holdfast.yaml").write_text(text)
    assert load(environ={}, cwd=tmp_path).config == Config()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-}", ""),
        ("${NONE:-a:b}", "a:b"),
        ("$$A $${A}", "$A ${A}"),
        ("${REF}", "${A}"),  # once, not again
        ("${file:pw}", "secret"),
    ],
)
def test_interpolation(tmp_path: Path, text: str, value: str) -> None:
    (tmp_path / "pw").write_text("secret\n")
    assert interpolate(text, {"A": "1", "EMPTY": "", "REF": "${A}"}, tmp_path) == value


@pytest.mark.parametrize("text", ["${NONE}", "$A", "100$", "${file:nowhere}", "${A", "${}"])
def test_what_cannot_be_filled_in_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument):
        interpolate(text, {"A": "1"}, tmp_path)


def test_variables_for_the_file_come_from_dotenv_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LEVEL=debug\n")
    (tmp_path / "holdfast.yaml").write_text("logging: {level: '${LEVEL}'}")
    assert load(environ={}, cwd=tmp_path).config.logging.level == "debug"
    assert load(environ={"LEVEL": "error"}, cwd=tmp_path).config.logging.level == "error"


def test_text_keeps_what_yaml_would_change(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text(
        "storage: {postgresql: {password: 0123, username: yes, database: 1e3}, sqlite: {file_mode: 0600}}"
    )
    storage = load(environ={}, cwd=tmp_path).config.storage
    assert storage.postgresql.password == Secret("0123")
    assert (storage.postgresql.username, storage.postgresql.database) == ("yes", "1e3")
    assert storage.sqlite.file_mode == 0o600


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@ss/w#rd@h/d", "postgresql://u:***@h/d"),
        ("a postgresql://u:p@h/d and redis://:q@r/0", "a postgresql://u:***@h/d and redis://:***@r/0"),
        ("postgresql://h/d?password=x&a=b", "postgresql://h/d?password=***&a=b"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_redaction(text: str, redacted: str) -> None:
    assert redact_url(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://u:a b@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@ss w/rd@h/d?password=x", "postgresql://u:***@h/d?password=***"),
        ("u:p@h", "u:***@h"),
        ("postgresql:/u:p@h/d", "postgresql:***@h/d"),
        ("postgresql://u@h:5432,i:5433/d", "postgresql://u@h:5432,i:5433/d"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_redaction_of_a_whole_url_that_may_be_wrong(text: str, redacted: str) -> None:
    assert redact_whole(text) == redacted
    assert str(SecretUrl(text)) == redacted


def test_a_secret_gives_itself_away_to_nobody() -> None:
    secret = Secret("geheim")
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", repr([secret])):
        assert "geheim" not in shown
        assert "***" in shown
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) is secret
    assert secret.reveal() == "geheim"
    assert secret == Secret("geheim") != Secret("other")
    assert secret != "geheim"
    assert not hasattr(secret, "__dict__")


def test_a_configuration_can_be_printed(tmp_path: Path) -> None:
    config = load(environ={"HOLDFAST_URL": "postgresql://u:geheim@h/d"}, cwd=tmp_path).config
    assert "geheim" not in f"{config} {dataclasses.asdict(config)} {config.storage.url}"
    assert str(config.storage.url) == "postgresql://u:***@h:5432/d"
    assert isinstance(config.storage.url, SecretUrl)

"""Which source wins, what each source may say, and where a value says it came from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.config.loader import LoadedConfig, load
from holdfast.config.secrets import Secret
from holdfast.errors import InvalidConfiguration, SettingUnavailable

PG = "storage.postgresql"
Reader = Callable[..., LoadedConfig]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Load from files given by name (`__` in a keyword is a dot) and an environment."""

    def run(
        environ: dict[str, str] | None = None, files: dict[str, str] | None = None, **options: object
    ) -> LoadedConfig:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return load(environ=environ or {}, cwd=tmp_path, **options)  # type: ignore[arg-type]

    return run


def problems(error: InvalidConfiguration) -> list[dict[str, str]]:
    found: list[dict[str, str]] = error.details["problems"]
    return found


def test_nothing_configured_is_a_sqlite_file_below_the_folder(read: Reader) -> None:
    loaded = read()
    assert loaded.config.storage.type == "sqlite"
    assert loaded.config.storage.sqlite.path == Path(".holdfast/holdfast.db")
    assert loaded.config.storage.url.reveal() == "sqlite:///.holdfast/holdfast.db"
    assert {origin.source for origin in loaded.origins.values()} == {"default"}
    assert loaded.file is None
    assert not loaded.warnings


SOURCES = [  # strongest first; each gives pool.max another value
    ("flag", "--pool", {"flags": {f"{PG}.pool.max": "9"}}, 9),
    ("environment", "HOLDFAST_DATABASE_POOL_MAX", {"environ": {"HOLDFAST_DATABASE_POOL_MAX": "8"}}, 8),
    (
        ".env",
        ".env.prod:2 (HOLDFAST_DATABASE_POOL_MAX)",
        {"files": {".env.prod": "# x\nHOLDFAST_DATABASE_POOL_MAX=7\n"}},
        7,
    ),
    (".env", ".env:1 (HOLDFAST_DATABASE_POOL_MAX)", {"files": {".env": "HOLDFAST_DATABASE_POOL_MAX=6"}}, 6),
    (
        "profile",
        "holdfast.yaml:3 (profile prod)",
        {"files": {"holdfast.yaml": "profiles:\n prod:\n  storage: {postgresql: {pool: {max: 5}}}\n"}},
        5,
    ),
    (
        "file",
        "holdfast.yaml:1",
        {"files": {"holdfast.yaml": "storage: {postgresql: {pool: {max: 4}}}\n"}},
        4,
    ),
    ("bare", "DATABASE_POOL_MAX", {"environ": {"DATABASE_POOL_MAX": "3"}}, 3),
]


@pytest.mark.parametrize("stronger", range(len(SOURCES)))
def test_a_source_beats_all_weaker_ones(read: Reader, stronger: int) -> None:
    environ: dict[str, str] = {"HOLDFAST_PROFILE": "prod"}
    files: dict[str, str] = {}
    flags: dict[str, str] = {}
    for _, _, parts, _ in SOURCES[stronger:]:
        environ |= parts.get("environ", {})
        flags |= parts.get("flags", {})
        for name, text in parts.get("files", {}).items():
            files[name] = files.get(name, "") + text
    loaded = read(environ, files, flags=flags, bare=True)
    source, origin, _, value = SOURCES[stronger]
    assert loaded.config.storage.postgresql.pool.max == value
    assert loaded.origins[f"{PG}.pool.max"].source == source
    if source not in {"flag", "file"}:
        assert str(loaded.origins[f"{PG}.pool.max"]) == origin


def test_bare_variables_are_not_read_unless_asked_for(read: Reader) -> None:
    environ = {"DATABASE_URL": "postgresql://h/d", "STATE_STORE_TYPE": "postgres"}
    assert read(environ).config.storage.type == "sqlite"
    assert read(environ, bare=True).config.storage.postgresql.host == "h"


BARE_URL = {"DATABASE_URL": "postgresql://ambient/other", "DATABASE_NAME": "ambient"}


@pytest.mark.parametrize(
    ("configured", "url"),
    [
        ("storage: {type: sqlite}", "sqlite:///.holdfast/holdfast.db"),
        ("storage: {url: 'postgresql://mine/db'}", "postgresql://holdfast@mine:5432/db"),
        ("storage: {type: postgresql, postgresql: {host: mine}}", "postgresql://holdfast@mine:5432/holdfast"),
        ("storage: {sqlite: {path: mine.db}}", "sqlite:///mine.db"),
        ("storage: {type: postgresql}", "postgresql://holdfast@ambient:5432/other"),
        ("logging: {level: debug}", "postgresql://holdfast@ambient:5432/other"),
    ],
)
def test_bare_variables_never_redirect_a_configured_store(read: Reader, configured: str, url: str) -> None:
    loaded = read(BARE_URL, {"holdfast.yaml": configured}, bare=True)
    assert loaded.config.storage.url.reveal() == url


def test_a_bare_password_completes_configured_parts(read: Reader) -> None:
    loaded = read(
        {"DATABASE_PASSWORD": "s"},
        {"holdfast.yaml": "storage: {type: postgresql, postgresql: {host: localhost}}"},
        bare=True,
    )
    assert loaded.config.storage.postgresql.password == Secret("s")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        # within one source the URL wins
        (
            {"HOLDFAST_URL": "postgresql://u@h/d", "HOLDFAST_DATABASE_HOST": "other"},
            "postgresql://u@h:5432/d",
        ),
        ({"HOLDFAST_URL": "sqlite:///a.db", "HOLDFAST_STORAGE_TYPE": "postgres"}, "sqlite:///a.db"),
        # a URL may leave its password to the variable beside it
        (
            {"HOLDFAST_URL": "postgresql://u@h/d", "HOLDFAST_DATABASE_PASSWORD": "p/w"},
            "postgresql://u:p%2Fw@h:5432/d",
        ),
        # parts of a stronger source change the weaker URL
        ({"HOLDFAST_DATABASE_HOST": "env"}, "postgresql://file:secret@env:5432/filedb"),
        ({"HOLDFAST_STATE_STORE_TYPE": "in-memory"}, "memory://"),
        # a stronger URL is whole: the weaker user and password stay behind
        ({"HOLDFAST_DATABASE_URL": "postgresql://env/db"}, "postgresql://holdfast@env:5432/db"),
    ],
)
def test_urls_and_parts(read: Reader, environ: dict[str, str], url: str) -> None:
    loaded = read(environ, {"holdfast.yaml": "storage: {url: 'postgresql://file:secret@h/filedb'}"})
    assert loaded.config.storage.url.reveal() == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///a/b.db", {"storage.sqlite.path": Path("a/b.db")}),
        ("sqlite:////a/b%20c.db", {"storage.sqlite.path": Path("/a/b c.db")}),
        ("sqlite:///:memory:", {"storage.type": "memory"}),
        ("memory://", {"storage.type": "memory"}),
        ("postgres://[::1]:5433/d", {f"{PG}.host": "::1", f"{PG}.port": 5433, f"{PG}.database": "d"}),
        ("postgresql://u:p%40@h/d", {f"{PG}.username": "u", f"{PG}.password": Secret("p@")}),
        ("postgresql:///d?host=/run/pg&schema=s", {f"{PG}.host": "/run/pg", f"{PG}.schema": "s"}),
        ("postgresql://h/d?connect_timeout=5", {f"{PG}.connect_timeout": timedelta(seconds=5)}),
        ("postgresql://h/d?sslmode=disable", {f"{PG}.ssl.enabled": "false"}),
        (
            "postgresql://localhost/d?sslmode=require",
            {f"{PG}.ssl.enabled": "true", f"{PG}.ssl.mode": "require"},
        ),
    ],
)
def test_url_forms(read: Reader, url: str, expected: dict[str, object]) -> None:
    loaded = read(flags={"storage.url": url})
    assert {path: loaded.values[path] for path in expected} == expected
    assert str(loaded.origins["storage.type"]) == "--storage"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("holdfast.db", ["not a store URL", "sqlite:///"]),
        ("sqlite://a.db", ["two slashes", "sqlite:///a.db"]),
        ("sqlite:///", ["names no file"]),
        ("sqlit:///a.db", ["'sqlit'", "sqlite://"]),
        ("postgresql://h:99999/d", ["not a URL"]),
        ("postgresql://u:p/w@h:1/d", ["not a URL", "percent-encode"]),
        ("postgresql://h/d?sslmod=require", ["sslmod", "did you mean sslmode?"]),
        ("postgresql://h/d?sslmode=prefer", ["'prefer'", "verify-full"]),
    ],
)
def test_malformed_urls(read: Reader, url: str, words: list[str]) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read({"HOLDFAST_URL": url})
    text = f"{caught.value} {caught.value.fix}"
    assert all(word in text for word in words), text
    assert "HOLDFAST_URL" in text
    assert "p/w" not in text


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("HOLDFAST_STORAGE_TYPE", "postgres", "storage.type", "postgresql"),
        ("HOLDFAST_STATE_STORE_TYPE", "in-memory", "storage.type", "memory"),
        ("HOLDFAST_DATABASE_PATH", "x.db", "storage.sqlite.path", Path("x.db")),
        ("HOLDFAST_DATABASE_PORT", "5433", f"{PG}.port", 5433),
        ("HOLDFAST_DATABASE_NAME", "n", f"{PG}.database", "n"),
        ("HOLDFAST_DATABASE_USER", "u", f"{PG}.username", "u"),
        ("HOLDFAST_DATABASE_PASSWORD", "007", f"{PG}.password", Secret("007")),
        ("HOLDFAST_DATABASE_POOL_MIN", "3", f"{PG}.pool.min", 3),
        ("HOLDFAST_DATABASE_SSL", "true", f"{PG}.ssl.enabled", "true"),
        ("HOLDFAST_DATABASE_TIMEOUT", "30000", f"{PG}.connect_timeout", timedelta(seconds=30)),
        ("HOLDFAST_DATABASE_IDLE_TIMEOUT", "10000", f"{PG}.pool.idle_timeout", timedelta(seconds=10)),
        ("HOLDFAST_EVENT_LOG_TYPE", "database", "event_log.type", "database"),
        ("HOLDFAST_LOG_LEVEL", "WARN", "logging.level", "warning"),
        ("HOLDFAST_STORAGE__POSTGRESQL__POOL__MAX", "50", f"{PG}.pool.max", 50),
        ("HOLDFAST_WORKER__LEASE", "1m", "worker.lease", timedelta(minutes=1)),
    ],
)
def test_environment_names(read: Reader, name: str, text: str, path: str, value: object) -> None:
    loaded = read({name: text})
    assert loaded.values[path] == value
    assert str(loaded.origins[path]) == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HOLDFAST_STORAGE_TYP", "HOLDFAST_STORAGE_TYPE"),
        ("HOLDFAST_STORAGE_SQLITE_PATH", "HOLDFAST_STORAGE__SQLITE__PATH"),
        ("HOLDFAST_CACHE_L1_ITEMS", "HOLDFAST_CACHE__L1__ITEMS"),
        ("HOLDFAST_STORAGE__POSTGRESQL__POOL__MX", "HOLDFAST_STORAGE__POSTGRESQL__POOL__MAX"),
        ("HOLDFAST_WORKR__LEASE", "HOLDFAST_WORKER__LEASE"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(read: Reader, name: str, meant: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read({name: "1"})
    assert f"did you mean {meant}?" in caught.value.fix


def test_variables_of_others_with_our_prefix_are_let_be(read: Reader) -> None:
    loaded = read({"HOLDFAST_PORT": "tcp://10.0.0.1:7077", "HOLDFAST_TEST_ANYTHING": "x"})
    assert [note.where for note in loaded.notes] == ["HOLDFAST_PORT"]


def test_an_empty_variable_counts_as_not_set(read: Reader) -> None:
    assert read({"HOLDFAST_URL": "", "HOLDFAST_STORAGE_TYPE": ""}).origins["storage.url"].source == "default"


def test_two_names_for_one_setting_may_not_contradict_each_other(read: Reader) -> None:
    with pytest.raises(InvalidConfiguration, match="contradict"):
        read({"HOLDFAST_STORAGE_TYPE": "sqlite", "HOLDFAST_STATE_STORE_TYPE": "postgres"})


def test_a_secret_may_stand_in_a_file(read: Reader, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("geheim\n")
    environ = {"HOLDFAST_STORAGE_TYPE": "postgresql", "HOLDFAST_DATABASE_PASSWORD_FILE": "pw"}
    assert read(environ).config.storage.postgresql.password == Secret("geheim")
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read({**environ, "HOLDFAST_DATABASE_PASSWORD_FILE": "nowhere"})
    with pytest.raises(InvalidConfiguration, match="contradict"):
        read({**environ, "HOLDFAST_DATABASE_PASSWORD": "other"})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("HOLDFAST_DATABASE_NAME=plain # remark", "plain"),
        ("export HOLDFAST_DATABASE_NAME='a # b'", "a # b"),
        ('HOLDFAST_DATABASE_NAME="a \\"b\\" c"  # remark', 'a "b" c'),
        ("HOLDFAST_DATABASE_NAME=a#b", "a#b"),
    ],
)
def test_dotenv_lines(read: Reader, line: str, value: str) -> None:
    assert read(files={".env": f"\n# remark\n{line}\n"}).config.storage.postgresql.database == value


@pytest.mark.parametrize("line", ["no assignment", "1X=2", "X='open", 'X="a" b'])
def test_a_malformed_dotenv_line_is_named(read: Reader, line: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read(files={".env": f"A=1\n{line}\n"})
    assert caught.value.where == ".env:2"


@pytest.mark.parametrize("name", ["holdfast.yaml", "holdfast.config.yaml", "config.yaml"])
def test_the_file_is_found_under_its_names(read: Reader, name: str) -> None:
    loaded = read(files={name: "storage: {type: memory}"})
    assert (loaded.config.storage.type, loaded.file) == ("memory", name)


def test_somebody_elses_config_yaml_is_left_alone(read: Reader) -> None:
    loaded = read(files={"config.yaml": "theme: dark\nplugins: [a]\n"})
    assert loaded.file is None
    assert "is not read" in loaded.notes[0].message
    with pytest.raises(InvalidConfiguration, match="theme"):
        read(file="config.yaml")


def test_a_named_file_has_to_exist(read: Reader) -> None:
    with pytest.raises(InvalidConfiguration, match=r"nowhere\.yaml cannot be read"):
        read({"HOLDFAST_CONFIG": "nowhere.yaml"})


def test_relative_paths_of_a_file_start_from_its_folder(read: Reader) -> None:
    loaded = read(
        files={
            "conf/h.yaml": "storage: {sqlite: {path: x.db}, postgresql: {password: '${file:pw}'}}",
            "conf/pw": "s\n",
        },
        file="conf/h.yaml",
    )
    assert loaded.config.storage.sqlite.path == Path("conf/x.db")
    assert loaded.config.storage.postgresql.password == Secret("s")


def test_profiles(read: Reader) -> None:
    overlays = "{dev: {logging: {level: debug}}, quiet: {logging: {level: error}}}"
    text = f"profile: dev\nlogging: {{level: info}}\nprofiles: {overlays}"
    assert read(files={"holdfast.yaml": text}).config.logging.level == "debug"
    assert read(flags={"profile": "quiet"}).config.logging.level == "error"
    assert read({"HOLDFAST_PROFILE": "prod"}).config.logging.level == "info"
    with pytest.raises(InvalidConfiguration, match="'quit'") as caught:
        read(flags={"profile": "quit"})
    assert caught.value.fix == "did you mean quiet?"


def test_the_documents_blocks_load(read: Reader) -> None:
    loaded = read(
        files={
            "holdfast.yaml": """\
storage:
  type: postgresql
  postgresql:
    host: localhost
    pool: {minConnections: 5, maxConnections: 25, maxIdleTime: 300000, acquireTimeout: 20000}
    ssl: {enabled: true, mode: verify-full, ca: /etc/ssl/certs/ca.crt}
    replicas: [{host: a}]
    readPreference: replica
  sqlite: {path: /data/x.db, walMode: true, busyTimeout: 4000}
  migrations: {enabled: true, autoRun: false}
  retention: {executions: {maxAge: 30d}, cleanupSchedule: "0 2 * * *"}
"""
        }
    )
    pool = loaded.config.storage.postgresql.pool
    assert (pool.min, pool.max, pool.idle_timeout, pool.acquire_timeout) == (
        5,
        25,
        timedelta(minutes=5),
        timedelta(seconds=20),
    )
    assert loaded.config.storage.sqlite.busy_timeout == timedelta(seconds=4)
    assert loaded.config.storage.migrations.auto_run is False
    assert str(loaded.origins[f"{PG}.pool.min"]) == f"holdfast.yaml:5 ({PG}.pool.minConnections)"
    assert len(loaded.notes) == 4


def test_the_blocks_of_other_documents_load(read: Reader) -> None:
    persistence = (
        "persistence: {enabled: true, backend: sqlite, database_path: ./data/x.db, connection_string: ''}"
    )
    assert read(files={"config.yaml": persistence}).config.storage.url.reveal() == "sqlite:///data/x.db"
    external = "externalDatabase: {host: localhost, port: 5432, database: d, username: u, existingSecret: s}"
    loaded = read(files={"holdfast.yaml": external})
    assert loaded.config.storage.url.reveal() == "postgresql://u@localhost:5432/d"


@pytest.mark.parametrize(
    "text",
    [
        "storage: {tenancy: {enabled: true}}",
        "storage: {encryption: {at_rest: aes-256-gcm}}",
        "remote: {url: 'https://holdfast.example.com'}",
    ],
)
def test_a_promise_of_a_later_version_is_refused_with_its_own_code_where_it_is_needed(
    read: Reader, text: str
) -> None:
    with pytest.raises(SettingUnavailable) as caught:
        read(files={"holdfast.yaml": text})
    assert (caught.value.code, caught.value.where) == ("HF1101", "holdfast.yaml:1")
    assert "not part of this version" in read(inspect=True).notes[0].message


@pytest.mark.parametrize(
    ("text", "profile", "words"),
    [
        ("ssl: {enabled: false}", "", "is not encrypted"),
        ("ssl: {mode: disable}", "", "is not encrypted"),
        ("ssl: {mode: require}", "", "checked only as 'require'"),
        ("ssl: {enabled: true}", "prod", ""),
        ("port: 5432", "prod", ""),
    ],
)
def test_weak_encryption_off_this_machine_is_warned_of(
    read: Reader, text: str, profile: str, words: str
) -> None:
    file = f"storage: {{type: postgresql, postgresql: {{host: db.example.com, {text}}}}}"
    warnings = [
        warning.message for warning in read({"HOLDFAST_PROFILE": profile}, {"holdfast.yaml": file}).warnings
    ]
    assert bool(warnings) == bool(words)
    assert words in "".join(warnings)


def test_encryption_off_is_refused_in_production(read: Reader) -> None:
    file = "storage: {type: postgresql, postgresql: {host: db.example.com, ssl: {enabled: false}}}"
    with pytest.raises(InvalidConfiguration, match="profile prod"):
        read({"HOLDFAST_PROFILE": "prod"}, {"holdfast.yaml": file})


@pytest.mark.parametrize(
    ("enabled", "host", "mode"),
    [
        ("auto", "localhost", "disable"),
        ("auto", "/run/postgresql", "disable"),
        ("auto", "db.example.com", "verify-full"),
        ("true", "localhost", "verify-full"),
        ("false", "db.example.com", "disable"),
    ],
)
def test_tls_mode(read: Reader, enabled: str, host: str, mode: str) -> None:
    server = read({"HOLDFAST_DATABASE_SSL": enabled}).config.storage.postgresql
    assert server.ssl.mode_for(host) == mode


def test_a_server_named_beside_another_kind_of_store_is_warned_of(read: Reader) -> None:
    loaded = read({"HOLDFAST_DATABASE_HOST": "db"})
    assert [warning.where for warning in loaded.warnings] == ["HOLDFAST_DATABASE_HOST"]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HOLDFAST_DATABASE_POOL_MIN": "30"}, "pool.min"),
        ({"HOLDFAST_STORAGE__POSTGRESQL__SSL__CERT": "c.pem"}, "ssl.cert is set alone"),
    ],
)
def test_settings_that_contradict_each_other(read: Reader, environ: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        read(environ)


def test_all_mistakes_are_reported_together(read: Reader) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read(
            {"HOLDFAST_STORAGE_TYP": "x"},
            {"holdfast.yaml": "logging: {level: loud}\nworkr: {lease: 3s}\nworker:\n  lease: soon\n"},
        )
    places = {(problem["where"], problem["key"]) for problem in problems(caught.value)}
    assert places == {
        ("HOLDFAST_STORAGE_TYP", "STORAGE_TYP"),
        ("holdfast.yaml:1", "logging.level"),
        ("holdfast.yaml:2", "workr"),
        ("holdfast.yaml:4", "worker.lease"),
    }

"""`storage.mysql`: how its settings are read, and what becomes of them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.loader import LoadedConfig, load
from holdfast.config.secrets import redact_url
from holdfast.errors import InvalidConfiguration, MissingExtra
from holdfast.store.drivers.mysql import MysqlOptions
from holdfast.store.drivers.tls import TlsMode
from holdfast.stores import build_store

URL = "mysql://ana:s%2Fecret@db.example.com:3307/app"
BLOCK = """
storage:
  type: mariadb
  statement_timeout: 7s
  mysql:
    host: db.example.com
    database: app
    user: ana
    password: s/ecret
    pool: {minConnections: 3, maxConnections: 9, acquireTimeout: 1500, maxIdleTime: 60000}
    ssl: {mode: verify-ca, ca: ca.pem}
    connect_timeout: 4s
"""


def loaded(
    tmp_path: Path, text: str = "", *, flags: dict[str, str] | None = None, bare: bool = False, **environ: str
) -> LoadedConfig:
    if text:
        (tmp_path / "holdfast.yaml").write_text(text)
    return load(environ=environ, cwd=tmp_path, flags=flags, bare=bare)


def options_of(found: LoadedConfig) -> MysqlOptions:
    driver: Any = build_store(found.config).driver
    options: MysqlOptions = driver.options
    return options


def test_the_block_has_the_shape_of_the_other_servers(tmp_path: Path) -> None:
    found = loaded(tmp_path, BLOCK)
    options = options_of(found)
    assert (options.host, options.port, options.database) == ("db.example.com", 3306, "app")
    assert (options.user, options.password) == ("ana", "s/ecret")
    assert (options.pool_min, options.pool_max) == (3, 9)
    assert (options.acquire_timeout, options.idle_timeout) == (timedelta(seconds=1.5), timedelta(minutes=1))
    assert (options.connect_timeout, options.statement_timeout) == (
        timedelta(seconds=4),
        timedelta(seconds=7),
    )
    assert (options.tls.mode, options.tls.ca) == (TlsMode.VERIFY_CA, Path("ca.pem"))
    assert found.config.storage.type == "mysql"
    assert found.config.storage.url.reveal() == "mysql://ana:s%2Fecret@db.example.com:3306/app"
    assert "s/ecret" not in repr(options)


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "MySQL"])
def test_a_url_is_a_whole_address(tmp_path: Path, scheme: str) -> None:
    text = URL.replace("mysql", scheme, 1)
    options = options_of(loaded(tmp_path, BLOCK, flags={"storage.url": text}))
    assert (options.host, options.port, options.user) == ("db.example.com", 3307, "ana")
    assert (options.database, options.password) == ("app", "s/ecret")
    # What it leaves out is the default, so a password does not wander to another server.
    options = options_of(loaded(tmp_path, BLOCK, flags={"storage.url": f"{scheme}://other.example.com/"}))
    assert (options.host, options.database, options.user) == ("other.example.com", "holdfast", "holdfast")
    assert options.password is None
    assert "ecret" not in redact_url(text)


def test_parameters_of_a_url(tmp_path: Path) -> None:
    text = "mysql://ana@/app?host=/run/mysqld/mysqld.sock&sslmode=require&connect_timeout=3"
    found = loaded(tmp_path, flags={"storage.url": text})
    options = options_of(found)
    assert (options.host, options.connect_timeout) == ("/run/mysqld/mysqld.sock", timedelta(seconds=3))
    assert options.tls.mode is TlsMode.REQUIRE
    again = options_of(loaded(tmp_path, flags={"storage.url": found.config.storage.url.reveal()}))
    assert (again.host, again.database, again.user) == (options.host, "app", "ana")
    with pytest.raises(InvalidConfiguration, match="schema"):
        loaded(tmp_path, flags={"storage.url": "mysql://ana@h/app?schema=x"})


def test_another_machine_is_verified_and_this_one_is_not_encrypted(tmp_path: Path) -> None:
    far = options_of(loaded(tmp_path, flags={"storage.url": "mysql://db.example.com/app"}))
    near = options_of(loaded(tmp_path, flags={"storage.url": "mysql://127.0.0.1/app"}))
    assert (far.tls.mode, near.tls.mode) == (TlsMode.VERIFY_FULL, TlsMode.DISABLE)
    warned = loaded(tmp_path, flags={"storage.url": "mysql://db.example.com/app?sslmode=disable"})
    assert "is not encrypted" in warned.warnings[0].message


def test_the_variables_of_a_database_mean_the_server_that_is_used(tmp_path: Path) -> None:
    variables = {
        "HOLDFAST_STATE_STORE_TYPE": "mysql",
        "HOLDFAST_DATABASE_HOST": "db.example.com",
        "HOLDFAST_DATABASE_PASSWORD": "hidden",
        "HOLDFAST_DATABASE_POOL_MAX": "5",
        "HOLDFAST_STORAGE__MYSQL__DATABASE": "app",
    }
    found = loaded(tmp_path, **variables)
    options = options_of(found)
    assert (options.host, options.port, options.database) == ("db.example.com", 3306, "app")
    assert (options.password, options.pool_max) == ("hidden", 5)
    assert str(found.origins["storage.mysql.host"]) == "HOLDFAST_DATABASE_HOST"
    assert not found.warnings
    # A stronger variable changes one part of a URL in the file; for another kind of store nothing moves.
    options = options_of(loaded(tmp_path, f"storage: {{url: '{URL}'}}", HOLDFAST_DATABASE_HOST="other"))
    assert (options.host, options.port) == ("other", 3307)
    del variables["HOLDFAST_STATE_STORE_TYPE"]
    postgresql = loaded(tmp_path, "storage: {type: postgresql}", **variables).config.storage
    assert (postgresql.postgresql.host, postgresql.mysql.host) == ("db.example.com", "localhost")


def test_bare_variables_fill_in_what_nothing_else_says(tmp_path: Path) -> None:
    variables = {"MYSQL_PWD": "hidden", "DATABASE_USER": "bob", "MYSQL_HOST": "other.example.com"}
    options = options_of(loaded(tmp_path, "storage: {type: mysql}", bare=True, **variables))
    assert (options.host, options.user, options.password) == ("other.example.com", "bob", "hidden")
    # A configured place stays as it is.
    options = options_of(loaded(tmp_path, "storage: {url: 'mysql://h/app'}", bare=True, **variables))
    assert (options.host, options.user) == ("h", "bob")
    options = options_of(loaded(tmp_path, "storage: {}", bare=True, DATABASE_URL=URL))
    assert options.host == "db.example.com"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool: {min: 9, max: 3}", "more than pool.max"),
        ("ssl: {cert: c.pem}", "ssl.cert is set alone"),
        ("port: 0", "out of range"),
        ("schema: x", "schema"),
        ("hots: x", "hots"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        loaded(tmp_path, f"storage: {{type: mysql, mysql: {{{text}}}}}")


def test_a_store_of_another_kind_says_that_the_variable_has_no_effect(tmp_path: Path) -> None:
    found = loaded(tmp_path, "storage: {type: sqlite}", HOLDFAST_STORAGE__MYSQL__HOST="db")
    assert "has no effect" in found.warnings[0].message


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(tmp_path, flags={"storage.url": URL})
    for name in [name for name in sys.modules if name.startswith("holdfast.store.drivers.mysql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    with pytest.raises(MissingExtra) as caught:
        build_store(found.config)
    assert "holdfast[mysql]" in str(caught.value.fix)

"""`storage.postgresql.direct_url`: how it is read, and what it makes of the connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.config.loader import LoadedConfig, load
from holdfast.config.secrets import redact_url
from holdfast.errors import InvalidConfiguration
from holdfast.store.drivers.postgresql import PostgresqlOptions
from holdfast.store.drivers.tls import TlsMode
from holdfast.stores import build_store

POOLER = "postgresql://ana:pooled@pooler.example.com:6432/app?schema=mine"
SERVER = "postgresql://bob:straight@db.example.com/app"
QUOTED = "postgresql%3A%2F%2Fbob%3Astraight%40db.example.com%2Fapp"


def loaded(
    tmp_path: Path, text: str = "", flags: dict[str, str] | None = None, **environ: str
) -> LoadedConfig:
    if text:
        (tmp_path / "holdfast.yaml").write_text(text)
    return load(environ=environ, cwd=tmp_path, flags=flags)


def options_of(found: LoadedConfig) -> PostgresqlOptions:
    driver: Any = build_store(found.config).driver
    options: PostgresqlOptions = driver.options
    return options


BLOCK = f"""
storage:
  url: {POOLER}
  postgresql:
    direct_url: {SERVER}
"""


def test_it_is_a_whole_second_address_with_the_rest_in_common(tmp_path: Path) -> None:
    options = options_of(loaded(tmp_path, BLOCK))
    direct = options.direct
    assert direct is not None
    assert (options.host, options.port, options.user, options.password) == (
        "pooler.example.com", 6432, "ana", "pooled",
    )  # fmt: skip
    assert (direct.host, direct.port, direct.user, direct.password) == (
        "db.example.com", 5432, "bob", "straight",
    )  # fmt: skip
    assert (direct.database, direct.schema, direct.statement_timeout) == (
        "app", "mine", options.statement_timeout,
    )  # fmt: skip
    assert direct.direct is None


def test_without_it_nothing_is_a_pooler(tmp_path: Path) -> None:
    assert options_of(loaded(tmp_path, flags={"storage.url": POOLER})).direct is None


@pytest.mark.parametrize("inner", [QUOTED, SERVER], ids=["quoted", "plain"])
def test_it_may_stand_in_the_url(tmp_path: Path, inner: str) -> None:
    direct = options_of(loaded(tmp_path, flags={"storage.url": f"{POOLER}&direct_url={inner}"})).direct
    assert direct is not None and (direct.host, direct.password) == ("db.example.com", "straight")


def test_it_may_stand_in_a_variable(tmp_path: Path) -> None:
    found = loaded(tmp_path, HOLDFAST_URL=POOLER, HOLDFAST_STORAGE__POSTGRESQL__DIRECT_URL=SERVER)
    assert options_of(found).direct is not None


def test_a_stronger_url_leaves_the_old_way_behind(tmp_path: Path) -> None:
    """It would lead to the other server."""
    assert options_of(loaded(tmp_path, BLOCK, {"storage.url": POOLER})).direct is None


def test_its_encryption_goes_by_its_own_host(tmp_path: Path) -> None:
    local = "postgresql://ana@127.0.0.1:6432/app"
    found = loaded(tmp_path, flags={"storage.url": local, "storage.postgresql.direct_url": SERVER})
    options = options_of(found)
    assert options.direct is not None
    assert (options.tls.mode, options.direct.tls.mode) == (TlsMode.DISABLE, TlsMode.VERIFY_FULL)
    chosen = f"{SERVER}?sslmode=require"
    found = loaded(tmp_path, flags={"storage.url": local, "storage.postgresql.direct_url": chosen})
    direct = options_of(found).direct
    assert direct is not None and direct.tls.mode is TlsMode.REQUIRE


@pytest.mark.parametrize(
    "value", ["db.example.com", "sqlite:///x.db", f"{SERVER}?schema=other", f"{SERVER}?colour=red"]
)
def test_a_mistake_in_it_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(InvalidConfiguration, match="direct_url"):
        loaded(tmp_path, flags={"storage.url": POOLER, "storage.postgresql.direct_url": value})


def test_its_password_is_not_shown(tmp_path: Path) -> None:
    found = loaded(tmp_path, BLOCK)
    assert "straight" not in f"{found.config!r} {found.values}"
    for url in (f"{POOLER}&direct_url={QUOTED}", f"{POOLER}&direct_url={SERVER}"):
        assert "straight" not in redact_url(url)
    assert "straight" not in repr(options_of(found))


def test_hints_can_be_switched_off(tmp_path: Path) -> None:
    assert loaded(tmp_path).config.storage.hints is True
    found = loaded(tmp_path, HOLDFAST_STORAGE__HINTS="false")
    assert build_store(found.config).options.hints is False

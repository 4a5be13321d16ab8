"""TLS to the servers: every mode against every certificate, and what is said when it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from holdfast.errors import AccessDenied, HoldfastError, InvalidConfiguration, TlsFailed
from holdfast.store.drivers.tls import Encryption, TlsMode
from holdfast.stores import build_store, config_for
from tests.certificates import HERE, Authority, Certificate, self_signed
from tests.integration.shell import Shell
from tests.secured import CLIENT, Secured, SecuredPostgresql, Stripper, secured_mariadb, secured_postgresql

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
STRANGER = Authority("somebody else")
MODES = ("disable", "require", "verify-ca", "verify-full")
# What is wrong with the server's certificate, for the modes that look at it; None is a connection.
WRONG: dict[str, tuple[str | None, str | None]] = {
    "good": (None, None),
    "expired": ("expired", "expired"),
    "early": ("not-yet-valid", "not-yet-valid"),
    "elsewhere": (None, "wrong-host"),
    "self-signed": ("self-signed", "self-signed"),
    "stranger": ("unknown-ca", "unknown-ca"),
}


def certificate(name: str, authority: Authority) -> Certificate:
    """The certificate of a server, as wrong as its name says."""
    match name:
        case "expired":
            return authority.issue("server", HERE, since=-3 * DAY, until=-DAY)
        case "early":
            return authority.issue("server", HERE, since=DAY, until=3 * DAY)
        case "elsewhere":
            return authority.issue("server", ["db.example.com"])
        case "self-signed":
            return self_signed("server", HERE)
        case "stranger":
            return STRANGER.issue("server", HERE)
    return authority.issue("server", HERE)


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def secured(request: pytest.FixtureRequest) -> Iterator[Secured]:
    """One server of each kind for all of these tests."""
    with secured_postgresql() if request.param == "postgresql" else secured_mariadb() as server:
        yield server


@pytest.fixture
def ca(secured: Secured, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_text(secured.authority.pem)
    return str(path)


async def connected(url: str) -> Encryption:
    driver = build_store(config_for(url)).driver
    await driver.open()
    try:
        return (await driver.encryption())[0]
    finally:
        await driver.close()


async def refused(url: str) -> HoldfastError:
    with pytest.raises(HoldfastError) as caught:
        await connected(url)
    return caught.value


def password_of(url: str) -> str:
    return str(urlsplit(url).password)


@pytest.mark.parametrize("shown", WRONG)
async def test_every_mode_against_every_certificate(secured: Secured, ca: str, shown: str) -> None:
    secured.show(certificate(shown, secured.authority))
    by_signer, by_name = WRONG[shown]
    expected = dict(zip(MODES, (None, None, by_signer, by_name), strict=True))
    found: dict[str, str | None] = {}
    for mode in MODES:
        url = secured.url(sslmode=mode, sslrootcert=ca)
        try:
            link = await connected(url)
        except TlsFailed as error:
            found[mode] = error.details["reason"]
            assert (error.details["mode"], error.details["host"]) == (mode, "127.0.0.1")
            assert f"mode {mode}" in error.cause and error.fix
            assert password_of(url) not in repr(error.as_problem())
        else:
            found[mode] = None
            assert link.mode == mode
            # Encrypted exactly where that was asked for, by the newest protocol both speak.
            assert link.protocol == (None if mode == "disable" else "TLSv1.3")
    assert found == expected


async def test_without_the_authority_nothing_is_trusted(secured: Secured) -> None:
    """The system's certificates do not vouch for our server."""
    secured.show(secured.good)
    for mode in ("verify-ca", "verify-full"):
        error = await refused(secured.url(sslmode=mode))
        assert isinstance(error, TlsFailed) and error.details["reason"] == "unknown-ca"
        assert f"storage.{secured.kind}.ssl.ca" in error.fix


async def test_auto_asks_for_no_tls_on_this_machine(secured: Secured) -> None:
    for url in (secured.url(), secured.url(sslmode="auto")):
        assert (await connected(url)).mode is TlsMode.DISABLE


async def test_nobody_on_the_way_can_take_the_encryption_off(secured: Secured, ca: str) -> None:
    secured.show(secured.good)
    async with Stripper(secured).running() as between:
        for mode in ("require", "verify-ca", "verify-full"):
            parts = urlsplit(secured.url(sslmode=mode, sslrootcert=ca))
            netloc = parts.netloc.replace(f":{parts.port}", f":{between.port}")
            error = await refused(parts._replace(netloc=netloc).geturl())
            assert isinstance(error, TlsFailed), error
            assert (error.details["reason"], error.details["mode"]) == ("no-tls", mode)
        assert between.heard
        for secret in (password_of(secured.plain_url), str(urlsplit(secured.plain_url).username)):
            assert secret.encode() not in between.heard


@pytest.mark.parametrize("secured", ["postgresql"], indirect=True)  # MariaDB's can not be turned off
async def test_a_server_without_tls_is_refused(secured: SecuredPostgresql) -> None:
    with secured.plain():
        error = await refused(secured.url(sslmode="require"))
        assert isinstance(error, TlsFailed) and error.details["reason"] == "no-tls"
        assert (await connected(secured.url())).mode is TlsMode.DISABLE


async def test_a_client_is_known_by_its_certificate(secured: Secured, ca: str, tmp_path: Path) -> None:
    secured.show(secured.good)
    issue = secured.authority.issue

    def url(made: Certificate | None) -> str:
        files = {}
        if made is not None:
            cert, key = made.written(tmp_path, "client")
            files = {"sslcert": str(cert), "sslkey": str(key)}
        return secured.url(user=CLIENT, sslmode="verify-full", sslrootcert=ca, **files)

    assert (await connected(url(issue(CLIENT, client=True)))).verified == "name"
    old = issue(CLIENT, client=True, since=-3 * DAY, until=-DAY)
    for wrong in (STRANGER.issue(CLIENT, client=True), old):
        error = await refused(url(wrong))
        assert isinstance(error, TlsFailed), error
        assert error.details["reason"] == "client-certificate"
    for bare in (url(None), secured.url(user=CLIENT, sslmode="disable")):
        error = await refused(bare)
        assert isinstance(error, AccessDenied), error
        assert f"storage.{secured.kind}.ssl" in error.fix


async def test_a_certificate_is_read_again_for_each_connection(secured: Secured, tmp_path: Path) -> None:
    """So that a new one takes over without a restart."""
    secured.show(secured.good)
    path = tmp_path / "ca.pem"
    path.write_text(STRANGER.pem)
    url = secured.url(sslmode="verify-full", sslrootcert=str(path))
    assert isinstance(await refused(url), TlsFailed)
    path.write_text(secured.authority.pem)
    assert (await connected(url)).verified == "name"


async def test_files_that_can_not_be_used_are_named(secured: Secured, ca: str, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    cert, key = secured.authority.issue(CLIENT, client=True).written(tmp_path, "one")
    other = secured.authority.issue(CLIENT, client=True).written(tmp_path, "two")[1]
    block = f"storage.{secured.kind}.ssl"
    cases: list[tuple[dict[str, str], str]] = [
        ({"sslrootcert": str(tmp_path / "none.pem")}, f"{block}.ca"),
        ({"sslrootcert": str(garbage)}, f"{block}.ca"),
        ({"sslrootcert": ca, "sslcert": str(tmp_path / "none.pem"), "sslkey": str(key)}, f"{block}.cert"),
        ({"sslrootcert": ca, "sslcert": str(cert), "sslkey": str(tmp_path / "none.key")}, f"{block}.key"),
        ({"sslrootcert": ca, "sslcert": str(cert), "sslkey": str(other)}, f"{block}.cert"),
        ({"sslrootcert": ca, "sslcert": str(cert), "sslkey": str(garbage)}, f"{block}.cert"),
    ]
    for parameters, where in cases:
        error = await refused(secured.url(sslmode="verify-full", **parameters))
        assert isinstance(error, InvalidConfiguration), error
        assert error.where == where and block in error.fix


def test_the_command_line_says_what_is_in_use(secured: Secured, ca: str, tmp_path: Path) -> None:
    secured.show(secured.good)
    shell = Shell(tmp_path)
    parts = urlsplit(secured.plain_url)
    server = f"127.0.0.1:{parts.port}"
    text = f"""
storage:
  type: {secured.kind}
  {secured.kind}: {{host: 127.0.0.1, port: {parts.port}, database: {parts.path[1:]}, username: holdfast,
    password: "${{SECRET}}", ssl: {{enabled: true, mode: verify-full, ca: {ca}}}}}
"""
    (tmp_path / "holdfast.yaml").write_text(text)
    shell.environ["SECRET"] = password_of(secured.plain_url)
    told = shell.inside("storage", "test-connection")
    assert told.returncode == 0, told.stderr
    assert f"{server}: TLSv1.3, TLS_" in told.stdout
    assert "the server's certificate and name are verified (verify-full)" in told.stdout
    (link,) = json.loads(shell.inside("storage", "test-connection", "--json").stdout)["connections"]
    assert (link["server"], link["tls"], link["verified"]) == (server, "TLSv1.3", "name")
    plain = shell.inside("storage", "test-connection", "--storage", secured.url(sslmode="disable"))
    assert f"{server}: not encrypted" in plain.stdout
    secured.show(certificate("expired", secured.authority))
    problem = shell.problem("storage", "test-connection", code=5)
    assert (problem["code"], problem["reason"], problem["mode"]) == ("HF2022", "expired", "verify-full")
    assert password_of(secured.plain_url) not in repr(problem)

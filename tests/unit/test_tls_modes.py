"""TLS: what `auto` means, what is asked of a server, and how the settings say it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from holdfast.config.loader import LoadedConfig, load
from holdfast.errors import InvalidConfiguration
from holdfast.store.drivers.tls import Encryption, TlsMode, TlsOptions, is_loopback, tls_context
from holdfast.stores import build_store, config_for
from tests.certificates import Authority

FAR = "db.example.com"
KINDS = ("postgresql", "mysql")


def loaded(tmp_path: Path, text: str = "", url: str = "", profile: str = "") -> LoadedConfig:
    (tmp_path / "holdfast.yaml").write_text(text)
    flags = {"storage.url": url} if url else {}
    return load(environ={"HOLDFAST_PROFILE": profile} if profile else {}, cwd=tmp_path, flags=flags)


def options_of(found: LoadedConfig) -> Any:
    driver: Any = build_store(found.config).driver
    return driver.options


@pytest.mark.parametrize(
    ("host", "stays"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("/run/postgresql", True), ("10.0.0.1", False), ("192.168.0.1", False), (FAR, False),
        ("localhost.example.com", False), ("127.0.0.1.example.com", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_auto_verifies_everything_that_leaves_this_machine(host: str, stays: bool) -> None:
    assert is_loopback(host) is stays
    expected = TlsMode.DISABLE if stays else TlsMode.VERIFY_FULL
    assert TlsOptions().mode_for(host) is expected
    for mode in TlsMode:
        if mode is not TlsMode.AUTO:
            assert TlsOptions(mode=mode).mode_for(host) is mode


@pytest.mark.parametrize(
    ("mode", "certificate", "name"),
    [
        (TlsMode.REQUIRE, ssl.CERT_NONE, False),
        (TlsMode.VERIFY_CA, ssl.CERT_REQUIRED, False),
        (TlsMode.VERIFY_FULL, ssl.CERT_REQUIRED, True),
        (TlsMode.AUTO, ssl.CERT_REQUIRED, True),
    ],
)
def test_what_each_mode_looks_at(mode: TlsMode, certificate: ssl.VerifyMode, name: bool) -> None:
    context = tls_context(TlsOptions(mode=mode), FAR, "here")
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (certificate, name)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.maximum_version in (ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3)
    assert tls_context(TlsOptions(mode=TlsMode.DISABLE), FAR, "here") is None


def handshake(context: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """The protocol that two ends agree on, or why they do not."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = context.wrap_bio(back, there, server_hostname=FAR)
    two = server.wrap_bio(there, back, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(20):
        for end in (one, two):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error.reason
        if len(done) == 2:
            return one.version()
    return None


@pytest.mark.parametrize("newest", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_the_newest_protocol_is_spoken_and_none_below_1_2(newest: str, tmp_path: Path) -> None:
    authority = Authority("one")
    cert, key = authority.issue("server", [FAR]).written(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = ssl.TLSVersion.TLSv1
    server.maximum_version = ssl.TLSVersion[newest]
    context = tls_context(TlsOptions(ca=ca), FAR, "here")
    assert context is not None
    # What the system's own rules refuse as well would prove nothing about ours.
    context.set_ciphers("ALL:@SECLEVEL=0")
    agreed = handshake(context, server)
    if newest == "TLSv1_1":
        assert agreed is not None and not agreed.startswith("TLSv1."), agreed
    else:
        assert agreed == newest.replace("_", ".")


def test_what_was_verified_is_said_in_words() -> None:
    found = {mode: Encryption("here", mode, "TLSv1.3", "ABC").verified for mode in TlsMode}
    assert found[TlsMode.VERIFY_FULL] == "name"
    assert found[TlsMode.VERIFY_CA] == "certificate"
    assert found[TlsMode.REQUIRE] == "nothing"
    assert Encryption("here", TlsMode.VERIFY_FULL).verified == "nothing"


# URL and block.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["disable", "require", "verify-ca", "verify-full"])
def test_a_url_and_the_block_mean_the_same(tmp_path: Path, kind: str, mode: str) -> None:
    url = f"{kind}://ana:secret@{FAR}/app?sslmode={mode}&sslrootcert=/c/ca.pem&sslcert=/c/me.pem&sslkey=/c/me.key"
    by_url = options_of(loaded(tmp_path, url=url))
    block = f"""
storage:
  type: {kind}
  {kind}:
    host: {FAR}
    database: app
    username: ana
    password: secret
    ssl: {{mode: {mode}, ca: /c/ca.pem, cert: /c/me.pem, key: /c/me.key}}
"""
    assert options_of(loaded(tmp_path, block)) == by_url
    assert by_url.tls == TlsOptions(
        mode=TlsMode(mode), ca=Path("/c/ca.pem"), cert=Path("/c/me.pem"), key=Path("/c/me.key")
    )


@pytest.mark.parametrize(
    ("parameters", "mode"),
    [
        ("ssl-mode=VERIFY_IDENTITY&ssl-ca=/c/ca.pem", TlsMode.VERIFY_FULL),
        ("ssl_mode=VERIFY_CA&ssl_ca=/c/ca.pem", TlsMode.VERIFY_CA),
        ("ssl-mode=REQUIRED&ssl-ca=/c/ca.pem", TlsMode.REQUIRE),
        ("ssl-mode=DISABLED&ssl-ca=/c/ca.pem", TlsMode.DISABLE),
        ("sslmode=auto&ssl-ca=/c/ca.pem", TlsMode.VERIFY_FULL),
    ],
)
def test_the_words_of_mysql_are_understood(tmp_path: Path, parameters: str, mode: TlsMode) -> None:
    tls = options_of(loaded(tmp_path, url=f"mysql://ana@{FAR}/app?{parameters}")).tls
    assert (tls.mode, tls.ca) == (mode, Path("/c/ca.pem"))


@pytest.mark.parametrize("mode", ["PREFERRED", "prefer", "allow", "maybe"])
def test_there_is_no_mode_that_may_fall_back(tmp_path: Path, mode: str) -> None:
    for url in (f"mysql://{FAR}/app?ssl-mode={mode}", f"postgresql://{FAR}/app?sslmode={mode}"):
        with pytest.raises(InvalidConfiguration) as caught:
            loaded(tmp_path, url=url)
        assert "verify-full" in caught.value.fix


# Off this machine without protection.


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_names_the_host_that_is_reached_without_encryption(tmp_path: Path, kind: str) -> None:
    found = loaded(tmp_path, url=f"{kind}://ana:secret@{FAR}/app?sslmode=disable")
    (warning,) = found.warnings
    assert warning.message == f"the connection to {FAR} is not encrypted"
    assert loaded(tmp_path, url=f"{kind}://ana@{FAR}/app").warnings == ()
    assert loaded(tmp_path, url=f"{kind}://ana@localhost/app?sslmode=disable").warnings == ()


@pytest.mark.parametrize("profile", ["prod", "production"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_production_it_is_refused(tmp_path: Path, kind: str, profile: str) -> None:
    text = "profiles: {production: {}}\n"
    for hosts in (FAR, f"localhost,{FAR}"):
        with pytest.raises(InvalidConfiguration, match=FAR) as caught:
            loaded(tmp_path, text, f"{kind}://ana:secret@{hosts}/app?sslmode=disable", profile)
        assert "verify-full" in caught.value.fix and "secret" not in str(caught.value)
    assert loaded(tmp_path, text, f"{kind}://ana@localhost/app?sslmode=disable", profile).warnings == ()


def test_of_several_hosts_each_has_its_own_mode(tmp_path: Path) -> None:
    options = options_of(loaded(tmp_path, url=f"postgresql://ana@localhost,{FAR}:5433/app"))
    assert options.tls.mode is TlsMode.DISABLE
    ((host, port, tls),) = options.others
    assert (host, port, tls.mode) == (FAR, 5433, TlsMode.VERIFY_FULL)
    found = loaded(tmp_path, url=f"postgresql://ana@localhost,{FAR},far.example.com/app?sslmode=disable")
    (warning,) = found.warnings
    assert warning.message == f"the connection to {FAR}, far.example.com is not encrypted"


def test_the_way_around_a_pooler_is_looked_at_too(tmp_path: Path) -> None:
    """The pooler is on this machine, and the server is not."""
    near = "postgresql://ana@localhost:6432/app"

    def look(host: str, mode: str, profile: str = "") -> LoadedConfig:
        flags = {"storage.postgresql.direct_url": f"postgresql://ana:secret@{host}/app?sslmode={mode}"}
        environ = {"HOLDFAST_PROFILE": profile} if profile else {}
        return load(environ=environ, cwd=tmp_path, flags=flags | {"storage.url": near})

    (warning,) = look(FAR, "disable").warnings
    assert warning.message == f"the connection to {FAR} is not encrypted"
    assert look(FAR, "verify_full").warnings == ()
    assert look("localhost", "disable").warnings == ()
    with pytest.raises(InvalidConfiguration, match=FAR):
        look(FAR, "disable", "prod")
    with pytest.raises(InvalidConfiguration, match="prefer"):
        look(FAR, "prefer")
    direct = options_of(look(FAR, "verify_ca")).direct
    assert direct.tls.mode is TlsMode.VERIFY_CA


def test_who_uses_the_library_is_warned_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    config_for(f"postgresql://ana:secret@{FAR}/app?sslmode=disable")
    (record,) = [one for one in caplog.records if one.name == "holdfast.config"]
    assert f"the connection to {FAR} is not encrypted" in record.getMessage()
    assert "secret" not in caplog.text


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    cert, key = Authority("one").issue("client", client=True).written(tmp_path, "client")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, form, locked))
    with pytest.raises(InvalidConfiguration, match="can not be used") as caught:
        tls_context(TlsOptions(cert=cert, key=key), FAR, "storage.mysql.ssl")
    assert "passphrase" in caught.value.fix

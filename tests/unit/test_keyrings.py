"""Keyrings: what is sealed opens in its own place only, and keys change without a gap."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.loader import load
from holdfast.config.schema import Config
from holdfast.domain.keyrings import Keyring, keyring_of
from holdfast.errors import InvalidArgument, KeyMissing, SealBroken

OLD, NEW = Keyring.new_key("k1"), Keyring.new_key("k2")
PLACE = ("default", "users", "u1", "mfa_secret")
CANARY = "JBSWY3DPEHPK3PXP-canary"


@given(st.text().filter(lambda text: not any("\ud800" <= each <= "\udfff" for each in text)))
def test_what_is_sealed_opens_again(text: str) -> None:
    keys = Keyring.parse(OLD)
    assert keys.open(keys.seal(text, bound_to=PLACE), bound_to=PLACE) == text


def test_no_two_seals_are_alike() -> None:
    keys = Keyring.parse(OLD)
    assert len({keys.seal(CANARY, bound_to=PLACE) for _ in range(500)}) == 500


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("other", "users", "u1", "mfa_secret"),
        ("default", "users", "u2", "mfa_secret"),
        ("default", "users", "u1", "password"),
        ("default", "usersu1", "", "mfa_secret"),
        ("default", "users", "u1mfa_secret"),
    ],
)
def test_what_is_moved_does_not_open(elsewhere: tuple[str, ...]) -> None:
    keys = Keyring.parse(OLD)
    with pytest.raises(SealBroken) as broken:
        keys.open(keys.seal(CANARY, bound_to=PLACE), bound_to=elsewhere)
    assert CANARY not in repr(broken.value.as_problem())


def test_what_is_changed_does_not_open() -> None:
    keys = Keyring.parse(OLD)
    sealed = keys.seal(CANARY, bound_to=PLACE)
    head, _, encoded = sealed.rpartition(".")
    data = bytearray(base64.urlsafe_b64decode(encoded))
    for number in range(0, len(data), 5):
        changed = bytearray(data)
        changed[number] ^= 1
        with pytest.raises(SealBroken):
            keys.open(f"{head}.{base64.urlsafe_b64encode(changed).decode()}", bound_to=PLACE)
    for wrong in (sealed[:-4], sealed.replace("v1", "v2"), f"{head}.", f"{head}.???"):
        with pytest.raises(SealBroken):
            keys.open(wrong, bound_to=PLACE)


def test_the_newest_key_writes_and_all_read() -> None:
    before = Keyring.parse(OLD)
    both = Keyring.parse(f" {OLD} , {NEW},")
    sealed = before.seal(CANARY, bound_to=PLACE)
    assert both.newest == "k2"
    assert both.open(sealed, bound_to=PLACE) == CANARY
    assert before.is_newest(sealed)
    assert not both.is_newest(sealed)
    after = Keyring.parse(NEW)
    assert after.open(both.seal(CANARY, bound_to=PLACE), bound_to=PLACE) == CANARY
    with pytest.raises(KeyMissing) as missing:
        after.open(sealed, bound_to=PLACE)
    assert missing.value.details["key"] == "k1"
    # Another key under the same id is not the key.
    with pytest.raises(SealBroken):
        Keyring.parse(Keyring.new_key("k1")).open(sealed, bound_to=PLACE)


def test_nothing_is_sealed_without_a_key() -> None:
    keys = Keyring()
    assert not keys
    with pytest.raises(KeyMissing):
        keys.seal(CANARY, bound_to=PLACE)


def test_hashes_are_keyed_where_there_is_a_key() -> None:
    plain, before, both = Keyring(), Keyring.parse(OLD), Keyring.parse(f"{OLD},{NEW}")
    secret = b"s" * 32
    assert len({keys.digest(secret) for keys in (plain, before, both)}) == 3
    for made_by in (plain, before, both):
        assert both.matches(secret, made_by.digest(secret))
        assert not both.matches(b"t" * 32, made_by.digest(secret))
        assert both.digests_newest(made_by.digest(secret)) == (made_by is both)
    assert not both.matches(secret, "md5.aa")
    with pytest.raises(KeyMissing):
        plain.matches(secret, before.digest(secret))


@pytest.mark.parametrize(
    "text",
    ["k1", "k1:", "k1:!!!", f"{OLD},{OLD}", "k1:c2hvcnQ=", f"k 1:{OLD[3:]}", f"{'k' * 65}:{OLD[3:]}", ":"],
    ids=["no-key", "empty", "not-base64", "twice", "short", "blank", "long-name", "nothing"],
)
def test_a_keyring_that_is_written_wrong_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Keyring.parse(text)
    assert OLD[3:] not in repr(refused.value.as_problem())
    assert OLD[3:] not in str(refused.value)


def test_a_keyring_does_not_show_its_keys() -> None:
    assert repr(Keyring.parse(f"{OLD},{NEW}")) == "Keyring(k1, k2)"
    with pytest.raises(InvalidArgument) as refused:
        Keyring.parse(OLD).seal(CANARY + "\ud800", bound_to=PLACE)
    assert CANARY not in repr(refused.value)
    assert refused.value.__context__ is None


def test_keys_come_from_the_configuration(tmp_path: object) -> None:
    from pathlib import Path

    config = load(environ={"HOLDFAST_ENCRYPTION_KEY": OLD}, cwd=Path(str(tmp_path)), flags={}).config
    assert keyring_of(config.security.encryption_key).newest == "k1"
    assert OLD[3:] not in repr(config)
    assert not keyring_of(Config().security.api_key_pepper)


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None\n"
        "from holdfast.domain.keyrings import Keyring\n"
        "from holdfast.errors import MissingExtra\n"
        "try: Keyring({'a': b'k' * 32}).seal('x', bound_to=('a',))\n"
        "except MissingExtra as error: print(error.fix)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'pip install "holdfast[identity]"'

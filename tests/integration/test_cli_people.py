"""`holdfast users`, `api-keys` and `sessions`, as a person meets them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from holdfast.domain.users import Users
from holdfast.records.identity import Session
from holdfast.stores import build_store, config_for
from tests.integration.shell import Shell

PASSWORD = "a canary of a password"


@pytest.fixture
def people(stored: Shell) -> Shell:
    """A store with two users."""
    assert stored.inside("storage", "init").returncode == 0
    done = stored("users", "create", "Ana@example.com", "--id", "ana", "--password", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    told(stored, "users", "create", "bo@example.com", "--id", "bo", "--name", "Bo", "--role", "viewer")
    return stored


def told(holdfast: Shell, *arguments: str, code: int = 0) -> Any:
    done = holdfast.inside(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout or done.stderr)


def within(people: Shell, work: Any) -> Any:
    """What `work` does with the store, by the library."""
    import asyncio

    url = people.environ.get("HOLDFAST_URL") or f"sqlite:///{people.folder}/.holdfast/holdfast.db"

    async def run() -> Any:
        store = build_store(config_for(url))
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_password_comes_from_stdin_and_lets_in(people: Shell) -> None:
    async def log_in(store: Any) -> str:
        return (await Users(store).verify("ana@example.com", PASSWORD)).id

    assert within(people, log_in) == "ana"
    shown = told(people, "users", "show", "an")
    assert (shown["email"], shown["role"], shown["failed_logins"]) == ("Ana@example.com", "user", 0)
    assert "argon2" not in json.dumps(shown)
    assert not {"password_hash", "mfa_secret"} & set(shown)
    done = people("users", "set-password", "ANA@example.com", stdin="another canary\r\nmore\n")
    assert (done.returncode, done.stdout) == (0, "ana given another password\n")

    async def log_in_again(store: Any) -> str:
        return (await Users(store).verify("ana@example.com", "another canary")).id

    assert within(people, log_in_again) == "ana"


def test_a_password_that_is_missing_or_weak_is_refused(people: Shell) -> None:
    for given, code in (("", "HF1003"), ("\n", "HF1003"), ("short\n", "HF1002")):
        done = people("users", "set-password", "ana", stdin=given)
        assert done.returncode == 2
        assert code in done.stderr
        assert "short" not in done.stderr.replace("too short", "")
    assert people.inside("users", "set-password", "ana", PASSWORD).returncode == 2  # never an argument
    assert people("users", "set-password", "nobody", stdin=f"{PASSWORD}\n").returncode == 3


def test_a_password_is_typed_without_being_shown(people: Shell) -> None:
    # A terminal of its own: what is typed is read from it, and what it shows is looked at.
    here, there = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "users", "set-password", "ana"],
        cwd=people.folder, env=people.environ, stdin=there, stdout=there, stderr=there,
        start_new_session=True,
    )  # fmt: skip
    os.close(there)
    shown = b""
    for prompt in (b"New password:", b"Again:"):
        while prompt not in shown:
            shown += os.read(here, 1024)
        os.write(here, b"typed canary\n")
    while True:
        try:
            read = os.read(here, 1024)
        except OSError:  # the other side is closed
            break
        if not read:
            break
        shown += read
    os.close(here)
    assert child.wait(30) == 0, shown
    assert b"typed canary" not in shown


def test_users_are_changed_by_their_verbs(people: Shell) -> None:
    assert told(people, "users", "set-role", "bo@example.com", "admin")["role"] == "admin"
    assert told(people, "users", "set-email", "bo", "BO@example.com")["email"] == "BO@example.com"
    taken = told(people, "users", "set-email", "bo", "ANA@example.com", code=4)
    assert taken["code"] == "HF4061"
    assert told(people, "users", "create", "ana@EXAMPLE.com", code=4)["code"] == "HF4061"
    assert told(people, "users", "create", "ana", code=2)["code"] == "HF1002"
    assert people.inside("users", "set-role", "bo", "adnim").returncode == 2
    done = people.inside("users", "delete", "bo", "nobody", "an")
    assert (done.returncode, done.stdout) == (10, "bo deleted\nana deleted\n")
    assert told(people, "users", "list")["items"] == []
    assert told(people, "users", "restore", "bo")["items"] == [{"id": "bo", "result": "restored"}]
    assert people.inside("users", "restore", "bo").returncode == 3


def test_a_locked_account_is_found_and_opened(people: Shell) -> None:
    async def guess(store: Any) -> None:
        from tests.conformance.people import users_of

        for _ in range(3):
            with pytest.raises(Exception, match="HF5001"):
                await users_of(store).verify("ana@example.com", "wrong")

    within(people, guess)
    assert [row["id"] for row in told(people, "users", "list", "has:locked_until")["items"]] == ["ana"]
    dry = told(people, "users", "unlock", "ana", "--dry-run")
    assert (dry["failed_logins"], dry["dry_run"]) == (3, True)
    assert told(people, "users", "unlock", "Ana@Example.com")["locked_until"] is None
    assert told(people, "users", "list", "has:locked_until")["items"] == []


def test_a_key_is_printed_once(people: Shell) -> None:
    done = people.inside(
        "api-keys", "create", "ana@example.com", "ci", "--scope", "read", "--expires-in", "90d"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hf_")
    assert len(done.stdout.splitlines()) == 1
    made = told(people, "api-keys", "create", "ana", "deploy")
    assert made["key"].startswith(f"hf_{made['prefix']}_")
    rows = told(people, "api-keys", "list", "user:ana")["items"]
    assert {row["name"] for row in rows} == {"ci", "deploy"}
    everything = json.dumps(rows) + people.inside("api-keys", "show", made["id"]).stdout
    assert made["key"] not in everything
    assert "sha256" not in everything
    assert told(people, "api-keys", "revoke", made["id"])["items"][0]["result"] == "revoked"
    assert told(people, "api-keys", "show", made["id"])["revoked_at"] is not None
    people.environ["HOLDFAST_API_KEY_PEPPER"] = "p1:" + "A" * 43 + "="
    assert told(people, "api-keys", "create", "ana", "keyed")["key"].startswith("hf_")
    people.environ["HOLDFAST_API_KEY_PEPPER"] = "canary"
    refused = people.inside("api-keys", "create", "ana", "keyed")
    assert refused.returncode == 2
    assert "canary" not in refused.stdout + refused.stderr
    del people.environ["HOLDFAST_API_KEY_PEPPER"]
    assert people.inside("api-keys", "create", "nobody", "x").returncode == 3
    assert people.inside("api-keys", "create", "ana", "x", "--dry-run").stdout == ""
    assert len(told(people, "api-keys", "list")["items"]) == 3


def test_sessions_are_listed_and_ended(people: Shell) -> None:
    async def log_in(store: Any) -> list[str]:
        from holdfast.domain.sessions import Sessions

        return [(await Sessions(store).open("ana", ip="::1")).session.id for _ in range(4)]

    made = within(people, log_in)
    rows = told(people, "sessions", "list", "user:ana")["items"]
    assert {row["id"] for row in rows} == set(made)
    assert "token" not in json.dumps(told(people, "sessions", "show", made[0]))
    assert told(people, "sessions", "terminate", made[0])["items"] == [
        {"id": made[0], "result": "terminated"}
    ]
    assert told(people, "sessions", "terminate", "--user", "ana", "--dry-run") == {
        "terminated": 3, "dry_run": True,
    }  # fmt: skip
    done = people.inside("sessions", "terminate", "--user", "ana@example.com")
    assert (done.returncode, done.stdout) == (0, "3 sessions terminated\n")
    assert people.inside("sessions", "terminate").returncode == 2
    assert people.inside("sessions", "terminate", made[0], "--user", "ana").returncode == 2

    async def open_ones(store: Any) -> int:
        return int((await store.repo(Session).count("-has:terminated")).rows)

    assert within(people, open_ones) == 0

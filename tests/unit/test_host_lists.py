"""Several servers in one address: how they are written, in which order they are tried, when they rest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.hosts import hosts_of
from holdfast.config.loader import load
from holdfast.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidConfiguration,
    NoWritableServer,
    ReadOnlyServer,
    StoreUnavailable,
)
from holdfast.store.drivers import hosts as module
from holdfast.store.drivers.hosts import Hosts
from holdfast.stores import build_store

pytestmark = pytest.mark.anyio


# How they are written.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db", [("db", 1)]),
        ("db:5", [("db", 5)]),
        ("a:5, b", [("a", 5), ("b", 1)]),
        ("::1", [("::1", 1)]),
        ("[::1]:5,[fe80::1]", [("::1", 5), ("fe80::1", 1)]),
        ("/run/a:b", [("/run/a:b", 1)]),
    ],
)
def test_hosts(text: str, expected: list[tuple[str, int]]) -> None:
    assert list(hosts_of(text, 1)) == expected


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", "a:0", "a:65536", "a:x", "a:", "[::1", "[::1]x", ":5"])
def test_malformed_hosts(text: str) -> None:
    with pytest.raises(InvalidArgument):
        hosts_of(text, 1)


def options(tmp_path: Path, url: str, **flags: str) -> Any:
    driver: Any = build_store(
        load(environ={}, cwd=tmp_path, flags={"storage.url": url, **flags}).config
    ).driver
    return driver.options


@pytest.mark.parametrize(("kind", "port"), [("postgresql", 5432), ("mysql", 3306)])
def test_a_url_names_several(tmp_path: Path, kind: str, port: int) -> None:
    found = options(tmp_path, f"{kind}://ana:p%40ss@one:7,two,[::1]:9/app?sslmode=require")
    assert [(one.host, one.port) for one in found.each()] == [("one", 7), ("two", port), ("::1", 9)]
    assert {(one.user, one.password, one.database) for one in found.each()} == {("ana", "p@ss", "app")}
    assert found.writable and "p@ss" not in found.place
    loaded = load(
        environ={}, cwd=tmp_path, flags={"storage.url": f"{kind}://ana:secret@one:7,two/app"}
    ).config
    assert str(loaded.storage.url) == f"{kind}://ana:***@one:7,two:{port}/app"
    assert [one.host for one in options(tmp_path, loaded.storage.url.reveal()).each()] == ["one", "two"]


def test_a_block_names_several(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text(
        "storage: {type: postgresql, postgresql: {host: 'one,two:7', port: 9}}"
    )
    driver: Any = build_store(load(environ={}, cwd=tmp_path).config).driver
    assert [(one.host, one.port) for one in driver.options.each()] == [("one", 9), ("two", 7)]


@pytest.mark.parametrize(
    ("hosts", "target", "writable"),
    [
        ("one", None, False), ("one", "any", False), ("one", "read-write", True), ("one", "primary", True),
        ("one,two", None, True), ("one,two", "any", False), ("one,two", "auto", True),
    ],
)  # fmt: skip
def test_who_has_to_take_writes(tmp_path: Path, hosts: str, target: str | None, writable: bool) -> None:
    query = f"?target_session_attrs={target}" if target else ""
    assert options(tmp_path, f"postgresql://{hosts}/app{query}").writable is writable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:secret@a,,b/app", "empty"),
        ("mysql://u:secret@a:70000,b/app", "a:70000"),
        ("postgresql://a/app?target_session_attrs=prefer-standby", "prefer-standby"),
        ("postgresql://a/app?direct_url=postgresql%3A%2F%2Fb%2C%2Cc%2Fapp", "empty"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        options(tmp_path, url)
    assert words in str(caught.value) and "secret" not in str(caught.value)


def test_a_mistake_in_a_block_is_named(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text("storage: {type: mysql, mysql: {host: 'one,'}}")
    with pytest.raises(InvalidConfiguration, match=r"storage\.mysql\.host"):
        load(environ={}, cwd=tmp_path)


# Which is used.


@dataclass(frozen=True)
class Place:
    server: str


@dataclass
class World:
    """Servers that work or fail, a clock, and who was asked."""

    failing: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)
    moves: int = 0
    now: float = 100.0

    def hosts(self, *names: str) -> Hosts[Place]:
        return Hosts([Place(name) for name in names], 30.0, moved=self._moved, clock=lambda: self.now)

    def _moved(self) -> None:
        self.moves += 1

    async def attempt(self, place: Place, patience_s: float) -> str:
        self.asked.append((place.server, patience_s))
        if (error := self.failing.get(place.server)) is not None:
            raise error
        return place.server

    def names(self) -> list[str]:
        asked, self.asked = self.asked, []
        return [name for name, _ in asked]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Waiting moves its clock, and nothing else."""
    made = World()

    async def sleep(seconds: float) -> None:
        made.now += seconds

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return made


async def test_the_first_that_works_is_used_until_it_fails(world: World) -> None:
    hosts = world.hosts("a", "b", "c")
    world.failing["a"] = StoreUnavailable("down")
    assert await hosts.connect(world.attempt) == "b"
    assert (world.names(), hosts.used.server, world.moves) == (["a", "b"], "b", 0)
    world.failing.clear()
    assert await hosts.connect(world.attempt) == "b"
    assert world.names() == ["b"]  # also when an earlier one is back
    world.failing["b"] = ReadOnlyServer("a standby")
    world.now += 60
    assert await hosts.connect(world.attempt) == "a"
    assert (world.names(), world.moves) == (["b", "a"], 1)


async def test_all_share_the_time_there_is(world: World) -> None:
    hosts = world.hosts("a", "b", "c")
    world.failing = {name: StoreUnavailable("down") for name in "ab"}
    await hosts.connect(world.attempt)
    assert [round(patience) for _, patience in world.asked] == [10, 15, 30]


async def test_none_that_works_is_told_with_what_each_said(world: World) -> None:
    hosts = world.hosts("a:1", "b:2")
    world.failing = {"a:1": StoreUnavailable("it is down"), "b:2": ReadOnlyServer("it is a standby")}
    with pytest.raises(NoWritableServer) as caught:
        await hosts.connect(world.attempt)
    assert "a:1: it is down; b:2: it is a standby" in caught.value.cause
    assert [one["code"] for one in caught.value.details["servers"]] == ["HF2001", "HF2023"]


async def test_those_that_failed_rest_for_longer_and_longer(world: World) -> None:
    hosts = world.hosts("a", "b")
    world.failing = {name: StoreUnavailable("down") for name in "ab"}
    began = world.now
    for _ in range(200):
        with pytest.raises(NoWritableServer):
            await hosts.connect(world.attempt)
    # Without a rest it would be no time at all, and with the longest each time 400 seconds.
    assert 40 < world.now - began < 400
    assert len(world.asked) <= 400


async def test_what_waiting_does_not_help_is_raised_at_once(world: World) -> None:
    hosts = world.hosts("a", "b")
    world.failing["a"] = AccessDenied("wrong password")
    with pytest.raises(AccessDenied):
        await hosts.connect(world.attempt)
    assert world.names() == ["a"]


async def test_of_one_server_its_own_error_is_raised_and_it_never_rests(world: World) -> None:
    hosts = world.hosts("a")
    world.failing["a"] = StoreUnavailable("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as caught:
            await hosts.connect(world.attempt)
        assert not isinstance(caught.value, NoWritableServer)
    assert world.now == 100.0


async def test_a_server_is_left_once_however_many_writes_it_refused(world: World) -> None:
    hosts = world.hosts("a", "b")
    await hosts.connect(world.attempt)
    left, refusal = hosts.used, ReadOnlyServer("read-only")
    assert [hosts.leave(left, refusal) for _ in range(3)] == [True, False, False]
    world.names()
    assert await hosts.connect(world.attempt) == "b"
    assert world.names() == ["b"]  # the one that was left rests
    assert not hosts.leave(left, refusal)  # a late refusal does not touch the new one


async def test_many_at_once_do_not_lose_count(world: World) -> None:
    hosts = world.hosts("a", "b")
    world.failing["a"] = StoreUnavailable("down")
    assert await asyncio.gather(*(hosts.connect(world.attempt) for _ in range(20))) == ["b"] * 20
    assert hosts.used.server == "b"

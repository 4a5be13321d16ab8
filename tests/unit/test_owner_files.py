"""Owners' lock files, keys, and the thread that owns a SQLite connection."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import apsw
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.fleet import ownership
from holdfast.fleet.ownership import Life, has_neighbours, look_at
from holdfast.fleet.starts import child_id, new_key
from holdfast.records.executions import BootId
from holdfast.store.drivers.sqlite_threads import ConnectionThread

ONE, TWO, THREE = (BootId(bytes([n]) * 16) for n in (1, 2, 3))


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[list[int]]:
    """Two living owners and one that is gone."""
    descriptors = [ownership._create_locked(tmp_path / boot.hex()) for boot in (ONE, TWO)]
    (tmp_path / THREE.hex()).touch()
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_lock_tells_the_living_from_the_dead(tmp_path: Path, locked: list[int]) -> None:
    assert look_at(tmp_path, ONE) is Life.ALIVE
    assert look_at(tmp_path, THREE) is Life.GONE
    assert look_at(tmp_path, BootId(bytes(16))) is Life.UNKNOWN
    assert look_at(None, ONE) is Life.UNKNOWN
    fcntl.flock(locked[0], fcntl.LOCK_UN)  # what the system does when the process ends
    assert look_at(tmp_path, ONE) is Life.GONE


def test_two_who_look_at_once_see_the_same(tmp_path: Path, locked: list[int]) -> None:
    other = os.open(tmp_path / THREE.hex(), os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_SH)  # somebody else, in the middle of its own look
    assert look_at(tmp_path, THREE) is Life.GONE
    os.close(other)


def test_only_the_living_are_neighbours(tmp_path: Path, locked: list[int]) -> None:
    (tmp_path / "notes.txt").touch()
    assert has_neighbours(tmp_path)
    fcntl.flock(locked[1], fcntl.LOCK_UN)
    assert not has_neighbours(tmp_path)
    assert not has_neighbours(tmp_path / "none")


def test_only_what_is_long_dead_is_swept(tmp_path: Path, locked: list[int]) -> None:
    long_ago = time.time() - 3 * 86_400
    for boot in (ONE, THREE):
        os.utime(tmp_path / boot.hex(), (long_ago, long_ago))
    fresh = BootId(bytes([4]) * 16)
    (tmp_path / fresh.hex()).touch()
    ownership._sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ONE.hex(), TWO.hex(), fresh.hex()}


def test_keys_sort_as_they_were_made() -> None:
    keys = [new_key() for _ in range(200)]
    assert len(set(keys)) == 200
    assert keys == sorted(keys)
    parsed = UUID(bytes=bytes(keys[0]))
    assert (parsed.version, parsed.variant) == (7, "specified in RFC 4122")
    assert abs(int.from_bytes(keys[0][:6], "big") / 1000 - time.time()) < 60


def test_the_id_of_a_child_follows_from_its_parent() -> None:
    assert child_id("p", "a/b#2") == "p.a/b#2"
    long = child_id("p" * 200, "é" * 100)
    assert len(long) == 32
    assert long == child_id("p" * 200, "é" * 100)
    assert long != child_id("p" * 200, "é" * 99)


def connect() -> apsw.Connection:
    return apsw.Connection(":memory:")


def test_a_call_finishes_though_its_caller_and_loop_are_gone() -> None:
    thread = ConnectionThread("test", connect)
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def work(connection: apsw.Connection) -> int:
        started.set()
        assert go.wait(10)
        done.set()
        return 1

    async def ask() -> None:
        thread.submit(work)
        assert await asyncio.to_thread(started.wait, 10)

    asyncio.run(ask())
    go.set()
    thread.close()
    assert done.is_set()
    thread.close()


def test_a_cancelled_caller_leaves_the_call_to_finish() -> None:
    thread = ConnectionThread("test", connect)
    go = threading.Event()
    order: list[int] = []

    def work(connection: apsw.Connection, number: int) -> None:
        assert go.wait(10)
        order.append(number)

    async def ask() -> None:
        first = thread.submit(work, 1)
        second = thread.submit(work, 2)
        first.cancel()
        go.set()
        await second

    asyncio.run(ask())
    thread.close()
    assert order == [1, 2]


def test_a_closed_connection_refuses() -> None:
    thread = ConnectionThread("test", connect)
    thread.close()

    async def ask() -> None:
        with pytest.raises(StoreUnavailable, match="closed"):
            await thread.submit(lambda connection: None)

    asyncio.run(ask())

"""Every kind of store open in this process, and what an operation comes to on each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import holdfast as hf
from holdfast.config.loader import load
from holdfast.errors import DamagedData, HoldfastError, RetryLater
from holdfast.store.repository import Repository
from tests.conformance.notebooks import Note

PATIENCE_S = 60.0
_MOMENT = re.compile(r"datetime\.datetime\([^()]*(\([^()]*\))?[^()]*\)")
_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class World:
    """An app on one store."""

    def __init__(self, app: hf.App) -> None:
        self.app, self.store = app, app.store
        self.notes: Repository[Note] = self.store.repo(Note)


Operation = Callable[[World, Any, str], Awaitable[Any]]
"""Does something with a value; the text is new for each call."""


def _app(url: str, migrations: Path) -> hf.App:
    flags = {"storage.url": url, "storage.migrations.dir": str(migrations)}
    app = hf.App(load(environ={}, cwd=Path("/"), flags=flags).config)

    @app.workflow
    async def echo(value: Any) -> Any:
        return value

    @app.step
    async def break_down(value: str) -> str:
        raise ValueError(value)

    @app.workflow
    async def failing(value: str) -> str:
        return await break_down(value)

    @app.workflow
    async def asking(title: str, id: str) -> Any:
        return await hf.approval(title, id=id)

    return app


@asynccontextmanager
async def open_worlds(urls: dict[str, str], migrations: Path) -> AsyncIterator[dict[str, World]]:
    apps = {kind: _app(url, migrations) for kind, url in urls.items()}
    try:
        for app in apps.values():
            await app.open()
            await app.workflows["echo"].options(id="first").start("x")
        yield {kind: World(app) for kind, app in apps.items()}
    finally:
        for app in apps.values():
            await app.close()


async def compared(worlds: dict[str, World], operation: Operation, value: Any, new: str) -> Any:
    """What an operation came to, which has to be the same everywhere: an answer or the name of an error.

    Fails when stores differ, and when an error is none that a caller could do something about.
    """
    place = f"{operation.__name__} of {value!a:.120}"
    told = dict(
        zip(
            worlds,
            await asyncio.gather(*(_outcome(each, operation, value, new, place) for each in worlds.values())),
            strict=True,
        )
    )
    first = next(iter(told.values()))
    assert all(each == first for each in told.values()), f"{place}: {told}"
    return first


async def _outcome(world: World, operation: Operation, value: Any, new: str, place: str) -> tuple[str, str]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await operation(world, value, new)
    except HoldfastError as error:
        unusable = type(error) is HoldfastError or isinstance(error, DamagedData | RetryLater)
        assert not unusable, f"{place}: {error}"
        return "error", type(error).__name__
    except Exception as error:
        raise AssertionError(f"{place}: {error!r} on {world.store.driver.dialect}") from error
    return "answer", _KEY.sub("(key)", _MOMENT.sub("(moment)", repr(answer)))


def same(expected: Any, *found: Any) -> None:
    """What came back is what was given, and of the same type."""
    for each in found:
        assert (type(each), each) == (type(expected), expected)

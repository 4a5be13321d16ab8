"""How many executions there are, as fast for many as for few: exact for few, a number for many."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.app import App
from holdfast.errors import InvalidArgument
from holdfast.store import store as store_module

pytestmark = pytest.mark.anyio


async def test_an_estimate_is_exact_for_few_and_bounded_below_for_many(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(store_url)

    @app.workflow
    async def counted(number: int) -> int:
        return number

    async with app:
        for number in range(6):
            await counted(number)
        few = await app.store.estimate_executions("status:completed workflow:counted")
        assert (few.rows, few.exact) == (6, True)
        assert (await app.store.estimate_executions("status:failed")).rows == 0
        monkeypatch.setattr(store_module, "COUNTED", 4)
        many = await app.store.estimate_executions("status:completed")
        assert many.rows >= 4
        assert not many.exact
        with pytest.raises(InvalidArgument):
            await app.store.estimate_executions("colour:red")

"""The public interface as a program uses it. A type checker reads this file; nothing runs it.

A line that ends in `# error: CODE` has a mistake that the checker must find there, and no other line has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_type

import holdfast as hf
from holdfast.workflows.driving import Outcome

app = hf.App("sqlite:///app.db")


@dataclass
class Order:
    item: str
    count: int


@app.step
async def price(order: Order, *, currency: str = "EUR") -> float:
    return 1.5 * order.count


@app.step
def slow(number: int) -> str:
    return str(number)


@app.step(max_attempts=3, backoff="2s", timeout=timedelta(seconds=30), retry_on=("TimeoutError",))
async def fetch(url: str) -> bytes:
    return url.encode()


@app.step(name="other")
def plain(values: Mapping[str, int]) -> list[int]:
    return list(values.values())


@app.step(cpu=True, timeout="1m")
def crunch(number: int) -> bytes:
    return bytes(number)


@app.workflow
async def report(topic: str, depth: int = 1) -> str:
    cost = await price(Order("tea", 2), currency="USD")
    assert_type(cost, float)
    assert_type(await slow(3), str)
    assert_type(await fetch("https://example.org"), bytes)
    assert_type(await plain({"a": 1}), list[int])
    assert_type(await crunch(3), bytes)
    assert_type(hf.patched("receipts"), bool)
    hf.deprecate_patch("receipts")
    first, second = await hf.gather(slow(1), fetch("x"))
    assert_type(first, str)
    assert_type(second, bytes)
    assert_type(await hf.gather(*[slow(n) for n in range(3)]), tuple[str, ...])
    async with hf.scope("quiet"):
        await hf.sleep("30d")
        await hf.sleep(timedelta(days=1))
    assert_type(await nested(Order("tea", 1)), Order)
    child, number = await hf.gather(nested(Order("tea", 1)), plain({}))
    assert_type(child, Order)
    assert_type(number, list[int])
    return topic * depth


@app.workflow(version="2")
async def nested(order: Order) -> Order:
    return order


async def main() -> None:
    async with app:
        assert_type(await report("otters"), str)
        handle = await report.options(id="r-1", tags=["a"]).start("otters", depth=2)
        assert_type(handle.id, str)
        assert_type(await handle, str)
        assert_type(await handle.result(), str)
        found: hf.Handle[str] = await app.handle("r-1")
        await found.cancel("no longer needed")


async def orchestrated() -> None:
    async with hf.Orchestrator("sqlite:///runs.db") as orchestrator:
        assert_type(await orchestrator.run("build.yaml", {"target": "docs"}, id="b"), Outcome)


async def mistakes() -> None:
    await report()  # error: call-arg
    await report(3)  # error: arg-type
    await report("x", deep=1)  # error: call-arg
    await report.options(id=7)("x")  # error: arg-type
    await report.start("x", depth="deep")  # error: arg-type
    await price("tea")  # error: arg-type
    await price(Order("tea", 1), "EUR")  # error: call-arg
    await slow("3")  # error: arg-type
    await crunch("3")  # error: arg-type
    hf.patched(3)  # error: arg-type
    number: int = await slow(3)  # error: assignment
    text: str = await fetch("x")  # error: assignment
    hf.gather(slow("a"), slow(2))  # error: arg-type
    await hf.sleep(None)  # error: arg-type
    hf.App(3)  # error: arg-type
    assert number
    assert text


@app.step(max_attempts="3")  # error: call-overload
async def wrong_options() -> None: ...


@app.workflow  # error: arg-type
def not_async(topic: str) -> str:
    return topic

"""The Python workflows of the golden histories, as they were when the histories were recorded.

Nothing here may change: what stands in a history has to replay on this code with every later version of the
library. A new case gets a new workflow and is recorded by `python -m tests.golden.record NAME`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import holdfast as hf

app = hf.App("memory://")
failures: dict[str, int] = {}
"""How often a step has still to fail; for recording only."""
arrived = asyncio.Event()
before_the_patch = False


@dataclass
class Order:
    item: str
    count: int
    price: Decimal


@app.step
async def total(order: Order, *, currency: str = "EUR") -> Decimal:
    return order.price * order.count


@app.step
def label(order: Order, at: datetime, *tags: str) -> dict[str, Any]:
    return {"item": order.item, "at": at.isoformat(), "tags": list(tags), "raw": b"\x00\xff"}


@app.workflow
async def values(order: Order) -> list[Any]:
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    first = await total(order)
    second = await total(Order("tea", 2, Decimal("1.10")), currency="USD")
    return [first, second, await label(order, at, "a", "b"), await label(order, at)]


@app.step
async def double(number: int) -> int:
    return 2 * number


@app.workflow
async def branches(numbers: list[int]) -> list[int]:
    async def part(number: int) -> int:
        async with hf.scope("inner"):
            return await double(await double(number))

    found = await hf.gather(*[part(number) for number in numbers])
    async with hf.scope("after"):
        last = await double(sum(found))
    async with hf.scope("after"):
        return [*found, last, await double(1)]


@app.step(max_attempts=5, backoff="1ms")
async def flaky(name: str) -> str:
    if failures.get(name, 0) > 0:
        failures[name] -= 1
        raise ConnectionError(f"{name} is not reachable")
    return name


@app.workflow
async def retries() -> list[str]:
    return [await flaky("one"), await flaky("two")]


@app.workflow
async def naps() -> int:
    await hf.sleep("5ms")
    number = await double(4)
    await hf.sleep("5ms")
    return number


@app.workflow
async def part(number: int) -> int:
    return await double(number) + 1


@app.workflow
async def whole(numbers: list[int]) -> list[int]:
    first = await part(numbers[0])
    return [first, *await hf.gather(*[part(number) for number in numbers[1:]])]


@app.workflow
async def patched(name: str) -> list[str]:
    found = [await flaky(name)]
    if not before_the_patch and hf.patched("twice"):
        found.append(await flaky(f"{name} again"))
    return [*found, await flaky("end")]


@app.step
async def refuse(why: str) -> str:
    raise ValueError(why)


@app.workflow
async def fails() -> str:
    await double(1)
    return await refuse("no more tea")


@app.workflow
async def catches() -> str:
    try:
        return await refuse("no more tea")
    except hf.StepFailed as error:
        return await flaky(error.details["error"]["message"])


@app.step
async def wait_for_the_end(name: str) -> str:
    if failures.get(name, 0) > 0:
        failures[name] -= 1
        arrived.set()
        await asyncio.Event().wait()
    return name


@app.workflow
async def stopped(name: str) -> str:
    first = await double(3)
    return f"{first} {await wait_for_the_end(name)}"


@app.workflow
async def asleep() -> int:
    first = await double(3)
    await hf.sleep("30d")
    return await double(first)


@app.step(max_attempts=5, backoff="1h", jitter=False)
async def patient(name: str) -> str:
    raise ConnectionError(f"{name} is not reachable")


@app.workflow
async def tries(name: str) -> str:
    return await patient(name)


@app.step
async def works_later(name: str) -> str:
    if failures.get(name, 0) > 0:
        failures[name] -= 1
        raise ValueError(f"{name} is not ready")
    return name


@app.workflow
async def retried(name: str) -> list[str]:
    first = await double(1)
    found = await hf.gather(works_later(name), works_later("other"))
    return [str(first), *found, await works_later("last")]


@app.workflow
async def signalled(name: str) -> list[Any]:
    early = await hf.wait_signal(f"early-{name}")
    order = await hf.wait_signal(f"order-{name}", timeout="1h", model=Order)
    try:
        late = await hf.wait_signal(f"never-{name}", timeout="5ms")
    except hf.SignalTimeout:
        late = "too late"
    return [early, order.item, str(order.price), late, await double(order.count)]


@app.workflow
async def approved(title: str) -> list[Any]:
    form = {"type": "object", "properties": {"price": {"type": "number"}}}
    yes = await hf.approval(title, form=form, timeout="3d")
    no = await hf.approval(f"{title} again", id=f"second-{title}")
    return [yes.approved, yes.by, yes.answer, no.approved, no.comment]

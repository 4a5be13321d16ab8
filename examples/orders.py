# $ holdfast run orders.py:order --id order-7 '{"id": "7", "items": ["tea", "cup", "pot"]}'
# $ holdfast executions show order-7
"""An order: retries, parallel steps, a timer, and a workflow inside a workflow."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import holdfast as hf

app = hf.App()


@dataclass(frozen=True)
class Order:
    id: str
    items: list[str]


@dataclass(frozen=True)
class Parcel:
    order: str
    items: list[str]
    label: str


@app.step(max_attempts=5, backoff="100ms", retry_on=("ConnectionError",), timeout="10s")
async def reserve(item: str) -> str:
    """Fails now and then, as a service would; every attempt is in the log."""
    await asyncio.sleep(0.05)
    if random.random() < 0.3:
        raise ConnectionError(f"the warehouse did not answer about {item}")
    return f"{item}@A{len(item)}"


@app.step
def print_label(order: str) -> str:
    """A plain function: it runs in a thread."""
    return f"LABEL {order}"


@app.step
async def notify(order: str, channel: str) -> str:
    return f"{channel}: order {order} is on its way"


@app.workflow
async def pack(order: Order) -> Parcel:
    """A workflow of its own: called from another one it is a child execution with its own log."""
    places = await hf.gather(*[reserve(item) for item in order.items])
    return Parcel(order.id, list(places), await print_label(order.id))


@app.workflow(version="1")
async def order(order: Order) -> list[str]:
    parcel = await pack(order)
    await hf.sleep("1s")  # the courier's time; a restart does not begin it anew
    async with hf.scope("notify"):
        return list(await hf.gather(notify(parcel.order, "mail"), notify(parcel.order, "text")))


async def main() -> None:
    """Without the command line: `python orders.py`."""
    async with app:
        handle = await order.options(id="order-8").start(Order("8", ["tea"]))
        print(await handle)


if __name__ == "__main__":
    asyncio.run(main())

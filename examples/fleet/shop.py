"""The workflow of the fleet example: an order in four steps, each of which leaves a line in a ledger.

$ holdfast worker shop.py                   as many as you like, on as many machines as you like
$ holdfast run shop.py:order 1 --detach     leaves order 1 to them
"""

import os
import time

import holdfast as hf

app = hf.App()
LEDGER = os.environ.get("FLEET_LEDGER", "ledger")
STEP_S = float(os.environ.get("FLEET_STEP_SECONDS", "0.4"))


def work(step: str, number: int) -> int:
    """Note that the body has begun, and in which process; then take as long as real work would."""
    with open(LEDGER, "a") as ledger:  # one short write: lines of several processes do not mix
        ledger.write(f"{number} {step} {os.getpid()}\n")
    time.sleep(STEP_S * (1 + number % 3 / 4))
    return os.getpid()


@app.step
def reserve(number: int) -> int:
    return work("reserve", number)


@app.step
def charge(number: int) -> int:
    return work("charge", number)


@app.step
def pack(number: int) -> int:
    return work("pack", number)


@app.step
def ship(number: int) -> int:
    return work("ship", number)


@app.workflow
async def order(number: int) -> list[int]:
    """Which process did what: the results of the four steps."""
    return [await step(number) for step in (reserve, charge, pack, ship)]

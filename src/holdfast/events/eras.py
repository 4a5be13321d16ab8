"""Eras of the log, on MySQL and MariaDB alone: what readers do so that they can tell what is complete.

Those servers do not tell which transactions are under way, so writers hold a lock on the era they write in,
and readers put an end to eras that nobody holds. How, and why nothing can appear behind it, stands beside the
table `log_eras`.
"""

from __future__ import annotations

from holdfast.store.drivers.base import Driver


async def settle(driver: Driver) -> None:
    """Let what is committed lie in eras that are over. Nothing is written when it does already.

    The steps are transactions of their own, each on disk before the next begins.
    """
    if driver.dialect != "mysql":
        return
    eras, is_used = (await driver.fetch("events.eras"))[0]
    if is_used:
        await driver.fetch("events.begin_era")
    if is_used or eras > 1:
        over = (await driver.fetch("events.end_eras"))[0][0]
        if over is not None:
            await driver.fetch("events.remove_eras", over)

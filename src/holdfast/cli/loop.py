"""An event loop for one command, which Ctrl-C and SIGTERM end in an orderly way.

The first signal cancels the work, so that its `finally` blocks run; a second one does not wait for them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from holdfast.cli.failures import Stopped

T = TypeVar("T")
_LAST_WORDS_S = 0.3


def until_stopped(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on a new event loop; `Stopped` when Ctrl-C or SIGTERM ended it, after it has cleaned up."""
    return asyncio.run(_until_stopped(work))


async def _until_stopped(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)
        if len(asked) == 1 and task is not None:
            task.cancel()
        elif len(asked) > 1:
            # At once: cancelled tasks kill their bodies, and what is not written stays unwritten.
            loop.call_later(_LAST_WORDS_S, os._exit, 128 + asked[0])
            for each in asyncio.all_tasks():
                each.cancel()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        return await work()
    except asyncio.CancelledError:
        if asked:
            raise Stopped(asked[0]) from None
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

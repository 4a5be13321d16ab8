"""What the end of an execution leaves to be put in order outside of it.

All of it comes after the end's commit and may be lost with this process, so every part is also found again by
the sweeps that workers repeat: `return_unclaimed`, `withdraw_left` and `cancel_orphans`.
"""

from __future__ import annotations

from contextlib import suppress

from holdfast.errors import RetryLater
from holdfast.fleet.cancelling import cancel_children, withdraw
from holdfast.fleet.ownership import Registration
from holdfast.fleet.signals import return_unclaimed
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store.store import Store
from holdfast.workflows.driving import Outcome


async def clean_up(store: Store, registration: Registration, key: ExecutionKey, outcome: Outcome) -> None:
    """Withdraw what an ended execution asked for, send on what it never took, and stop its children.

    Children that were detached go on. An execution that never reached out has nothing to clean up.
    """
    if not (outcome.status.is_final and outcome.reaches_out):
        return
    reason = f"its parent has {outcome.status}"
    if outcome.status is ExecutionStatus.CANCELLED:
        reason = str((outcome.error or {}).get("message", "")) or reason
    with suppress(RetryLater):  # the sweeps see to it
        await withdraw(store, key)
        await return_unclaimed(store, key)
        await cancel_children(store, registration, key, reason=reason)

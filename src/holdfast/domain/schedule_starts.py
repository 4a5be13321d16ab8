"""What a schedule starts: an execution of the definition that it means at this moment, with checked input.

The definition is looked up before the transaction that starts it, the rows are written within.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.domain.schedule_plans import MAINTENANCE
from holdfast.errors import HoldfastError, RetryLater
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionStatus
from holdfast.records.schedules import Schedule
from holdfast.store import codec
from holdfast.store.drivers.base import Transaction
from holdfast.store.store import Store

if TYPE_CHECKING:
    from holdfast.records.workflows import StoredDefinition

TRIGGER = "schedule"
"""The trigger source of executions that schedules start."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A definition and its encoded input."""

    definition: StoredDefinition
    input: bytes


Start = Prepared | HoldfastError
"""What is to be started, or why it can not be."""


async def prepare(store: Store, schedule: Schedule) -> Start | None:
    """What a start means now; None for a duty of Holdfast's own. Raises `RetryLater`."""
    if schedule.workflow.startswith(MAINTENANCE):
        return None
    from holdfast.fleet.versions import resolve

    try:
        found = await resolve(store, schedule.workflow, schedule.version)
        return Prepared(found, _input(found, schedule.inputs))
    except RetryLater:
        raise
    except HoldfastError as error:
        return error


def _input(definition: StoredDefinition, inputs: Mapping[str, Any]) -> bytes:
    """The encoded input. A YAML definition checks it; of Python code the parameters are with the workers."""
    given = dict(inputs)
    if definition.kind == "yaml":
        from holdfast.workflows.definition import from_document

        given = from_document(definition.document).check_input(given)
    return codec.encode(given, what="inputs")


async def start(
    store: Store,
    transaction: Transaction,
    schedule: Schedule,
    prepared: Prepared,
    id: str,
    about: Mapping[str, Any],
    *,
    started_by: str | None = None,
) -> bool:
    """Write an execution that is ready for the workers of the schedule's queue. False: its id is taken."""
    from holdfast.fleet.control import Locked, write
    from holdfast.fleet.starts import fingerprint, new_key

    definition, key = prepared.definition, new_key()
    made = await transaction.fetch(
        "schedules.start", key, store.tenant, id, definition.name, definition.version, definition.hash,
        fingerprint(definition.name, prepared.input), schedule.queue, schedule.id,
    )  # fmt: skip
    if not made:
        return False
    tags: Any = list(schedule.tags)
    if store.driver.dialect != "postgresql":
        tags = json.dumps(tags, ensure_ascii=False)
    await transaction.fetch(
        "schedules.describe", key, store.tenant, tags, TRIGGER, started_by,
        codec.to_json(dict(about), what="metadata"),
    )  # fmt: skip
    unborn = Locked(
        key, None, 0, ExecutionStatus.READY, id, store.tenant, schedule.queue, definition.name,
        definition.hash, None, None, False, True,
    )  # fmt: skip
    await write(transaction, unborn, EventType.EXECUTION_STARTED, prepared.input)
    return True

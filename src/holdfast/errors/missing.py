"""HF30xx: what does not exist."""

from __future__ import annotations

from holdfast.errors.root import NotFound


class ExecutionNotFound(NotFound):
    """No execution has this id."""

    code = "HF3001"
    default_fix = "holdfast executions list"


class TaskNotFound(NotFound):
    """There is no such task."""

    code = "HF3050"
    default_fix = "name a task that an execution has offered"


class WorkflowNotFound(NotFound):
    """No workflow has this name, or the file or module that defines it is missing."""

    code = "HF3002"
    default_fix = "holdfast workflows list"


class QueueNotFound(NotFound):
    """Nothing is in a queue of this name, nothing is said about it, and no worker serves it."""

    code = "HF3030"
    default_fix = "holdfast queues list"


class AppNotFound(NotFound):
    """A module has no app and no workflow of this name."""

    code = "HF3040"
    default_fix = "name an app or a workflow of that file, or the file alone"


class WorkerNotFound(NotFound):
    """No process that is registered in this store has this id."""

    code = "HF3041"
    default_fix = "holdfast workers list --all"


class ApprovalNotFound(NotFound):
    """No approval has this id."""

    code = "HF3010"
    default_fix = "holdfast approvals list --all"


class StepNotFound(NotFound):
    """The log of an execution has no step of this name."""

    code = "HF3020"
    default_fix = "holdfast executions steps ID"


class RecordNotFound(NotFound):
    """No record of this kind has this id, or it was deleted."""

    code = "HF3060"
    default_fix = "list the records of that kind and check the id"

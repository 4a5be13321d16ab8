"""HF40xx: ownership, replay, and what stands in the way."""

from __future__ import annotations

from holdfast.errors.root import Conflict


class TaskTaken(Conflict):
    """A task is not this claim's any more: it was given to another agent, answered, or called off."""

    code = "HF4050"
    default_fix = "drop the work: the task is with somebody else, or nobody waits for it"


class OwnedElsewhere(Conflict):
    """A live owner is running this execution."""

    code = "HF4001"
    default_fix = "wait for it (`holdfast executions wait ID`), or take it over with --steal"


class LeaseLost(Conflict):
    """Another owner took this execution; this process stopped working on it."""

    code = "HF4003"
    default_fix = "look at the new owner: `holdfast executions show ID`"


class IdTaken(Conflict):
    """The id belongs to an execution with another workflow or other inputs."""

    code = "HF4004"
    default_fix = "choose another --id"


class DefinitionChanged(Conflict):
    """The definition is not the one this execution started with."""

    code = "HF4005"
    default_fix = "restore the definition, or start anew with --new"


class VersionTaken(Conflict):
    """This name and version are registered with another definition."""

    code = "HF4006"
    default_fix = "raise `version` in the definition"


class VersionConflict(Conflict):
    """Somebody else wrote in between; `details` has the actual and the expected version."""

    code = "HF4008"
    default_fix = "read again, decide again, write again"


class RecordExists(Conflict):
    """A record of this kind has this id already."""

    code = "HF4060"
    default_fix = "choose another id, or update the record that has it"


class WorkerOutOfReach(Conflict):
    """A process can not be stopped from here: it is not proven to be alive on this host."""

    code = "HF4040"
    default_fix = "send SIGTERM on its own host, or stop it through what started it there"


class AlreadyDecided(Conflict):
    """Somebody decided before, the deadline has passed, or nobody waits for the decision any more."""

    code = "HF4010"
    default_fix = "holdfast approvals show ID"


class ApprovalIdTaken(Conflict):
    """The id of an approval belongs to another step or execution."""

    code = "HF4012"
    default_fix = "leave `id` out, or make it unique: put the execution's id into it"


class SignalUndeliverable(Conflict):
    """A signal was sent to one execution, and that execution has ended."""

    code = "HF4011"
    default_fix = "send it without --to, for whoever waits for the name next"


class OtherQueue(Conflict):
    """An execution was named together with a queue that it does not belong to."""

    code = "HF4030"
    default_fix = "look at it: holdfast executions show ID"


class NotResumable(Conflict):
    """The execution is in a state from which it cannot go on."""

    code = "HF4007"
    default_fix = "holdfast executions show ID"


class WrongStatus(Conflict):
    """What was asked for needs an execution, or a record, in another status."""

    code = "HF4020"
    default_fix = "holdfast executions show ID"


class ReplayDiverged(Conflict):
    """The code does not do what the log of the execution says that it did."""

    code = "HF4021"
    default_fix = "restore the code this execution ran, or fork it before the step that differs"


class ForbiddenTransition(Conflict):
    """What was asked of an incident is not possible in its state; `details['allowed']` lists what is."""

    code = "HF4080"
    default_fix = "look at it, then choose what its state allows: holdfast incidents show ID"


class NoEdition(Conflict):
    """A runbook has no published edition, so that there is nothing to run."""

    code = "HF4081"
    default_fix = "publish one: holdfast runbooks publish NAME FILE.yaml"


class StoreInUse(Conflict):
    """Processes hold leases in a store that has to be at rest."""

    code = "HF4070"
    default_fix = (
        "stop the workers and runs (`holdfast workers list`), or wait until their leases have run out"
    )


class TargetNotEmpty(Conflict):
    """A store that is to be filled by a copy holds something already."""

    code = "HF4071"
    default_fix = "copy into a new, empty store"


class CopyUnfinished(Conflict):
    """A copy into this store was begun before."""

    code = "HF4072"
    default_fix = "go on with it: the same command with --resume"

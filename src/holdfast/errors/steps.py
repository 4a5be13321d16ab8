"""HF70xx: how executions and steps fail."""

from __future__ import annotations

from datetime import timedelta

from holdfast.errors.root import Failed, Misuse


class ExecutionFailed(Failed):
    """The execution ended in failure."""

    code = "HF7001"
    exit_code = 7


class ExecutionCancelled(Failed):
    """The execution was cancelled."""

    code = "HF7002"
    exit_code = 8
    default_fix = "start it again if that was not intended"


class StepFailed(Failed):
    """A step failed for good: its attempts are used up or its error is not retried."""

    code = "HF7003"


class StepTimeout(Failed):
    """One attempt of a step took longer than its timeout."""

    code = "HF7004"
    retry_type = "timeout"  # the name `retry.on` knows it by
    default_fix = "raise `timeout` of the step"


class SignalTimeout(StepFailed):
    """No signal of the name came before the deadline of `wait_signal`; the same is raised at every replay."""

    code = "HF7010"
    default_fix = "catch it where the workflow can go on without, or give it more time"


class ApprovalExpired(StepFailed):
    """Nobody decided before the deadline of an approval; the same is raised at every replay."""

    code = "HF7011"
    default_fix = "catch it where the workflow can go on without, or give it more time"


class ApprovalRejected(StepFailed):
    """Somebody said no to a step that goes on only when it is approved."""

    code = "HF7012"
    default_fix = "write `on_reject: continue` and look at `output.approved` to go on all the same"


class WorkerProcessDied(Failed):
    """The process that ran a CPU step ended in the middle of it: it was killed, or called `os._exit`."""

    code = "HF7020"
    default_fix = "look at what the step does; SIGKILL often means that the machine ran out of memory"


class StepRaised(Failed):
    """A CPU step raised in its process; `details['error']` is the error as it is stored."""

    code = "HF7021"

    @property
    def retry_type(self) -> str:
        """The word that `retry.on` compares with: the name of the class that was raised there."""
        return str(self.details["error"]["type"])


class TooManyRecoveries(Failed):
    """The execution was taken over too often without a new result and is dead-lettered."""

    code = "HF7005"
    exit_code = 7
    default_fix = "look for the step that kills its process"


class UnnamedBranch(Misuse):
    """A step was called from a task that `gather` or `scope` did not start."""

    code = "HF1220"
    default_fix = (
        "start parallel steps with holdfast.gather(...), or name the branch with holdfast.scope(...)"
    )


# What a step's body reports about itself.


class BodyFailed(Failed):
    """A step's body failed in a way it can describe; `details['kind']` is its error type for `retry.on`.

    Kinds: `exit` (a command ended non-zero; `exit_code`, `stderr`), `output` (its output is not the JSON
    it promised), `spawn` (the command could not be started), `expression` (a template gave no value).
    """

    code = "HF7006"

    @property
    def retry_type(self) -> str:
        """The word that `retry.on` compares with."""
        return str(self.details.get("kind", type(self).__name__))


class RequestFailed(BodyFailed):
    """The request of an `http` step did not give what it should; `details['kind']` says how.

    Kinds that are tried again: `unavailable` (the status says not now: 408, 425, 429, 5xx), `connect` (no
    connection), `network` (it broke), `timeout`. Kinds that are final unless `retry.on` names them: `status`
    (any other status), `redirect`, `body` (too long, or not as it was announced), `output` (not the JSON it
    promised), `request` (it can not be sent).
    """

    code = "HF7007"

    @property
    def is_final(self) -> bool:
        """Whether the same request would fail again."""
        return self.details.get("kind") not in _PASSING

    @property
    def retry_after(self) -> timedelta:
        """How long the server asks to be left alone."""
        return timedelta(seconds=int(self.details.get("retry_after_s") or 0))


_PASSING = frozenset({"unavailable", "connect", "network", "timeout"})


class AddressRefused(RequestFailed):
    """An `http` step was about to reach an address that is not public and not in `http.allow`.

    Every address of the name is checked, and those of every redirect; `details['kind']` is `address`.
    """

    code = "HF7008"
    default_fix = "correct the URL, or have the operator add the network to `http.allow`"

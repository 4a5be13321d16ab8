"""Workflow versions, deployments, schedules, agents and tasks."""

from __future__ import annotations

from holdfast.errors.root import Conflict, Misuse, NotFound


class InvalidSchedule(Misuse):
    """The cron text or the time zone of a schedule can not be read."""

    code = "HF1230"
    default_fix = "write five fields, like '0 2 * * 1-5', and a zone like Europe/Berlin"


class AgentNotFound(NotFound):
    """No agent has registered under this id."""

    code = "HF3051"
    default_fix = "holdfast agents list"


class DeploymentNotFound(NotFound):
    """There is no such deployment, or nothing is deployed that could be rolled back."""

    code = "HF3070"
    default_fix = "holdfast deployments list"


class ScheduleNotFound(NotFound):
    """No schedule has this id."""

    code = "HF3071"
    default_fix = "holdfast schedules list"


class WrongTaskStatus(Conflict):
    """What was asked for needs a task in another status, or one that stands by itself."""

    code = "HF4051"
    default_fix = "holdfast tasks show ID"


class WorkflowInUse(Conflict):
    """Executions that have not ended use this version, or it is deployed."""

    code = "HF4090"
    default_fix = "wait for the executions or cancel them; roll the deployment back"


class WorkflowUnavailable(Conflict):
    """A version of a workflow is a draft or archived, and so can not be started or deployed this way."""

    code = "HF4091"
    default_fix = "holdfast workflows mark NAME@VERSION active"

"""Incidents: from the moment somebody notices to the moment nothing is left to learn.

    open → acknowledged → mitigated → resolved → closed         reopen leads back to open

Every verb is one transaction: the incident's row is locked, the verb is allowed in its status or refused with
what is, and a line of the timeline tells who changed what. Steps may be skipped forwards; the times of
those that were are the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.domain.timeline import Timeline, changes, check_name, check_said
from holdfast.errors import ConstraintViolated, ForbiddenTransition, InvalidArgument, RecordExists
from holdfast.records.declare import NOT_YET
from holdfast.records.incidents import Incident, IncidentStatus, Severity, TimelineEntry, TimelineKind
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.filters import Condition, Query
from holdfast.store.pages import Page
from holdfast.store.store import Store

_OPEN, _ACKNOWLEDGED, _MITIGATED, _RESOLVED, _CLOSED = IncidentStatus
_UNSOLVED = frozenset({_OPEN, _ACKNOWLEDGED, _MITIGATED})
_NOT_CLOSED = _UNSOLVED | {_RESOLVED}


class Verb(StrEnum):
    """What can be done to an incident."""

    ACKNOWLEDGE = "acknowledge"
    ASSIGN = "assign"
    MITIGATE = "mitigate"
    RESOLVE = "resolve"
    CLOSE = "close"
    REOPEN = "reopen"
    NOTE = "note"
    RAISE_SEVERITY = "raise_severity"
    RESCOPE = "rescope"


@dataclass(frozen=True, slots=True)
class Rule:
    """In which statuses a verb is possible, where it leads (None: nowhere), and the line it writes."""

    possible: frozenset[IncidentStatus]
    leads_to: IncidentStatus | None
    kind: TimelineKind


RULES = {
    Verb.ACKNOWLEDGE: Rule(frozenset({_OPEN}), _ACKNOWLEDGED, TimelineKind.ACKNOWLEDGED),
    Verb.ASSIGN: Rule(_NOT_CLOSED, None, TimelineKind.ASSIGNED),
    Verb.MITIGATE: Rule(frozenset({_OPEN, _ACKNOWLEDGED}), _MITIGATED, TimelineKind.MITIGATED),
    Verb.RESOLVE: Rule(_UNSOLVED, _RESOLVED, TimelineKind.RESOLVED),
    Verb.CLOSE: Rule(frozenset({_RESOLVED}), _CLOSED, TimelineKind.CLOSED),
    Verb.REOPEN: Rule(frozenset({_MITIGATED, _RESOLVED, _CLOSED}), _OPEN, TimelineKind.REOPENED),
    Verb.NOTE: Rule(frozenset(IncidentStatus), None, TimelineKind.NOTE),
    Verb.RAISE_SEVERITY: Rule(_NOT_CLOSED, None, TimelineKind.SEVERITY),
    Verb.RESCOPE: Rule(_NOT_CLOSED, None, TimelineKind.SCOPE),
}


def allowed(status: IncidentStatus) -> list[Verb]:
    """What can be done to an incident in this status."""
    return [verb for verb, rule in RULES.items() if status in rule.possible]


def advanced(incident: Incident, verb: Verb, now: datetime) -> Incident:
    """The incident after a verb, in its new status and with the times that go with it.

    Raises `ForbiddenTransition`.
    """
    rule = RULES[verb]
    if incident.status not in rule.possible:
        can = allowed(incident.status)
        raise ForbiddenTransition(
            f"incident {incident.id} is {incident.status} and can not be changed by `{verb}`; "
            f"possible: {', '.join(can)}",
            where=incident.id,
            status=str(incident.status),
            verb=str(verb),
            allowed=[str(each) for each in can],
        )
    if rule.leads_to is None:
        return incident
    if rule.leads_to is _OPEN:
        return replace(
            incident,
            status=_OPEN,
            reopened=incident.reopened + 1,
            mitigated_at=None,
            resolved_at=None,
            closed_at=None,
        )
    reached = list(IncidentStatus).index(rule.leads_to)
    times: dict[str, Any] = {
        name: getattr(incident, name) or now
        for name in ("acknowledged_at", "mitigated_at", "resolved_at", "closed_at")[:reached]
    }
    return replace(incident, status=rule.leads_to, **times)


Edit = Callable[[Incident], Incident]


class Incidents:
    """The incidents of a store's tenant. Reading by query, page and search: `store.repo(Incident)`.

    `by` is who acts. Every verb raises `RecordNotFound`, `ForbiddenTransition` and `InvalidArgument`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self, incident: Incident, *, by: str, text: str = "") -> Incident:
        """Store a new incident; one without `detected_at` is detected now.

        Raises `RecordExists`, `InvalidArgument`.
        """
        check_said(by, text)
        _check_new(incident)

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> Incident:
            timeline = await Timeline.of(self._store, transaction, incident.id)
            detected = timeline.now if incident.detected_at == NOT_YET else incident.detected_at
            if detected > timeline.now:
                raise InvalidArgument("an incident can not be detected in the future", where="detected_at")
            made = await self._store.repo(Incident, within=transaction).create(
                replace(incident, detected_at=detected)
            )
            told = {"severity": str(made.severity), "title": made.title}
            await timeline.add(TimelineKind.OPENED, by, text, told)
            return made

        try:
            return await run()
        except ConstraintViolated as error:
            if await self._store.repo(Incident).find_by_id(incident.id) is None:
                raise
            raise RecordExists(f"there is an incident {incident.id!r} already", id=incident.id) from error

    async def acknowledge(self, id: str, *, by: str, text: str = "") -> Incident:
        """Take an incident: it is no longer nobody's. Without an assignee it becomes that of `by`."""
        return await self._change(
            id, Verb.ACKNOWLEDGE, by, text, lambda each: replace(each, assignee=each.assignee or by)
        )

    async def assign(self, id: str, assignee: str | None, *, by: str, text: str = "") -> Incident:
        """Give an incident to somebody else, or with None to nobody."""
        if assignee is not None:
            check_name(assignee, "assignee")
        return await self._change(id, Verb.ASSIGN, by, text, lambda each: replace(each, assignee=assignee))

    async def mitigate(self, id: str, *, by: str, text: str = "", remediation: str | None = None) -> Incident:
        """Users do not feel it any more; `remediation` is what was done."""

        def edit(incident: Incident) -> Incident:
            return replace(incident, remediation=remediation or incident.remediation)

        return await self._change(id, Verb.MITIGATE, by, text, edit)

    async def resolve(
        self,
        id: str,
        *,
        by: str,
        text: str = "",
        root_cause: str | None = None,
        remediation: str | None = None,
    ) -> Incident:
        """Its cause is gone; `root_cause` is what it was."""

        def edit(incident: Incident) -> Incident:
            return replace(
                incident,
                root_cause=root_cause or incident.root_cause,
                remediation=remediation or incident.remediation,
            )

        return await self._change(id, Verb.RESOLVE, by, text, edit)

    async def close(self, id: str, *, by: str, text: str = "") -> Incident:
        """Nothing more is to be done. Notes are still taken."""
        return await self._change(id, Verb.CLOSE, by, text)

    async def reopen(self, id: str, *, by: str, text: str = "") -> Incident:
        """It is back: open again, not mitigated and not resolved. The timeline keeps when it was."""
        return await self._change(id, Verb.REOPEN, by, text)

    async def raise_severity(self, id: str, severity: Severity, *, by: str, text: str = "") -> Incident:
        """It is worse than thought. Raises `ForbiddenTransition` when it is as severe already."""

        def edit(incident: Incident) -> Incident:
            if severity.rank <= incident.severity.rank:
                raise ForbiddenTransition(
                    f"incident {id} is {incident.severity} already",
                    where=id,
                    fix="name a higher severity",
                    status=str(incident.status),
                    allowed=[str(each) for each in Severity if each.rank > incident.severity.rank],
                )
            return replace(incident, severity=severity)

        return await self._change(id, Verb.RAISE_SEVERITY, by, text, edit)

    async def rescope(
        self,
        id: str,
        *,
        by: str,
        text: str = "",
        services: Sequence[str] | None = None,
        blast_radius: str | None = None,
    ) -> Incident:
        """What it reaches is other than thought: `services` are all that are affected now."""

        def edit(incident: Incident) -> Incident:
            return replace(
                incident,
                affected_services=incident.affected_services if services is None else tuple(services),
                blast_radius=incident.blast_radius if blast_radius is None else blast_radius,
            )

        return await self._change(id, Verb.RESCOPE, by, text, edit)

    async def note(
        self, id: str, text: str, *, by: str, at: datetime | None = None, data: dict[str, Any] | None = None
    ) -> TimelineEntry:
        """Write a line into the timeline; `at` is when it was seen, if that was not now."""
        check_said(by, text)
        if not text.strip():
            raise InvalidArgument("a note says something", where="text")

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> TimelineEntry:
            incident = await self._store.repo(Incident, within=transaction).get_locked(id)
            timeline = await Timeline.of(self._store, transaction, id)
            advanced(incident, Verb.NOTE, timeline.now)
            return await timeline.add(TimelineKind.NOTE, by, text, data, at=at)

        return await run()

    async def timeline(self, id: str, *, limit: int = 100, cursor: str | None = None) -> Page[TimelineEntry]:
        """What happened, in the order of its numbers. Raises `RecordNotFound`."""
        await self._store.repo(Incident).get(id)
        entries = self._store.repo(TimelineEntry)
        asked = Query((Condition(entries.mapping.table.column("incident"), "=", id),))
        return await entries.find(asked, sort="seq", limit=limit, cursor=cursor)

    async def _change(self, id: str, verb: Verb, by: str, text: str, edit: Edit | None = None) -> Incident:
        check_said(by, text)

        @self._store.transactional(isolation=Isolation.READ_COMMITTED)
        async def run(transaction: Transaction) -> Incident:
            incidents = self._store.repo(Incident, within=transaction)
            before = await incidents.get_locked(id)
            timeline = await Timeline.of(self._store, transaction, id)
            after = advanced(before, verb, timeline.now)
            if edit is not None:
                after = edit(after)
            made = await incidents.update(after)
            await timeline.add(RULES[verb].kind, by, text, changes(before, after))
            return made

        return await run()


def _check_new(incident: Incident) -> None:
    if not incident.title.strip():
        raise InvalidArgument("an incident has a title", where="title")
    if incident.assignee is not None:
        check_name(incident.assignee, "assignee")
    times = (incident.acknowledged_at, incident.mitigated_at, incident.resolved_at, incident.closed_at)
    if incident.status is not _OPEN or incident.reopened or any(times):
        raise InvalidArgument(
            "a new incident is open and has no times but that of its detection",
            where="status",
            fix="open it, then use the verbs",
        )

"""Which incidents a runbook fits.

Its trigger conditions are a JSON object with any of these keys, and all that are given have to hold:

    severity    the least severity it is for
    services    of these services at least one is affected
    tags        all of these tags are on the incident

A runbook without conditions fits no incident by itself; it is run by hand.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from holdfast.errors import InvalidArgument
from holdfast.records.incidents import Incident, Severity

_KEYS = ("severity", "services", "tags")


def check_conditions(conditions: Mapping[str, Any]) -> None:
    """Refuse conditions that could never be read. Raises `InvalidArgument` that names the key."""
    for key, value in conditions.items():
        where = f"trigger_conditions, {key}"
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1)
            fix = f"did you mean {near[0]}?" if near else f"use {', '.join(_KEYS)}"
            raise InvalidArgument(f"there is no condition {key!r}", where=where, fix=fix)
        if key == "severity":
            if value not in list(Severity):
                raise InvalidArgument(
                    f"there is no severity {value!r}", where=where, fix=f"use {', '.join(Severity)}"
                )
        elif not _texts(value):
            raise InvalidArgument(f"{key} has to be a list of texts that is not empty", where=where)


def fits(conditions: Mapping[str, Any], incident: Incident) -> bool:
    """Whether all conditions hold; never for none, and never for what `check_conditions` refuses."""
    try:
        check_conditions(conditions)
    except InvalidArgument:
        return False
    severity = conditions.get("severity")
    services, tags = conditions.get("services", ()), conditions.get("tags", ())
    return (
        bool(conditions)
        and (severity is None or incident.severity.rank >= Severity(severity).rank)
        and (not services or not set(services).isdisjoint(incident.affected_services))
        and set(tags) <= set(incident.tags)
    )


def _texts(value: Any) -> bool:
    listed = isinstance(value, list | tuple) and bool(value)
    return listed and all(isinstance(each, str) for each in value)

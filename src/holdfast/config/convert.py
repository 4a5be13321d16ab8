"""From the text of a setting to its value, by the rule of the setting.

Every source gives text, also the YAML file: whether somebody wrote `5432` or `"5432"` makes no difference,
and `password: 0123` keeps its zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from holdfast.config.rules import Rule
from holdfast.config.secrets import Secret, SecretUrl
from holdfast.durations import format_duration, parse_duration, parse_size
from holdfast.errors import InvalidArgument

_NAME_BYTES_MAX = 255
_DECIMAL = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?!\d+$){_LABEL}", re.ASCII)
BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def convert(rule: Rule, text: str, *, unit: str | None, base: Path) -> Any:
    """The value that `text` stands for; `InvalidArgument` says what would be right.

    `unit` is the one of a duration that is a bare integer, as the documents' spellings have it; None where
    a unit has to be written. `base` is the folder that a relative path starts from; the current folder is
    written `Path()`.
    """
    if rule.kind == "path":
        return base / Path(text).expanduser()
    if rule.kind == "duration":
        return _duration(rule, text, unit)
    return _READERS[rule.kind](rule, text)


def show(rule: Rule, value: Any) -> Any:
    """`value` as it is printed and written in JSON: text that `convert` reads back, secrets hidden."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Path | Secret):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    if rule.kind == "size" and value is not None:
        return format_size(value)
    return f"{value:04o}" if rule.kind == "mode" else value


def format_size(value: int) -> str:
    """The shortest exact spelling that `parse_size` reads back: `64MiB`, `1500B`."""
    for power, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value and value % (1 << power) == 0:
            return f"{value >> power}{name}"
    return f"{value}B"


def _boolean(rule: Rule, text: str) -> bool:
    found = BOOLEANS.get(text.strip().lower())
    if found is None:
        raise InvalidArgument(f"{text!r} is neither true nor false", fix="write true or false")
    return found


def _integer(rule: Rule, text: str) -> int:
    spelled = rule.spellings.get(text.strip().lower(), text.strip())
    if not (spelled.isascii() and spelled.removeprefix("-").isdigit() and len(spelled) < 19):
        raise InvalidArgument(f"{text!r} is not a whole number", fix=_range(rule))
    value = int(spelled)
    if not rule.low <= value <= rule.high:
        raise InvalidArgument(f"{value} is out of range", fix=_range(rule))
    return value


def _range(rule: Rule) -> str:
    return f"write a number from {rule.low} to {rule.high}"


def _number(rule: Rule, text: str) -> float:
    stripped = text.strip()
    if not _DECIMAL.fullmatch(stripped):
        raise InvalidArgument(f"{text!r} is not a number", fix=_range(rule))
    value = float(stripped)
    if not rule.low <= value <= rule.high:
        raise InvalidArgument(f"{stripped} is out of range", fix=_range(rule))
    return value


def _duration(rule: Rule, text: str, unit: str | None) -> timedelta:
    stripped = text.strip()
    bare = stripped.isascii() and stripped.isdigit()
    if bare and unit is None:
        raise InvalidArgument(
            f"{stripped} has no unit",
            fix=f"write {stripped}ms if milliseconds are meant, {stripped}s if seconds",
        )
    value = parse_duration(f"{stripped}{unit}" if bare else stripped)
    if value < rule.low:
        raise InvalidArgument(f"{text!r} is too short", fix=f"write at least {format_duration(rule.low)}")
    return value


def _size(rule: Rule, text: str) -> int:
    value = parse_size(text)
    if not rule.low <= value <= rule.high:
        limits = f"{format_size(rule.low)} to {format_size(rule.high)}"
        raise InvalidArgument(f"{text!r} is out of range", fix=f"write a size from {limits}")
    return value


def _choice(rule: Rule, text: str) -> str:
    lowered = text.strip().lower()
    found = rule.spellings.get(lowered, lowered)
    if found not in (*rule.choices, *rule.later):
        raise InvalidArgument(f"{text!r} is not one of the choices", fix=f"write {', '.join(rule.choices)}")
    return found


def _mode(rule: Rule, text: str) -> int:
    stripped = text.strip().removeprefix("0o")
    if not (stripped.isascii() and stripped.isdigit()) or set(stripped) & {"8", "9"} or len(stripped) > 4:
        raise InvalidArgument(f"{text!r} is not an octal file mode", fix='write "0600" or "0660"')
    value = int(stripped, 8)
    if value & 0o600 != 0o600 or value & 0o117:
        raise InvalidArgument(
            f"the file mode {text!r} does not serve: the owner reads and writes, the group at most does too",
            fix='write "0600" or "0660"',
        )
    return value


def _names(rule: Rule, text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found and rule.low != 0:
        raise InvalidArgument("it names nothing", fix="write one name, or several with commas")
    for name in found:
        if rule.choices and name not in rule.choices:
            raise InvalidArgument(
                f"{name!r} is not one of the choices", fix=f"write {', '.join(rule.choices)}"
            )
        if not (name.isprintable() and len(name.encode()) <= _NAME_BYTES_MAX):
            raise InvalidArgument(
                f"{name[:60]!r} can not be a name",
                fix=f"use 1 to {_NAME_BYTES_MAX} bytes of printable text",
            )
    return found


def _hosts(rule: Rule, text: str) -> tuple[str, ...]:
    """Host names (`*.` stands for what is below one), addresses and networks."""
    found = tuple(name.lower() for name in _names(rule, text))
    for name in found:
        if not (_HOST.fullmatch(name) or _is_network(name)):
            raise InvalidArgument(
                f"{name[:80]!r} is neither a host nor a network",
                fix="write a host (api.example, *.example), an address, or a network (10.1.0.0/16)",
            )
    return found


def _is_network(text: str) -> bool:
    from ipaddress import ip_network

    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _zone(rule: Rule, text: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(text.strip()).key
    except (OSError, ValueError, KeyError) as error:  # of a folder, a path outside, an unknown name
        raise InvalidArgument(
            f"{text!r} is not a time zone", fix="write UTC, or a name like Europe/Berlin"
        ) from error


def _cron(rule: Rule, text: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(text.strip(), datetime(2000, 1, 1))
    except CronSimError as error:
        raise InvalidArgument(
            f"{text!r} is not a cron expression", fix='write minute, hour, day, month, weekday: "0 4 * * *"'
        ) from error
    return text.strip()


_READERS: Mapping[str, Callable[[Rule, str], Any]] = {
    "text": lambda rule, text: text,
    "secret": lambda rule, text: Secret(text),
    "secrets": lambda rule, text: tuple(Secret(each.strip()) for each in text.split(",") if each.strip()),
    "url": lambda rule, text: SecretUrl(text),
    "boolean": _boolean,
    "integer": _integer,
    "choice": _choice,
    "mode": _mode,
    "names": _names,
    "number": _number,
    "size": _size,
    "hosts": _hosts,
    "zone": _zone,
    "cron": _cron,
}

"""From the text of a setting to its value, by the rule of the setting.

Every source gives text, also the YAML file: whether somebody wrote `5432` or `"5432"` makes no difference,
and `password: 0123` keeps its zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.config.schema import Rule
from holdfast.config.secrets import Secret, SecretUrl
from holdfast.durations import format_duration, parse_duration
from holdfast.errors import InvalidArgument

_NAME_BYTES_MAX = 255
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def convert(rule: Rule, text: str, *, native: bool, base: Path) -> Any:
    """The value that `text` stands for; `InvalidArgument` says what would be right.

    `native` is False for the documents' spellings, whose bare integers are milliseconds. `base` is the
    folder that a relative path starts from; the current folder is written `Path()`.
    """
    if rule.kind == "path":
        return base / Path(text).expanduser()
    if rule.kind == "duration":
        return _duration(rule, text, native=native)
    return _READERS[rule.kind](rule, text)


def show(rule: Rule, value: Any) -> Any:
    """`value` as it is printed and written in JSON: text that `convert` reads back, secrets hidden."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Path | Secret):
        return str(value)
    if rule.kind == "names":
        return ", ".join(value)
    return f"{value:04o}" if rule.kind == "mode" else value


def _boolean(rule: Rule, text: str) -> bool:
    found = _BOOLEANS.get(text.strip().lower())
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


def _duration(rule: Rule, text: str, *, native: bool) -> timedelta:
    stripped = text.strip()
    bare = stripped.isascii() and stripped.isdigit()
    if bare and native:
        raise InvalidArgument(
            f"{stripped} has no unit",
            fix=f"write {stripped}ms if milliseconds are meant, {stripped}s if seconds",
        )
    value = parse_duration(f"{stripped}ms" if bare else stripped)
    if value < rule.low:
        raise InvalidArgument(f"{text!r} is too short", fix=f"write at least {format_duration(rule.low)}")
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
    if not found:
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


_READERS: Mapping[str, Callable[[Rule, str], Any]] = {
    "text": lambda rule, text: text,
    "secret": lambda rule, text: Secret(text),
    "url": lambda rule, text: SecretUrl(text),
    "boolean": _boolean,
    "integer": _integer,
    "choice": _choice,
    "mode": _mode,
    "names": _names,
}

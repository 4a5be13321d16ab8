"""What the commands of `holdfast config` show and change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidArgument, InvalidUsage, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cli.context import Invocation
    from holdfast.config.loader import LoadedConfig

NOT_YET = "no effect yet"
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_VALUE_MAX = 40


def rows(loaded: LoadedConfig, section: str | None, *, changed: bool) -> list[dict[str, Any]]:
    """The settings of `section`, or all: those of today, then what is set of features to come.

    `changed` leaves out defaults. Raises `NotFound` for a section that is none.
    """
    from holdfast.config.known import look_up

    paths = [*loaded.values, *loaded.later]
    if section is not None:
        below = look_up(section).path
        paths = [path for path in paths if path == below or path.startswith(f"{below}.")]
        if not paths:
            raise _no_setting(section, "config show")
    if changed:
        paths = [path for path in paths if loaded.origins[path].source != "default"]
    return [row(loaded, path) for path in paths]


def row(loaded: LoadedConfig, path: str) -> dict[str, Any]:
    """One setting with its value, where it comes from, and whether it has an effect."""
    from holdfast.config.convert import show
    from holdfast.config.known import rule_of
    from holdfast.config.later import LATER, template

    if path in loaded.values:
        value, note = loaded.values[path], ""
    else:
        value, note = loaded.later.get(path, LATER[template(path)].default), NOT_YET
    shown = None if value is None else show(rule_of(path), value)
    return {"key": path, "value": shown, "origin": str(loaded.origins.get(path, "default")), "note": note}


def known_path(key: str, command: str) -> str:
    """The path of the setting that `key` spells; `NotFound` with the nearest name if there is none."""
    from holdfast.config.known import look_up

    found = look_up(key)
    if found.meaning not in {"setting", "later"} or "*" in found.path:
        raise _no_setting(key, command)
    return found.path


def _no_setting(key: str, command: str) -> NotFound:
    from holdfast.config.known import look_up, nearest

    found = look_up(key)
    if found.meaning == "group":
        return NotFound(
            f"{key} is a group of settings", where=command, fix=f"list them: holdfast config show {key}"
        )
    meant = nearest(found.path)
    fix = f"did you mean {meant}?" if meant else "list them: holdfast config show"
    return NotFound(f"there is no setting {key!r}", where=command, fix=fix)


def places(loaded: LoadedConfig, cwd: Path) -> list[dict[str, Any]]:
    """The files that configure this folder, the strongest first, and which of them are there."""
    from holdfast.config.files import FILES

    profile = loaded.config.profile
    names = [f".env.{profile}"] if profile else []
    names += [".env", *([loaded.file] if loaded.file and loaded.file not in FILES else []), *FILES]
    return [{"path": name, "state": _state(name, loaded.file, cwd)} for name in names]


def _state(name: str, file: str | None, cwd: Path) -> str:
    if not (cwd / name).is_file():
        return "not there"
    return "read" if name == file or name.startswith(".env") else "not read"


def profiles(loaded: LoadedConfig, cwd: Path) -> list[dict[str, Any]]:
    """The profiles that can be chosen, and where each says something."""
    from holdfast.config.files import read_root
    from holdfast.config.loader import BUILT_IN_PROFILES, overlays

    said: dict[str, list[str]] = {name: [] for name in sorted(BUILT_IN_PROFILES)}
    root = read_root(cwd / loaded.file, loaded.file, required=False) if loaded.file else None
    for name, (line, _) in (overlays(root) if root else {}).items():
        said.setdefault(name, []).append(f"{loaded.file}:{line}")
    for path in sorted(cwd.glob(".env.*")):
        if path.is_file() and path.name != ".env.example":
            said.setdefault(path.name.removeprefix(".env."), []).append(path.name)
    active = loaded.config.profile
    return [
        {"profile": name, "active": name == active, "places": ", ".join(where) or "built in"}
        for name, where in said.items()
    ]


def change(invocation: Invocation, key: str, value: str) -> str:
    """Set `key` to `value` in the configuration file and say what was done."""
    from holdfast.config import editing
    from holdfast.config.files import FILES
    from holdfast.config.known import rule_of

    path = known_path(key, "config set")
    _refuse_secret(path, value)
    loaded = invocation.load_config(inspect=True)
    _check(invocation, path, value)
    file = loaded.file or FILES[0]
    if Path(file).suffix not in {".yaml", ".yml"}:
        raise InvalidUsage(f"{file} is not YAML", where="config set", fix=f"write {path} into it by hand")
    target = invocation.cwd / file
    text = target.read_bytes().decode("utf-8") if target.exists() else ""  # with its ends of lines
    profile = invocation.flags.profile
    scope = ("profiles", profile) if profile else ()
    written = editing.with_value(text, file, path, value, scope=scope)
    if invocation.flags.dry_run:
        return f"would set {path} in {file}"
    editing.write(target, written)
    after = invocation.load_config(inspect=True)
    origin = after.origins[path]
    if origin.source not in {"file", "profile"} and rule_of(path).kind != "secret":
        invocation.say(f"warning: {origin} is stronger and still decides")
    return f"{path} is set in {file}"


def _check(invocation: Invocation, path: str, value: str) -> None:
    """Raise what the file would be refused for with the new value."""
    from holdfast.config.convert import convert
    from holdfast.config.known import rule_of

    if "$" in value:
        return  # what it stands for is known only where it is used
    try:
        convert(rule_of(path), value, unit=None, base=Path())
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.cause}", where="config set", fix=error.fix) from error
    if path not in {"profile", "storage.url"}:
        invocation.load_config(settings={path: value}, inspect=True)


def _refuse_secret(path: str, value: str) -> None:
    from holdfast.config.known import rule_of
    from holdfast.config.secrets import redact_url

    kind = rule_of(path).kind
    bare = kind in {"secret", "secrets"} or (kind == "url" and redact_url(value) != value)
    if bare and "${" not in value:
        variable = path.rpartition(".")[2].upper()
        raise InvalidArgument(
            f"{path} holds a password, and the configuration file is shared and kept",
            where="config set",
            fix=f"put it into .env and set '${{{variable}}}' here, or '${{file:PATH}}'",
        )


def listing(notices: Sequence[Any]) -> list[str]:
    """Remarks on a configuration as lines: place first, so that they read like those of a compiler."""
    return [f"{notice.where}: {notice.level}: {notice.message}" for notice in notices]


def grouped(rows: Sequence[dict[str, Any]], *, origins: bool, colored: bool) -> str:
    """Settings for a person at a terminal: below the name of their group, what is at its default dimmed."""
    names = [row["key"].rpartition(".") for row in rows]
    width = max((len(name) for _, _, name in names), default=0)
    values = [_shown(row["value"]) for row in rows]
    value_width = min(max(map(len, values), default=0), _VALUE_MAX)
    lines: list[str] = []
    before = ""
    for row, (group, _, name), value in zip(rows, names, values, strict=True):
        if group and group != before:
            lines.append(f"{_BOLD}{group}{_PLAIN}" if colored else group)
        before = group
        line = f"{'  ' if group else ''}{name:<{width}}  {value:<{value_width}}"
        line += f"  {row['origin']}" if origins else ""
        line += f"  ({row['note']})" if row["note"] else ""
        is_dim = colored and row["origin"] == "default"
        lines.append(f"{_DIM}{line.rstrip()}{_PLAIN}" if is_dim else line.rstrip())
    return "\n".join(lines)


def _shown(value: Any) -> str:
    from holdfast.cli.output import one_line

    text = "" if value is None else str(value)
    return one_line(text.lower() if isinstance(value, bool) else text)

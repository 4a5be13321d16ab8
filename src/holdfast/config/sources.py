"""The places settings are read from, each turned into one layer of entries with their origins.

A layer maps a path to the text that one source gives it. Nothing here knows which source is stronger:
that is `holdfast.config.loader`. A mistake is collected, not raised, so that one reading reports all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from holdfast.config import yaml_lines
from holdfast.config.interpolate import interpolate
from holdfast.config.known import (
    BARE,
    CONSUMED,
    ENVIRONMENT,
    FIXED,
    IMPLIED_TYPE,
    RESERVED,
    Key,
    flattened,
    look_up,
    nearest,
    nearest_name,
    rule_of,
    snake,
)
from holdfast.config.later import LISTS
from holdfast.config.rules import LISTS as LIST_KINDS
from holdfast.config.rules import SECRETS
from holdfast.errors import InvalidArgument, InvalidConfiguration

PREFIX = "HOLDFAST_"
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.ASCII)

Source = Literal["flag", "environment", ".env", "profile", "file", "bare", "default", "derived"]


class Origin(NamedTuple):
    """Where a value came from. `place` is a file with its line, or empty; `name` a key, variable or flag."""

    source: Source
    name: str = ""
    place: str = ""

    def __str__(self) -> str:
        if not self.place:
            return self.name or self.source
        return f"{self.place} ({self.name})" if self.name else self.place


class Entry(NamedTuple):
    """The text of one setting in one source.

    `unit` is the one of a bare integer, None where a unit has to be written; `base` the folder of relative
    paths.
    """

    path: str
    text: str
    origin: Origin
    unit: str | None
    base: Path


class Problem(NamedTuple):
    """One mistake in the configuration."""

    message: str
    where: str
    key: str
    hint: str
    nearest: str | None = None


class Notice(NamedTuple):
    """Something to know. A `note` is shown when the configuration is looked at, a `warning` always."""

    level: Literal["note", "warning"]
    message: str
    where: str


Layer = dict[str, Entry]


@dataclass(slots=True)
class Findings:
    """What one reading of all sources has found besides the values."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def put(self, layer: Layer, entry: Entry) -> None:
        """Add `entry`, unless its layer says something else about the same setting."""
        before = layer.setdefault(entry.path, entry)
        if before.text != entry.text:
            first, second = before.origin.name or entry.path, entry.origin.name or entry.path
            self.problem(f"{first} and {second} contradict each other", entry, "keep one of them")

    def problem(self, message: str, entry: Entry, fix: str) -> None:
        """Note a mistake in the value of `entry`."""
        self.problems.append(Problem(message, str(entry.origin), entry.path, fix))


def read_dotenv(path: Path) -> dict[str, tuple[str, int]]:
    """The assignments of a `.env` file with their lines; nothing when the file is not there."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"{path.name} cannot be read", where=str(path), fix="check the file"
        ) from error
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line.strip())
        value = _unquote(match[2]) if match else None
        if match is None or value is None:
            raise InvalidConfiguration(
                "the line is not NAME=value",
                where=f"{path.name}:{number}",
                fix='write NAME=value or NAME="value"',
            )
        found[match[1]] = (value, number)
    return found


def _unquote(text: str) -> str | None:
    """The value behind the `=`; None when its quotes do not close."""
    if text[:1] not in {'"', "'"}:
        return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].rstrip()
    quote = text[0]
    pattern = r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
    match = re.fullmatch(pattern + r"\s*(?:#.*)?", text)
    if match is None:
        return None
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return match[1] if quote == "'" else re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), match[1])


class Variables(NamedTuple):
    """Environment variables of one kind of source: the process, or one `.env` file."""

    values: Mapping[str, tuple[str, int]]
    file: str | None  # name of the .env file; None for the process

    def origin(self, name: str, *, bare: bool) -> Origin:
        """What `config show --origins` prints for the variable `name`."""
        source: Source = "bare" if bare else ".env" if self.file else "environment"
        return Origin(source, name, f"{self.file}:{self.values[name][1]}" if self.file else "")


def read_variables(variables: Variables, findings: Findings, cwd: Path) -> Layer:
    """The layer of all `HOLDFAST_` variables. An empty variable counts as not set."""
    layer: Layer = {}
    for name in sorted(variables.values):
        short = name.removeprefix(PREFIX)
        if short == name or short in CONSUMED or short.startswith(RESERVED):
            continue
        origin = variables.origin(name, bare=False)
        key, text = _variable(short, variables.values[name][0], origin, findings, cwd)
        if key is None:
            _unknown_variable(short, origin, findings)
        elif text:
            _accept(layer, key, Entry(key.path, text, origin, key.unit, Path()), findings)
    return layer


def read_bare(variables: Variables, findings: Findings, cwd: Path) -> Layer:
    """The layer of the names without a prefix (`DATABASE_URL`, `PGHOST` …)."""
    layer: Layer = {}
    for name, path in BARE.items():
        for spelled in (name, f"{name}_FILE"):
            if not (text := variables.values.get(spelled, ("", 0))[0]):
                continue
            origin = variables.origin(spelled, bare=True)
            if spelled != name:
                if not _holds_secret(path):
                    continue
                text = _secret_file(text, path, origin, findings, cwd)
            # PGHOST and DATABASE_HOST may differ: the first named wins.
            if text and path not in layer:
                layer[path] = Entry(path, text, origin, "ms", Path())
    return layer


def _variable(short: str, text: str, origin: Origin, findings: Findings, cwd: Path) -> tuple[Key | None, str]:
    if key := _variable_key(short):
        return key, text
    holder = _variable_key(short.removesuffix("_FILE"))
    if short.endswith("_FILE") and holder and _holds_secret(holder.path):
        return holder, _secret_file(text, holder.path, origin, findings, cwd) if text else ""
    return None, text


def _variable_key(short: str) -> Key | None:
    if short in ENVIRONMENT:
        return look_up(ENVIRONMENT[short])._replace(unit="ms")
    key = look_up(short.lower().replace("__", ".")) if "__" in short else None
    return key if key and key.meaning != "unknown" else None


def _holds_secret(path: str) -> bool:
    return look_up(path).meaning in {"setting", "later"} and rule_of(path).kind in SECRETS


def _secret_file(text: str, path: str, origin: Origin, findings: Findings, cwd: Path) -> str:
    try:
        return (cwd / text).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        findings.problems.append(
            Problem(
                f"the file {text} cannot be read", str(origin), path, "check the path and its permissions"
            )
        )
        return ""


def _unknown_variable(short: str, origin: Origin, findings: Findings) -> None:
    if "__" in short or short in flattened():
        path = flattened().get(short) or nearest(short.lower().replace("__", "."))
        name = PREFIX + path.upper().replace(".", "__") if path else None
    else:
        meant = nearest_name(short, [*ENVIRONMENT, *CONSUMED])
        name = PREFIX + meant if meant else None
        if meant is None:  # a cluster sets HOLDFAST_PORT and others for a service of that name
            findings.notices.append(Notice("note", f"{PREFIX}{short} is not a setting", str(origin)))
            return
    fix = f"did you mean {name}?" if name else "see `holdfast config show` for the names"
    findings.problems.append(Problem(f"{PREFIX}{short} is not a setting", str(origin), short, fix, name))


def _accept(layer: Layer, key: Key, entry: Entry, findings: Findings) -> None:
    """Sort one scalar into settings, fixed keys and keys of features to come."""
    if key.meaning in {"setting", "later"}:
        findings.put(layer, entry)
    elif key.meaning == "fixed":
        accepted, remedy = FIXED[key.path]
        if entry.text.lower() not in accepted:
            findings.problem(f"{key.path} cannot be {entry.text!r}", entry, remedy)
    else:
        findings.problem(
            f"{key.path} is a group of settings and takes no value", entry, "set one of its keys"
        )


def _numbered(node: yaml_lines.Sequence) -> yaml_lines.Mapping:
    """A list of blocks as blocks under their numbers, so that every value in it has a path."""
    return yaml_lines.Mapping({str(at): (item.line, item) for at, item in enumerate(node.items)}, node.line)


class FileReader:
    """Reads the mapping of one configuration file into layers."""

    def __init__(
        self, name: str, base: Path, lookup: Mapping[str, str], cwd: Path, findings: Findings
    ) -> None:
        self._name = name
        self._base = base
        self._folder = cwd / base
        self._lookup = lookup
        self._findings = findings

    def layer(self, root: yaml_lines.Mapping, profile: str | None = None) -> Layer:
        """The settings of `root`; of the overlay named `profile` when it is given."""
        layer: Layer = {}
        for spelled, line, node in self._leaves(root, ""):
            self._take(layer, spelled, line, node, profile)
        for block, kind in IMPLIED_TYPE.items():
            implied = [entry for entry in layer.values() if block in snake(entry.origin.name)]
            if implied and not {"storage.type", "storage.url"} & layer.keys():
                layer["storage.type"] = implied[0]._replace(path="storage.type", text=kind)
        return layer

    def text(self, node: yaml_lines.Node, key: str) -> str | None:
        """The scalar `node` with its variables filled in; None when it is null, empty or wrong."""
        if not isinstance(node, yaml_lines.Scalar):
            self._problem(f"{key} takes one value", key, node.line, "write one value behind the colon")
            return None
        try:
            return interpolate(node.text, self._lookup, self._folder) if node.text else None
        except InvalidArgument as error:
            self._problem(f"{key}: {error.cause}", key, node.line, error.fix)
            return None

    def _leaves(self, mapping: yaml_lines.Mapping, prefix: str) -> Iterator[tuple[str, int, yaml_lines.Node]]:
        for key, (line, node) in mapping.items.items():
            path = prefix + key
            if not prefix and key in {"profile", "profiles"}:
                continue
            found = look_up(path)
            if found.meaning != "group":
                yield path, line, node
                continue
            if found.path in LISTS and isinstance(node, yaml_lines.Sequence):
                node = _numbered(node)
            if isinstance(node, yaml_lines.Mapping):
                yield from self._leaves(node, f"{path}.")
            elif not isinstance(node, yaml_lines.Scalar) or node.text:
                self._problem(
                    f"{path} is a group of settings and takes no value", path, line, "set its keys below it"
                )

    def _take(
        self, layer: Layer, spelled: str, line: int, node: yaml_lines.Node, profile: str | None
    ) -> None:
        key = look_up(spelled)
        if key.meaning == "unknown":
            meant = nearest(key.path)
            fix = f"did you mean {meant}?" if meant else "see `holdfast config show` for the names"
            self._problem(f"the key {spelled} is unknown", spelled, line, fix, meant)
            return
        text = self._value(node, key, spelled)
        if not text:
            return
        named = "" if spelled == key.path else spelled
        shown = ", ".join(part for part in (f"profile {profile}" if profile else "", named) if part)
        origin = Origin("profile" if profile else "file", shown, f"{self._name}:{line}")
        _accept(layer, key, Entry(key.path, text, origin, key.unit, self._base), self._findings)

    def _value(self, node: yaml_lines.Node, key: Key, spelled: str) -> str | None:
        """The text of one setting; names may be a list."""
        takes_list = key.meaning in {"setting", "later"} and rule_of(key.path).kind in LIST_KINDS
        if not (takes_list and isinstance(node, yaml_lines.Sequence)):
            return self.text(node, spelled)
        texts = [self.text(item, spelled) for item in node.items]
        return ",".join(text for text in texts if text) or ","  # an empty list is not the default

    def _problem(self, message: str, key: str, line: int, fix: str, meant: str | None = None) -> None:
        self._findings.problems.append(Problem(message, f"{self._name}:{line}", key, fix, meant))

"""Reads the configuration once: finds the sources, lets the stronger win, checks the whole.

Strongest first: flags, `HOLDFAST_*` variables, `.env.<profile>`, `.env`, the profile of the file, the file,
bare variables (`DATABASE_URL` …, for the command line only), defaults. A store URL is a whole address: it
replaces every part that weaker sources name, and beats the parts beside it in its own source; parts in
stronger sources change it. Bare variables only fill in what nothing else says, and never choose another
store than a configured one.

Nothing is read from the process itself: environment and folder are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.config import yaml_lines
from holdfast.config.checks import check
from holdfast.config.convert import convert
from holdfast.config.known import FLAGS, nearest_name
from holdfast.config.schema import SETTINGS, Config, build
from holdfast.config.sources import (
    Entry,
    FileReader,
    Findings,
    Layer,
    Notice,
    Origin,
    Problem,
    Variables,
    read_bare,
    read_dotenv,
    read_variables,
)
from holdfast.config.urls import DIRECT_URL, IDENTITY, format_store_url, parse_store_url
from holdfast.errors import InvalidArgument, InvalidConfiguration, SettingUnavailable

FILES = ("holdfast.yaml", "holdfast.config.yaml", "config.yaml")
_OURS = frozenset({"storage", "persistence", "event_log", "eventLog", "externalDatabase", "profiles"})
_BUILT_IN_PROFILES = frozenset({"dev", "prod"})
_URL = "storage.url"
_PASSWORD = "storage.postgresql.password"
_PLACE = frozenset({_URL, *IDENTITY}) - {"storage.type", "storage.postgresql.username", _PASSWORD}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration and where it came from.

    `origins` has an entry for every path of `SETTINGS`. `warnings` are for every command to print, `notes`
    (keys without effect yet and the like) for those who look at the configuration.
    """

    config: Config
    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    warnings: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    file: str | None


def load(
    *,
    environ: Mapping[str, str],
    cwd: Path,
    flags: Mapping[str, str] | None = None,
    file: str | None = None,
    bare: bool = False,
    inspect: bool = False,
) -> LoadedConfig:
    """Read all sources; relative paths in the result start from `cwd`.

    `flags` gives settings by path, `profile` among them. `file` is the configuration file, instead of
    HOLDFAST_CONFIG or the one that is found in `cwd`. `bare` reads names without our prefix too.
    `inspect` is for looking only: a choice that this version lacks is a note, not `SettingUnavailable`.
    Raises `InvalidConfiguration` with all mistakes in `details["problems"]`.
    """
    flags = dict(flags or {})
    findings = Findings()
    dotenv = Variables(read_dotenv(cwd / ".env"), ".env")
    process = Variables({name: (text, 0) for name, text in environ.items()}, None)
    found = _find(file, environ, dotenv, cwd, findings)
    lookup = {name: text for name, (text, _) in dotenv.values.items()} | dict(environ)
    reader = FileReader(found.name, found.base, lookup, cwd, findings) if found else None
    profile = _profile(flags, (process, dotenv), found, reader)
    kinds = [process]
    if profile:
        kinds.append(Variables(read_dotenv(cwd / f".env.{profile.text}"), f".env.{profile.text}"))
        _check_profile(profile, found, bool(kinds[-1].values), findings)
    kinds.append(dotenv)

    layers: list[Layer] = [_flag_layer(flags)]
    layers += [read_variables(kind, findings, cwd) for kind in kinds]
    if found and reader:
        overlay = _overlay(found.root, profile)
        layers += [reader.layer(overlay, profile.text)] if overlay and profile else []
        layers.append(reader.layer(found.root))
    chosen = _merge(layers, findings)
    if profile:
        chosen["profile"] = profile
    if bare:
        for kind in kinds:
            _fill_in(chosen, read_bare(kind, findings, cwd), findings)
    return _finish(chosen, findings, found.name if found else None, inspect=inspect)


@dataclass(frozen=True, slots=True)
class _Found:
    """A configuration file that was read. `base` is its folder, `Path()` for the current one."""

    name: str
    base: Path
    root: yaml_lines.Mapping


def _find(
    file: str | None, environ: Mapping[str, str], dotenv: Variables, cwd: Path, findings: Findings
) -> _Found | None:
    named = file or environ.get("HOLDFAST_CONFIG") or dotenv.values.get("HOLDFAST_CONFIG", ("", 0))[0]
    if not named:
        named = next((name for name in FILES if (cwd / name).is_file()), "")
        if not named:
            return None
        file = None
    try:
        text = (cwd / named).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"the configuration file {named} cannot be read",
            where=named,
            fix="check --config and HOLDFAST_CONFIG, or write one with `holdfast init`",
        ) from error
    root = yaml_lines.read_yaml(text, named)
    if isinstance(root, yaml_lines.Scalar) and root.text is None:
        root = yaml_lines.Mapping({}, 1)
    if not isinstance(root, yaml_lines.Mapping):
        raise InvalidConfiguration("the file is not a mapping of settings", where=f"{named}:{root.line}")
    # config.yaml is a common name: somebody else's file is no reason to refuse to work beside it.
    if named == FILES[-1] and not file and not _OURS & root.items.keys():
        findings.notices.append(
            Notice("note", f"{named} holds no settings of Holdfast and is not read", named)
        )
        return None
    folder = Path(named).parent
    return _Found(named, Path() if folder == cwd else folder, root)


def _profile(
    flags: dict[str, str], kinds: tuple[Variables, ...], found: _Found | None, reader: FileReader | None
) -> Entry | None:
    if name := flags.pop("profile", ""):
        return Entry("profile", name, Origin("flag", FLAGS["profile"]), True, Path())
    for kind in kinds:
        if name := kind.values.get("HOLDFAST_PROFILE", ("", 0))[0]:
            return Entry("profile", name, kind.origin("HOLDFAST_PROFILE", bare=False), True, Path())
    if found and reader and "profile" in found.root.items:
        line, node = found.root.items["profile"]
        if name := reader.text(node, "profile") or "":
            return Entry("profile", name, Origin("file", "", f"{found.name}:{line}"), True, Path())
    return None


def _overlays(root: yaml_lines.Mapping) -> dict[str, tuple[int, yaml_lines.Node]]:
    _, node = root.items.get("profiles", (0, None))
    return node.items if isinstance(node, yaml_lines.Mapping) else {}


def _overlay(root: yaml_lines.Mapping, profile: Entry | None) -> yaml_lines.Mapping | None:
    _, node = _overlays(root).get(profile.text if profile else "", (0, None))
    return node if isinstance(node, yaml_lines.Mapping) else None


def _check_profile(profile: Entry, found: _Found | None, has_dotenv: bool, findings: Findings) -> None:
    named = {*_BUILT_IN_PROFILES, *(_overlays(found.root) if found else ())}
    if profile.text in named or has_dotenv:
        return
    meant = nearest_name(profile.text, named)
    findings.problem(
        f"there is no profile {profile.text!r}",
        profile,
        f"did you mean {meant}?" if meant else f"add it below `profiles:` or write .env.{profile.text}",
    )


def _flag_layer(flags: Mapping[str, str]) -> Layer:
    return {
        path: Entry(path, text, Origin("flag", FLAGS.get(path, path)), True, Path())
        for path, text in flags.items()
    }


def _merge(layers: list[Layer], findings: Findings) -> Layer:
    """One layer out of many; the first is the strongest."""
    chosen: Layer = {}
    for layer in reversed(layers):
        if _URL in layer:
            for path in (*IDENTITY, DIRECT_URL):
                chosen.pop(path, None)
            layer = _spread(layer, findings)
        elif layer.keys() & {*IDENTITY}:
            chosen.pop(_URL, None)
        chosen |= layer
    return chosen


def _spread(layer: Layer, findings: Findings) -> Layer:
    """`layer` with its URL taken apart; the URL beats the parts beside it, but may leave out the password."""
    url = layer[_URL]
    try:
        parts = parse_store_url(url.text)
    except InvalidArgument as error:
        findings.problem(error.cause, url, error.fix)
        return layer
    named = layer.get("storage.type")
    if named and named.text.lower() not in {parts["storage.type"], *_spelled(parts["storage.type"])}:
        findings.notices.append(
            Notice("warning", f"storage.type {named.text!r} is ignored: the URL decides", str(named.origin))
        )
    kept = {path: entry for path, entry in layer.items() if path not in IDENTITY or path == _PASSWORD}
    return kept | {path: url._replace(path=path, text=text, native=True) for path, text in parts.items()}


def _spelled(kind: str) -> list[str]:
    return [text for text, means in SETTINGS["storage.type"].rule.spellings.items() if means == kind]


def _fill_in(chosen: Layer, bare: Layer, findings: Findings) -> None:
    """Add what the bare variables say and nothing else does; a configured place stays as it is."""
    placed = bool(_PLACE & chosen.keys())
    kind = chosen.get("storage.type")
    if _URL in bare:
        spread = _spread(bare, findings)
        same = kind is None or spread["storage.type"].text in {
            kind.text.lower(),
            *_spelled(kind.text.lower()),
        }
        usable = same and not placed
        bare = spread if usable else {path: entry for path, entry in bare.items() if path != _URL}
    for path, entry in bare.items():
        if path not in chosen and not (placed and path in {*_PLACE, "storage.type"}):
            chosen[path] = entry


def _finish(chosen: Layer, findings: Findings, file: str | None, *, inspect: bool) -> LoadedConfig:
    values = {path: setting.default for path, setting in SETTINGS.items()}
    origins = dict.fromkeys(SETTINGS, Origin("default"))
    missing: list[tuple[str, Entry]] = []
    for path, entry in chosen.items():
        rule = SETTINGS[path].rule
        try:
            values[path] = convert(rule, entry.text, native=entry.native, base=entry.base)
        except InvalidArgument as error:
            findings.problem(f"{path}: {error.cause}", entry, error.fix)
        if values[path] in rule.later:
            missing.append((f"{path} {values[path]!r} is not part of this version", entry))
        origins[path] = entry.origin
    if _URL not in chosen:
        origins[_URL] = Origin("derived" if chosen.keys() & {*IDENTITY} else "default")
    values[_URL] = format_store_url(values)
    config: Config = build(values)
    check(config, chosen, findings)
    if findings.problems:
        raise _invalid(findings.problems)
    if missing and not inspect:
        raise SettingUnavailable(missing[0][0], where=str(missing[0][1].origin))
    notices = findings.notices + [Notice("note", text, str(entry.origin)) for text, entry in missing]
    return LoadedConfig(
        config=config,
        values=values,
        origins=origins,
        warnings=tuple(notice for notice in notices if notice.level == "warning"),
        notes=tuple(notice for notice in notices if notice.level == "note"),
        file=file,
    )


def _invalid(problems: list[Problem]) -> InvalidConfiguration:
    first = problems[0]
    return InvalidConfiguration(
        first.message,
        where=first.where,
        fix=first.hint,
        problems=[problem._asdict() for problem in problems],
    )

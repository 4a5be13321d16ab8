"""Reads the configuration once: finds the sources, lets the stronger win, checks the whole.

Strongest first: flags, `HOLDFAST_*` variables, `.env.<profile>`, `.env`, the profile of the file, the file,
bare variables (`DATABASE_URL` …, for the command line only), defaults. A store URL is a whole address: it
replaces every part that weaker sources name, and beats the parts beside it in its own source; parts in
stronger sources change it. Bare variables only fill in what nothing else says, and never choose another
store than a configured one.

Nothing is read from the process itself: environment and folder are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.config import yaml_lines
from holdfast.config.checks import check
from holdfast.config.convert import convert
from holdfast.config.files import Found, find
from holdfast.config.known import FLAGS, nearest_name, rule_of, serving
from holdfast.config.later import LATER, template
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

BUILT_IN_PROFILES = frozenset({"dev", "prod"})
"""Profiles that can be chosen without being written anywhere."""
_URL = "storage.url"
_SHOWN = 20
_PASSWORDS = frozenset(path for path in IDENTITY if path.endswith(".password"))
_NO_PLACE = frozenset(path for path in IDENTITY if path.endswith((".type", ".username")))
_PLACE = frozenset({_URL, *IDENTITY}) - _NO_PLACE - _PASSWORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration and where it came from.

    `values` has every path of `SETTINGS`, `later` what is set of features to come, and `origins` both.
    `warnings` are for every command to print, `notes`
    (keys without effect yet and the like) for those who look at the configuration.
    """

    config: Config
    values: Mapping[str, Any]
    later: Mapping[str, Any]
    origins: Mapping[str, Origin]
    warnings: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    file: str | None

    def refuse(self, path: str) -> None:
        """Raise `SettingUnavailable` if this setting of a feature that comes later asks for it."""
        if self.later.get(path):
            raise SettingUnavailable(
                f"{path} is set, and {LATER[template(path)].feature} is not part of this version",
                where=str(self.origins[path]),
            )


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
    lookup = {name: text for name, (text, _) in dotenv.values.items()} | dict(environ)
    found = find(file, lookup, cwd, findings)
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
    chosen = _merge(_meant(layers), findings)
    if profile:
        chosen["profile"] = profile
    if bare:
        for kind in kinds:
            found_bare = read_bare(kind, findings, cwd)
            _fill_in(chosen, _meant([found_bare], beside=chosen)[0], findings)
    return _finish(chosen, findings, found.name if found else None, inspect=inspect)


def _profile(
    flags: dict[str, str], kinds: tuple[Variables, ...], found: Found | None, reader: FileReader | None
) -> Entry | None:
    if name := flags.pop("profile", ""):
        return Entry("profile", name, Origin("flag", FLAGS["profile"]), None, Path())
    for kind in kinds:
        if name := kind.values.get("HOLDFAST_PROFILE", ("", 0))[0]:
            return Entry("profile", name, kind.origin("HOLDFAST_PROFILE", bare=False), None, Path())
    if found and reader and "profile" in found.root.items:
        line, node = found.root.items["profile"]
        if name := reader.text(node, "profile") or "":
            return Entry("profile", name, Origin("file", "", f"{found.name}:{line}"), None, Path())
    return None


def overlays(root: yaml_lines.Mapping) -> dict[str, tuple[int, yaml_lines.Node]]:
    """The blocks of `profiles` in a file, each with its line."""
    _, node = root.items.get("profiles", (0, None))
    return node.items if isinstance(node, yaml_lines.Mapping) else {}


def _overlay(root: yaml_lines.Mapping, profile: Entry | None) -> yaml_lines.Mapping | None:
    _, node = overlays(root).get(profile.text if profile else "", (0, None))
    return node if isinstance(node, yaml_lines.Mapping) else None


def _check_profile(profile: Entry, found: Found | None, has_dotenv: bool, findings: Findings) -> None:
    named = {*BUILT_IN_PROFILES, *(overlays(found.root) if found else ())}
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
        path: Entry(path, text, Origin("flag", FLAGS.get(path, path)), None, Path())
        for path, text in flags.items()
    }


def _meant(layers: list[Layer], beside: Layer | None = None) -> list[Layer]:
    """`layers` with the variables that name no kind of server moved to the one that is used."""
    kind = _kind([*([beside] if beside else []), *layers])
    return [
        {
            path: entry._replace(path=path)
            for entry in layer.values()
            if (path := serving(entry.path, entry.origin.name, kind)) == entry.path or path not in layer
        }
        for layer in layers
    ]


def _kind(layers: list[Layer]) -> str:
    """The kind of store that the first layer with an opinion names; empty when none has one."""
    rule = SETTINGS["storage.type"].rule
    for layer in layers:
        if _URL in layer:
            with suppress(InvalidArgument):  # reported where the layers are merged
                return parse_store_url(layer[_URL].text)["storage.type"]
        if named := layer.get("storage.type"):
            return rule.spellings.get(named.text.strip().lower(), named.text.strip().lower())
    return ""


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
    kept = {path: entry for path, entry in layer.items() if path not in IDENTITY or path in _PASSWORDS}
    return kept | {path: url._replace(path=path, text=text, unit=None) for path, text in parts.items()}


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
    later: dict[str, Any] = {}
    missing: list[tuple[str, Entry]] = []
    for path, entry in chosen.items():
        rule = rule_of(path)
        kept = values if path in SETTINGS else later
        try:
            kept[path] = convert(rule, entry.text, unit=entry.unit, base=entry.base)
        except InvalidArgument as error:
            findings.problem(f"{path}: {error.cause}", entry, error.fix)
            continue
        if rule.choices and kept[path] in rule.later:
            missing.append((f"{path} {kept[path]!r} is not part of this version", entry))
        origins[path] = entry.origin
    missing += [(text, chosen[path]) for path, text in _without_effect(later, chosen, findings)]
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
    notices.sort(key=lambda notice: _place_order(notice.where))
    return LoadedConfig(
        config=config,
        values=values,
        later=later,
        origins=origins,
        warnings=tuple(notice for notice in notices if notice.level == "warning"),
        notes=tuple(notice for notice in notices if notice.level == "note"),
        file=file,
    )


def _without_effect(later: Mapping[str, Any], chosen: Layer, findings: Findings) -> Iterator[tuple[str, str]]:
    """Note what is set of features to come; give what this version has to refuse."""
    for path, value in later.items():
        feature = LATER[template(path)]
        if feature.binding and value and value != feature.default:
            yield path, f"{path} can not be obeyed: {feature.feature} is not part of this version"
        elif chosen[path].origin.source != "bare":
            findings.notices.append(
                Notice(
                    "note",
                    f"{path} has no effect yet: {feature.feature} comes later",
                    str(chosen[path].origin),
                )
            )


def _invalid(problems: list[Problem]) -> InvalidConfiguration:
    """All mistakes in one error, those of a file in its order."""
    found = sorted(problems, key=lambda problem: _place_order(problem.where))
    details = [problem._asdict() for problem in found]
    if len(found) == 1:
        only = found[0]
        return InvalidConfiguration(only.message, where=only.where, fix=only.hint, problems=details)
    places = [each.where.partition(" (")[0] for each in found[:_SHOWN]]
    width = max(map(len, places))
    lines = [
        f"  {place:<{width}}  {each.message}  ({each.hint})"
        for place, each in zip(places, found, strict=False)
    ]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more; --json lists them all")
    return InvalidConfiguration(
        f"{len(found)} mistakes in the configuration:\n" + "\n".join(lines),
        where=found[0].where,
        fix="correct them; `holdfast config validate` looks again",
        problems=details,
    )


def _place_order(place: str) -> tuple[str, int]:
    """What sorts `holdfast.yaml:10 (key)` behind `holdfast.yaml:9`."""
    file, _, line = place.partition(" ")[0].rpartition(":")
    return (file, int(line)) if line.isdigit() else (place, 0)

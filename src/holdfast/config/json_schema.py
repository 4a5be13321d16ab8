"""The configuration as a JSON Schema, for editors: completion, meanings, and mistakes while typing.

It says the same as the loader, except for what a schema can not see: values that contradict each other,
and what a variable holds. The documents' spellings are there too, marked as deprecated.
"""

from __future__ import annotations

from typing import Any

from holdfast.config.convert import BOOLEANS, show
from holdfast.config.known import ALIASES, BLOCKS, FIXED, UNITS
from holdfast.config.later import LATER, LISTS
from holdfast.config.rules import LISTS as LIST_KINDS
from holdfast.config.rules import Rule
from holdfast.config.schema import SETTINGS

Schema = dict[str, Any]
_DURATION = r"^\s*(\d+(\.\d+)?\s*(us|ms|min|s|m|h|d|w|y)\s*)+$|^P"
_SIZE = r"^\s*\d+(\.\d+)?\s*(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)\s*$"
_NOTHING_OR_VARIABLE: list[Schema] = [{"type": "null"}, {"type": "string", "pattern": r"\$"}]
_BARE_DURATION: Schema = {"$ref": "#/$defs/milliseconds"}


def _or_variable(*forms: Schema) -> Schema:
    return {"anyOf": [*forms, *_NOTHING_OR_VARIABLE]}


_SHARED: dict[str, Schema] = {
    "text": _or_variable({"type": ["string", "number", "boolean"]}),
    "boolean": _or_variable({"type": "boolean"}, {"enum": sorted(BOOLEANS)}),
    "duration": _or_variable({"type": "string", "pattern": _DURATION}),
    "milliseconds": _or_variable({"type": "string", "pattern": _DURATION}, {"type": "integer", "minimum": 0}),
    "size": _or_variable({"type": "string", "pattern": _SIZE}),
    "mode": _or_variable({"type": "integer"}, {"type": "string", "pattern": "^(0o)?[0-7]{3,4}$"}),
    "list": _or_variable({"type": "array", "items": {"type": "string"}}, {"type": "string"}),
}
"""Forms that many settings have."""


def json_schema() -> Schema:
    """The schema of `holdfast.yaml`, as JSON Schema 2020-12."""
    root: Schema = _object()
    for path, setting in SETTINGS.items():
        _put(root, path, _leaf(setting.rule, setting.default, ""))
    for path, later in LATER.items():
        _put(root, path, _leaf(later.rule, later.default, f"No effect yet: {later.feature} comes later. "))
    for path, (accepted, remedy) in FIXED.items():
        _put(root, path, {"enum": [True, None, *sorted(accepted)], "description": remedy, "deprecated": True})
    for spelled, path in ALIASES.items():
        _put(root, spelled, _another_name(root, path))
    for block, path in BLOCKS.items():
        _put_block(root, block, path)
    _camel(root, "#")
    root["properties"]["profiles"] = {
        "description": "settings by profile, laid over those above",
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Holdfast",
        **root,
        "$defs": _SHARED,
    }


def _object() -> Schema:
    return {"type": ["object", "null"], "additionalProperties": False, "properties": {}}


def _put(root: Schema, path: str, leaf: Schema) -> None:
    *groups, name = path.split(".")
    _group(root, groups)["properties"][name] = leaf


def _group(root: Schema, groups: list[str]) -> Schema:
    """The schema of a block; it is made where it is not there yet."""
    node, walked = root, ""
    for at, part in enumerate(groups):
        walked = f"{walked}.{part}".lstrip(".")
        if part == "*":
            continue  # the block itself was made with its family
        if groups[at + 1 : at + 2] == ["*"]:
            family = node["properties"].setdefault(part, _family(walked))
            node = family["items"] if "items" in family else family["additionalProperties"]
        else:
            node = node["properties"].setdefault(part, _object())
    return node


def _family(path: str) -> Schema:
    if path in LISTS:
        return {"type": ["array", "null"], "items": _object()}
    return {"type": ["object", "null"], "additionalProperties": _object()}


def _pointer(path: str) -> str:
    """Where the schema of a path stands; `*` is never part of what is pointed to from elsewhere."""
    return "#/properties/" + path.replace(".", "/properties/")


def _another_name(root: Schema, path: str) -> Schema:
    *groups, name = path.split(".")
    leaf = _group(root, groups)["properties"][name]
    if _is_duration(leaf):
        form = _BARE_DURATION
    else:
        form = {key: leaf[key] for key in ("$ref", "anyOf", "enum") if key in leaf}
    return {"description": f"another name of {path}", "deprecated": True, **form}


def _put_block(root: Schema, block: str, path: str) -> None:
    *groups, name = block.split(".")
    above = _group(root, groups)["properties"]
    if name not in above:
        above[name] = {"$ref": _pointer(path), "deprecated": True}
        return
    for key in _group(root, path.split("."))["properties"]:
        above[name]["properties"].setdefault(key, {"$ref": f"{_pointer(path)}/properties/{key}"})


def _is_duration(leaf: Schema) -> bool:
    return leaf.get("$ref") == "#/$defs/duration"


def _camel(node: Schema, pointer: str) -> None:
    """Add the camelCase spelling beside every name of several words."""
    for keyword in ("items", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            _camel(node[keyword], f"{pointer}/{keyword}")
    for name, leaf in list(node.get("properties", {}).items()):
        place = f"{pointer}/properties/{name}"
        _camel(leaf, place)
        if "_" in name:
            twin = _BARE_DURATION if _is_duration(leaf) else {"$ref": place}
            node["properties"].setdefault(_camel_case(name), {**twin, "deprecated": True})
        if _is_duration(leaf) or leaf.get("$ref") == _BARE_DURATION["$ref"]:
            endings = f"^{name}_({'|'.join(UNITS)})$|^{_camel_case(name)}({'|'.join(UNITS).title()})$"
            number = {"type": ["integer", "string", "null"], "deprecated": True}
            node.setdefault("patternProperties", {})[endings] = number


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _leaf(rule: Rule, default: Any, before: str) -> Schema:
    found: Schema = {"description": before + rule.doc, **_form(rule)}
    return found if default in (None, ()) else found | {"default": show(rule, default)}


def _form(rule: Rule) -> Schema:
    if rule.kind in LIST_KINDS:
        if not rule.choices:
            return {"$ref": "#/$defs/list"}
        return _or_variable({"type": "array", "items": {"enum": list(rule.choices)}}, {"type": "string"})
    if rule.kind == "choice":
        return _or_variable({"enum": [*rule.choices, *rule.later, *rule.spellings, *_booleans(rule)]})
    if rule.kind in {"integer", "number"}:
        form: Schema = {"type": rule.kind, "minimum": rule.low, "maximum": rule.high}
        spelled = [{"enum": [*rule.spellings, *_booleans(rule)]}] if rule.spellings else []
        return _or_variable(form, {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}, *spelled)
    return {"$ref": f"#/$defs/{rule.kind if rule.kind in _SHARED else 'text'}"}


def _booleans(rule: Rule) -> list[bool]:
    """An editor reads a bare `true` as a truth value, even where it is one word among several."""
    words = {*rule.choices, *rule.spellings}
    return [truth for truth in (True, False) if str(truth).lower() in words]

"""The declared inputs of a workflow: a JSON Schema that is checked itself, then fills and checks values.

The schema library costs a tenth of a second to import, so it is imported when a workflow declares inputs
and not before. References to other documents are refused: a definition has to stand alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from holdfast.errors import InvalidInput
from holdfast.workflows.problems import Report, nearest, path_text

VIOLATIONS_MAX = 50
_KEYWORDS = frozenset(
    {"$schema", "$id", "$defs", "$comment", "definitions", "title", "description", "default", "examples"}
    | {"type", "properties", "required", "additionalProperties", "patternProperties", "propertyNames"}
    | {"minProperties", "maxProperties", "dependentRequired", "dependentSchemas"}
    | {"allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
)


def check_schema(schema: Any, report: Report) -> dict[str, Any] | None:
    """The schema if it is one, else None with the mistakes in `report` under `inputs`."""
    if not isinstance(schema, dict):
        report.add(
            ("inputs",), "`inputs` is a JSON Schema", "write inputs: {properties: {name: {type: string}}}"
        )
        return None
    unknown = [key for key in schema if key not in _KEYWORDS]
    for key in unknown:
        hint = nearest(key, _KEYWORDS) or ""
        known = hint.startswith("did you mean")
        report.add(
            ("inputs", key),
            f"{key!r} is not a keyword of JSON Schema",
            hint if known else f"put it under `properties`: inputs: {{properties: {{{key}: …}}}}",
        )
    if schema.get("type", "object") != "object":
        report.add(("inputs", "type"), "the inputs of a workflow are an object", "write type: object")
    before = len(report.problems)
    _refuse_foreign_references(schema, report)
    if unknown or len(report.problems) > before:
        return None
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = tuple(each for each in error.absolute_path if isinstance(each, str | int))
        report.add(("inputs", *path), f"not a JSON Schema: {error.message[:300]}")
        return None
    return schema


def fill_and_check(schema: dict[str, Any] | None, value: Any, workflow: str) -> dict[str, Any]:
    """`value` with the defaults of missing properties put in, checked; the argument is not changed.

    None counts as no input. A workflow without declared inputs takes none. Raises `InvalidInput`, which
    lists every violation with its path in `details['violations']`.
    """
    given = {} if value is None else copy.deepcopy(value)
    if not isinstance(given, dict):
        raise InvalidInput(
            f"the input of {workflow!r} is a {type(value).__name__}, not an object", where="input"
        )
    if schema is None:
        if given:
            raise InvalidInput(
                f"{workflow!r} declares no inputs and got {', '.join(map(repr, list(given)[:5]))}",
                where="input",
                fix="declare them under `inputs: {properties: …}`, or pass none",
            )
        return given
    _fill(schema, given)
    _check(schema, given, workflow)
    return given


def _check(schema: dict[str, Any], given: dict[str, Any], workflow: str) -> None:
    from jsonschema import Draft202012Validator

    violations: list[dict[str, str]] = []
    for error in Draft202012Validator(schema).iter_errors(given):
        if len(violations) == VIOLATIONS_MAX:
            break
        path = path_text(tuple(error.absolute_path)) or "input"
        violations.append({"path": path, "message": error.message[:300]})
    declared = schema.get("properties", {})
    if "additionalProperties" not in schema and "patternProperties" not in schema:
        for key in given:
            if key not in declared:
                violations.append({"path": key, "message": f"unknown input; {nearest(key, declared) or ''}"})
    if violations:
        violations.sort(key=lambda each: each["path"])
        first = "; ".join(f"{each['path']}: {each['message']}" for each in violations[:5])
        raise InvalidInput(
            f"the input of {workflow!r} does not fit: {first}", where="input", violations=violations
        )


def _fill(schema: Any, value: Any) -> None:
    """Put defaults of missing properties in, outer ones first. `value` is a copy that may be changed."""
    if not isinstance(schema, dict) or not isinstance(value, dict):
        return
    properties = schema.get("properties")
    for key, part in properties.items() if isinstance(properties, dict) else ():
        if isinstance(part, dict) and key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        _fill(part, value.get(key))


def _refuse_foreign_references(schema: dict[str, Any], report: Report) -> None:
    for target in foreign_references(schema):
        report.add(("inputs",), f"the schema refers to {target[:100]!r}", "copy it under $defs")


def foreign_references(schema: dict[str, Any]) -> Iterator[str]:
    """What a JSON Schema refers to outside of itself: nothing is ever fetched for one."""
    waiting: list[Any] = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            for key in ("$ref", "$dynamicRef"):
                target = each.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    yield target
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)

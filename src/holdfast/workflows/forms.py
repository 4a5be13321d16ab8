"""Forms: a JSON Schema that says what the answer to an approval has to look like."""

from __future__ import annotations

from typing import Any

from holdfast.errors import InvalidAnswer, InvalidArgument
from holdfast.workflows.inputs import foreign_references
from holdfast.workflows.problems import path_text

VIOLATIONS_MAX = 50


def check_form(form: Any) -> None:
    """Raise `InvalidArgument` unless `form` is a JSON Schema that stands alone."""
    if not isinstance(form, dict):
        raise InvalidArgument("a form is a JSON Schema", fix="write {properties: {name: {type: string}}}")
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(form)
    except SchemaError as error:
        place = path_text(tuple(error.absolute_path)) or "form"
        raise InvalidArgument(f"not a JSON Schema: {error.message[:300]}", where=place) from error
    for target in foreign_references(form):
        raise InvalidArgument(f"the form refers to {target[:100]!r}", fix="copy it under $defs")


def check_answer(form: dict[str, Any] | None, answer: Any, title: str) -> None:
    """Raise `InvalidAnswer`, which names every field that does not fit, unless `answer` fits `form`.

    A form that does not say what it is asks for an object.
    """
    if form is None:
        return
    from jsonschema import Draft202012Validator

    violations: list[dict[str, str]] = []
    for error in Draft202012Validator({"type": "object", **form}).iter_errors(answer):
        if len(violations) == VIOLATIONS_MAX:
            break
        place = path_text(tuple(error.absolute_path)) or "answer"
        violations.append({"path": place, "message": error.message[:300]})
    if violations:
        violations.sort(key=lambda each: each["path"])
        first = "; ".join(f"{each['path']}: {each['message']}" for each in violations[:5])
        raise InvalidAnswer(f"the answer to {title!r} does not fit: {first}", violations=violations)

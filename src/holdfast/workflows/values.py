"""Values of a definition that may hold templates anywhere: compiled once, rendered for each step.

A compiled value looks like the value itself, with `Template` objects where the text has expressions.
Rendering copies only the parts that hold one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.errors import InvalidDefinition
from holdfast.workflows.expressions import OPENING, Expression, Template
from holdfast.workflows.problems import DocumentPath, Report, path_text


def compile_value(value: Any, path: DocumentPath, report: Report) -> Any:
    """`value` with its texts compiled; mistakes go to `report` and leave the text as it is.

    Keys come out sorted: what is rendered is compared at replay, and the order in a file has no meaning.
    """
    if isinstance(value, str):
        return compile_text(value, path, report)
    if isinstance(value, list):
        return [compile_value(each, (*path, index), report) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return {key: compile_value(each, (*path, key), report) for key, each in sorted(value.items())}
    return value


def compile_text(text: str, path: DocumentPath, report: Report) -> str | Template:
    """`text` itself when it has no expression, else its template."""
    if OPENING not in text:
        return text
    try:
        return Template.parse(text, path_text(path))
    except InvalidDefinition as error:
        report.add(path, error.cause, error.fix)
        return text


def compile_condition(text: str, path: DocumentPath, report: Report) -> Expression | None:
    """The expression of a `when`, which may stand bare or in `${{ }}`."""
    try:
        if not text.strip().startswith(OPENING):
            return Expression.parse(text, path_text(path))
        template = Template.parse(text.strip(), path_text(path))
        if len(template.parts) == 1 and isinstance(template.parts[0], Expression):
            return template.parts[0]
        report.add(path, "`when` is one expression", "combine conditions with && and || inside one ${{ }}")
    except InvalidDefinition as error:
        report.add(path, error.cause, error.fix)
    return None


def render_value(value: Any, scope: Mapping[str, Any]) -> Any:
    """The value for `scope`. Raises `BodyFailed` of kind `expression`."""
    if isinstance(value, Template):
        return value.render(scope)
    if isinstance(value, list):
        return [render_value(each, scope) for each in value]
    if isinstance(value, dict):
        return {key: render_value(each, scope) for key, each in value.items()}
    return value


def templates(value: Any, path: DocumentPath) -> Iterator[tuple[DocumentPath, Template]]:
    """Every template in a compiled value, with its path in the document."""
    if isinstance(value, Template):
        yield path, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from templates(each, (*path, index))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from templates(each, (*path, key))

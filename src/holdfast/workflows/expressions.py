"""Templates: text with `${{ … }}` in it, and the expressions inside.

The language is JMESPath, which selects, filters and compares and can neither loop nor reach an attribute
of a Python object. Numbers inside expressions stand in backticks (`` inputs.count > `3` ``) and strings in
single quotes. What JMESPath leaves open is bounded here: the length and depth of an expression when it is
compiled, and the work of an evaluation while it runs, because a few doublings (`[@, @] | [@, @] | …`) of
a value would otherwise fill the memory.

A template that is one expression and nothing else gives the value with its type; in longer text strings
stay as they are and everything else becomes JSON. `$${{` is a literal `${{`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import BodyFailed, InvalidDefinition

EXPRESSION_MAX = 1_000
"""Characters of one expression."""
DEPTH_MAX = 40
"""Levels of one compiled expression."""
TEXT_MAX = 1024 * 1024
"""Characters that a template may render to."""

OPENING = "${{"
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|[{}]""", re.DOTALL)
_BARE_NUMBER = re.compile(r"(==|!=|<=?|>=?)\s*-?\d|(^|[\s(,|&])-?\d+(\.\d+)?\s*(==|!=|<=?|>=?|$)")

Reference = tuple[str, ...]
"""The fields that an expression reads from the top: `("steps", "build", "output")`."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression. Equal source gives equal results for equal scopes, in every process."""

    source: str
    references: frozenset[Reference]
    _tree: Any

    @classmethod
    def parse(cls, source: str, where: str) -> Expression:
        """Compile `source`; `InvalidDefinition` at `where` says what is wrong with it."""
        text = source.strip()
        if not text:
            raise InvalidDefinition("the expression is empty", where=where, fix="write a value: inputs.name")
        if len(text) > EXPRESSION_MAX:
            raise InvalidDefinition(
                f"the expression has {len(text)} characters; the limit is {EXPRESSION_MAX}",
                where=where,
                fix="compute the value in a step",
            )
        tree, references = _compile(text, where)
        return cls(text, references, tree)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value in `scope`, which holds JSON values only; null where a field does not exist.

        Raises `BodyFailed` of kind `expression` on wrong types and when the work exceeds its budget.
        """
        from jmespath.exceptions import JMESPathError

        from holdfast.workflows.budget import BudgetedInterpreter, BudgetExceeded

        try:
            value = BudgetedInterpreter().visit(self._tree, scope)
        except BudgetExceeded as error:
            raise self._failed(str(error), "compute the value in a step") from error
        except (JMESPathError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            raise self._failed((str(error) or type(error).__name__).splitlines()[0][:300]) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._failed(f"it gives {value}, which can not be stored")
        return value

    def is_true(self, scope: Mapping[str, Any]) -> bool:
        """Whether the value counts as true: false, null and everything empty do not."""
        value = self.evaluate(scope)
        return not (value is None or value is False or value in ("", [], {}))

    def _failed(self, cause: str, fix: str | None = None) -> BodyFailed:
        return BodyFailed(f"${{{{ {self.source} }}}}: {cause}", fix=fix, kind="expression")


@dataclass(frozen=True, slots=True)
class Template:
    """Text with expressions; `parts` alternates freely between the two."""

    parts: tuple[str | Expression, ...]

    @classmethod
    def parse(cls, text: str, where: str) -> Template:
        """Compile every expression in `text`; `InvalidDefinition` at `where` for the first mistake."""
        parts: list[str | Expression] = []
        position = 0
        for start, end in _spans(text, where):
            literal = text[position:start]
            if literal:
                parts.append(literal.replace("$" + OPENING, OPENING))
            parts.append(Expression.parse(text[start + 3 : end - 2], where))
            position = end
        if position < len(text) or not parts:
            parts.append(text[position:].replace("$" + OPENING, OPENING))
        return cls(tuple(parts))

    @property
    def references(self) -> frozenset[Reference]:
        """Everything that the expressions read."""
        return frozenset().union(*(part.references for part in self.parts if isinstance(part, Expression)))

    def render(self, scope: Mapping[str, Any]) -> Any:
        """The value of a lone expression, with its type; otherwise the text with the values put in.

        Null inside longer text is refused: it is nearly always a misspelt field. `BodyFailed` of kind
        `expression` says so, and says the same of text beyond `TEXT_MAX`.
        """
        spoken = [part for part in self.parts if isinstance(part, Expression) or part.strip()]
        if len(spoken) == 1 and isinstance(spoken[0], Expression):
            return spoken[0].evaluate(scope)
        pieces = [part if isinstance(part, str) else _as_text(part, scope) for part in self.parts]
        length = sum(map(len, pieces))
        if length > TEXT_MAX:
            raise BodyFailed(
                f"a template renders to {length} characters; the limit is {TEXT_MAX}",
                fix="pass the value through a file, or as JSON through `with`",
                kind="expression",
            )
        return "".join(pieces)


def _as_text(expression: Expression, scope: Mapping[str, Any]) -> str:
    value = expression.evaluate(scope)
    if value is None:
        raise BodyFailed(
            f"${{{{ {expression.source} }}}} is null inside text",
            fix="check the field's name, or give a default: ${{ … || '' }}",
            kind="expression",
        )
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any) -> str:
    """`value` as compact JSON with sorted keys; `BodyFailed` of kind `expression` where JSON has no form."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise BodyFailed(f"a value has no JSON form: {error}", kind="expression") from error


def _spans(text: str, where: str) -> list[tuple[int, int]]:
    """Where the expressions begin and end, delimiters included."""
    spans: list[tuple[int, int]] = []
    position = 0
    while (start := text.find(OPENING, position)) >= 0:
        if start and text[start - 1] == "$":
            position = start + len(OPENING)
            continue
        position = _closing(text, start + len(OPENING))
        if position < 0:
            raise InvalidDefinition(
                f"`{text[start : start + 40]}` has no closing `}}}}`",
                where=where,
                fix="close it, or escape it as $${{",
            )
        spans.append((start, position))
    return spans


def _closing(text: str, position: int) -> int:
    """Behind the `}}` that closes an expression, or -1. Braces in quotes or of a multi-select do not."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}" and depth:
            depth -= 1
        elif token[0] == "}" and text.startswith("}", token.end()):
            return token.end() + 1
    return -1


def _compile(text: str, where: str) -> tuple[Any, frozenset[Reference]]:
    from jmespath.exceptions import JMESPathError, ParseError
    from jmespath.parser import Parser

    from holdfast.workflows.references import depth, misuse, references

    _check_literals(text, where)
    try:
        tree = Parser().parse(text).parsed
    except ParseError as error:
        raise InvalidDefinition(
            f"`{text[:80]}` is not an expression: {_reason(error, text)}", where=where, fix=_advice(text)
        ) from error
    except (JMESPathError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InvalidDefinition(
            f"`{text[:80]}` is not an expression: {reason}", where=where, fix=_advice(text)
        ) from error
    if depth(tree) > DEPTH_MAX:
        raise InvalidDefinition(
            f"the expression is nested deeper than {DEPTH_MAX} levels",
            where=where,
            fix="compute the value in a step",
        )
    if found := misuse(tree):
        raise InvalidDefinition(f"`{text[:80]}`: {found[0]}", where=where, fix=found[1])
    return tree, references(tree)


def _check_literals(text: str, where: str) -> None:
    """Refuse literals that are not JSON, which the library would take for strings, with a warning."""
    for token in _TOKEN.finditer(text):
        if token[0][0] == "`":
            try:
                json.loads(token[0][1:-1].replace("\\`", "`"))
            except (ValueError, RecursionError) as error:
                raise InvalidDefinition(
                    f"{token[0][:60]} is not JSON", where=where, fix="strings stand in single quotes"
                ) from error


def _reason(error: Any, text: str) -> str:
    token = error.token_value
    column = error.lex_position + 1 if isinstance(error.lex_position, int) else len(text)
    return f"unexpected {token!r} at character {column}" if token else "it is incomplete"


def _advice(text: str) -> str:
    if _BARE_NUMBER.search(text):
        return "numbers stand in backticks: `3`"
    if re.search(r"\.[A-Za-z_]\w*-\w", text):
        return 'names with a hyphen stand in double quotes: steps."my-step".output'
    return "see jmespath.org; strings stand in single quotes, numbers in backticks"

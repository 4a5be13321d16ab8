"""What an expression reads, found without evaluating it.

The walk follows the value that each part of the tree is applied to. As long as that is a known chain of
fields from the top of the scope, every further field is noted; behind an index, a projection or a
function nothing is known and nothing is noted.
"""

from __future__ import annotations

import math
from typing import Any

from jmespath.functions import Functions

from holdfast.workflows.problems import nearest

_BY_EXPRESSION = frozenset({"map", "sort_by", "min_by", "max_by"})
_CHAINS = frozenset({"subexpression", "index_expression", "pipe"})
_APPLIED = frozenset({"subexpression", "index_expression"})
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})


def depth(tree: Any) -> int:
    """Levels of the tree; iterative, because the tree may be deeper than Python's stack."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in node.get("children", ()) if isinstance(child, dict)]
    return deepest


def misuse(tree: Any) -> tuple[str, str | None] | None:
    """What no evaluation could make right, with a hint: an unknown function, or `&` where it means nothing.

    `&expression` outside the functions that take one would hand out an object of the library.
    """
    waiting = [(tree, False)]
    while waiting:
        node, may_refer = waiting.pop()
        if node["type"] == "expref" and not may_refer:
            return "`&` is only for map, sort_by, min_by and max_by", "remove the &"
        called = node["value"] if node["type"] == "function_expression" else ""
        if called and called not in Functions.FUNCTION_TABLE:
            return f"there is no function {called}()", nearest(called, Functions.FUNCTION_TABLE)
        if node["type"] in _APPLIED and node["children"][0]["type"] == "not_expression":
            # JMESPath reads `!a.b` as `(!a).b`, which is always null: the opposite of what was meant.
            return "`!` is applied before `.`", "put parentheses: !(inputs.flag)"
        if node["type"] == "literal" and not _is_finite(node["value"]):
            return "a number is too large, or not a number", "write a finite number"
        children = (child for child in node["children"] if isinstance(child, dict))
        waiting.extend((child, called in _BY_EXPRESSION) for child in children)
    return None


def _is_finite(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(_is_finite(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def references(tree: Any) -> frozenset[tuple[str, ...]]:
    """Every chain of fields from the top that evaluating `tree` may read, the longest form of each.

    A reference to the whole scope (`@`) is the empty chain. `tree` must not be deeper than the stack.
    """
    found: set[tuple[str, ...]] = set()
    _note(_trace(tree, (), found), found)
    return frozenset(found)


def _note(chain: tuple[str, ...] | None, found: set[tuple[str, ...]]) -> None:
    if chain is not None:
        found.add(chain)


def _trace(node: Any, at: tuple[str, ...] | None, found: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The chain that `node` stands for when it is applied to `at`; None when that is not a chain."""
    kind = node["type"]
    children = [child for child in node["children"] if isinstance(child, dict)]
    if kind == "field":
        return None if at is None else (*at, node["value"])
    if kind in ("current", "identity"):
        return at
    if kind in ("literal", "index", "slice"):
        if kind != "literal":
            _note(at, found)
        return None
    if kind in _CHAINS:
        for child in children:
            at = _trace(child, at, found)
        return at
    if kind in _PROJECTIONS:
        _note(_trace(children[0], at, found), found)
        for child in children[1:]:
            _trace(child, None, found)
        return None
    inner = None if kind == "expref" else at
    for child in children:
        _note(_trace(child, inner, found), found)
    return None

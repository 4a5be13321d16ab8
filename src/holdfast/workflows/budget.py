"""An evaluator of expressions that stops when it has worked too much.

Time and memory of JMESPath grow with the data and, through repeated selection, exponentially with the
expression. Every visit of a node costs one unit and every value it builds costs its size, charged before
the value is built where building is what would hurt. The budget is per evaluation: a second or two.
"""

from __future__ import annotations

from typing import Any

from jmespath.functions import Functions
from jmespath.visitor import Options, TreeInterpreter

WORK_MAX = 1_000_000
"""Units of work of one evaluation: visited nodes, and values and characters that are built or compared."""
_CHARACTERS_PER_UNIT = 16  # so that no text grows beyond 16 million characters
_DEEP = frozenset({"to_string", "contains", "join"})


class BudgetExceeded(Exception):
    """The evaluation was stopped; the message says why."""


class BudgetedInterpreter(TreeInterpreter):
    """Evaluates one tree once; a second evaluation needs a new instance."""

    def __init__(self) -> None:
        self._left = WORK_MAX
        super().__init__(Options(custom_functions=_BudgetedFunctions(self)))

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate `node` for one unit of work."""
        self.charge(1)
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        """Compare, having paid for the left side: equality walks both until they differ."""
        left, right = (self.visit(child, value) for child in node["children"])
        if isinstance(left, list | dict | str):
            self.charge(self._cost(left))
        return super().visit_comparator(_with_values(node, left, right), value)

    def visit_multi_select_list(self, node: Any, value: Any) -> Any:
        """Build a list; what it stands for when written out counts, not its references."""
        return self._paid(super().visit_multi_select_list(node, value))

    def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
        """Build a mapping; what it stands for when written out counts, not its references."""
        return self._paid(super().visit_multi_select_dict(node, value))

    def charge(self, units: int) -> None:
        """Take `units` from the budget."""
        self._left -= units
        if self._left < 0:
            raise BudgetExceeded(f"it needs more than {WORK_MAX} units of work")

    def charge_call(self, name: str, arguments: list[Any]) -> None:
        """Take what calling the function `name` may cost from the budget."""
        for argument in arguments:
            if isinstance(argument, list | dict | str):
                self.charge(self._cost(argument) if name in _DEEP else 1 + len(argument) // 16)

    def _paid(self, value: Any) -> Any:
        self.charge(self._cost(value))
        return value

    def _cost(self, value: Any) -> int:
        """The size of `value` written out, or a little more than what is left."""
        units, waiting = 0, [value]
        while waiting and units <= self._left:
            each = waiting.pop()
            units += 1
            if isinstance(each, str):
                units += len(each) // _CHARACTERS_PER_UNIT
            elif isinstance(each, list):
                waiting.extend(each)
            elif isinstance(each, dict):
                units += len(each)
                waiting.extend(each.values())
        return units


def _with_values(node: Any, *values: Any) -> Any:
    """The node with its children evaluated already."""
    literals = [{"type": "literal", "value": value, "children": []} for value in values]
    return {**node, "children": literals}


class _BudgetedFunctions(Functions):
    def __init__(self, interpreter: BudgetedInterpreter) -> None:
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        self._interpreter.charge_call(function_name, resolved_args)
        return super().call_function(function_name, resolved_args)

"""The names that expressions may use, and the check that they use no others.

`inputs`, `env`, `execution.id`, `steps.<id>.output|status|error` of steps that have ended for certain,
and `item` and `index` inside a fan-out. A reference to a step that is not needed, directly or through
others, is refused: whether it had ended would depend on timing, and a replay might see another answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.workflows.expressions import Reference
from holdfast.workflows.graph import Graph
from holdfast.workflows.problems import DocumentPath, Report, nearest

STEP_FIELDS = ("output", "status", "error")
_ROOTS = ("inputs", "env", "steps", "execution", "item", "index")


@dataclass(frozen=True, slots=True)
class Names:
    """What one place of a definition may refer to. `inputs` None means any name."""

    inputs: frozenset[str] | None
    env: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()
    step: str | None = None  # whose place this is; None at the outputs, where every step has ended
    graph: Graph | None = None
    in_item: bool = False

    @classmethod
    def of(cls, schema: Any) -> Names:
        """The names before any step: the declared inputs."""
        if not isinstance(schema, dict):
            return cls(frozenset())
        properties = schema.get("properties")
        declared = frozenset(properties) if isinstance(properties, dict) else frozenset()
        extra = schema.get("additionalProperties", False) is not False or "patternProperties" in schema
        return cls(None if extra else declared)

    def with_env(self, env: Mapping[str, Any]) -> Names:
        """These names and those of the workflow's `env`."""
        return replace(self, env=frozenset(env))

    def with_steps(self, known: frozenset[str], step: str | None, graph: Graph) -> Names:
        """These names and those of the steps that have ended before `step` starts."""
        return replace(self, steps=known, step=step, graph=graph)

    def with_item(self) -> Names:
        """These names, `item` and `index`."""
        return replace(self, in_item=True)


def check_references(
    references: Iterable[Reference], path: DocumentPath, names: Names, report: Report
) -> None:
    """Report every reference that has no value at `path`, with the nearest name that has."""
    for reference in sorted(references):
        if found := _mistake(reference, names):
            report.add(path, *found)


def _mistake(reference: Reference, names: Names) -> tuple[str, str | None] | None:
    root = reference[0] if reference else "@"
    if root not in _ROOTS:
        return f"there is no {root!r}", nearest(root, _roots(names)) or "start with inputs, env or steps"
    name = reference[1] if len(reference) > 1 else None
    if root in ("item", "index"):
        return None if names.in_item else (f"{root!r} exists only in a step with for_each", "add for_each")
    if root == "steps":
        return _step_mistake(reference, names)
    if root == "execution":
        return None if name in (None, "id") else (f"there is no execution.{name}", "known: id")
    known = names.env if root == "env" else names.inputs
    if name is None or known is None or name in known:
        return None
    declare = (
        "declare it under inputs: {properties: …}"
        if root == "inputs"
        else "declare it under the workflow's env"
    )
    return f"there is no {root}.{name}", nearest(name, known) or declare


def _step_mistake(reference: Reference, names: Names) -> tuple[str, str | None] | None:
    if names.graph is None:
        return "no step has ended here", "move the value into the env of the step that needs it"
    if len(reference) < 2:
        return "`steps` alone has no value", "name the step: steps.ID.output"
    name = reference[1]
    if name not in names.steps:
        return f"there is no step {name!r}", nearest(name, names.steps)
    if name == names.step:
        return f"the step {name!r} reads its own result", "read another step's"
    if names.step is not None and name not in names.graph.ancestors(names.step):
        return f"{names.step!r} reads {name!r} and does not need it", f"add {name} to its needs"
    if len(reference) > 2 and reference[2] not in STEP_FIELDS:
        return f"there is no steps.{name}.{reference[2]}", (
            nearest(reference[2], STEP_FIELDS) if len(reference[2]) > 3 else None
        ) or f"results are under steps.{name}.output"
    return None


def _roots(names: Names) -> list[str]:
    missing = {"steps"} if names.graph is None else set()
    return [
        root for root in _ROOTS if root not in missing and (names.in_item or root not in ("item", "index"))
    ]

"""Turns a document into a `Definition`, and finds every mistake on the way instead of the first.

A part that is wrong is reported and replaced by something harmless, so that the parts after it are still
checked; nothing of it leaves this module, because the report raises before a definition is returned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.workflows.definition import Definition, StepDefinition, identity
from holdfast.workflows.graph import Graph
from holdfast.workflows.inputs import check_schema
from holdfast.workflows.problems import DocumentPath, Report, nearest
from holdfast.workflows.scope import Names, check_references
from holdfast.workflows.step_reader import Defaults, StepReader, read_env, read_retry, read_timeout
from holdfast.workflows.values import compile_value, templates

STEPS_MAX = 20_000
_KEYS = ("name", "version", "description", "inputs", "env", "defaults", "steps", "outputs")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9_.+\-]{1,100}", re.ASCII)


def read(document: Any, report: Report, folder: Path) -> Definition:
    """The definition in `document`; `InvalidDefinition` with everything in `report`."""
    if not isinstance(document, dict):
        report.add((), "a workflow is a mapping", "write at least `name: …` and `steps: …`")
        report.raise_if_any()
    return _DocumentReader(document, report).read(folder)


class _DocumentReader:
    def __init__(self, document: dict[str, Any], report: Report) -> None:
        self.document = document
        self.report = report

    def read(self, folder: Path) -> Definition:
        for key in self.document:
            if key not in _KEYS:
                self.report.add((key,), f"unknown key {key!r}", nearest(key, _KEYS))
        name = self._name()
        version = self._version()
        description = self._description()
        inputs = None
        if self.document.get("inputs") is not None:
            inputs = check_schema(self.document["inputs"], self.report)
        env = read_env(self.document.get("env"), ("env",), self.report)
        steps, normalised = self._steps(self._defaults())
        outputs = compile_value(self.document.get("outputs"), ("outputs",), self.report)
        graph = self._graph(steps)
        self._references(steps, graph, env, outputs)
        self.report.raise_if_any()
        document = self._normalised(normalised)
        return Definition(
            name=name,
            declared_version=version,
            description=description,
            inputs=inputs,
            env=env,
            steps=tuple(step for _, step in steps),
            outputs=outputs,
            folder=folder,
            graph=graph,
            normalised=document,
            hash=identity(document),
        )

    def _name(self) -> str:
        name = self.document.get("name")
        if name is None:
            self.report.add((), "the workflow has no name", "add `name: …` at the top")
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            self.report.add(
                ("name",), f"{str(name)[:60]!r} is not a name", "use letters, digits, _ . and -, up to 200"
            )
        return str(name)

    def _version(self) -> str | None:
        version = self.document.get("version")
        if version is None:
            return None
        if not isinstance(version, str):
            self.report.add(
                ("version",), f"the version {version!r} is not a string", f'quote it: "{version}"'
            )
        elif not _VERSION.fullmatch(version):
            self.report.add(
                ("version",), f"{version[:60]!r} is not a version", "use letters, digits, _ . + and -"
            )
        return str(version)

    def _description(self) -> str | None:
        description = self.document.get("description")
        if description is not None and not isinstance(description, str):
            self.report.add(("description",), "the description is not a string", "quote it")
        return None if description is None else str(description)

    def _defaults(self) -> Defaults:
        found = self.document.get("defaults")
        if found is None:
            return Defaults()
        if not isinstance(found, dict):
            self.report.add(("defaults",), "`defaults` is a mapping", "known: retry, timeout, env")
            return Defaults()
        for key in found:
            if key not in ("retry", "timeout", "env"):
                self.report.add(
                    ("defaults", key), f"unknown key {key!r}", nearest(key, ("retry", "timeout", "env"))
                )
        retry = found.get("retry")
        read_retry(retry, ("defaults", "retry"), self.report)
        return Defaults(
            retry=retry if isinstance(retry, dict) else {},
            timeout=read_timeout(found.get("timeout"), ("defaults", "timeout"), self.report),
            env=read_env(found.get("env"), ("defaults", "env"), self.report),
        )

    def _steps(
        self, defaults: Defaults
    ) -> tuple[list[tuple[DocumentPath, StepDefinition]], list[dict[str, Any]]]:
        found = self.document.get("steps")
        if not isinstance(found, list) or not found:
            hint = "write steps: [{id: hello, shell: [echo, hello]}]"
            if isinstance(found, dict):
                hint = "put a dash before each step and its name into `id`"
            place: DocumentPath = ("steps",) if "steps" in self.document else ()
            self.report.add(place, "`steps` is a list of at least one step", hint)
            return [], []
        if len(found) > STEPS_MAX:
            self.report.add(("steps",), f"{len(found)} steps; the limit is {STEPS_MAX}", "use for_each")
            return [], []
        steps: list[tuple[DocumentPath, StepDefinition]] = []
        normalised = []
        for index, raw in enumerate(found):
            reader = StepReader(("steps", index), raw, defaults, self.report)
            if step := reader.read():
                steps.append((("steps", index), step))
                normalised.append(reader.normalised())
        return steps, normalised

    def _graph(self, steps: list[tuple[DocumentPath, StepDefinition]]) -> Graph:
        places: dict[str, DocumentPath] = {}
        for path, step in steps:
            if step.id in places:
                first = self.report.marks.get(places[step.id])
                seen = f"the first is on line {first.line}" if first else "rename one of them"
                self.report.add((*path, "id"), f"the id {step.id!r} is there twice", seen)
            places.setdefault(step.id, path)
        for path, step in steps:
            for need in step.needs:
                if need not in places:
                    self.report.add((*path, "needs"), f"there is no step {need!r}", nearest(need, places))
        graph = Graph({step.id: step.needs for _, step in steps})
        if cycle := graph.cycle():
            self.report.add(
                (*places[cycle[0]], "needs"),
                f"steps need each other: {' -> '.join(cycle)}",
                "remove one of the needs",
            )
        return graph

    def _references(
        self,
        steps: list[tuple[DocumentPath, StepDefinition]],
        graph: Graph,
        env: Mapping[str, Any],
        outputs: Any,
    ) -> None:
        base = Names.of(self.document.get("inputs"))
        for path, template in templates(env, ("env",)):
            check_references(template.references, path, base, self.report)
        named = base.with_env(env)
        defaults = self.document.get("defaults")
        if isinstance(defaults, dict) and isinstance(defaults.get("env"), dict):
            scratch = Report(self.report.source)  # its mistakes were reported when the defaults were read
            for path, template in templates(compile_value(defaults["env"], (), scratch), ("defaults", "env")):
                check_references(template.references, path, named, self.report)
        known = frozenset(step.id for _, step in steps)
        for path, step in steps:
            own = self._own(path).get("env")
            _check_step(
                step,
                path,
                own if isinstance(own, dict) else {},
                named.with_steps(known, step.id, graph),
                self.report,
            )
        for path, template in templates(outputs, ("outputs",)):
            check_references(template.references, path, named.with_steps(known, None, graph), self.report)

    def _own(self, path: DocumentPath) -> dict[str, Any]:
        """The raw step at `path`, which is one that was read."""
        found: dict[str, Any] = self.document["steps"][path[1]]
        return found

    def _normalised(self, steps: list[dict[str, Any]]) -> dict[str, Any]:
        kept = {key: value for key, value in self.document.items() if value is not None and value != {}}
        return {**kept, "steps": steps}


def _check_step(
    step: StepDefinition, path: DocumentPath, own_env: Mapping[str, Any], names: Names, report: Report
) -> None:
    if not isinstance(step.when, bool):
        check_references(step.when.references, (*path, "when"), names, report)
    for place, template in templates(step.for_each, (*path, "for_each")):
        check_references(template.references, place, names, report)
    inner = names.with_item() if step.for_each is not None else names
    env = {key: value for key, value in step.env.items() if key in own_env}  # the rest is of the defaults
    for key, value in ((step.kind.name, step.spec), ("with", step.arguments), ("env", env)):
        for place, template in templates(value, (*path, key)):
            check_references(template.references, place, inner, report)

"""Mistakes in a definition, collected so that all of them are reported together.

A reader walks a document and notes every mistake with the path of the value it concerns; the marks that
the YAML source left turn that path into file, line and column. Documents that come out of the store have
no marks: there the path itself is the place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from holdfast.errors import InvalidDefinition

DocumentPath = tuple[str | int, ...]
"""Keys and indexes from the top of a document to a value in it."""

PROBLEMS_MAX = 100
"""Mistakes reported at most; a file with more is wrong in a way that the first hundred show."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake; `line` and `column` are None when the document did not come from a file."""

    file: str
    line: int | None
    column: int | None
    message: str
    hint: str | None

    @property
    def place(self) -> str:
        """The place as editors and terminals understand it: `file:line:column`."""
        return self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"


@dataclass(slots=True)
class Report:
    """The mistakes found so far in one document named `source`."""

    source: str
    marks: Mapping[DocumentPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: DocumentPath, message: str, hint: str | None = None) -> None:
        """Note a mistake at `path`; values without a mark of their own count as their nearest parent."""
        mark = self._mark(path)
        if mark is None and path:
            message = f"{path_text(path)}: {message}"
        self.add_mark(mark, message, hint)

    def add_mark(self, mark: Mark | None, message: str, hint: str | None = None) -> None:
        """Note a mistake at a place of the file itself."""
        if len(self.problems) < PROBLEMS_MAX:
            line, column = (mark.line, mark.column) if mark else (None, None)
            self.problems.append(
                Problem(file=self.source, line=line, column=column, message=message, hint=hint)
            )

    def raise_if_any(self) -> None:
        """Raise `InvalidDefinition` with every mistake noted, in the order of the file."""
        if not self.problems:
            return
        found = sorted(self.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        details = [asdict(problem) for problem in found]
        if len(found) == 1:
            only = found[0]
            raise InvalidDefinition(only.message, where=only.place, fix=only.hint, problems=details)
        lines = [
            f"  {each.place}  {each.message}" + (f"  ({each.hint})" if each.hint else "") for each in found
        ]
        raise InvalidDefinition(
            f"{len(found)} mistakes in {self.source}:\n" + "\n".join(lines),
            where=found[0].place,
            problems=details,
        )

    def _mark(self, path: DocumentPath) -> Mark | None:
        for length in range(len(path), -1, -1):
            if mark := self.marks.get(path[:length]):
                return mark
        return None


def path_text(path: DocumentPath) -> str:
    """A path as people write it: `steps[2].retry.backoff`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint with the known name that looks most like `name`, else with all of them if they are few."""
    names = sorted(set(known))
    if close := difflib.get_close_matches(name[:100], names, n=1, cutoff=0.6):
        return f"did you mean {close[0]}?"
    if 0 < len(names) <= 20:
        return f"known: {', '.join(names)}"
    return None

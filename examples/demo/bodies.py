"""What the steps of library.yaml and report.yaml do. Each body first says in the ledger that it has begun."""

from __future__ import annotations

import ast
import lzma
import os
from pathlib import Path
from typing import Any


def _begin(ledger: str, step: str) -> None:
    # One short write to a file opened for appending: lines of several processes never mix.
    with open(ledger, "a", encoding="utf-8") as file:
        file.write(f"{step} {os.getpid()}\n")


def _sources(library: str, package: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(library, package).rglob("*.py"))]


def packages(library: str, count: int, ledger: str, step: str) -> list[str]:
    """The names of the largest packages of the library, by name."""
    _begin(ledger, step)
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*.py"))
        for folder in Path(library).iterdir()
        if (folder / "__init__.py").is_file() and folder.name not in ("test", "tests")
    }
    return sorted(sorted(sizes, key=lambda name: (-sizes[name], name))[:count])


def shape(library: str, package: str, ledger: str, step: str) -> dict[str, int]:
    """Files, lines, functions and classes of a package."""
    _begin(ledger, step)
    found = {"files": 0, "lines": 0, "functions": 0, "classes": 0}
    for source in _sources(library, package):
        found["files"] += 1
        found["lines"] += source.count(b"\n")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # the library has files that are wrong on purpose
            continue
        for node in ast.walk(tree):
            found["functions"] += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            found["classes"] += isinstance(node, ast.ClassDef)
    return found


def pack(library: str, package: str, ledger: str, step: str) -> dict[str, int]:
    """Bytes of a package's sources, plain and compressed as hard as LZMA can."""
    _begin(ledger, step)
    plain = b"".join(_sources(library, package))
    return {"plain": len(plain), "packed": len(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME))}


def total(
    packages: list[str], shapes: list[dict[str, int]], packed: list[dict[str, int]], ledger: str, step: str
) -> dict[str, int]:
    """Everything added up."""
    _begin(ledger, step)
    rows: list[dict[str, int]] = [*shapes, *packed]
    keys = dict.fromkeys(key for row in rows for key in row)
    return {"packages": len(packages), **{key: sum(row.get(key, 0) for row in rows) for key in keys}}


def write(
    packages: list[str],
    fingerprints: list[str],
    total: dict[str, Any],
    folder: str,
    ledger: str,
    step: str,
) -> str:
    """Write the report, and return its path."""
    _begin(ledger, step)
    lines = [f"{name:<20} {fingerprint}" for name, fingerprint in zip(packages, fingerprints, strict=True)]
    lines += [f"{key:<20} {value:>12,}" for key, value in total.items()]
    path = Path(folder, "report.txt")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)

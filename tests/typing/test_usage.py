"""The public interface under `mypy --strict`: right uses pass, each seeded mistake is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

USAGE = Path(__file__).with_name("usage.py")
ROOT = Path(__file__).parents[2]


def found_by_mypy(path: Path, cache: Path) -> dict[int, set[str]]:
    """Error codes by line."""
    config = str(ROOT / "pyproject.toml")
    out, errors, _ = api.run(
        ["--config-file", config, "--strict", "--cache-dir", str(cache), "--no-error-summary", str(path)]
    )
    assert not errors, errors
    found: dict[int, set[str]] = {}
    for line in out.splitlines():
        match = re.match(rf".*{re.escape(path.name)}:(\d+): error: .*\[([a-z-]+)\]$", line)
        if match:
            found.setdefault(int(match[1]), set()).add(match[2])
        else:
            assert ": note: " in line, line
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, set[str]]:
    return found_by_mypy(USAGE, tmp_path_factory.mktemp("mypy"))


def test_mistakes_are_found_and_nothing_else(
    found: dict[int, set[str]],
) -> None:
    expected = {
        number: match[1]
        for number, line in enumerate(USAGE.read_text("utf-8").splitlines(), 1)
        if (match := re.search(r"# error: ([a-z-]+)$", line))
    }
    assert set(found) == set(expected), {line: found.get(line) for line in set(found) ^ set(expected)}
    wrong = {line: codes for line, codes in found.items() if expected[line] not in codes}
    assert not wrong

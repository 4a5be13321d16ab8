"""Everything the documentation shows is done as it is written, and has to come out as it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, PLACEHOLDERS, ROOT, Reader, anchors, blocks, commands, fits, links

WITH_EXAMPLES = [
    page
    for page in PAGES
    if any(block.language in ("console", "python") or block.file for block in blocks(page))
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py")) + sorted((ROOT / "examples").glob("*.yaml"))
HELLO = ROOT / "examples" / "hello.py"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    reader = Reader(tmp_path)
    text = page.read_text(encoding="utf-8")
    for placeholder, fixture in PLACEHOLDERS.items():
        if placeholder in text:
            reader.databases[placeholder] = str(request.getfixturevalue(fixture))
    for block in blocks(page):
        reader.follow(block)


def test_hello_is_the_program_of_the_readme() -> None:
    told = next(block.text for block in blocks(ROOT / "README.md") if block.file == "hello.py")
    assert ast.dump(ast.parse(told)) == ast.dump(ast.parse(HELLO.read_text(encoding="utf-8")))


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example != HELLO], ids=name)
def test_an_example_runs_by_the_commands_at_its_top(example: Path, tmp_path: Path) -> None:
    text = example.read_text(encoding="utf-8")
    told = [line.strip("# ").removeprefix("$ ") for line in text.splitlines()[:12] if "$ holdfast " in line]
    assert told, f"{example.name} does not say how to run it"
    reader = Reader(tmp_path)
    for other in EXAMPLES:
        (tmp_path / other.name).write_bytes(other.read_bytes())
    for command in told:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=reader.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"


def test_the_demonstration_repeats_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo" / "run.py", "--packages", "5"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert fits("…\n0 repeated …\n…\nNothing was lost, and nothing was done twice.", done.stdout), done.stdout


def test_the_demonstration_is_able_to_fail() -> None:
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    try:
        from run import Log, conclude
    finally:
        sys.path.pop(0)
    at_kill = Log(frozenset({"a", "b"}), frozenset(), completed=False)
    at_end = Log(frozenset({"a", "b", "c", "timer"}), frozenset({"timer"}), completed=True)
    assert conclude(at_kill, at_end, ["c"], 0) == 0
    assert conclude(at_kill, at_end, ["b", "c"], 0) == 1, "b was recorded and ran again"
    assert conclude(at_kill, at_end, [], 0) == 1, "c has a result and no body"
    assert conclude(at_kill, Log(frozenset({"a", "c"}), frozenset(), completed=True), ["c"], 0) == 1, (
        "b is lost"
    )
    assert conclude(at_kill, at_end, ["c"], 7) == 1


def test_the_fleet_loses_nothing_when_a_worker_is_killed(tmp_path: Path, postgres_url: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "fleet" / "run.py", "--url", postgres_url],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    told = "…\n30 orders completed, with 120 results of 120 steps\n…\n0 repeated …\n0 lost …\n…"
    assert fits(f"{told}\nNothing was lost, and nothing that was recorded was done again.", done.stdout), (
        done.stdout
    )


def test_the_fleet_is_able_to_fail() -> None:
    sys.path.insert(0, str(ROOT / "examples" / "fleet"))
    try:
        from report import STEPS, Body, Counted
    finally:
        sys.path.pop(0)
    first, *rest = ((1, step) for step in STEPS)

    def counted(bodies: list[tuple[tuple[int, str], int]], results: dict[tuple[int, str], list[int]]) -> str:
        return " ".join(Counted(1, results, [Body(*each) for each in bodies], killed=7).problems(1))

    all_by_8 = {step: [8] for step in (first, *rest)}
    began = [(first, 7), (first, 8), *((step, 8) for step in rest)]
    assert counted(began, all_by_8) == "", "worker 7 was killed in the first step"
    assert "repeated: order 1 reserve" in counted(began, {**all_by_8, first: [7]})
    assert "recorded twice: order 1 reserve" in counted(began, {**all_by_8, first: [7, 8]})
    assert "lost: order 1 reserve" in counted(began, {step: [8] for step in rest})
    assert "recorded without a body: order 1 reserve" in counted(began[2:], all_by_8)
    assert "begun by a live worker and not recorded" in counted([*began, (first, 9)], all_by_8)
    assert "1 orders did not complete" in " ".join(Counted(0, all_by_8, [], 7).problems(1))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} does not exist"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}: no such heading"


def test_the_comparison_tells_differences() -> None:
    assert fits("a … c", "a  b   c")
    assert fits("a\n…\nz", "a\nb\nc\nz\n")
    assert fits("a\n…\nz", "a\nz\n")
    assert fits("took 3 ms", "took 1.5 s")
    assert not fits("3 steps", "4 steps")
    assert not fits("a … c", "a b d")
    assert not fits("a\n…\nz", "a\nb\n")
    assert not fits("a", "a\nb")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_console_blocks_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "console":
            assert commands(block), f"line {block.line}: no command"

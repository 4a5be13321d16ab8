"""Reads the documentation: its pages, their fenced blocks, their links, and the commands in them.

Conventions of the pages:

* A ```python, ```yaml, ```json or ```sql block whose first line is a comment with a file name (`# hello.py`)
  is that file. Any other ```python block is a script of its own and has to end well. Other blocks are for
  reading.
* A ```console block holds commands behind `$ ` and what they print. In the output `…` stands for anything,
  and a line with only `…` for any number of lines. A command with nothing below it may print what it likes.
  Ids of executions and lengths of time in seconds may differ; everything else has to be as it is written.
  `# exits 7` behind a command names its exit code, which is 0 otherwise.
* All blocks of a page run in one empty folder, in order; `export NAME=VALUE` lasts to the end of the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)
PLACEHOLDERS = {
    "postgresql://holdfast:secret@db.example.com/holdfast": "fresh_postgres",
    "mysql://holdfast:secret@db.example.com/holdfast": "fresh_mysql",
}
"""What pages write for a server, and the fixture whose real database the tests put in its place."""

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:#|//|--) ([\w./-]+\.(?:py|yaml|yml|json|sql))\s*")
_EXITS = re.compile(r"#.*\bexits (\d+)\b")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^()\s]+)\)|!\[[^\]\n]*\]\(([^()\s]+)\)")
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_LENGTH = re.compile(r"\b\d+(?:\.\d+)? (?:ms|s|min)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that the block is, when its first line says so."""
        named = _FILE.fullmatch(self.text.partition("\n")[0])
        return named[1] if named and self.language in ("python", "yaml", "json", "sql") else None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, with what it is said to print."""

    text: str
    output: str
    exit_code: int
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match[2],
            re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE),
            text.count("\n", 0, match.start()) + 1,
        )
        for match in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a console block. A command that ends in a backslash goes on in the next line."""
    found: list[Command] = []
    lines = block.text.splitlines()
    position = 0
    while position < len(lines):
        start = position
        if not lines[position].startswith("$ "):
            raise AssertionError(f"line {block.line + position + 1}: a console block begins with `$ `")
        text = lines[position][2:]
        while text.endswith("\\"):
            position += 1
            text += "\n" + lines[position].removeprefix("> ")
        position += 1
        output: list[str] = []
        while position < len(lines) and not lines[position].startswith("$ "):
            output.append(lines[position])
            position += 1
        exits = _EXITS.search(text)
        found.append(
            Command(
                text, "\n".join(output).strip("\n"), int(exits[1]) if exits else 0, block.line + start + 1
            )
        )
    return found


def fits(expected: str, printed: str) -> bool:
    """Whether the output of a command is what the page says, but for spaces and what may differ."""
    expected, printed = (_LENGTH.sub("(length)", _ID.sub("(id)", text)) for text in (expected, printed))
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
            continue
        pieces = [re.escape(re.sub(r"\s+", " ", piece).strip()) for piece in line.strip().split("…")]
        pattern += " ?.*? ?".join(pieces).replace("\\ ", " ") + r"\n"
    squeezed = "".join(
        re.sub(r"[ \t]+", " ", line).strip() + "\n" for line in printed.strip("\n").splitlines()
    )
    return re.fullmatch(pattern, squeezed) is not None


def links(page: Path) -> Iterator[str]:
    """The targets of all links and pictures outside fenced blocks."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", text)):
        yield match[1] or match[2]


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page make."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        kept = re.sub(
            r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        )
        found.add(kept.strip().replace(" ", "-"))
    return found


@dataclass(slots=True)
class Reader:
    """Someone who follows a page in a folder of their own."""

    folder: Path
    databases: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "DATABASE_", "PG"))
        }
        self.environ |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "TZ": "UTC",
            "HOLDFAST_LOGGING__FORMAT": "text",  # as on a terminal
        }

    def follow(self, block: Block) -> None:
        """Do what a block says; an `AssertionError` tells where the page and the program differ."""
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._filled_in(block.text), encoding="utf-8")
        elif block.language == "python":
            done = self._run([sys.executable, "-c", self._filled_in(block.text)])
            assert done.returncode == 0, f"line {block.line}: the script failed\n{done.stdout}"
        elif block.language == "console":
            for command in commands(block):
                self._execute(command)

    def _execute(self, command: Command) -> None:
        text = self._filled_in(command.text)
        if text.startswith("export "):
            name, _, value = text.removeprefix("export ").partition("=")
            self.environ[name] = value.strip("'\"")
            return
        done = self._run(["bash", "-c", f"{text}\nexit $?"])  # so that bash waits, and tells of a kill
        # bash tells of a killed command in a line of its own, with a number that changes.
        printed = re.sub(
            r"^bash: line \d+: +\d+ (Killed|Terminated).*\n", r"\1\n", done.stdout, flags=re.MULTILINE
        )
        place = f"line {command.line}: $ {command.text}"
        assert done.returncode == command.exit_code, f"{place}\nended with {done.returncode}:\n{printed}"
        if command.output:
            assert fits(command.output, printed), (
                f"{place}\nthe page says:\n{command.output}\n\nthe program printed:\n{printed}"
            )

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )

    def _filled_in(self, text: str) -> str:
        for placeholder, url in self.databases.items():
            text = text.replace(placeholder, url)
        return text

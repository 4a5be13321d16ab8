"""Takes the pictures of the documentation: real commands in a real terminal, drawn as SVG.

`python -m scripts.pictures` takes all of them again, `python -m scripts.pictures NAME …` some. What a command
writes goes through a terminal emulator, so that a picture shows what a person saw at the end, with colours.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
_COLUMNS, _ROWS = 100, 60
_UNNAMED = {"default": None, "brown": "yellow"}  # names of colours that Rich does not have

BOOK = """\
name: publish-book
steps:
  - {id: fetch, shell: "sleep 0.4; echo 12 chapters"}
  - id: translate
    needs: [fetch]
    for_each: [3, 8, 5, 6]
    shell: [sleep, "0.${{ item }}"]
  - id: proofread
    needs: [translate]
    retry: {max_attempts: 3, backoff: 300ms}
    shell: 'test "$HOLDFAST_ATTEMPT" -ge 2 && echo clean'
  - {id: print, needs: [proofread], shell: "sleep 0.3; echo printed"}
"""
WRONG = """\
name: publish-book
steps:
  - {id: fetch, shell: "echo 12 chapters"}
  - {id: print, needs: [fetsh], shell: "echo printed"}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture: what it shows, the files that lie there, what is done before it, and what is typed."""

    label: str
    files: dict[str, str]
    typed: Sequence[str]
    before: Sequence[str] = field(default=())
    midway: str | None = None  # the last moment at which this could be read is shown too


SCENES = {
    "run-shows-a-tree": Scene(
        "A workflow while it runs: every step with its state and time",
        {"book.yaml": BOOK},
        ["holdfast run book.yaml --id book-1"],
        before=["holdfast storage init -q"],
    ),
    "an-execution-in-time": Scene(
        "An execution drawn over time: what ran when, beside what, and how often",
        {"book.yaml": BOOK},
        ["holdfast executions show @last"],
        before=["holdfast run book.yaml --id book-1"],
    ),
    "migrations-are-applied": Scene(
        "Migrations that are applied one by one",
        {},
        ["holdfast storage migrate up"],
        midway="applying",
    ),
    "an-error-says-what-to-do": Scene(
        "A definition with a mistake: the code, the cause, the place and the fix",
        {"book.yaml": WRONG},
        ["holdfast run book.yaml"],
    ),
}


def take(scene: Scene) -> str:
    """Run what a scene says in a folder of its own, and draw what the terminal shows."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in scene.files.items():
            Path(folder, name).write_text(text)
        for command in scene.before:
            _in_terminal(command, folder)
        seen = [(command, _in_terminal(command, folder, scene.midway)) for command in scene.typed]
        return _draw(scene.label, seen)


def _in_terminal(command: str, folder: str, midway: str | None = None) -> list[Text]:
    """The lines that stand there at the end, behind those of the moment that is asked for."""
    screen = pyte.Screen(_COLUMNS, _ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": folder,
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
    }
    child = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    moment: list[Text] = []
    while written := _read(ours):
        for part in written.splitlines(keepends=True):
            stream.feed(part)
            if midway is not None and any(midway in line for line in screen.display):
                moment = _lines(screen)
    os.close(ours)
    child.wait()
    return [*moment, *_lines(screen)]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


def _draw(label: str, seen: Sequence[tuple[str, Sequence[Text]]]) -> str:
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=_COLUMNS, file=nowhere, force_terminal=True)
        for command, lines in seen:
            console.print(Text.assemble(("$ ", "green"), (command, "bold")), soft_wrap=True)
            for line in lines:
                console.print(line, soft_wrap=True)
    drawn = console.export_svg(title="", unique_id="terminal-" + label.split(maxsplit=1)[0].lower())
    # Fonts come with whoever looks, not from a server elsewhere.
    start, end = drawn.find("@font-face"), drawn.rfind("@font-face")
    if start >= 0:
        drawn = drawn[:start] + drawn[drawn.index("}", end) + 1 :]
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).replace(
        "Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"
    )


def _lines(screen: pyte.Screen) -> list[Text]:
    shown = [_line(screen, number) for number in range(screen.lines)]
    while shown and not shown[-1].plain.strip():
        shown.pop()
    return shown


def _line(screen: pyte.Screen, number: int) -> Text:
    text = Text()
    for column in range(screen.columns):
        cell = screen.buffer[number][column]
        text.append(cell.data, Style(color=_color(cell.fg), bold=cell.bold, italic=cell.italics))
    text.rstrip()
    return text


def _color(name: str) -> str | None:
    if name in _UNNAMED:
        return _UNNAMED[name]
    if len(name) == 6 and all(each in "0123456789abcdef" for each in name):
        return f"#{name}"
    return name.replace("bright", "bright_")


def main(names: Sequence[str]) -> int:
    """Take the named pictures, or all; 2 when there is no such picture."""
    if unknown := [name for name in names if name not in SCENES]:
        print(f"there is no picture {unknown[0]!r}; there are: {', '.join(SCENES)}", file=sys.stderr)
        return 2
    for name in names or SCENES:
        (FOLDER / f"{name}.svg").write_text(take(SCENES[name]))
        print(f"docs/pictures/{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
